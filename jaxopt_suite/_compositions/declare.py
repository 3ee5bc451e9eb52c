"""How compositions are declared, and what may be a member of one."""

from collections.abc import Callable
from typing import Any, ParamSpec

import optax

from jaxopt_suite._frame.line import Line
from jaxopt_suite._recipe.check import show
from jaxopt_suite._recipe.config import register
from jaxopt_suite._recipe.declare import Factory, declare
from jaxopt_suite._recipe.recipe import Recipe
from jaxopt_suite._transformation import Optimizer, Transformation, assemble

P = ParamSpec("P")


def composition(class_name: str, **sentences: str) -> Callable[[Callable[P, Line]], Factory[P, Optimizer]]:
    """Declares a composition: the body's signature is its config, and it returns its line.

    `sentences` say what its own arguments mean.
    """

    def declared(body: Callable[P, Line]) -> Factory[P, Optimizer]:
        def build(recipe: Recipe) -> Optimizer:
            return assemble(Optimizer, recipe, recipe.call(body))

        return register(declare(class_name, body, build, sentences=sentences))

    return declared


def check_member(owner: str, place: str, tx: Any) -> None:
    if isinstance(tx, Transformation):
        return
    if isinstance(tx, optax.GradientTransformation):
        raise TypeError(f"{owner}: {place} is a plain transformation of Optax, without a recipe: use from_optax.")
    raise TypeError(f"{owner}: {place} must be an optimizer or a primitive of jaxopt_suite, got {show(tx)}.")
