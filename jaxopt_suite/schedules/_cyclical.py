"""Cyclical rates, as TF Addons has them: up and down between two rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from jaxopt_suite._recipe.words import Function, NonNegative, Number, Positive, Scalar, Text, scalar
from jaxopt_suite.schedules._decay import progress
from jaxopt_suite.schedules._schedule import FunctionOfStep, schedule


@schedule("CyclicalLearningRate")
def cyclical(
    initial_learning_rate: NonNegative,
    maximal_learning_rate: NonNegative,
    step_size: Positive,
    scale_fn: Function,
    scale_mode: Literal["cycle", "iterations"] = "cycle",
    name: Text | None = None,
) -> FunctionOfStep:
    """Up from the initial rate to the maximal one in `step_size` steps, and down again in as many.

        x = |step / step_size - 2 cycle + 1|,    cycle = floor(1 + step / (2 step_size))
        rate = initial + (maximal - initial) * max(0, 1 - x) * scale_fn(cycle or step)

    A `scale_fn` is compared by identity, and a config only holds its name, which a `lambda` has not: to read it
    back, give `custom_objects={name: scale_fn}`.

    >>> import jaxopt_suite as jos
    >>> rate = jos.schedules.cyclical(0.0, 1.0, step_size=4, scale_fn=lambda x: 1 / x)
    >>> [float(rate(step)) for step in (0, 2, 4, 8, 12)]
    [0.0, 0.5, 1.0, 0.0, 0.5]

    Reference: Smith, Cyclical learning rates for training neural networks, 2017.
    """
    return _cyclical(initial_learning_rate, maximal_learning_rate, step_size, scale_fn, scale_mode)


@schedule("TriangularCyclicalLearningRate")
def triangular_cyclical(
    initial_learning_rate: NonNegative,
    maximal_learning_rate: NonNegative,
    step_size: Positive,
    scale_mode: Literal["cycle", "iterations"] = "cycle",
    name: Text | None = None,
) -> FunctionOfStep:
    """`cyclical` with cycles of one height.

    >>> import jaxopt_suite as jos
    >>> rate = jos.schedules.triangular_cyclical(0.5, 1.0, step_size=4)
    >>> [float(rate(step)) for step in (0, 2, 4, 6, 8, 12)]
    [0.5, 0.75, 1.0, 0.75, 0.5, 1.0]

    Reference: Smith, Cyclical learning rates for training neural networks, 2017.
    """
    return _cyclical(initial_learning_rate, maximal_learning_rate, step_size, lambda x: 1.0, scale_mode)


@schedule("Triangular2CyclicalLearningRate")
def triangular2_cyclical(
    initial_learning_rate: NonNegative,
    maximal_learning_rate: NonNegative,
    step_size: Positive,
    scale_mode: Literal["cycle", "iterations"] = "cycle",
    name: Text | None = None,
) -> FunctionOfStep:
    """`cyclical` with cycles that are half as high each time: `scale_fn(x) = 2^(1 - x)`.

    >>> import jaxopt_suite as jos
    >>> rate = jos.schedules.triangular2_cyclical(0.5, 1.0, step_size=4)
    >>> [float(rate(step)) for step in (0, 4, 8, 12)]
    [0.5, 1.0, 0.5, 0.75]

    Reference: Smith, Cyclical learning rates for training neural networks, 2017.
    """
    return _cyclical(initial_learning_rate, maximal_learning_rate, step_size, lambda x: 2.0 ** (1 - x), scale_mode)


@schedule("ExponentialCyclicalLearningRate")
def exponential_cyclical(
    initial_learning_rate: NonNegative,
    maximal_learning_rate: NonNegative,
    step_size: Positive,
    scale_mode: Literal["cycle", "iterations"] = "iterations",
    gamma: NonNegative = 1.0,
    name: Text | None = None,
) -> FunctionOfStep:
    """`cyclical` with a height that decays at every step: `scale_fn(x) = gamma^x`.

    >>> import jaxopt_suite as jos
    >>> rate = jos.schedules.exponential_cyclical(0.0, 1.0, step_size=1, gamma=0.5)
    >>> [float(rate(step)) for step in range(4)]
    [0.0, 0.5, 0.0, 0.125]

    Reference: Smith, Cyclical learning rates for training neural networks, 2017.
    """
    factor = scalar(gamma)
    return _cyclical(initial_learning_rate, maximal_learning_rate, step_size, lambda x: factor**x, scale_mode)


def _cyclical(
    low: Number, high: Number, step_size: Number, scale: Callable[[jax.Array], Scalar], mode: str
) -> FunctionOfStep:
    lowest, highest, size = scalar(low), scalar(high), scalar(step_size)

    def value(step: jax.Array) -> jax.Array:
        passed = step % (2 * size)
        climbed = progress(jnp.minimum(passed, 2 * size - passed), size)
        height = scale(1 + step // (2 * size) if mode == "cycle" else step)
        return lowest + (highest - lowest) * climbed * height

    return value
