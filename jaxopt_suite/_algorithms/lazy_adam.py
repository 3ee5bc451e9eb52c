"""Lazy Adam."""

from __future__ import annotations

from typing import Unpack

from jaxopt_suite._algorithms.adam import scale_by_adam
from jaxopt_suite._frame.leafwise import Rule
from jaxopt_suite._optimizer import Common, optimizer
from jaxopt_suite._recipe.words import Beta, NonNegative, Rate


@optimizer("LazyAdam")
def lazy_adam(
    learning_rate: Rate = 0.001,
    beta_1: Beta = 0.9,
    beta_2: Beta = 0.999,
    epsilon: NonNegative = 1e-7,
    amsgrad: bool = False,
    **common: Unpack[Common],
) -> Rule:
    """Adam that leaves alone the rows of a table which have no gradient: for embeddings.

    A dense gradient has all rows, and the step is Adam's:

        w <- w - rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> g, w = jnp.array([[2.0], [0.0]]), jnp.ones((2, 1))
    >>> jos.lazy_adam(0.5).apply_gradients(g, jos.lazy_adam(0.5).init(w), w)[0].round(4)
    Array([[0.5],
           [1. ]], dtype=float32)

    Reference: Kingma and Ba, Adam, 2014.
    """
    return scale_by_adam.rule(beta_1, beta_2, epsilon, amsgrad=amsgrad)
