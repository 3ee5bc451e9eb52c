"""Adadelta."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, by_rows, leafwise
from jaxopt_suite._frame.roots import root
from jaxopt_suite._optimizer import Common, optimizer
from jaxopt_suite._recipe.words import Beta, NonNegative, Rate, scalar
from jaxopt_suite.state._layout import state_class


@state_class
class AdadeltaState(NamedTuple):
    g2: jax.Array  # the paper's E[g^2]
    dx2: jax.Array  # the paper's E[dx^2]
    nonnegative = ("g2", "dx2")


@transform()
def scale_by_adadelta(rho: Beta = 0.95, epsilon: NonNegative = 1e-7) -> Rule:
    """The gradient times the running root mean square of the steps over that of the gradients.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_adadelta(rho=0.75, epsilon=0.5)
    >>> print(f"{tx.update(jnp.array(4.0), tx.init(jnp.array(0.0)))[0]:.4f}")
    1.3333
    """
    rho, epsilon = scalar(rho), scalar(epsilon)

    def init(w: jax.Array) -> AdadeltaState:
        return AdadeltaState(g2=jnp.zeros_like(w), dx2=jnp.zeros_like(w))

    def update(g: jax.Array, s: AdadeltaState, w: jax.Array, t: Moment) -> tuple[jax.Array, AdadeltaState]:
        g2 = rho * s.g2 + (1 - rho) * g * g
        dx = g * (root(s.dx2 + epsilon) / root(g2 + epsilon))
        return dx, AdadeltaState(g2, rho * s.dx2 + (1 - rho) * dx * dx)

    return leafwise(AdadeltaState, init, update, elementwise=True)


@optimizer("Adadelta", dialects=("keras", "legacy", "torch"))
def adadelta(
    learning_rate: Rate = 0.001, rho: Beta = 0.95, epsilon: NonNegative = 1e-7, **common: Unpack[Common]
) -> Rule:
    """Adadelta: steps in the unit of the parameters, from the ratio of two running root mean squares.

        G <- rho G + (1 - rho) g^2
        d  = g sqrt(X + epsilon) / sqrt(G + epsilon)
        X <- rho X + (1 - rho) d^2,    w <- w - rate * d

    The paper's own rate is 1. `optax.adadelta` is the same with other defaults.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.adadelta(1.0, rho=0.75, epsilon=1.0)
    >>> w, state = tx.apply_gradients(jnp.array(4.0), tx.init(jnp.array(3.0)), jnp.array(3.0))
    >>> print(f"{w:.4f} {jos.state.get_slot(state, '', 'dx2'):.4f}")
    1.2111 0.8000

    Reference: Zeiler, Adadelta: an adaptive learning rate method, 2012.
    """
    rule = scale_by_adadelta.rule(rho, epsilon)
    return by_rows(rule) if common.get("dialect") == "legacy" else rule
