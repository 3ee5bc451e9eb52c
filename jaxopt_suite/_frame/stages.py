"""The kinds of stages that stand in a line, and the order that they stand in."""

import dataclasses
import difflib
import enum
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from jaxopt_suite import _trees as trees
from jaxopt_suite._frame.flow import Arrays, Flow, alike
from jaxopt_suite._frame.leafwise import Moment, Rule, map_rule
from jaxopt_suite._frame.split import Split
from jaxopt_suite._recipe.check import Config, show
from jaxopt_suite._recipe.recipe import Recipe
from jaxopt_suite._recipe.words import Number, Scalar
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._codec import Storage
from jaxopt_suite.state._layout import Layout, Slots, SlotTable, first_slots

Result = TypeVar("Result")

# whether to go on; then, what goes on and the new slots; the new slots where nothing goes on
Verdict = tuple[jax.Array, Callable[[], tuple[Arrays, Slots]], Callable[[], Slots]]


class Place(enum.IntEnum):
    """Where a stage stands: the way of a gradient, one direction, no way back; it ends as an update.

    gradient -> unscale -> aggregate -> finite check -> accumulate -> skip -> measure -> clip -> decay, rule, rate
    -> average -> write
    """

    UNSCALE = 0
    AGGREGATE = 1
    FINITE_CHECK = 2
    ACCUMULATE = 3
    SKIP = 4
    MEASURE = 5
    CLIP = 6
    RULE = 7
    AVERAGE = 8
    WRITE = 9


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Stage:
    """One stage of a line.

    Attributes:
      place: where it stands.
      key: what it is called in a state.
      recipe: the primitive that made it; an optimizer's own rule has none.
      loss_scale: what the loss has to be multiplied by, from its slots, for a stage that unscales the gradients.
    """

    place: Place = Place.RULE
    key: str = "rule"
    recipe: Recipe | None = None
    loss_scale: Callable[[Slots], Scalar] | None = None

    @property
    def layout(self) -> Layout:
        return Layout(None, lambda w: None, {})

    def init(self, owner: str, params: Tree, dtype: jnp.dtype) -> Slots:
        return first_slots(owner, lambda path, w: self.layout, self.layout, params, dtype)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class TreeStage(Stage):
    """Changes all gradients that there are by `change`, and keeps nothing."""

    change: Callable[[Arrays], Arrays]

    def admit(
        self, flow: Flow, slots: Slots, onward: Callable[[Arrays, Slots], Result], held: Callable[[Slots], Result]
    ) -> Result:
        changed = iter(self.change([x for x in flow.xs if x is not None]))
        return onward([None if x is None else next(changed) for x in flow.xs], None)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Gate(Stage):
    """Sees all gradients together, and may hold back everything behind it.

    Attributes:
      slots, first, shared: its `Layout`; its slots have the gradients' shapes.
      update: `(xs, table, splits) -> (go, passed, held)`, where `splits` says of which arrays this device holds a
        part. Where `go`, `passed()` gives the gradients that go on and the new slots; elsewhere `held()` gives the
        new slots.
    """

    slots: type
    first: Callable[[jax.Array], Slots]
    shared: Mapping[str, float]
    update: Callable[[Arrays, SlotTable, Sequence[Split]], Verdict]

    @property
    def layout(self) -> Layout:
        return Layout(self.slots, self.first, self.shared)

    def admit(
        self, flow: Flow, slots: Slots, onward: Callable[[Arrays, Slots], Result], held: Callable[[Slots], Result]
    ) -> Result:
        table = SlotTable(flow.owner, trees.paths(flow.grads), self.layout, slots)
        table.check_like(flow.xs)
        go, passed, stays = self.update(flow.xs, table, flow.splits())
        return _either(go, lambda: self._pass(flow, onward, *passed()), lambda: held(stays()), flow.is_sparse)

    def _pass(self, flow: Flow, onward: Callable[[Arrays, Slots], Result], xs: Arrays, slots: Slots) -> Result:
        """Where there is no gradient now, what was kept from earlier goes on unless all of it is zero."""
        late = [i for i, x in enumerate(flow.xs) if x is None and xs[i] is not None]
        if not late:
            return onward(xs, slots)
        some = jnp.any(jnp.stack([jnp.any(xs[i] != 0) for i in late]))
        without = [None if i in late else x for i, x in enumerate(xs)]
        return _either(some, lambda: onward(xs, slots), lambda: onward(without, slots), flow.is_sparse)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Meter(Stage):
    """Looks at the gradients where it stands and at the steps that become of them, and changes neither.

    Attributes:
      slots, shared: of its `Layout`: scalars alone.
      measure: its new slots, from the flow that it stands in and the steps.
    """

    slots: type
    shared: Mapping[str, float]
    measure: Callable[[Flow, Arrays], Slots]

    @property
    def layout(self) -> Layout:
        nothing = self.slots(**dict.fromkeys(self.shared))
        return Layout(self.slots, lambda w: nothing, self.shared)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class LeafStage(Stage):
    """A rule of one array, which is given its hyperparameters anew in each step.

    Attributes:
      build: makes the `Rule` from the arguments.
      arguments: of `build`.
      numbers: those of them that are numbers, and may be schedules.
      patterns: those that are regexes of paths.
      alone: whether it is all of a primitive, which emits a positive direction.
      storage: how its slots are stored, where it is not as they are.
    """

    build: Callable[..., Rule]
    arguments: Config
    numbers: frozenset[str]
    patterns: frozenset[str] = frozenset()
    alone: bool = False
    storage: Storage | None = None
    prototype: Rule = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        """Built once with a number in the place of each schedule: a combination that it refuses is refused now."""
        stand_in = np.float32(0.5)
        known = {n: stand_in if callable(v) and n in self.numbers else v for n, v in self.arguments.items()}
        object.__setattr__(self, "prototype", self._stored(self.build(**known)))

    def unmatched(self, paths: Sequence[str]) -> list[str]:
        """A sentence for each regex that is found in none of the paths."""
        found, given = [], {name: self.arguments[name] or () for name in sorted(self.patterns)}
        if self.storage is not None:
            given["exclude"] = self.storage.exclude
        for name, patterns in given.items():
            for pattern in patterns:
                if not any(re.search(pattern, path) for path in paths):
                    near = difflib.get_close_matches(pattern, paths, n=1, cutoff=0.0)
                    found.append(f"{name}: {show(pattern)} matches no parameter; the nearest is {near[0]!r}")
        return found

    @property
    def layout(self) -> Layout:
        return self.prototype.layout

    def init(self, owner: str, params: Tree, dtype: jnp.dtype) -> Slots:
        rule = self.rule(jnp.int32(0), dtype)
        return first_slots(owner, lambda path, w: rule.of(path, w).layout, rule.layout, params, dtype)

    def rule(self, count: jax.Array, dtype: jnp.dtype) -> Rule:
        """The rule at step `count`: schedules are resolved, arrays have the precision `dtype`."""
        variable = {n: v for n, v in self.arguments.items() if n in self.numbers and not _is_constant(v)}
        resolved = {name: at_step(value, count).astype(dtype) for name, value in variable.items()}
        rule = self._stored(self.build(**{**self.arguments, **resolved})) if resolved else self.prototype
        return map_rule(_as_direction, rule) if self.alone else rule

    def _stored(self, rule: Rule) -> Rule:
        if self.storage is None:
            return rule
        return map_rule(lambda one: dataclasses.replace(one, storage=self.storage), rule)


AnyStage = TreeStage | Gate | Meter | LeafStage


def _either(go: jax.Array, one: Callable[[], Result], other: Callable[[], Result], is_sparse: bool) -> Result:
    """One of two branches; outside of any trace `cond` would be compiled anew in each step.

    Of slices the first branch may make an array, where the second, in which nothing moves, leaves them slices.
    """
    if not isinstance(go, Tracer):
        return one() if go else other()
    if is_sparse:
        made = jax.eval_shape(one)
        return lax.cond(go, one, lambda: alike(other(), made))
    return lax.cond(go, one, other)


def _is_constant(value: object) -> bool:
    return value is None or isinstance(value, (int, float))


def at_step(value: Number, count: jax.Array) -> jax.Array:
    """A number, an array or a schedule, at step `count`."""
    return jnp.asarray(value(count) if callable(value) else value)


def _as_direction(rule: Rule) -> Rule:
    """A rule with the rate inside, as a primitive: the positive direction at rate 1."""
    if not rule.returns_update:
        return rule

    def update(g: jax.Array, s: Slots, w: jax.Array, t: Moment) -> tuple[jax.Array, Slots]:
        moved, s = rule.update(g, s, w, t)
        return -moved, s

    return dataclasses.replace(rule, update=update)
