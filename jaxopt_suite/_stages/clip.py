"""Gradient clipping, as Keras does it: by value, by each parameter's norm, by the norm of all gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, leafwise
from jaxopt_suite._frame.roots import root
from jaxopt_suite._frame.stages import Place
from jaxopt_suite._recipe.words import Positive, Scalar, scalar
from jaxopt_suite._stages._sums import global_norm
from jaxopt_suite.state._layout import state_class


@state_class
class ClipState(NamedTuple):
    """The norm of all gradients together, before it was clipped."""

    gradient_norm: jax.Array | None

    def idle(self) -> bool:
        """It is a record of the last step."""
        return True


@transform(Place.CLIP)
def clip_by_value(clipvalue: Positive) -> Rule:
    """Clamps every entry of the gradient to `[-clipvalue, clipvalue]`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.clip_by_value(1.0)
    >>> tx.update(jnp.array([0.5, -3.0]), tx.init(jnp.zeros(2)))[0]
    Array([ 0.5, -1. ], dtype=float32)
    """
    c = scalar(clipvalue)
    return leafwise(None, None, lambda g, s, w, t: (jnp.clip(g, -c, c), s), on_values=True)


@transform(Place.CLIP)
def clip_by_norm(clipnorm: Positive) -> Rule:
    """Scales each parameter's gradient `g` to `g * c / max(||g||, c)`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.clip_by_norm(1.0)
    >>> grads = {"a": jnp.array([3.0, 4.0]), "b": jnp.array([0.5])}
    >>> tx.update(grads, tx.init(grads))[0]
    {'a': Array([0.6, 0.8], dtype=float32), 'b': Array([0.5], dtype=float32)}
    """
    c = scalar(clipnorm)

    def update(g: jax.Array, s: None, w: jax.Array, t: Moment) -> tuple[jax.Array, None]:
        return g * (c / jnp.maximum(root(t.sum(g * g)), c)), s

    return leafwise(None, None, update, on_values=True)


@transform(Place.CLIP)
def clip_by_global_norm(global_clipnorm: Positive) -> Rule:
    """Scales all gradients by `c / max(N, c)`, where `N` is the norm of all of them together.

    The norm is kept in the state (`state.gradient_norm`). Unlike `optax.clip_by_global_norm`, a norm that is
    not finite makes every gradient NaN, as in Keras, and not only the entries that are infinite. Unlike in Keras,
    where `c * (1 / c)` may round, gradients that need no clipping stay as they are to the bit.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.clip_by_global_norm(1.0)
    >>> grads = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    >>> updates, state = tx.update(grads, tx.init(grads))
    >>> updates, jos.state.gradient_norm(state)
    ({'a': Array([0.6], dtype=float32), 'b': Array([0.8], dtype=float32)}, Array(5., dtype=float32))
    """

    c = scalar(global_clipnorm)

    def update_shared(kept: dict[str, Any], xs: Sequence[jax.Array], t: Moment) -> dict[str, Any]:
        return {"gradient_norm": global_norm(xs, t.splits, t.count.dtype)}

    def update(g: jax.Array, s: ClipState, w: jax.Array, t: Moment) -> tuple[jax.Array, ClipState]:
        norm = jnp.asarray(s.gradient_norm)
        # XLA computes a quotient once, and anything cheaper again in each kernel; `norm - norm` is 0 or NaN
        return g * (c / (jnp.maximum(norm, c) + (norm - norm))), s

    return leafwise(
        ClipState,
        lambda w: ClipState(None),
        update,
        shared={"gradient_norm": 0.0},
        update_shared=update_shared,
        reads_all=True,
        on_values=True,
    )


def clip_norm(g: jax.Array, c: Scalar, n: Scalar) -> jax.Array:
    """`g * c / n` where the norm `n` is at least `c`, else `g`; `c = 0` clips nothing.

    `n` is what the caller measures, such as the norm of all gradients together.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> jos.transforms.clip_norm(jnp.array([3.0, 4.0]), 2.5, 10.0)
    Array([0.75, 1.  ], dtype=float32)
    """
    clips = jnp.logical_and(c > 0, n >= c)
    scale = jnp.where(clips, c / jnp.where(clips, n, 1.0), 1.0)
    return g * scale.astype(jnp.result_type(g))
