"""What is put into a state: copies, with the dtype and on the devices of what was there."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxopt_suite.state._codec import Blocks, decode, encode, is_blocks


def fitting(owner: str, name: str, value: Any, old: Any) -> Any:
    """A copy of `value` for the place of `old`, or a sentence."""
    value = jnp.asarray(value) if hasattr(value, "__jax_array__") else value
    value = value if isinstance(value, jax.Array) else np.asarray(value)
    if jnp.shape(value) != old.shape:
        raise ValueError(f"{owner}: {name!r} must have shape {old.shape}, got {jnp.shape(value)}.")
    if jnp.issubdtype(value.dtype, jnp.floating) != jnp.issubdtype(old.dtype, jnp.floating) and name != "count":
        raise TypeError(f"{owner}: {name!r} must be {old.dtype}, got {value.dtype}.")
    return placed(value, old)


def placed_as_stored(value: Any, old: Any) -> Any:
    """A copy of `value` stored as `old` is, codes as they are where they are of the same kind."""
    if not is_blocks(old):
        return placed(_decode(value) if is_blocks(value) else value, old)
    alike = is_blocks(value) and value.codes.dtype == old.codes.dtype and value.scale.shape == old.scale.shape
    new = value if alike else _encode(_decode(value) if is_blocks(value) else value, old)
    return Blocks(*map(placed, new, old))


_decode = jax.jit(decode)  # one program for an array, not one for each operation


@jax.jit
def _encode(value: Any, old: Blocks) -> Blocks:
    return encode(jnp.asarray(value), old, None)


def placed(value: Any, old: Any) -> Any:
    """A copy of `value` that a compiled step takes for `old`: of its dtype, weak or not, and where it is.

    An array that is committed to its devices is replaced by one that is, on the same; one that is not by one that
    is not. No memory is shared with `value`, so that either may be donated. Under a trace there is no place to keep.
    """
    if isinstance(value, Tracer) or isinstance(old, Tracer):
        return _weak(jnp.array(value, old.dtype, copy=True), old)
    if not isinstance(old, jax.Array):
        return np.array(value, old.dtype)
    if old.committed:
        on_devices = isinstance(value, jax.Array)
        copied = jnp.array(value, old.dtype, copy=True) if on_devices else np.array(value, old.dtype)
        return jax.device_put(_weak(jax.device_put(copied, old.sharding), old), old.sharding)
    with jax.default_device(next(iter(old.devices()))):
        value = np.asarray(value) if getattr(value, "committed", False) else value
        return _weak(jnp.array(value, old.dtype, copy=True), old)


def _weak(new: jax.Array, old: jax.Array) -> jax.Array:
    """As weakly typed as `old`: what is written into an array takes over its type."""
    return old.at[...].set(new) if old.weak_type else new
