"""RMSprop."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._algorithms._trace import traced_rmsprop
from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, by_rows, leafwise
from jaxopt_suite._frame.roots import root
from jaxopt_suite._optimizer import Common, optimizer
from jaxopt_suite._recipe.check import is_zero
from jaxopt_suite._recipe.words import Beta, Fraction, NonNegative, Rate, scalar
from jaxopt_suite.state._layout import state_class

SENTENCES = {"centered": "subtract the squared mean of the gradient from its mean square."}


@state_class
class RMSpropState(NamedTuple):
    v: jax.Array
    m: jax.Array | None
    a: jax.Array | None
    weights = (("v",), ("m",), ("a",))
    nonnegative = ("v",)


@transform(sentences=SENTENCES)
def scale_by_rmsprop(
    rho: Beta = 0.9,
    momentum: Fraction = 0.0,
    epsilon: NonNegative = 1e-7,
    *,
    centered: bool = False,
    epsilon_in_sqrt: bool = True,
) -> Rule:
    """The gradient over its running root mean square, or with `centered` over its standard deviation.

    The rate is inside the momentum. Without momentum there is no slot for it.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_rmsprop(rho=0.75, epsilon=0.0)
    >>> tx.update(jnp.array(-3.0), tx.init(jnp.array(0.0)))[0]
    Array(-2., dtype=float32)
    """
    has_momentum = not is_zero(momentum)
    rho, momentum, epsilon = scalar(rho), scalar(momentum), scalar(epsilon)

    def init(w: jax.Array) -> RMSpropState:
        m, a = jnp.zeros_like(w) if has_momentum else None, jnp.zeros_like(w) if centered else None
        return RMSpropState(v=jnp.zeros_like(w), m=m, a=a)

    def update(g: jax.Array, s: RMSpropState, w: jax.Array, t: Moment) -> tuple[jax.Array, RMSpropState]:
        v = d = rho * s.v + (1 - rho) * g * g
        a = None
        if s.a is not None:
            a = rho * s.a + (1 - rho) * g
            d = jnp.maximum(v - a * a, 0.0)
        step = t.learning_rate * g / (root(d + epsilon) if epsilon_in_sqrt else root(d) + epsilon)
        if s.m is None:
            return -step, RMSpropState(v, None, a)
        m = momentum * s.m + step
        return -m, RMSpropState(v, m, a)

    return leafwise(RMSpropState, init, update, returns_update=True, elementwise=True)


@optimizer("RMSprop", shaping=("momentum",), sentences=SENTENCES, dialects=("keras", "legacy", "torch"))
def rmsprop(
    learning_rate: Rate = 0.001,
    rho: Beta = 0.9,
    momentum: Fraction = 0.0,
    epsilon: NonNegative = 1e-7,
    centered: bool = False,
    **common: Unpack[Common],
) -> Rule:
    """RMSprop: the gradient over its running root mean square, with momentum.

        v <- rho v + (1 - rho) g^2,    a <- rho a + (1 - rho) g,    d = v - a^2 (centered) or v
        m <- momentum * m + rate * g / sqrt(d + epsilon),    w <- w - m

    The legacy dialect without momentum has `sqrt(d) + epsilon`. Where rounding makes `d` negative it counts as
    zero; Keras may then give NaN. `optax.rmsprop` is the same with these arguments. The torch dialect has
    `sqrt(d) + epsilon`, and the rate outside of the momentum.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.rmsprop(0.1, rho=0.75, momentum=0.5, epsilon=0.0)
    >>> w, state = tx.apply_gradients(jnp.array(3.0), tx.init(jnp.array(1.0)), jnp.array(1.0))
    >>> print(f"{w:.4f}", jos.state.slot_names(state))
    0.8000 ['v', 'm']

    Reference: Tieleman and Hinton, Lecture 6.5: RMSprop, 2012; Graves, Generating sequences, 2013 (centered).
    """
    if common.get("dialect") == "torch":
        scaled = scale_by_rmsprop.rule(rho, 0.0, epsilon, centered=centered, epsilon_in_sqrt=False)
        return traced_rmsprop(scaled, momentum)
    # in TF <= 2.10 a fused kernel did the update with momentum, and it added epsilon under the root
    legacy, plain = common.get("dialect") == "legacy", is_zero(momentum)
    rule = scale_by_rmsprop.rule(rho, momentum, epsilon, centered=centered, epsilon_in_sqrt=not (legacy and plain))
    return by_rows(rule) if legacy and not plain else rule
