"""AdamW."""

from __future__ import annotations

from typing import Unpack

from jaxopt_suite._algorithms.adam import OF_DIALECT, scale_by_adam
from jaxopt_suite._frame.leafwise import Rule
from jaxopt_suite._optimizer import CommonBesidesDecay, optimizer
from jaxopt_suite._recipe.words import Beta, NonNegative, Rate


@optimizer("AdamW", decoupled=True, dialects=("keras", "legacy", "torch"))
def adamw(
    learning_rate: Rate = 0.001,
    weight_decay: NonNegative | None = 0.004,
    beta_1: Beta = 0.9,
    beta_2: Beta = 0.999,
    epsilon: NonNegative = 1e-7,
    amsgrad: bool = False,
    **common: Unpack[CommonBesidesDecay],
) -> Rule:
    """AdamW: Adam with decoupled weight decay.

        w <- w - rate * weight_decay * w,    then Adam's step

    The legacy dialect is TF Addons' AdamW: `w <- w - weight_decay * w`, which the rate does not scale. Unlike
    `optax.adamw` the default decay is 0.004, not 0.0001, and `epsilon` is the paper's "epsilon hat". The torch
    dialect adds `epsilon` after bias correction, as PyTorch and Optax do.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> for dialect in "keras", "legacy":
    ...     tx = jos.adamw(0.1, weight_decay=0.5, dialect=dialect)
    ...     print(f"{tx.update(jnp.array(4.0), tx.init(jnp.array(2.0)), jnp.array(2.0))[0]:.4f}")
    -0.2000
    -1.1000

    Reference: Loshchilov and Hutter, Decoupled weight decay regularization, ICLR 2019.
    """
    if weight_decay is None:
        raise ValueError("adamw: weight_decay must be a number >= 0, got None. Adam without decay is `adam`.")
    return scale_by_adam.rule(
        beta_1, beta_2, epsilon, amsgrad=amsgrad, **OF_DIALECT.get(common.get("dialect", "keras"), {})
    )
