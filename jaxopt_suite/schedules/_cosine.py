"""Cosine decay, with a warm-up or with restarts."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxopt_suite._recipe.check import show
from jaxopt_suite._recipe.words import AtLeastOne, Count, NonNegative, Positive, Scalar, Text, scalar
from jaxopt_suite.schedules._decay import progress
from jaxopt_suite.schedules._schedule import FunctionOfStep, schedule


@schedule("CosineDecay")
def cosine_decay(
    initial_learning_rate: NonNegative,
    decay_steps: Positive,
    alpha: NonNegative = 0.0,
    name: Text | None = None,
    warmup_target: NonNegative | None = None,
    warmup_steps: Count = 0,
) -> FunctionOfStep:
    """Half a cosine from the initial rate down to `alpha` times it, after a linear warm-up if one is asked for.

        r * ((1 - alpha) * (1 + cos(pi * step / decay_steps)) / 2 + alpha)

    With `warmup_target` the rate first rises linearly, in `warmup_steps`, from `initial_learning_rate` to the
    target, and then decays from there in further `decay_steps` steps; `optax.warmup_cosine_decay_schedule`
    counts the warm-up among its `decay_steps`.

    >>> import jaxopt_suite as jos
    >>> rate = jos.schedules.cosine_decay(0.0, decay_steps=8, warmup_target=1.0, warmup_steps=4)
    >>> [round(float(rate(step)), 4) for step in (0, 2, 4, 8, 12)]
    [0.0, 0.5, 1.0, 0.5, 0.0]

    Reference: Loshchilov and Hutter, SGDR: Stochastic gradient descent with warm restarts, 2017.
    """
    if warmup_target is None and warmup_steps:
        raise ValueError(f"cosine_decay: warmup_steps acts only with a warmup_target, got {warmup_steps} alone.")
    start, decay_steps, alpha = scalar(initial_learning_rate), scalar(decay_steps), scalar(alpha)
    top = start if warmup_target is None else scalar(warmup_target)

    def value(step: jax.Array) -> jax.Array:
        rate = top * _half_cosine(progress(step - warmup_steps, decay_steps), alpha)
        if warmup_steps == 0:
            return rate
        rise = start + (top - start) * (step / warmup_steps)
        return jnp.where(step < warmup_steps, rise, rate)

    return value


@schedule("CosineDecayRestarts")
def cosine_decay_restarts(
    initial_learning_rate: NonNegative,
    first_decay_steps: Positive,
    t_mul: AtLeastOne = 2.0,
    m_mul: NonNegative = 1.0,
    alpha: NonNegative = 0.0,
    name: Text | None = None,
) -> FunctionOfStep:
    """Cosine decay that starts again at its end, each time `t_mul` times as long and `m_mul` times as high.

        r * ((1 - alpha) * m_mul^i * (1 + cos(pi * p)) / 2 + alpha)

    where `i` counts the restarts and `p` is the share of the present period that has passed. Unlike Keras, whose
    float32 logarithm may miss a restart by one step, each restart is exact.

    >>> import jaxopt_suite as jos
    >>> rate = jos.schedules.cosine_decay_restarts(1.0, first_decay_steps=10, t_mul=2.0, m_mul=0.5)
    >>> [round(float(rate(step)), 4) for step in (0, 9, 10, 29, 30)]
    [1.0, 0.0245, 0.5, 0.0031, 0.25]

    Reference: Loshchilov and Hutter, SGDR: Stochastic gradient descent with warm restarts, 2017.
    """
    if not isinstance(t_mul, float):
        raise TypeError(
            f"cosine_decay_restarts: t_mul must be a Python number, because it shapes the program, got {show(t_mul)}."
        )
    top, first = scalar(initial_learning_rate), scalar(first_decay_steps)
    m_mul, alpha = scalar(m_mul), scalar(alpha)

    def value(step: jax.Array) -> jax.Array:
        i, p = _period(step, first, t_mul)
        return top * _half_cosine(p, alpha, m_mul**i)

    return value


def _period(step: jax.Array, first: Scalar, t_mul: float) -> tuple[jax.Array, jax.Array]:
    """How many periods are complete, and the share of the present one that has passed."""
    if t_mul == 1:
        return step // first, step % first / first

    def start(i: jax.Array) -> jax.Array:
        return first * ((t_mul**i - 1) / (t_mul - 1))

    # the nearest restart: it may still be to come
    i = jnp.round(jnp.log1p(step / first * (t_mul - 1)) / math.log(t_mul))
    i = jnp.where(step < start(i), i - 1, i)
    return i, (step - start(i)) / (first * t_mul**i)


def _half_cosine(p: jax.Array, alpha: Scalar, height: Scalar = 1.0) -> jax.Array:
    return (1 - alpha) * height * (0.5 * (1 + jnp.cos(math.pi * p))) + alpha
