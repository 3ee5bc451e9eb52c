"""What a state is, and how a stage's slots lie in it: the one place that knows where an array is stored."""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp

from jaxopt_suite import _trees as trees
from jaxopt_suite._trees import Tree

T = TypeVar("T")

Slots: TypeAlias = Any  # a NamedTuple: of arrays in a rule, of trees in a state; None for a stage without state

MEMBERS = "members"  # the key of what a composition is made of


def state_class(cls: type[T]) -> type[T]:
    """A class of slots, pickled by the name that it is exported with, wherever it is written."""
    cls.__module__ = "jaxopt_suite.transforms"
    return cls


class OptimizerState(NamedTuple):
    """The state of an optimizer, a primitive or a composition.

    Attributes:
      count: the number of real updates so far, int32; None where nothing moves.
      rate: `{"learning_rate": x}` where the state holds the rate. Elsewhere a record of the rate that was used last:
        `{"schedule": {"learning_rate": x}}`, or `{"array": x}` for one given as an array. Empty without a rate.
      stages: the slots of each stage that has any, by what it is: `"rule"`, `"accumulate"`, `"ema"`, ...; and under
        `"members"` the states of what a composition is made of.
    """

    count: Any
    rate: dict[str, Any]
    stages: dict[str, Any]


OptimizerState.__module__ = "jaxopt_suite.state"  # the name that pickles know


class Layout(NamedTuple):
    """What a stage keeps.

    Attributes:
      slots: the NamedTuple of its slots, or None where it keeps nothing.
      init: the slots of one array.
      shared: names and first values of the slots that are one scalar for the whole tree; an integer is int32.
      partial: names of the slots that only some parameters have; beside them they are a lone zero.
    """

    slots: type | None
    init: Callable[[Any], Slots]
    shared: Mapping[str, float]
    partial: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        return () if self.slots is None else self.slots._fields

    def row(self, w: jax.Array | jax.ShapeDtypeStruct) -> Slots:
        """The slots of one array as shapes; None for those that do not exist, or are shared."""
        row = jax.eval_shape(self.init, jax.ShapeDtypeStruct(w.shape, trees.compute_dtype(w)))
        return row if row is None else row._replace(**dict.fromkeys(self.shared))


def numbered(names: Sequence[str]) -> list[str]:
    """Names that are used again are numbered: `ema`, `ema_2`; none gets a name that stands before it."""
    given: list[str] = []
    for i, name in enumerate(names):
        tries = (f"{name}_{n}" if n > 1 else name for n in itertools.count(names[: i + 1].count(name)))
        given.append(next(new for new in tries if new not in given))
    return given


def slot_names(fields: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], str]:
    """The name of each `(stage, field)`: the field's, numbered where two stages have one of that name."""
    pairs = [(key, field) for key in sorted(fields) for field in fields[key]]
    return dict(zip(pairs, numbered([field for _, field in pairs]), strict=True))


def group_key(pattern: str) -> str:
    """What a group is called in a state, from its regex: its letters and digits, `rest` where it has none."""
    return re.sub(r"\W+", "_", pattern, flags=re.ASCII).strip("_")[:60] or "rest"


def group_keys(patterns: Sequence[str]) -> list[str]:
    return numbered([group_key(pattern) for pattern in patterns])


def first_slots(
    owner: str, layout_of: Callable[[str, Any], Layout], layout: Layout, params: Tree, dtype: jnp.dtype
) -> Slots:
    """The slots at the start: each a tree of the parameters' shape. `layout_of(path, w)` is that of one parameter."""
    if layout.slots is None:
        return None
    pairs = zip(trees.paths(params), trees.leaves(params), strict=True)
    rows = [None if w is None else _first_row(owner, path, layout_of(path, w), w) for path, w in pairs]
    known = [row for row in rows if row is not None]
    known = known or [layout.row(jax.ShapeDtypeStruct((), jnp.float32))]  # no parameters at all
    fields = {}
    for index, name in enumerate(layout.slots._fields):
        if name in layout.shared:
            value = layout.shared[name]
            fields[name] = jnp.array(value, jnp.int32 if isinstance(value, int) else dtype)
        elif all(row[index] is None for row in known):
            fields[name] = None
        else:
            column = [None if row is None else _or_zero(row[index]) for row in rows]
            fields[name] = trees.like(params, column)
    return layout.slots(**fields)


def _or_zero(x: jax.Array | None) -> jax.Array:
    return jnp.zeros((), jnp.float32) if x is None else x


def _first_row(owner: str, path: str, layout: Layout, w: Any) -> Slots:
    """The first slots of one array. None shares a buffer with the parameter or another: a step may be given both."""
    only_shape, dtype = isinstance(w, jax.ShapeDtypeStruct), trees.compute_dtype(w)
    start = jax.ShapeDtypeStruct(w.shape, dtype) if only_shape else jnp.asarray(w, dtype)
    row = layout.init(start)
    if only_shape and any(x is start for x in row or ()):
        raise TypeError(f"{owner}: a slot starts from the parameter at {path!r}: init needs the array, got its shape.")
    return trees.apart(row, [start])


def described(layout: Layout, w: jax.ShapeDtypeStruct) -> dict[str, Any]:
    """The slots of one array by name, as shapes."""
    return {} if layout.slots is None else {name: x for name, x in layout.row(w)._asdict().items() if x is not None}


class SlotTable:
    """The slots of one stage, read and written one array at a time."""

    def __init__(self, owner: str, paths: Sequence[str], layout: Layout, slots: Slots):
        self.owner, self.paths, self.layout, self.slots = owner, paths, layout, slots
        _check_kind(owner, layout, slots)
        fields = {} if slots is None else slots._asdict()
        self.shared = {name: fields[name] for name in layout.shared}
        kept = {name: tree for name, tree in fields.items() if name not in layout.shared and tree is not None}
        self.columns = {name: trees.leaves(tree) for name, tree in kept.items()}
        for name, column in self.columns.items():
            if len(column) != len(paths):
                raise ValueError(
                    f"{owner}: the state is not of these parameters: slot {name!r} has {len(column)} arrays, "
                    f"there are {len(paths)} gradients."
                )

    def row(self, i: int) -> Slots:
        """The slots of array `i`."""
        if self.slots is None:
            return None
        return self.slots._replace(**self.shared, **{name: column[i] for name, column in self.columns.items()})

    def write(self, i: int, row: Slots) -> None:
        self.check(i, row)
        for name, column in self.columns.items():
            column[i] = getattr(row, name)

    def check(self, i: int, expected: Slots) -> None:
        """Refuses the state of other parameters, which would otherwise be broadcast or fail inside a rule."""
        for name, column in self.columns.items():
            have, want = column[i].shape, getattr(expected, name).shape
            if have != want:
                raise ValueError(
                    f"{self.owner}: the state is not of these parameters: slot {name!r} at "
                    f"{self.paths[i]!r} has shape {have}, its rule makes {want}."
                )

    def check_like(self, xs: Sequence[Any]) -> None:
        """Refuses slots that do not have the gradients' shapes."""
        for i, x in enumerate(xs):
            if x is not None:
                self.check(i, self.slots._replace(**dict.fromkeys(self.columns, x)))

    def with_values(self, shared: Mapping[str, Any], columns: Mapping[str, Sequence[Any]]) -> Slots:
        """The slots, as they lie in a state, with other values."""
        lying = {name: trees.like(getattr(self.slots, name), column) for name, column in columns.items()}
        return self.slots._replace(**shared, **lying)

    def packed(self) -> Slots:
        """The slots again, as they lie in a state."""
        return None if self.slots is None else self.with_values(self.shared, self.columns)


def _check_kind(owner: str, layout: Layout, slots: Slots) -> None:
    """Refuses the slots of another rule or setting; a class that a notebook has defined anew is the same."""
    want, have = layout.slots or type(None), type(slots)
    if (want.__name__, getattr(want, "_fields", ())) != (have.__name__, getattr(have, "_fields", ())):
        raise ValueError(
            f"{owner}: the state is of another optimizer: got a {have.__name__}, it must be a {want.__name__}."
        )
    if slots is None:
        return
    row = layout.row(jax.ShapeDtypeStruct((), jnp.float32))
    for name in set(slots._fields) - {*layout.shared, *layout.partial}:
        if (getattr(row, name) is None) != (getattr(slots, name) is None):
            has, must = ("has no", "must have one") if getattr(slots, name) is None else ("has a", "must have none")
            raise ValueError(f"{owner}: the state is of another setting: it {has} slot {name!r}, and {must}.")
