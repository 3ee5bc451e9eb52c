"""What a training loop wants to know of each step, kept as scalars in the state."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import Inner, transform, wrapper
from jaxopt_suite._frame.flow import Arrays, Flow
from jaxopt_suite._frame.line import Line
from jaxopt_suite._frame.roots import root
from jaxopt_suite._frame.split import Split
from jaxopt_suite._frame.stages import AnyStage, Meter, Place
from jaxopt_suite._recipe.words import Text
from jaxopt_suite._slices import IndexedSlices
from jaxopt_suite._stages._sums import Terms, global_sums
from jaxopt_suite.state._layout import state_class


@state_class
class MetricsState(NamedTuple):
    """What was measured in the last step that was taken."""

    gradient_norm: jax.Array | None
    update_norm: jax.Array | None
    weight_norm: jax.Array | None
    rounded_share: jax.Array | None
    reported = ("gradient_norm", "update_norm", "weight_norm", "rounded_share")

    def idle(self) -> bool:
        """It is a record of the last step."""
        return True


@transform(Place.MEASURE)
def measure() -> Meter:
    """Measures what passes, as `with_metrics` does, and changes nothing; it needs the parameters.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx, w = jos.transforms.measure(), jnp.array([3.0, 4.0])
    >>> _, state = tx.update(jnp.array([0.0, 0.5]), tx.init(w), w)
    >>> jos.state.metrics(state)["update_to_weight_ratio"]
    Array(0.1, dtype=float32)
    """

    def measured(flow: Flow, steps: Arrays) -> MetricsState:
        if flow.params is None:
            raise ValueError(f"{flow.owner}: update needs the parameters: call update(grads, state, params).")
        rows = zip(flow.xs, steps, flow.weights(), flow.splits(), strict=True)
        found = [_Row(g, x, w, split) for g, x, w, split in rows if g is not None and x is not None]
        dtype = flow.dtype()
        sums = global_sums([row.terms(dtype) for row in found], [row.split for row in found], dtype, 5)
        return MetricsState(root(sums[0]), root(sums[1]), root(sums[2]), sums[3] / jnp.maximum(sums[4], 1))

    return Meter(slots=MetricsState, shared=dict.fromkeys(MetricsState._fields, 0.0), measure=measured)


class _Row(NamedTuple):
    """One parameter: its gradient, its step, itself."""

    gradient: Any
    step: Any
    weight: Any
    split: Split

    def terms(self, dtype: jnp.dtype) -> Terms:
        """By entry: squares of the gradient, of the step and of the weight; if a step was lost, if there was one."""
        g, x, w = _summed(self.gradient), _summed(self.step), self.weight
        at = self.step.summed().rows_of(w) if isinstance(self.step, IndexedSlices) else w
        moves = x != 0
        lost = moves & ((at.astype(x.dtype) + x).astype(w.dtype) == at)
        squares = (jnp.square(y.astype(dtype)) for y in (g, x, w))
        return (*squares, lost.astype(dtype), moves.astype(dtype))


def _summed(x: Any) -> jax.Array:
    """An array, or the rows of slices, each once."""
    return x.summed().values if isinstance(x, IndexedSlices) else jnp.asarray(x)


@wrapper("WithMetrics")
def with_metrics(optimizer: Inner, name: Text | None = None) -> Line:
    """Measures each step and keeps the numbers in the state: `jos.state.metrics(state)` reads them.

        gradient_norm = ||g||,    update_norm = ||x||,    weight_norm = ||w||
        update_to_weight_ratio = ||x|| / ||w||

    `gradient_norm` is that behind aggregation and accumulation and in front of the clipping, `update_norm` that of the
    step which is added to the parameters, `weight_norm` that of the parameters before it, `update_to_weight_ratio` the
    quotient of the two. `rounded_share` is, of the entries with a step `x`, the share where `w + x` is rounded back
    to `w`.

    Norms are Euclidean, of all parameters that have a gradient, and with `by_path` of each group too, as
    `"<group>/gradient_norm"`. `w + x` is rounded as the parameters are kept: in bfloat16 most of a small step may be
    lost; by a wrapper of `jos.precision` nothing is, since what is rounded there is kept, or decided by chance. Steps
    that are held back or skipped are not measured. In a `chain` the gradient is what goes into the chain, and
    the step what comes out.

    The numbers are scalars on the device: there is no callback, and reading them is what waits. They cost another look
    at the gradients, the steps and the weights; see docs/training_loop.md for how much.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.with_metrics(jos.sgd(0.001, global_clipnorm=1.0))
    >>> w = {"kernel": jnp.array([3.0, 0.0625], jnp.bfloat16)}
    >>> w, state = tx.apply_gradients({"kernel": jnp.array([0.75, 1.0], jnp.bfloat16)}, tx.init(w), w)
    >>> for name, value in jos.state.metrics(state).items():
    ...     print(name, f"{value:.4g}")
    gradient_norm 1.25
    update_norm 0.001
    weight_norm 3.001
    rounded_share 0.5
    update_to_weight_ratio 0.0003333
    """
    meter = measure.stage()
    return _inside(optimizer.line, meter).insert(meter)


def _inside(line: Line, meter: AnyStage) -> Line:
    """The line with a meter in each group of its parameters that moves."""
    if line.members is None or not line.members.lines:
        return line
    divides = line.members.divides

    def change(inner: Line) -> Line:
        inner = _inside(inner, meter)
        return inner.insert(meter) if divides and inner.moves else inner

    return dataclasses.replace(line, members=line.members.each(change))
