"""Trains a two-tower recommender with sparse gradients of its tables: dense, lazy, and catching-up Adam.

    python examples/two_tower.py
    python examples/two_tower.py --users 1000000 --items 500000 --steps 1000

The clicks are made up, by a fixed seed: users and items are drawn by Zipf's law, as they are in life, few of them often
and most of them rarely; everyone has a taste, and clicks on items of that taste four times out of five. A tower is a
table and a small network; the loss is that of picking a user's item out of those of the batch.
"""

import argparse
import functools
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure
from tqdm import tqdm

import jaxopt_suite as jos

BATCH, WIDTH, TASTES, RATE = 512, 32, 20, 0.01
EVERY, AMONG = 25, 100  # steps between two looks at the test set; items that the right one is looked for among


class Clicks:
    """Made-up clicks: `batch(step)` gives users and the items that they clicked on."""

    def __init__(self, users, items):
        rng = np.random.default_rng(0)
        self.often = [self._zipf(n, rng) for n in (users, items)]
        self.taste_of_user, self.taste_of_item = rng.integers(TASTES, size=users), rng.integers(TASTES, size=items)
        self.of_taste = [np.flatnonzero(self.taste_of_item == taste) for taste in range(TASTES)]
        self.likely = [self.often[1][mine] / self.often[1][mine].sum() for mine in self.of_taste]

    @staticmethod
    def _zipf(n, rng):
        weights = 1 / np.arange(1, n + 1)
        return rng.permutation(weights / weights.sum())

    def batch(self, step, size=BATCH):
        """A function of the step alone: all optimizers see the same clicks. Steps below zero are the test's."""
        rng = np.random.default_rng([1, abs(step), int(step < 0)])
        users = rng.choice(len(self.taste_of_user), size, p=self.often[0])
        items = rng.choice(len(self.taste_of_item), size, p=self.often[1])
        tastes = self.taste_of_user[users]
        true = rng.random(size) < 0.8
        for taste in range(TASTES):
            mine = np.flatnonzero(true & (tastes == taste))
            items[mine] = rng.choice(self.of_taste[taste], mine.size, p=self.likely[taste])
        return users.astype(np.int32), items.astype(np.int32)


class Tower(nnx.Module):
    """id -> row of the table -> 64 -> a vector of length 1."""

    def __init__(self, rows, rngs):
        self.table = nnx.Embed(rows, WIDTH, rngs=rngs)
        self.hidden, self.out = nnx.Linear(WIDTH, 64, rngs=rngs), nnx.Linear(64, WIDTH, rngs=rngs)

    def __call__(self, ids):
        x = self.out(nnx.relu(self.hidden(self.table(ids))))
        return x / jnp.sqrt(1e-6 + jnp.sum(x * x, axis=-1, keepdims=True))


class Recommender(nnx.Module):
    def __init__(self, users, items, rngs):
        self.user, self.item = Tower(users, rngs), Tower(items, rngs)

    def __call__(self, users, items):
        """How well each user and each item go together."""
        return 10 * self.user(users) @ self.item(items).T


def loss_fn(model, users, items, log_often):
    """Of picking the clicked item out of the batch's, where what is clicked often is there often."""
    scores = model(users, items) - log_often[items]
    scores = jnp.where((items[None] == items[:, None]) & ~jnp.eye(len(items), dtype=bool), -jnp.inf, scores)
    return optax.softmax_cross_entropy_with_integer_labels(scores, jnp.arange(len(items))).mean()


@functools.partial(nnx.jit, donate_argnums=(0, 1))  # so that the tables are written in place
def train_step(model, optimizer, users, items, log_often):
    loss, grads = jos.sparse.value_and_grad(loss_fn, "table")(model, users, items, log_often)
    optimizer.update(model, grads)
    return loss


@nnx.jit
def hits(model, users, items, others):
    """How often the clicked item is among the ten best of a hundred."""
    mine, theirs = jnp.sum(model.user(users) * model.item(items), -1), model.user(users) @ model.item(others).T
    return jnp.mean(jnp.sum(theirs > mine[:, None], axis=1) < 10)


def train(name, tx, clicks, steps):
    """The share of hits, and the seconds, at every look at the test set."""
    users, items = len(clicks.taste_of_user), len(clicks.taste_of_item)
    model = Recommender(users, items, nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    log_often = jnp.log(jnp.asarray(clicks.often[1], jnp.float32))
    test = clicks.batch(-1, 2048)
    others = np.random.default_rng(2).integers(items, size=AMONG - 1).astype(np.int32)
    found, spent = [float(hits(model, *test, others))], [0.0]
    bar = tqdm(range(steps), name, unit="step")
    for step in bar:
        batch, start = clicks.batch(step), time.perf_counter()
        loss = jax.block_until_ready(train_step(model, optimizer, *batch, log_often))
        spent.append(spent[-1] + (time.perf_counter() - start if step else 0.0))  # the first one compiles
        if (step + 1) % EVERY == 0 or step + 1 == steps:
            found.append(float(hits(model, *test, others)))
            bar.set_postfix(loss=f"{float(loss):.3f}", hits=f"{found[-1]:.1%}")
    looks = [0, *(s for s in range(1, steps + 1) if s % EVERY == 0 or s == steps)]
    return looks, [spent[s] for s in looks], found


def draw(runs, path):
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    by_step, by_time = figure.subplots(1, 2, sharey=True)
    for name, (steps, seconds, found) in runs.items():
        by_step.plot(steps, found, label=name)
        by_time.plot(seconds, found, label=name)
    by_step.set(xlabel="step", ylabel=f"clicked item in the best 10 of {AMONG}")
    by_time.set(xlabel="seconds of training (log)", xscale="symlog")
    by_time.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("demo"), help="folder of the picture")
    options = parser.parse_args()
    clicks = Clicks(options.users, options.items)
    print(f"made-up clicks of {options.users:,} users on {options.items:,} items, seed 0")
    optimizers = {
        "dense Adam": jos.adam(RATE),
        "lazy Adam": jos.lazy_adam(RATE),
        "lazy Adam that catches up": jos.lazy_adam(RATE, catch_up=True),
    }
    runs = {name: train(name, tx, clicks, options.steps) for name, tx in optimizers.items()}
    for name, (steps, seconds, found) in runs.items():
        print(f"{name:26} {found[-1]:6.1%} hits after {steps[-1]} steps of {1e3 * seconds[-1] / steps[-1]:6.1f} ms")
    draw(runs, options.out / "two_tower.png")
    print(f"{options.out / 'two_tower.png'} shows how they learned")


if __name__ == "__main__":
    main()
