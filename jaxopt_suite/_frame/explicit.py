"""Steps on meshes with explicit axes."""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec, auto_axes

from jaxopt_suite import _trees as trees
from jaxopt_suite._slices import IndexedSlices
from jaxopt_suite._trees import Tree

Step = Callable[[Tree, Tree, Tree, Any], tuple[Tree, Tree]]


def automatic(step: Step, apply: bool, grads: Tree, state: Tree, params: Tree, extra: Any) -> Any:
    """`step(grads, state, params, extra)`, whose inside the compiler places where the types of the mesh would refuse.

    Types refuse a product of matrices that are sharded, or a sum of arrays that are sharded otherwise (a slot that is
    split further than its parameter). The results lie as what they replace: updates as their gradients, or with
    `apply` the parameters as they lay; the state as it lay.
    """
    before = jax.tree.leaves(state)
    mesh = next((mesh for mesh in map(_explicit, [*before, *jax.tree.leaves((grads, params))]) if mesh), None)
    if mesh is None:
        return step(grads, state, params, extra)
    containers: list[Any] = []

    further, names = jax.tree.flatten(extra)  # among them functions, such as the loss of a line search

    def flat(grads: Tree, state: Tree, params: Tree, arrays: list[Any]) -> list[list[Any]]:
        mixed = [x if callable(x) else array for x, array in zip(further, arrays, strict=True)]
        results = step(grads, state, params, jax.tree.unflatten(names, mixed))
        containers[:] = map(jax.tree.structure, results)
        return [jax.tree.leaves(tree) for tree in results]

    arrays = [None if callable(x) else x for x in further]
    nowhere = NamedSharding(mesh, PartitionSpec())  # of what is not on the mesh yet
    replaced = _replaced(apply, grads, params)
    if not apply and any(isinstance(g, IndexedSlices) for g in trees.leaves(grads)):
        shapes = jax.eval_shape(flat, *jax.tree.map(_anywhere, (grads, state, params, arrays)))
        replaced = _beside_slices(jax.tree.unflatten(containers[0], shapes[0]), grads, params)
    places = [[jax.typeof(x).sharding if _explicit(x) else nowhere for x in xs] for xs in (replaced, before)]
    placed = cast(Callable[..., list[list[Any]]], auto_axes(flat, axes=_explicit_axes(mesh), out_sharding=places))
    return tuple(map(jax.tree.unflatten, containers, placed(grads, state, params, arrays)))


def _explicit_axes(mesh: AbstractMesh) -> tuple[str, ...]:
    """The explicit axes of a mesh; inside `shard_map` others may be manual."""
    return tuple(name for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind is AxisType.Explicit)


def _explicit(x: Any) -> AbstractMesh | None:
    """The mesh of an array, where it has explicit axes."""
    mesh = jax.typeof(x).sharding.mesh if isinstance(x, jax.Array) else None
    return mesh if mesh is not None and AxisType.Explicit in mesh.axis_types else None


def _anywhere(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x))


def _beside_slices(updates: Tree, grads: Tree, params: Tree) -> list[Any]:
    """As `_replaced`, where gradients are slices: updates that are slices too lie nowhere, others as the parameter."""
    found = []
    places = trees.leaves(grads) if params is None else trees.leaves(params)
    for u, g, w in zip(trees.leaves(updates), trees.leaves(grads), places, strict=True):
        beside = w if g is None or isinstance(g, IndexedSlices) else g
        found += [] if u is None else [None, None] if isinstance(u, IndexedSlices) else [beside]
    return found


def _replaced(apply: bool, grads: Tree, params: Tree) -> list[Any]:
    """What the updates, or the new parameters, lie as: a gradient that is missing as its parameter."""
    if apply or params is None:
        return jax.tree.leaves(params if apply else grads)
    pairs = zip(trees.leaves(grads), trees.leaves(params), strict=False)  # trees that differ are refused in the step
    return [w if g is None else g for g, w in pairs if g is not None or w is not None]
