"""What the library's schedules are: functions of the step that have a recipe, and the decorator that declares them."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxopt_suite._check import is_array, show
from jaxopt_suite._config import Described, register
from jaxopt_suite._frame import numbers_of
from jaxopt_suite._recipe import Recipe, declare


class Schedule(Described):
    """A function `step -> value` with a recipe; the value is a float32 scalar, whatever the step's type."""

    __slots__ = ("__weakref__", "_exact", "_function", "_recipe")  # jax.jit keeps its functions weakly

    def __init__(self, recipe: Recipe, function: Callable[[Any], Any], exact: bool = False):
        self._recipe = recipe
        self._function = function
        self._exact = exact

    @property
    def recipe(self) -> Recipe:
        return self._recipe

    def __call__(self, step: Any) -> Any:
        """The value at `step` (0 in the first update)."""
        step = jnp.asarray(step)
        whole = self._exact and jnp.issubdtype(step.dtype, jnp.integer)
        return jnp.asarray(self._function(step.astype(jnp.int32 if whole else jnp.float32)), jnp.float32)


def schedule(class_name: str, *, exact: bool = False) -> Callable[[Callable[..., Callable]], Callable[..., Schedule]]:
    """Declares a schedule: the body's signature is its config, and it returns a function of the step.

    Arguments:
      class_name: the name in configs.
      exact: give the function an integer step as int32. Otherwise it is given float32, which rounds steps
        above 2^24.

    >>> import jaxopt_suite as jos
    >>> @jos.schedules.schedule("Halving")
    ... def halving(initial_learning_rate=1.0, every=10):
    ...     return lambda step: initial_learning_rate * 0.5 ** (step // every)
    >>> halving(every=5), float(halving(every=5)(12))
    (halving(every=5), 0.25)
    """

    def declared(body: Callable[..., Callable]) -> Callable[..., Schedule]:
        return register(declare(class_name, body, lambda recipe: Schedule(recipe, body(**_constants(recipe)), exact)))

    return declared


def _constants(recipe: Recipe) -> dict[str, Any]:
    """The arguments of a schedule, whose numbers cannot be schedules themselves; arrays are float32."""
    constants, numbers = dict(recipe.arguments), numbers_of(recipe.factory)
    for name, value in constants.items():
        if name in numbers and callable(value):
            owner = recipe.factory.__name__
            raise TypeError(f"{owner}: {name} must be a number or a scalar array, got {show(value)}, a function.")
        if name in numbers and is_array(value):
            constants[name] = jnp.asarray(value, jnp.float32)
    return constants
