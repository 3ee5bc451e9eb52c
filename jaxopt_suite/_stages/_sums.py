"""Sums over all entries of all arrays together."""

import functools
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxopt_suite._frame.roots import root
from jaxopt_suite._frame.split import Split, total
from jaxopt_suite._slices import varies, varying

Terms = tuple[jax.Array, ...]

_SMALL = 16_384  # entries: what is larger is worth a reduction of its own
_TOGETHER = 32  # arrays: what one kernel reads without trouble


def global_norm(xs: Sequence[jax.Array], splits: Sequence[Split], dtype: jnp.dtype) -> jax.Array:
    """The Euclidean norm of all arrays together, and of all their parts, summed in `dtype`."""
    return root(global_sums([(jnp.square(x.astype(dtype)),) for x in xs], splits, dtype, 1)[0])


def global_sums(rows: Sequence[Terms], splits: Sequence[Split], dtype: jnp.dtype, n: int) -> jax.Array:
    """`n` sums, of which each row holds a term: of all its entries, in all rows and in all their parts.

    Small arrays of one type are added up before they are reduced. A thousand leaves then make a few dozen
    reductions; and unlike arrays that are joined, they are neither copied nor moved between devices.
    """
    alike: dict[Any, list[Terms]] = {}
    for i, (row, split) in enumerate(zip(rows, splits, strict=True)):
        kind = tuple(map(jax.typeof, row)) if max(x.size for x in row) <= _SMALL else i
        alike.setdefault((split, kind), []).append(row)
    sums = [
        (split, _reduced(functools.reduce(_added, found[start : start + _TOGETHER])))
        for (split, _), found in alike.items()
        for start in range(0, len(found), _TOGETHER)
    ]
    return jnp.zeros(n, dtype) + total(sums, dtype)


def _added(one: Terms, other: Terms) -> Terms:
    return tuple(map(operator.add, one, other))


@jax.custom_jvp
def _reduced(row: Terms) -> jax.Array:
    """The sum of each term; terms of one shape are summed in one pass, or XLA:CPU stores what they share."""
    if len(row) == 1 or len({x.shape for x in row}) > 1:
        return jnp.stack([jnp.sum(x) for x in row])
    axes = frozenset.union(*map(varies, row))
    zeros = tuple(varying(jnp.zeros((), x.dtype), axes) for x in row)
    alike = tuple(varying(x, axes) for x in row)
    return jnp.stack(lax.reduce(alike, zeros, _added, tuple(range(row[0].ndim))))


@_reduced.defjvp
def _reduced_jvp(primals: tuple[Terms], tangents: tuple[Terms]) -> tuple[jax.Array, jax.Array]:
    return _reduced(*primals), jnp.stack([jnp.sum(dx) for dx in tangents[0]])
