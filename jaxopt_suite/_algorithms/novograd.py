"""NovoGrad."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, by_rows, leafwise
from jaxopt_suite._frame.roots import root
from jaxopt_suite._optimizer import CommonBesidesDecay, optimizer
from jaxopt_suite._recipe.words import Beta, NonNegative, Rate, scalar
from jaxopt_suite._stages.decay import with_decay
from jaxopt_suite.state._layout import state_class

SENTENCES = {"grad_averaging": "weigh the normalised gradient by `1 - beta_1`, as Adam does."}


@state_class
class NovoGradState(NamedTuple):
    m: jax.Array
    v: jax.Array  # one number per parameter
    vhat: jax.Array | None
    weights = (("m",), ("v",), ("vhat",))
    nonnegative = ("v", "vhat")


@transform(sentences=SENTENCES)
def scale_by_novograd(
    beta_1: Beta = 0.9,
    beta_2: Beta = 0.999,
    epsilon: NonNegative = 1e-7,
    weight_decay: NonNegative | None = 0.0,
    *,
    grad_averaging: bool = False,
    amsgrad: bool = False,
) -> Rule:
    """The direction of NovoGrad: each parameter's gradient over the running norm of that gradient.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_novograd(epsilon=0.0)
    >>> tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)), jnp.zeros(2))[0]
    Array([0.6, 0.8], dtype=float32)
    """
    beta_1, beta_2, epsilon = scalar(beta_1), scalar(beta_2), scalar(epsilon)

    def init(w: jax.Array) -> NovoGradState:
        return NovoGradState(m=jnp.zeros_like(w), v=jnp.zeros((), w.dtype), vhat=jnp.zeros_like(w) if amsgrad else None)

    def update(g: jax.Array, s: NovoGradState, w: jax.Array, t: Moment) -> tuple[jax.Array, NovoGradState]:
        first = t.step == 1
        g2 = t.sum(g * g)
        v = jnp.where(first, g2, beta_2 * s.v + (1 - beta_2) * g2)
        vhat = None if s.vhat is None else jnp.maximum(s.vhat, v)
        u = with_decay(g / (root(v if vhat is None else vhat) + epsilon), weight_decay, w)
        if grad_averaging:
            u = u * jnp.where(first, 1.0, 1 - beta_1)
        m = beta_1 * s.m - t.learning_rate * u
        return m, NovoGradState(m, v, vhat)

    return by_rows(leafwise(NovoGradState, init, update, returns_update=True, reads_weights=True))


@optimizer("NovoGrad", own_decay=("weight_decay",), sentences=SENTENCES)
def novograd(
    learning_rate: Rate = 0.001,
    beta_1: Beta = 0.9,
    beta_2: Beta = 0.999,
    epsilon: NonNegative = 1e-7,
    weight_decay: NonNegative | None = 0.0,
    grad_averaging: bool = False,
    amsgrad: bool = False,
    **common: Unpack[CommonBesidesDecay],
) -> Rule:
    """NovoGrad: layer-wise normalised gradients with momentum and decoupled weight decay.

        v <- beta_2 v + (1 - beta_2) ||g||^2        (one number per parameter; v_1 = ||g_1||^2)
        u  = g / (sqrt(v) + epsilon) + weight_decay * w
        m <- beta_1 m - rate * u,    w <- w + m

    With `grad_averaging`, `u` is multiplied by `1 - beta_1` from the second step on. The rate is inside the
    momentum, as TF Addons computes it (its documentation has it outside), unlike `optax.novograd`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.novograd(0.1, weight_decay=0.5)
    >>> tx.apply_gradients(jnp.array([3.0, 4.0]), tx.init(jnp.ones(2)), jnp.ones(2))[0]
    Array([0.89, 0.87], dtype=float32)

    Reference: Ginsburg et al., Stochastic gradient methods with layer-wise adaptive moments, 2019.
    """
    return scale_by_novograd.rule(beta_1, beta_2, epsilon, weight_decay, grad_averaging=grad_averaging, amsgrad=amsgrad)
