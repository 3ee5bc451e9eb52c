"""Aggregation of the gradients of all replicas."""

from __future__ import annotations

from typing import Literal

from jax import lax

from jaxopt_suite._frame.stages import Place, TreeStage
from jaxopt_suite._recipe.words import Axis
from jaxopt_suite._transformation import transform


@transform(Place.AGGREGATE)
def aggregate_gradients(axis_name: Axis, *, axis_op: Literal["sum", "mean"] = "sum") -> TreeStage:
    """Sums (as TensorFlow does) or averages the gradients over a named axis of `pmap` or `shard_map`.

    Everything behind, clipping and checks for finite values too, sees the aggregated gradient, so replicas agree.

    Under `shard_map` with its default `check_vma=True` the gradient of a replicated parameter is already summed
    over the axis: take the mean of the loss there instead, or pass `check_vma=False`.

    >>> import jax, jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.aggregate_gradients("batch")
    >>> state = tx.init(jnp.array(0.0))
    >>> jax.vmap(lambda g: tx.update(g, state)[0], axis_name="batch")(jnp.array([1.0, 3.0]))
    Array([4., 4.], dtype=float32)
    """
    reduce = lax.psum if axis_op == "sum" else lax.pmean
    return TreeStage(change=lambda g: reduce(g, axis_name))
