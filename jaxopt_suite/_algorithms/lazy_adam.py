"""Lazy Adam."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._algorithms.adam import AdamState, scale_by_adam
from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, by_rows, leafwise
from jaxopt_suite._frame.roots import root
from jaxopt_suite._optimizer import Common, optimizer
from jaxopt_suite._recipe.words import Beta, NonNegative, Rate, scalar
from jaxopt_suite.state._layout import state_class

SENTENCES = {"catch_up": "make up for the steps that a row missed when it comes again."}


@state_class
class LazyAdamState(NamedTuple):
    m: jax.Array
    v: jax.Array
    last: jax.Array  # the step that each row was touched in, `(n, 1, ...)`


@transform(sentences=SENTENCES)
def scale_by_lazy_adam(
    beta_1: Beta = 0.9,
    beta_2: Beta = 0.999,
    epsilon: NonNegative = 1e-7,
    *,
    amsgrad: bool = False,
    catch_up: bool = False,
) -> Rule:
    """The direction of `lazy_adam`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx, slices = jos.transforms.scale_by_lazy_adam(epsilon=0.0), jos.sparse.IndexedSlices([[-4.0]], [2], (3, 1))
    >>> update, _ = tx.update(slices, tx.init(jnp.zeros((3, 1))))
    >>> update.values.round(4), update.indices
    (Array([[-1.]], dtype=float32), Array([2], dtype=int32))
    """
    adam = scale_by_adam.rule(beta_1, beta_2, epsilon, amsgrad=amsgrad)

    def without_vhat(g: jax.Array, s: AdamState, w: jax.Array, t: Moment) -> tuple[jax.Array, AdamState]:
        u, new = adam.update(g, s._replace(vhat=None), w, t)
        return u, new._replace(vhat=s.vhat)

    if not catch_up:
        return dataclasses.replace(adam, rows=dataclasses.replace(adam, update=without_vhat))
    _check_catch_up(beta_1, beta_2, amsgrad)
    beta_1, beta_2, epsilon = scalar(beta_1), scalar(beta_2), scalar(epsilon)

    def init(w: jax.Array) -> LazyAdamState:
        last = jnp.zeros_like(w, shape=(*w.shape[:1], *[1] * (w.ndim - 1)))
        return LazyAdamState(m=jnp.zeros_like(w), v=jnp.zeros_like(w), last=last)

    def update(g: jax.Array, s: LazyAdamState, w: jax.Array, t: Moment) -> tuple[jax.Array, LazyAdamState]:
        k = jnp.maximum(t.count - 1 - s.last, 0)
        r = beta_1 / root(jnp.asarray(beta_2, t.count.dtype))
        rk = r**k
        middle = s.last + 1 / (1 - r) - k * rk / jnp.where(k > 0, 1 - rk, 1)  # where the missed steps' weight lies
        alpha = root(1 - beta_2**middle) / (1 - beta_1**middle)
        missed = r * (1 - rk) / (1 - r) * alpha * s.m / (root(s.v) + epsilon)
        u, new = adam.update(g, AdamState(s.m * beta_1**k, s.v * beta_2**k, None), w, t)
        # what depends on the old slot is written after it was read, in its place; else XLA copies the whole slot
        return missed + u, LazyAdamState(new.m, new.v, jnp.maximum(s.last, t.count))

    return by_rows(leafwise(LazyAdamState, init, update, elementwise=True))


def _check_catch_up(beta_1: object, beta_2: object, amsgrad: bool) -> None:
    if amsgrad:
        raise ValueError("lazy_adam: catch_up must be False with amsgrad, whose missed steps have no sum.")
    if isinstance(beta_1, float) and isinstance(beta_2, float) and beta_1 >= math.sqrt(beta_2):
        raise ValueError(f"lazy_adam: catch_up needs beta_1 < sqrt(beta_2), got beta_1={beta_1}, beta_2={beta_2}.")


@optimizer("LazyAdam", sentences=SENTENCES)
def lazy_adam(
    learning_rate: Rate = 0.001,
    beta_1: Beta = 0.9,
    beta_2: Beta = 0.999,
    epsilon: NonNegative = 1e-7,
    amsgrad: bool = False,
    catch_up: bool = False,
    **common: Unpack[Common],
) -> Rule:
    """Adam that leaves alone the rows of a table which have no gradient: for embeddings.

    Of a sparse gradient (`jos.sparse`) only the rows that it has are touched, with the slots that they have. `lazy` is
    always on; `amsgrad` has no effect on slices, as in TF Addons. With `epsilon=1e-8` it is PyTorch's `SparseAdam`, but
    takes dense gradients too. A dense gradient has all rows:

        w <- w - rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)

    Dense Adam would have moved a row on by its momentum in the `k` steps that it missed. With `catch_up` the row does
    so when it comes again, at the rate of that step: before it, with `r = beta_1 / sqrt(beta_2)`,

        w <- w - rate * alpha * (r + r^2 + ... + r^k) * m / (sqrt(v) + epsilon),    m <- beta_1^k m,    v <- beta_2^k v

    where `alpha` is the bias correction at the mean of the missed steps, each weighed by its power of `r`. It costs a
    number per row.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> g, w = jos.sparse.IndexedSlices([[2.0], [1.0]], [0, 0], (2, 1)), jnp.ones((2, 1))
    >>> jos.lazy_adam(0.5).apply_gradients(g, jos.lazy_adam(0.5).init(w), w)[0].round(4)
    Array([[0.5],
           [1. ]], dtype=float32)

    Reference: Kingma and Ba, Adam, 2014.
    """
    return scale_by_lazy_adam.rule(beta_1, beta_2, epsilon, amsgrad=amsgrad, catch_up=catch_up)
