"""Two small models on real data that comes inside packages: a transformer on text, a convnet on digits."""

import math
import pydoc_data.topics
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

WIDTH, HEADS, LAYERS, CONTEXT = 64, 4, 2, 64


class Task(NamedTuple):
    """What is learned.

    Attributes:
      init: the parameters of a seed, float32.
      loss: the mean loss of a batch.
      batches: the training batches of a seed, stacked.
      test: one held-out batch.
    """

    init: Callable[[jax.Array], Any]
    loss: Callable[[Any, Any], jax.Array]
    batches: Callable[[int, int], Any]
    test: Any


def text() -> Task:
    """The next character of the documentation of Python (465 kB), by a transformer of 0.1 M parameters."""
    letters = "".join(pydoc_data.topics.topics[key] for key in sorted(pydoc_data.topics.topics))
    known = sorted({*letters})
    data = np.array([known.index(letter) for letter in letters], np.int32)
    cut = int(0.9 * len(data))

    def windows(part: np.ndarray, draw: np.random.Generator, *shape: int) -> jax.Array:
        starts = draw.integers(0, len(part) - CONTEXT - 1, shape)
        return jnp.asarray(part[starts[..., None] + np.arange(CONTEXT + 1)])

    def init(key: jax.Array) -> Any:
        keys = iter(jax.random.split(key, 64))

        def dense(*shape: int) -> jax.Array:
            return jax.random.normal(next(keys), shape) / math.sqrt(shape[0])

        blocks = [
            {
                "attention": {name: dense(WIDTH, WIDTH) for name in ("query", "key", "value", "out")},
                "up": dense(WIDTH, 4 * WIDTH),
                "down": dense(4 * WIDTH, WIDTH) / LAYERS,
                "norms": jnp.ones((2, WIDTH)),
            }
            for _ in range(LAYERS)
        ]
        embedding = {"letters": 0.02 * jax.random.normal(next(keys), (len(known), WIDTH))}
        embedding["places"] = 0.02 * jax.random.normal(next(keys), (CONTEXT, WIDTH))
        return {"embedding": embedding, "blocks": blocks, "head": dense(WIDTH, len(known))}

    def loss(params: Any, batch: jax.Array) -> jax.Array:
        x = params["embedding"]["letters"][batch[:, :-1]] + params["embedding"]["places"]
        for block in params["blocks"]:
            x = x + _attention(block["attention"], _norm(x) * block["norms"][0])
            x = x + jax.nn.gelu(_norm(x) * block["norms"][1] @ block["up"]) @ block["down"]
        logits = jax.nn.log_softmax(_norm(x) @ params["head"])
        return -jnp.mean(jnp.take_along_axis(logits, batch[:, 1:, None], -1))

    def batches(seed: int, steps: int) -> jax.Array:
        return windows(data[:cut], np.random.default_rng(seed), steps, 16)

    return Task(init, loss, batches, windows(data[cut:], np.random.default_rng(99), 256))


def _norm(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def _attention(weights: Any, x: jax.Array) -> jax.Array:
    query, key, value = ((x @ weights[name]).reshape(*x.shape[:2], HEADS, -1) for name in ("query", "key", "value"))
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(query.shape[-1])
    scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -1e9)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), value).reshape(x.shape) @ weights["out"]


def digits() -> Task:
    """The 1,797 digits of scikit-learn, by a convnet of 37,000 parameters."""
    found = load_digits()
    images, labels = jnp.asarray(found.images[..., None] / 16, jnp.float32), jnp.asarray(found.target, jnp.int32)
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = order[:1400], order[1400:]

    def init(key: jax.Array) -> Any:
        k = jax.random.split(key, 4)
        return {
            "conv_1": jax.random.normal(k[0], (3, 3, 1, 32)) / 3,
            "conv_2": jax.random.normal(k[1], (3, 3, 32, 64)) / math.sqrt(288),
            "hidden": {"kernel": jax.random.normal(k[2], (256, 64)) / 16, "bias": jnp.zeros(64)},
            "head": {"kernel": jax.random.normal(k[3], (64, 10)) / 8, "bias": jnp.zeros(10)},
        }

    def loss(params: Any, batch: Any) -> jax.Array:
        x, y = batch
        for kernel in (params["conv_1"], params["conv_2"]):
            x = jax.nn.relu(
                jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            )
        x = jax.nn.relu(x.reshape(len(x), -1) @ params["hidden"]["kernel"] + params["hidden"]["bias"])
        logits = jax.nn.log_softmax(x @ params["head"]["kernel"] + params["head"]["bias"])
        return -jnp.mean(jnp.take_along_axis(logits, y[:, None], -1))

    def batches(seed: int, steps: int) -> Any:
        chosen = np.random.default_rng(seed).choice(train, (steps, 32))
        return images[chosen], labels[chosen]

    return Task(init, loss, batches, (images[test], labels[test]))


TASKS = {"text": text, "digits": digits}
