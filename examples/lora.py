"""LoRA by path rules: what was trained before is frozen and keeps no state, low-rank adapters beside it are trained.

    python examples/lora.py --steps 200

A network learns handwritten digits. Then the images are turned by a quarter, and adapters of rank 4 learn that: each
kernel W becomes W + A B, where B begins at zero.
"""

import argparse
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxopt_suite as jos

WIDTHS, RANK = (64, 256, 256, 10), 4


def initial(rng):
    shapes = itertools.pairwise(WIDTHS)
    layers = [{"bias": np.zeros(n), "kernel": rng.normal(size=(m, n)) * np.sqrt(2 / m)} for m, n in shapes]
    return jax.tree.map(jnp.float32, layers)


def with_adapters(layers, rng):
    def adapter(m, n):
        return {"a": jnp.float32(rng.normal(size=(m, RANK)) / np.sqrt(m)), "b": jnp.zeros((RANK, n))}

    return [{**layer, "lora": adapter(*layer["kernel"].shape)} for layer in layers]


def merged(layers):
    """For deployment: the adapters added to their kernels."""
    return [{"bias": x["bias"], "kernel": x["kernel"] + x["lora"]["a"] @ x["lora"]["b"]} for x in layers]


def logits_of(layers, x):
    for i, layer in enumerate(layers):
        x = jax.nn.relu(x) if i else x
        change = x @ layer["lora"]["a"] @ layer["lora"]["b"] if "lora" in layer else 0
        x = x @ layer["kernel"] + change + layer["bias"]
    return x


def loss_fn(layers, images, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits_of(layers, images), labels).mean()


def accuracy(layers, images, labels):
    return f"{np.mean(logits_of(layers, images).argmax(-1) == labels):.1%}"


def train(tx, layers, images, labels, steps):
    state = tx.init(layers)
    step = jax.jit(lambda layers, state, x, y: tx.minimize(loss_fn, state, layers, x, y))
    for batch in np.random.default_rng(1).integers(len(labels), size=(steps, 128)):
        layers, state, _ = step(layers, state, images[batch], labels[batch])
    return layers


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200, help="of each training; default: %(default)s")
    steps, rng = parser.parse_args().steps, np.random.default_rng(0)

    digits = load_digits()
    images, labels = np.float32(digits.images / 16), digits.target
    upright, turned = (x.reshape(-1, 64) for x in (images, np.rot90(images, axes=(1, 2))))
    train_set, test_set = train_test_split(np.arange(len(labels)), stratify=labels, random_state=0)

    whole = jos.adam(0.001)
    base = train(whole, initial(rng), upright[train_set], labels[train_set], steps)
    layers = with_adapters(base, rng)

    # the pattern: a rule for the adapters, and all the rest is frozen
    tx = jos.by_path({"/lora/": jos.adam(0.003), "": jos.frozen()})
    account = tx.explain(layers)
    print(account)
    adapted = train(tx, layers, turned[train_set], labels[train_set], steps)
    assert all(np.array_equal(new["kernel"], old["kernel"]) for new, old in zip(adapted, base, strict=True))
    np.testing.assert_allclose(logits_of(merged(adapted), turned), logits_of(adapted, turned), rtol=1e-3, atol=1e-3)

    share = sum(p.size for p in account.parameters if p.slots) / account.totals()["elements"]
    ours, usual = (x.totals()["state_bytes"] for x in (account, whole.explain(base)))
    print(f"{share:.1%} of the parameters are trained, with {ours:,} bytes of state; training all takes {usual:,}")
    upright, turned, labels = upright[test_set], turned[test_set], labels[test_set]
    print(f"held-out accuracy of the first network: {accuracy(base, upright, labels)} upright, ", end="")
    print(f"{accuracy(base, turned, labels)} turned; with adapters {accuracy(adapted, turned, labels)} turned")


if __name__ == "__main__":
    main()
