"""Schedule-free AdamW."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._algorithms._rounding import compensated
from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, leafwise
from jaxopt_suite._frame.roots import root
from jaxopt_suite._optimizer import Common, optimizer
from jaxopt_suite._recipe.check import is_zero
from jaxopt_suite._recipe.words import Beta, Count, NonNegative, Rate, Scalar, scalar
from jaxopt_suite.state._layout import state_class


@state_class
class ScheduleFreeState(NamedTuple):
    z: jax.Array
    v: jax.Array
    beta_1: jax.Array | None = None  # the one that `y` was made with, where it may change
    last_beta_1: jax.Array | None = None  # the one before
    lost: jax.Array | None = None  # what rounding took from a 16-bit `y`, from which `x` could not be found again
    weights = (("z", "v"), ("beta_1",), ("last_beta_1",))
    nonnegative = ("v",)
    holds_weights = ("z", "lost")


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
    # at the start `y` is `x`, as with a `beta_1` of 1
    shared = {} if isinstance(beta_1, float) else {"beta_1": 1.0, "last_beta_1": 1.0}

    def x(y: jax.Array, z: jax.Array, beta: Scalar | None) -> jax.Array:
        beta = beta_1 if beta is None else beta
        return (y - (1 - beta) * z) / beta

    def init(w: jax.Array) -> ScheduleFreeState:
        return ScheduleFreeState(z=w, v=jnp.zeros_like(w))

    def update_shared(kept: dict[str, jax.Array], xs: Sequence[jax.Array], t: Moment) -> dict[str, jax.Array]:
        return {"beta_1": jnp.asarray(beta_1), "last_beta_1": kept["beta_1"]}

    def update(g: jax.Array, s: ScheduleFreeState, y: jax.Array, t: Moment) -> tuple[jax.Array, ScheduleFreeState]:
        rate = t.learning_rate
        if warmup_steps:
            rate = rate * jnp.minimum(t.count / warmup_steps, 1.0)
        v = beta_2 * s.v + (1 - beta_2) * g * g
        z = s.z - rate * g / (root(v / (1 - beta_2**t.count)) + epsilon)
        last = x(y, s.z, s.last_beta_1)
        mean = last + (z - last) / t.count
        return (1 - beta_1) * z + beta_1 * mean - y, s._replace(z=z, v=v)

    rule = leafwise(
        ScheduleFreeState,
        init,
        update,
        returns_update=True,
        reads_weights=True,
        shared=shared,
        update_shared=update_shared if shared else None,
        evaluate=lambda s, y: x(y, s.z, s.beta_1),
        partial=("lost",),
        elementwise=True,
    )
    return compensated(rule)


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
    gives. `x` is not stored: it is found from `y`, `z` and the `beta_1` that `y` was made with, which is kept where
    it is no plain number. Unlike `optax.contrib.schedule_free_adamw` warm-up steps weigh as much in the average as
    later ones.

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
