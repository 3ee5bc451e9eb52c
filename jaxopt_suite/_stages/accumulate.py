"""Gradient accumulation: the mean of several micro-batches makes one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import transform
from jaxopt_suite._frame.flow import Arrays
from jaxopt_suite._frame.split import Split
from jaxopt_suite._frame.stages import Gate, Place, Verdict
from jaxopt_suite._recipe.words import Several
from jaxopt_suite.state._layout import SlotTable, state_class


@state_class
class AccumulatorState(NamedTuple):
    """The sum of the gradients of a cycle, and how many of the next step's there are."""

    micro_step: jax.Array | None
    accumulator: jax.Array
    weights_rank = 1

    def idle(self) -> bool:
        """Between two cycles: the next one begins its sum anew."""
        return not jnp.any(jnp.asarray(self.micro_step))


@transform(Place.ACCUMULATE)
def accumulate(gradient_accumulation_steps: Several) -> Gate:
    """Holds gradients back until there are `n`, then passes on their mean; what stands behind runs only then.

    Unlike Keras 3, schedules count real steps and an average moves on real steps only. In a plain `optax.chain`
    nothing can be held back: there, what stands behind is given zeros in between. `jos.chain` holds it.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.accumulate(2)
    >>> first, state = tx.update(jnp.array(1.0), tx.init(jnp.array(0.0)))
    >>> second, state = tx.update(jnp.array(3.0), state)
    >>> first, second
    (Array(0., dtype=float32), Array(2., dtype=float32))
    """
    n = gradient_accumulation_steps

    def update(xs: Arrays, slots: SlotTable, splits: Sequence[Split]) -> Verdict:
        micro_step = slots.shared["micro_step"]

        # a state of a longer cycle holds the sum of too many; 1 in any other
        fit = jnp.where(micro_step >= n, n / (micro_step + 1).astype(jnp.float32), 1.0)

        def total(a: jax.Array | None, g: jax.Array | None) -> jax.Array | None:
            if a is None:
                return None
            a = jnp.where(micro_step == 0, jnp.zeros_like(a), a)
            return (a if g is None else a + g.astype(a.dtype)) * fit.astype(a.dtype)

        # Added up in front of the branches, and begun anew in the next micro-step, not behind the boundary: so both
        # branches hand the sums on as they are, and XLA adds to them in place.
        sums = [total(a, g) for a, g in zip(slots.columns["accumulator"], xs, strict=True)]

        def passed() -> tuple[Arrays, AccumulatorState]:
            means = [None if s is None else s / n for s in sums]
            return means, counted(jnp.zeros_like(micro_step))

        def held() -> AccumulatorState:
            return counted(micro_step + 1)

        def counted(micro_step: jax.Array) -> AccumulatorState:
            return slots.with_values({"micro_step": micro_step}, {"accumulator": sums})

        return micro_step >= n - 1, passed, held

    def first(w: jax.Array) -> AccumulatorState:
        return AccumulatorState(None, jnp.zeros_like(w))

    return Gate(slots=AccumulatorState, first=first, shared={"micro_step": 0}, update=update)
