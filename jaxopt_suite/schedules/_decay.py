"""Schedules that decay: exponentially, in steps, by a polynomial, by the inverse of time.

Steps are divided into periods with `//`, which is exact at every boundary: compiled, `floor(step / period)` is
not, because XLA multiplies by the rounded `1 / period`.
"""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp

from jaxopt_suite._recipe.words import Floats, NonNegative, Positive, Scalar, Text, scalar
from jaxopt_suite.schedules._schedule import FunctionOfStep, schedule


@schedule("ExponentialDecay")
def exponential_decay(
    initial_learning_rate: NonNegative,
    decay_steps: Positive,
    decay_rate: NonNegative,
    staircase: bool = False,
    name: Text | None = None,
) -> FunctionOfStep:
    """`initial_learning_rate * decay_rate ** (step / decay_steps)`, the exponent rounded down with `staircase`.

    >>> import jaxopt_suite as jos
    >>> float(jos.schedules.exponential_decay(0.5, decay_steps=2, decay_rate=0.25)(1))
    0.25
    """
    start, period, factor = scalar(initial_learning_rate), scalar(decay_steps), scalar(decay_rate)
    return lambda step: start * factor ** _periods(step, period, staircase)


@schedule("InverseTimeDecay")
def inverse_time_decay(
    initial_learning_rate: NonNegative,
    decay_steps: Positive,
    decay_rate: NonNegative,
    staircase: bool = False,
    name: Text | None = None,
) -> FunctionOfStep:
    """`initial_learning_rate / (1 + decay_rate * step / decay_steps)`, the fraction rounded down with `staircase`.

    >>> import jaxopt_suite as jos
    >>> float(jos.schedules.inverse_time_decay(1.0, decay_steps=2, decay_rate=0.5)(4))
    0.5
    """
    start, period, rate = scalar(initial_learning_rate), scalar(decay_steps), scalar(decay_rate)
    return lambda step: start / (1 + rate * _periods(step, period, staircase))


@schedule("PiecewiseConstantDecay", exact=True)
def piecewise_constant_decay(boundaries: Floats, values: Floats, name: Text | None = None) -> FunctionOfStep:
    """`values[i]` for `boundaries[i - 1] < step <= boundaries[i]`: a value still holds at its boundary.

    `optax.piecewise_constant_schedule` switches one step earlier, and is given factors instead of values.

    >>> import jaxopt_suite as jos
    >>> rate = jos.schedules.piecewise_constant_decay([10], [1.0, 0.5])
    >>> float(rate(10)), float(rate(11))
    (1.0, 0.5)
    """
    owner = "piecewise_constant_decay"
    if len(values) != len(boundaries) + 1:
        raise ValueError(
            f"{owner}: values must be one more than boundaries, got {len(values)} values and "
            f"{len(boundaries)} boundaries."
        )
    if any(later <= earlier for earlier, later in itertools.pairwise(boundaries)):
        raise ValueError(f"{owner}: boundaries must increase, got {list(boundaries)}.")

    def value(step: jax.Array) -> jax.Array:
        whole = jnp.issubdtype(step.dtype, jnp.integer)
        passed = [step > (math.floor(b) if whole else b) for b in boundaries]
        return jnp.asarray(values, jnp.float32)[sum(p.astype(jnp.int32) for p in passed)]

    return value


@schedule("PolynomialDecay")
def polynomial_decay(
    initial_learning_rate: NonNegative,
    decay_steps: Positive,
    end_learning_rate: NonNegative = 0.0001,
    power: NonNegative = 1.0,
    cycle: bool = False,
    name: Text | None = None,
) -> FunctionOfStep:
    """`(initial_learning_rate - end_learning_rate) * (1 - step / decay_steps) ** power + end_learning_rate`.

    The rate stays at its end after `decay_steps`; with `cycle`, `decay_steps` is multiplied instead by the
    smallest whole number that makes it reach the step, so that the rate rises again.

    >>> import jaxopt_suite as jos
    >>> rate = jos.schedules.polynomial_decay(1.0, decay_steps=4, end_learning_rate=0.0, power=2.0, cycle=True)
    >>> float(rate(2)), float(rate(4)), float(rate(6))
    (0.25, 0.0, 0.0625)
    """
    first, last = scalar(initial_learning_rate), scalar(end_learning_rate)
    decay_steps, power = scalar(decay_steps), scalar(power)

    def value(step: jax.Array) -> jax.Array:
        steps = decay_steps * jnp.maximum(-(-step // decay_steps), 1) if cycle else decay_steps
        return (first - last) * (1 - progress(step, steps)) ** power + last

    return value


def progress(step: jax.Array, steps: Scalar) -> jax.Array:
    """`step / steps`, at most 1, which it is exactly at the end."""
    return jnp.where(step >= steps, 1.0, step / steps)


def _periods(step: jax.Array, period: Scalar, staircase: bool) -> jax.Array:
    return step // period if staircase else step / period
