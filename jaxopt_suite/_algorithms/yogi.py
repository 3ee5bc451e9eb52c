"""Yogi."""

from __future__ import annotations

from typing import Literal, NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, by_rows, leafwise
from jaxopt_suite._frame.roots import root
from jaxopt_suite._optimizer import Common, optimizer
from jaxopt_suite._recipe.check import is_zero
from jaxopt_suite._recipe.words import Beta, NonNegative, Rate, scalar
from jaxopt_suite.state._layout import state_class

SENTENCES = {"activation": "how the second moment follows the squared gradient."}


@state_class
class YogiState(NamedTuple):
    v: jax.Array
    m: jax.Array | None  # None where beta_1 is 0
    legacy_weights = (("v", "m"),)
    nonnegative = ("v",)


@transform(sentences=SENTENCES)
def scale_by_yogi(
    beta_1: Beta = 0.9,
    beta_2: Beta = 0.999,
    epsilon: NonNegative = 0.001,
    l1_regularization_strength: NonNegative = 0.0,
    l2_regularization_strength: NonNegative = 0.0,
    *,
    initial_accumulator_value: NonNegative = 1e-6,
    activation: Literal["sign", "tanh"] = "sign",
) -> Rule:
    """The direction of Yogi: the momentum over the root of a second moment that moves in bounded steps.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_yogi(beta_1=0.0, beta_2=0.0, epsilon=0.0, initial_accumulator_value=9.0)
    >>> print(f"{tx.update(jnp.array(4.0), tx.init(jnp.array(0.0)), jnp.array(0.0))[0]:.4f}")
    0.8000
    """
    l1, l2 = scalar(l1_regularization_strength), scalar(l2_regularization_strength)
    has_momentum, penalised = not is_zero(beta_1), not (is_zero(l1) and is_zero(l2))
    beta_1, beta_2, epsilon, start = scalar(beta_1), scalar(beta_2), scalar(epsilon), scalar(initial_accumulator_value)

    def init(w: jax.Array) -> YogiState:
        return YogiState(v=jnp.full_like(w, start), m=jnp.zeros_like(w) if has_momentum else None)

    def update(g: jax.Array, s: YogiState, w: jax.Array, t: Moment) -> tuple[jax.Array, YogiState]:
        m = g if s.m is None else beta_1 * s.m + (1 - beta_1) * g
        g2 = g * g
        toward = jnp.sign(g2 - s.v) if activation == "sign" else jnp.tanh(10 * (g2 - s.v))
        v = s.v + (1 - beta_2) * toward * g2
        alpha = root(1 - beta_2**t.count) / (1 - beta_1**t.count)
        p = t.learning_rate * alpha / (root(v) + epsilon)
        s = YogiState(v, None if s.m is None else m)
        if not penalised:
            return -p * m, s
        n = w - p * m
        return jnp.sign(n) * jnp.maximum(jnp.abs(n) - l1 * p, 0) / (1 + l2 * p) - w, s

    def absent(s: YogiState, w: jax.Array, t: Moment) -> tuple[None, YogiState]:
        return None, s._replace(m=None if s.m is None else s.m * beta_1)

    declared = {"returns_update": True, "reads_weights": penalised, "elementwise": True}
    return by_rows(leafwise(YogiState, init, update, absent=absent if has_momentum else None, **declared))


@optimizer("Yogi", aliases={"beta1": "beta_1", "beta2": "beta_2"}, sentences=SENTENCES)
def yogi(
    learning_rate: Rate = 0.01,
    beta_1: Beta = 0.9,
    beta_2: Beta = 0.999,
    epsilon: NonNegative = 0.001,
    l1_regularization_strength: NonNegative = 0.0,
    l2_regularization_strength: NonNegative = 0.0,
    initial_accumulator_value: NonNegative = 1e-6,
    activation: Literal["sign", "tanh"] = "sign",
    **common: Unpack[Common],
) -> Rule:
    """Yogi: Adam whose second moment grows as fast as squared gradients ask, but shrinks only slowly.

        m <- beta_1 m + (1 - beta_1) g,    v <- v + (1 - beta_2) sign(g^2 - v) g^2
        p  = rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) / (sqrt(v) + epsilon)
        w <- sign(n) max(|n| - l1 p, 0) / (1 + l2 p),    n = w - p m

    With `activation="tanh"` the sign is `tanh(10 (g^2 - v))`. Unlike `optax.yogi`, whose momentum starts at
    1e-6 as well, `epsilon` is added before bias correction, and there are the two penalties.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.yogi(0.1, initial_accumulator_value=4.0, l1_regularization_strength=9.0)
    >>> w = jnp.array([1.0, 0.1])
    >>> tx.apply_gradients(jnp.array([1.0, 1.0]), tx.init(w), w)[0].round(4)
    Array([0.8562, 0.    ], dtype=float32)

    Reference: Zaheer et al., Adaptive methods for nonconvex optimization, NeurIPS 2018.
    """
    return scale_by_yogi.rule(
        beta_1,
        beta_2,
        epsilon,
        l1_regularization_strength,
        l2_regularization_strength,
        initial_accumulator_value=initial_accumulator_value,
        activation=activation,
    )
