"""Checkpoints with Orbax: what is saved, what rules after a restore, and that nothing is lost.

python examples/save_and_resume.py --steps 40
"""

import argparse
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint.experimental.v1 as ocp
from sklearn.datasets import load_digits

import jaxopt_suite as jos

images, labels = load_digits(return_X_y=True)
images = np.float32(images / 16)


def loss_fn(params):
    logits = images @ params["kernel"] + params["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def initial():
    return {"bias": jnp.zeros(10), "kernel": jnp.zeros((64, 10))}


def train(tx, params, state, steps):
    step = jax.jit(lambda params, state: tx.minimize(loss_fn, state, params))
    for _ in range(steps):
        params, state, _ = step(params, state)
    return params, state


def stop_and_resume(folder, half):
    tx = jos.adam(0.1, amsgrad=True, use_ema=True, ema_momentum=0.9)

    # Half of the training; then the rate is lowered, and parameters and state are saved as one tree.
    params, state = train(tx, initial(), tx.init(initial()), half)
    state = jos.state.set_learning_rate(state, 0.01)
    ocp.save(folder, {"params": params, "state": state}, custom_metadata={"optimizer": jos.serialize(tx)})

    # Later, elsewhere: the optimizer is read from the notes, and its fresh state says what form the arrays have.
    tx = jos.deserialize(ocp.metadata(folder).custom_metadata["optimizer"])
    saved = ocp.load(folder, {"params": initial(), "state": tx.init(initial())})

    # The restored rate rules, not the 0.1 in the optimizer's arguments.
    assert np.isclose(jos.state.learning_rate(saved["state"]), 0.01)
    assert jos.state.iterations(saved["state"]) == half

    resumed = train(tx, saved["params"], saved["state"], half)
    expected = train(tx, params, state, half)
    assert jax.tree.all(jax.tree.map(np.array_equal, resumed, expected))
    averaged = tx.finalize_variable_values(resumed[1], resumed[0])
    print(f"resumed from step {half}: loss {loss_fn(resumed[0]):.4f}, with averaged weights {loss_fn(averaged):.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=40, help="default: %(default)s")
    half = parser.parse_args().steps // 2
    with tempfile.TemporaryDirectory() as folder:
        stop_and_resume(pathlib.Path(folder) / "checkpoint", half)


if __name__ == "__main__":
    main()
