"""Your Keras optimizer in JAX: its config becomes ours, and draws the same curve.

    python examples/keras_in_jax.py
    python examples/keras_in_jax.py --config my_optimizer.json

CONFIG is what `keras.optimizers.serialize(optimizer)` gave, and KERAS are the losses that Keras itself came by with it.
Where Keras is installed, it runs here again, with any config. Writes keras_in_jax.png.
"""

import argparse
import importlib.util
import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import jaxopt_suite as jos

HAS_KERAS = importlib.util.find_spec("keras") is not None
CONFIG = """
{"module": "keras.optimizers", "class_name": "AdamW", "registered_name": null, "config": {"name": "adam_w",
 "learning_rate": {"module": "keras.optimizers.schedules", "class_name": "CosineDecay", "registered_name": null,
  "config": {"name": "CosineDecay", "initial_learning_rate": 0.0, "decay_steps": 100, "alpha": 0.0,
   "warmup_target": 0.02, "warmup_steps": 20}},
 "weight_decay": 0.1, "clipnorm": null, "global_clipnorm": 0.1, "clipvalue": null, "use_ema": false,
 "ema_momentum": 0.99, "ema_overwrite_frequency": null, "loss_scale_factor": null,
 "gradient_accumulation_steps": null, "beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-07, "amsgrad": false}}
"""
# by Keras 3.15.1, at every tenth step
KERAS = [2.2973158, 1.6996036, 0.5565907, 0.1549554, 0.0764311, 0.0472036, 0.0324693, 0.0255675, 0.0220015, 0.0201152]

images, labels = load_digits(return_X_y=True)
images = np.float32(images / 16)


def initial():
    draw = np.random.default_rng(0)
    kernels = [np.float32(draw.normal(size=shape) / np.sqrt(shape[0])) for shape in ((64, 32), (32, 10))]
    return [kernels[0], np.zeros(32, np.float32), kernels[1], np.zeros(10, np.float32)]


@jax.value_and_grad
def loss_and_grads(params):
    hidden = jnp.tanh(images @ params[0] + params[1])
    return optax.softmax_cross_entropy_with_integer_labels(hidden @ params[2] + params[3], labels).mean()


def curve(apply, params, state, steps):
    """The loss before each step; `apply` makes a step of the gradients."""

    @jax.jit
    def step(params, state):
        loss, grads = loss_and_grads(params)
        return loss, *apply(grads, state, params)

    losses = []
    for _ in range(steps):
        loss, params, state = step(params, state)
        losses.append(float(loss))
    return losses


def in_jax(config, steps):
    tx, params = jos.deserialize(config), initial()
    print(tx)
    return curve(tx.apply_gradients, params, tx.init(params), steps)


def in_keras(config, steps):
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    print(f"Keras {keras.__version__} runs beside it")
    optimizer, variables = keras.optimizers.deserialize(config), [keras.Variable(w) for w in initial()]
    optimizer.build(variables)
    state = [variable.value for variable in optimizer.variables]
    return curve(lambda g, s, w: optimizer.stateless_apply(s, g, w), [v.value for v in variables], state, steps)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=pathlib.Path, help="default: the one in this file; another one needs Keras")
    parser.add_argument("--steps", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--out", type=pathlib.Path, default="demo", help="folder of the picture, default: %(default)s")
    args = parser.parse_args()
    if args.config and not HAS_KERAS:
        parser.error("--config: the losses of another optimizer are not recorded, and Keras is not installed")
    config = json.loads(args.config.read_text() if args.config else CONFIG)

    ours = in_jax(config, args.steps)
    if HAS_KERAS:
        theirs = dict(enumerate(in_keras(config, args.steps)))
    else:
        theirs = {10 * i: loss for i, loss in enumerate(KERAS) if 10 * i < args.steps}
    apart = max(abs(ours[i] / loss - 1) for i, loss in theirs.items())
    assert apart < 1e-4
    print(f"loss {ours[0]:.4f} -> {ours[-1]:.4f}; the largest relative difference from Keras's: {apart:.0e}")
    draw(ours, theirs, args.out / "keras_in_jax.png")


def draw(ours, theirs, path):
    figure = Figure(figsize=(6, 3.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.plot(list(theirs), list(theirs.values()), "o", color="tab:red", markersize=4, label="Keras")
    axes.plot(ours, color="black", linewidth=1, label="jaxopt_suite")
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
