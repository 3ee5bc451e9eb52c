"""Rectified Adam."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._algorithms._rectified import SENTENCES, check_warm_up, rectified, warm_up
from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, by_rows, leafwise
from jaxopt_suite._optimizer import CommonBesidesDecay, optimizer
from jaxopt_suite._recipe.words import AtLeastFour, Beta, Count, Fraction, NonNegative, Rate, scalar
from jaxopt_suite._stages.decay import with_decay
from jaxopt_suite.state._layout import state_class

EPSILON_HAT = {"epsilon_hat": "add epsilon to the root before it is corrected for its bias."}


@state_class
class RectifiedAdamState(NamedTuple):
    m: jax.Array
    v: jax.Array
    vhat: jax.Array | None
    nonnegative = ("v", "vhat")


@transform(sentences={**SENTENCES, **EPSILON_HAT})
def scale_by_radam(
    beta_1: Beta = 0.9,
    beta_2: Beta = 0.999,
    epsilon: NonNegative = 1e-7,
    weight_decay: NonNegative | None = 0.0,
    *,
    amsgrad: bool = False,
    sma_threshold: AtLeastFour = 5.0,
    total_steps: Count = 0,
    warmup_proportion: Fraction = 0.1,
    min_lr: NonNegative = 0.0,
    epsilon_hat: bool = False,
) -> Rule:
    """The direction of RAdam: at first that of the momentum, later Adam's.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_radam()
    >>> tx.update(jnp.array(-4.0), tx.init(jnp.array(0.0)), jnp.array(0.0))[0].round(4)
    Array(-4., dtype=float32)
    """
    check_warm_up("scale_by_radam", total_steps, min_lr)
    rate = warm_up(total_steps, warmup_proportion, min_lr)
    beta_1, beta_2, epsilon, threshold = scalar(beta_1), scalar(beta_2), scalar(epsilon), scalar(sma_threshold)

    def init(w: jax.Array) -> RectifiedAdamState:
        return RectifiedAdamState(jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros_like(w) if amsgrad else None)

    def update(g: jax.Array, s: RectifiedAdamState, w: jax.Array, t: Moment) -> tuple[jax.Array, RectifiedAdamState]:
        m = s.m + (g - s.m) * (1 - beta_1)
        v = s.v + (g * g - s.v) * (1 - beta_2)
        vhat = None if s.vhat is None else jnp.maximum(s.vhat, v)
        u = rectified(m, v if vhat is None else vhat, beta_1, beta_2, epsilon, threshold, t, epsilon_hat)
        return -rate(t) * with_decay(u, weight_decay, w), RectifiedAdamState(m, v, vhat)

    absent = lambda s, w, t: (None, s._replace(m=s.m * beta_1, v=s.v * beta_2))  # noqa: E731
    declared = {"returns_update": True, "reads_weights": True, "elementwise": True, "absent": absent}
    return by_rows(leafwise(RectifiedAdamState, init, update, **declared))


@optimizer("RectifiedAdam", own_decay=("weight_decay",), sentences=SENTENCES, dialects=("keras", "legacy", "torch"))
def radam(
    learning_rate: Rate = 0.001,
    beta_1: Beta = 0.9,
    beta_2: Beta = 0.999,
    epsilon: NonNegative = 1e-7,
    weight_decay: NonNegative | None = 0.0,
    amsgrad: bool = False,
    sma_threshold: AtLeastFour = 5.0,
    total_steps: Count = 0,
    warmup_proportion: Fraction = 0.1,
    min_lr: NonNegative = 0.0,
    decoupled_weight_decay: bool | None = None,
    **common: Unpack[CommonBesidesDecay],
) -> Rule:
    """RAdam: Adam that trusts its second moment only as far as enough gradients are averaged in it.

        m <- m + (1 - beta_1) (g - m),    v <- v + (1 - beta_2) (g^2 - v)
        s_t = s - 2 t beta_2^t / (1 - beta_2^t),    s = 2 / (1 - beta_2) - 1
        u = r m^ / (sqrt(v^) + epsilon)  if s_t >= sma_threshold,  else m^
        r = sqrt((s_t - 4) (s_t - 2) s / ((s - 4) (s - 2) s_t))
        w <- w - rate * (u + weight_decay * w)

    where `m^` and `v^` are corrected for their bias. With `total_steps` the rate rises linearly in the first
    `warmup_proportion` of them and then falls to `min_lr`. Unlike `optax.radam` the decay is inside, and `s_t`
    is computed without the cancellation that costs float32 four digits at `beta_2 = 0.999`. In the torch dialect
    `weight_decay` is a penalty in the gradient, but with `decoupled_weight_decay`, and `epsilon` is added before bias
    correction.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.radam(1.0, beta_1=0.0)
    >>> w, state = jnp.array(0.0), tx.init(jnp.array(0.0))
    >>> for _ in range(6):
    ...     step, state = tx.update(jnp.array(5.0), state, w)
    ...     print(f"{step:.3f}", end=" ")
    -5.000 -5.000 -5.000 -5.000 -5.000 -0.026

    Reference: Liu et al., On the variance of the adaptive learning rate and beyond, ICLR 2020.
    """
    check_warm_up("radam", total_steps, min_lr)
    return scale_by_radam.rule(
        beta_1,
        beta_2,
        epsilon,
        weight_decay,
        amsgrad=amsgrad,
        sma_threshold=sma_threshold,
        total_steps=total_steps,
        warmup_proportion=warmup_proportion,
        min_lr=min_lr,
        epsilon_hat=common.get("dialect") == "torch",
    )
