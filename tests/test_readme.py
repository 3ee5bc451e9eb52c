"""The README and the guides in docs are true: their code runs, and the table of optimizers is what the rows say.

After a change to the rows, `python tests/test_readme.py --write` brings the table up to date.
"""

import doctest
import pathlib
import re
import sys

import jax
import pytest
from rows import ROWS

FOLDER = pathlib.Path(__file__).parent.parent
README = FOLDER / "README.md"
PAGES = [README, *sorted((FOLDER / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TABLE = re.compile(r"(?<=^<!-- optimizers -->\n).*?(?=^<!-- end of optimizers -->$)", re.MULTILINE | re.DOTALL)
LIBRARIES = {
    "keras3": "Keras 3",
    "tf_keras": "tf.keras",
    "legacy": "tf.keras legacy",
    "tf_addons": "TF Addons",
    "torch": "PyTorch",
}


def table():
    """One line per row: its name, its name in configs, its source, its largest tolerance for each library."""
    heads = ["optimizer", "in configs", "from", *LIBRARIES.values()]
    lines = [heads, ["---"] * len(heads)]
    for row in ROWS:
        agreed = [agreement(row, library) for library in LIBRARIES]
        lines.append([f"`{row.name}`", f"`{row.make.class_name}`", row.source, *agreed])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def agreement(row, library):
    tolerances = [v.tolerance for v in row.variants if v.reference and v.reference.startswith(f"{library}/")]
    return f"{max(tolerances):.0e}".replace("e-0", "e-") if tolerances else ""


def test_table():
    assert TABLE.search(README.read_text())[0] == table(), "python tests/test_readme.py --write brings it up to date"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code(page, tmp_path, monkeypatch):
    """All blocks one after the other, in one namespace, as a user's session runs them."""
    monkeypatch.chdir(tmp_path)
    with jax.numpy_dtype_promotion("standard"):
        _run(page)


def _run(page):
    namespace, number = {}, 0
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for number, block in enumerate(BLOCK.findall(page.read_text())):
        if block.startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(block, namespace, f"block {number}", page.name, 0)
            assert runner.run(test, clear_globs=False).failed == 0
            namespace.update(test.globs)
        else:
            exec(compile(block, f"{page.name}, block {number}", "exec"), namespace)
    assert number > 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page):
    for target, named in re.findall(r"\]\(([^)]+)\)|`((?:examples|docs)/[\w./]+)`", page.read_text()):
        assert (FOLDER / named if named else page.parent / target).exists(), target or named


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    README.write_text(TABLE.sub(lambda match: table(), README.read_text()))
