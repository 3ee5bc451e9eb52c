"""Nadam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._algorithms._correction import ACCURATE, bias_correction
from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, by_rows, leafwise
from jaxopt_suite._frame.roots import root
from jaxopt_suite._optimizer import Common, optimizer
from jaxopt_suite._recipe.words import Beta, NonNegative, Rate, scalar
from jaxopt_suite.state._layout import state_class

SCHEDULE_DECAY = {"keras": 1.0, "legacy": 0.004, "torch": 0.004}


SENTENCES = {
    "schedule_decay": "speed of the momentum's rise: `0.96 ** (schedule_decay * step)`.",
    "accurate": ACCURATE,
}


@state_class
class NadamState(NamedTuple):
    m: jax.Array
    v: jax.Array
    product: jax.Array  # of all momenta so far, one number for the whole tree
    weights = (("m", "v"), ("product",))
    legacy_weights = (("product",), ("m",), ("v",))
    nonnegative = ("v",)


@transform(sentences=SENTENCES)
def scale_by_nadam(
    beta_1: Beta = 0.9,
    beta_2: Beta = 0.999,
    epsilon: NonNegative = 1e-7,
    schedule_decay: NonNegative = 1.0,
    *,
    accurate: bool = False,
) -> Rule:
    """The direction of Nadam: Adam with Nesterov's look-ahead and a momentum that warms up.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_nadam(beta_1=0.5, schedule_decay=0.0)
    >>> update, state = tx.update(jnp.array(4.0), tx.init(jnp.array(0.0)))
    >>> print(f"{update:.4f} {jos.state.variables(state)['product']}")
    1.1333 0.25
    """
    beta_1, beta_2, epsilon, schedule_decay = scalar(beta_1), scalar(beta_2), scalar(epsilon), scalar(schedule_decay)

    def momentum(count: jax.Array) -> jax.Array:
        return beta_1 * (1 - 0.5 * 0.96 ** (schedule_decay * count))

    def update_shared(kept: dict[str, jax.Array], xs: Sequence[jax.Array], t: Moment) -> dict[str, jax.Array]:
        return {"product": kept["product"] * momentum(t.count)}

    def init(w: jax.Array) -> NadamState:
        return NadamState(m=jnp.zeros_like(w), v=jnp.zeros_like(w), product=jnp.ones((), w.dtype))

    def update(g: jax.Array, s: NadamState, w: jax.Array, t: Moment) -> tuple[jax.Array, NadamState]:
        u, u_next = momentum(t.count), momentum(t.count + 1)
        m = s.m + (g - s.m) * (1 - beta_1)
        v = s.v + (g * g - s.v) * (1 - beta_2)
        mbar = u_next / (1 - s.product * u_next) * m + (1 - u) / (1 - s.product) * g
        return mbar / (root(v / bias_correction(beta_2, t, accurate)) + epsilon), NadamState(m, v, s.product)

    def absent(s: NadamState, w: jax.Array, t: Moment) -> tuple[None, NadamState]:
        return None, s._replace(m=s.m * beta_1, v=s.v * beta_2)

    shared = {"product": 1.0}
    return leafwise(
        NadamState, init, update, shared=shared, update_shared=update_shared, elementwise=True, absent=absent
    )


@optimizer("Nadam", sentences=SENTENCES, dialects=("keras", "legacy", "torch"))
def nadam(
    learning_rate: Rate = 0.001,
    beta_1: Beta = 0.9,
    beta_2: Beta = 0.999,
    epsilon: NonNegative = 1e-7,
    schedule_decay: NonNegative | None = None,
    decoupled_weight_decay: bool | None = None,
    **common: Unpack[Common],
) -> Rule:
    """Nadam: Adam with Nesterov's look-ahead and a momentum that warms up.

        u_t = beta_1 (1 - 0.96^(schedule_decay * t) / 2),    P <- P u_t
        m <- m + (1 - beta_1) (g - m),    v <- v + (1 - beta_2) (g^2 - v)
        w <- w - rate * (u_{t+1} m / (1 - P u_{t+1}) + (1 - u_t) g / (1 - P)) / (sqrt(v / (1 - beta_2^t)) + epsilon)

    `schedule_decay` is 1 where it is not given, as in Keras 3, and 0.004 in the legacy and torch dialects. In
    the torch dialect `weight_decay` is a penalty in the gradient, but with `decoupled_weight_decay`. In `optax.nadam`
    the momentum is constant.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> for dialect in "keras", "legacy":
    ...     tx = jos.nadam(1.0, dialect=dialect)
    ...     print(f"{tx.update(jnp.array(2.0), tx.init(jnp.array(0.0)))[0]:.4f}")
    -1.0628
    -1.0564

    Reference: Dozat, Incorporating Nesterov momentum into Adam, 2016.
    """
    if schedule_decay is None:
        schedule_decay = SCHEDULE_DECAY[common.get("dialect", "keras")]
    torch = common.get("dialect") == "torch"
    rule = scale_by_nadam.rule(beta_1, beta_2, epsilon, schedule_decay, accurate=torch)
    return by_rows(rule) if common.get("dialect") == "legacy" else rule
