"""Lookahead: slow weights that follow the fast ones."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import Inner, transform, wrapper
from jaxopt_suite._frame.leafwise import Moment, Rule, leafwise
from jaxopt_suite._frame.stages import AnyStage, Place
from jaxopt_suite._recipe.words import Fraction, Period, Text, scalar
from jaxopt_suite.state._layout import state_class

SENTENCES = {
    "sync_period": "steps between two updates of the slow weights.",
    "slow_step_size": "step of the slow weights towards the fast ones.",
}


@state_class
class LookaheadState(NamedTuple):
    """The slow weights."""

    slow: jax.Array
    weights_rank = 0
    holds_weights = ("slow",)


@transform(Place.AVERAGE, sentences=SENTENCES)
def slow_weights(sync_period: Period = 6, slow_step_size: Fraction = 0.5) -> Rule:
    """Every `sync_period` steps the slow weights step towards the parameters, which start again from there.

    It needs the parameters after the step, so it must come last in an `optax.chain`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.slow_weights(sync_period=1, slow_step_size=0.25)
    >>> tx.update(jnp.array(-4.0), tx.init(jnp.array(2.0)), jnp.array(2.0))[0]
    Array(-1., dtype=float32)
    """
    step_size = scalar(slow_step_size)

    def init(w: jax.Array) -> LookaheadState:
        return LookaheadState(slow=w)

    def update(x: jax.Array, s: LookaheadState, w: jax.Array, t: Moment) -> tuple[jax.Array, LookaheadState]:
        sync = t.step % sync_period == 0
        x = jnp.where(sync, s.slow + step_size * (w + x - s.slow) - w, x)
        return x, LookaheadState(slow=jnp.where(sync, w + x, s.slow))

    return leafwise(LookaheadState, init, update, reads_weights=True)


@wrapper("Lookahead", sentences=SENTENCES)
def lookahead(
    optimizer: Inner, sync_period: Period = 6, slow_step_size: Fraction = 0.5, name: Text | None = None
) -> AnyStage:
    """Lookahead: the optimizer explores, and slow weights follow it.

        every k = sync_period steps:    slow <- slow + slow_step_size * (w - slow),    w <- slow

    The slow weights start as the parameters. Unlike in TF Addons the wrapped optimizer's own clipping acts; and
    unlike `optax.lookahead` it takes and gives plain parameters, not a pair of them.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.lookahead(jos.sgd(1.0), sync_period=2, slow_step_size=0.25)
    >>> w, state = jnp.array(0.0), tx.init(jnp.array(0.0))
    >>> for _ in range(4):
    ...     w, state = tx.apply_gradients(jnp.array(1.0), state, w)
    ...     print(w, end=" ")
    -1.0 -0.5 -1.5 -1.0

    Reference: Zhang et al., Lookahead optimizer: k steps forward, 1 step back, NeurIPS 2019.
    """
    return slow_weights.stage(sync_period, slow_step_size)
