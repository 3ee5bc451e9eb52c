"""The gradient of a table that holds only some of its rows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.sharding import AxisType, auto_axes

from jaxopt_suite._slices._check import check, shape_of_table


@jax.tree_util.register_pytree_with_keys_class
class IndexedSlices:
    """Some rows of a table, as a gradient or an update: the table is zero elsewhere, and rows that come twice add up.

        table[i] = sum of values[j] over all j with indices[j] = i

    In a tree of gradients it stands for one leaf, beside dense ones. `params + slices` adds the rows to the table, in
    at least float32 and, where the table is donated, in its own memory: `optax.apply_updates` works as it is, and so
    does `params - 0.1 * slices`.

    An index of `dense_shape[0]` is padding, which keeps shapes static under `jit`; its values are never read. Any other
    index that is out of range is refused; inside `jit`, where numbers are not known, it is dropped. A row of NaN makes
    that row NaN, and no other.

    It is a pytree of two arrays. What maps over the arrays of a tree, as `optax.scale` does, would change the indices
    too: indices that are no longer integers are refused; use primitives of this library, which know slices.

    Arguments:
      values: `(k, ...)`, floating: a row of the table for each index.
      indices: `(k,)`, of any integer type, in any order.
      dense_shape: the shape of the table, `(n, ...)`.

    Raises:
      TypeError: if values or indices are of another type.
      ValueError: if shapes do not fit, or an index is out of range.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> slices = jos.sparse.IndexedSlices([[1.0], [2.0], [4.0]], [2, 0, 2], (4, 1))
    >>> (jnp.ones((4, 1)) + slices).ravel(), slices.summed().indices
    (Array([3., 1., 6., 1.], dtype=float32), Array([0, 2, 4], dtype=int32))
    """

    __array_ufunc__ = None  # a numpy array plus slices asks the slices

    values: jax.Array
    indices: jax.Array
    dense_shape: tuple[int, ...]

    def __init__(self, values: Any, indices: Any, dense_shape: Sequence[int]):
        given = indices if hasattr(indices, "dtype") else np.asarray(indices, None if np.size(indices) else np.int32)
        self.values, self.dense_shape = jnp.asarray(values), shape_of_table(dense_shape)
        check(self.values, given, self.dense_shape)
        self._check_range(given)
        self.indices = jnp.asarray(given)

    def _check_range(self, indices: Any) -> None:
        if isinstance(indices, Tracer) or not getattr(indices, "is_fully_addressable", True) or not np.size(indices):
            return
        known, n = np.asarray(indices), self.dense_shape[0]
        wrong = np.flatnonzero((known < 0) | (known > n))
        if wrong.size:
            raise ValueError(
                f"IndexedSlices: indices must be in [0, {n}), or {n} for padding, got {known[wrong[0]]} at place "
                f"{wrong[0]}."
            )

    @classmethod
    def _of(cls, values: Any, indices: Any, dense_shape: tuple[int, ...]) -> IndexedSlices:
        """Unchecked: what comes out of a flattened tree may be anything."""
        made = object.__new__(cls)
        made.values, made.indices, made.dense_shape = values, indices, dense_shape
        return made

    def tree_flatten_with_keys(self) -> tuple[Any, tuple[int, ...]]:
        named = jax.tree_util.GetAttrKey
        return ((named("values"), self.values), (named("indices"), self.indices)), self.dense_shape

    @classmethod
    def tree_unflatten(cls, dense_shape: tuple[int, ...], children: Sequence[Any]) -> IndexedSlices:
        values, indices = children
        return cls._of(values, indices, dense_shape)

    def __repr__(self) -> str:
        return f"IndexedSlices(values={self.values}, indices={self.indices}, dense_shape={self.dense_shape})"

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the table."""
        return self.dense_shape

    @property
    def ndim(self) -> int:
        return len(self.dense_shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.dense_shape))

    @property
    def dtype(self) -> jnp.dtype:
        return self.values.dtype

    def map(self, change: Callable[[jax.Array], jax.Array]) -> IndexedSlices:
        """The same rows with other values."""
        return self._of(change(self.values), self.indices, self.dense_shape)

    def astype(self, dtype: Any) -> IndexedSlices:
        return self.map(lambda values: values.astype(dtype))

    def to_dense(self) -> jax.Array:
        """The whole table."""
        return jnp.zeros(self.dense_shape, self.dtype) + self

    @classmethod
    def from_dense(cls, table: jax.Array) -> IndexedSlices:
        """The rows of a table that are not zero; inside `jit`, where they are not known, as many as there are."""
        some = jnp.any(table.reshape(table.shape[0], -1) != 0, axis=1)
        known = None if isinstance(some, Tracer) else int(jnp.sum(some))
        rows = jnp.flatnonzero(some, size=table.shape[0] if known is None else known, fill_value=table.shape[0])
        rows = rows.astype(jnp.int32)
        values = table.at[rows].get(mode="fill", fill_value=0, wrap_negative_indices=False)
        return cls._of(values, rows, tuple(table.shape))

    def in_range(self) -> IndexedSlices:
        """With `int32` indices, of which all that are out of range are padding, with values of zero."""
        n, known = self.dense_shape[0], self.indices.astype(jnp.int32)
        if self.indices.dtype.itemsize > 4 or self.indices.dtype == jnp.uint32:
            known = jnp.where((self.indices >= 0) & (self.indices < n), known, n)
        inside = (known >= 0) & (known < n)
        column = inside.reshape(-1, *[1] * (self.values.ndim - 1))
        return self._of(jnp.where(column, self.values, 0), jnp.where(inside, known, n), self.dense_shape)

    def summed(self) -> IndexedSlices:
        """The same with each index once, in order, and padding in the places that this leaves."""
        slices = self.in_range()
        return _summed(slices) if slices.indices.size else slices

    def __add__(self, other: Any) -> Any:
        """With a table, the table; with other slices, the rows of both."""
        if not isinstance(other, IndexedSlices):
            return self.__radd__(other)
        if other.dense_shape != self.dense_shape:
            raise ValueError(f"IndexedSlices: slices of {self.dense_shape} and {other.dense_shape} do not add up.")
        a, b = self.in_range(), other.in_range()
        values = jnp.concatenate([a.values, b.values])
        return self._of(values, jnp.concatenate([a.indices, b.indices]), self.dense_shape)

    def __radd__(self, table: Any) -> jax.Array:
        check(self.values, self.indices, self.dense_shape)
        if jnp.shape(table) != self.dense_shape:
            raise ValueError(f"IndexedSlices: slices of {self.dense_shape} added to an array of {jnp.shape(table)}.")
        table = jnp.asarray(table)
        place = jax.typeof(table).sharding
        if AxisType.Explicit in place.mesh.axis_types:  # types would refuse the scatter
            return cast(Callable[..., jax.Array], auto_axes(_sum, out_sharding=place))(table, self)
        return _sum(table, self)

    def __rsub__(self, table: Any) -> jax.Array:
        return table + -1 * self

    def __mul__(self, factor: Any) -> IndexedSlices:
        if jnp.ndim(factor):
            raise ValueError(f"IndexedSlices: a factor must be a scalar, got an array of {jnp.shape(factor)}.")
        return self.map(lambda values: values * factor)

    __rmul__ = __mul__

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("IndexedSlices: some rows of a table are no array: to_dense() gives the whole table.")

    # Of slices that are summed: where their rows are. Padding has places of its own behind the table, so that XLA may
    # be told that no place comes twice.

    def _places(self) -> jax.Array:
        n = self.dense_shape[0]
        return jnp.where(self.indices < n, self.indices, n + jnp.arange(self.indices.size, dtype=self.indices.dtype))

    def rows_of(self, table: jax.Array) -> jax.Array:
        """The rows of another table at the indices; for padding, its last one."""
        known: dict[str, Any] = {"indices_are_sorted": True, "unique_indices": True, "wrap_negative_indices": False}
        return table.at[self._places()].get(mode="clip", **known)

    def put(self, table: jax.Array, rows: jax.Array) -> jax.Array:
        """The table with other rows at the indices."""
        known: dict[str, Any] = {"indices_are_sorted": True, "unique_indices": True, "wrap_negative_indices": False}
        return table.at[self._places()].set(rows.astype(table.dtype), mode="drop", **known)


@functools.partial(jax.jit, inline=True)
def _summed(slices: IndexedSlices) -> IndexedSlices:
    rows = jnp.sort(slices.indices)  # alone: sorting their places with them would take XLA:CPU five times as long
    rank = jnp.cumsum(jnp.diff(rows, prepend=rows[:1]) != 0)
    place = rank[jnp.searchsorted(rows, slices.indices, method="scan_unrolled")]
    values = jnp.zeros_like(slices.values).at[place].add(slices.values)
    once = jnp.full_like(rows, slices.dense_shape[0]).at[rank].set(rows, indices_are_sorted=True)
    return IndexedSlices._of(values, once, slices.dense_shape)


def _sum(table: jax.Array, slices: IndexedSlices) -> jax.Array:
    """The table and the slices; in 16 bits, each row is added up in float32 and rounded once."""
    with jax.numpy_dtype_promotion("standard"):
        wide = jnp.promote_types(jnp.promote_types(table.dtype, slices.dtype), jnp.float32)
    if wide == table.dtype:
        slices = slices.in_range()
        return table.at[slices.indices].add(slices.values.astype(wide), mode="drop", wrap_negative_indices=False)
    slices = slices.astype(wide).summed()
    return slices.put(table, slices.rows_of(table).astype(wide) + slices.values)


def values_of(x: Any) -> jax.Array:
    """The numbers of an array or of slices."""
    return x.values if isinstance(x, IndexedSlices) else x


def on_values(change: Callable[[jax.Array], jax.Array], x: Any) -> Any:
    """`change` of an array, or of the values of slices."""
    return x.map(change) if isinstance(x, IndexedSlices) else change(x)


def dense(x: Any) -> Any:
    return x.to_dense() if isinstance(x, IndexedSlices) else x


def varies(x: Any) -> frozenset[str]:
    """The mapped axes along which an array differs, as far as its type says so."""
    return frozenset(jax.typeof(x).manual_axis_type.varying)


def varying(x: jax.Array, axes: Iterable[str]) -> jax.Array:
    """The array, with a type that says that it differs along these axes."""
    missing = tuple(sorted({*axes} - varies(x)))
    return lax.pcast(x, missing, to="varying") if missing else x


def gathered(x: IndexedSlices, axes: Sequence[str]) -> IndexedSlices:
    """The slices of all replicas along mapped axes, and so those of a sum over these."""
    typed = all(name in varies(lax.axis_index(name)) for name in axes)

    def gather(a: jax.Array) -> jax.Array:
        if not typed:
            return lax.all_gather(a, tuple(axes), tiled=True)
        return lax.all_gather(varying(a, axes), tuple(axes), tiled=True, to="invarying")

    return IndexedSlices._of(gather(x.values), gather(x.indices), x.dense_shape)


def is_sparse(x: object) -> bool:
    """Whether it is slices, or a sparse matrix of JAX, which is known by its name: its module takes long to import."""
    return isinstance(x, IndexedSlices) or (type(x).__name__ == "BCOO" and type(x).__module__.startswith("jax."))


def taken(owner: str, path: str, x: Any) -> Any:
    """A gradient as it came: slices with sound indices, those of a BCOO matrix too; anything else as it is."""
    if not is_sparse(x):
        return x
    if not isinstance(x, IndexedSlices):
        if x.n_batch or x.n_sparse != 1:
            raise ValueError(
                f"{owner}: the BCOO gradient at {path!r} must hold whole rows (n_batch=0, n_dense={x.ndim - 1}), got "
                f"n_batch={x.n_batch}, n_dense={x.n_dense}."
            )
        x = IndexedSlices._of(x.data, x.indices[:, 0], tuple(x.shape))
    try:
        check(x.values, x.indices, x.dense_shape)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{owner}: the gradient at {path!r}: {error}") from None
    return x.in_range()
