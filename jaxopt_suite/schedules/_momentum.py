"""A schedule of the momentum."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxopt_suite._recipe.words import Fraction, NonNegative, Positive, Text, scalar
from jaxopt_suite.schedules._schedule import FunctionOfStep, schedule


@schedule("MomentumRamp")
def momentum_ramp(
    momentum: Fraction, schedule_decay: NonNegative = 0.004, mom_iter_max: Positive = 475000, name: Text | None = None
) -> FunctionOfStep:
    """A momentum that rises from half of its goal, and falls back to it before the last step.

        momentum * (1 - 0.96^(k s) / 2) * (1 - 0.96^((K - k) s) / 2)    for k < K,    else momentum / 2

    at step `k`, with `s = schedule_decay` and `K = mom_iter_max`. Give it as the momentum: `sgd(0.01,
    momentum_ramp(0.9))`. The code that published this ramp has two bugs that are not repeated here: each step
    used the momentum of the step before (the first one the full goal), and its step counter stood still unless
    the learning rate decayed, so that the momentum stayed at half of its goal.

    >>> import jaxopt_suite as jos
    >>> ramp = jos.schedules.momentum_ramp(0.9)
    >>> [round(float(ramp(step)), 4) for step in (0, 4245, 237_500, 470_000, 475_000)]
    [0.45, 0.675, 0.9, 0.7011, 0.45]
    """
    goal, speed, last = scalar(momentum), scalar(schedule_decay), scalar(mom_iter_max)

    def value(step: jax.Array) -> jax.Array:
        def rise(steps: jax.Array) -> jax.Array:
            return 1 - 0.5 * 0.96 ** (steps * speed)

        return goal * jnp.where(step < last, rise(step) * rise(last - step), 0.5)

    return value
