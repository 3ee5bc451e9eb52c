"""What the library's schedules are: functions of the step that have a recipe, and the decorator that declares them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, cast

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxopt_suite._recipe.check import is_array, show
from jaxopt_suite._recipe.config import Described, register
from jaxopt_suite._recipe.declare import LIBRARY, Factory, declare, numbers_of
from jaxopt_suite._recipe.recipe import Recipe

P = ParamSpec("P")
FunctionOfStep = Callable[[jax.Array], jax.Array]

SENTENCES: Mapping[str, str] = {
    "initial_learning_rate": "rate that the schedule starts from.",
    "end_learning_rate": "rate that the schedule ends with.",
    "maximal_learning_rate": "highest rate of a cycle.",
    "decay_steps": "steps after which the schedule has decayed once.",
    "first_decay_steps": "steps of the first period.",
    "decay_rate": "factor of the decay, per `decay_steps`.",
    "staircase": "decay at the end of each period only.",
    "boundaries": "increasing steps: the next value holds after each of them.",
    "values": "value of each interval, one more than `boundaries`.",
    "power": "exponent of the polynomial.",
    "cycle": "begin again after `decay_steps`.",
    "alpha": "factor in the formula above.",
    "warmup_target": "rate that the warm-up rises to.",
    "t_mul": "length of each period over that of the one before.",
    "m_mul": "height of each period over that of the one before.",
    "step_size": "steps of half a cycle.",
    "scale_fn": "factor of the height, from `scale_mode`.",
    "scale_mode": "whether the height depends on the cycle or on the step.",
    "gamma": "factor of the height, per cycle or step.",
    "schedule_decay": "speed of the momentum's rise: `0.96 ** (schedule_decay * step)`.",
    "mom_iter_max": "step at which the momentum is back at half of its goal.",
}


class Schedule(Described):
    """A function `step -> value` with a recipe; the value is a float32 scalar, whatever the step's type.

    >>> import jaxopt_suite as jos
    >>> rate = jos.schedules.inverse_time_decay(1.0, decay_steps=2, decay_rate=1.0)
    >>> print(f"{rate(4):.4f}", rate.replace(decay_rate=2.0))
    0.3333 inverse_time_decay(1.0, 2.0, 2.0)
    """

    __slots__ = ("__weakref__", "_exact", "_function", "_recipe")  # jax.jit keeps its functions weakly

    def __init__(self, recipe: Recipe, function: Callable[[jax.Array], Any], exact: bool = False):
        self._recipe = recipe
        self._function = function
        self._exact = exact

    @property
    def recipe(self) -> Recipe:
        return self._recipe

    def __call__(self, step: ArrayLike) -> jax.Array:
        """The value at `step` (0 in the first update)."""
        step = jnp.asarray(step)
        whole = self._exact and jnp.issubdtype(step.dtype, jnp.integer)
        return jnp.asarray(self._function(step.astype(jnp.int32 if whole else jnp.float32)), jnp.float32)


def schedule(
    class_name: str, *, exact: bool = False, sentences: Mapping[str, str] | None = None
) -> Callable[[Callable[P, Callable[[jax.Array], Any]]], Factory[P, Schedule]]:
    """Declares a schedule: the body's signature is its config, and it returns a function of the step.

    Arguments:
      class_name: the name in configs.
      exact: give the function an integer step as int32. Otherwise it is given float32, which rounds steps
        above 2^24.
      sentences: what its own arguments mean, for its documentation.

    >>> import jaxopt_suite as jos
    >>> @jos.schedules.schedule("Halving")
    ... def halving(initial_learning_rate=1.0, every=10):
    ...     return lambda step: initial_learning_rate * 0.5 ** (step // every)
    >>> halving(every=5), float(halving(every=5)(12))
    (halving(every=5), 0.25)
    """

    def declared(body: Callable[P, Callable[[jax.Array], Any]]) -> Factory[P, Schedule]:
        def build(recipe: Recipe) -> Schedule:
            return Schedule(recipe, cast(Any, body)(**_constants(recipe)), exact)

        meanings = {**SENTENCES, **(sentences or {})}
        return register(declare(class_name, body, build, home=f"{LIBRARY}.schedules", sentences=meanings))

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
