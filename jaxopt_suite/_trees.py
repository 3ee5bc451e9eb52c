"""Trees of parameters: their paths, their leaves, and what is refused of them.

Neither treedefs nor paths are kept between calls: `nnx.Optimizer` gives `init` other containers than `update`.
So trees are compared by path and rebuilt in the containers they came in.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

Tree: TypeAlias = Any  # a pytree: of parameters, gradients, updates, or a state


def path_name(path: Sequence[Any]) -> str:
    """`dense/kernel`; the `.value` of an nnx Variable is no part of a parameter's name."""
    if path and isinstance(path[-1], jax.tree_util.GetAttrKey) and path[-1].name == "value":
        path = path[:-1]
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def _is_none(x: object) -> bool:
    return x is None


def leaves(tree: Tree) -> list[Any]:
    """The leaves, a missing one (`None`) among them, so that trees of one shape stay aligned."""
    return jax.tree.leaves(tree, is_leaf=_is_none)


def paths(tree: Tree) -> list[str]:
    return [path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_none)[0]]


def like(tree: Tree, new: Iterable[object]) -> Tree:
    """A tree of the same containers with other leaves."""
    return jax.tree.unflatten(jax.tree.structure(tree, is_leaf=_is_none), list(new))


def compute_dtype(*arrays: Any) -> jnp.dtype:
    """The precision that arrays are worked on in: float32, or float64 where one of them has it."""
    wide = any(a is not None and jnp.result_type(a) == jnp.float64 for a in arrays)
    return jnp.dtype("float64") if wide else jnp.dtype("float32")


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
    came = dtype if dtype is not None else f"a {type(x).__name__}"
    raise TypeError(f"{owner}: the {what} at {path!r} must be a floating-point array, got {came}.{hint}")


def check_trees(owner: str, grads: Tree, params: Tree | None) -> None:
    """Gradients must have the parameters' tree, shapes and a real floating type; the first culprit is named."""
    g_leaves, w_leaves = leaves(grads), leaves(params) if params is not None else None
    if w_leaves is not None and not aligned(grads, params):
        _refuse_tree(owner, grads, params)
    names = None
    for i, g in enumerate(g_leaves):
        w = w_leaves[i] if w_leaves is not None else None
        shapes = [jnp.shape(x) for x in (g, w) if x is not None]
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
    if jax.tree.structure(grads, is_leaf=_is_none) == jax.tree.structure(params, is_leaf=_is_none):
        return True
    return paths(grads) == paths(params)


def _refuse_tree(owner: str, grads: Tree, params: Tree) -> None:
    have, want = paths(grads), paths(params)
    for path in want:
        if path not in have:
            raise ValueError(f"{owner}: gradients and parameters differ: there is no gradient at {path!r}.")
    for path in have:
        if path not in want:
            raise ValueError(f"{owner}: gradients and parameters differ: there is no parameter at {path!r}.")
    first = next(path for path, other in zip(have, want, strict=True) if path != other)
    raise ValueError(f"{owner}: gradients and parameters differ in order, first at {first!r}.")
