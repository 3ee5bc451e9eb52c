"""Trains a small convnet on real handwritten digits: stops, resumes from a checkpoint, draws the learning curves.

    python examples/train_digits.py
    python examples/train_digits.py --optimizer adam --steps 300
    python examples/train_digits.py --config my_optimizer.json
    python examples/train_digits.py --resume

The data are the 1797 digits of 8 x 8 pixels that come with scikit-learn, a quarter of them held out for the test.
A run that was interrupted goes on with `--resume`; its optimizer is read from the checkpoint, because an optimizer
is a value that goes to JSON and back.
"""

import argparse
import json
import pathlib
import shutil

import jax
import numpy as np
import optax
import orbax.checkpoint.experimental.v1 as ocp
from flax import nnx
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import jaxopt_suite as jos

BATCH, EVERY = 64, 25  # images in a step; steps between two looks at the test set


class Convnet(nnx.Module):
    """8 x 8 x 1 pixels -> 32 and 64 channels -> 4 x 4 x 64 -> 10 classes."""

    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 32, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, (3, 3), rngs=rngs)
        self.dense = nnx.Linear(4 * 4 * 64, 10, rngs=rngs)

    def __call__(self, images):
        x = nnx.relu(self.conv1(images))
        x = nnx.relu(self.conv2(x))
        x = nnx.max_pool(x, (2, 2), strides=(2, 2))
        return self.dense(x.reshape(len(x), -1))


@nnx.jit
def train_step(model, optimizer, images, labels):
    def loss_fn(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    return loss


@nnx.jit
def accuracy(model, images, labels):
    return (model(images).argmax(-1) == labels).mean()


class Digits:
    """The images and labels of the training set and of the test set."""

    def __init__(self):
        images, labels = load_digits(return_X_y=True)
        images = (images / 16).astype(np.float32).reshape(-1, 8, 8, 1)
        x_train, x_test, y_train, y_test = train_test_split(images, labels, stratify=labels, random_state=0)
        self.train, self.test = (x_train, y_train), (x_test, y_test)

    def batch(self, step):
        """A function of the step alone, so that a resumed run sees the images that it would have seen."""
        images, labels = self.train
        epoch, i = divmod(step, len(labels) // BATCH)
        chosen = np.random.default_rng(epoch).permutation(len(labels))[i * BATCH : (i + 1) * BATCH]
        return images[chosen], labels[chosen]


class Run:
    """A model in training, and its curves."""

    def __init__(self, tx, seed=0):
        self.model = Convnet(nnx.Rngs(seed))
        self.optimizer = nnx.Optimizer(self.model, tx, wrt=nnx.Param)
        self.losses, self.accuracies = [], []  # of every step; on the test set, of every EVERY-th step

    def train(self, digits, label, until, checkpointer=None):
        bar = tqdm(range(len(self.losses), until), label, until, initial=len(self.losses), unit="step")
        for step in bar:
            self.losses.append(float(train_step(self.model, self.optimizer, *digits.batch(step))))
            if (step + 1) % EVERY == 0:
                self.accuracies.append(self.test(digits))
                bar.set_postfix(loss=f"{self.losses[-1]:.4f}", test=f"{self.accuracies[-1]:.1%}")
            if checkpointer and ((step + 1) % EVERY == 0 or step + 1 == until):
                self.save(checkpointer)
        return self

    def test(self, digits):
        return float(accuracy(self.model, *digits.test))

    def state(self):
        return nnx.state((self.model, self.optimizer))

    def save(self, checkpointer):
        """The arrays as a checkpoint, and beside them, as JSON, the curves and the optimizer itself."""
        notes = {"optimizer": jos.serialize(self.optimizer.tx), "losses": self.losses, "accuracies": self.accuracies}
        checkpointer.save(len(self.losses), self.state(), custom_metadata=notes)

    @classmethod
    def restore(cls, checkpointer):
        """A new model and a new optimizer, filled from the last checkpoint."""
        notes = checkpointer.metadata().custom_metadata
        run = cls(jos.deserialize(notes["optimizer"]), seed=1)  # a seed whose weights would not do
        nnx.update((run.model, run.optimizer), checkpointer.load(abstract_state=run.state()))
        run.losses, run.accuracies = notes["losses"], notes["accuracies"]
        return run


def draw(runs, stopped, path):
    """Loss and test accuracy of each run; the loss as its mean over an epoch of 21 steps."""
    figure = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    for (label, run), color in zip(runs.items(), ("tab:blue", "tab:orange"), strict=True):
        steps, losses, accuracies = np.arange(1, len(run.losses) + 1), run.losses, 100 * np.array(run.accuracies)
        width = min(21, len(losses))
        mean = np.convolve(losses, np.ones(width) / width, "valid")
        left.plot(steps, losses, color=color, alpha=0.2, linewidth=0.7)
        left.plot(steps[width - 1 :], mean, color=color, label=label)
        right.plot(steps[EVERY - 1 :: EVERY], accuracies, color=color, label=label)
    left.set(title="training loss", xlabel="step", yscale="log")
    right.set(title="test accuracy, %", xlabel="step")
    for axes in (left, right):
        axes.axvline(stopped, color="gray", linestyle=":", label="stopped and resumed")
        axes.grid(alpha=0.3)
    right.legend(loc="lower right")
    figure.savefig(path)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--optimizer", metavar="NAME", help="an optimizer with its defaults, such as adam")
    which.add_argument("--config", type=pathlib.Path, metavar="FILE.json", help="what tx.to_json() wrote")
    which.add_argument("--resume", action="store_true", help="go on from the last checkpoint, with its optimizer")
    parser.add_argument("--steps", type=int, default=600, help="default: %(default)s")
    parser.add_argument("--out", type=pathlib.Path, default="demo", help="folder to write to, default: %(default)s")
    args = parser.parse_args()
    if args.steps < 2:
        parser.error(f"--steps must be at least 2, got {args.steps}")
    if args.resume and not (args.out / "checkpoints").exists():
        parser.error(f"--resume: there is no checkpoint in {args.out}")
    try:
        args.tx = choose(args)
    except (OSError, TypeError, ValueError) as error:
        parser.error(str(error))
    return args


def choose(args):
    """The optimizer that the command line asks for."""
    if args.config:
        tx = jos.deserialize(json.loads(args.config.read_text()))
    elif args.optimizer:
        tx = jos.get(args.optimizer)
    else:
        rate = jos.schedules.cosine_decay(0.1, args.steps)
        tx = jos.novograd(rate, weight_decay=1e-3, global_clipnorm=1.0)
    if not isinstance(tx, jos.Optimizer):
        raise TypeError(f"{tx} is not an optimizer")
    return tx


def main():
    args, digits = arguments(), Digits()
    folder = (args.out / "checkpoints").resolve()
    if not args.resume:
        shutil.rmtree(folder, ignore_errors=True)
    with ocp.training.Checkpointer(folder) as checkpointer:
        if not args.resume:
            print(args.tx)
            Run(args.tx).train(digits, args.tx.name, args.steps // 2, checkpointer)
        run = Run.restore(checkpointer)
        stopped, tx = len(run.losses), run.optimizer.tx
        print(f"stopped after {stopped} steps; restored into a new model from {args.out / 'checkpoints'}")
        run.train(digits, f"{tx.name}, resumed", args.steps, checkpointer)

    whole = Run(tx).train(digits, f"{tx.name}, without a stop", args.steps)
    assert run.losses == whole.losses
    assert jax.tree.all(jax.tree.map(np.array_equal, run.state(), whole.state()))
    print("the resumed run equals the one without a stop, bit for bit")

    adam = optax.adam(optax.cosine_decay_schedule(3e-3, args.steps))
    runs = {tx.name: run, "optax.adam": Run(adam).train(digits, "optax.adam", args.steps)}
    draw(runs, stopped, args.out / "learning_curves.png")
    print(f"learning curves: {args.out / 'learning_curves.png'}")
    print("test accuracy: " + ", ".join(f"{label} {run.test(digits):.1%}" for label, run in runs.items()))


if __name__ == "__main__":
    main()
