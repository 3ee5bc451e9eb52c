"""A momentum made orthogonal by matrix products alone: the half of Muon that takes matrices."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, leafwise
from jaxopt_suite._frame.roots import root
from jaxopt_suite._recipe.words import Count, Fraction, NonNegative, Real, Scalar, scalar
from jaxopt_suite.state._layout import state_class

SENTENCES = {
    "muon_a": "first coefficient of the iteration, of `x`.",
    "muon_b": "second coefficient, of `x x^T x`.",
    "muon_c": "third coefficient, of `(x x^T)^2 x`.",
    "ns_steps": "iterations of Newton and Schulz.",
    "rms_rate": "root mean square of a full-rank step at a rate of 1; None leaves it alone.",
}


@state_class
class MuonState(NamedTuple):
    m: jax.Array
    v: jax.Array  # of Adam's half; a lone zero for a matrix
    nonnegative = ("v",)


@transform(sentences=SENTENCES)
def scale_by_muon(
    muon_a: Real = 3.4445,
    muon_b: Real = -4.775,
    muon_c: Real = 2.0315,
    momentum: Fraction = 0.95,
    ns_steps: Count = 5,
    *,
    nesterov: bool = True,
    rms_rate: NonNegative | None = 0.2,
) -> Rule:
    """The momentum of a matrix made orthogonal; all parameters must be matrices.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_muon(1.5, -0.5, 0.0, ns_steps=20, rms_rate=None)
    >>> w = jnp.array([[3.0, 0.0], [0.0, 0.5]])
    >>> tx.update(w, tx.init(w))[0].round(3)
    Array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    a, b, c, momentum = scalar(muon_a), scalar(muon_b), scalar(muon_c), scalar(momentum)
    rms = None if rms_rate is None else scalar(rms_rate)

    def init(w: jax.Array) -> MuonState:
        return MuonState(m=jnp.zeros_like(w), v=jnp.zeros((), w.dtype))

    def update(g: jax.Array, s: MuonState, w: jax.Array, t: Moment) -> tuple[jax.Array, MuonState]:
        if g.ndim != 2:
            raise ValueError(f"scale_by_muon: a parameter must be a matrix, got one of shape {g.shape}.")
        m = momentum * s.m + g
        return -t.learning_rate * t.whole(direction, g + momentum * m if nesterov else m), s._replace(m=m)

    def direction(x: jax.Array) -> jax.Array:
        scale = 1.0 if rms is None else max(x.shape) ** 0.5 * rms
        return scale * orthogonalized(x, ns_steps, a, b, c)

    return leafwise(MuonState, init, update, returns_update=True)


def orthogonalized(x: jax.Array, steps: int, a: Scalar, b: Scalar, c: Scalar) -> jax.Array:
    """Nearly `U V^T` of `x = U S V^T`: a quintic that is steep at zero, iterated on `S` (Newton and Schulz)."""
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (root(jnp.sum(x * x)) + 1e-7)
    for _ in range(steps):
        A = x @ x.T
        x = a * x + (b * A + c * (A @ A)) @ x
    return x.T if tall else x
