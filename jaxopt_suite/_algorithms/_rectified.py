"""What RAdam and AdaBelief share: the rectified direction, and a rate that warms up and decays."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxopt_suite._algorithms._correction import bias_correction
from jaxopt_suite._frame.leafwise import Moment
from jaxopt_suite._frame.roots import root
from jaxopt_suite._recipe.words import Number, Scalar, scalar

SENTENCES = {
    "rectify": "rectify the variance of the first steps, as RAdam does.",
    "sma_threshold": "length of the average of squares from which on it is used.",
    "total_steps": "steps of warm-up and decay together; 0 for neither.",
    "warmup_proportion": "share of `total_steps` in which the rate rises.",
    "min_lr": "rate after `total_steps`.",
}


def rectified(
    m: jax.Array,
    v: jax.Array,
    beta_1: Scalar,
    beta_2: Scalar,
    epsilon: Scalar,
    sma_threshold: Scalar,
    t: Moment,
    epsilon_hat: bool = False,
) -> jax.Array:
    """The direction from the moments `m` and `v`: once enough squares are averaged, over their root.

    The averages' length `s_t` says how much `v` is worth: below the threshold it is not used at all. `epsilon` is
    added to the root once it is corrected, or before that as "epsilon hat", as in PyTorch, whose corrections are
    accurate.
    """
    s, s_inf = sma_length(beta_2, t)
    r2 = (s - 4) * (s - 2) * s_inf / ((s_inf - 4) * (s_inf - 2) * s)
    m_hat = m / bias_correction(beta_1, t, epsilon_hat)
    correction = root(bias_correction(beta_2, t, epsilon_hat))
    divisor = (root(v) + epsilon) / correction if epsilon_hat else root(v) / correction + epsilon
    return jnp.where(s >= sma_threshold, root(jnp.maximum(r2, 0)) * m_hat / divisor, m_hat)


def sma_length(beta_2: Scalar, t: Moment) -> tuple[jax.Array, Scalar]:
    """The length of the moving average of the squares, `s_t = s - 2 t / (e^(x t) - 1)`, and `s`.

    Here `beta_2 = e^-x`. At first this is a small difference of large numbers, which in float32 loses four digits
    at `beta_2 = 0.999`; there it is `t + (h(x) - h(x t)) 2 / x`, where nothing cancels.
    """
    x = -math.log(max(beta_2, 1e-30)) if isinstance(beta_2, float) else -jnp.log(jnp.maximum(beta_2, 1e-30))
    s_inf, xt = 2 / (1 - beta_2) - 1, x * t.count
    return jnp.where(xt < 0.25, t.count + (_h(x) - _h(xt)) * (2 / x), s_inf - 2 * t.count / jnp.expm1(xt)), s_inf


def _h(x: Scalar) -> Scalar:
    """`x / (e^x - 1) - 1 + x / 2` for small `x`, by its series in the Bernoulli numbers."""
    x2 = x * x
    return x2 * (1 / 12 - x2 * (1 / 720 - x2 * (1 / 30240 - x2 * (1 / 1209600 - x2 / 47900160))))


def check_warm_up(owner: str, total_steps: int, min_lr: Number) -> None:
    """Refuses a rate to fall to where the rate does not fall."""
    if not total_steps and isinstance(min_lr, float) and min_lr:
        raise ValueError(f"{owner}: min_lr acts only with total_steps, got {min_lr} alone.")


def warm_up(total_steps: int, warmup_proportion: Number, min_lr: Number) -> Callable[[Moment], jax.Array]:
    """The rate of a step: up to the given one in a share of `total_steps`, and down to `min_lr` in the others."""
    proportion, lowest = scalar(warmup_proportion), scalar(min_lr)

    def rate(t: Moment) -> jax.Array:
        rising = total_steps * proportion
        falling = jnp.maximum(total_steps - rising, 1)
        up = t.learning_rate * (t.count / jnp.maximum(rising, 1))  # used from a rise of one step on
        down = t.learning_rate + (lowest - t.learning_rate) * jnp.minimum((t.count - rising) / falling, 1)
        return jnp.where(t.count <= rising, up, down)

    return rate if total_steps else lambda t: t.learning_rate
