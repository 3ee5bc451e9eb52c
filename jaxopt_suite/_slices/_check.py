"""What makes slices of a table, and the sentences for what does not."""

import operator
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

_MOST_ROWS = 2**31 - 1  # what int32 counts, rows and slices together


def shape_of_table(dense_shape: Any) -> tuple[int, ...]:
    try:
        shape = tuple(operator.index(n) for n in dense_shape)
    except TypeError:
        shape = None
    if shape is None or min(shape, default=0) < 0:
        raise ValueError(f"IndexedSlices: dense_shape must be the shape of a table, (rows, ...), got {dense_shape!r}.")
    return shape


def check(values: Any, indices: Any, dense_shape: tuple[int, ...]) -> None:
    """Refuses what makes no slices of a table."""
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise TypeError(f"IndexedSlices: values must be floating-point numbers, got {values.dtype}.")
    if not jnp.issubdtype(indices.dtype, jnp.integer):
        raise TypeError(
            f"IndexedSlices: indices must be integers, got {indices.dtype}. What maps over all arrays of a tree, as "
            "optax.scale does, changes indices too."
        )
    if not dense_shape:
        raise ValueError("IndexedSlices: dense_shape must be that of a table, (rows, ...), got ().")
    if indices.ndim != 1 or values.shape != (*indices.shape, *dense_shape[1:]):
        want = ("k", *dense_shape[1:])
        raise ValueError(
            f"IndexedSlices: values must be rows of the table, {_show(want)}, and indices {_show(('k',))}, got "
            f"{values.shape} and {indices.shape}."
        )
    if dense_shape[0] + indices.size > _MOST_ROWS:
        raise ValueError(f"IndexedSlices: a table must have less than 2**31 rows, got {dense_shape[0]}.")


def _show(shape: Sequence[Any]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
