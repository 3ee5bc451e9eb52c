"""Parameters that do not move."""

from jaxopt_suite._compositions.declare import composition
from jaxopt_suite._frame.line import Line


@composition("Frozen")
def frozen() -> Line:
    """Keeps parameters as they are: zero updates, and no state.

    Raises:
      TypeError: if a wrapper is put around it.

    >>> import jax, jax.numpy as jnp, jaxopt_suite as jos
    >>> tx, w = jos.frozen(), jnp.ones(2)
    >>> tx.update(w, tx.init(w), w)[0], jax.tree.leaves(tx.init(w))
    (Array([0., 0.], dtype=float32), [])
    """
    return Line("frozen", moves=False)
