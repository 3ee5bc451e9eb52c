"""The engine room: a rule is written for one array, and this is the only place that knows about trees.

A rule is a pair of functions of one array, in the letters of its paper:

    init(w) -> slots
    update(x, slots, w, t) -> (x, slots)

`x` is what travels down the line: a gradient before the optimizer's rule, a step behind it. `slots` is the
rule's NamedTuple, `w` the parameter and `t` the `Step`. All arrays come in at least float32.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_suite import _trees as trees

Slots = Any  # a rule's NamedTuple: of arrays inside a rule, of params-shaped trees in a state


class Step(NamedTuple):
    """What a rule may know of the moment, as scalars of the array's own precision."""

    count: Any  # 1 in the first update, as a float, so that `beta ** t.count` is a power in this precision
    learning_rate: Any  # 1 in a primitive that is used alone
    step: Any  # `count` as an exact int32


@dataclasses.dataclass(frozen=True, eq=False)
class Rule:
    """A rule of one array, and what it declares of itself.

    Attributes:
      slots: the NamedTuple of its slots, or None for a rule without state.
      init: the slots of one array.
      update: one update of one array.
      emits_step: whether `update` returns the step to add (it has used the rate) or a positive direction.
      reads_weights: whether `update` needs `w`.
      shared: names and first values of the slots that are one scalar for the whole tree.
      share: their next values, `share(scalars, xs, t) -> scalars`, before any array is updated.
      measures: whether `share` reads the arrays `xs`, so that the rules before must have run.
      choose: the rule for one parameter, `choose(path, w)`, where it is not the same for all.
      final: the parameter to evaluate with, `final(slots, w)`, where it is not `w`.
      label: what `explain` calls it; the function that it is written in, where nothing else is declared.
      decay: the weight decay that `explain` shows, where it decays.
    """

    slots: type | None
    init: Callable[[Any], Any]
    update: Callable[[Any, Any, Any, Step], tuple[Any, Any]]
    emits_step: bool = False
    reads_weights: bool = False
    shared: dict[str, float] = dataclasses.field(default_factory=dict)
    share: Callable[[dict[str, Any], Sequence[Any], Step], dict[str, Any]] | None = None
    measures: bool = False
    choose: Callable[[str, Any], "Rule"] | None = None
    final: Callable[[Any, Any], Any] | None = None
    label: str = ""
    decay: Any = None


def leafwise(slots: type | None, init: Callable | None, update: Callable, **declared: Any) -> Rule:
    """Lifts a rule for one array to trees; `declared` are the further attributes of a `Rule`."""
    label = getattr(update, "__qualname__", "").partition(".")[0].lstrip("_")
    return Rule(slots, init or (lambda w: None), update, **{"label": label, **declared})


def each(change: Callable[[Rule], Rule], rule: Rule) -> Rule:
    """`change` of a rule and of the rules it chooses; each is changed once, so that it is traced once."""
    once, choose = functools.cache(change), rule.choose
    if choose is None:
        return once(rule)
    return dataclasses.replace(once(rule), choose=lambda path, w: once(choose(path, w)))


def init_slots(rule: Rule, params: Any, dtype: Any) -> Any:
    """The state of a rule: its NamedTuple, each slot a tree of the parameters' shape."""
    if rule.slots is None:
        return None
    made, choose = [], rule.choose or (lambda path, w: rule)
    for path, w in zip(trees.paths(params), trees.leaves(params), strict=True):
        chosen = rule if w is None else choose(path, w)
        made.append(None if w is None else chosen.init(jnp.asarray(w, trees.compute_dtype(w))))
    known = next((m for m in made if m is not None), None)
    if known is None:  # no parameters at all: the slots that exist are still to be known
        known = jax.eval_shape(rule.init, jax.ShapeDtypeStruct((), jnp.float32))
    fields = {}
    for index, name in enumerate(rule.slots._fields):
        if name in rule.shared:
            fields[name] = jnp.asarray(rule.shared[name], dtype)
        elif known[index] is None:
            fields[name] = None
        else:
            fields[name] = trees.like(params, [None if m is None else m[index] for m in made])
    return rule.slots(**fields)


def evaluate(rule: Rule, slots: Any, params: Any) -> Any:
    """The parameters to evaluate with, by a rule's `final`."""
    fields = {name: tree for name, tree in slots._asdict().items() if name not in rule.shared and tree is not None}
    columns = {name: trees.leaves(tree) for name, tree in fields.items()}
    out, final = [], rule.final or (lambda row, w: w)
    for i, w in enumerate(trees.leaves(params)):
        row = slots._replace(**{name: column[i] for name, column in columns.items()})
        out.append(None if w is None else final(row, w).astype(w.dtype))
    return trees.like(params, out)


class Pass:
    """One walk over the leaves with a sequence of rules; leaves of one shape and rule are traced once."""

    def __init__(self, owner: str, grads: Any, params: Any, step: Any, rate: Any):
        self.owner, self.grads, self.step, self.rate = owner, grads, step, rate
        self.xs = [None if x is None else jnp.asarray(x) for x in trees.leaves(grads)]
        ws = [None] * len(self.xs) if params is None else trees.leaves(params)
        self.ws = [None if w is None else jnp.asarray(w) for w in ws]
        self.dtypes = [trees.compute_dtype(x, w) for x, w in zip(self.xs, self.ws, strict=True)]
        self._traced: dict[Any, Callable] = {}

    def run(self, build: Callable[[Any], Sequence[Rule]], states: Sequence[Any]) -> list[Any]:
        """Takes every array through the rules; returns their states, and leaves the steps in `xs`."""
        chains = {c: tuple(build(c)) for c in {*self.dtypes} or {jnp.dtype("float32")}}
        widest = chains[max(chains, key=lambda c: c.itemsize)]
        cuts = [0, *(i for i, rule in enumerate(widest) if rule.measures and i > 0), len(widest)]
        states = list(states)
        for rule, state in zip(widest, states, strict=True):
            _check_state(self.owner, rule, state)
        for start, stop in itertools.pairwise(cuts):
            part = slice(start, stop)
            states[part] = map(self._share, widest[part], states[part])
            states[part] = self._walk({c: chain[part] for c, chain in chains.items()}, states[part])
        return states

    def _share(self, rule: Rule, state: Any) -> Any:
        """Advances the scalars that a rule keeps once for the whole tree."""
        if rule.share is None:
            return state
        kept = {name: getattr(state, name) for name in rule.shared}
        dtype = next(iter(kept.values())).dtype
        new = rule.share(kept, [x for x in self.xs if x is not None], self._step(dtype))
        return state._replace(**{name: value.astype(dtype) for name, value in new.items()})

    def _step(self, dtype: Any) -> Step:
        return Step(self.step.astype(dtype), self.rate.astype(dtype), self.step)

    def _walk(self, chains: dict[Any, Sequence[Rule]], states: Sequence[Any]) -> list[Any]:
        first = next(iter(chains.values()))
        chooses = any(rule.choose for rule in first)
        names = trees.paths(self.grads) if chooses else []
        tables = [_Table(self, rule, state) for rule, state in zip(first, states, strict=True)]
        steps = {c: self._step(c) for c in chains}
        for i, x in enumerate(self.xs):
            if x is None or x.size == 0:
                continue
            c = self.dtypes[i]
            chain = tuple(r.choose(names[i], x) if r.choose else r for r in chains[c])
            rows = [table.row(i) for table in tables]
            try:
                self.xs[i], rows = self._trace(chain, c)(x, rows, self.ws[i], steps[c])
            except (TypeError, ValueError):
                for table, rule in zip(tables, chain, strict=True):
                    table.check(i, jax.eval_shape(rule.init, self.ws[i] if self.ws[i] is not None else x))
                raise
            for table, row in zip(tables, rows, strict=True):
                table.put(i, row)
        return [table.state() for table in tables]

    def _trace(self, chain: tuple[Rule, ...], dtype: Any) -> Callable:
        if (chain, dtype) not in self._traced:
            self._traced[chain, dtype] = jax.jit(functools.partial(_update_array, chain, dtype))
        return self._traced[chain, dtype]


def _update_array(chain: Sequence[Rule], dtype: Any, x: Any, rows: Sequence[Any], w: Any, t: Step) -> Any:
    """One array through all rules, in the precision `dtype`; its slots keep the dtype they are stored in."""
    x, w = x.astype(dtype), None if w is None else w.astype(dtype)
    after = []
    for rule, row in zip(chain, rows, strict=True):
        x, new = rule.update(x, jax.tree.map(lambda s: s.astype(dtype), row), w, t)
        after.append(jax.tree.map(lambda s, old: s.astype(old.dtype), new, row))
    return x, after


def _check_state(owner: str, rule: Rule, state: Any) -> None:
    """Refuses the state of another rule; a class that a notebook has defined anew is the same."""
    want, have = rule.slots or type(None), type(state)
    if (want.__name__, getattr(want, "_fields", ())) != (have.__name__, getattr(have, "_fields", ())):
        raise ValueError(
            f"{owner}: the state is of another optimizer: got a {have.__name__}, it must be a {want.__name__}."
        )


class _Table:
    """A rule's state, read and written one array at a time."""

    def __init__(self, walk: Pass, rule: Rule, state: Any):
        self.walk, self.rule, self.old = walk, rule, state
        fields = [] if state is None else zip(state._fields, state, strict=True)
        kept = {name: tree for name, tree in fields if name not in rule.shared and tree is not None}
        self.columns = {name: trees.leaves(tree) for name, tree in kept.items()}
        for name, column in self.columns.items():
            if len(column) != len(walk.xs):
                raise ValueError(
                    f"{walk.owner}: the state is not of these parameters: slot {name!r} has {len(column)} arrays, "
                    f"there are {len(walk.xs)} gradients."
                )

    def row(self, i: int) -> Any:
        if self.old is None:
            return None
        shared = {name: getattr(self.old, name) for name in self.rule.shared}
        return self.old._replace(**shared, **{name: column[i] for name, column in self.columns.items()})

    def check(self, i: int, expected: Any) -> None:
        """Refuses the state of other parameters, which would otherwise be broadcast or fail inside a rule."""
        for name, column in self.columns.items():
            have, want = column[i].shape, getattr(expected, name).shape
            if have != want:
                raise ValueError(
                    f"{self.walk.owner}: the state is not of these parameters: slot {name!r} at "
                    f"{trees.paths(self.walk.grads)[i]!r} has shape {have}, it must have {want}."
                )

    def put(self, i: int, row: Any) -> None:
        self.check(i, row)
        for name, column in self.columns.items():
            column[i] = getattr(row, name)

    def state(self) -> Any:
        if self.old is None:
            return None
        return self.old._replace(
            **{name: trees.like(getattr(self.old, name), column) for name, column in self.columns.items()}
        )
