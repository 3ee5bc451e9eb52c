"""Adagrad."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, by_rows, leafwise
from jaxopt_suite._frame.roots import root
from jaxopt_suite._optimizer import Common, optimizer
from jaxopt_suite._recipe.words import NonNegative, Rate, scalar
from jaxopt_suite._stages.decay import is_off
from jaxopt_suite.state._layout import state_class


@state_class
class AdagradState(NamedTuple):
    a: jax.Array
    nonnegative = ("a",)


@transform()
def scale_by_adagrad(
    initial_accumulator_value: NonNegative = 0.1, epsilon: NonNegative = 1e-7, *, epsilon_in_sqrt: bool = True
) -> Rule:
    """The gradient over the root of the sum of all squared gradients so far.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_adagrad(initial_accumulator_value=16.0, epsilon=0.0)
    >>> print(f"{tx.update(jnp.array(3.0), tx.init(jnp.array(0.0)))[0]:.4f}")
    0.6000
    """
    initial_accumulator_value, epsilon = scalar(initial_accumulator_value), scalar(epsilon)

    def init(w: jax.Array) -> AdagradState:
        return AdagradState(a=jnp.full_like(w, initial_accumulator_value))

    def update(g: jax.Array, s: AdagradState, w: jax.Array, t: Moment) -> tuple[jax.Array, AdagradState]:
        a = s.a + g * g
        return g / (root(a + epsilon) if epsilon_in_sqrt else root(a) + epsilon), AdagradState(a)

    return leafwise(AdagradState, init, update, elementwise=True)


@optimizer("Adagrad", dialects=("keras", "legacy", "torch"))
def adagrad(
    learning_rate: Rate = 0.001,
    initial_accumulator_value: NonNegative = 0.1,
    epsilon: NonNegative = 1e-7,
    **common: Unpack[Common],
) -> Rule:
    """Adagrad: a rate for each entry, which falls with the sum of its squared gradients.

        a <- a + g^2,    w <- w - rate * g / sqrt(a + epsilon)

    The legacy and torch dialects have `sqrt(a) + epsilon`; `optax.adagrad` is the same as the other one.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> g, w = jnp.array(3.0), jnp.array(1.0)
    >>> for dialect in "keras", "legacy":
    ...     tx = jos.adagrad(1.0, 7.0, epsilon=9.0, dialect=dialect)
    ...     print(f"{tx.update(g, tx.init(w))[0]:.3f}")
    -0.600
    -0.231

    Reference: Duchi, Hazan and Singer, Adaptive subgradient methods, JMLR 2011.
    """
    inside = common.get("dialect", "keras") == "keras"
    rule = scale_by_adagrad.rule(initial_accumulator_value, epsilon, epsilon_in_sqrt=inside)
    return by_rows(rule) if is_off(common.get("weight_decay")) else rule  # what has no gradient does not move
