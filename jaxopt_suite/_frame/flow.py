"""Gradients on their way down a line, and what waits behind it."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp

from jaxopt_suite import _trees as trees
from jaxopt_suite._frame.split import WHOLE, ShardAxes, Split, declared, typed
from jaxopt_suite._slices import IndexedSlices, dense, on_values, values_of
from jaxopt_suite._trees import Tree

Result = TypeVar("Result")
Arrays = list[Any]  # one array for each leaf of the gradients, None where there is none


@dataclasses.dataclass(frozen=True)
class Flow(Generic[Result]):
    """Gradients on their way down a line.

    Attributes:
      owner: the name that errors begin with.
      grads, params, extra: what `update` was given. `grads` says which leaves there are, and in which containers.
      xs: the arrays, or slices of tables, as they have become on the way.
      then: what everything behind the line makes of the updates.
      hold: its result where a gate holds the gradients back, so that nothing behind runs.
      shares: whether arrays that are alike share one trace.
      writes: whether an array of a 16-bit parameter comes as the value to write, in float32, not as the step to add.
      shard_axes: what is said of the parameters' parts inside `shard_map`; None where their types say it.
    """

    owner: str
    grads: Tree
    params: Tree | None
    extra: Mapping[str, Tree]
    xs: Arrays
    then: Callable[[Arrays], Result]
    hold: Callable[[], Result]
    shares: bool = True
    writes: bool = False
    shard_axes: ShardAxes | None = None

    @property
    def is_sparse(self) -> bool:
        """Whether there are slices among the gradients that `update` was given."""
        return any(isinstance(g, IndexedSlices) for g in trees.leaves(self.grads))

    def replace(self, **changes: object) -> "Flow[Any]":
        return dataclasses.replace(self, **changes)

    def of(self, owner: str, shard_axes: ShardAxes | None) -> "Flow[Result]":
        """The flow in a line of this name, which may say itself how parameters are split."""
        return self.replace(owner=owner, shard_axes=self.shard_axes if shard_axes is None else shard_axes)

    def part(self, keep: Sequence[bool]) -> "Flow[Arrays]":
        """The flow of some of the leaves, to be given back by `whole`."""
        paths = trees.paths(self.grads)
        extra = {n: trees.masked(x, keep) if trees.paths(x) == paths else x for n, x in self.extra.items()}
        grads, params = trees.masked(self.grads, keep), trees.masked(self.params, keep)
        xs = [x for x, kept in zip(self.xs, keep, strict=True) if kept]
        return self.replace(grads=grads, params=params, extra=extra, xs=xs, then=list, hold=lambda: [None] * len(xs))

    def weights(self) -> Arrays:
        return [None] * len(self.xs) if self.params is None else trees.leaves(self.params)

    def splits(self) -> list[Split]:
        """Of which arrays this device holds a part."""
        if self.shard_axes is None:
            return [
                WHOLE if x is None else typed(values_of(x), w) for x, w in zip(self.xs, self.weights(), strict=True)
            ]
        named = zip(trees.paths(self.grads), self.xs, strict=True)
        return [WHOLE if x is None else declared(self.shard_axes, path, trees.shape_of(x)) for path, x in named]

    def dtype(self) -> jnp.dtype:
        """The precision of scalars."""
        return trees.compute_dtype(*trees.leaves(self.params), *trees.leaves(self.grads))

    def updates(self, xs: Arrays) -> Tree:
        """The tree of updates, each in the dtype of its gradient and its parameter together; zero if nothing moves.

        That of a 16-bit parameter that is written is float32: added to it, it gives what was to be written.
        """
        out = []
        for g, w, x in zip(trees.leaves(self.grads), self.weights(), xs, strict=True):
            known = [a for a in (g, w) if a is not None]
            if not known:
                out.append(None)
            elif self.writes and trees.is_half(w):
                out.append(_difference(g, w, x))
            else:
                out.append(_nothing(known) if x is None else x.astype(_promoted(known)))
        return trees.like(self.grads, out)

    def applied(self, xs: Arrays) -> Tree:
        """The tree of new parameters."""
        out = []
        for w, x in zip(self.weights(), xs, strict=True):
            if x is None or w is None:
                out.append(w)
            else:
                out.append(_written(w, x) if self.writes and trees.is_half(w) else _sum(w, x))
        return trees.like(self.params, out)


def _difference(g: Any, w: Any, x: Any) -> Any:
    """What has to be added to a 16-bit parameter, or to some of its rows, to give the values to write."""
    if x is None:
        return on_values(functools.partial(jnp.zeros_like, dtype=jnp.float32), w if g is None else g)
    if isinstance(x, IndexedSlices):
        return x.map(lambda values: values - x.rows_of(w).astype(jnp.float32))
    return x - w.astype(jnp.float32)


def _written(w: Any, x: Any) -> Any:
    """The values to write in the place of a parameter's, or of some of its rows."""
    return x.put(w, x.values) if isinstance(x, IndexedSlices) else x.astype(w.dtype)


def _sum(w: Any, x: Any) -> Any:
    """In the precision of the update, back in that of the parameter; slices do so for their rows alone."""
    return w + x if isinstance(x, IndexedSlices) else (w.astype(x.dtype) + x).astype(w.dtype)


def alike(result: Any, other: Any) -> Any:
    """`result`, with slices made dense where `other` has arrays."""

    def one(x: Any, y: Any) -> Any:
        return x if isinstance(y, IndexedSlices) else dense(x)

    return jax.tree.map(one, result, other, is_leaf=lambda x: isinstance(x, IndexedSlices))


def spread(xs: Sequence[Any], keep: Sequence[bool], others: Sequence[Any] | None = None) -> Arrays:
    """The leaves of a whole tree from those of a part; the others are as given, or None."""
    part = iter(xs)
    rest = others if others is not None else [None] * len(keep)
    return [next(part) if kept else other for kept, other in zip(keep, rest, strict=True)]


def among(params: Tree, moving: Sequence[bool] | None, mine: Tree) -> Tree:
    """The tree of all parameters, with `mine` in the place of those that move."""
    return mine if moving is None else trees.like(params, spread(trees.leaves(mine), moving, trees.leaves(params)))


def _promoted(known: Sequence[Any]) -> jnp.dtype:
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*map(trees.dtype_of, known))


def _nothing(known: Sequence[Any]) -> Any:
    """A zero update for a leaf that does not move; what has no zero (a PRNG key) comes as it is."""
    dtypes = [trees.dtype_of(a) if hasattr(a, "dtype") else None for a in known]
    if all(dtype is not None and jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes):
        return on_values(lambda x: jnp.zeros_like(x, _promoted(known)), known[0])
    last = known[-1]
    return last if jnp.issubdtype(last.dtype, jax.dtypes.extended) else jnp.zeros_like(last)
