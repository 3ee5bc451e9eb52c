"""How a transformation shows itself in a notebook."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from jaxopt_suite._frame.line import Line
from jaxopt_suite._recipe.recipe import Recipe, as_number, freeze, has_recipe
from jaxopt_suite._report.accounts import stage_calls
from jaxopt_suite._table import as_call, as_face, as_html, as_sentences


class Declared(Protocol):
    """An optimizer, a primitive or a composition, with a recipe."""

    @property
    def recipe(self) -> Recipe: ...

    @property
    def line(self) -> Line: ...


def face(tx: Declared) -> str:
    """The call, the way of a gradient, the arguments that are not their defaults, and the curves of schedules."""
    stages = stage_calls(tx.line)
    way = [" -> ".join(("gradient", *stages, "update"))] if len(stages) > 1 else []
    rows = [row for name, value in _changed(tx.recipe) for row in _rows(name, value)]
    curves = {schedule: None for schedule in _schedules(tx)}
    pictures = [as_call(repr(schedule)) + (schedule._repr_svg_() or "") for schedule in curves]
    table = as_html(("argument", "value"), rows) if rows else ""
    return as_face(as_call(repr(tx)), as_sentences(way), table, *pictures)


def _changed(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    for name, parameter in recipe.factory.__signature__.parameters.items():
        value = recipe.arguments.get(name, parameter.default)
        if freeze(value) != freeze(as_number(parameter.default)):
            yield name, value


def _rows(name: str, value: Any) -> list[tuple[str, str]]:
    """A row for an argument; for each of its items, where it is a dict."""
    if isinstance(value, Mapping):
        return [(f"{name}[{key!r}]", repr(item)) for key, item in value.items()]
    return [(name, repr(value))]


def _schedules(value: Any) -> Iterator[Any]:
    """What is a schedule in a recipe, at any depth."""
    if hasattr(value, "_repr_svg_"):
        yield value
    elif has_recipe(value):
        yield from _schedules(value.recipe.arguments)
    elif isinstance(value, (Mapping, list, tuple)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _schedules(item)
