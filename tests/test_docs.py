"""The guides are true: their code runs, all blocks of one after the other, and their links lead somewhere."""

import doctest
import re

import jax
import pytest
from test_readme import BLOCK, FOLDER

GUIDES = sorted((FOLDER / "docs").glob("*.md"))


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_code(guide, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace, runner = {}, doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    blocks = BLOCK.findall(guide.read_text())
    assert blocks
    with jax.numpy_dtype_promotion("standard"):
        for number, block in enumerate(blocks):
            if block.startswith(">>>"):
                test = doctest.DocTestParser().get_doctest(block, namespace, f"block {number}", guide.name, 0)
                assert runner.run(test, clear_globs=False).failed == 0
            else:
                exec(compile(block, f"{guide.name}, block {number}", "exec"), namespace)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_links(guide):
    for target in re.findall(r"\]\(([^)]+)\)|`((?:examples|docs)/[\w./]+)`", guide.read_text()):
        assert (FOLDER / (target[1] or f"docs/{target[0]}")).exists(), target
