"""Learning-rate schedules with Keras's formulas: functions of the step that have a recipe."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxopt_suite._config import Described, register
from jaxopt_suite._recipe import Recipe, declare


class Schedule(Described):
    """A function `step -> value` with a recipe; the value is a float32 scalar, whatever the step's type."""

    __slots__ = ("_function", "_recipe")

    def __init__(self, recipe: Recipe, function: Callable[[Any], Any]):
        self._recipe = recipe
        self._function = function

    @property
    def recipe(self) -> Recipe:
        return self._recipe

    def __call__(self, step: Any) -> Any:
        """The value at `step` (0 in the first update)."""
        return jnp.asarray(self._function(jnp.asarray(step, jnp.float32)), jnp.float32)


def schedule(class_name: str) -> Callable[[Callable[..., Callable]], Callable[..., Schedule]]:
    """Declares a schedule: the body's signature is its config, and it returns a function of the step.

    >>> import jaxopt_suite as jos
    >>> @jos.schedules.schedule("Halving")
    ... def halving(initial_learning_rate=1.0, every=10):
    ...     return lambda step: initial_learning_rate * 0.5 ** (step // every)
    >>> halving(every=5), float(halving(every=5)(12))
    (halving(every=5), 0.25)
    """

    def declared(body: Callable[..., Callable]) -> Callable[..., Schedule]:
        return register(declare(class_name, body, lambda recipe: Schedule(recipe, body(**recipe.arguments))))

    return declared


@schedule("ExponentialDecay")
def exponential_decay(
    initial_learning_rate: float, decay_steps: int, decay_rate: float, staircase: bool = False, name: str | None = None
) -> Callable[[Any], Any]:
    """`initial_learning_rate * decay_rate ** (step / decay_steps)`, the exponent rounded down with `staircase`.

    >>> import jaxopt_suite as jos
    >>> float(jos.schedules.exponential_decay(0.5, decay_steps=2, decay_rate=0.25)(1))
    0.25
    """

    def value(step: Any) -> Any:
        p = step / decay_steps
        return initial_learning_rate * decay_rate ** (jnp.floor(p) if staircase else p)

    return value
