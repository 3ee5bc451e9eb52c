"""What a checkpoint holds, against what is to be made of it."""

from typing import Any

from jaxopt_suite import _trees as trees
from jaxopt_suite._recipe.check import nearest, show
from jaxopt_suite._trees import Tree


def check_saved(saved: Tree, wanted: Tree) -> None:
    """Refuses a checkpoint whose arrays are not those that are wanted: it casts dtypes silently otherwise.

    Containers may differ, as an `OptimizerState` and the dict that orbax saves it as do: arrays are compared by path.

    Arguments:
      saved: what the checkpoint says of its arrays, such as `orbax.checkpoint.v1.metadata(folder).metadata`.
      wanted: the arrays that it is loaded for, or their `jax.ShapeDtypeStruct`s.

    Raises:
      ValueError: if there are other arrays, or one has another shape.
      TypeError: if one has another dtype, and if `saved` holds no arrays at all.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> saved = jos.adam().init({"w": jnp.zeros(3)})
    >>> jos.parallel.check_saved(saved, jos.adam().init({"w": jnp.zeros(3)}))
    >>> jos.parallel.check_saved(saved, jos.sgd(momentum=0.9).init({"w": jnp.zeros(3)}))
    Traceback (most recent call last):
    ValueError: check_saved: the checkpoint has stages/rule/v/w too: it is of another optimizer or model.
    """
    have, want = _arrays(saved), _arrays(wanted)
    if want and not have:
        raise TypeError(
            "check_saved: saved must be a tree of what says its shape and dtype, such as "
            f"orbax.checkpoint.v1.metadata(folder).metadata, got {show(saved)}."
        )
    for path, x in want.items():
        if path not in have:
            raise ValueError(
                f"check_saved: the checkpoint has no {path}: it is of another optimizer or model.{nearest(path, have)}"
            )
        if tuple(have[path].shape) != tuple(x.shape):
            raise ValueError(
                f"check_saved: {path} must have shape {tuple(x.shape)}, in the checkpoint it has "
                f"{tuple(have[path].shape)}."
            )
        if have[path].dtype != x.dtype:
            raise TypeError(f"check_saved: {path} must be {x.dtype}, in the checkpoint it is {have[path].dtype}.")
    extra = next((path for path in have if path not in want), None)
    if extra is not None:
        raise ValueError(f"check_saved: the checkpoint has {extra} too: it is of another optimizer or model.")


def _arrays(tree: Tree) -> dict[str, Any]:
    named = zip(trees.paths(tree), trees.leaves(tree), strict=True)
    return {path: x for path, x in named if hasattr(x, "shape")}
