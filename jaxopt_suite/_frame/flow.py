"""Gradients on their way down a line, and what waits behind it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp

from jaxopt_suite import _trees as trees
from jaxopt_suite._trees import Tree

Result = TypeVar("Result")
Arrays = list[Any]  # one array for each leaf of the gradients, None where there is none


@dataclasses.dataclass(frozen=True)
class Flow(Generic[Result]):
    """Gradients on their way down a line.

    Attributes:
      owner: the name that errors begin with.
      grads, params, extra: what `update` was given. `grads` says which leaves there are, and in which containers.
      xs: the arrays as they have become on the way.
      then: what everything behind the line makes of the updates.
      hold: its result where a gate holds the gradients back, so that nothing behind runs.
    """

    owner: str
    grads: Tree
    params: Tree | None
    extra: Mapping[str, Tree]
    xs: Arrays
    then: Callable[[Arrays], Result]
    hold: Callable[[], Result]

    def replace(self, **changes: object) -> "Flow[Any]":
        return dataclasses.replace(self, **changes)

    def weights(self) -> Arrays:
        return [None] * len(self.xs) if self.params is None else trees.leaves(self.params)

    def dtype(self) -> jnp.dtype:
        """The precision of scalars."""
        return trees.compute_dtype(*trees.leaves(self.params), *trees.leaves(self.grads))

    def updates(self, xs: Arrays) -> Tree:
        """The tree of updates, each in the dtype of its gradient and its parameter together; zero if nothing moves."""
        out = []
        for g, w, x in zip(trees.leaves(self.grads), self.weights(), xs, strict=True):
            if g is None:
                out.append(None if w is None else jnp.zeros_like(w))
            else:
                dtype = _promoted(g, w)
                out.append(jnp.zeros_like(g, dtype) if x is None else x.astype(dtype))
        return trees.like(self.grads, out)

    def applied(self, xs: Arrays) -> Tree:
        """The tree of new parameters."""
        out = []
        for w, x in zip(self.weights(), xs, strict=True):
            out.append(w if x is None or w is None else (w.astype(x.dtype) + x).astype(w.dtype))
        return trees.like(self.params, out)


def _promoted(g: jax.Array, w: jax.Array | None) -> jnp.dtype:
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(g) if w is None else jnp.result_type(jnp.result_type(g), jnp.result_type(w))
