"""Where each array of a state lies on a mesh: beside its parameter, and split further over one axis where it can be."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import jax
from jax.sharding import (
    AbstractMesh,
    AxisType,
    Mesh,
    NamedSharding,
    PartitionSpec,
    SingleDeviceSharding,
    use_abstract_mesh,
)

from jaxopt_suite import _trees as trees
from jaxopt_suite._recipe.check import nearest, show
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._codec import Blocks, block_of
from jaxopt_suite.state._layout import coded

AnyMesh: TypeAlias = Mesh | AbstractMesh

SMALLEST = 128  # entries of a part: one row of a TPU's registers


class HasInit(Protocol):
    """An optimizer, or any transformation of Optax."""

    @property
    def init(self) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Place:
    """Where one array of a state lies.

    Attributes:
      path: its path in the state.
      shape, dtype: what it is.
      spec: the mesh axes of each dimension.
      parts: in how many parts it is split.
      why: why it is not split over the axis that was asked for; empty where it is.
    """

    path: str
    shape: tuple[int, ...]
    dtype: Any
    spec: PartitionSpec
    parts: int
    why: str = ""

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def bytes_per_device(self) -> int:
        return self.bytes // self.parts


def places(
    owner: str, tx: HasInit, params: Tree, mesh: AnyMesh, axis: str | Sequence[str] | None
) -> tuple[Any, list[Place]]:
    """The treedef of the state, and the `Place` of each of its arrays."""
    if not hasattr(tx, "init"):
        raise TypeError(f"{owner}: tx must be an optimizer, got {show(tx)}.")
    names = _names(owner, mesh, axis)
    explicit = mesh.abstract_mesh.update(axis_types=(AxisType.Explicit,) * len(mesh.axis_names))
    with use_abstract_mesh(explicit):  # whatever jax.set_mesh says
        shapes = jax.eval_shape(tx.init, _typed(owner, params, mesh, explicit))
    named = zip(trees.paths(shapes), trees.leaves(shapes), strict=True)
    stored = {id(x): blocks for blocks in coded(shapes) for x in blocks}
    found = [_place(path, x, stored.get(id(x)), mesh.shape, names) for path, x in named if x is not None]
    return jax.tree.structure(shapes), found


def _names(owner: str, mesh: AnyMesh, axis: str | Sequence[str] | None) -> tuple[str, ...]:
    if not isinstance(mesh, (Mesh, AbstractMesh)):
        raise TypeError(f"{owner}: mesh must be a jax.sharding.Mesh, got {show(mesh)}.")
    names = (axis,) if isinstance(axis, str) else () if axis is None else axis
    if (
        not isinstance(names, (tuple, list))
        or not all(isinstance(name, str) for name in names)
        or len({*names}) < len(names)
    ):
        raise TypeError(f"{owner}: axis must be the name of an axis of the mesh, or several, got {show(axis)}.")
    for name in names:
        if name not in mesh.shape:
            have = list(mesh.shape)
            raise ValueError(
                f"{owner}: axis must be an axis of the mesh, one of {have}, got {show(name)}.{nearest(str(name), have)}"
            )
    return tuple(names)


def _typed(owner: str, params: Tree, mesh: AnyMesh, explicit: AbstractMesh) -> Tree:
    """The parameters as shapes whose types say how they are sharded, so that those of their slots do."""

    def struct(path: str, w: Any) -> Any:
        if w is None:
            return None
        if not hasattr(w, "shape"):
            raise TypeError(f"{owner}: the parameter at {path!r} must be an array, got {show(w)}.")
        spec = _spec(owner, path, w, mesh)
        return jax.ShapeDtypeStruct(w.shape, w.dtype, sharding=NamedSharding(explicit, spec))

    named = zip(trees.paths(params), trees.leaves(params), strict=True)
    return trees.like(params, [struct(path, w) for path, w in named])


def _spec(owner: str, path: str, w: Any, mesh: AnyMesh) -> PartitionSpec:
    """How a parameter is sharded over the mesh; one that is not placed yet is whole on each device."""
    sharding = getattr(w, "sharding", None)
    if isinstance(sharding, NamedSharding):
        if _alike(sharding.mesh, mesh):
            return sharding.spec
        raise ValueError(f"{owner}: the parameter at {path!r} is on another mesh, {sharding.mesh.shape_tuple}.")
    if isinstance(sharding, SingleDeviceSharding) and getattr(w, "committed", False) and mesh.size > 1:
        raise ValueError(
            f"{owner}: the parameter at {path!r} is on {sharding.device_set} alone: put it on the mesh first, "
            "jax.device_put(params, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))."
        )
    return PartitionSpec()


def _alike(mesh: AnyMesh, other: AnyMesh) -> bool:
    """Whether two meshes are of the same axes and devices, of which an abstract one has none."""
    devices = [{*one.devices.flat} for one in (mesh, other) if isinstance(one, Mesh)]
    return mesh.shape_tuple == other.shape_tuple and all(some == devices[0] for some in devices)


def _place(path: str, x: Any, stored: Blocks | None, sizes: Mapping[str, int], names: tuple[str, ...]) -> Place:
    """Where one array lies, by itself or, as codes or their scale, in whole blocks that are `stored` together."""
    like = x if stored is None else stored.codes
    block = 1 if stored is None else block_of(like.shape[-1], stored.scale.shape[-1])
    entries, why = _split_further(like.shape, _entries(like), sizes, names, block)
    if like is not x:
        pairs = zip(entries, x.shape, strict=True)
        entries = [entry if size % _parts(entry, sizes) == 0 else () for entry, size in pairs]
    parts = math.prod(_parts(entry, sizes) for entry in entries)
    spec = PartitionSpec(*(entry[0] if len(entry) == 1 else entry or None for entry in entries))
    return Place(path, x.shape, x.dtype, spec, parts, why)


def _entries(x: Any) -> list[tuple[str, ...]]:
    """The mesh axes of each dimension."""
    base = x.sharding.spec if x.sharding is not None else ()
    entries = [entry if isinstance(entry, tuple) else (entry,) if entry else () for entry in base]
    return entries + [()] * (len(x.shape) - len(entries))


def _parts(names: Sequence[str], sizes: Mapping[str, int]) -> int:
    return math.prod(sizes[name] for name in names)


def _split_further(
    shape: tuple[int, ...], entries: list[tuple[str, ...]], sizes: Mapping[str, int], names: tuple[str, ...], block: int
) -> tuple[list[tuple[str, ...]], str]:
    """The entries with some names added to one of them: rows before columns, and of rows the most.

    What is split over one of the names already stays as it is, and no block of the last dimension is cut.
    """
    if not names or any(name in entry for name in names for entry in entries):
        return entries, ""
    n, last = _parts(names, sizes), len(shape) - 1
    local = [size // _parts(entry, sizes) for size, entry in zip(shape, entries, strict=True)]
    if math.prod(local) < n * SMALLEST:
        return entries, f"fewer than {n} x {SMALLEST} entries"
    fitting = [i for i, size in enumerate(local) if size % (n * block if i == last else n) == 0]
    if not fitting:
        blocks = f", nor the last in blocks of {block}" if block > 1 else ""
        return entries, f"no dimension of {tuple(local)} divides by {n}{blocks}"
    best = max(fitting, key=lambda i: (i < last, local[i]))
    return [entry + names if i == best else entry for i, entry in enumerate(entries)], ""
