"""Momentum with the rate outside, as in PyTorch."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, leafwise
from jaxopt_suite._recipe.check import is_zero
from jaxopt_suite._recipe.words import Fraction, Number, scalar
from jaxopt_suite.state._layout import state_class


@state_class
class TraceState(NamedTuple):
    trace: jax.Array


@transform()
def scale_by_trace(momentum: Fraction = 0.0, *, nesterov: bool = False) -> Rule:
    """Momentum of the gradients, without the rate: `b <- momentum * b + g`, as in PyTorch and Optax.

    The direction is `b`, or with `nesterov` `g + momentum * b`. Without momentum there is no slot.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_trace(0.5, nesterov=True)
    >>> tx.update(jnp.array(1.0), tx.init(jnp.array(0.0)))[0]
    Array(1.5, dtype=float32)
    """
    if is_zero(momentum):
        return leafwise(None, None, lambda g, s, w, t: (g, s), elementwise=True)
    momentum = scalar(momentum)

    def init(w: jax.Array) -> TraceState:
        return TraceState(trace=jnp.zeros_like(w))

    def update(g: jax.Array, s: TraceState, w: jax.Array, t: Moment) -> tuple[jax.Array, TraceState]:
        b = momentum * s.trace + g
        return (g + momentum * b if nesterov else b), TraceState(b)

    return leafwise(TraceState, init, update, elementwise=True)


@state_class
class RMSpropTraceState(NamedTuple):
    v: jax.Array
    trace: jax.Array | None
    a: jax.Array | None


def traced_rmsprop(scaled: Rule, momentum: Number) -> Rule:
    """RMSprop from its rule without momentum: `b <- momentum * b + g / (sqrt(d) + epsilon)`."""
    assert scaled.slots is not None
    slots = scaled.slots

    def init(w: jax.Array) -> RMSpropTraceState:
        v, _, a = scaled.init(w)
        return RMSpropTraceState(v, None if is_zero(momentum) else jnp.zeros_like(w), a)

    def update(g: jax.Array, s: RMSpropTraceState, w: jax.Array, t: Moment) -> tuple[jax.Array, RMSpropTraceState]:
        unit = dataclasses.replace(t, learning_rate=jnp.ones_like(t.learning_rate))
        u, (v, _, a) = scaled.update(g, slots(s.v, None, s.a), w, unit)
        if s.trace is None:
            return -u, RMSpropTraceState(v, None, a)
        b = scalar(momentum) * s.trace - u
        return b, RMSpropTraceState(v, b, a)

    return leafwise(RMSpropTraceState, init, update, elementwise=True)
