"""Adamax."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._algorithms._correction import bias_correction
from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, by_rows, leafwise
from jaxopt_suite._optimizer import Common, optimizer
from jaxopt_suite._recipe.words import Beta, NonNegative, Rate, scalar
from jaxopt_suite.state._layout import state_class

SENTENCES = {"epsilon_in_max": "add epsilon to the absolute gradient, inside the maximum, and not to the maximum."}


@state_class
class AdamaxState(NamedTuple):
    m: jax.Array
    u: jax.Array
    nonnegative = ("u",)


@transform(sentences=SENTENCES)
def scale_by_adamax(
    beta_1: Beta = 0.9, beta_2: Beta = 0.999, epsilon: NonNegative = 1e-7, *, epsilon_in_max: bool = False
) -> Rule:
    """The mean of the gradients, divided by the largest of them; older ones count less.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_adamax(epsilon=1.0)
    >>> print(f"{tx.update(jnp.array(-4.0), tx.init(jnp.array(0.0)))[0]:.4f}")
    -0.8000
    """
    beta_1, beta_2, epsilon = scalar(beta_1), scalar(beta_2), scalar(epsilon)

    def init(w: jax.Array) -> AdamaxState:
        return AdamaxState(m=jnp.zeros_like(w), u=jnp.zeros_like(w))

    def update(g: jax.Array, s: AdamaxState, w: jax.Array, t: Moment) -> tuple[jax.Array, AdamaxState]:
        m = s.m + (g - s.m) * (1 - beta_1)
        inside, outside = (epsilon, 0.0) if epsilon_in_max else (0.0, epsilon)
        u = jnp.maximum(beta_2 * s.u, jnp.abs(g) + inside)
        return m / (bias_correction(beta_1, t, epsilon_in_max) * (u + outside)), AdamaxState(m, u)

    return leafwise(AdamaxState, init, update, elementwise=True)


@optimizer("Adamax", dialects=("keras", "legacy", "torch"))
def adamax(
    learning_rate: Rate = 0.001,
    beta_1: Beta = 0.9,
    beta_2: Beta = 0.999,
    epsilon: NonNegative = 1e-7,
    **common: Unpack[Common],
) -> Rule:
    """Adamax: Adam with the infinity norm in place of the second moment.

        m <- m + (1 - beta_1) (g - m),    u <- max(beta_2 u, |g|)
        w <- w - rate * m / ((1 - beta_1^t) (u + epsilon))

    Unlike `optax.adamax`, which adds `epsilon` to `|g|` inside the maximum, it is added afterwards; the torch
    dialect is as Optax.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.adamax(0.1, beta_2=0.5, epsilon=0.0)
    >>> w, state = jnp.array(1.0), tx.init(jnp.array(1.0))
    >>> for g in 8.0, 1.0:
    ...     w, state = tx.apply_gradients(jnp.array(g), state, w)
    >>> print(f"{w:.4f} {jos.state.get_slot(state, '', 'u')}")
    0.7921 4.0

    Reference: Kingma and Ba, Adam, section 7.1, 2014.
    """
    inside = common.get("dialect") == "torch"
    rule = scale_by_adamax.rule(beta_1, beta_2, epsilon, epsilon_in_max=inside)
    return by_rows(rule) if common.get("dialect") == "legacy" else rule
