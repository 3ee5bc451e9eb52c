"""Arrays of which each device of `shard_map` holds a part: which axes they are split over, and sums of all parts.

Under `jit` an array is whole, whatever devices it lies on. Inside `shard_map` a rule sees this device's part of a
parameter that is sharded, and a norm of it would be a norm of the part.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from jaxopt_suite.state._codec import Blocks, block_of
from jaxopt_suite.state._random import Part

ShardAxes: TypeAlias = tuple[tuple[str, tuple[str | tuple[str, ...] | None, ...]], ...]


class SplitError(ValueError):
    """How an array is split cannot be known, or not as it is said."""


@dataclasses.dataclass(frozen=True)
class Split:
    """How an array is split over mapped axes.

    Attributes:
      axes: those that it is split over; None where nothing says whether it is.
      dims: those by dimension; None where only `axes` are known.
    """

    axes: tuple[str, ...] | None = ()
    dims: tuple[tuple[str, ...], ...] | None = None

    def sum(self, x: jax.Array, axis: int | None = None) -> jax.Array:
        """The sum of all entries of the whole array, or along a dimension of it; `x` has the array's dimensions."""
        names = self._along(axis)
        return lax.psum(jnp.sum(x, axis), names) if names else jnp.sum(x, axis)

    def mean(self, x: jax.Array, axis: int | None = None) -> jax.Array:
        """The mean of all entries of the whole array, or along a dimension of it."""
        names = self._along(axis)
        return lax.pmean(jnp.mean(x, axis), names) if names else jnp.mean(x, axis)

    def whole(self, function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
        """This device's part of `function` of the whole array, which has the same shape."""
        if not self._along(None):
            return function(x)
        parts = [(i, names) for i, names in enumerate(self._dims()) if names]
        full = x
        for i, names in parts:
            full = lax.all_gather(full, names, axis=i, tiled=True)
        full = function(full)
        for i, names in parts:
            full = lax.dynamic_slice_in_dim(full, lax.axis_index(names) * x.shape[i], x.shape[i], i)
        return full

    def number(self) -> jax.Array | None:
        """The number of this device's part; None where the array is whole, or `part` says more."""
        return lax.axis_index(self.axes) if self.axes and self.dims is None else None

    def part(self, shape: tuple[int, ...]) -> Part | None:
        """Where this device's part, of this shape, lies in the whole array; None where that is not known."""
        if not self.axes or self.dims is None:
            return None
        cuts = [(lax.axis_index(names), lax.axis_size(names)) if names else (0, 1) for names in self.dims]
        first = tuple(i * size for (i, _), size in zip(cuts, shape, strict=True))
        return Part(first, tuple(n * size for (_, n), size in zip(cuts, shape, strict=True)))

    def check_blocks(self, slot: Blocks, shape: tuple[int, ...], block: int) -> None:
        """Refuses a slot of an array of this shape whose blocks, of `block` entries, do not end where its parts do.

        Where the dimensions are not known, they must be those that the slots of the whole array would have.
        """
        n, blocks = slot.shape[-1], slot.scale.shape[-1]
        if not self.axes or n % block == 0:
            return
        parts = lax.axis_size(self.axes)
        if self.dims is None and n % block_of(parts * n, parts * blocks) == 0:
            return
        dims = self._dims()
        if any(dims[-1:] if slot.shape == shape else dims):
            raise SplitError(
                f"slots are stored in blocks of {block} along the last dimension, of which each device must have whole "
                f"ones, got {n} entries: split another dimension, or take it out by exclude."
            )

    def _along(self, axis: int | None) -> tuple[str, ...]:
        if self.axes is None:
            raise SplitError(
                "a norm needs all of it, and its gradient differs along a mapped axis, as a shard's does and one that "
                "is not summed yet: call update(grads, state, params), or say which by shard_axes."
            )
        return self.axes if axis is None or not self.axes else self._dims()[axis]

    def _dims(self) -> tuple[tuple[str, ...], ...]:
        if self.dims is None:
            raise SplitError(
                f"it is split over {self.axes}, and along which of its dimensions must be known: say it by "
                "shard_axes, such as shard_axes={'kernel': (None, 'model')}."
            )
        return self.dims


WHOLE = Split()


def total(parts: Sequence[tuple[Split, jax.Array]], dtype: jnp.dtype) -> jax.Array:
    """The sum of one scalar for each array, over all parts: one reduction for those that are split alike."""
    local: dict[tuple[str, ...], jax.Array] = {}
    for split, x in parts:
        names = split._along(None)
        local[names] = local.get(names, jnp.zeros((), dtype)) + x
    return sum((lax.psum(x, names) if names else x for names, x in local.items()), jnp.zeros((), dtype))


def varying(x: Any) -> frozenset[str]:
    """The mapped axes along which the type of an array says that it differs; `pmap` gives no such types."""
    return jax.typeof(x).manual_axis_type.varying


def typed(x: Any, w: Any) -> Split:
    """The split of a parameter `w` by its type, where `x`, its gradient, differs along the same axes.

    A gradient that does not is that of replicas, summed over them.
    """
    differs = varying(x)
    if w is None:
        return Split(None) if differs else WHOLE
    return Split(tuple(sorted(differs & varying(w)))) if differs else WHOLE


def declared(shard_axes: ShardAxes, path: str, shape: Sequence[int]) -> Split:
    """The split that `shard_axes` says of the parameter at `path`; whole where no regex is found in it."""
    spec = next((spec for pattern, spec in shard_axes if re.search(pattern, path)), ())
    if len(spec) > len(shape):
        raise SplitError(f"shard_axes must fit the shape {tuple(shape)} of {path!r}, got {spec}.")
    dims = tuple((entry,) if isinstance(entry, str) else entry or () for entry in spec)
    dims += ((),) * (len(shape) - len(dims))
    axes = tuple(name for names in dims for name in names)
    _check_mapped(axes)
    return Split(axes, dims)


def _check_mapped(axes: Sequence[str]) -> None:
    for name in axes:
        try:
            lax.axis_size(name)
        except NameError:
            raise SplitError(f"shard_axes must name axes of the shard_map or pmap around, got {name!r}.") from None
