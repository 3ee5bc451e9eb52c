"""Aggregation of the gradients of all replicas."""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp
from jax import lax

from jaxopt_suite._declare import transform
from jaxopt_suite._frame.flow import Arrays
from jaxopt_suite._frame.split import varying
from jaxopt_suite._frame.stages import Place, TreeStage
from jaxopt_suite._recipe.words import Axis, AxisDtype
from jaxopt_suite._slices import IndexedSlices, gathered, values_of

OWNER = "aggregate_gradients"


@transform(Place.AGGREGATE)
def aggregate_gradients(
    axis_name: Axis, *, axis_op: Literal["sum", "mean"] = "sum", axis_dtype: AxisDtype | None = None
) -> TreeStage:
    """Sums (as TensorFlow does) or averages the gradients over a named axis of `pmap` or `shard_map`.

    Everything behind, clipping and checks for finite values too, sees the aggregated gradient, so replicas agree. With
    `axis_dtype` the gradients are rounded to it, sent, and brought back to their own dtype before they are divided.

    Under `shard_map` with its default type checks the gradient of a replicated parameter is already summed over the
    axis, and its type says so: `"sum"` then leaves it as it is, and `"mean"` is refused, since the mean of the loss
    has to be taken instead; so is `axis_dtype`, since they were sent already. `pmap` and `check_vma=False` carry no
    such types.

    The slices of a table (`jos.sparse`) are gathered from all replicas, and not made dense.

    Raises:
      ValueError: for `"mean"` or `axis_dtype` of gradients that are summed already, and for an axis that is not mapped.

    >>> import jax, jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.aggregate_gradients("batch")
    >>> state = tx.init(jnp.array(0.0))
    >>> jax.vmap(lambda g: tx.update(g, state)[0], axis_name="batch")(jnp.array([1.0, 3.0]))
    Array([4., 4.], dtype=float32)
    """
    names = (axis_name,) if isinstance(axis_name, str) else tuple(axis_name)

    def one(g: Any, typed: list[str]) -> Any:
        summed = [name for name in typed if name not in varying(values_of(g))]
        _check_unsummed(summed, axis_op, axis_dtype)
        others = tuple(name for name in names if name not in summed)
        if not others:
            return g
        if isinstance(g, IndexedSlices):
            sent = gathered(g if axis_dtype is None else g.astype(axis_dtype), others).astype(g.dtype)
            return sent * (1 / lax.axis_size(others) if axis_op == "mean" else 1)
        total = lax.psum(g if axis_dtype is None else g.astype(axis_dtype), others).astype(g.dtype)
        return total / lax.axis_size(others) if axis_op == "mean" else total

    def change(gradients: Arrays) -> Arrays:
        try:
            typed = [name for name in names if name in varying(lax.axis_index(name))]
        except NameError:
            raise ValueError(
                f"{OWNER}: axis_name must be an axis of the pmap or shard_map around, got {axis_name!r}."
            ) from None
        return [one(g if isinstance(g, IndexedSlices) else jnp.asarray(g), typed) for g in gradients]

    return TreeStage(change=change)


def _check_unsummed(summed: list[str], axis_op: str, axis_dtype: str | None) -> None:
    """Refuses to average, or to send in another dtype, what the types say is summed."""
    if summed and axis_op == "mean":
        raise ValueError(
            f"{OWNER}: the gradients are already summed over {summed}, so that their mean would be too large: take the "
            "mean of the loss over the axis (jax.lax.pmean) and leave axis_name away."
        )
    if summed and axis_dtype is not None:
        raise ValueError(
            f"{OWNER}: the gradients are already summed over {summed}, in their own dtype: differentiate with respect "
            "to parameters that vary, jax.lax.pcast(params, axis_name, to='varying'), or leave axis_dtype away."
        )
