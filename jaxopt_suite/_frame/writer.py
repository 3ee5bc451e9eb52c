"""The stage that writes 16-bit parameters, and what all before it sees in their place."""

import dataclasses

import jax.numpy as jnp

from jaxopt_suite import _trees as trees
from jaxopt_suite._frame.stages import LeafStage
from jaxopt_suite._frame.walk import exact
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._layout import OptimizerState


@dataclasses.dataclass(frozen=True, eq=False)
class Writer:
    """The last stage of a line: what it gives for a 16-bit parameter is the value to write, not a step.

    Attributes:
      key: what it is called in a state.
      stage: its rule says by `exact` what a parameter is, of which only the rounded value is at hand.
    """

    key: str
    stage: LeafStage

    def at_first(self, owner: str, params: Tree) -> Tree:
        """The parameters as the other stages see them at the start, in float32; refuses what is not written."""
        found = [x for x in trees.leaves(params) if x is not None]
        if found and not any(map(trees.is_half, found)):
            kinds = ", ".join(sorted({str(x.dtype) for x in found}))
            raise ValueError(f"{owner}: {self.key} finds no parameter in 16 bits to write, only {kinds}.")
        narrow = next((x.dtype for x in found if x.dtype.itemsize < 2), None)
        if narrow is not None:
            raise TypeError(f"{owner}: {self.key} writes bfloat16 and float16, and there is a parameter in {narrow}.")
        return trees.widened(params)

    def exact(self, owner: str, state: OptimizerState, params: Tree) -> Tree:
        """The parameters as they stand."""
        rule = self.stage.rule(state.count, jnp.dtype("float32"))
        return exact(rule, state.stages.get(self.key), params, owner)
