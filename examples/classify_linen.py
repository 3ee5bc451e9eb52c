"""An image classifier in Flax Linen: the optimizer is the `tx` of a `TrainState`.

    python examples/classify_linen.py --epochs 10

Adam with a cosine schedule, decay for kernels only, and an average of the weights that the held-out images are
classified with. Writes classify_linen.png: those that it gets wrong.
"""

import argparse
import pathlib

import jax
import numpy as np
import optax
from flax import linen as nn
from flax.training.train_state import TrainState
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import jaxopt_suite as jos

BATCH = 64


class Convnet(nn.Module):
    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(16, (3, 3))(images))
        x = nn.relu(nn.Conv(32, (3, 3), strides=2)(x))
        return nn.Dense(10)(x.reshape(len(x), -1))


@jax.jit
def train_step(state, images, labels):
    def loss_fn(params):
        logits = state.apply_fn({"params": params}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    return state.apply_gradients(grads=grads), loss


def draw(images, labels, guessed, path):
    wrong = np.flatnonzero(guessed != labels)[:16]
    figure = Figure(figsize=(6, 2), dpi=150, layout="constrained")
    for axes in (grid := figure.subplots(2, 8)).flat:
        axes.axis("off")
    for axes, i in zip(grid.flat, wrong, strict=False):
        axes.imshow(images[i, ..., 0], cmap="gray_r")
        axes.set_title(f"{labels[i]}, not {guessed[i]}", fontsize=6)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--out", type=pathlib.Path, default="demo", help="folder of the picture, default: %(default)s")
    args = parser.parse_args()

    images, labels = load_digits(return_X_y=True)
    images = np.float32(images / 16).reshape(-1, 8, 8, 1)
    x_train, x_test, y_train, y_test = train_test_split(images, labels, stratify=labels, random_state=0)
    steps = len(y_train) // BATCH

    # the pattern: an Optimizer is a GradientTransformation
    rate = jos.schedules.cosine_decay(0.01, args.epochs * steps)
    tx = jos.adamw(rate, weight_decay=0.01, exclude_from_weight_decay=["bias"], use_ema=True, ema_momentum=0.95)
    model = Convnet()
    params = model.init(jax.random.key(0), x_train[:1])["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=tx)

    for epoch in (bar := tqdm(range(args.epochs), unit="epoch")):
        order = np.random.default_rng(epoch).permutation(len(y_train))[: steps * BATCH].reshape(steps, BATCH)
        for batch in order:
            state, loss = train_step(state, x_train[batch], y_train[batch])
        bar.set_postfix(loss=f"{loss:.4f}")

    averaged = tx.finalize_variable_values(state.opt_state, state.params)
    guessed = np.array(model.apply({"params": averaged}, x_test).argmax(-1))
    print(f"held-out accuracy {np.mean(guessed == y_test):.1%} of {len(y_test)} images")
    draw(x_test, y_test, guessed, args.out / "classify_linen.png")


if __name__ == "__main__":
    main()
