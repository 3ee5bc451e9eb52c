"""Links: the pages are read in the repository and on the site, where examples and benchmarks are pages too."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)")
FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1`*$", re.MULTILINE | re.DOTALL)


def relinked(text: str, source: pathlib.Path) -> str:
    """The text of a file of the repository, with its links as they are on the site. Code stays as it is."""

    def link(match: re.Match[str]) -> str:
        return on_site(match[1], source)

    made, at = [], 0
    for fence in FENCE.finditer(text):
        made += [LINK.sub(link, text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*made, LINK.sub(link, text[at:])])


def on_site(target: str, source: pathlib.Path) -> str:
    """Where the target of a link in a file of the repository is on the site.

    Raises:
      ValueError: if it is not on the site.
    """
    path = (source.parent / target).resolve().relative_to(ROOT)
    room, name = path.parts[0], path.parts[1:]
    if room == "docs":
        return "/" + "/".join(name)
    if room in ("examples", "benchmarks"):
        if not name:
            return f"/{room}/index.md"
        if name[-1] == "README.md" or path.suffix in (".md", ".png") or room == "examples":
            return "/" + str(path if path.suffix == ".png" else path.with_suffix(".md"))
    raise ValueError(f"{source.name}: {target} is not a page of the site")


def page_of(text: str) -> str | None:
    """The page of a file that is named in a text, such as `examples/fine_tune.py`."""
    match = re.fullmatch(r"(?:(examples|benchmarks)/|docs/)([\w/]+)\.(?:py|md|ipynb)", text)
    return "/".join(filter(None, match.groups())) if match else None
