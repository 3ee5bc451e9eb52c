"""Schedule-free AdamW."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._frame.leafwise import Moment, Rule, leafwise
from jaxopt_suite._optimizer import Common, optimizer
from jaxopt_suite._recipe.check import is_zero
from jaxopt_suite._recipe.words import Beta, Count, NonNegative, Rate, scalar
from jaxopt_suite._transformation import transform
from jaxopt_suite.state._layout import state_class


@state_class
class ScheduleFreeState(NamedTuple):
    z: jax.Array
    v: jax.Array


@transform()
def scale_by_schedule_free_adamw(
    beta_1: Beta = 0.9, beta_2: Beta = 0.999, epsilon: NonNegative = 1e-8, *, warmup_steps: Count = 0
) -> Rule:
    """The direction of schedule-free AdamW at a rate of 1. It must come last in an `optax.chain`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_schedule_free_adamw(beta_1=0.75)
    >>> state, y = tx.init(jnp.array(5.0)), jnp.array(5.0)
    >>> for _ in range(2):
    ...     direction, state = tx.update(jnp.array(1.0), state, y)
    ...     y = y - direction
    >>> print(f"{jos.state.get_slot(state, '', 'z'):.4f} {y:.4f}")
    3.0000 3.3750
    """
    beta_1, beta_2, epsilon = scalar(beta_1), scalar(beta_2), scalar(epsilon)

    def x(y: jax.Array, z: jax.Array) -> jax.Array:
        return (y - (1 - beta_1) * z) / beta_1

    def init(w: jax.Array) -> ScheduleFreeState:
        return ScheduleFreeState(z=w, v=jnp.zeros_like(w))

    def update(g: jax.Array, s: ScheduleFreeState, y: jax.Array, t: Moment) -> tuple[jax.Array, ScheduleFreeState]:
        rate = t.learning_rate
        if warmup_steps:
            rate = rate * jnp.minimum(t.count / warmup_steps, 1.0)
        v = beta_2 * s.v + (1 - beta_2) * g * g
        z = s.z - rate * g / (jnp.sqrt(v / (1 - beta_2**t.count)) + epsilon)
        mean = x(y, s.z) + (z - x(y, s.z)) / t.count
        return (1 - beta_1) * z + beta_1 * mean - y, ScheduleFreeState(z, v)

    return leafwise(
        ScheduleFreeState, init, update, returns_update=True, reads_weights=True, evaluate=lambda s, y: x(y, s.z)
    )


@optimizer("ScheduleFreeAdamW")
def schedule_free_adamw(
    learning_rate: Rate = 0.0025,
    beta_1: Beta = 0.9,
    beta_2: Beta = 0.999,
    epsilon: NonNegative = 1e-8,
    warmup_steps: Count = 0,
    **common: Unpack[Common],
) -> Rule:
    """Schedule-free AdamW: an average of the weights takes the place of a falling rate.

        v <- beta_2 v + (1 - beta_2) g^2
        z <- z - rate * min(t / warmup_steps, 1) * g / (sqrt(v / (1 - beta_2^t)) + epsilon)
        x <- x + (z - x) / t,    y = (1 - beta_1) z + beta_1 x

    The parameters are `y`, at which gradients are taken; evaluate with `x`, which `finalize_variable_values`
    gives. `x` is not stored. Unlike `optax.contrib.schedule_free_adamw` warm-up steps weigh as much in the
    average as later ones.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx, w = jos.schedule_free_adamw(1.0, beta_1=0.5), jnp.array(5.0)
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...     w, state = tx.apply_gradients(jnp.array(1.0), state, w)
    >>> print(f"{w:.4f} {tx.finalize_variable_values(state, w):.4f}")
    2.5000 3.0000

    Reference: Defazio et al., The road less scheduled, 2024.
    """
    if is_zero(beta_1):
        raise ValueError("schedule_free_adamw: beta_1 must be a number in (0, 1), got 0.0: the rule divides by it.")
    return scale_by_schedule_free_adamw.rule(beta_1, beta_2, epsilon, warmup_steps=warmup_steps)
