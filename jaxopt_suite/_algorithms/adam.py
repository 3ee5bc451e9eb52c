"""Adam."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._algorithms._correction import ACCURATE, bias_correction
from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, leafwise
from jaxopt_suite._frame.roots import root
from jaxopt_suite._optimizer import Common, optimizer
from jaxopt_suite._recipe.words import Beta, NonNegative, Rate, scalar
from jaxopt_suite.state._layout import state_class

SENTENCES = {"epsilon_hat": "add epsilon to the root before it is corrected for its bias.", "accurate": ACCURATE}

OF_DIALECT = {"torch": {"epsilon_hat": False, "accurate": True}}


@state_class
class AdamState(NamedTuple):
    m: jax.Array
    v: jax.Array
    vhat: jax.Array | None
    weights = (("m", "v"), ("vhat",))
    nonnegative = ("v", "vhat")


@transform(sentences=SENTENCES)
def scale_by_adam(
    beta_1: Beta = 0.9,
    beta_2: Beta = 0.999,
    epsilon: NonNegative = 1e-7,
    *,
    amsgrad: bool = False,
    epsilon_hat: bool = True,
    accurate: bool = False,
) -> Rule:
    """The direction of Adam, with `epsilon` as "epsilon hat": it is added to `sqrt(v)` before bias correction.

    Without `epsilon_hat` it is added to the corrected root, as in PyTorch and Optax.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_adam(epsilon=0.0)
    >>> tx.update(jnp.array(-4.0), tx.init(jnp.array(0.0)))[0].round(4)
    Array(-1., dtype=float32)
    """
    beta_1, beta_2, epsilon = scalar(beta_1), scalar(beta_2), scalar(epsilon)

    def init(w: jax.Array) -> AdamState:
        return AdamState(m=jnp.zeros_like(w), v=jnp.zeros_like(w), vhat=jnp.zeros_like(w) if amsgrad else None)

    def update(g: jax.Array, s: AdamState, w: jax.Array, t: Moment) -> tuple[jax.Array, AdamState]:
        m = s.m + (g - s.m) * (1 - beta_1)
        v = s.v + (g * g - s.v) * (1 - beta_2)
        vhat = None if s.vhat is None else jnp.maximum(s.vhat, v)
        correction = root(bias_correction(beta_2, t, accurate))
        added = epsilon if epsilon_hat else epsilon * correction
        alpha = correction / bias_correction(beta_1, t, accurate)
        return alpha * m / (root(v if vhat is None else vhat) + added), AdamState(m, v, vhat)

    return leafwise(AdamState, init, update, elementwise=True)


@optimizer("Adam", dialects=("keras", "legacy", "torch"))
def adam(
    learning_rate: Rate = 0.001,
    beta_1: Beta = 0.9,
    beta_2: Beta = 0.999,
    epsilon: NonNegative = 1e-7,
    amsgrad: bool = False,
    **common: Unpack[Common],
) -> Rule:
    """Adam: adaptive moments, optionally AMSGrad.

        m <- m + (1 - beta_1) (g - m),    v <- v + (1 - beta_2) (g^2 - v)
        w <- w - rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)

    `epsilon` is the paper's "epsilon hat". Unlike `optax.adam`, which adds it after bias correction, it weighs
    more in early steps; and AMSGrad here takes the largest `v` before bias correction. The torch dialect is
    PyTorch's, `epsilon` after it too, and its `weight_decay` a penalty in the gradient; with `lazy` slices go through
    PyTorch's `SparseAdam`, which has the "epsilon hat".

    >>> import jax, jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.adam(learning_rate=0.1)
    >>> w = jnp.array(10.0)
    >>> w, state, loss = tx.minimize(lambda w: w**2 / 2, tx.init(w), w)
    >>> print(f"{w:.5f} {loss:.1f}")
    9.90000 50.0

    Reference: Kingma and Ba, Adam, 2014; Reddi et al., On the convergence of Adam and beyond, 2018.
    """
    dialect = common.get("dialect", "keras")
    build = functools.partial(scale_by_adam.rule, beta_1, beta_2, epsilon, amsgrad=amsgrad)
    rule = build(**OF_DIALECT.get(dialect, {}))
    if dialect == "torch" and common.get("lazy"):
        return dataclasses.replace(rule, rows=build(epsilon_hat=True, accurate=True))  # SparseAdam
    return rule
