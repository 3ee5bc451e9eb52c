"""A character-level language model with four optimizers: Adam, NovoGrad, Lion and Muon, three seeds of each at once.

    python examples/char_language_model.py --steps 400

The text is the reference of the language that comes with Python, 465 kB in Python 3.11; the model guesses each letter
from those before it, and is tested on 64 windows of the first tenth, which is held out. Each rate was better than its
neighbours, a factor of about three away, in 400 steps of another seed. Writes char_language_model.png.
"""

import argparse
import functools
import math
import pathlib
import pydoc_data.topics

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from matplotlib.figure import Figure

import jaxopt_suite as jos

SEEDS, BATCH, CONTEXT, WIDTH = 3, 16, 32, 64
EVERY = 20  # steps between two looks at the held-out text


class Transformer(nn.Module):
    letters: int

    @nn.compact
    def __call__(self, tokens):
        places = self.param("embedding", nn.initializers.normal(0.02), (CONTEXT, WIDTH))
        x = nn.Embed(self.letters, WIDTH)(tokens) + places
        for _ in range(2):
            x = x + self.attention(nn.LayerNorm()(x))
            x = x + nn.Dense(WIDTH)(nn.gelu(nn.Dense(4 * WIDTH)(nn.LayerNorm()(x))))
        return nn.Dense(self.letters, name="head")(nn.LayerNorm()(x))

    def attention(self, x, heads=4):
        query, key, value = (nn.Dense(WIDTH)(x).reshape(*x.shape[:2], heads, -1) for _ in range(3))
        return nn.Dense(WIDTH)(jax.nn.dot_product_attention(query, key, value, is_causal=True).reshape(x.shape))


def read():
    """The text as numbers, and how many letters there are."""
    text = "".join(pydoc_data.topics.topics[key] for key in sorted(pydoc_data.topics.topics))
    letters, tokens = np.unique(list(text), return_inverse=True)
    return jnp.asarray(tokens, jnp.int32), len(letters)


def windows(tokens, key, *shape):
    starts = jax.random.randint(key, (*shape, 1), 0, len(tokens) - CONTEXT)
    return tokens[starts + jnp.arange(CONTEXT + 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=400, help="default: %(default)s")
    parser.add_argument("--out", type=pathlib.Path, default="demo", help="folder of the picture, default: %(default)s")
    args = parser.parse_args()
    if args.steps < EVERY or args.steps % EVERY:
        parser.error(f"--steps must be a multiple of {EVERY}, got {args.steps}")

    tokens, letters = read()
    held_out, tokens = tokens[: len(tokens) // 10], tokens[len(tokens) // 10 :]
    model, test = Transformer(letters), windows(held_out, jax.random.key(0), 64)

    def loss_fn(params, batch):
        logits = model.apply(params, batch[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:]).mean()

    @jax.vmap
    def start(key):
        return model.init(key, test[:, :-1]), windows(tokens, key, args.steps // EVERY, EVERY, BATCH)

    # the pattern: a run as a function of its start, over all seeds at once
    def train(tx, params, batches):
        """The held-out loss after every `EVERY` steps."""

        def step(carry, batch):
            params, state, _ = tx.minimize(loss_fn, carry[1], carry[0], batch)
            return (params, state), None

        def look(carry, batches):
            carry, _ = jax.lax.scan(step, carry, batches)
            return carry, loss_fn(carry[0], test)

        return jax.lax.scan(look, (params, tx.init(params)), batches)[1]

    warmup = args.steps // 10

    def falling(rate):
        return jos.schedules.cosine_decay(0.0, args.steps - warmup, warmup_target=rate, warmup_steps=warmup)

    optimizers = {
        "Adam": jos.adam(falling(0.01)),
        "NovoGrad": jos.novograd(falling(0.1)),
        "Lion": jos.lion(falling(0.003)),
        "Muon": jos.muon(falling(0.01), exclude_layers="head"),
    }
    starts = jax.jit(start)(jax.random.split(jax.random.key(1), SEEDS))
    runs = {name: jax.jit(jax.vmap(functools.partial(train, tx)))(*starts) for name, tx in optimizers.items()}
    print(f"held-out loss, bits per letter, after {args.steps} steps: mean and spread of {SEEDS} seeds")
    for name, losses in runs.items():
        last = losses[:, -1] / math.log(2)
        print(f"{name:10} {last.mean():.3f} ± {last.std(ddof=1):.3f}")
    draw(runs, args.steps, args.out / "char_language_model.png")


def draw(runs, steps, path):
    figure = Figure(figsize=(6, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    moments = np.arange(EVERY, steps + 1, EVERY)
    for i, (name, losses) in enumerate(runs.items()):
        axes.plot(moments, losses.T / math.log(2), color=f"C{i}", linewidth=1, label=[name, *[""] * (SEEDS - 1)])
    axes.set(xlabel="step", ylabel="held-out loss, bits per letter")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
