"""What RAdam and AdaBelief share: the rectified direction, and a rate that warms up and decays."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp


def rectified(m: Any, v: Any, beta_1: Any, beta_2: Any, epsilon: Any, sma_threshold: Any, t: Any) -> Any:
    """The direction from the moments `m` and `v`: once enough squares are averaged, over their root.

    The averages' length `s_t` says how much `v` is worth: below the threshold it is not used at all.
    """
    s, s_inf = sma_length(beta_2, t)
    r2 = (s - 4) * (s - 2) * s_inf / ((s_inf - 4) * (s_inf - 2) * s)
    m_hat = m / (1 - beta_1**t.count)
    v_hat = jnp.sqrt(v) / jnp.sqrt(1 - beta_2**t.count)
    return jnp.where(s >= sma_threshold, jnp.sqrt(jnp.maximum(r2, 0)) * m_hat / (v_hat + epsilon), m_hat)


def sma_length(beta_2: Any, t: Any) -> tuple[Any, Any]:
    """The length of the moving average of the squares, `s_t = s - 2 t / (e^(x t) - 1)`, and `s`.

    Here `beta_2 = e^-x`. At first this is a small difference of large numbers, which in float32 loses four digits
    at `beta_2 = 0.999`; there it is `t + (h(x) - h(x t)) 2 / x`, where nothing cancels.
    """
    x = -math.log(max(beta_2, 1e-30)) if isinstance(beta_2, float) else -jnp.log(jnp.maximum(beta_2, 1e-30))
    s_inf, xt = 2 / (1 - beta_2) - 1, x * t.count
    return jnp.where(xt < 0.25, t.count + (_h(x) - _h(xt)) * (2 / x), s_inf - 2 * t.count / jnp.expm1(xt)), s_inf


def _h(x: Any) -> Any:
    """`x / (e^x - 1) - 1 + x / 2` for small `x`, by its series in the Bernoulli numbers."""
    x2 = x * x
    return x2 * (1 / 12 - x2 * (1 / 720 - x2 * (1 / 30240 - x2 * (1 / 1209600 - x2 / 47900160))))


def warm_up(owner: str, total_steps: int, warmup_proportion: Any, min_lr: Any) -> Callable[[Any], Any]:
    """The rate of a step: up to the given one in a share of `total_steps`, and down to `min_lr` in the others."""
    if not total_steps:
        if isinstance(min_lr, float) and min_lr:
            raise ValueError(f"{owner}: min_lr acts only with total_steps, got {min_lr} alone.")
        return lambda t: t.learning_rate
    rising = total_steps * warmup_proportion
    falling = jnp.maximum(total_steps - rising, 1)

    def rate(t: Any) -> Any:
        up = t.learning_rate * (t.count / rising)
        down = t.learning_rate + (min_lr - t.learning_rate) * jnp.minimum((t.count - rising) / falling, 1)
        return jnp.where(t.count <= rising, up, down)

    return rate
