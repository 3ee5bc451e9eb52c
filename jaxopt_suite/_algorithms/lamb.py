"""LAMB."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, leafwise
from jaxopt_suite._frame.roots import root
from jaxopt_suite._optimizer import Common, optimizer
from jaxopt_suite._recipe.words import Beta, NonNegative, Patterns, Rate, scalar
from jaxopt_suite._stages.decay import except_for, excluded, with_decay
from jaxopt_suite.state._layout import state_class

SENTENCES = {"exclude_from_layer_adaptation": "regexes (`re.search` on a path) whose steps are not scaled."}


@state_class
class LambState(NamedTuple):
    m: jax.Array
    v: jax.Array
    nonnegative = ("v",)


@transform(sentences=SENTENCES)
def scale_by_lamb(
    beta_1: Beta = 0.9,
    beta_2: Beta = 0.999,
    epsilon: NonNegative = 1e-7,
    weight_decay: NonNegative | None = 0.0,
    *,
    exclude_from_layer_adaptation: Patterns | None = None,
) -> Rule:
    """Adam's direction with decay added, scaled to the norm of the weights that it moves.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx, w = jos.transforms.scale_by_lamb(epsilon=0.0), jnp.array([3.0, 4.0, 0.0])
    >>> direction, _ = tx.update(jnp.array([8.0, 0.1, -0.2]), tx.init(w), w)
    >>> print(f"{jnp.linalg.norm(direction):.4f}")
    5.0000
    """
    beta_1, beta_2, epsilon = scalar(beta_1), scalar(beta_2), scalar(epsilon)

    def init(w: jax.Array) -> LambState:
        return LambState(m=jnp.zeros_like(w), v=jnp.zeros_like(w))

    def update(g: jax.Array, s: LambState, w: jax.Array, t: Moment) -> tuple[jax.Array, LambState]:
        m = s.m + (g - s.m) * (1 - beta_1)
        v = s.v + (g * g - s.v) * (1 - beta_2)
        mhat, vhat = m / (1 - beta_1**t.count), v / (1 - beta_2**t.count)
        return with_decay(mhat / (root(vhat) + epsilon), weight_decay, w), LambState(m, v)

    def adapted(g: jax.Array, s: LambState, w: jax.Array, t: Moment) -> tuple[jax.Array, LambState]:
        u, s = update(g, s, w, t)
        return _trust_ratio(w, u, t) * u, s

    plain = leafwise(LambState, init, update, reads_weights=True)
    adaptive = dataclasses.replace(plain, update=adapted)
    return except_for(adaptive, plain, excluded(exclude_from_layer_adaptation or ()))


def _trust_ratio(w: jax.Array, u: jax.Array, t: Moment) -> jax.Array:
    """The norm of `w` over that of `u`, or 1 where either is zero."""
    w_norm, u_norm = root(t.sum(w * w)), root(t.sum(u * u))
    usable = (w_norm > 0) & (u_norm > 0)
    return jnp.where(usable, w_norm / jnp.where(usable, u_norm, 1.0), 1.0)


@optimizer("Lamb", own_decay={"legacy": ("weight_decay",)}, sentences=SENTENCES)
def lamb(
    learning_rate: Rate = 0.001,
    beta_1: Beta = 0.9,
    beta_2: Beta = 0.999,
    epsilon: NonNegative = 1e-7,
    exclude_from_layer_adaptation: Patterns | None = None,
    **common: Unpack[Common],
) -> Rule:
    """LAMB: Adam whose step in each parameter has the norm of that parameter, for large batches.

        u = (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon)
        w <- w - rate * (||w|| / ||u||) * u              (the ratio is 1 where either norm is zero)

    Weights decay before the rule, as in Keras 3. The legacy dialect is TF Addons': `weight_decay * w` is part of
    `u`, as in the paper and in `optax.lamb`, and what does not decay is not adapted either, unless
    `exclude_from_layer_adaptation` says otherwise.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> w = {"bias": jnp.array([3.0, 4.0]), "kernel": jnp.array([3.0, 4.0])}
    >>> tx = jos.lamb(0.2, exclude_from_layer_adaptation="bias")
    >>> w, _ = tx.apply_gradients({"bias": jnp.ones(2), "kernel": jnp.ones(2)}, tx.init(w), w)
    >>> print(f"{w['bias'][0]:.4f} {w['kernel'][0]:.4f}")
    2.8000 2.2929

    Reference: You et al., Large batch optimization for deep learning, ICLR 2020.
    """
    if common.get("dialect") != "legacy":
        return scale_by_lamb.rule(beta_1, beta_2, epsilon, exclude_from_layer_adaptation=exclude_from_layer_adaptation)
    unadapted = exclude_from_layer_adaptation
    if unadapted is None:
        unadapted = common.get("exclude_from_weight_decay")
    decay = common.get("weight_decay")
    return scale_by_lamb.rule(beta_1, beta_2, epsilon, decay, exclude_from_layer_adaptation=unadapted)
