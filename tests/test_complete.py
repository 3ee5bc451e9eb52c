"""The registry, the exports, the table of rows and the documentation name the same things.

After a primitive is added, `python tests/test_complete.py --write` exports it from jos.transforms.
"""

import ast
import importlib.metadata
import inspect
import pathlib
import pickle
import pydoc
import re
import sys

import jax
import numpy as np
import pytest
from rows import ROWS

import jaxopt_suite as jos
from jaxopt_suite._optimizer import COMMON, Common
from jaxopt_suite._recipe.config import REGISTRY

PACKAGE = pathlib.Path(jos.__file__).parent
TRANSFORMS = PACKAGE / "transforms.py"
README = (PACKAGE.parent / "README.md").read_text()

MADE = [make for make in REGISTRY.values() if make.__module__.partition(".")[0] == "jaxopt_suite"]
PUBLIC = [make for make in MADE if getattr(jos, make.__name__, None) is make]
COMPOSITION = {"chain", "by_path", "frozen", "from_optax"}


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_everything_registered_is_exported(make):
    homes = (jos, jos.transforms, jos.schedules, jos.precision)
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
            assert f"    {name}: " in doc, f"add a sentence for {name!r}"


@pytest.mark.parametrize("make", [m for m in MADE if m not in PUBLIC], ids=lambda make: make.__name__)
def test_every_primitive_and_schedule_has_an_example(make):
    assert ">>>" in inspect.getdoc(make)


def test_common_arguments_are_the_same_everywhere():
    assert {*Common.__annotations__} - {"lr"} == {*COMMON}
    optimizers = [row for row in ROWS if "optimizer" not in inspect.signature(row.make).parameters]
    assert len(optimizers) >= 3
    for row in optimizers:
        parameters = inspect.signature(row.make).parameters
        assert {*COMMON} <= {*parameters}, row.name
        assert not any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def test_the_house_is_small():
    for file in PACKAGE.rglob("*.py"):
        lines = file.read_text().count("\n")
        assert lines <= (120 if file.parent.name == "_algorithms" else 300), f"{file.name} has {lines} lines"
    assert not [f for f in PACKAGE.rglob("*") if f.stem in ("utils", "base", "_src")]
    assert len([*PACKAGE.glob("*.py")]) <= 8


# from the ground to the top: each imports only what stands before it
HOUSE = [
    "_slices",
    "_trees",
    "_table",
    "_recipe",
    "state",
    "_frame",
    "_report",
    "_transformation",
    "_declare",
    "_stages",
    "_optimizer",
    "_algorithms",
]
HOUSE += [
    "sparse",
    "parallel",
    "schedules",
    "_compositions",
    "transforms",
    "precision",
    "groups",
    "importers",
    "__init__",
]


def test_arrows_go_one_way():
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).with_suffix("").parts[0]
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxopt_suite"):
                inside = node.module.split(".")[1:2] or [alias.name for alias in node.names]
                for other in inside:
                    assert HOUSE.index(other) <= HOUSE.index(room), f"{file}: {room} imports {other}"


def test_no_optimizer_knows_about_trees():
    for file in (PACKAGE / "_algorithms").glob("*.py"):
        names = {n.attr for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Attribute)}
        assert not names & {"tree", "tree_util"}, file.name


@pytest.mark.parametrize(
    "module",
    [jos, jos.parallel, jos.schedules, jos.state, jos.importers, jos.transforms, jos.precision, jos.groups],
    ids=lambda m: m.__name__,
)
def test_a_public_module_shows_what_is_public(module):
    for name, value in vars(module).items():
        if name.isidentifier() and not name.startswith("_"):
            home = value.__name__ if inspect.ismodule(value) else value.__module__
            assert home.partition(".")[0] == "jaxopt_suite", name
            assert not inspect.ismodule(value) or module is jos, name


def test_help_lists_what_a_module_has():
    for module in (jos.schedules, jos.transforms, jos.precision):
        text = pydoc.render_doc(module, renderer=pydoc.plaintext)
        for make in MADE:
            if getattr(module, make.__name__, None) is make:
                assert f"    {make.__name__}(" in text


def test_pickles_name_only_what_is_public():
    params = {"w": jax.numpy.ones((2, 2))}
    for row in ROWS:
        tx = row.build()
        for value in (tx, tx.init(params)):
            names = re.findall(rb"jaxopt_suite[\w.]*", pickle.dumps(value, protocol=2))
            assert {*names} <= {b"jaxopt_suite", b"jaxopt_suite.transforms", b"jaxopt_suite.state"}
        assert pickle.loads(pickle.dumps(tx)) == tx
        state = tx.init(params)
        jax.tree.map(np.testing.assert_array_equal, pickle.loads(pickle.dumps(state)), state)


def test_names_and_versions():
    assert jos.__version__ == importlib.metadata.version("jaxopt-suite")
    for row in ROWS:
        assert jos.get(row.name) == jos.get(row.make.class_name) if not needs_arguments(row.make) else True
    assert jos.get("radam") == jos.radam()
    assert jos.get("scale_by_lion") == jos.transforms.scale_by_lion()


def needs_arguments(make):
    return any(p.default is p.empty for p in make.__signature__.parameters.values())


def exports():
    """transforms.py as it must be: primitives, plain functions with an example, the classes of states."""
    lines = []
    for file in sorted([*(PACKAGE / "_algorithms").glob("*.py"), *(PACKAGE / "_stages").glob("*.py")]):
        home = f"jaxopt_suite.{file.parent.name}.{file.stem}"
        found = sorted(node.name for node in ast.parse(file.read_text()).body if is_exported(node))
        lines += [f"from {home} import {name} as {name}\n" for name in found]
    return '"""The primitives, each usable alone in `optax.chain`, and the classes of their states."""\n\n' + "".join(
        lines
    )


def is_exported(node):
    if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith("_"):
        return False
    decorators = [ast.unparse(decorator).partition("(")[0] for decorator in node.decorator_list]
    return bool({*decorators} & {"transform", "state_class"}) or (
        not decorators and ">>>" in (ast.get_docstring(node) or "")
    )


def test_transforms_exports_every_primitive():
    assert TRANSFORMS.read_text() == exports(), "python tests/test_complete.py --write brings it up to date"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    TRANSFORMS.write_text(exports())
