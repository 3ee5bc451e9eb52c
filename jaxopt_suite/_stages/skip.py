"""Steps that are not taken because their gradient is far larger than gradients were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_suite._declare import Inner, transform, wrapper
from jaxopt_suite._frame.flow import Arrays
from jaxopt_suite._frame.split import Split
from jaxopt_suite._frame.stages import AnyStage, Gate, Place, Verdict
from jaxopt_suite._recipe.words import AboveOneConstant, BetaConstant, Count, Text
from jaxopt_suite._slices import IndexedSlices
from jaxopt_suite._stages._sums import global_norm
from jaxopt_suite.state._layout import SlotTable, state_class

SENTENCES = {
    "factor": "how many times the running mean a norm may be.",
    "warmup_steps": "first norms, of which the mean is made and none is too large.",
    "mean_decay": "share of the old mean that is kept with each norm.",
}


@state_class
class SkipState(NamedTuple):
    """The running mean of the norms, and how many norms and skipped steps there were."""

    mean_gradient_norm: jax.Array | None
    norms: jax.Array | None
    skipped: jax.Array | None
    reported = ("mean_gradient_norm", "skipped")

    def idle(self) -> bool:
        """Where nothing is skipped, it is not asked for."""
        return True


@transform(Place.SKIP, sentences=SENTENCES)
def skip_large_gradients(
    factor: AboveOneConstant = 4.0, *, warmup_steps: Count = 100, mean_decay: BetaConstant = 0.99
) -> Gate:
    """Holds back gradients whose norm is too large, as `skip_large_updates` does.

    In a plain `optax.chain` nothing can be held back: there, what stands behind is given zeros. `jos.chain` holds it.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.skip_large_gradients(2.0, warmup_steps=1)
    >>> state = tx.init(jnp.array(0.0))
    >>> for g in 1.0, 1.5, 3.0:
    ...     update, state = tx.update(jnp.array(g), state)
    ...     print(update)
    1.0
    1.5
    0.0
    """

    def update(xs: Arrays, slots: SlotTable, splits: Sequence[Split]) -> Verdict:
        mean, norms, skipped = (slots.shared[name] for name in SkipState._fields)
        given = [
            (x.summed().values if isinstance(x, IndexedSlices) else jnp.asarray(x), split)
            for x, split in zip(xs, splits, strict=True)
            if x is not None
        ]
        norm = global_norm([x for x, _ in given], [split for _, split in given], mean.dtype)
        counted = jnp.asarray(optax.safe_increment(norms))
        limit = jnp.where((norms >= warmup_steps) & (mean > 0), factor * mean, jnp.finfo(mean.dtype).max)
        share = jnp.maximum(1 - mean_decay, 1 / counted.astype(mean.dtype))

        def passed() -> tuple[Arrays, SkipState]:
            return xs, SkipState(mean + share * (norm - mean), counted, skipped)

        def held() -> SkipState:
            risen = mean + share * (limit - mean)  # so that gradients that stay large are taken in the end
            known = jnp.isfinite(norm)
            more = jnp.asarray(optax.safe_increment(skipped))
            return SkipState(jnp.where(known, risen, mean), jnp.where(known, counted, norms), more)

        return norm <= limit, passed, held

    first = SkipState(None, None, None)
    shared = {"mean_gradient_norm": 0.0, "norms": 0, "skipped": 0}
    return Gate(slots=SkipState, first=lambda w: first, shared=shared, update=update)


@wrapper("SkipLargeUpdates", sentences=SENTENCES)
def skip_large_updates(
    optimizer: Inner,
    factor: AboveOneConstant = 4.0,
    warmup_steps: Count = 100,
    mean_decay: BetaConstant = 0.99,
    name: Text | None = None,
) -> AnyStage:
    """Skips steps whose gradient is far larger than gradients were, and counts them.

        m <- m + max(1 - mean_decay, 1 / k) * (min(N, factor * m) - m)

    where `N` is the `k`-th norm of all gradients together and `m` the running mean; the first `N` is the first mean,
    and the minimum is `N` while `k <= warmup_steps`. A step is skipped where `k > warmup_steps` and `N > factor * m`,
    or where `N` is not finite. The norm is that of the accumulated gradient, in front of any clipping. A skipped step
    leaves the parameters and everything behind (moments, schedules, averages) as they were, and
    `jos.state.metrics(state)["skipped"]` counts it. It raises the mean as far as one that is just allowed: where
    gradients stay `r` times as large as before, steps go on again after some
    `log(r / factor) / log(1 + (factor - 1) (1 - mean_decay))`. Norms that are not finite leave the mean as it is. The
    limit is one number for all parameters, in `by_path` too.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.skip_large_updates(jos.sgd(1.0), factor=3.0, warmup_steps=2)
    >>> w, state = jnp.array(0.0), tx.init(jnp.array(0.0))
    >>> for g in 1.0, 1.0, 50.0, jnp.nan, 1.0:
    ...     w, state = tx.apply_gradients(jnp.array(g), state, w)
    ...     print(w, jos.state.metrics(state)["skipped"], state.count)
    -1.0 0 1
    -2.0 0 2
    -2.0 1 2
    -2.0 2 2
    -3.0 2 3

    Reference: Chowdhery et al., PaLM: Scaling language modeling with pathways, 2022, whose batches at a spike were
    skipped by hand; Kumar et al., ZClip: Adaptive spike mitigation for LLM pre-training, 2025, whose running mean of
    norms decides by a z-score and clips instead.
    """
    return skip_large_gradients.stage(factor, warmup_steps=warmup_steps, mean_decay=mean_decay)
