"""The rate of a step, and what a state keeps of it."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxopt_suite._frame.stages import at_step
from jaxopt_suite._recipe.words import Number
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._layout import OptimizerState

_KINDS = {
    "": "does not exist",
    "learning_rate": "is a number that the state holds",
    "schedule": "follows a schedule",
    "array": "is an array",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Rates:
    """A number, which the state holds and which rules there; or a schedule or an array, of which it keeps a record.

    Attributes:
      learning_rate: None where there is none.
      decay: inverse-time decay of the rate.
    """

    learning_rate: Number | None
    decay: Number | None

    def first(self, dtype: jnp.dtype) -> dict[str, Tree]:
        first = None if self.learning_rate is None else at_step(self.learning_rate, jnp.int32(0)).astype(dtype)
        return self._record(first)

    def _record(self, rate: jax.Array | None) -> dict[str, Tree]:
        """What the state keeps of a rate."""
        if self.learning_rate is None:
            return {}
        if isinstance(self.learning_rate, float):
            return {"learning_rate": rate}
        return {"schedule": {"learning_rate": rate}} if callable(self.learning_rate) else {"array": rate}

    def at(self, state: OptimizerState, dtype: jnp.dtype) -> tuple[jax.Array, dict[str, Tree]]:
        """The rate of the step that a state is before, and what the state keeps of it."""
        if self.learning_rate is None:
            return jnp.ones((), dtype), state.rate
        held = state.rate.get("learning_rate")
        held = None if held is None else jnp.asarray(held)  # a number, where optax.tree.set put one
        rate = at_step(self.learning_rate, state.count).astype(dtype) if held is None else held
        if self.decay is not None:
            decay = at_step(self.decay, state.count).astype(dtype)
            rate = rate / (1 + decay * state.count.astype(dtype))
        if held is not None:
            return rate, state.rate
        return rate, self._record(rate.astype(jax.tree.leaves(state.rate)[0].dtype))

    def check(self, owner: str, state: OptimizerState) -> None:
        """Refuses a state whose rate is of another kind."""
        if [*state.rate] != [*self._record(None)]:
            have, want = (_KINDS[next(iter(rate), "")] for rate in (state.rate, self._record(None)))
            raise ValueError(
                f"{owner}: the state is of an optimizer whose learning rate {have}; here it {want}. "
                "jos.state.migrate makes a state of this one from it."
            )
