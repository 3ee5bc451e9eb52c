"""The registry, the exports, the table of rows and the documentation name the same things."""

import ast
import inspect
import pathlib

import pytest
from rows import ROWS

import jaxopt_suite as jos
from jaxopt_suite import transforms
from jaxopt_suite._arguments import COMMON_DEFAULTS, VOCABULARY, Common
from jaxopt_suite._config import REGISTRY

PACKAGE = pathlib.Path(jos.__file__).parent
README = (PACKAGE.parent / "README.md").read_text()

MADE = [make for make in REGISTRY.values() if make.__module__.startswith("jaxopt_suite.")]
PUBLIC = [make for make in MADE if getattr(jos, make.__name__, None) is make]
PRIMITIVES = [
    make for make in MADE if make.__module__.startswith(("jaxopt_suite.transforms", "jaxopt_suite.optimizers"))
]
COMPOSITION = {"chain", "by_path", "frozen", "from_optax"}


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_everything_registered_is_exported(make):
    homes = (jos, jos.transforms, jos.schedules)
    assert any(getattr(home, make.__name__, None) is make for home in homes), "add an export line"


@pytest.mark.parametrize("make", PUBLIC, ids=lambda make: make.__name__)
def test_every_optimizer_has_a_row_and_a_line_in_the_readme(make):
    if make.__name__ not in COMPOSITION:
        assert make in [row.make for row in ROWS], "add a row"
        assert f"`{make.__name__}`" in README, "run the test of the README with --write"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_is_registered_and_complete(row):
    assert REGISTRY[row.make.class_name.lower()] is row.make
    assert row.variants
    assert row.bad
    assert row.source


@pytest.mark.parametrize("make", PUBLIC, ids=lambda make: make.__name__)
def test_every_public_docstring_is_complete(make):
    doc = inspect.getdoc(make)
    assert ">>>" in doc
    assert "Raises:" in doc
    assert "Reference:" in doc or make.__name__ in COMPOSITION or "optimizer" in make.__signature__.parameters
    for name in make.__signature__.parameters:
        if name not in make.aliases and make.__name__ not in COMPOSITION:
            assert f"    {name}: " in doc, f"add {name!r} to the vocabulary"


@pytest.mark.parametrize("make", [m for m in MADE if m not in PUBLIC], ids=lambda make: make.__name__)
def test_every_primitive_and_schedule_has_an_example(make):
    assert ">>>" in inspect.getdoc(make)


def test_common_arguments_are_the_same_everywhere():
    assert {*Common.__annotations__} - {"lr"} == {*COMMON_DEFAULTS}
    assert {*COMMON_DEFAULTS} <= {*VOCABULARY}
    optimizers = [row for row in ROWS if "optimizer" not in inspect.signature(row.make).parameters]
    assert len(optimizers) >= 3
    for row in optimizers:
        parameters = inspect.signature(row.make).parameters
        assert {*COMMON_DEFAULTS} <= {*parameters}, row.name
        assert not any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def test_the_house_is_small():
    for file in PACKAGE.rglob("*.py"):
        lines = file.read_text().count("\n")
        assert lines <= (120 if file.parent.name == "optimizers" else 300), f"{file.name} has {lines} lines"
    assert not [f for f in PACKAGE.rglob("*") if f.stem in ("utils", "base", "_src")]


def test_no_optimizer_knows_about_trees():
    for file in (PACKAGE / "optimizers").glob("*.py"):
        names = {n.attr for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Attribute)}
        assert not names & {"tree", "tree_util"}, file.name


def test_transforms_exports_every_primitive():
    assert {make.__name__ for make in PRIMITIVES} - {m.__name__ for m in PUBLIC} <= {*vars(transforms)}
