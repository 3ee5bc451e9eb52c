"""Stochastic gradient descent with momentum."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._algorithms._trace import scale_by_trace
from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, by_rows, leafwise
from jaxopt_suite._optimizer import Common, optimizer
from jaxopt_suite._recipe.check import is_zero
from jaxopt_suite._recipe.words import Fraction, Rate, scalar
from jaxopt_suite._stages.decay import is_off
from jaxopt_suite.state._layout import state_class


@state_class
class MomentumState(NamedTuple):
    m: jax.Array


@transform()
def scale_by_momentum(momentum: Fraction = 0.0, *, nesterov: bool = False) -> Rule:
    """Momentum with the rate inside: `m <- momentum * m - rate * g`.

    The step is `m`, or with `nesterov` `momentum * m - rate * g`. Without momentum there is no slot.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_momentum(0.5, nesterov=True)
    >>> tx.update(jnp.array(1.0), tx.init(jnp.array(0.0)))[0]
    Array(1.5, dtype=float32)
    """
    if is_zero(momentum):
        return leafwise(None, None, lambda g, s, w, t: (-t.learning_rate * g, s), returns_update=True, elementwise=True)
    momentum = scalar(momentum)

    def init(w: jax.Array) -> MomentumState:
        return MomentumState(m=jnp.zeros_like(w))

    def update(g: jax.Array, s: MomentumState, w: jax.Array, t: Moment) -> tuple[jax.Array, MomentumState]:
        step = -t.learning_rate * g
        m = momentum * s.m + step
        return (momentum * m + step if nesterov else m), MomentumState(m)

    return leafwise(MomentumState, init, update, returns_update=True, elementwise=True)


@optimizer("SGD", shaping=("momentum",), dialects=("keras", "legacy", "torch"))
def sgd(learning_rate: Rate = 0.01, momentum: Fraction = 0.0, nesterov: bool = False, **common: Unpack[Common]) -> Rule:
    """Stochastic gradient descent, with momentum and Nesterov's look-ahead.

        m <- momentum * m - rate * g
        w <- w + m,    with nesterov:  w <- w + momentum * m - rate * g

    Unlike `optax.sgd` the rate is inside the momentum, which matters under a schedule. In the torch dialect it is
    not: `b <- momentum * b + g`, `w <- w - rate * b`, and `weight_decay` is a penalty in the gradient.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.sgd(0.1, momentum=0.5)
    >>> w, state = jnp.array(1.0), tx.init(jnp.array(1.0))
    >>> for _ in range(2):
    ...     w, state = tx.apply_gradients(jnp.array(1.0), state, w)
    >>> w
    Array(0.75, dtype=float32)

    Reference: Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013.
    """
    scaled = scale_by_trace.rule if common.get("dialect") == "torch" else scale_by_momentum.rule
    rule = scaled(momentum, nesterov=nesterov)
    if is_zero(momentum) and is_off(common.get("weight_decay")):
        return dataclasses.replace(rule, on_values=True)  # rows that come twice need not be added up before
    return by_rows(rule) if common.get("dialect") == "legacy" else rule
