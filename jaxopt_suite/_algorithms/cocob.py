"""COCOB-Backprop."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, leafwise
from jaxopt_suite._optimizer import Common, optimizer
from jaxopt_suite._recipe.words import AtLeastOne, scalar
from jaxopt_suite.state._layout import state_class

SENTENCES = {"alpha": "factor in the formula above."}


@state_class
class CocobState(NamedTuple):
    L: jax.Array  # the largest gradient so far
    G: jax.Array  # the sum of the gradients' absolute values
    S: jax.Array  # the sum of the gradients
    bet: jax.Array  # how far the weight is from where it began
    reward: jax.Array
    legacy_weights = (("L", "G", "S", "bet", "reward"),)
    nonnegative = ("L", "G", "reward")
    holds_weights = ("L", "G", "S", "bet", "reward")


@transform(sentences=SENTENCES)
def scale_by_cocob(alpha: AtLeastOne = 100.0) -> Rule:
    """The step of COCOB with its sign turned: it is complete without a rate.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_cocob(alpha=4.0)
    >>> tx.update(jnp.array(-2.0), tx.init(jnp.array(0.0)))[0]
    Array(-0.25, dtype=float32)
    """
    alpha = scalar(alpha)

    def init(w: jax.Array) -> CocobState:
        zeros = jnp.zeros_like(w)
        return CocobState(L=jnp.full_like(w, 1e-8), G=zeros, S=zeros, bet=zeros, reward=zeros)

    def update(g: jax.Array, s: CocobState, w: jax.Array, t: Moment) -> tuple[jax.Array, CocobState]:
        L = jnp.maximum(s.L, jnp.abs(g))
        G = s.G + jnp.abs(g)
        S = s.S + g
        reward = s.reward - jnp.minimum(g * s.bet, s.reward)
        bet = -S / (L * jnp.maximum(G + L, alpha * L)) * (reward + L)
        return bet - s.bet, CocobState(L, G, S, bet, reward)

    return leafwise(CocobState, init, update, returns_update=True, elementwise=True)


@optimizer("COCOB", sentences=SENTENCES)
def cocob(alpha: AtLeastOne = 100.0, **common: Unpack[Common]) -> Rule:
    """COCOB-Backprop: a bet on the next gradient, with the gains so far as stake; there is no learning rate.

        L <- max(L, |g|),    G <- G + |g|,    S <- S + g,    R <- max(R - g b, 0)
        b' = -S / (L max(G + L, alpha L)) * (R + L),    w <- w - b + b'

    Without a rate the common `weight_decay` stands alone, `w <- w - weight_decay * w` before the bet: 0.01 takes one
    percent of the weights in each step. Unlike `optax.contrib.cocob`, which is otherwise the same, it takes no
    `learning_rate` to multiply gradients by.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.cocob(alpha=1.0)
    >>> w, state = jnp.array(0.0), tx.init(jnp.array(0.0))
    >>> for _ in range(4):
    ...     w, state = tx.apply_gradients(jnp.array(-8.0), state, w)
    ...     print(w, end=" ")
    0.5 1.0 1.875 3.5

    Reference: Orabona and Tommasi, Training deep networks without learning rates through coin betting, NIPS 2017.
    """
    return scale_by_cocob.rule(alpha)
