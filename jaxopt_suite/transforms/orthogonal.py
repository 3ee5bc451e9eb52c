"""Matrices made orthogonal by matrix products alone."""

from typing import Any

import jax.numpy as jnp


def orthogonalized(x: Any, steps: int, a: Any, b: Any, c: Any) -> Any:
    """Nearly `U V^T` of `x = U S V^T`: a quintic that is steep at zero, iterated on `S` (Newton and Schulz)."""
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (jnp.sqrt(jnp.sum(x * x)) + 1e-7)
    for _ in range(steps):
        A = x @ x.T
        x = a * x + (b * A + c * (A @ A)) @ x
    return x.T if tall else x
