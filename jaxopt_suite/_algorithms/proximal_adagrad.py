"""Proximal Adagrad."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, by_rows, leafwise
from jaxopt_suite._frame.roots import root
from jaxopt_suite._optimizer import Common, optimizer
from jaxopt_suite._recipe.words import NonNegative, Rate, scalar
from jaxopt_suite.state._layout import state_class


@state_class
class ProximalAdagradState(NamedTuple):
    accumulator: jax.Array
    nonnegative = ("accumulator",)


@transform()
def scale_by_proximal_adagrad(
    initial_accumulator_value: NonNegative = 0.1,
    l1_regularization_strength: NonNegative = 0.0,
    l2_regularization_strength: NonNegative = 0.0,
) -> Rule:
    """The direction of `proximal_adagrad`, at rate 1: it leads to the proximal point of Adagrad's step.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_proximal_adagrad(7.0, l1_regularization_strength=1.0)
    >>> tx.update(jnp.array(3.0), tx.init(jnp.array(2.0)), jnp.array(2.0))[0]
    Array(1., dtype=float32)
    """
    l1, l2 = scalar(l1_regularization_strength), scalar(l2_regularization_strength)
    start = scalar(initial_accumulator_value)

    def init(w: jax.Array) -> ProximalAdagradState:
        return ProximalAdagradState(accumulator=jnp.full_like(w, start))

    def update(
        g: jax.Array, s: ProximalAdagradState, w: jax.Array, t: Moment
    ) -> tuple[jax.Array, ProximalAdagradState]:
        a = s.accumulator + g * g
        some = a > 0
        eta = jnp.where(some, t.learning_rate / root(jnp.where(some, a, 1)), 0)
        p = w - eta * g
        shrunk = jnp.sign(p) * jnp.maximum(jnp.abs(p) - eta * l1, 0) / (1 + eta * l2)
        return shrunk - w, ProximalAdagradState(a)

    declared = {"returns_update": True, "reads_weights": True, "elementwise": True}
    return by_rows(leafwise(ProximalAdagradState, init, update, **declared))


@optimizer("ProximalAdagrad")
def proximal_adagrad(
    learning_rate: Rate = 0.001,
    initial_accumulator_value: NonNegative = 0.1,
    l1_regularization_strength: NonNegative = 0.0,
    l2_regularization_strength: NonNegative = 0.0,
    **common: Unpack[Common],
) -> Rule:
    """Adagrad with penalties that are met exactly at each step, so that weights become zero.

        a <- a + g^2,    eta = rate / sqrt(a),    p = w - eta g
        w <- sign(p) max(|p| - eta l1, 0) / (1 + eta l2)

    Unlike TF Addons, whose step is then NaN, an entry that never had a gradient may start from an accumulator
    of zero: it stays where it is.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.proximal_adagrad(1.0, initial_accumulator_value=7.0, l1_regularization_strength=2.0)
    >>> w = jnp.array([2.0, 1.0])
    >>> tx.apply_gradients(jnp.array([3.0, 3.0]), tx.init(w), w)[0]
    Array([0.75, 0.  ], dtype=float32)

    Reference: Duchi and Singer, Efficient online and batch learning using forward backward splitting, JMLR 2009.
    """
    return scale_by_proximal_adagrad.rule(
        initial_accumulator_value, l1_regularization_strength, l2_regularization_strength
    )
