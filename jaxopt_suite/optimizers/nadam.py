"""Nadam."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import jax.numpy as jnp

from jaxopt_suite._arguments import Common
from jaxopt_suite._frame import Transformation, transform
from jaxopt_suite._leafwise import Rule, leafwise
from jaxopt_suite._optimizer import optimizer

SCHEDULE_DECAY = {"keras": 1.0, "legacy": 0.004}


class NadamState(NamedTuple):
    m: Any
    v: Any
    product: Any  # of all momenta so far, one number for the whole tree
    weights = (("m", "v"), ("product",))
    legacy_weights = (("product",), ("m",), ("v",))


@transform()
def scale_by_nadam(beta_1: Any = 0.9, beta_2: Any = 0.999, epsilon: Any = 1e-7, schedule_decay: Any = 1.0) -> Rule:
    """The direction of Nadam: Adam with Nesterov's look-ahead and a momentum that warms up.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_nadam(beta_1=0.5, schedule_decay=0.0)
    >>> update, state = tx.update(jnp.array(4.0), tx.init(jnp.array(0.0)))
    >>> print(f"{update:.4f} {jos.state.variables(state)['product']}")
    1.1333 0.25
    """

    def momentum(count: Any) -> Any:
        return beta_1 * (1 - 0.5 * 0.96 ** (schedule_decay * count))

    def share(kept: dict[str, Any], xs: Sequence[Any], t: Any) -> dict[str, Any]:
        return {"product": kept["product"] * momentum(t.count)}

    def init(w: Any) -> NadamState:
        return NadamState(m=jnp.zeros_like(w), v=jnp.zeros_like(w), product=None)

    def update(g: Any, s: NadamState, w: Any, t: Any) -> tuple[Any, NadamState]:
        u, u_next = momentum(t.count), momentum(t.count + 1)
        m = s.m + (g - s.m) * (1 - beta_1)
        v = s.v + (g * g - s.v) * (1 - beta_2)
        mbar = u_next / (1 - s.product * u_next) * m + (1 - u) / (1 - s.product) * g
        return mbar / (jnp.sqrt(v / (1 - beta_2**t.count)) + epsilon), NadamState(m, v, s.product)

    return leafwise(NadamState, init, update, shared={"product": 1.0}, share=share)


@optimizer("Nadam")
def nadam(
    learning_rate: Any = 0.001,
    beta_1: Any = 0.9,
    beta_2: Any = 0.999,
    epsilon: Any = 1e-7,
    schedule_decay: Any = None,
    **common: Unpack[Common],
) -> Transformation:
    """Nadam: Adam with Nesterov's look-ahead and a momentum that warms up.

        u_t = beta_1 (1 - 0.96^(schedule_decay * t) / 2),    P <- P u_t
        m <- m + (1 - beta_1) (g - m),    v <- v + (1 - beta_2) (g^2 - v)
        w <- w - rate * (u_{t+1} m / (1 - P u_{t+1}) + (1 - u_t) g / (1 - P)) / (sqrt(v / (1 - beta_2^t)) + epsilon)

    `schedule_decay` is 1 where it is not given, as in Keras 3, and 0.004 in the legacy dialect. Unlike it,
    `optax.nadam` has a constant momentum.

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
    return scale_by_nadam(beta_1, beta_2, epsilon, schedule_decay)
