"""One page for each optimizer: its formula, its arguments, how it agrees with its originals, its path."""

import ast
import inspect
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agreement import LIBRARIES, agreement, recorded
from recorded import library
from rows import ROWS, Row

import jaxopt_suite as jos
from _extension import surface
from _extension.docstrings import described, items, parts, signature, summary, table, to_markdown
from jaxopt_suite._optimizer import COMMON

COUNTERPARTS = pathlib.Path(__file__).parents[2] / "tests" / "counterparts.py"


def pages() -> Iterator[tuple[str, str]]:
    """The name and the text of each page, with that of the table of all."""
    yield "index", _index()
    beside = counterparts()
    for row in ROWS:
        yield row.name, _page(row, beside.get(row.name, []))


def draw(folder: pathlib.Path) -> None:
    """The pictures of all pages."""
    sgd = surface.path(jos.sgd)
    for row in ROWS:
        surface.draw(row.name, surface.path(row.make), sgd, folder / f"{row.name}.svg")


def _index() -> str:
    head = ("optimizer", "", "from", *LIBRARIES.values())
    rows = [
        (
            f"[{row.name}]({row.name}.md)",
            _in_short(row.make),
            row.source,
            *(agreement(row, name) for name in LIBRARIES),
        )
        for row in ROWS
    ]
    names = "\n".join(row.name for row in ROWS)
    return f"""# Optimizers

Each page has the formula, the arguments with their ranges and defaults, what differs from the originals and from
Optax, and a picture. The last columns hold the error that no parameter exceeds in 30 steps recorded from that
library, for any recorded setting: `max |a - b| / (1e-3 + max |b|)`.

{table(head, rows)}

All of them take the [arguments that optimizers share](project:#common-arguments). Their rules alone, for use in
`optax.chain`, are in {{doc}}`jos.transforms </reference/transforms>`; an optimizer of your own takes one function
({{doc}}`/own_optimizers`).

(common-arguments)=
## Arguments that all share

{arguments(jos.adam, COMMON)}

```{{toctree}}
:hidden:

{names}
```
"""


def _in_short(make: Any) -> str:
    """The first line of the docstring, without the name."""
    name, _, rest = summary(_doc(make)).removesuffix(".").partition(": ")
    return rest or f"{name[0].lower()}{name[1:]}"


def _page(row: Row, beside: list[tuple[str, str, str]]) -> str:
    make: Any = row.make
    doc = _doc(make)
    own = [name for name in make.words if name not in COMMON or name in inspect.signature(make.__wrapped__).parameters]
    shares = {*make.words} > {*own}
    body = to_markdown(doc, make.words, without=("Arguments", "Raises"))
    call = signature(make, {*make.__signature__.parameters} - {*own}, "**common" if shares else "")
    common = "\nand the [arguments that all optimizers share](project:#common-arguments).\n" if shares else ""
    return f"""# {row.name}

{described("function", f"jaxopt_suite.{row.name}", call, body)}
```{{figure}} {row.name}.svg
:alt: the path of {row.name} on the test surface, beside that of sgd
{surface.caption(make, surface.path(make), surface.path(jos.sgd))}
```

## Arguments

{arguments(make, own)}
{common}
A wrong argument is refused by a `ValueError` or a `TypeError` that names it, what it must be, and what came. In
configs the name is `{make.class_name}`.

## Agreement

{_agreement(row)}

## Beside Optax

{_beside(beside)}
"""


def _doc(make: Any) -> str:
    return inspect.getdoc(make) or ""


def arguments(make: Any, names: Iterable[str]) -> str:
    """The table of a declared function's arguments: default, range, meaning with its unit."""
    sentences = {
        name: text for part in parts(_doc(make)) if part.kind == "Arguments" for name, text in items(part.text)
    }
    rows = []
    for name in names:
        if name not in sentences:
            continue
        default = make.__signature__.parameters[name].default
        word, shown = make.words[name], "required" if default is inspect.Parameter.empty else f"`{default!r}`"
        sentence = sentences[name].removeprefix(f"{word.phrase}: ").removesuffix(f" Default: `{default!r}`.")
        must = word.phrase + (", or a schedule" if _may_change(make, name) else "")
        rows.append((f"`{name}`", shown, must + (", or `None`" if default is None else ""), sentence))
    return table(("argument", "default", "must be", "meaning"), rows)


def _may_change(make: Any, name: str) -> bool:
    """Whether an argument may be a schedule, which its sentence does not say."""
    return make.words[name].kind == "number" and make.__module__ != jos.schedules.__name__ and name != "learning_rate"


def _agreement(row: Row) -> str:
    """Each library that it was recorded from: how close, with which settings, and why not closer."""
    rows = []
    for name, called in LIBRARIES.items():
        if variants := recorded(row, name):
            versions = ", ".join(f"{package} {version}" for package, version in _versions(name).items())
            slugs = ", ".join(v.reference.partition("/")[2].replace("_", " ") for v in variants if v.reference)
            why = "; ".join({v.reason: None for v in variants if v.reason})
            rows.append((f"{called} ({versions})", agreement(row, name), slugs, why))
    if not rows:
        test = COUNTERPARTS.with_name(f"test_{row.name}.py")
        compares = test.exists() and "recording(" in test.read_text()
        return f"Its recorded runs are compared by `tests/{test.name}`." if compares else "No run of it is recorded."
    first = "No parameter was further away in any of 30 steps than the error, `max |a - b| / (1e-3 + max |b|)`."
    return f"{first}\n\n{table(('library', 'error', 'recorded settings', 'why not less'), rows)}"


def _versions(name: str) -> Mapping[str, str]:
    packages = ("keras", "tensorflow", "tensorflow_addons", "torch")
    return {package: v for package, v in library(name)[1]["versions"].items() if package in packages}


def _beside(beside: list[tuple[str, str, str]]) -> str:
    if not beside:
        return "It has no counterpart in Optax that it is compared with."
    intro = "Measured by the tests, in seven steps in float64: the largest difference of any entry."
    return f"{intro}\n\n{table(('here', 'in Optax', 'difference'), beside)}"


def counterparts() -> dict[str, list[tuple[str, str, str]]]:
    """The pairs of tests/counterparts.py as they are written there: ours, Optax's, and how far they are apart."""
    tree = ast.parse(COUNTERPARTS.read_text())
    assigned = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}  # type: ignore
    written = next(
        n.value for n in tree.body if isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == "COUNTERPARTS"
    )
    return {
        ast.literal_eval(key): [_pair(call, assigned) for call in value.elts]
        for key, value in zip(written.keys, written.values, strict=True)  # type: ignore
    }


def _pair(call: Any, assigned: Mapping[str, ast.expr]) -> tuple[str, str, str]:
    def code(lambda_: Any) -> str:
        return f"`{ast.unparse(_Named(assigned).visit(lambda_.body))}`"

    given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    apart = f"{given['apart']:g}" if "apart" in given else f"none (< {given.get('within', 1e-14):g})"
    return code(call.args[0]), code(call.args[1]), apart


class _Named(ast.NodeTransformer):
    """Puts what a name stands for in its place."""

    def __init__(self, assigned: Mapping[str, ast.expr]):
        self.assigned = assigned

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.assigned.get(node.id, node)
