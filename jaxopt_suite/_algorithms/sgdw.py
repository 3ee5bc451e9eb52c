"""SGD with decoupled weight decay."""

from __future__ import annotations

import dataclasses
from typing import Unpack

from jaxopt_suite._algorithms.sgd import scale_by_momentum
from jaxopt_suite._frame.leafwise import Rule, by_rows
from jaxopt_suite._optimizer import CommonBesidesDecay, optimizer
from jaxopt_suite._recipe.check import is_zero
from jaxopt_suite._recipe.words import Fraction, NonNegative, Rate
from jaxopt_suite._stages.decay import decayed


@optimizer("SGDW", shaping=("momentum",), own_decay=("weight_decay",))
def sgdw(
    weight_decay: NonNegative | None,
    learning_rate: Rate = 0.001,
    momentum: Fraction = 0.0,
    nesterov: bool = False,
    **common: Unpack[CommonBesidesDecay],
) -> Rule:
    """SGD with a weight decay that the rate does not scale: give it its own schedule.

        w <- w - weight_decay * w,    then the step of `sgd`

    Elsewhere in this library, and in `optax.sgd` behind `add_decayed_weights`, decay is multiplied by the rate.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.sgdw(0.25, learning_rate=0.5)
    >>> tx.apply_gradients(jnp.array(1.0), tx.init(jnp.array(4.0)), jnp.array(4.0))[0]
    Array(2.5, dtype=float32)

    Reference: Loshchilov and Hutter, Decoupled weight decay regularization, ICLR 2019.
    """
    rule = by_rows(scale_by_momentum.rule(momentum, nesterov=nesterov))
    decays = decayed(rule, weight_decay, kind="alone")
    # without momentum a sparse gradient takes another way through the original, past its decay
    return dataclasses.replace(decays, rows=rule) if is_zero(momentum) else decays
