"""Aggregation of the gradients of all replicas."""

from typing import Any

import jax
from jax import lax

from jaxopt_suite._frame import transform
from jaxopt_suite._pipeline import AGGREGATE, Gate


@transform()
def aggregate_gradients(axis_name: str | tuple[str, ...], *, axis_op: str = "sum") -> Gate:
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

    def update(grads: Any, state: None) -> tuple[Any, Any, Any]:
        return None, lambda: (jax.tree.map(lambda g: reduce(g, axis_name), grads), None), None

    return Gate(AGGREGATE, lambda params: None, update)
