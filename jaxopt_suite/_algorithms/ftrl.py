"""FTRL-Proximal."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, by_rows, leafwise
from jaxopt_suite._frame.roots import power
from jaxopt_suite._optimizer import Common, optimizer
from jaxopt_suite._recipe.words import NonNegative, NonPositive, Rate, scalar
from jaxopt_suite.state._layout import state_class

SENTENCES = {
    "learning_rate_power": "power of the accumulator that divides the rate.",
    "l2_shrinkage_regularization_strength": "weight of the squares in a penalty on the gradient.",
    "beta": "smoothing of the rate, as a further l2 penalty.",
}


@state_class
class FtrlState(NamedTuple):
    n: jax.Array
    z: jax.Array
    legacy_weights = (("n", "z"),)
    nonnegative = ("n",)
    holds_weights = ("n", "z")


@transform(sentences=SENTENCES)
def scale_by_ftrl(
    learning_rate_power: NonPositive = -0.5,
    initial_accumulator_value: NonNegative = 0.1,
    l1_regularization_strength: NonNegative = 0.0,
    l2_regularization_strength: NonNegative = 0.0,
    l2_shrinkage_regularization_strength: NonNegative = 0.0,
    beta: NonNegative = 0.0,
) -> Rule:
    """The direction to the weights that would have been best so far; used alone, it is that of a rate of 1.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_ftrl(l1_regularization_strength=5.0)
    >>> print(f"{tx.update(jnp.array(9.0), tx.init(jnp.array(0.0)), jnp.array(0.0))[0]:.4f}")
    0.4442
    """
    start, p, beta = scalar(initial_accumulator_value), scalar(learning_rate_power), scalar(beta)
    l1, constant_l2 = scalar(l1_regularization_strength), scalar(l2_regularization_strength)
    shrinkage = scalar(l2_shrinkage_regularization_strength)

    def init(w: jax.Array) -> FtrlState:
        return FtrlState(n=jnp.full_like(w, start), z=jnp.zeros_like(w))

    def update(g: jax.Array, s: FtrlState, w: jax.Array, t: Moment) -> tuple[jax.Array, FtrlState]:
        still = t.learning_rate == 0  # then everything stays, as without a gradient
        rate, g = jnp.where(still, 1, t.learning_rate), jnp.where(still, 0, g)
        n = s.n + g * g
        r, old_r = power(n, -p), power(s.n, -p)
        z = s.z + (g + jnp.where(still, 0, 2 * shrinkage) * w) - (r - old_r) / rate * w
        l2 = constant_l2 + beta / (2 * rate)
        curvature = r / rate + 2 * l2
        best = (jnp.clip(z, -l1, l1) - z) / jnp.where(curvature > 0, curvature, jnp.inf)
        return jnp.where(still, 0, best - w), FtrlState(n, z)

    return leafwise(FtrlState, init, update, returns_update=True, reads_weights=True, elementwise=True)


@optimizer("Ftrl", sentences=SENTENCES)
def ftrl(
    learning_rate: Rate = 0.001,
    learning_rate_power: NonPositive = -0.5,
    initial_accumulator_value: NonNegative = 0.1,
    l1_regularization_strength: NonNegative = 0.0,
    l2_regularization_strength: NonNegative = 0.0,
    l2_shrinkage_regularization_strength: NonNegative = 0.0,
    beta: NonNegative = 0.0,
    **common: Unpack[Common],
) -> Rule:
    """FTRL-Proximal: follow the regularised leader, with weights that are exactly zero under `l1`.

        n' = n + g^2,    r = n'^(-p) / rate              (p is learning_rate_power)
        z <- z + g + 2 shrinkage w - (r - n^(-p) / rate) w
        w <- (clip(z, -l1, l1) - z) / (r + 2 l2 + beta / rate)

    The first step forgets the weights it began with: `z` starts at zero. While the rate is 0, weights and slots
    stay as they are; and an entry that never had a gradient may have an accumulator of zero: its weight is 0. In
    Keras both are NaN. Optax has no counterpart.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx, w = jos.ftrl(0.5, l1_regularization_strength=1.0), {"a": jnp.array(0.0), "b": jnp.array(0.0)}
    >>> w, _ = tx.apply_gradients({"a": jnp.array(2.0), "b": jnp.array(0.5)}, tx.init(w), w)
    >>> print(f"{w['a']:.4f} {w['b']}")
    -0.2469 0.0

    Reference: McMahan et al., Ad click prediction: a view from the trenches, KDD 2013.
    """
    rule = scale_by_ftrl.rule(
        learning_rate_power,
        initial_accumulator_value,
        l1_regularization_strength,
        l2_regularization_strength,
        l2_shrinkage_regularization_strength,
        beta,
    )
    return by_rows(rule) if common.get("dialect") == "legacy" else rule
