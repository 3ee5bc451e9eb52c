"""The conditional gradient of Frank and Wolfe."""

from __future__ import annotations

import dataclasses
from typing import Literal, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, by_rows, leafwise, map_rule
from jaxopt_suite._frame.roots import root
from jaxopt_suite._optimizer import Common, optimizer
from jaxopt_suite._recipe.words import NonNegative, Rate, scalar

SENTENCES = {
    "lambda_": "radius of the ball that the weights stay in.",
    "ord": "norm of the ball: Frobenius, or nuclear (for matrices and vectors).",
}


@transform(sentences=SENTENCES)
def scale_by_conditional_gradient(
    lambda_: NonNegative = 0.01, epsilon: NonNegative = 1e-7, *, ord: Literal["fro", "nuclear"] = "fro"
) -> Rule:
    """The direction `w + lambda_ * s`: `w - gamma * (w + lambda_ * s)` stays in the ball of radius `lambda_`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_conditional_gradient(10.0, epsilon=0.0)
    >>> tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)), jnp.ones(2))[0]
    Array([7., 9.], dtype=float32)
    """
    lambda_, epsilon = scalar(lambda_), scalar(epsilon)

    def update(g: jax.Array, s: None, w: jax.Array, t: Moment) -> tuple[jax.Array, None]:
        vertex = t.whole(_top_singular, g) if ord == "nuclear" else g / (root(t.sum(g * g)) + epsilon)
        return w + lambda_ * vertex, s

    rule = by_rows(leafwise(None, None, update, reads_weights=True))
    return _of_matrices("scale_by_conditional_gradient", rule) if ord == "nuclear" else rule


def _of_matrices(owner: str, rule: Rule) -> Rule:
    """The rule, which refuses an array of more than two axes: it has no singular values."""

    def choose(path: str, w: jax.Array) -> Rule:
        if w.ndim > 2:
            raise ValueError(
                f"{owner}: ord='nuclear' needs matrices and vectors, the parameter at {path!r} has shape {w.shape}."
            )
        return rule

    return dataclasses.replace(rule, choose=choose)


@jax.custom_jvp
def _top_singular(g: jax.Array) -> jax.Array:
    """`u v^T` of the largest singular value; a vector is a matrix of one row."""
    u, _, vt = jnp.linalg.svd(g if g.ndim == 2 else g.reshape(1, -1), full_matrices=False)
    return (u[:, :1] * vt[:1]).reshape(g.shape)


@_top_singular.defjvp
def _top_singular_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """That of the SVD needs all singular values to differ; here those that equal the largest one count as fixed."""
    (g,), (dg,) = primals, tangents
    dg = dg if g.ndim == 2 else dg.reshape(1, -1)
    U, s, Vt = jnp.linalg.svd(g if g.ndim == 2 else g.reshape(1, -1), full_matrices=False)
    u, v = U[:, :1], Vt[:1].T
    a, b = dg @ v, dg.T @ u
    ua, vb, gap = U.T @ a, Vt @ b, (s[0] ** 2 - s**2)[:, None]
    weight, outside = (jnp.where(x > 0, 1 / jnp.where(x > 0, x, 1), 0) for x in (gap, s[0]))
    du = U @ (weight * (s[0] * ua + s[:, None] * vb)) + outside * (a - U @ ua)
    dv = Vt.T @ (weight * (s[0] * vb + s[:, None] * ua)) + outside * (b - Vt.T @ vb)
    return _top_singular(g), (du @ v.T + u @ dv.T).reshape(g.shape)


@optimizer("ConditionalGradient", sentences=SENTENCES)
def conditional_gradient(
    learning_rate: Rate,
    lambda_: NonNegative = 0.01,
    epsilon: NonNegative = 1e-7,
    ord: Literal["fro", "nuclear"] = "fro",
    **common: Unpack[Common],
) -> Rule:
    """Frank and Wolfe's method: every weight stays in a ball, and moves towards the vertex that descends most.

        w <- rate * w - (1 - rate) * lambda_ * s
        s  = g / (||g|| + epsilon),    with ord="nuclear": u v^T of the largest singular value of g

    At a rate of 1 nothing moves. Unlike in TF Addons the rate can be a schedule.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.conditional_gradient(0.5, lambda_=10.0)
    >>> tx.apply_gradients(jnp.array([3.0, 4.0]), tx.init(jnp.ones(2)), jnp.ones(2))[0]
    Array([-2.5, -3.5], dtype=float32)

    Reference: Jaggi, Revisiting Frank-Wolfe, ICML 2013.
    """

    def stepping(rule: Rule) -> Rule:
        def update(g: jax.Array, s: None, w: jax.Array, t: Moment) -> tuple[jax.Array, None]:
            direction, s = rule.update(g, s, w, t)
            return -(1 - t.learning_rate) * direction, s

        return dataclasses.replace(rule, update=update, returns_update=True)

    rule = map_rule(stepping, scale_by_conditional_gradient.rule(lambda_, epsilon, ord=ord))
    return _of_matrices("conditional_gradient", rule) if ord == "nuclear" else rule
