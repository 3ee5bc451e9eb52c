"""Schedules made of schedules: one that is warmed up, several that follow each other, one that is a number."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp

from jaxopt_suite._recipe.words import Count, Integers, NonNegative, OneSchedule, Real, Schedules, Text, scalar
from jaxopt_suite.schedules._schedule import FunctionOfStep, function_of, schedule


@schedule("Constant", exact=True)
def constant(value: Real, name: Text | None = None) -> FunctionOfStep:
    """The same value at all steps, for what is joined or multiplied; the state of an optimizer does not hold it.

    >>> import jaxopt_suite as jos
    >>> float(jos.schedules.constant(0.25)(7))
    0.25
    """
    return function_of(scalar(value))


@schedule("Warmup", exact=True)
def warmup(schedule: OneSchedule, steps: Count, start: NonNegative = 0.0, name: Text | None = None) -> FunctionOfStep:
    """A line from `start` up to the first value of a schedule, which begins when it is reached.

        start + (schedule(0) - start) * k / n    for k < n,    schedule(k - n) otherwise

    at step `k`, with `n = steps`. This is the warm-up of Keras's `CosineDecay`, for any schedule: what is warmed up
    takes `steps` steps longer.

    >>> import jaxopt_suite as jos
    >>> rate = jos.schedules.warmup(jos.schedules.exponential_decay(1.0, 2, 0.25), steps=4)
    >>> [float(rate(step)) for step in (0, 1, 4, 5, 6)]
    [0.0, 0.25, 1.0, 0.5, 0.25]
    >>> rate.replace(schedule=jos.schedules.cosine_decay(1.0, 8)).recipe.arguments["schedule"]
    cosine_decay(1.0, 8.0)

    Reference: Goyal et al., Accurate, large minibatch SGD: Training ImageNet in 1 hour, 2017.
    """
    if steps == 0:
        return function_of(schedule)
    first, after = scalar(start), function_of(schedule)

    def rise(step: jax.Array) -> jax.Array:
        return first + (after(jnp.zeros_like(step)) - first) * (step.astype(jnp.float32) / steps)

    return _joined([rise, after], [steps])


@schedule("JoinSchedules", exact=True)
def join_schedules(schedules: Schedules, boundaries: Integers, name: Text | None = None) -> FunctionOfStep:
    """One schedule after the other, each from its own step 0 on.

    It is `schedules[i](step - boundaries[i - 1])` for `boundaries[i - 1] <= step < boundaries[i]`, as
    `optax.join_schedules` and PyTorch's `SequentialLR` have it. In `piecewise_constant_decay` a value still holds at
    its boundary, as Keras has it.

    >>> import jaxopt_suite as jos
    >>> rate = jos.schedules.join_schedules([1.0, jos.schedules.exponential_decay(0.5, 1, 0.5)], [3])
    >>> [float(rate(step)) for step in (0, 2, 3, 4)]
    [1.0, 1.0, 0.5, 0.25]
    """
    owner = "join_schedules"
    if len(schedules) != len(boundaries) + 1:
        raise ValueError(
            f"{owner}: schedules must be one more than boundaries, got {len(schedules)} schedules and "
            f"{len(boundaries)} boundaries."
        )
    if any(later <= earlier for earlier, later in itertools.pairwise((0, *boundaries))):
        raise ValueError(f"{owner}: boundaries must increase, from at least 1, got {list(boundaries)}.")
    return _joined([function_of(one) for one in schedules], boundaries)


def _joined(functions: list[FunctionOfStep], boundaries: Integers) -> FunctionOfStep:
    """A function that is not in its turn is asked for its step 0: elsewhere it may have no value, or no derivative."""

    def value(step: jax.Array) -> jax.Array:
        turn = sum((step >= boundary).astype(jnp.int32) for boundary in boundaries)
        result = jnp.float32(0)
        for i, (function, begin) in enumerate(zip(functions, (0, *boundaries), strict=True)):
            mine = turn == i
            result = jnp.where(mine, function(jnp.where(mine, step - begin, 0)), result)
        return result

    return value
