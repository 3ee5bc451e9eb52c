"""AdaBelief."""

from typing import Any, NamedTuple, Unpack

import jax.numpy as jnp

from jaxopt_suite._arguments import CommonBesidesDecay
from jaxopt_suite._frame import Transformation, transform
from jaxopt_suite._leafwise import Rule, leafwise
from jaxopt_suite._optimizer import optimizer
from jaxopt_suite.optimizers._rectified import rectified, warm_up
from jaxopt_suite.transforms.decay import with_decay


class AdaBeliefState(NamedTuple):
    m: Any
    v: Any
    vhat: Any


@transform()
def scale_by_adabelief(
    beta_1: Any = 0.9,
    beta_2: Any = 0.999,
    epsilon: Any = 1e-14,
    weight_decay: Any = 0.0,
    *,
    amsgrad: bool = False,
    rectify: bool = True,
    sma_threshold: Any = 5.0,
    total_steps: int = 0,
    warmup_proportion: Any = 0.1,
    min_lr: Any = 0.0,
) -> Rule:
    """The direction of AdaBelief: the momentum over the root of how far gradients stray from it.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_adabelief(beta_1=0.5, beta_2=0.75, epsilon=0.0, rectify=False)
    >>> tx.update(jnp.array(-4.0), tx.init(jnp.array(0.0)), jnp.array(0.0))[0]
    Array(-2., dtype=float32)
    """
    rate = warm_up("adabelief", total_steps, warmup_proportion, min_lr)

    def init(w: Any) -> AdaBeliefState:
        return AdaBeliefState(jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros_like(w) if amsgrad else None)

    def update(g: Any, s: AdaBeliefState, w: Any, t: Any) -> tuple[Any, AdaBeliefState]:
        m = s.m + (g - s.m) * (1 - beta_1)
        v = s.v + ((jnp.square(g - m) - s.v) * (1 - beta_2) + epsilon)
        vhat = jnp.maximum(s.vhat, v) if amsgrad else None
        used: Any = vhat if amsgrad else v
        if rectify:
            u = rectified(m, used, beta_1, beta_2, epsilon, sma_threshold, t)
        else:
            v_hat = jnp.sqrt(used) / jnp.sqrt(1 - beta_2**t.count)
            u = m / (1 - beta_1**t.count) / (v_hat + epsilon)
        return -rate(t) * with_decay(u, weight_decay, w), AdaBeliefState(m, v, vhat)

    return leafwise(AdaBeliefState, init, update, emits_step=True, reads_weights=True)


@optimizer("AdaBelief", own_decay=("weight_decay",))
def adabelief(
    learning_rate: Any = 0.001,
    beta_1: Any = 0.9,
    beta_2: Any = 0.999,
    epsilon: Any = 1e-14,
    weight_decay: Any = 0.0,
    amsgrad: bool = False,
    rectify: bool = True,
    sma_threshold: Any = 5.0,
    total_steps: int = 0,
    warmup_proportion: Any = 0.1,
    min_lr: Any = 0.0,
    **common: Unpack[CommonBesidesDecay],
) -> Transformation:
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
    return scale_by_adabelief(
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
