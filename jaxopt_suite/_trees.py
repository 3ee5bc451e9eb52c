"""Trees of parameters: their paths, their leaves, and what is refused of them.

Neither treedefs nor paths are kept between calls: `nnx.Optimizer` gives `init` other containers than `update`.
So trees are compared by path and rebuilt in the containers they came in.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from jaxopt_suite._slices import is_sparse, taken

Tree: TypeAlias = Any  # a pytree: of parameters, gradients, updates, or a state


def path_name(path: Sequence[Any]) -> str:
    """`dense/kernel`."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def _is_leaf(x: object) -> bool:
    """What stands for one leaf: a missing one, and the slices of a table."""
    return x is None or is_sparse(x)


def leaves(tree: Tree) -> list[Any]:
    """The leaves, a missing one (`None`) among them, so that trees of one shape stay aligned."""
    return jax.tree.leaves(tree, is_leaf=_is_leaf)


def variables() -> tuple[type[Any], ...]:
    """The class of nnx's Variables; none where nnx is not imported, as no tree can hold one then."""
    found = getattr(sys.modules.get("flax.nnx"), "Variable", None)
    return () if found is None else (found,)


def bare(tree: Tree) -> Tree:
    """The tree without nnx's Variables around its arrays."""
    boxes = variables()
    if not boxes:
        return tree
    return jax.tree.map(
        lambda x: x.get_value() if isinstance(x, boxes) else x, tree, is_leaf=lambda x: isinstance(x, boxes)
    )


def paths(tree: Tree) -> list[str]:
    """The paths of the leaves; the `.value` of an nnx Variable is no part of a parameter's name."""
    boxes, flat = variables(), jax.tree_util.tree_flatten_with_path
    if not boxes:
        return [path_name(path) for path, _ in flat(tree, is_leaf=_is_leaf)[0]]
    names = []
    for path, leaf in flat(tree, is_leaf=lambda x: _is_leaf(x) or isinstance(x, boxes))[0]:
        if isinstance(leaf, boxes):
            names += [path_name((*path, *inside[1:])) for inside, _ in flat(leaf, is_leaf=_is_leaf)[0]]
        else:
            names.append(path_name(path))
    return names


def like(tree: Tree, new: Iterable[object]) -> Tree:
    """A tree of the same containers with other leaves."""
    return jax.tree.unflatten(jax.tree.structure(tree, is_leaf=_is_leaf), list(new))


def masked(tree: Tree, keep: Sequence[bool]) -> Tree:
    """The tree with some of its leaves; a masked node has no leaves, so that the paths stay as they are."""
    if tree is None:
        return None
    pairs = zip(leaves(tree), keep, strict=True)
    return like(tree, [leaf if kept else optax.MaskedNode() for leaf, kept in pairs])


def is_whole(tree: Tree) -> bool:
    """Whether it is no part of a tree, of which the rest is masked."""
    nodes = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, optax.MaskedNode))
    return not any(isinstance(node, optax.MaskedNode) for node in nodes)


def apart(tree: Tree, others: Iterable[object]) -> Tree:
    """The tree with a copy of each array that stands in it twice, or among others: one of them may be donated."""
    taken = [id(x) for x in others]
    out = []
    for x in leaves(tree):
        out.append(jnp.copy(x) if x is not None and id(x) in taken else x)
        taken.append(id(x))
    return like(tree, out)


def dtype_of(x: Any) -> jnp.dtype:
    """That of an array, of what it would be, or of slices."""
    dtype = x.dtype if hasattr(x, "dtype") else jnp.result_type(x)
    return dtype if jnp.issubdtype(dtype, jax.dtypes.extended) else jnp.result_type(dtype)  # that of a PRNG key stays


def compute_dtype(*arrays: Any) -> jnp.dtype:
    """The precision that arrays are worked on in: float32, or float64 where one of them has it."""
    wide = any(a is not None and dtype_of(a) == jnp.float64 for a in arrays)
    return jnp.dtype("float64") if wide else jnp.dtype("float32")


def is_half(x: Any) -> bool:
    """Whether it is an array of 16-bit floats, or the shape of one."""
    return x is not None and x.dtype in (jnp.bfloat16, jnp.float16)


def widened(tree: Tree) -> Tree:
    """The tree with its 16-bit leaves in float32."""

    def wide(x: Any) -> Any:
        if not is_half(x):
            return x
        only_shape = isinstance(x, jax.ShapeDtypeStruct)
        return jax.ShapeDtypeStruct(x.shape, jnp.float32) if only_shape else x.astype(jnp.float32)

    return like(tree, map(wide, leaves(tree)))


def cast_like(tree: Tree, other: Tree) -> Tree:
    """The tree with the dtypes of another."""
    pairs = zip(leaves(tree), leaves(other), strict=True)
    return like(tree, [x if x is None or x.dtype == y.dtype else x.astype(y.dtype) for x, y in pairs])


def nbytes(tree: Tree) -> int:
    """The bytes of all arrays, or of what they would be."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def check_leaf(owner: str, what: str, path: str, x: Any) -> None:
    if x is None:
        return
    dtype = getattr(x, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jnp.floating):
        return
    hint = ""
    if dtype is not None and jnp.issubdtype(dtype, jnp.complexfloating):
        hint = " Split it with optax.contrib.split_real_and_imaginary."
    elif what == "parameter":
        hint = " Of an nnx model, give nnx.state(model, nnx.Param)."
    came = dtype if dtype is not None else f"a {type(x).__name__}"
    raise TypeError(f"{owner}: the {what} at {path!r} must be a floating-point array, got {came}.{hint}")


def shape_of(x: Any) -> tuple[int, ...]:
    """That of an array, or of the table that slices are of."""
    return x.shape if is_sparse(x) else jnp.shape(x)


def sound(owner: str, grads: Tree) -> Tree:
    """The gradients with slices in the one form that a step counts on; the tree itself where there are none."""
    found = leaves(grads)
    if not any(map(is_sparse, found)):
        return grads
    return like(grads, [taken(owner, path, x) for path, x in zip(paths(grads), found, strict=True)])


def check_trees(owner: str, grads: Tree, params: Tree | None) -> None:
    """Gradients must have the parameters' shapes and a real floating type; the first culprit is named."""
    g_leaves, w_leaves = leaves(grads), leaves(params) if params is not None else None
    names = None
    for i, g in enumerate(g_leaves):
        w = w_leaves[i] if w_leaves is not None else None
        shapes = [shape_of(x) for x in (g, w) if x is not None]
        same = len({*shapes}) <= 1
        floating = all(x is None or jnp.issubdtype(getattr(x, "dtype", int), jnp.floating) for x in (g, w))
        if same and floating and not (w_leaves is not None and w is None and g is not None):
            continue
        names = names or paths(grads)
        check_leaf(owner, "gradient", names[i], g)
        check_leaf(owner, "parameter", names[i], w)
        if w is None:
            raise ValueError(f"{owner}: there is a gradient at {names[i]!r}, but no parameter.")
        raise ValueError(f"{owner}: the gradient at {names[i]!r} has shape {shapes[0]}, its parameter has {shapes[1]}.")
    if g_leaves and all(g is None for g in g_leaves):
        raise ValueError(f"{owner}: no gradients provided for any parameter: all of them are None.")


def aligned(grads: Tree, params: Tree) -> bool:
    """Whether two trees have the same keys; containers may differ, as nnx.State and dict do."""
    if jax.tree.structure(grads, is_leaf=_is_leaf) == jax.tree.structure(params, is_leaf=_is_leaf):
        return True
    return paths(grads) == paths(params)


def check_aligned(owner: str, grads: Tree, params: Tree) -> None:
    """Gradients and parameters must have the same keys; the first that is missing is named."""
    if aligned(grads, params):
        return
    have, want = paths(grads), paths(params)
    for path in want:
        if path not in have:
            raise ValueError(f"{owner}: gradients and parameters differ: there is no gradient at {path!r}.")
    for path in have:
        if path not in want:
            raise ValueError(f"{owner}: gradients and parameters differ: there is no parameter at {path!r}.")
    first = next(path for path, other in zip(have, want, strict=True) if path != other)
    raise ValueError(f"{owner}: gradients and parameters differ in order, first at {first!r}.")
