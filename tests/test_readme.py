"""The README and the guides in docs are true: their code runs, and the list of optimizers is that of the rows.

After a change to the rows, `python tests/test_readme.py --write` brings the list up to date.
"""

import doctest
import pathlib
import re
import sys

import jax
import pytest
from agreement import names

from jaxopt_suite._recipe import config

FOLDER = pathlib.Path(__file__).parent.parent
README = FOLDER / "README.md"
PAGES = [README, *sorted((FOLDER / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMES = re.compile(r"(?<=^<!-- optimizers -->\n).*?(?=^<!-- end of optimizers -->$)", re.MULTILINE | re.DOTALL)


def test_names():
    assert NAMES.search(README.read_text())[0] == names(), "python tests/test_readme.py --write brings it up to date"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code(page, tmp_path, monkeypatch):
    """All blocks one after the other, in one namespace, as a user's session runs them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "REGISTRY", dict(config.REGISTRY))  # what a page declares is forgotten
    with jax.numpy_dtype_promotion("standard"):
        _run(page)


def _run(page):
    namespace = {"__name__": page.stem}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    blocks = BLOCK.findall(page.read_text())
    assert len(blocks) == page.read_text().count("```python")
    for number, block in enumerate(blocks):
        if block.startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(block, namespace, f"block {number}", page.name, 0)
            assert runner.run(test, clear_globs=False).failed == 0
            namespace.update(test.globs)
        else:
            exec(compile(block, f"{page.name}, block {number}", "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page):
    for target, named in re.findall(r"\]\(([^)]+)\)|`((?:examples|docs)/[\w./]+)`", page.read_text()):
        assert (FOLDER / named if named else page.parent / target).exists(), target or named


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    README.write_text(NAMES.sub(lambda match: names(), README.read_text()))
