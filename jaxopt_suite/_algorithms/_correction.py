"""What a moment that began at zero is divided by."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxopt_suite._frame.leafwise import Moment
from jaxopt_suite._recipe.words import Scalar

ACCURATE = "compute `1 - beta^t` to the last bits of float32, as PyTorch does in double precision."


def bias_correction(beta: Scalar, t: Moment, accurate: bool) -> jax.Array:
    """`1 - beta^t`; accurately, it is `-expm1(t log(beta))`.

    Keras raises `beta` as a float32, where 0.999 is off by 1e-8, and the difference from 1 by 1e-5 of itself.
    """
    if not accurate:
        return 1 - beta**t.count
    log = math.log(max(beta, 1e-30)) if isinstance(beta, float) else jnp.log(jnp.maximum(beta, 1e-30))
    return -jnp.expm1(t.count * log)
