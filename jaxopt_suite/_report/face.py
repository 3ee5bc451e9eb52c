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
    rows = [*_rows(tx.recipe)]
    curves = {schedule: None for schedule in _schedules(tx)}
    pictures = [as_call(repr(schedule)) + (schedule._repr_svg_() or "") for schedule in curves]
    table = as_html(("argument", "value"), rows) if rows else ""
    return as_face(as_call(repr(tx)), as_sentences(way), table, *pictures)


def _rows(recipe: Recipe, depth: int = 0) -> Iterator[tuple[str, str]]:
    """The arguments, and below a transformation among them its own; a row for each item of a dict or a row of them."""
    for name, value in _changed(recipe):
        for label, item in _items(name, value):
            inside = hasattr(item, "line")
            yield "\N{NO-BREAK SPACE}" * 4 * depth + label, item.recipe.factory.__name__ if inside else repr(item)
            if inside:
                yield from _rows(item.recipe, depth + 1)


def _changed(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    for name, parameter in recipe.factory.__signature__.parameters.items():
        value = recipe.arguments.get(name, parameter.default)
        if freeze(value) != freeze(as_number(parameter.default)):
            yield name, value


def _items(name: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f"{name}[{key!r}]", item) for key, item in value.items()]
    if isinstance(value, tuple) and not has_recipe(value) and any(map(has_recipe, value)):
        return [(f"{name}[{i}]", item) for i, item in enumerate(value)]
    return [(name, value)]


def _schedules(value: Any) -> Iterator[Any]:
    """What is a schedule in a recipe, at any depth."""
    if hasattr(value, "_repr_svg_"):
        yield value
    elif has_recipe(value):
        yield from _schedules(value.recipe.arguments)
    elif isinstance(value, (Mapping, list, tuple)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _schedules(item)
