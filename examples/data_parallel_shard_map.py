"""Data parallelism with `shard_map`: micro-batches on eight devices, one reduction for each step.

    python examples/data_parallel_shard_map.py --steps 50

The host's processor is split into eight devices here; the code is the same on eight GPUs.
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
from jax.sharding import PartitionSpec as P
from sklearn.datasets import load_digits

import jaxopt_suite as jos

DEVICES, MICRO_BATCHES = 8, 4


def loss_fn(params, images, labels):
    logits = images @ params["kernel"] + params["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def make_optimizer(**changes):
    return jos.sgd(0.5, momentum=0.9, global_clipnorm=0.5, **changes)


parallel = make_optimizer(axis_name="data", axis_op="mean")
single = make_optimizer()
mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


# The gradient of parameters that are the same everywhere comes out summed over the devices. That of parameters that
# vary is this device's own: it is added up over the micro-batches, and the optimizer reduces the sum, once.
@jax.jit
@functools.partial(jax.shard_map, mesh=mesh, in_specs=(P(), P(), P(None, "data"), P(None, "data")), out_specs=P())
def parallel_step(params, state, images, labels):
    own = jax.lax.pcast(params, "data", to="varying")

    def add(total, batch):
        loss, grads = parallel.compute_gradients(loss_fn, own, *batch)
        return jax.tree.map(jnp.add, total, (grads, loss)), None

    zero = jax.lax.pcast(jnp.zeros(()), "data", to="varying")
    (grads, loss), _ = jax.lax.scan(add, (jax.tree.map(jnp.zeros_like, own), zero), (images, labels))
    grads = jax.tree.map(lambda g: g / MICRO_BATCHES, grads)
    params, state = parallel.apply_gradients(grads, state, params)
    return params, state, jax.lax.pmean(loss / MICRO_BATCHES, "data")


@jax.jit
def single_step(params, state, images, labels):
    return single.minimize(loss_fn, state, params, images, labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=50, help="default: %(default)s")
    steps = parser.parse_args().steps
    assert jax.device_count() == DEVICES

    images, labels = load_digits(return_X_y=True)
    images, labels = np.float32(images[:1792] / 16), labels[:1792]  # equal shares
    micro_batches = images.reshape(MICRO_BATCHES, -1, 64), labels.reshape(MICRO_BATCHES, -1)

    w = params = {"bias": jnp.zeros(10), "kernel": jnp.zeros((64, 10))}
    state, shared_state = single.init(w), parallel.init(w)
    for _ in range(steps):
        w, state, loss = single_step(w, state, images, labels)
        params, shared_state, mean = parallel_step(params, shared_state, *micro_batches)

    for name, value in params.items():
        np.testing.assert_allclose(value, w[name], atol=1e-5)
    np.testing.assert_allclose(mean, loss, rtol=1e-5)
    program = parallel_step.lower(params, shared_state, *micro_batches).as_text()
    print(f"loss {loss:.4f} on one device, {mean:.4f} on {DEVICES}, {program.count('all_reduce')} reductions a step")


if __name__ == "__main__":
    main()
