"""Schedules of one rise and one fall: one cycle, and warm-up, plateau and decay."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import jax
import jax.numpy as jnp

from jaxopt_suite._frame.roots import root
from jaxopt_suite._recipe.words import Count, Fraction, NonNegative, Period, Positive, Text, scalar
from jaxopt_suite.schedules._decay import progress
from jaxopt_suite.schedules._schedule import FunctionOfStep, schedule


@schedule("OneCycle")
def one_cycle(
    maximal_learning_rate: NonNegative,
    total_steps: Period,
    pct_start: Fraction = 0.3,
    anneal_strategy: Literal["cos", "linear"] = "cos",
    div_factor: Positive = 25.0,
    final_div_factor: Positive = 1e4,
    three_phase: bool = False,
    name: Text | None = None,
) -> FunctionOfStep:
    """PyTorch's `OneCycleLR`: up to the highest rate, and down to almost nothing, along half a cosine each.

        a = maximal_learning_rate / div_factor,    z = a / final_div_factor,    e = pct_start * total_steps - 1

    It rises from `a` to the highest rate at step `e`, and falls to `z` at step `total_steps - 1`; with `three_phase` it
    falls to `a` at step `2 e` first. Behind its last step the rate stays, where PyTorch raises.
    `optax.cosine_onecycle_schedule` ends one step later, at `total_steps`, and has its peak at
    `int(pct_start * total_steps)`. PyTorch lets the momentum fall from 0.95 to 0.85 and rise again beside it:
    `one_cycle(0.85, total_steps, div_factor=0.85 / 0.95, final_div_factor=1.0)`.

    >>> import jaxopt_suite as jos
    >>> rate = jos.schedules.one_cycle(1.0, total_steps=11, pct_start=0.5, div_factor=4.0, anneal_strategy="linear")
    >>> [round(float(rate(step)), 4) for step in (0, 3, 4, 5, 10)]
    [0.25, 0.75, 0.9167, 0.9091, 0.0]

    Reference: Smith and Topin, Super-convergence: Very fast training of neural networks using large learning rates,
    2019.
    """
    rise = scalar(pct_start) * total_steps - 1
    ends = [rise, 2 * rise, total_steps - 1.0] if three_phase else [rise, total_steps - 1.0]
    if isinstance(rise, float) and any(end <= begin for begin, end in itertools.pairwise((0.0, *ends))):
        raise ValueError(
            f"one_cycle: pct_start must leave steps to each phase, got {pct_start} of {total_steps} steps, "
            f"by which they end at {ends}."
        )
    top = scalar(maximal_learning_rate)
    first = top / scalar(div_factor)
    rates = [first, top, first] if three_phase else [first, top]
    rates.append(first / scalar(final_div_factor))
    fall = _half_cosine if anneal_strategy == "cos" else _line

    def value(step: jax.Array) -> jax.Array:
        rate = jnp.float32(0)
        for begin, end, high, low in reversed([*zip((0.0, *ends), ends, rates, rates[1:], strict=False)]):
            here = low + (high - low) * fall(progress(jnp.maximum(step - begin, 0), end - begin))
            rate = here if end is ends[-1] else jnp.where(step <= end, here, rate)
        return rate

    return value


@schedule("WarmupStableDecay")
def warmup_stable_decay(
    maximal_learning_rate: NonNegative,
    warmup_steps: Count,
    stable_steps: Count,
    decay_steps: Positive,
    end_learning_rate: NonNegative = 0.0,
    shape: Literal["linear", "sqrt", "cosine", "exponential"] = "linear",
    name: Text | None = None,
) -> FunctionOfStep:
    """A line up from 0, a plateau, and a short fall at the end, to which a run may be taken from any point (WSD).

        m * k / W    for k < W,    m    for W <= k < T,    z + (m - z) * f(p) otherwise
        W = warmup_steps,    T = W + stable_steps,    p = min((k - T) / decay_steps, 1)

    at step `k`, from `m = maximal_learning_rate` to `z = end_learning_rate`, with `f = 1 - p` (linear), `1 - sqrt(p)`
    (sqrt) or `(1 + cos(pi p)) / 2` (cosine). `"exponential"`, the shape that was published first, is
    `m * (z / m) ** p`, which needs an end above 0: it halves the rate every `h` steps with
    `end_learning_rate = m * 0.5 ** (decay_steps / h)`.

    >>> import jaxopt_suite as jos
    >>> rate = jos.schedules.warmup_stable_decay(1.0, warmup_steps=4, stable_steps=6, decay_steps=4, shape="sqrt")
    >>> [float(rate(step)) for step in (0, 2, 4, 10, 11, 14)]
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]

    Reference: Hu et al., MiniCPM: Unveiling the potential of small language models with scalable training strategies,
    2024; its lines and roots: Hägele et al., Scaling laws and compute-optimal training beyond fixed training
    durations, 2024.
    """
    if shape == "exponential" and isinstance(end_learning_rate, float) and end_learning_rate == 0:
        raise ValueError("warmup_stable_decay: end_learning_rate must be > 0 for an exponential shape, got 0.0.")
    if shape == "exponential" and isinstance(maximal_learning_rate, float) and maximal_learning_rate == 0:
        raise ValueError("warmup_stable_decay: maximal_learning_rate must be > 0 for an exponential shape, got 0.0.")
    top, end, length = scalar(maximal_learning_rate), scalar(end_learning_rate), scalar(decay_steps)

    def value(step: jax.Array) -> jax.Array:
        p = progress(jnp.maximum(step - (warmup_steps + stable_steps), 0), length)
        fallen = top * (end / top) ** p if shape == "exponential" else end + (top - end) * _FALLS[shape](p)
        return fallen if warmup_steps == 0 else fallen * jnp.minimum(step / warmup_steps, 1)

    return value


def _line(p: jax.Array) -> jax.Array:
    return 1 - p


def _half_cosine(p: jax.Array) -> jax.Array:
    return 0.5 * (1 + jnp.cos(math.pi * p))


_FALLS = {"linear": _line, "sqrt": lambda p: 1 - root(p), "cosine": _half_cosine}
