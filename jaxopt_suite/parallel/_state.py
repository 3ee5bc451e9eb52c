"""The state of an optimizer on a mesh."""

import dataclasses
from collections.abc import Sequence

import jax
from jax.sharding import Mesh, NamedSharding

from jaxopt_suite._table import as_face, as_html, as_sentences, as_text, in_units
from jaxopt_suite._trees import Tree
from jaxopt_suite.parallel._place import AnyMesh, HasInit, Place, places

Axis = str | Sequence[str] | None


def state_sharding(tx: HasInit, params: Tree, mesh: AnyMesh, axis: Axis = None) -> Tree:
    """The `NamedSharding` of each array of the state, as a tree like the state.

    A slot lies as its parameter does: what `init` makes of a sharded parameter tells. With `axis`, the name of a mesh
    axis or a tuple of names, each slot is split over that axis too (ZeRO-1), along the largest dimension that divides,
    the last one only if no other does. What has too few entries, or no such dimension, stays as it is; nothing is
    padded; what is split over the axis already (FSDP) stays so. `explain` says which, and why.

    Arguments:
      tx: an optimizer, or any transformation whose `init` makes its slots from the parameters.
      params: arrays or `jax.ShapeDtypeStruct`s; their shardings on the mesh count, what is not placed is replicated.
      mesh: the mesh, with axes of any type.
      axis: the axis that the gradients are summed over.

    Raises:
      ValueError: if the mesh has no such axis, or a parameter is on other devices.

    >>> import jax, jax.numpy as jnp, jaxopt_suite as jos
    >>> mesh, tx = jax.make_mesh((1,), ("data",)), jos.novograd()
    >>> state = jos.parallel.state_sharding(tx, {"w": jnp.ones((256, 3))}, mesh, axis="data")
    >>> {name: tuple(sharding.spec) for name, sharding in jos.state.variables(state).items() if "/" in name}
    {'m/w': ('data', None), 'v/w': ()}
    """
    return _shardings("state_sharding", tx, params, mesh, axis)


def _shardings(owner: str, tx: HasInit, params: Tree, mesh: AnyMesh, axis: Axis) -> Tree:
    containers, found = places(owner, tx, params, mesh, axis)
    return jax.tree.unflatten(containers, [NamedSharding(mesh, place.spec) for place in found])


def init(tx: HasInit, params: Tree, mesh: Mesh, axis: Axis = None) -> Tree:
    """The state, made as `state_sharding` says: no device ever holds more than its part.

    A step keeps it so when its results are told to, by the shardings of the parameters and of the state:
    `jax.jit(step, donate_argnums=(0, 1), out_shardings=(of_params, of_state))`.

    Raises:
      ValueError: if the mesh has no such axis, or a parameter is on other devices.

    >>> import jax, jax.numpy as jnp, jaxopt_suite as jos
    >>> mesh, w = jax.make_mesh((1,), ("data",)), jnp.ones((256, 3))
    >>> state = jos.parallel.init(jos.adam(), w, mesh, axis="data")
    >>> tuple(jos.state.get_slot(state, "", "m").sharding.spec)
    ('data', None)
    """
    where = _shardings("init", tx, params, mesh, axis)
    return jax.jit(tx.init, out_shardings=where)(params)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a state lies.

    Attributes:
      places: the `Place` of each array: `path`, `shape`, `dtype`, `spec`, `parts`, `bytes`, `bytes_per_device`, and
        `why` it is not split over the axis.

    >>> import jax, jax.numpy as jnp, jaxopt_suite as jos
    >>> mesh, params = jax.sharding.AbstractMesh((4,), ("data",)), {"kernel": jnp.zeros((1024, 2))}
    >>> layout = jos.parallel.explain(jos.adam(), params, mesh, axis="data")
    >>> layout.bytes, layout.bytes_per_device, [place.path for place in layout.replicated]
    (16392, 4104, ['count', 'rate/learning_rate'])
    """

    places: tuple[Place, ...]

    @property
    def bytes(self) -> int:
        """Of the whole state."""
        return sum(place.bytes for place in self.places)

    @property
    def bytes_per_device(self) -> int:
        """Of the parts that one device holds."""
        return sum(place.bytes_per_device for place in self.places)

    @property
    def replicated(self) -> tuple[Place, ...]:
        """What is not split over the axis that was asked for, the largest first."""
        return tuple(sorted((p for p in self.places if p.why), key=lambda p: -p.bytes_per_device))

    def __repr__(self) -> str:
        return f"{as_text(*self._table())}\n{self._sum()}"

    def _repr_html_(self) -> str:
        return as_face(as_html(*self._table()), as_sentences([self._sum()]))

    def _table(self) -> tuple[list[str], list[list[str]]]:
        head = ["array", "shape", "dtype", "spec", "on a device", "not split further, because of"]
        rows = [
            [p.path, str(p.shape), str(p.dtype), str(tuple(p.spec)), in_units(p.bytes_per_device), p.why]
            for p in self.places
        ]
        return head, rows

    def _sum(self) -> str:
        share = self.bytes_per_device / self.bytes if self.bytes else 1.0
        return f"{in_units(self.bytes_per_device)} on a device, {share:.3f} of {in_units(self.bytes)}"


def explain(tx: HasInit, params: Tree, mesh: AnyMesh, axis: Axis = None) -> Layout:
    """Where each array of the state will lie, how large its part is, and why what is replicated is.

    Nothing is made: with `jax.sharding.AbstractMesh` and shapes it tells on a laptop what a pod will hold.

    Raises:
      ValueError: if the mesh has no such axis, or a parameter is on other devices.

    >>> import jax, jax.numpy as jnp, jaxopt_suite as jos
    >>> params = {"bias": jnp.ones(3), "kernel": jnp.ones((256, 3))}
    >>> layout = jos.parallel.explain(jos.sgd(momentum=0.9), params, jax.make_mesh((1,), ("data",)), "data")
    >>> for place in layout.replicated:
    ...     print(place.path, "has", place.why)
    stages/rule/m/bias has fewer than 1 x 128 entries
    count has fewer than 1 x 128 entries
    rate/learning_rate has fewer than 1 x 128 entries
    """
    return Layout(tuple(places("explain", tx, params, mesh, axis)[1]))
