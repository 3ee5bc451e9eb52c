"""The steps of pod.py: a stack of MLP layers, in each way to split it over the chips."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxopt_suite as jos

Tx = Any

# layers, width: of each layer a matrix up to four times the width and one down
MODELS = {"128 M": (4, 2048), "1 B": (30, 2048), "7 B": (33, 5120), "70 B": (83, 10240)}


def shapes(model: str, dtype: Any) -> dict[str, jax.ShapeDtypeStruct]:
    layers, d = MODELS[model]
    sizes = {"up": (layers, d, 4 * d), "down": (layers, 4 * d, d), "bias": (layers, d)}
    return {name: jax.ShapeDtypeStruct(size, dtype) for name, size in sizes.items()}


def loss_fn(params: Any, batch: jax.Array) -> jax.Array:
    def layer(x: jax.Array, w: Any) -> tuple[jax.Array, None]:
        return x + jnp.tanh(x @ w["up"]) @ w["down"] + w["bias"], None

    out, _ = lax.scan(jax.checkpoint(layer), batch, params)
    return jnp.mean(jnp.square(out.astype(jnp.float32)))


# the ways


def on(chips: Mesh, tree: Any, specs: Any) -> Any:
    """Shapes with their shardings; one spec may be that of all."""

    def place(x: Any, spec: P) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(chips, spec))

    return jax.tree.map(place, tree, jax.tree.map(lambda x: specs, tree) if isinstance(specs, P) else specs)


def stepping(tx: Tx, loss: Callable = loss_fn) -> Callable:
    """The same step for both libraries, in Optax's words."""

    def step(params: Any, state: Any, batch: jax.Array) -> tuple[Any, Any]:
        updates, state = tx.update(jax.grad(loss)(params, batch), state, params)
        return optax.apply_updates(params, updates), state

    return step


def by_jit(tx: Tx, params: Any, batch: Any, chips: Mesh, fsdp: bool, zero: bool) -> tuple[Callable, tuple]:
    axes = chips.axis_names
    specs = jax.tree.map(lambda x: P(None, axes) if fsdp and x.ndim == 3 else P(), params)
    params = on(chips, params, specs)
    state = jax.eval_shape(tx.init, params)
    of_state = jos.parallel.state_sharding(tx, params, chips, axes if zero else None)
    state = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, of_state)
    placed = jax.tree.map(lambda x: x.sharding, (params, state))
    step = jax.jit(stepping(tx), donate_argnums=(0, 1), out_shardings=placed)
    return step, (params, state, on(chips, batch, P(axes)))


def by_shard_map(tx: Tx, params: Any, batch: Any, chips: Mesh) -> tuple[Callable, tuple]:
    axes = chips.axis_names

    def loss(params: Any, batch: jax.Array) -> jax.Array:
        return lax.pmean(loss_fn(params, batch), axes)

    step = jax.shard_map(stepping(tx, loss), mesh=chips, in_specs=(P(), P(), P(axes)), out_specs=P())
    everything = on(chips, (params, jax.eval_shape(tx.init, params)), P())
    return jax.jit(step, donate_argnums=(0, 1)), (*everything, on(chips, batch, P(axes)))


def by_pmap(tx: Tx, params: Any, batch: Any, chips: Mesh) -> tuple[Callable, tuple]:
    n = chips.size
    tx = optax.chain(jos.transforms.aggregate_gradients("chips", axis_op="mean"), tx)
    step = jax.pmap(stepping(tx), axis_name="chips", devices=[*chips.devices.flat], donate_argnums=(0, 1))
    whole = params, jax.eval_shape(tx.init, params)
    copies = jax.tree.map(lambda x: jax.ShapeDtypeStruct((n, *x.shape), x.dtype), whole)
    return step, (*copies, jax.ShapeDtypeStruct((n, batch.shape[0] // n, batch.shape[1]), batch.dtype))


WAYS: dict[str, Callable[[Tx, Any, Any, Mesh], tuple[Callable, tuple]]] = {
    "jit": functools.partial(by_jit, fsdp=False, zero=False),
    "shard_map": by_shard_map,
    "pmap": by_pmap,
    "ZeRO-1": functools.partial(by_jit, fsdp=False, zero=True),
    "FSDP": functools.partial(by_jit, fsdp=True, zero=False),
}

# optimizers: ours, Optax's, the dtype of the parameters, and the bytes of our slots for each entry
PAIRS: dict[str, tuple[Callable[[], Tx], Callable[[], Tx] | None, Any, int]] = {
    "adamw, clip": (
        lambda: jos.adamw(1e-3, global_clipnorm=1.0),
        lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)),
        jnp.float32,
        8,
    ),
    "adamw, bfloat16 weights": (lambda: jos.adamw(1e-3), lambda: optax.adamw(1e-3), jnp.bfloat16, 8),
    "adamw, master weights": (lambda: jos.precision.master_weights(jos.adamw(1e-3)), None, jnp.bfloat16, 12),
    "adamw, 8-bit slots": (lambda: jos.precision.state_dtype(jos.adamw(1e-3), "blockwise8"), None, jnp.float32, 2),
}
