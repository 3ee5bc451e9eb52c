"""Training in 16 bits: how the weights are written, beside float32, and the steps that a loss scale skips.

    python examples/mixed_precision.py --steps 800

One network, its weights and its arithmetic in float32, bfloat16 and float16, at a small learning rate: in plain
bfloat16 most steps are less than half a unit of a weight's last place, and round to nothing. In float16 the loss is
scaled up against gradients that are too small to be written, which are few in this network; the scale grows until a
gradient overflows, and that step is skipped. Writes mixed_precision.png.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import jaxopt_suite as jos

images, labels = load_digits(return_X_y=True)
images, labels = jnp.asarray(images / 16, jnp.float32), jnp.asarray(labels)

adam = jos.adam(2e-4)
scaled = jos.loss_scale(adam, dynamic_growth_steps=50)  # usually thousands: here it is to be seen
RUNS = {
    "float32": ("float32", adam),
    "bfloat16": ("bfloat16", adam),
    "bfloat16, stochastic rounding": ("bfloat16", jos.precision.stochastic_rounding(adam)),
    "bfloat16, Kahan summation": ("bfloat16", jos.precision.kahan_summation(adam)),
    "bfloat16, master weights": ("bfloat16", jos.precision.master_weights(adam)),
    "float16, loss scale, master": ("float16", jos.precision.master_weights(scaled)),
}


def initial(dtype):
    rng = np.random.default_rng(0)
    shapes = [(64, 64), (64, 10)]
    return [
        {"bias": jnp.zeros(n, dtype), "kernel": jnp.asarray(rng.normal(size=(m, n)) * np.sqrt(2 / m), dtype)}
        for m, n in shapes
    ]


def loss_fn(params, x, y):
    """In the dtype of the parameters; the last step of it, a mean of logarithms, in float32."""
    hidden, head = params
    x = jax.nn.relu(x.astype(head["bias"].dtype) @ hidden["kernel"] + hidden["bias"])
    logits = x @ head["kernel"] + head["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), y).mean()


def train(tx, params, steps):
    def step(carry, batch):
        params, state, _ = tx.minimize(loss_fn, carry[1], carry[0], images[batch], labels[batch])
        return (params, state), loss_fn(params, images, labels)

    batches = jax.random.randint(jax.random.key(1), (steps, 64), 0, len(labels))
    (params, state), losses = jax.lax.scan(step, (params, tx.init(params)), batches)
    return losses, steps - jos.state.iterations(state)


def draw(curves, path):
    figure = Figure(figsize=(6, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    for name, losses in curves.items():
        axes.plot(losses, linewidth=6 if name == "float32" else 1, alpha=0.3 if name == "float32" else 1, label=name)
    axes.set(xlabel="step", ylabel="loss of all images")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=800, help="default: %(default)s")
    parser.add_argument("--out", type=pathlib.Path, default="demo", help="folder of the picture, default: %(default)s")
    args = parser.parse_args()

    curves = {}
    print(f"{'':32}  loss  over float32's  skipped steps  bytes of state")
    for name, (dtype, tx) in RUNS.items():
        params = initial(dtype)
        curves[name], skipped = train(tx, params, args.steps)
        loss, state_bytes = curves[name][-1], tx.explain(params).totals()["state_bytes"]
        print(f"{name:30}  {loss:.4f}  {loss / curves['float32'][-1] - 1:+14.1%}  {skipped:13}  {state_bytes:14,}")
    draw(curves, args.out / "mixed_precision.png")


if __name__ == "__main__":
    main()
