"""Excluding parameters from weight decay, wherever in a recipe they decay."""

from collections.abc import Mapping

from jaxopt_suite._recipe.check import Value, show
from jaxopt_suite._recipe.recipe import Recipe, has_recipe

_ARGUMENT = "exclude_from_weight_decay"


def exclude(owner: str, value: Value, patterns: tuple[str, ...], changed: list[Value]) -> Value:
    """A value from a recipe, in which all that can decay weights excludes the patterns; `changed` gets what does so.

    Raises:
      TypeError: if a member decays weights and takes no paths to exclude.
    """
    if isinstance(value, Mapping):
        return {key: exclude(owner, item, patterns, changed) for key, item in value.items()}
    if type(value) is tuple:
        return tuple(exclude(owner, item, patterns, changed) for item in value)
    if not has_recipe(value):
        return value
    recipe: Recipe = value.recipe
    if _ARGUMENT in recipe.arguments:
        changed.append(value)
        return recipe.remake(**{_ARGUMENT: patterns})
    all_arguments = getattr(recipe.factory, "all_arguments", dict)
    for name, strength in all_arguments(recipe.arguments).items():
        if "weight_decay" in name and not name.endswith("mask") and not _is_off(strength):
            raise TypeError(
                f"{owner}: {show(value)} decays weights by {name}={show(strength)} and takes no paths to exclude: "
                "give it a mask where it has one, or take an optimizer of jaxopt_suite."
            )
    return recipe.remake(**exclude(owner, recipe.arguments, patterns, changed))


def _is_off(strength: Value) -> bool:
    return strength is None or (isinstance(strength, (int, float)) and strength == 0)
