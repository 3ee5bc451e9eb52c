"""Aggregation of the gradients of all replicas."""

from __future__ import annotations

from typing import Literal

import jax
from jax import lax

from jaxopt_suite._declare import transform
from jaxopt_suite._frame.flow import Arrays
from jaxopt_suite._frame.stages import Place, TreeStage
from jaxopt_suite._recipe.words import Axis


@transform(Place.AGGREGATE)
def aggregate_gradients(axis_name: Axis, *, axis_op: Literal["sum", "mean"] = "sum") -> TreeStage:
    """Sums (as TensorFlow does) or averages the gradients over a named axis of `pmap` or `shard_map`.

    Everything behind, clipping and checks for finite values too, sees the aggregated gradient, so replicas agree.

    Under `shard_map` with its default type checks the gradient of a replicated parameter is already summed over the
    axis, and its type says so: `"sum"` then leaves it as it is, and `"mean"` is refused, since the mean of the loss
    has to be taken instead. `pmap` and `check_vma=False` carry no such types.

    Raises:
      ValueError: for `"mean"` of gradients that are summed already.

    >>> import jax, jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.aggregate_gradients("batch")
    >>> state = tx.init(jnp.array(0.0))
    >>> jax.vmap(lambda g: tx.update(g, state)[0], axis_name="batch")(jnp.array([1.0, 3.0]))
    Array([4., 4.], dtype=float32)
    """
    names = (axis_name,) if isinstance(axis_name, str) else tuple(axis_name)
    reduce = lax.psum if axis_op == "sum" else lax.pmean

    def change(gradients: Arrays) -> Arrays:
        try:
            typed = [name for name in names if _varies(lax.axis_index(name), name)]
        except NameError:
            raise ValueError(
                f"aggregate_gradients: axis_name must be an axis of the pmap or shard_map around, got {axis_name!r}."
            ) from None

        def one(g: jax.Array) -> jax.Array:
            summed = [name for name in typed if not _varies(g, name)]
            if summed and axis_op == "mean":
                raise ValueError(
                    f"aggregate_gradients: the gradients are already summed over {summed}, so that their mean would be "
                    "too large: take the mean of the loss over the axis (jax.lax.pmean) and leave axis_name away."
                )
            others = tuple(name for name in names if name not in summed)
            return reduce(g, others) if others else g

        return [one(g) for g in gradients]

    return TreeStage(change=change)


def _varies(x: jax.Array, name: str) -> bool:
    """Whether the type of an array says that it differs along a mapped axis."""
    return name in jax.typeof(x).manual_axis_type.varying
