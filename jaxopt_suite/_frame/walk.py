"""One walk over the leaves of a tree with a sequence of rules: the only place that brings rules and trees together."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_suite import _trees as trees
from jaxopt_suite._frame.flow import Arrays, Flow
from jaxopt_suite._frame.leafwise import Moment, Rule
from jaxopt_suite._frame.split import Split, SplitError
from jaxopt_suite._frame.stages import LeafStage
from jaxopt_suite._slices import IndexedSlices, dense, values_of
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._codec import Dither, decode, encode, is_blocks
from jaxopt_suite.state._layout import OptimizerState, Slots, SlotTable
from jaxopt_suite.state._random import leaf_number


class Walk:
    """One walk over the leaves; leaves of one shape, dtype and rule are traced once."""

    def __init__(self, flow: Flow, step: jax.Array, learning_rate: jax.Array):
        self.flow, self.step, self.learning_rate = flow, step, learning_rate
        self.xs = [x if x is None or isinstance(x, IndexedSlices) else jnp.asarray(x) for x in flow.xs]
        self.ws = [None if w is None else jnp.asarray(w) for w in flow.weights()]
        self.splits = flow.splits()
        self.dtypes = [trees.compute_dtype(x, w) for x, w in zip(self.xs, self.ws, strict=True)]
        self._traced: dict[Any, Callable] = {}

    def through(self, stages: Sequence[tuple[str, LeafStage]], state: OptimizerState) -> dict[str, Slots]:
        """Takes every array through some stages of a line: their slots afterwards."""
        if not stages:
            return {}
        before = [state.stages.get(key) for key, _ in stages]
        after = self.run(lambda dtype: [stage.rule(state.count, dtype) for _, stage in stages], before)
        return {key: slots for (key, _), slots in zip(stages, after, strict=True)}

    def run(self, rules_in: Callable[[jnp.dtype], Sequence[Rule]], slots: Sequence[Slots]) -> list[Slots]:
        """Takes every array through the rules, built for each precision; gives their slots, and leaves `xs`."""
        precisions = sorted({*self.dtypes} or {jnp.dtype("float32")}, key=lambda c: c.itemsize)
        chains = {c: tuple(rules_in(c)) for c in precisions}
        widest = chains[precisions[-1]]  # scalars that all arrays share are kept in the highest precision
        self._check(widest)
        paths = trees.paths(self.flow.grads)
        tables = [SlotTable(self.flow.owner, paths, r.layout, s) for r, s in zip(widest, slots, strict=True)]
        cuts = [0, *(i for i, rule in enumerate(widest) if rule.reads_all and i > 0), len(widest)]
        for start, stop in itertools.pairwise(cuts):
            part = slice(start, stop)
            for rule, table in zip(widest[part], tables[part], strict=True):
                self._update_shared(rule, table)
            self._walk({c: chain[part] for c, chain in chains.items()}, tables[part])
        return [table.packed() for table in tables]

    def _check(self, rules: Sequence[Rule]) -> None:
        owner, given = self.flow.owner, self.flow.extra
        if self.flow.params is None and any(rule.reads_weights for rule in rules):
            raise ValueError(f"{owner}: update needs the parameters: call update(grads, state, params).")
        missing = next((name for rule in rules for name in rule.extra_args if name not in given), None)
        if missing is not None:
            raise TypeError(
                f"{owner}: update needs the argument {missing!r}: call update(grads, state, params, {missing}=...)."
            )

    def _update_shared(self, rule: Rule, table: SlotTable) -> None:
        """Advances the scalars that a rule keeps once for the whole tree."""
        if rule.update_shared is None:
            return
        dtype = next(iter(table.shared.values())).dtype
        given = [(x, split) for x, split in zip(self.xs, self.splits, strict=True) if x is not None]
        t = dataclasses.replace(self._moment(dtype), splits=tuple(split for _, split in given))
        new = rule.update_shared(table.shared, [values_of(x) for x, _ in given], t)
        table.shared = {name: value.astype(dtype) for name, value in new.items()}

    def _moment(self, dtype: jnp.dtype) -> Moment:
        return Moment(self.step.astype(dtype), self.learning_rate.astype(dtype), self.step)

    def _walk(self, chains: Mapping[jnp.dtype, Sequence[Rule]], tables: Sequence[SlotTable]) -> None:
        first = next(iter(chains.values()))
        chooses, draws = any(rule.choose for rule in first), any(rule.draws for rule in first)
        names = trees.paths(self.flow.grads) if chooses or draws else []
        extra = {name: self._parts(name) for rule in first for name in rule.extra_args}
        moments = {c: self._moment(c) for c in chains}
        for i, x in enumerate(self.xs):
            if x is None or x.size == 0:
                continue
            c, w = self.dtypes[i], self.ws[i]
            like: Any = jax.ShapeDtypeStruct(x.shape, x.dtype) if w is None else w
            chain = tuple(rule.of(names[i], like) if rule.choose else rule for rule in chains[c])
            rows = [table.row(i) for table in tables]
            mine = {n: jnp.asarray(parts[i], c) for n, parts in extra.items()}
            leaf = leaf_number(names[i], self.splits[i].number()) if draws else None
            t = dataclasses.replace(moments[c], extra=mine, leaf=leaf, split=self.splits[i])
            try:
                for rule, row in zip(chain, rows, strict=True):
                    _check_blocks(rule, row, self.splits[i], x.shape)
                moved, rows = self._trace(chain, c)(x, rows, w, t)
            except SplitError as error:
                path = trees.paths(self.flow.grads)[i]
                raise SplitError(f"at {path!r}: {error}") from None
            except (AttributeError, TypeError, ValueError):  # a state that does not fit often fails inside of a rule
                for table, rule in zip(tables, chain, strict=True):
                    table.check(i, jax.eval_shape(rule.init, like))
                raise
            if moved.shape != x.shape:
                raise ValueError(
                    f"{self.flow.owner}: a rule must return an update of its array's shape {x.shape}, got "
                    f"{moved.shape}."
                )
            self.xs[i] = moved
            for table, row in zip(tables, rows, strict=True):
                table.write(i, row)

    def _parts(self, name: str) -> Arrays:
        """Each array's part of a further argument: a tree like the gradients, or one scalar for all."""
        given = self.flow.extra[name]
        if isinstance(given, (int, float)) or getattr(given, "shape", None) == ():
            return [given] * len(self.xs)
        parts = trees.leaves(given)
        alike = trees.aligned(given, self.flow.grads)
        if not alike or any(x is not None and jnp.shape(p) != x.shape for p, x in zip(parts, self.xs, strict=True)):
            raise ValueError(f"{self.flow.owner}: {name} must be a scalar or a tree like the gradients.")
        return parts

    def _trace(self, chain: tuple[Rule, ...], dtype: jnp.dtype) -> Callable:
        if not self.flow.shares:
            return functools.partial(_update_array, chain, dtype)
        if (chain, dtype) not in self._traced:
            self._traced[chain, dtype] = jax.jit(functools.partial(_update_array, chain, dtype))
        return self._traced[chain, dtype]


Moved = jax.Array | IndexedSlices


def _update_array(
    chain: Sequence[Rule], dtype: jnp.dtype, x: Moved, rows: Sequence[Slots], w: jax.Array | None, t: Moment
) -> tuple[Moved, list[Slots]]:
    """One array through all rules, in the precision `dtype`; its slots keep the dtype they are stored in."""
    if isinstance(x, IndexedSlices):
        return _update_slices(chain, dtype, x, rows, w, t)
    x, w = x.astype(dtype), None if w is None else w.astype(dtype)
    after = []
    for rule, row in zip(chain, rows, strict=True):
        x, new = rule.update(x, _decoded(row, dtype), w, t)
        after.append(jax.tree.map(functools.partial(encode, dither=_dither(rule, t, x.shape)), new, row))
    return x, after


def _update_slices(
    chain: Sequence[Rule], dtype: jnp.dtype, x: IndexedSlices, rows: Sequence[Slots], w: jax.Array | None, t: Moment
) -> tuple[Moved, list[Slots]]:
    """Slices of a table through all rules; from the first rule on that takes none, they are one array."""
    moved, after = x.astype(dtype), []
    for rule, row in zip(chain, rows, strict=True):
        if not isinstance(moved, IndexedSlices) or (rule.rows is None and not rule.on_values):
            moved, (row,) = _update_array((rule,), dtype, dense(moved), [row], w, t)
        elif rule.on_values:
            moved = moved.map(lambda values, rule=rule, row=row: rule.update(values, row, None, t)[0])
        else:
            moved, row = _update_rows(rule, dtype, moved.summed(), row, w, t)
        after.append(row)
    return moved, after


def _update_rows(
    rule: Rule, dtype: jnp.dtype, x: IndexedSlices, slots: Slots, w: jax.Array | None, t: Moment
) -> tuple[Moved, Slots]:
    """The rows of a table that slices have through one rule, and the other rows through its `absent`."""

    def is_table(s: jax.Array) -> bool:
        return s.ndim == x.ndim and s.shape[0] == x.shape[0]

    def rows_of(tree: Any) -> Any:
        return jax.tree.map(lambda s: x.rows_of(s) if is_table(s) else s, tree)

    def put(tree: Any, rows: Any) -> Any:
        return jax.tree.map(lambda s, new: x.put(s, new) if is_table(s) else new, tree, rows)

    by_rows = rule.absent is None and x.ndim > 1  # codes of a vector have blocks across its rows
    t_present = dataclasses.replace(t, extra=rows_of(t.extra), rows=x)
    dither = _dither(rule, t_present, x.values.shape) if by_rows else _dither(rule, t, x.shape)
    stores = functools.partial(encode, dither=dither)
    stored = rows_of(slots) if by_rows else slots
    present = _decoded(stored, dtype) if by_rows else rows_of(_decoded(slots, dtype))
    moved, new = (rule.rows or rule).update(x.values, present, _decoded(rows_of(w), dtype), t_present)
    if by_rows:
        return x.map(lambda _: moved), put(slots, jax.tree.map(stores, new, stored))
    step, others = None, _decoded(slots, dtype)
    if rule.absent is not None:
        step, others = rule.absent(others, None if w is None else w.astype(dtype), t)
    after = jax.tree.map(stores, put(others, new), slots)
    return (x.map(lambda _: moved) if step is None else x.put(step, moved)), after


def _decoded(row: Slots, dtype: jnp.dtype) -> Slots:
    return jax.tree.map(functools.partial(decode, dtype=dtype), row, is_leaf=is_blocks)


def _check_blocks(rule: Rule, row: Slots, split: Split, shape: tuple[int, ...]) -> None:
    """Refuses coded slots of which a device has no whole blocks."""
    for slot in filter(is_blocks, row or ()):
        assert rule.storage is not None
        split.check_blocks(slot, shape, rule.storage.block)


def _dither(rule: Rule, t: Moment, shape: tuple[int, ...]) -> Dither | None:
    """What the rule's slots of an array of this shape are rounded by."""
    if rule.storage is None or rule.slots is None or t.leaf is None:
        return None
    return Dither(rule.storage.seed, rule.slots.__name__, t.leaf, t.step, {shape: t.part(shape)})


def evaluated(rule: Rule, slots: Slots, params: Tree, owner: str) -> Tree:
    """The parameters to evaluate with, by a rule's `evaluate`."""
    return _by_array(rule, slots, params, owner, lambda rule: rule.evaluate)


def exact(rule: Rule, slots: Slots, params: Tree, owner: str) -> Tree:
    """The parameters as they stand, by a rule's `exact`, in the precision that they are worked on in."""
    return _by_array(rule, slots, params, owner, lambda rule: rule.exact)


def _by_array(rule: Rule, slots: Slots, params: Tree, owner: str, reads: Callable[[Rule], Callable | None]) -> Tree:
    paths = trees.paths(params)
    table, out = SlotTable(owner, paths, rule.layout, slots), []
    for i, (path, w) in enumerate(zip(paths, trees.leaves(params), strict=True)):
        read = None if w is None else reads(rule.of(path, w))
        if w is None or read is None:
            out.append(w)
        else:
            dtype = trees.compute_dtype(w)
            out.append(read(_decoded(table.row(i), dtype), w.astype(dtype)))
    return trees.like(params, out)
