"""Random bits that depend on nothing but a seed, a leaf, a step and an index: a hash, computed where they are used."""

import functools
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Part(NamedTuple):
    """Where a part of an array lies in the whole one.

    Attributes:
      first: its first index in each dimension; of some rows of a table, how far each lies from its place among them.
      whole: the shape of the whole array.
    """

    first: tuple[jax.Array | int, ...]
    whole: tuple[int, ...]


def leaf_number(path: str, part: jax.Array | None = None) -> jax.Array:
    """A number of a leaf's own, or of one of its parts of which nothing else is known."""
    leaf = jnp.uint32(zlib.crc32(path.encode()))
    return leaf if part is None else _hash(leaf + part.astype(jnp.uint32) + 1)


def stream_number(seed: int, *names: str) -> int:
    """A number of what draws bits."""
    return zlib.crc32(repr((seed, *names)).encode())


def random_bits(
    stream: int, leaf: jax.Array, step: jax.Array, shape: tuple[int, ...], part: Part | None = None
) -> jax.Array:
    """32 bits for each entry of an array, uint32: the same on every replica, however the array is sharded.

    The entry of index `i` gets the hash of `i + k`, where `k` is that of the stream, the leaf and the step. The index
    of an entry of a `part` is that in the whole array.
    """
    key = functools.reduce(lambda key, x: _hash(key ^ x.astype(jnp.uint32)), (leaf, step), _hash(jnp.uint32(stream)))
    index, stride = jnp.zeros(shape, jnp.uint32), 1
    for axis in reversed(range(len(shape))):
        index += lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride)
        if part is not None:
            key += jnp.asarray(part.first[axis], jnp.uint32) * jnp.uint32(stride)
        stride = stride * (shape if part is None else part.whole)[axis] % 2**32
    return _hash(index + key)


def _hash(x: jax.Array) -> jax.Array:
    """A permutation of the 32-bit integers in which each bit of `x` turns each other over with even odds."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x21F0AAAD)
    x = (x ^ (x >> 15)) * jnp.uint32(0xD35A2D97)
    return x ^ (x >> 15)


def nearest(x: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """`x` as its nearest neighbour in a 16-bit dtype, in float32: a conversion there and back may be taken away."""
    info, x = jnp.finfo(dtype), x.astype(jnp.float32)
    near = lax.reduce_precision(x, info.nexp, info.nmant)
    if info.nexp == 8:
        return near
    fine = float(info.smallest_subnormal)  # reduce_precision makes what is below the normal numbers zero
    tiny = jnp.abs(x) < float(info.smallest_normal)
    return jnp.where(tiny, x + lax.stop_gradient(jnp.round(x / fine) * fine - x), near)


def rounded(x: jax.Array, dtype: jnp.dtype, bits: jax.Array) -> jax.Array:
    """`x` as one of its two neighbours in a 16-bit dtype, in float32, with odds that leave its mean as it is.

    What lies beyond the largest number of the dtype is rounded as usual, to infinity in the end. The derivative is 1.
    """
    info, x = jnp.finfo(dtype), x.astype(jnp.float32)
    near = _rounded(lax.stop_gradient(x), info, bits)
    inside = jnp.abs(x) <= float(info.max)
    return jnp.where(inside, x + lax.stop_gradient(near - x), lax.reduce_precision(x, info.nexp, info.nmant))


def _rounded(x: jax.Array, info: Any, bits: jax.Array) -> jax.Array:
    dropped = 23 - info.nmant
    dither = lax.shift_right_logical(bits, jnp.uint32(32 - dropped)).astype(jnp.int32)
    cut = (lax.bitcast_convert_type(x, jnp.int32) + dither) & jnp.int32(-1 << dropped)
    near = lax.bitcast_convert_type(cut, jnp.float32)
    if info.nexp == 8:
        return near
    fine = float(info.smallest_subnormal)  # below its smallest normal number the dtype has a fixed grid
    dither = lax.shift_right_logical(bits, jnp.uint32(8)).astype(jnp.float32) * (2.0**-24)
    return jnp.where(jnp.abs(x) < float(info.smallest_normal), jnp.floor(x / fine + dither) * fine, near)
