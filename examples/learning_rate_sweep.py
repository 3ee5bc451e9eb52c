"""Sixteen learning rates in one compiled program: the rate is in the state, so `vmap` runs over it.

    python examples/learning_rate_sweep.py --steps 200

A small network learns to tell handwritten digits apart, at sixteen rates side by side. Writes
learning_rate_sweep.png: the loss of each run, and the last loss against the rate.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import matplotlib
import optax
from sklearn.datasets import load_digits

import jaxopt_suite as jos

matplotlib.use("Agg")
from matplotlib import cm, colors, pyplot

RATES = jnp.logspace(-4, 0, 16)


def make_params(key):
    keys = jax.random.split(key)
    return {
        "hidden": {"bias": jnp.zeros(32), "kernel": jax.random.normal(keys[0], (64, 32)) / 8},
        "out": {"bias": jnp.zeros(10), "kernel": jax.random.normal(keys[1], (32, 10)) / 6},
    }


def loss_fn(params, images, labels):
    hidden = jax.nn.relu(images @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    logits = hidden @ params["out"]["kernel"] + params["out"]["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200, help="default: %(default)s")
    steps = parser.parse_args().steps

    images, labels = load_digits(return_X_y=True)
    images, labels = jnp.asarray(images / 16, jnp.float32), jnp.asarray(labels)
    batches = jax.random.randint(jax.random.key(1), (steps, 128), 0, len(images))
    params, tx = make_params(jax.random.key(0)), jos.adam(global_clipnorm=1.0)

    def step(carry, batch):
        params, state, loss = tx.minimize(loss_fn, carry[1], carry[0], images[batch], labels[batch])
        return (params, state), loss

    # the pattern: a run as a function of its rate, over all rates at once
    def train(rate):
        state = jos.state.set_learning_rate(tx.init(params), rate)
        return jax.lax.scan(step, (params, state), batches)[1]

    sweep = jax.jit(jax.vmap(train))
    losses = sweep(RATES)
    assert sweep._cache_size() == 1

    last = losses[:, -10:].mean(axis=1)
    best = int(jnp.nanargmin(last))
    assert 0 < best < len(RATES) - 1, "the best of these rates is not the lowest, nor the highest"
    alone = jax.jit(train)(RATES[best])
    assert jnp.allclose(alone, losses[best], rtol=1e-3, atol=1e-3), "as if it ran alone"
    print(f"{len(RATES)} rates, one program; the best is {RATES[best]:.2g}: loss {last[best]:.3f}")
    plot(losses, last, pathlib.Path("learning_rate_sweep.png"))


def plot(losses, last, path):
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    by_rate = cm.ScalarMappable(colors.LogNorm(RATES[0], RATES[-1]), "viridis")
    for rate, loss in zip(RATES, losses, strict=True):
        left.plot(loss, color=by_rate.to_rgba(rate), linewidth=1)
    figure.colorbar(by_rate, ax=left, label="learning rate")
    left.set(xlabel="step", ylabel="loss", yscale="log")
    right.plot(RATES, last, "o-", color="black", markersize=4)
    right.set(xlabel="learning rate", ylabel="loss of the last ten steps", xscale="log", yscale="log")
    figure.savefig(path, dpi=120)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
