"""A training that may be killed at any moment: what test_checkpoints.py starts, kills and starts again.

It notes in `FOLDER/log` where it starts from, and each step whose checkpoint is complete.
"""

import functools
import hashlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from orbax.checkpoint import v1 as ocp
from programs import quick

import jaxopt_suite as jos

ADAM = jos.adam(
    jos.schedules.cosine_decay(0.1, 100),
    use_ema=True,
    gradient_accumulation_steps=3,
    global_clipnorm=1.0,
)
TX = jos.precision.stochastic_rounding(jos.loss_scale(ADAM, dynamic_growth_steps=4))


def loss_fn(params, i):
    """Not finite in every seventh step, so that the scale moves both ways."""
    bad = jnp.where(i % 7 == 6, jnp.inf, 1.0)
    return sum(jnp.sum(jnp.sin(w.astype(jnp.float32) + i) ** 2) for w in params.values()) * bad


def placed(devices, axis):
    """Fresh parameters and state on some devices, and a step that leaves them where they lie."""
    mesh = jax.make_mesh((devices,), ("data",), devices=jax.devices()[:devices], axis_types=(AxisType.Auto,))
    params = {"bias": jnp.linspace(-1, 1, 4), "kernel": jnp.linspace(-1, 1, 2048).reshape(1024, 2)}
    params["kernel"] = params["kernel"].astype(jnp.bfloat16)
    params = jax.device_put(jax.tree.map(np.array, params), NamedSharding(mesh, P()))
    state = jos.parallel.init(TX, params, mesh, axis)
    places = jax.tree.map(lambda x: x.sharding, (params, state))

    @functools.partial(quick, donate_argnums=(0, 1), out_shardings=places)
    def step(params, state, i):
        _, grads = TX.compute_gradients(loss_fn, params, i.astype(jnp.float32), state=state)
        return TX.apply_gradients(grads, state, params)

    return params, state, step


def train(folder, steps):
    """Saves after each step, while the next one takes over the buffers that are saved."""
    folder = pathlib.Path(folder)
    params, state, step = placed(8, "data")
    with open(folder / "log", "a", buffering=1) as log, ocp.training.Checkpointer(folder / "saved") as checkpoints:
        start = 0 if checkpoints.latest is None else checkpoints.latest.step
        if start:
            fresh = {"params": params, "state": state}
            jos.parallel.check_saved(checkpoints.metadata(start).metadata, fresh)
            saved = checkpoints.load(start, fresh)
            params, state = saved["params"], saved["state"]
        log.write(f"from {start}\n")
        for i in range(start, steps):
            params, state = step(params, state, np.int32(i))
            checkpoints.wait()
            if i > start:
                log.write(f"saved {i}\n")
            checkpoints.save_async(i + 1, {"params": params, "state": state}, overwrite=True)
    (folder / "end").write_text(digest((params, state)))


def digest(tree):
    return hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(tree))).hexdigest()
