"""Loss scaling: gradients of a scaled loss are brought back to the loss's own scale."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_suite._frame import Transformation, transform, wrapper
from jaxopt_suite._pipeline import FINITE, UNSCALE, Gate
from jaxopt_suite._trees import compute_dtype, leaves


class LossScaleState(NamedTuple):
    """The dynamic scale, and the finite steps since it last changed."""

    scale: Any
    finite_steps: Any


@transform()
def unscale(loss_scale_factor: float) -> Gate:
    """Divides the gradients by the constant factor that the loss was multiplied by.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.unscale(8.0)
    >>> tx.update(jnp.array(4.0), tx.init(jnp.array(0.0)))[0]
    Array(0.5, dtype=float32)
    """

    def update(grads: Any, state: None) -> tuple[Any, Any, Any]:
        return None, lambda: (_divided(grads, loss_scale_factor), None), None

    return Gate(UNSCALE, lambda params: None, update, scale=lambda state: loss_scale_factor)


@transform()
def unscale_dynamically(initial_scale: float = 2.0**15, dynamic_growth_steps: int = 2000) -> Gate:
    """Divides by a scale that halves when a gradient is not finite, and doubles after finite steps in a row.

    A step whose gradients are not finite is skipped: everything behind keeps its state.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.unscale_dynamically(initial_scale=8.0)
    >>> update, state = tx.update(jnp.array(jnp.inf), tx.init(jnp.array(0.0)))
    >>> update, state.stages[0].scale
    (Array(0., dtype=float32), Array(4., dtype=float32))
    """

    def init(params: Any) -> LossScaleState:
        scale = jnp.asarray(initial_scale, compute_dtype(*leaves(params)))
        return LossScaleState(scale, jnp.zeros((), jnp.int32))

    def update(grads: Any, s: LossScaleState) -> tuple[Any, Any, Any]:
        def passed() -> tuple[Any, LossScaleState]:
            grown = s.finite_steps == dynamic_growth_steps - 1
            scale = jnp.where(grown, s.scale * 2, s.scale)
            return _divided(grads, s.scale), LossScaleState(scale, jnp.where(grown, 0, s.finite_steps + 1))

        def held() -> LossScaleState:
            return LossScaleState(s.scale * 0.5, jnp.zeros_like(s.finite_steps))

        # `g - g` is 0 where `g` is finite, else NaN; XLA:CPU stores the mask of `isfinite`, and its max loses NaN
        finite = [jnp.sum(g - g) == 0 for g in jax.tree.leaves(grads)]
        return jnp.all(jnp.stack(finite)), passed, held

    def scale(state: LossScaleState | None) -> Any:
        if state is None:
            raise ValueError("loss_scale: the scale is in the state: give compute_gradients or scale_loss the state.")
        return state.scale

    return Gate(FINITE, init, update, scale=scale)


@wrapper("LossScaleOptimizer", aliases={"inner_optimizer": "optimizer"})
def loss_scale(
    optimizer: Any, initial_scale: float = 2.0**15, dynamic_growth_steps: int = 2000, name: str | None = None
) -> Transformation:
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
    ...     print(w, state.stages[0].scale, state.count)
    -1.0 8.0 1
    -2.0 16.0 2
    -3.0 16.0 3
    -3.0 8.0 3
    -4.0 8.0 4

    Reference: Micikevicius et al., Mixed precision training, ICLR 2018.
    """
    if any(gate.scale is not None for gate in optimizer.pipeline.gates):
        raise ValueError(f"loss_scale: optimizer must not scale the loss itself, got {optimizer!r}.")
    return unscale_dynamically(initial_scale, dynamic_growth_steps)


def _divided(grads: Any, scale: Any) -> Any:
    """In at least float32: a float16 gradient, brought back, may be too small for float16.

    Multiplied by `1 / scale`, exact for powers of two: XLA would store a quotient that two slots read.
    """

    def divide(g: Any) -> Any:
        dtype = compute_dtype(g)
        return g.astype(dtype) * (1 / (scale if isinstance(scale, float) else scale.astype(dtype)))

    return jax.tree.map(divide, grads)
