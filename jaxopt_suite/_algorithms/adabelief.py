"""AdaBelief."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._algorithms._rectified import SENTENCES, check_warm_up, rectified, warm_up
from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, by_rows, leafwise
from jaxopt_suite._frame.roots import root
from jaxopt_suite._optimizer import CommonBesidesDecay, optimizer
from jaxopt_suite._recipe.words import AtLeastFour, Beta, Count, Fraction, NonNegative, Rate, scalar
from jaxopt_suite._stages.decay import with_decay
from jaxopt_suite.state._layout import state_class


@state_class
class AdaBeliefState(NamedTuple):
    m: jax.Array
    v: jax.Array
    vhat: jax.Array | None
    nonnegative = ("v", "vhat")


@transform(sentences=SENTENCES)
def scale_by_adabelief(
    beta_1: Beta = 0.9,
    beta_2: Beta = 0.999,
    epsilon: NonNegative = 1e-14,
    weight_decay: NonNegative | None = 0.0,
    *,
    amsgrad: bool = False,
    rectify: bool = True,
    sma_threshold: AtLeastFour = 5.0,
    total_steps: Count = 0,
    warmup_proportion: Fraction = 0.1,
    min_lr: NonNegative = 0.0,
) -> Rule:
    """The direction of AdaBelief: the momentum over the root of how far gradients stray from it.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_adabelief(beta_1=0.5, beta_2=0.75, epsilon=0.0, rectify=False)
    >>> tx.update(jnp.array(-4.0), tx.init(jnp.array(0.0)), jnp.array(0.0))[0]
    Array(-2., dtype=float32)
    """
    check_warm_up("scale_by_adabelief", total_steps, min_lr)
    rate = warm_up(total_steps, warmup_proportion, min_lr)
    beta_1, beta_2, epsilon, threshold = scalar(beta_1), scalar(beta_2), scalar(epsilon), scalar(sma_threshold)

    def init(w: jax.Array) -> AdaBeliefState:
        return AdaBeliefState(jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros_like(w) if amsgrad else None)

    def update(g: jax.Array, s: AdaBeliefState, w: jax.Array, t: Moment) -> tuple[jax.Array, AdaBeliefState]:
        m = s.m + (g - s.m) * (1 - beta_1)
        v = s.v + ((jnp.square(g - m) - s.v) * (1 - beta_2) + epsilon)
        vhat = None if s.vhat is None else jnp.maximum(s.vhat, v)
        used = v if vhat is None else vhat
        if rectify:
            u = rectified(m, used, beta_1, beta_2, epsilon, threshold, t)
        else:
            v_hat = root(used) / root(1 - beta_2**t.count)
            u = m / (1 - beta_1**t.count) / (v_hat + epsilon)
        return -rate(t) * with_decay(u, weight_decay, w), AdaBeliefState(m, v, vhat)

    def absent(s: AdaBeliefState, w: jax.Array, t: Moment) -> tuple[None, AdaBeliefState]:
        return None, s._replace(m=s.m * beta_1, v=s.v * beta_2)

    declared = {"returns_update": True, "reads_weights": True, "elementwise": True}
    return by_rows(leafwise(AdaBeliefState, init, update, absent=absent, **declared))


@optimizer("AdaBelief", own_decay=("weight_decay",), sentences=SENTENCES)
def adabelief(
    learning_rate: Rate = 0.001,
    beta_1: Beta = 0.9,
    beta_2: Beta = 0.999,
    epsilon: NonNegative = 1e-14,
    weight_decay: NonNegative | None = 0.0,
    amsgrad: bool = False,
    rectify: bool = True,
    sma_threshold: AtLeastFour = 5.0,
    total_steps: Count = 0,
    warmup_proportion: Fraction = 0.1,
    min_lr: NonNegative = 0.0,
    **common: Unpack[CommonBesidesDecay],
) -> Rule:
    """AdaBelief: large steps where gradients are as the momentum expects, small ones where they are not.

        m <- m + (1 - beta_1) (g - m),    v <- beta_2 v + (1 - beta_2) (g - m)^2 + epsilon
        w <- w - rate * (m^ / (sqrt(v^) + epsilon) + weight_decay * w)

    where `m^` and `v^` are corrected for their bias; `epsilon` adds up in `v`. With `rectify` the direction is
    rectified as in `radam`, and `sma_threshold`, `total_steps`, `warmup_proportion` and `min_lr` are as there.
    `optax.adabelief` never rectifies.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.adabelief(0.1, beta_1=0.5, rectify=False)
    >>> w = jnp.array(1.0)
    >>> tx.apply_gradients(jnp.array(3.0), tx.init(w), w)[0].round(3)
    Array(0.8, dtype=float32)

    Reference: Zhuang et al., AdaBelief optimizer, NeurIPS 2020.
    """
    check_warm_up("adabelief", total_steps, min_lr)
    return scale_by_adabelief.rule(
        beta_1,
        beta_2,
        epsilon,
        weight_decay,
        amsgrad=amsgrad,
        rectify=rectify,
        sma_threshold=sma_threshold,
        total_steps=total_steps,
        warmup_proportion=warmup_proportion,
        min_lr=min_lr,
    )
