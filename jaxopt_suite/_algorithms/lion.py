"""Lion."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, leafwise
from jaxopt_suite._optimizer import Common, optimizer
from jaxopt_suite._recipe.check import is_zero
from jaxopt_suite._recipe.words import Beta, Rate, scalar
from jaxopt_suite.state._layout import state_class


@state_class
class LionState(NamedTuple):
    m: jax.Array


@transform()
def scale_by_lion(beta_1: Beta = 0.9, beta_2: Beta = 0.99) -> Rule:
    """The sign of the momentum, in which the newest gradient weighs more than it does later.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_lion()
    >>> tx.update(jnp.array([0.2, -7.0, 0.0]), tx.init(jnp.zeros(3)))[0]
    Array([ 1., -1.,  0.], dtype=float32)
    """
    beta_1, beta_2 = scalar(beta_1), scalar(beta_2)

    def init(w: jax.Array) -> LionState:
        return LionState(m=jnp.zeros_like(w))

    def update(g: jax.Array, s: LionState, w: jax.Array, t: Moment) -> tuple[jax.Array, LionState]:
        c = beta_1 * s.m + (1 - beta_1) * g
        return jnp.sign(c), LionState(beta_2 * s.m + (1 - beta_2) * g)

    return leafwise(LionState, init, update, elementwise=True)


@optimizer("Lion")
def lion(learning_rate: Rate = 0.001, beta_1: Beta = 0.9, beta_2: Beta = 0.99, **common: Unpack[Common]) -> Rule:
    """Lion: the sign of a momentum, found by a search over programs; one slot, steps of one size.

        w <- w - rate * sign(beta_1 m + (1 - beta_1) g)
        m <- beta_2 m + (1 - beta_2) g

    `beta_1` is above zero, as Keras demands. `optax.lion` is the same, with a default decay of 0.001.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.lion(0.25, beta_1=0.5, beta_2=0.9)
    >>> w, state = jnp.zeros(2), tx.init(jnp.zeros(2))
    >>> for g in jnp.array([8.0, 8.0]), jnp.array([-0.5, -1.0]):
    ...     w, state = tx.apply_gradients(g, state, w)
    >>> w
    Array([-0.5,  0. ], dtype=float32)

    Reference: Chen et al., Symbolic discovery of optimization algorithms, 2023.
    """
    if is_zero(beta_1):
        raise ValueError("lion: beta_1 must be a number in (0, 1), got 0.0.")
    return scale_by_lion.rule(beta_1, beta_2)
