"""Roots, powers and quotients that can be differentiated where an entry never had a gradient."""

import jax
import jax.numpy as jnp

from jaxopt_suite._recipe.words import Scalar


@jax.custom_jvp
def root(x: jax.Array) -> jax.Array:
    """`sqrt(x)`, with the derivative 0 at 0.

    There `sqrt` is infinitely steep, and the chain rule multiplies it by the 0 of the square beneath it: NaN.

    >>> import jax, jax.numpy as jnp
    >>> from jaxopt_suite._frame.roots import root
    >>> jax.vmap(jax.grad(root))(jnp.array([0.0, 4.0])), jax.grad(lambda x: jnp.sqrt(x * x))(0.0)
    (Array([0.  , 0.25], dtype=float32), Array(nan, dtype=float32, weak_type=True))
    """
    return jnp.sqrt(x)


@root.defjvp
def _root_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    y = root(x)
    flat = y == 0  # and not x, which may be so small that its root is flushed to zero
    return y, dx * jnp.where(flat, 0, 0.5 / jnp.where(flat, 1, y))


@jax.custom_jvp
def power(x: jax.Array, p: Scalar) -> jax.Array:
    """`x ** p` for `x >= 0`, with the derivatives 0 at 0, as `root` has it.

    >>> import jax, jax.numpy as jnp
    >>> from jaxopt_suite._frame.roots import power
    >>> jax.grad(power)(0.0, 0.5), jax.grad(power)(4.0, 0.5)
    (Array(0., dtype=float32, weak_type=True), Array(0.25, dtype=float32, weak_type=True))
    """
    return x**p


@power.defjvp
def _power_jvp(primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]) -> tuple:
    (x, p), (dx, dp) = primals, tangents
    y = power(x, p)
    flat = x == 0
    base = jnp.where(flat, 1, x)
    return y, jnp.where(flat, 0, dx * p * base ** (p - 1) + dp * y * jnp.log(base))


@jax.custom_jvp
def quotient(x: jax.Array, y: jax.Array) -> jax.Array:
    """`x / y` for a `y` whose inverse square overflows, which the derivative of a plain quotient contains.

    >>> import jax
    >>> from jaxopt_suite._frame.roots import quotient
    >>> jax.grad(quotient, 1)(0.0, 1e-30), jax.grad(lambda x, y: x / y, 1)(0.0, 1e-30)
    (Array(-0., dtype=float32, weak_type=True), Array(nan, dtype=float32, weak_type=True))
    """
    return x / y


@quotient.defjvp
def _quotient_jvp(primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]) -> tuple:
    (x, y), (dx, dy) = primals, tangents
    q = quotient(x, y)
    return q, (dx - q * dy) / y
