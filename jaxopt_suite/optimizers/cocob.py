"""COCOB-Backprop."""

from typing import Any, NamedTuple, Unpack

import jax.numpy as jnp

from jaxopt_suite._arguments import Common
from jaxopt_suite._frame import Transformation, transform
from jaxopt_suite._leafwise import Rule, leafwise
from jaxopt_suite._optimizer import optimizer


class CocobState(NamedTuple):
    L: Any  # the largest gradient so far
    G: Any  # the sum of the gradients' absolute values
    S: Any  # the sum of the gradients
    bet: Any  # how far the weight is from where it began
    reward: Any
    legacy_weights = (("L", "G", "S", "bet", "reward"),)


@transform()
def scale_by_cocob(alpha: Any = 100.0) -> Rule:
    """The step of COCOB, negated: there is no rate, and the step needs none.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_cocob(alpha=4.0)
    >>> tx.update(jnp.array(-2.0), tx.init(jnp.array(0.0)))[0]
    Array(-0.25, dtype=float32)
    """
    if isinstance(alpha, float) and alpha < 1:
        raise ValueError(f"cocob: alpha must be >= 1, got {alpha}.")

    def init(w: Any) -> CocobState:
        zeros = jnp.zeros_like(w)
        return CocobState(L=jnp.full_like(w, 1e-8), G=zeros, S=zeros, bet=zeros, reward=zeros)

    def update(g: Any, s: CocobState, w: Any, t: Any) -> tuple[Any, CocobState]:
        L = jnp.maximum(s.L, jnp.abs(g))
        G = s.G + jnp.abs(g)
        S = s.S + g
        reward = s.reward - jnp.minimum(g * s.bet, s.reward)
        bet = -S / (L * jnp.maximum(G + L, alpha * L)) * (reward + L)
        return bet - s.bet, CocobState(L, G, S, bet, reward)

    return leafwise(CocobState, init, update, emits_step=True)


@optimizer("COCOB")
def cocob(alpha: Any = 100.0, **common: Unpack[Common]) -> Transformation:
    """COCOB-Backprop: a bet on the next gradient, with the gains so far as stake; there is no learning rate.

        L <- max(L, |g|),    G <- G + |g|,    S <- S + g,    R <- max(R - g b, 0)
        b' = -S / (L max(G + L, alpha L)) * (R + L),    w <- w - b + b'

    Unlike `optax.contrib.cocob`, which is otherwise the same, it takes no `learning_rate` to multiply gradients by.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.cocob(alpha=1.0)
    >>> w, state = jnp.array(0.0), tx.init(jnp.array(0.0))
    >>> for _ in range(4):
    ...     w, state = tx.apply_gradients(jnp.array(-8.0), state, w)
    ...     print(w, end=" ")
    0.5 1.0 1.875 3.5

    Reference: Orabona and Tommasi, Training deep networks without learning rates through coin betting, NIPS 2017.
    """
    return scale_by_cocob(alpha)
