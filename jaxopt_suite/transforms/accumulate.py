"""Gradient accumulation: the mean of several micro-batches makes one step."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxopt_suite import _trees as trees
from jaxopt_suite._frame import transform
from jaxopt_suite._pipeline import ACCUMULATE, Gate


class AccumulatorState(NamedTuple):
    """The sum of the gradients of a cycle, and how many of the next step's there are."""

    micro_step: Any
    accumulator: Any
    weights_rank = 1


@transform()
def accumulate(gradient_accumulation_steps: int) -> Gate:
    """Holds gradients back until there are `n`, then passes on their mean; what stands behind runs only then.

    Unlike Keras 3, schedules count real steps and an average moves on real steps only.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.accumulate(2)
    >>> first, state = tx.update(jnp.array(1.0), tx.init(jnp.array(0.0)))
    >>> second, state = tx.update(jnp.array(3.0), state)
    >>> first, second
    (Array(0., dtype=float32), Array(2., dtype=float32))
    """
    n = gradient_accumulation_steps

    def init(params: Any) -> AccumulatorState:
        zeros = [None if w is None else jnp.zeros_like(w, trees.compute_dtype(w)) for w in trees.leaves(params)]
        return AccumulatorState(jnp.zeros((), jnp.int32), trees.like(params, zeros))

    def update(grads: Any, state: AccumulatorState) -> tuple[Any, Any, Any]:
        held, arrived = trees.leaves(state.accumulator), trees.leaves(grads)

        def total(a: Any, g: Any) -> Any:
            if a is None:
                return None
            a = jnp.where(state.micro_step == 0, jnp.zeros_like(a), a)
            return a if g is None else a + g.astype(a.dtype)

        # Added up in front of the branches, and begun anew in the next micro-step, not behind the boundary: so both
        # branches hand the sums on as they are, and XLA adds to them in place.
        sums = list(map(total, held, arrived))

        def passed() -> tuple[Any, AccumulatorState]:
            means = [None if g is None else s / n for s, g in zip(sums, arrived, strict=True)]
            return trees.like(grads, means), counted(jnp.zeros_like(state.micro_step))

        def hold() -> AccumulatorState:
            return counted(state.micro_step + 1)

        def counted(micro_step: Any) -> AccumulatorState:
            return AccumulatorState(micro_step, trees.like(state.accumulator, sums))

        return state.micro_step == n - 1, passed, hold

    return Gate(ACCUMULATE, init, update)
