"""Loss scaling: gradients of a scaled loss are brought back to the loss's own scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import Inner, transform, wrapper
from jaxopt_suite._frame.flow import Arrays
from jaxopt_suite._frame.split import Split, total
from jaxopt_suite._frame.stages import AnyStage, Gate, Place, TreeStage, Verdict
from jaxopt_suite._recipe.words import Period, PositiveConstant, Scalar, Text
from jaxopt_suite._slices import values_of
from jaxopt_suite._trees import compute_dtype
from jaxopt_suite.state._layout import SlotTable, state_class

SENTENCES = {
    "initial_scale": "factor of the loss in the first step.",
    "dynamic_growth_steps": "finite steps in a row after which the scale doubles.",
}


@state_class
class LossScaleState(NamedTuple):
    """The dynamic scale, and the finite steps since it last changed."""

    scale: jax.Array | None
    finite_steps: jax.Array | None


@transform(Place.UNSCALE)
def unscale(loss_scale_factor: PositiveConstant) -> TreeStage:
    """Divides the gradients by the constant factor that the loss was multiplied by.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.unscale(8.0)
    >>> tx.update(jnp.array(4.0), tx.init(jnp.array(0.0)))[0]
    Array(0.5, dtype=float32)
    """
    return TreeStage(
        change=lambda gs: [_divided(g, loss_scale_factor) for g in gs], loss_scale=lambda slots: loss_scale_factor
    )


@transform(Place.FINITE_CHECK, sentences=SENTENCES)
def unscale_dynamically(initial_scale: PositiveConstant = 2.0**15, dynamic_growth_steps: Period = 2000) -> Gate:
    """Divides by a scale that halves when a gradient is not finite, and doubles after finite steps in a row.

    A step whose gradients are not finite is skipped: everything behind keeps its state, in `jos.chain` too; in a plain
    `optax.chain` it is given zeros instead. Unlike in Keras the scale stays between 1 and half the largest number.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.unscale_dynamically(initial_scale=8.0)
    >>> update, state = tx.update(jnp.array(jnp.inf), tx.init(jnp.array(0.0)))
    >>> update, jos.state.variables(state)['scale']
    (Array(0., dtype=float32), Array(4., dtype=float32))
    """

    def update(xs: Arrays, slots: SlotTable, splits: Sequence[Split]) -> Verdict:
        scale, finite_steps = slots.shared["scale"], slots.shared["finite_steps"]

        def passed() -> tuple[Arrays, LossScaleState]:
            grown = finite_steps >= dynamic_growth_steps - 1
            doubled = jnp.minimum(scale * 2, jnp.finfo(scale.dtype).max / 2)
            new = LossScaleState(jnp.where(grown, doubled, scale), jnp.where(grown, 0, finite_steps + 1))
            return [None if g is None else _divided(g, scale) for g in xs], new

        def held() -> LossScaleState:
            return LossScaleState(jnp.maximum(scale * 0.5, 1.0), jnp.zeros_like(finite_steps))

        # `g - g` is 0 where `g` is finite, else NaN; XLA:CPU stores the mask of `isfinite`, and its max loses NaN
        wrong = [
            (s, jnp.sum(g - g).astype(scale.dtype))
            for s, g in zip(splits, map(values_of, xs), strict=True)
            if g is not None
        ]
        return total(wrong, scale.dtype) == 0, passed, held

    def loss_scale(slots: LossScaleState | None) -> jax.Array:
        if slots is None or slots.scale is None:
            raise ValueError("loss_scale: the scale is in the state: give compute_gradients or scale_loss the state.")
        return slots.scale

    shared = {"scale": initial_scale, "finite_steps": 0}
    first = LossScaleState(None, None)
    return Gate(slots=LossScaleState, first=lambda w: first, shared=shared, update=update, loss_scale=loss_scale)


@wrapper("LossScaleOptimizer", aliases={"inner_optimizer": "optimizer"}, sentences=SENTENCES)
def loss_scale(
    optimizer: Inner,
    initial_scale: PositiveConstant = 2.0**15,
    dynamic_growth_steps: Period = 2000,
    name: Text | None = None,
) -> AnyStage:
    """Dynamic loss scaling: small gradients of a 16-bit model do not vanish, and steps that overflow are skipped.

        gradients all finite:   the optimizer's step on g / scale; after every dynamic_growth_steps: scale * 2
        otherwise:              no step, scale / 2

    `minimize`, and `compute_gradients` with the state, scale the loss; with gradients of your own, multiply the
    loss by `scale_loss(loss, state)`. A skipped step does not count, as in Keras 3; in Keras 2 it does.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.loss_scale(jos.sgd(1.0), initial_scale=8.0, dynamic_growth_steps=2)
    >>> w, state = jnp.array(0.0), tx.init(jnp.array(0.0))
    >>> for g in 8.0, 8.0, 16.0, jnp.inf, 8.0:
    ...     w, state = tx.apply_gradients(jnp.array(g), state, w)
    ...     print(w, jos.state.variables(state)['scale'], state.count)
    -1.0 8.0 1
    -2.0 16.0 2
    -3.0 16.0 3
    -3.0 8.0 3
    -4.0 8.0 4

    Reference: Micikevicius et al., Mixed precision training, ICLR 2018.
    """
    if optimizer.line.scales_loss:
        raise ValueError(f"loss_scale: optimizer must not scale the loss itself, got {optimizer!r}.")
    return unscale_dynamically.stage(initial_scale, dynamic_growth_steps)


def _divided(g: jax.Array, scale: Scalar) -> jax.Array:
    """In at least float32: a float16 gradient, brought back, may be too small for float16.

    Multiplied by `1 / scale`, exact for powers of two: XLA would store a quotient that two slots read.
    """
    dtype = compute_dtype(g)
    return g.astype(dtype) * (1 / (scale.astype(dtype) if isinstance(scale, jax.Array) else scale))
