"""How an array of a state is stored: as it is, in 16 bits, or as 8-bit codes with a scale for each block.

A block is a piece of the last axis. Its scale `S` is the power of two at or above its largest entry, and a code stands
for a level `S * 2^-e * (1 + k / 2^b)`: an octave below `S` has `2^b` levels. The upper octaves have 16 levels each and
the lower ones 4, so that the relative error hardly depends on the size, and a level of one step is one of the next.
Codes and levels are the upper bits of a float32, so that nothing is looked up.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, auto_axes

from jaxopt_suite.state._random import Part, random_bits, rounded, stream_number

Kind = Literal["float32", "bfloat16", "blockwise8"]
KINDS: tuple[str, ...] = get_args(Kind)

_HALF = 1 << 15  # as a dither of 16 bits, this rounds to the nearest


class Blocks(NamedTuple):
    """An array as codes of its own shape, and a scale for each block of its last axis."""

    codes: jax.Array
    scale: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    @property
    def ndim(self) -> int:
        return self.codes.ndim

    @property
    def size(self) -> int:
        return self.codes.size


@dataclasses.dataclass(frozen=True)
class Storage:
    """How the slots of one stage are stored.

    Attributes:
      kinds: of the slots by field; others are stored as they are.
      min_size: the entries from which on a slot is stored in fewer bits.
      exclude: regexes of parameters whose slots are stored as they are.
      block: the entries of a block, a power of two.
      seed: of the rounding.
    """

    kinds: Mapping[str, str]
    min_size: int
    exclude: tuple[str, ...]
    block: int
    seed: int

    @property
    def coded(self) -> list[str]:
        return [field for field, kind in self.kinds.items() if kind == "blockwise8"]

    def kind(self, field: str, path: str, x: Any) -> str | None:
        """How a slot of the parameter at `path` is stored, an array or its shape; None where it stays as it is."""
        kind = self.kinds.get(field)
        small = kind != "float32" and (x.size < self.min_size or x.ndim == 0)
        return None if small or self.excludes(path) else kind

    def check(self, owner: str, path: str, row: Mapping[str, Any]) -> None:
        """Refuses slots of the parameter at `path` that are not stored so, which would stay as they are."""
        for field in self.kinds.keys() & row.keys():
            x, want = row[field], self.kind(field, path, row[field])
            have = kind_of(x)
            blocks = x.scale.shape[-1] if is_blocks(x) else 0
            want = want or ("float32" if have == "blockwise8" else have)
            if (have != want and have != "float64") or (blocks and blocks != -(-x.shape[-1] // self.block)):
                must = f"{want} in blocks of {self.block}" if want == "blockwise8" else want
                have = f"{have} in {blocks} blocks of {x.shape[-1]} entries" if blocks and have == want else have
                raise ValueError(
                    f"{owner}: the state is stored otherwise: slot {field!r} at {path!r} is {have}, it must be {must}: "
                    "jos.state.migrate stores it anew."
                )

    def excludes(self, path: str) -> bool:
        """Whether the slots of the parameter at `path` stay as they are."""
        return any(re.search(pattern, path) for pattern in self.exclude)

    def first(self, field: str, path: str, x: jax.Array, signed: bool) -> jax.Array | Blocks:
        """A slot as it is stored, rounded to the nearest."""
        kind = self.kind(field, path, x)
        if kind != "blockwise8":
            return x if kind is None else x.astype(kind)
        scale = jnp.zeros((*x.shape[:-1], -(-x.shape[-1] // self.block)), jnp.bfloat16)
        x = lax.optimization_barrier(x)  # or the compiler folds zeros, for minutes
        return encode(x, Blocks(jnp.zeros(x.shape, jnp.int8 if signed else jnp.uint8), scale), None)


class Dither:
    """Random bits for the slots of one array in one step, 16 for each: two slots of one shape share 32.

    `parts` says of shapes where an array lies in the whole one; a slot of another shape draws as if it was whole.
    """

    def __init__(self, seed: int, stage: str, leaf: jax.Array, step: jax.Array, parts: Mapping[Any, Part | None]):
        self._draw, self._bits, self._drawn, self._parts = (seed, stage, leaf, step), {}, 0, parts

    def __call__(self, shape: tuple[int, ...]) -> jax.Array:
        """16 bits for each entry, as an integer below 2^16."""
        seed, stage, leaf, step = self._draw
        if shape in self._bits:
            return (self._bits.pop(shape) >> 16).astype(jnp.int32)
        self._drawn += 1
        stream = stream_number(seed, stage, str(self._drawn))
        bits = random_bits(stream, leaf, step, shape, self._parts.get(shape))
        self._bits[shape] = bits
        return (bits & 0xFFFF).astype(jnp.int32)


class _Grid:
    """The levels of a block, as shares of its scale: `codes` of them, 16 in each of the `upper` octaves, then 4."""

    def __init__(self, codes: int, upper: int):
        self.lower_codes = codes - 1 - 16 * upper
        self.turn = self.lower_codes << _LOWER  # where the octaves get 16 levels, counted from the smallest level
        self.top = self.turn + (upper << 23)
        self.smallest_bits = int(np.float32(1).view(np.int32)) - self.top
        self.smallest = float(np.int32(self.smallest_bits).view(np.float32))

    def code(self, y: jax.Array, dither: jax.Array | int) -> jax.Array:
        """The code of a number in [0, 1]: of the level above it in `dither` of 2^16 parts of their distance."""
        bits = lax.bitcast_convert_type(y, jnp.int32) - self.smallest_bits
        lower = bits < self.turn
        bits += dither << jnp.where(lower, _LOWER - 16, _UPPER - 16)
        bits = jnp.clip(bits, 0, jnp.where(lower, self.turn, self.top))
        return (jnp.minimum(bits, self.turn) >> _LOWER) + (jnp.maximum(bits - self.turn, 0) >> _UPPER) + 1

    def level(self, code: jax.Array) -> jax.Array:
        lower, upper = jnp.minimum(code - 1, self.lower_codes), jnp.maximum(code - 1 - self.lower_codes, 0)
        return lax.bitcast_convert_type((lower << _LOWER) + (upper << _UPPER) + self.smallest_bits, jnp.float32)


_LOWER, _UPPER = 21, 19  # bits of a float32 below the first 2 and 4 of its mantissa
_UNSIGNED, _SIGNED = _Grid(255, upper=12), _Grid(127, upper=5)


def _grid(codes: jax.Array) -> _Grid:
    return _UNSIGNED if codes.dtype == jnp.uint8 else _SIGNED


def joined(array: Any, scale: Any) -> Any:
    """An array of a coded slot and its scale, which means nothing where this one is not coded."""
    return Blocks(array, scale) if array is not None and array.dtype in (jnp.int8, jnp.uint8) else array


def kind_of(x: Any) -> str:
    """What `explain` calls the storage of an array."""
    return "blockwise8" if is_blocks(x) else str(x.dtype)


def is_blocks(x: object) -> bool:
    return isinstance(x, Blocks)


def decode(stored: Any, dtype: jnp.dtype | None = None) -> Any:
    """The array that is stored, in `dtype`; without one, codes give float32."""
    if not isinstance(stored, Blocks):
        return stored if stored is None or dtype is None else stored.astype(dtype)
    return _automatic(_decode, stored.codes, stored.scale, out=lambda spec: spec).astype(dtype or jnp.float32)


def _decode(codes: jax.Array, scale: jax.Array) -> jax.Array:
    code = codes.astype(jnp.int32)
    level = _grid(codes).level(jnp.abs(code))
    level = jnp.where(code == 0, 0.0, jnp.where(code < 0, -level, level))
    return level * _spread(scale.astype(jnp.float32), codes.shape[-1])  # all of a block is NaN where its scale is


def _automatic(function: Callable, *arrays: jax.Array, out: Callable[[PartitionSpec], Any]) -> Any:
    """`function` of arrays, on explicit axes too, whose types know of no blocks; `out` says where the result lies."""
    sharding = jax.typeof(arrays[0]).sharding
    if AxisType.Explicit not in sharding.mesh.axis_types:
        return function(*arrays)
    where = jax.tree.map(functools.partial(NamedSharding, sharding.mesh), out(sharding.spec))
    return auto_axes(function, out_sharding=where)(*arrays)


def encode(x: Any, old: Any, dither: Dither | None) -> Any:
    """An array stored as the `old` one is; rounded up or down by chance, so that its mean stays, or to the nearest."""
    if isinstance(old, Blocks):
        x = jnp.asarray(x, jnp.float32)
        if dither is not None:
            return _encode(x, old, dither(x.shape))
        return Blocks(*_automatic(lambda x, *old: tuple(_encode(x, Blocks(*old), _HALF)), x, *old, out=_specs))
    if old is None or dither is None or old.dtype != jnp.bfloat16:
        return None if old is None else x.astype(old.dtype)
    bits = dither(x.shape).astype(jnp.uint32) << 16
    return rounded(x.astype(jnp.float32), old.dtype, bits).astype(old.dtype)


def _specs(spec: PartitionSpec) -> tuple[PartitionSpec, PartitionSpec]:
    """Codes lie as their array does, scales whole along the axis of the blocks."""
    return spec, PartitionSpec(*spec[:-1], None) if len(spec) else spec


def _encode(x: jax.Array, old: Blocks, dither: jax.Array | int) -> Blocks:
    grid, size = _grid(old.codes), jnp.abs(x)
    scale = _scale(size, old.scale.shape[-1])
    y = size * _spread(1 / scale, x.shape[-1])
    code = grid.code(y, dither)
    if old.codes.dtype == jnp.uint8:  # what is not zero does not become zero
        code = jnp.where(x > 0, code, 0)
    else:
        some = jnp.asarray(dither, jnp.float32) * (grid.smallest / 2**16) < y
        code = jnp.where(y < grid.smallest, some.astype(jnp.int32), code)
        code = jnp.where(x < 0, -code, code)
    return Blocks(code.astype(old.codes.dtype), scale.astype(old.scale.dtype))


def _scale(size: jax.Array, blocks: int) -> jax.Array:
    """The power of two at or above the largest entry of each block; NaN where one is not finite."""
    bits = lax.bitcast_convert_type(size, jnp.int32)  # the order of the integers is that of the floats, NaN the largest
    largest = _by_platform(bits, blocks, _largest, _largest_of_slices)
    power = jnp.clip((largest + 0x7FFFFF) & 0x7F800000, 1 << 23, 253 << 23)
    return jnp.where(largest >= 0x7F800000, jnp.nan, lax.bitcast_convert_type(power, jnp.float32))


def _spread(scale: jax.Array, n: int) -> jax.Array:
    """What belongs to blocks, for each of the `n` entries of the last axis."""
    if scale.shape[-1] == 1:
        return scale
    return _by_platform(scale, scale.shape[-1], functools.partial(_repeated, n), functools.partial(_selected, n))


def _by_platform(x: jax.Array, blocks: int, default: Callable, tpu: Callable) -> jax.Array:
    """TPUs lay out an axis that is cut into blocks anew, which takes several arrays; a few blocks come one by one."""
    if not 1 < blocks <= 16:
        return default(x, blocks)
    of = functools.partial(functools.partial, blocks=blocks)
    return lax.platform_dependent(x, tpu=of(tpu), default=of(default))


def _largest(bits: jax.Array, blocks: int) -> jax.Array:
    n = bits.shape[-1]
    width = n if blocks == 1 else block_of(n, blocks)
    whole = n // width
    first = _largest_of_equal(bits[..., : whole * width], whole, width)
    if whole == blocks:
        return first
    return jnp.concatenate([first, _largest_of_equal(bits[..., whole * width :], 1, n - whole * width)], -1)


def _largest_of_equal(bits: jax.Array, blocks: int, width: int) -> jax.Array:
    inner = math.gcd(width, 16)  # in two steps, which the compiler for CPUs turns into vectors
    return jnp.max(jnp.max(bits.reshape(*bits.shape[:-1], blocks, width // inner, inner), -2), -1)


def _largest_of_slices(bits: jax.Array, blocks: int) -> jax.Array:
    width = block_of(bits.shape[-1], blocks)
    return jnp.stack([jnp.max(bits[..., i * width : (i + 1) * width], -1) for i in range(blocks)], -1)


def _repeated(n: int, scale: jax.Array, blocks: int) -> jax.Array:
    return jnp.repeat(scale, block_of(n, blocks), axis=-1)[..., :n]


def _selected(n: int, scale: jax.Array, blocks: int) -> jax.Array:
    shape, width = (*scale.shape[:-1], n), block_of(n, blocks)
    block, out = (
        lax.broadcasted_iota(jnp.int32, shape, len(shape) - 1) // width,
        jnp.broadcast_to(scale[..., :1], shape),
    )
    for i in range(1, blocks):
        out = jnp.where(block == i, scale[..., i : i + 1], out)
    return out


def block_of(n: int, blocks: int) -> int:
    """The power of two that cuts `n` entries into so many blocks; the smallest, where there are several."""
    block = 1
    while -(-n // block) > blocks:
        block *= 2
    return block
