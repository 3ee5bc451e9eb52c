"""Data parallelism with `jit` over a mesh: the compiler reduces, and the state is split over the devices (ZeRO-1).

    python examples/data_parallel_jit.py --steps 50

The host's processor is split into eight devices here; the code is the same on eight GPUs, or on a TPU pod.
"""

import argparse
import functools
import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"  # before jax is imported

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from sklearn.datasets import load_digits

import jaxopt_suite as jos

DEVICES, HIDDEN = 8, 256
tx = jos.adamw(1e-3, global_clipnorm=0.5)
mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


def loss_fn(params, images, labels):
    hidden = jnp.tanh(images @ params["hidden"])
    return optax.softmax_cross_entropy_with_integer_labels(hidden @ params["head"], labels).mean()


def step(params, state, images, labels):
    return tx.minimize(loss_fn, state, params, images, labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=50, help="default: %(default)s")
    steps = parser.parse_args().steps
    assert jax.device_count() == DEVICES

    images, labels = load_digits(return_X_y=True)
    images, labels = np.float32(images[:1792] / 16), labels[:1792]  # equal shares
    rng = np.random.default_rng(0)
    w = {"hidden": rng.normal(0, 0.1, (64, HIDDEN)), "head": np.zeros((HIDDEN, 10))}
    w = jax.tree.map(np.float32, w)

    everywhere = NamedSharding(mesh, P())
    params = jax.device_put(w, everywhere)
    batch = jax.device_put((images, labels), NamedSharding(mesh, P("data")))
    of_state = jos.parallel.state_sharding(tx, params, mesh, axis="data")
    state = jos.parallel.init(tx, params, mesh, axis="data")
    print(jos.parallel.explain(tx, params, mesh, axis="data"))

    # the results lie as their arguments did, so that these can be donated and nothing is compiled again
    place = functools.partial(jax.jit, donate_argnums=(0, 1), out_shardings=(everywhere, of_state, everywhere))
    parallel_step, single_step = place(step), jax.jit(step)
    single_state = tx.init(w)
    for _ in range(steps):
        w, single_state, loss = single_step(w, single_state, images, labels)
        params, state, mean = parallel_step(params, state, *batch)

    for name, value in params.items():
        np.testing.assert_allclose(value, w[name], atol=1e-4)
    np.testing.assert_allclose(mean, loss, rtol=1e-4)
    assert jos.state.get_slot(state, "hidden", "m").sharding.shard_shape((64, HIDDEN)) == (8, HIDDEN)
    print(f"loss {loss:.4f} on one device, {mean:.4f} on {DEVICES}")


if __name__ == "__main__":
    main()
