"""The conditional gradient of Frank and Wolfe."""

import dataclasses
from typing import Any, Unpack

import jax.numpy as jnp

from jaxopt_suite._arguments import Common
from jaxopt_suite._frame import transform
from jaxopt_suite._leafwise import Rule, each, leafwise
from jaxopt_suite._optimizer import optimizer


@transform()
def scale_by_conditional_gradient(lambda_: Any = 0.01, epsilon: Any = 1e-7, *, ord: str = "fro") -> Rule:
    """The direction `w + lambda_ * s`: `w - gamma * (w + lambda_ * s)` stays in the ball of radius `lambda_`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_conditional_gradient(10.0, epsilon=0.0)
    >>> tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)), jnp.ones(2))[0]
    Array([7., 9.], dtype=float32)
    """

    def update(g: Any, s: None, w: Any, t: Any) -> tuple[Any, None]:
        vertex = _top_singular(g) if ord == "nuclear" else g / (jnp.sqrt(jnp.sum(g * g)) + epsilon)
        return w + lambda_ * vertex, s

    rule = leafwise(None, None, update, reads_weights=True)
    if ord != "nuclear":
        return rule

    def choose(path: str, w: Any) -> Rule:
        if w.ndim > 2:
            raise ValueError(
                "conditional_gradient: ord='nuclear' needs matrices and vectors, the parameter at "
                f"{path!r} has shape {w.shape}."
            )
        return rule

    return dataclasses.replace(rule, choose=choose)


def _top_singular(g: Any) -> Any:
    """`u v^T` of the largest singular value; a vector is a matrix of one row."""
    u, _, vt = jnp.linalg.svd(g if g.ndim == 2 else g.reshape(1, -1), full_matrices=False)
    return (u[:, :1] * vt[:1]).reshape(g.shape)


@optimizer("ConditionalGradient")
def conditional_gradient(
    learning_rate: Any, lambda_: Any = 0.01, epsilon: Any = 1e-7, ord: str = "fro", **common: Unpack[Common]
) -> Rule:
    """Frank and Wolfe's method: every weight stays in a ball, and moves towards the vertex that descends most.

        w <- rate * w - (1 - rate) * lambda_ * s
        s  = g / (||g|| + epsilon),    with ord="nuclear": u v^T of the largest singular value of g

    A rate of 1 stands still. Unlike in TF Addons the rate can be a schedule.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.conditional_gradient(0.5, lambda_=10.0)
    >>> tx.apply_gradients(jnp.array([3.0, 4.0]), tx.init(jnp.ones(2)), jnp.ones(2))[0]
    Array([-2.5, -3.5], dtype=float32)

    Reference: Jaggi, Revisiting Frank-Wolfe, ICML 2013.
    """

    def stepping(rule: Rule) -> Rule:
        def update(g: Any, s: None, w: Any, t: Any) -> tuple[Any, None]:
            direction, s = rule.update(g, s, w, t)
            return -(1 - t.learning_rate) * direction, s

        return dataclasses.replace(rule, update=update, emits_step=True)

    return each(stepping, scale_by_conditional_gradient(lambda_, epsilon, ord=ord).rule)
