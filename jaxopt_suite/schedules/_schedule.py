"""What the library's schedules are: functions of the step that have a recipe, and the decorator that declares them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxopt_suite._recipe.check import is_array, show
from jaxopt_suite._recipe.config import Described, register
from jaxopt_suite._recipe.declare import LIBRARY, Factory, declare, numbers_of
from jaxopt_suite._recipe.recipe import Recipe
from jaxopt_suite._recipe.words import Number, OneSchedule, Text
from jaxopt_suite._table import as_call, as_face
from jaxopt_suite.schedules._curve import MOST, as_svg, check_steps, points, span

if TYPE_CHECKING:
    from matplotlib.axes import Axes

P = ParamSpec("P")
FunctionOfStep = Callable[[jax.Array], jax.Array]

SENTENCES: Mapping[str, str] = {
    "schedule": "a schedule; a number holds for all steps.",
    "schedules": "what follows each other; a number holds for all steps of its own.",
    "factor": "what it is multiplied by, a number or a schedule too.",
    "term": "what is added to it, a number or a schedule too.",
    "value": "the value at all steps.",
    "steps": "steps that it takes.",
    "start": "value at step 0.",
    "initial_learning_rate": "rate that the schedule starts from.",
    "end_learning_rate": "rate that the schedule ends with.",
    "maximal_learning_rate": "highest rate.",
    "decay_steps": "steps after which the schedule has decayed once.",
    "first_decay_steps": "steps of the first period.",
    "decay_rate": "factor of the decay, per `decay_steps`.",
    "staircase": "decay at the end of each period only.",
    "boundaries": "increasing steps, each of which ends what is before it.",
    "values": "value of each interval, one more than `boundaries`.",
    "power": "exponent of the polynomial.",
    "cycle": "begin again after `decay_steps`.",
    "alpha": "factor in the formula above.",
    "total_steps": "steps of the whole schedule.",
    "stable_steps": "steps at the highest rate.",
    "pct_start": "share of the steps in which the rate rises.",
    "anneal_strategy": "whether it rises and falls along a cosine or a line.",
    "div_factor": "highest rate over the first one.",
    "final_div_factor": "first rate over the last one.",
    "three_phase": "fall to the first rate in as many steps as it rose, and to the last one only then.",
    "shape": "the curve that the rate falls along.",
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

    Schedules are multiplied and added, with each other and with numbers, and are schedules with a recipe again.

    >>> import jaxopt_suite as jos
    >>> rate = jos.schedules.exponential_decay(1.0, decay_steps=1, decay_rate=0.5)
    >>> 0.1 * rate + 1e-3
    total(product(exponential_decay(1.0, 1.0, 0.5), 0.1), 0.001)
    >>> float((rate * rate)(2)), float((rate / 4)(1))
    (0.0625, 0.125)
    >>> rate.replace(decay_rate=2.0)
    exponential_decay(1.0, 1.0, 2.0)
    """

    __slots__ = ("__weakref__", "_exact", "_function", "_recipe")  # jax.jit keeps its functions weakly
    __array_ufunc__ = None  # a scalar of numpy leaves arithmetic to the schedule

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

    def plot(self, steps: int | None = None, ax: Axes | None = None) -> Axes:
        """Draws the values from step 0 to `steps` and gives the Axes of matplotlib, `ax` or new ones.

        Without `steps` it shows as many as its arguments speak of.

        >>> import jaxopt_suite as jos
        >>> ax = jos.schedules.warmup_stable_decay(0.5, 10, 60, 30).plot(100)
        >>> [f"{y:.2f}" for y in ax.get_lines()[0].get_ydata()[[0, 5, 10, 70, 80, 100]]]
        ['0.00', '0.25', '0.50', '0.50', '0.33', '0.00']
        """
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise ImportError("plot: it needs matplotlib: pip install 'jaxopt-suite[plot]'.") from error
        ax = pyplot.subplots()[1] if ax is None else ax
        ax.plot(*points(self, self._steps(steps)), label=repr(self))
        ax.set(xlabel="step", ylabel="value")
        return ax

    def _steps(self, steps: int | None = None) -> int:
        """How many steps to show."""
        return min(math.ceil(span(self.recipe)) or 100, MOST) if steps is None else check_steps("plot", steps)

    def _repr_html_(self) -> str:
        return as_face(as_call(repr(self)), self._repr_svg_() or "")

    def _repr_svg_(self) -> str | None:
        """The curve, where the numbers are known, and the functions inside are such that JAX can trace."""
        try:
            return as_svg(*points(self, self._steps()))
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
            return None

    def __mul__(self, factor: Number) -> Schedule:
        return product(self, factor) if _is_operand(factor) else NotImplemented

    def __add__(self, term: Number) -> Schedule:
        return total(self, term) if _is_operand(term) else NotImplemented

    def __truediv__(self, divisor: float | jax.Array) -> Schedule:
        return product(self, 1 / divisor) if _is_operand(divisor) and not callable(divisor) else NotImplemented

    __rmul__, __radd__ = __mul__, __add__


def _is_operand(value: object) -> bool:
    return isinstance(value, (int, float, np.generic)) or is_array(value) or callable(value)


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
    """The arguments of a schedule; numbers that cannot be schedules themselves are not, and their arrays float32."""
    constants, numbers = dict(recipe.arguments), numbers_of(recipe.factory)
    for name, value in constants.items():
        if name in numbers and callable(value):
            owner = recipe.factory.__name__
            raise TypeError(f"{owner}: {name} must be a number or a scalar array, got {show(value)}, a function.")
        if name in numbers and is_array(value):
            constants[name] = jnp.asarray(value, jnp.float32)
    return constants


def function_of(schedule: Number) -> FunctionOfStep:
    """A schedule of this library, a plain function or a number, as a function of the step that gives float32."""
    return lambda step: jnp.asarray(schedule(step) if callable(schedule) else schedule, jnp.float32)


@schedule("Product", exact=True)
def product(schedule: OneSchedule, factor: OneSchedule, name: Text | None = None) -> FunctionOfStep:
    """`schedule(step) * factor(step)`; `schedule * 0.1`, `0.1 * schedule` and `schedule / 10` are written for it.

    >>> import jaxopt_suite as jos
    >>> rate = jos.schedules.product(jos.schedules.exponential_decay(1.0, 1, 0.5), 0.25)
    >>> rate == jos.schedules.exponential_decay(1.0, 1, 0.5) * 0.25, float(rate(1))
    (True, 0.125)
    """
    one, other = function_of(schedule), function_of(factor)
    return lambda step: one(step) * other(step)


@schedule("Total", exact=True)
def total(schedule: OneSchedule, term: OneSchedule, name: Text | None = None) -> FunctionOfStep:
    """`schedule(step) + term(step)`; `schedule + 1e-5` is written for it.

    >>> import jaxopt_suite as jos
    >>> rate = jos.schedules.exponential_decay(1.0, 1, 0.5) + 0.25
    >>> [float(rate(step)) for step in range(3)]
    [1.25, 0.75, 0.5]
    """
    one, other = function_of(schedule), function_of(term)
    return lambda step: one(step) + other(step)
