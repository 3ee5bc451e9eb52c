"""Data parallelism with `pmap`: eight devices, an eighth of the batch on each, the numbers of one device.

    python examples/data_parallel_pmap.py --steps 50

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
from sklearn.datasets import load_digits

import jaxopt_suite as jos

DEVICES = 8


def loss_fn(params, images, labels):
    logits = images @ params["kernel"] + params["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def make_optimizer(**changes):
    return jos.sgd(0.5, momentum=0.9, global_clipnorm=0.5, **changes)


# Gradients are averaged over the axis before they are clipped, as on one device.
parallel = make_optimizer(axis_name="devices", axis_op="mean")
single = make_optimizer()


@functools.partial(jax.pmap, axis_name="devices")
def parallel_step(params, state, images, labels):
    params, state, loss = parallel.minimize(loss_fn, state, params, images, labels)
    return params, state, jax.lax.pmean(loss, "devices")


@jax.jit
def single_step(params, state, images, labels):
    return single.minimize(loss_fn, state, params, images, labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=50, help="default: %(default)s")
    steps = parser.parse_args().steps
    assert jax.device_count() == DEVICES

    images, labels = load_digits(return_X_y=True)
    images, labels = np.float32(images[:1792] / 16), labels[:1792]  # eight equal shares
    shares = images.reshape(DEVICES, -1, 64), labels.reshape(DEVICES, -1)

    w = {"bias": jnp.zeros(10), "kernel": jnp.zeros((64, 10))}
    state = single.init(w)
    copies, copied_state = jax.tree.map(lambda x: jnp.stack([x] * DEVICES), (w, parallel.init(w)))
    for _ in range(steps):
        w, state, loss = single_step(w, state, images, labels)
        copies, copied_state, losses = parallel_step(copies, copied_state, *shares)

    for name, value in copies.items():
        assert (value == value[0]).all(), "the devices part"
        np.testing.assert_allclose(value[0], w[name], atol=1e-5)
    np.testing.assert_allclose(losses, loss, rtol=1e-5)
    print(f"loss {loss:.4f} on one device, {losses[0]:.4f} on each of {DEVICES}")


if __name__ == "__main__":
    main()
