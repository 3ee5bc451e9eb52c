"""Trains a small convnet on real handwritten digits: stops, resumes from a checkpoint, draws it beside Optax.

    python examples/train_digits.py
    python examples/train_digits.py --optimizer adam --steps 300
    python examples/train_digits.py --config my_optimizer.json
    python examples/train_digits.py --resume

The data are the 1797 digits of 8 x 8 pixels that come with scikit-learn, a quarter of them held out for the test.
A run that was interrupted goes on with `--resume`; its optimizer is read from the checkpoint, because an optimizer
is a value that goes to JSON and back. Without any argument NovoGrad is drawn beside Optax's with the same settings,
from several initial weights each.
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
    """Loss and test accuracy of the runs of each label, one from each seed; the loss as its mean over 21 steps."""
    figure = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    for (label, of), color, line in zip(runs.items(), ("tab:blue", "tab:orange"), ("-", "--"), strict=False):
        losses, accuracies = (np.array([getattr(run, name) for run in of]) for name in ("losses", "accuracies"))
        width = min(21, losses.shape[1])
        smooth = np.stack([np.convolve(row, np.ones(width) / width, "valid") for row in losses])
        for axes, values, every in ((left, smooth, 1), (right, 100 * accuracies, EVERY)):
            steps = every * (1 + np.arange(values.shape[1])) + (width - 1 if every == 1 else 0)
            axes.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.2, linewidth=0)
            axes.plot(steps, values.mean(0), line, color=color, label=label)
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
    parser.add_argument("--seeds", type=int, default=3, help="initial weights of each optimizer, default: %(default)s")
    parser.add_argument("--out", type=pathlib.Path, default="demo", help="folder to write to, default: %(default)s")
    args = parser.parse_args()
    for name, least in (("steps", 2), ("seeds", 1)):
        if getattr(args, name) < least:
            parser.error(f"--{name} must be at least {least}, got {getattr(args, name)}")
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
    else:
        tx = jos.get(args.optimizer) if args.optimizer else ours(args.steps)
    if not isinstance(tx, jos.Optimizer):
        raise TypeError(f"{tx} is not an optimizer")
    return tx


def ours(steps):
    return jos.novograd(jos.schedules.cosine_decay(0.1, steps), weight_decay=1e-3, global_clipnorm=1.0)


def of_optax(steps):
    """Optax's optimizer with the settings of `ours`; its momentum has the rate outside, so curves part slowly."""
    novograd = optax.novograd(optax.cosine_decay_schedule(0.1, steps), b1=0.9, b2=0.999, eps=1e-7, weight_decay=1e-3)
    return optax.chain(optax.clip_by_global_norm(1.0), novograd)


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

    more = range(1, args.seeds)
    runs = {tx.name: [run] + [Run(tx, seed).train(digits, f"{tx.name}, seed {seed}", args.steps) for seed in more]}
    if tx == ours(args.steps):
        label, peer = "optax.novograd", of_optax(args.steps)
        runs[label] = [Run(peer, seed).train(digits, f"{label}, seed {seed}", args.steps) for seed in range(args.seeds)]
    draw(runs, stopped, args.out / "learning_curves.png")
    print(f"learning curves: {args.out / 'learning_curves.png'}")
    for label, of in runs.items():
        tested = [run.test(digits) for run in of]
        seeds = "seed 0" if len(of) == 1 else f"{len(of)} seeds, {min(tested):.1%} to {max(tested):.1%}"
        print(f"test accuracy of {label}: {np.mean(tested):.1%} ({seeds})")


if __name__ == "__main__":
    main()
