"""A state as a list of variables, each with what is known of it: the form that states move in.

It is read from a state in memory, from what a checkpoint gives without a template (plain dicts and lists), and from
the layout that states had before their stages had names.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax

from jaxopt_suite import _trees as trees
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._codec import joined as coded
from jaxopt_suite.state._layout import MEMBERS, OptimizerState, opened, scale_of, stored, with_stored
from jaxopt_suite.state._names import slot_names

COUNT, HELD, RECORD = "count", "learning_rate", "last_learning_rate"


class Stage(NamedTuple):
    """The stage that a slot is of.

    Attributes:
      key: what it is called in a state, `""` where that is not known.
      kind: the name of the class of its slots, `""` where that is not known.
      fields: the names of all its slots, whether they exist or not; empty where that is not known.
      later: those of them that a state may lack: one written earlier, or one of which what is None was left out.
    """

    key: str = ""
    kind: str = ""
    fields: tuple[str, ...] = ()
    later: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Variable:
    """One array of a state.

    Attributes:
      value: the array, as it is stored: `Blocks` where it is coded.
      place: of the state that it stands in, `""` for the outermost; as `within` of `jos.state`.
      slot: the name of its slot; `count`, `learning_rate` where the state holds one, `last_learning_rate` where it
        is a record; `""` for what stands in a state of Optax's.
      path: of its parameter; `""` where it belongs to all of them.
      stage: None for what belongs to no stage.
      field: the slot's name inside its stage, which is not numbered.
    """

    value: Any
    place: str
    slot: str
    path: str = ""
    stage: Stage | None = None
    field: str = ""

    @property
    def name(self) -> str:
        """As in `variables`, behind the place of its state."""
        return joined(self.place, self.slot, self.path)

    @property
    def is_slot(self) -> bool:
        return self.stage is not None

    @property
    def is_foreign(self) -> bool:
        """Whether it stands in no state of ours."""
        return self.slot == ""

    @property
    def is_count(self) -> bool:
        return self.slot == COUNT and self.stage is None

    @property
    def is_rate(self) -> bool:
        return self.slot in (HELD, RECORD) and self.stage is None


def joined(*words: str) -> str:
    return "/".join(filter(None, words))


Columns: TypeAlias = Mapping[str, tuple[list[str], list[Any]]]  # of a stage's slots: the paths and the arrays


class Unit(NamedTuple):
    """What an `OptimizerState` holds, wherever it was read from."""

    count: Tree
    rate: Mapping[str, Tree]
    stages: Mapping[str, tuple[Stage, Columns]]
    members: Tree


Reader: TypeAlias = Callable[[Any], Unit | None]


def ours(node: Any) -> Unit | None:
    """A state in memory."""
    if not isinstance(node, OptimizerState):
        return None
    own = {key: stage for key, stage in node.stages.items() if key != MEMBERS}
    stages = {key: (_stage(key, opened(stage)[0]), _columns(*opened(stage))) for key, stage in own.items()}
    return Unit(node.count, _rates(node.rate), stages, node.stages.get(MEMBERS))


def _stage(key: str, slots: Any) -> Stage:
    later = (name for name, tree in slots._asdict().items() if tree is None or _may_lack(type(slots), name))
    return Stage(key, type(slots).__name__, slots._fields, (*later,))


def _may_lack(kind: type, field: str) -> bool:
    """Whether a class of slots says that one of them may be None; its annotation may be a string."""
    hint = str(kind.__annotations__.get(field, ""))
    return field in getattr(kind, "_field_defaults", {}) or "None" in hint or "Optional" in hint


def _columns(slots: Any, scales: Mapping[str, Tree]) -> Columns:
    """What is stored in each slot, array by array, with the scales of codes."""
    columns = {}
    for field, tree in (slots if isinstance(slots, Mapping) else slots._asdict()).items():
        arrays, beside = trees.leaves(tree), scales.get(scale_of(field))
        arrays = arrays if beside is None else list(map(coded, arrays, trees.leaves(beside)))
        columns[field] = trees.paths(tree), arrays
    return columns


def plain(node: Any) -> Unit | None:
    """A state that a checkpoint gave without a template: its classes are gone, its names are there."""
    if not isinstance(node, Mapping) or {*node} != {*OptimizerState._fields}:
        return None
    stages = {**(node["stages"] or {})}
    members = stages.pop(MEMBERS, None)
    own = {key: _plain_stage(key, fields) for key, fields in stages.items()}
    return Unit(node["count"], _rates(node["rate"] or {}), own, members)


def _plain_stage(key: str, fields: Mapping[str, Tree]) -> tuple[Stage, Columns]:
    slots, scales = (fields["slots"], fields["scales"]) if {*fields} == {"slots", "scales"} else (fields, {})
    return Stage(key, "", tuple(slots)), _columns(slots, scales)


def unit(node: Any) -> Unit | None:
    """A state of the layout before stages had names, as `first_layout` read it."""
    return node if isinstance(node, Unit) else None


def first_layout(node: Any, fresh: Any) -> Any:
    """A tree of units from plain states of the layout before stages had names.

    There, stages and members were lists. Members get their names from `fresh`, a state of as many members.
    """
    if isinstance(node, Mapping) and {*node} == {"count", "learning_rate", "stages"}:
        stages = {str(i): fields for i, fields in enumerate(node["stages"] or ()) if fields}
        own = {key: _plain_stage("", fields) for key, fields in stages.items()}
        rate = node["learning_rate"]  # held or a record: it does not say
        return Unit(node["count"], {} if rate is None else {HELD: rate["value"]}, own, None)
    if isinstance(node, Mapping) and {*node} == {"own", "members"}:
        known = fresh.stages.get(MEMBERS, {}) if isinstance(fresh, OptimizerState) else {}
        old = node["members"]
        keys = [*known] if len(known) == len(old) else [str(i) for i in range(len(old))]
        members = {key: first_layout(m, known.get(key)) for key, m in zip(keys, old, strict=True)}
        return first_layout(node["own"], None)._replace(members=members)
    return node


def _rates(rate: Mapping[str, Tree]) -> dict[str, Tree]:
    return {HELD if key == "learning_rate" else RECORD: value for key, value in rate.items()}


def holds(tree: Tree, read: Reader) -> bool:
    """Whether there is a state in a tree."""

    def is_unit(node: Any) -> bool:
        return read(node) is not None

    return any(map(is_unit, jax.tree.leaves(tree, is_leaf=is_unit)))


def listed(tree: Tree, read: Reader, place: str = "") -> Iterator[Variable]:
    """The variables of all states in a tree, in the order of the tree's leaves, and all that stands around them."""

    def is_unit(node: Any) -> bool:
        return read(node) is not None

    for path, node in jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_unit)[0]:
        inside, found = joined(place, trees.path_name(path)), read(node)
        if found is None:
            yield Variable(node, "", "", inside)
        else:
            yield from _listed(found, inside, read)


def _listed(unit: Unit, place: str, read: Reader) -> Iterator[Variable]:
    for leaf in jax.tree.leaves(unit.count):
        yield Variable(leaf, place, COUNT)
    for name, rate in unit.rate.items():
        for leaf in jax.tree.leaves(rate):
            yield Variable(leaf, place, name)
    names = slot_names({key: stage.fields for key, (stage, _) in unit.stages.items()})
    for key in sorted([*unit.stages, MEMBERS]):
        if key == MEMBERS:
            yield from listed(unit.members, read, place)
            continue
        stage, columns = unit.stages[key]
        for field in stage.fields:
            for path, array in zip(*columns[field], strict=True):
                if array is not None:
                    yield Variable(array, place, names[key, field], path, stage, field)


def filled(tree: Tree, values: Iterator[Any]) -> Tree:
    """A tree with our states, with other values in the order that `listed` gives."""

    def visit(node: Any) -> Any:
        return _filled(node, values) if isinstance(node, OptimizerState) else next(values)

    return jax.tree.map(visit, tree, is_leaf=lambda node: isinstance(node, OptimizerState))


def _filled(state: OptimizerState, values: Iterator[Any]) -> OptimizerState:
    count, rate = (jax.tree.map(lambda _: next(values), tree) for tree in (state.count, state.rate))
    stages = {}
    for key in sorted(state.stages):
        stage = state.stages[key]
        if key == MEMBERS:
            stages[key] = filled(stage, values)
            continue
        slots = opened(stage)[0]
        old = stored(stage, [field for field in slots._fields if getattr(slots, field) is not None])
        new = {field: [None if x is None else next(values) for x in column] for field, column in old.items()}
        stages[key] = with_stored(stage, new)
    return OptimizerState(count, rate, stages)
