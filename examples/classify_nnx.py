"""An image classifier in Flax NNX: `nnx.Optimizer` takes the optimizer as it takes one of Optax.

    python examples/classify_nnx.py --epochs 10

The network has batch normalisation, whose running means are no parameters: `wrt=nnx.Param` leaves them alone. Writes
classify_nnx.png: which digits are taken for which.
"""

import argparse
import pathlib

import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import jaxopt_suite as jos

BATCH = 64


class Convnet(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(16, momentum=0.9, rngs=rngs)
        self.conv2 = nnx.Conv(16, 32, (3, 3), strides=2, rngs=rngs)
        self.dense = nnx.Linear(4 * 4 * 32, 10, rngs=rngs)

    def __call__(self, images):
        x = nnx.relu(self.norm(self.conv1(images)))
        x = nnx.relu(self.conv2(x))
        return self.dense(x.reshape(len(x), -1))


@nnx.jit
def train_step(model, optimizer, images, labels):
    def loss_fn(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    return loss


def draw(labels, guessed, path):
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (labels, guessed), 1)
    figure = Figure(figsize=(4, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.sqrt(counts), cmap="Blues")
    for (label, guess), count in np.ndenumerate(counts):
        axes.text(guess, label, count or "", ha="center", va="center", color="white" if label == guess else "black")
    axes.set(xlabel="taken for", ylabel="digit", xticks=range(10), yticks=range(10))
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

    model = Convnet(nnx.Rngs(0))
    rate = jos.schedules.cosine_decay(0.02, args.epochs * steps)
    optimizer = nnx.Optimizer(model, jos.novograd(rate, weight_decay=1e-3, global_clipnorm=1.0), wrt=nnx.Param)

    for epoch in (bar := tqdm(range(args.epochs), unit="epoch")):
        order = np.random.default_rng(epoch).permutation(len(y_train))[: steps * BATCH].reshape(steps, BATCH)
        for batch in order:
            loss = train_step(model, optimizer, x_train[batch], y_train[batch])
        bar.set_postfix(loss=f"{loss:.4f}")

    model.eval()
    guessed = np.array(model(x_test).argmax(-1))
    print(f"held-out accuracy {np.mean(guessed == y_test):.1%} of {len(y_test)} images")
    draw(y_test, guessed, args.out / "classify_nnx.png")


if __name__ == "__main__":
    main()
