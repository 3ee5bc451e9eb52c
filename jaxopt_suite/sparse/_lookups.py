"""A loss, evaluated so that what it looks up in tables can be differentiated, and not the tables.

The loss is traced once, without being run. Its program is then walked equation by equation: a look-up in a table gives
the same rows as ever, and takes one input more, of the shape of the rows, whose gradient is that of the rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import jax
import jax.numpy as jnp
from jax import lax

if TYPE_CHECKING:  # it takes longer to import than all of this library
    from jax.extend.core import Jaxpr, JaxprEqn

_LOOPS = ("scan", "while", "cond")
_CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr"}  # and where their programs are
_PASSING = ("pvary", "pcast", "copy", "copy_p")  # what leaves the rows of a table as they are
_PLACING = ("sharding_constraint", "reshard")  # and what only moves them


@dataclasses.dataclass(frozen=True)
class Table:
    """A table among the values of a program.

    Attributes:
      number: which of the tables it is.
      array: the table itself, which nothing is differentiated by.
      dtype: what the program has converted it to.
    """

    number: int
    array: jax.Array
    dtype: Any


@dataclasses.dataclass(frozen=True)
class LookUp:
    """A look-up in a table: the type of its rows, and how the rows lie in what the program gets."""

    number: int
    rows: Any  # the aval of what the program gets
    order: tuple[int, ...]  # its axes: those of the ids first, then those of a row

    def values(self, x: jax.Array, table: Any) -> jax.Array:
        """What has the shape of the rows, as `(k, ...)`."""
        return x.transpose(self.order).reshape(-1, *table.shape[1:])


class Taps(Protocol):
    """What is done with each look-up: `rows` go on, and `ids` say which they are."""

    def __call__(self, look_up: LookUp, rows: jax.Array) -> jax.Array: ...


class Notes:
    """Taps that only note the look-ups of a program."""

    def __init__(self) -> None:
        self.found: list[LookUp] = []

    def __call__(self, look_up: LookUp, rows: jax.Array) -> jax.Array:
        self.found.append(look_up)
        return rows


class Inputs:
    """Taps that give the look-ups, in their order, an input each."""

    def __init__(self, inputs: Sequence[jax.Array]):
        self._inputs: Iterator[jax.Array] = iter(inputs)

    def __call__(self, look_up: LookUp, rows: jax.Array) -> jax.Array:
        return _tapped(rows, next(self._inputs))


@jax.custom_jvp
def _tapped(rows: jax.Array, tap: jax.Array) -> jax.Array:
    """The rows; their derivative is that of the tap, whose value is not read."""
    return rows


@_tapped.defjvp
def _tapped_jvp(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    return primals[0], tangents[1]


class Walk:
    """Runs a program; `refuse(number, primitive)` raises, where a table is used for more than its rows."""

    def __init__(self, taps: Taps, refuse: Callable[[int, str], None]):
        self.taps, self.refuse = taps, refuse
        self.ids: list[jax.Array] = []  # of each look-up

    def run(self, jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))

        def read(v: Any) -> Any:
            return v.val if hasattr(v, "val") else known[v]  # a literal

        for eqn in jaxpr.eqns:
            given = [read(v) for v in eqn.invars]
            if any(isinstance(x, Table) for x in given):
                made = self._with_tables(eqn, given)
            else:
                with eqn.ctx.manager:
                    made = eqn.primitive.bind(*given, **eqn.primitive.get_bind_params(eqn.params))
                made = made if eqn.primitive.multiple_results else [made]
            known.update(zip(eqn.outvars, made, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def _with_tables(self, eqn: JaxprEqn, given: Sequence[Any]) -> list[Any]:
        name, params, x = eqn.primitive.name, eqn.params, given[0]
        if name in _CALLS:
            inner = params[_CALLS[name]]
            return self.run(inner.jaxpr, inner.consts, given)
        if name in ("remat2", "checkpoint"):
            return self._rematerialised(params["jaxpr"], params, given)
        number = next(x.number for x in given if isinstance(x, Table))
        if isinstance(x, Table):
            if name in _PASSING:
                return [x]
            if name in _PLACING:
                with eqn.ctx.manager:
                    return [dataclasses.replace(x, array=eqn.primitive.bind(x.array, **params))]
            if name == "stop_gradient":
                return [x.array.astype(x.dtype)]
            if name == "convert_element_type" and jnp.issubdtype(params["new_dtype"], jnp.floating):
                return [dataclasses.replace(x, dtype=params["new_dtype"])]
            found = _LOOK_UPS.get(name, lambda *_: None)(x.array, given[1:], params)
            if found is not None:
                return [self._looked_up(x, *found)]
        self.refuse(number, name)
        raise AssertionError

    def _looked_up(self, table: Table, ids: jax.Array, rows: jax.Array, order: tuple[int, ...]) -> jax.Array:
        self.ids.append(ids.reshape(-1))
        rows = self.taps(LookUp(table.number, jax.typeof(rows), order), rows)
        return rows.astype(table.dtype)

    def _rematerialised(self, jaxpr: Jaxpr, params: dict[str, Any], given: Sequence[Any]) -> list[Any]:
        """Look-ups inside are recomputed as everything else is; their ids come out beside the results."""
        is_table = [isinstance(x, Table) for x in given]

        def inside(*arrays: jax.Array) -> tuple[list[Any], list[jax.Array]]:
            rest, walk = iter(arrays), Walk(self.taps, self.refuse)
            made = walk.run(jaxpr, (), [x if known else next(rest) for x, known in zip(given, is_table, strict=True)])
            for x in made:
                if isinstance(x, Table):
                    self.refuse(x.number, "checkpoint")
            return made, walk.ids

        arrays = [x for x, known in zip(given, is_table, strict=True) if not known]
        again = jax.checkpoint(inside, policy=params["policy"], prevent_cse=params["prevent_cse"])
        made, ids = again(*arrays)
        self.ids += ids
        return made


def _gather(table: jax.Array, given: Sequence[Any], params: dict[str, Any]) -> Any:
    """Whole rows by an array of ids, of any rank: ids, rows, and how these lie."""
    (starts,), dims, sizes = given, params["dimension_numbers"], params["slice_sizes"]
    mode = params["mode"]
    filled, clipped = (mode == lax.GatherScatterMode.from_any(name) for name in ("fill", "clip"))
    plain = not dims.operand_batching_dims and 0 in dims.start_index_map and sizes == (1, *table.shape[1:])
    if not plain or (filled and dims.start_index_map != (0,)):
        return None
    ids = starts[..., dims.start_index_map.index(0)]
    ids = jnp.clip(ids, 0, table.shape[0] - 1) if clipped else ids  # others that are out of range get no gradient
    rows = lax.gather(table, starts, dims, sizes, mode=mode, fill_value=params["fill_value"])
    batch = [axis for axis in range(rows.ndim) if axis not in dims.offset_dims]
    return ids, rows, (*batch, *dims.offset_dims)


def _dynamic_slice(table: jax.Array, given: Sequence[Any], params: dict[str, Any]) -> Any:
    """Rows in a row from a place that is not known before."""
    m = params["slice_sizes"][0]
    if params["slice_sizes"][1:] != table.shape[1:]:
        return None
    start = jnp.clip(given[0], 0, table.shape[0] - m)
    rows = lax.dynamic_slice(table, given, params["slice_sizes"])
    return start + jnp.arange(m, dtype=start.dtype), rows, tuple(range(rows.ndim))


def _slice(table: jax.Array, given: Sequence[Any], params: dict[str, Any]) -> Any:
    """Rows in a row, but not all of them."""
    start, stop, strides = params["start_indices"], params["limit_indices"], params["strides"]
    step = 1 if strides is None else strides[0]
    if any(start[1:]) or stop[1:] != table.shape[1:] or set((strides or (1,))[1:]) - {1}:
        return None
    rows = lax.slice(table, start, stop, strides)
    return jnp.arange(start[0], stop[0], step, dtype=jnp.int32), rows, tuple(range(rows.ndim))


_LOOK_UPS: dict[str, Callable[..., Any]] = {"gather": _gather, "dynamic_slice": _dynamic_slice, "slice": _slice}


def is_loop(primitive: str) -> bool:
    return primitive in _LOOPS
