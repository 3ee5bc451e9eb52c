"""What a state is, and how a stage's slots lie in it: the one place that knows where an array is stored."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp

from jaxopt_suite import _trees as trees
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._codec import Blocks, Storage, decode, encode, is_blocks, joined

T = TypeVar("T")

Slots: TypeAlias = Any  # a NamedTuple: of arrays in a rule, of trees in a state; None for a stage without state

MEMBERS = "members"  # the key of what a composition is made of

STATE_CLASSES: dict[str, type] = {}  # the classes of slots by name, for states that were stored without them


def state_class(cls: type[T]) -> type[T]:
    """A class of slots, pickled by the name that it is exported with, wherever it is written.

    One with a method `idle` says by it whether a run goes on as well without what its slots hold.
    """
    cls.__module__ = "jaxopt_suite.transforms"
    STATE_CLASSES[cls.__name__] = cls
    return cls


class OptimizerState(NamedTuple):
    """The state of an optimizer, a primitive or a composition.

    Attributes:
      count: the number of real updates so far, int32; None where nothing moves.
      rate: `{"learning_rate": x}` where the state holds the rate. Elsewhere a record of the rate that was used last:
        `{"schedule": {"learning_rate": x}}`, or `{"array": x}` for one given as an array. Empty without a rate.
      stages: the slots of each stage that has any, by what it is: `"rule"`, `"accumulate"`, `"ema"`, ...; and under
        `"members"` the states of what a composition is made of.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> state = jos.sgd(0.1, global_clipnorm=1.0, momentum=0.9).init(jnp.zeros(2))
    >>> int(state.count), [*state.rate], [*state.stages]
    (0, ['learning_rate'], ['clip_by_global_norm', 'rule'])
    """

    count: Any
    rate: dict[str, Any]
    stages: dict[str, Any]


OptimizerState.__module__ = "jaxopt_suite.state"  # the name that pickles know


class Coded(NamedTuple):
    """The slots of a stage of which some are stored as 8-bit codes.

    Attributes:
      slots: the stage's own NamedTuple, with codes in the place of those arrays.
      scales: a tree like the parameters for each of them, `"m_scale"` for `m`: a scale for each block of the last
        axis, and a lone zero where an array is not coded.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.precision.state_dtype(jos.adam(), v="blockwise8", min_size=0)
    >>> coded = tx.init(jnp.zeros(512)).stages["rule"]
    >>> coded.slots.m.dtype.name, coded.slots.v.dtype.name, {k: x.shape for k, x in coded.scales.items()}
    ('float32', 'uint8', {'v_scale': (2,)})
    """

    slots: Any
    scales: dict[str, Any]


Coded.__module__ = "jaxopt_suite.state"


class Layout(NamedTuple):
    """What a stage keeps.

    Attributes:
      slots: the NamedTuple of its slots, or None where it keeps nothing.
      init: the slots of one array.
      shared: names and first values of the slots that are one scalar for the whole tree; an integer is int32.
      partial: names of the slots that only some parameters have; beside them they are a lone zero.
      storage: how slots are stored, where it is not as they are.
    """

    slots: type | None
    init: Callable[[Any], Slots]
    shared: Mapping[str, float]
    partial: tuple[str, ...] = ()
    storage: Storage | None = None

    @property
    def coded(self) -> list[str]:
        """The slots that are stored as codes."""
        return [] if self.storage is None else self.storage.coded

    @property
    def fields(self) -> tuple[str, ...]:
        return () if self.slots is None else self.slots._fields

    def row(self, w: jax.Array | jax.ShapeDtypeStruct) -> Slots:
        """The slots of one array as shapes; None for those that do not exist, or are shared."""
        row = jax.eval_shape(self.init, jax.ShapeDtypeStruct(w.shape, trees.compute_dtype(w)))
        return row if row is None else row._replace(**dict.fromkeys(self.shared))

    def stored(self, path: str, row: Slots) -> dict[str, Any]:
        """The slots of the parameter at `path` by name, as they are stored."""
        slots = {} if row is None else row._replace(**dict.fromkeys(self.shared))._asdict()
        slots = {name: x for name, x in slots.items() if x is not None}
        if self.storage is None:
            return slots
        signed = {name: name not in getattr(self.slots, "nonnegative", ()) for name in slots}
        return {name: self.storage.first(name, path, x, signed[name]) for name, x in slots.items()}


def first_slots(
    owner: str, layout_of: Callable[[str, Any], Layout], layout: Layout, params: Tree, dtype: jnp.dtype
) -> Slots:
    """The slots at the start: each a tree of the parameters' shape. `layout_of(path, w)` is that of one parameter."""
    if layout.slots is None:
        return None
    pairs = zip(trees.paths(params), trees.leaves(params), strict=True)
    rows = [None if w is None else _first_row(owner, path, layout_of(path, w), w) for path, w in pairs]
    known = [row for row in rows if row is not None]
    known = known or [layout.stored("", layout.row(jax.ShapeDtypeStruct((), jnp.float32)))]  # no parameters at all
    shared = {name: jnp.array(x, jnp.int32 if isinstance(x, int) else dtype) for name, x in layout.shared.items()}
    kept = [name for name in layout.fields if name not in shared and any(name in row for row in known)]
    columns = {name: [None if row is None else row.get(name, _zero()) for row in rows] for name in kept}
    slots = layout.slots(**{**dict.fromkeys(layout.fields), **shared, **dict.fromkeys(kept, params)})
    scales = {scale_of(name): params for name in layout.coded}
    return with_stored(Coded(slots, scales) if scales else slots, columns)


def _zero() -> jax.Array:
    return jnp.zeros((), jnp.float32)


def _first_row(owner: str, path: str, layout: Layout, w: Any) -> dict[str, Any]:
    """The first slots of one array. None shares a buffer with the parameter or another: a step may be given both."""
    only_shape, dtype = isinstance(w, jax.ShapeDtypeStruct), trees.compute_dtype(w)
    start = jax.ShapeDtypeStruct(w.shape, dtype) if only_shape else jnp.asarray(w, dtype)
    row = layout.init(start)
    if only_shape and any(x is start for x in row or ()):
        raise TypeError(f"{owner}: a slot starts from the parameter at {path!r}: init needs the array, got its shape.")
    return layout.stored(path, trees.apart(row, [start]))


def described(layout: Layout, path: str, w: jax.ShapeDtypeStruct) -> dict[str, Any]:
    """The slots of the parameter at `path` by name, as the shapes that are stored."""
    return jax.eval_shape(lambda: layout.stored(path, layout.init(jnp.zeros(w.shape, trees.compute_dtype(w)))))


def opened(stage: Slots) -> tuple[Slots, dict[str, Tree]]:
    """The NamedTuple of a stage, and the scales of its codes."""
    return (stage.slots, stage.scales) if isinstance(stage, Coded) else (stage, {})


def values(stage: Slots) -> Slots:
    """The slots of a stage as numbers, whatever they are stored as."""
    slots, scales = opened(stage)
    coded = [name for name in slots._fields if scale_of(name) in scales]
    columns = stored(stage, coded)
    return slots._replace(**{n: trees.like(getattr(slots, n), map(decode, column)) for n, column in columns.items()})


def with_values(stage: Slots, changed: Mapping[str, Tree]) -> Slots:
    """The stage with other numbers in some slots, stored as they were, rounded to the nearest."""
    pairs = {name: zip(trees.leaves(changed[name]), old, strict=True) for name, old in stored(stage, changed).items()}
    return with_stored(stage, {name: [encode(x, old, None) for x, old in column] for name, column in pairs.items()})


def coded(state: Tree) -> list[Blocks]:
    """The arrays in a state that are stored as codes."""
    stages = [x for x in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, Coded)) if isinstance(x, Coded)]
    columns = [stored(stage, [name.removesuffix(_SCALE) for name in stage.scales]) for stage in stages]
    return [x for found in columns for column in found.values() for x in column if is_blocks(x)]


def stored(stage: Slots, names: Iterable[str]) -> dict[str, list[Any]]:
    """What is stored in some slots, array by array."""
    slots, scales = opened(stage)
    columns = {name: trees.leaves(getattr(slots, name)) for name in names}
    for name in [name for name in columns if scale_of(name) in scales]:
        columns[name] = list(map(joined, columns[name], trees.leaves(scales[scale_of(name)])))
    return columns


def with_stored(stage: Slots, columns: Mapping[str, Sequence[Any]], shared: Mapping[str, Any] | None = None) -> Slots:
    """The stage with other arrays in some slots, as they lie in a state."""
    slots, scales = opened(stage)
    codes = {name: [x.codes if is_blocks(x) else x for x in column] for name, column in columns.items()}
    slots = slots._replace(**(shared or {}), **{name: trees.like(getattr(slots, name), codes[name]) for name in codes})
    if not scales:
        return slots
    beside = {scale_of(name): column for name, column in columns.items() if scale_of(name) in scales}
    new = {name: trees.like(scales[name], map(_scale, column)) for name, column in beside.items()}
    return Coded(slots, {**scales, **new})


_SCALE = "_scale"


def scale_of(name: str) -> str:
    return name + _SCALE


def _scale(x: Any) -> Any:
    return None if x is None else x.scale if is_blocks(x) else jnp.zeros((), jnp.bfloat16)


class SlotTable:
    """The slots of one stage, read and written one array at a time."""

    def __init__(self, owner: str, paths: Sequence[str], layout: Layout, slots: Slots):
        self.owner, self.paths, self.layout, self.slots = owner, paths, layout, slots
        _check_kind(owner, layout, slots)
        fields = {} if slots is None else opened(slots)[0]._asdict()
        self.shared = {name: fields[name] for name in layout.shared}
        kept = [name for name, tree in fields.items() if name not in layout.shared and tree is not None]
        self.columns = stored(slots, kept)
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
        row = {name: column[i] for name, column in self.columns.items()}
        missing = next((name for name, x in row.items() if x is None), None)
        if missing is not None:
            raise ValueError(
                f"{self.owner}: the state is not of these parameters: slot {missing!r} has no array at "
                f"{self.paths[i]!r}, which was None when the state was made."
            )
        if self.layout.storage is not None:
            self.layout.storage.check(self.owner, self.paths[i], row)
        return opened(self.slots)[0]._replace(**self.shared, **row)

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
        return with_stored(self.slots, columns, shared)

    def packed(self) -> Slots:
        """The slots again, as they lie in a state."""
        return None if self.slots is None else self.with_values(self.shared, self.columns)


def _check_kind(owner: str, layout: Layout, slots: Slots) -> None:
    """Refuses the slots of another rule or setting; a class that a notebook has defined anew is the same."""
    bare, scales = opened(slots)
    want, have = layout.slots or type(None), type(bare)
    if (want.__name__, getattr(want, "_fields", ())) != (have.__name__, getattr(have, "_fields", ())):
        raise ValueError(
            f"{owner}: the state is of another optimizer: got a {have.__name__}, it must be a {want.__name__}."
        )
    if slots is None:
        return
    if {*scales} != {*map(scale_of, layout.coded)}:
        have, must = (sorted(names) or "none" for names in (scales, map(scale_of, layout.coded)))
        raise ValueError(f"{owner}: the state is stored otherwise: it has the scales {have}, they must be {must}.")
    row = layout.row(jax.ShapeDtypeStruct((), jnp.float32))
    for name in set(bare._fields) - {*layout.shared, *layout.partial}:
        if (getattr(row, name) is None) != (getattr(bare, name) is None):
            has, must = ("has no", "must have one") if getattr(bare, name) is None else ("has a", "must have none")
            raise ValueError(f"{owner}: the state is of another setting: it {has} slot {name!r}, and {must}.")
