"""How compositions are declared, and what may be a member of one."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec

import optax

from jaxopt_suite._frame.line import Line
from jaxopt_suite._optimizer import STAGES, check_stages, stages
from jaxopt_suite._recipe.check import show
from jaxopt_suite._recipe.config import register
from jaxopt_suite._recipe.declare import Factory, declare
from jaxopt_suite._recipe.recipe import Recipe
from jaxopt_suite._transformation import Optimizer, Transformation, assemble

P = ParamSpec("P")


def composition(class_name: str, **sentences: str) -> Callable[[Callable[P, Line]], Factory[P, Optimizer]]:
    """Declares a composition: the body's signature is its config, and it returns its line.

    With `**common` in its signature it takes the common arguments that are stages; they act on all members together.
    `sentences` say what its own arguments mean.
    """

    def declared(body: Callable[P, Line]) -> Factory[P, Optimizer]:
        common = STAGES if "common" in inspect.signature(body).parameters else {}

        def build(recipe: Recipe) -> Optimizer:
            line, given = recipe.call(body), recipe.arguments
            if not common:
                return assemble(Optimizer, recipe, line)
            check_stages(body.__name__, given)
            compiled = line.compiles and given["jit_compile"]
            line = dataclasses.replace(line, compiles=compiled, shard_axes=given["shard_axes"])
            return assemble(Optimizer, recipe, line.insert(*stages(given)))

        return register(declare(class_name, body, build, common=common, sentences=sentences))

    return declared


def compiles(lines: Iterable[Line]) -> bool:
    """Whether a step may run as one program: what a member does not allow, its composition does not do either."""
    return all(line.compiles for line in lines)


def check_member(owner: str, place: str, tx: Any) -> None:
    if isinstance(tx, Transformation):
        if tx.line.writer is not None:
            raise ValueError(
                f"{owner}: {place} writes 16-bit parameters ({tx.line.writer.key}), which must come last of all: put "
                f"the wrapper of jos.precision around {owner} itself."
            )
        return
    if isinstance(tx, optax.GradientTransformation):
        raise TypeError(f"{owner}: {place} is a plain transformation of Optax, without a recipe: use from_optax.")
    raise TypeError(f"{owner}: {place} must be an optimizer or a primitive of jaxopt_suite, got {show(tx)}.")
