"""The examples and the benchmarks of the repository as pages: listed as they are found."""

import ast
import json
import pathlib
import shutil
from collections.abc import Iterator

from _extension.links import relinked

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES, BENCHMARKS = ROOT / "examples", ROOT / "benchmarks"


def examples() -> Iterator[tuple[str, str]]:
    """A page for each example, in the order of their names, and the list of all."""
    made = {path.stem: _example(path) for path in sorted(_sources(), key=lambda path: path.stem)}
    lines = "\n".join(f"* [{title}]({name}.md){_more(name)}" for name, (title, _) in made.items())
    names = "\n".join(made)
    yield "index", f"# Gallery\n\nShort programs, all run by the tests.\n\n{lines}\n\n{_toctree(names)}"
    for name, (_, page) in made.items():
        yield name, page


def _more(name: str) -> str:
    """What the first line of a script says behind its title."""
    path = EXAMPLES / f"{name}.py"
    doc = ast.get_docstring(ast.parse(path.read_text())) if path.exists() else None
    more = (doc or "").partition("\n")[0].partition(": ")[2]
    return f": {more}" if more else ""


def _sources() -> list[pathlib.Path]:
    """A notebook stands for the script that it is made from."""
    notebooks = [*EXAMPLES.glob("*.ipynb")]
    stems = {path.stem for path in notebooks}
    scripts = [path for path in EXAMPLES.glob("*.py") if path.stem not in stems]
    return [*notebooks, *scripts, *EXAMPLES.glob("*.md")]


def _example(path: pathlib.Path) -> tuple[str, str]:
    """The title of an example and its page."""
    if path.suffix == ".md":
        page = relinked(path.read_text(), path)
    elif path.suffix == ".ipynb":
        page = _notebook(path)
    else:
        page = _script(path)
    return page.partition("\n")[0].removeprefix("# "), page


def _script(path: pathlib.Path) -> str:
    tree = ast.parse(path.read_text())
    doc = ast.get_docstring(tree) or path.stem
    first, _, rest = doc.partition("\n")
    title, _, more = first.partition(": ")
    behind = tree.body[0].end_lineno if ast.get_docstring(tree) else 0
    code = "".join(path.read_text().splitlines(keepends=True)[behind:]).lstrip()
    more = f"{more[0].upper()}{more[1:]}\n" if more else ""
    head = f"# {title.removesuffix('.')}\n\n{more}{_indented_as_code(rest)}"
    return f"{head}\n\n`examples/{path.name}`\n\n```python\n{code}```\n"


def _indented_as_code(text: str) -> str:
    """The lines that call the script stand indented, or alone."""
    lines = [f"    {line}" if line.startswith("python ") else line for line in text.splitlines()]
    return "\n".join(lines)


def _notebook(path: pathlib.Path) -> str:
    """The cells of a notebook and what they printed; its pictures go beside the page."""
    written = []
    for number, cell in enumerate(json.loads(path.read_text())["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            written.append(source)
        elif source:
            outputs = [_output(output, path.stem, number) for output in cell["outputs"]]
            written += [f"```python\n{source}\n```", *filter(None, outputs)]
    return relinked("\n\n".join(written) + "\n", path)


def _output(output: dict, stem: str, number: int) -> str:
    data = output.get("data", {"text/plain": output.get("text", "")})
    if html := "".join(data.get("text/html", "")):
        return f'```{{raw}} html\n<div class="notebook-output">{html}</div>\n```'
    if "image/png" in data:
        return f'```{{raw}} html\n<img alt="" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">\n```'
    text = "".join(data.get("text/plain", "")).rstrip()
    return f"```text\n{text}\n```" if text else ""


def benchmarks(folder: pathlib.Path) -> Iterator[tuple[str, str]]:
    """The tables that the benchmarks wrote, and their pictures."""
    for picture in BENCHMARKS.glob("*.png"):
        shutil.copy(picture, folder)
    pages = {path.stem: relinked(path.read_text(), path) for path in sorted(BENCHMARKS.glob("*.md"))}
    titles = {name: page.partition("\n")[0].removeprefix("# ") for name, page in pages.items()}
    lines = "\n".join(f"* [{title}]({name}.md)" for name, title in titles.items())
    names = "\n".join(pages)
    yield "index", f"# Benchmarks\n\nWritten by the programs in `benchmarks/`.\n\n{lines}\n\n{_toctree(names)}"
    yield from pages.items()


def _toctree(names: str) -> str:
    return f"```{{toctree}}\n:hidden:\n\n{names}\n```\n"
