"""Fine-tuning: the body is frozen, the head trained; then all goes on together, with the head's moments kept.

python examples/fine_tune.py --steps 60
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxopt_suite as jos

images, labels = load_digits(return_X_y=True)
images = np.float32(images / 16)


def initial():
    """A body of random features in the place of one that was trained before, and a new head."""
    body = 0.2 * jax.random.normal(jax.random.key(0), (64, 32))
    return {"body": {"kernel": body}, "head": {"bias": jnp.zeros(10), "kernel": jnp.zeros((32, 10))}}


def loss_fn(params):
    features = jnp.tanh(images @ params["body"]["kernel"])
    logits = features @ params["head"]["kernel"] + params["head"]["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def train(tx, params, state, steps):
    step = jax.jit(lambda params, state: tx.minimize(loss_fn, state, params))
    for _ in range(steps):
        params, state, _ = step(params, state)
    return params, state


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=60, help="of each half; default: %(default)s")
    steps = parser.parse_args().steps

    # The head alone: what is frozen has no slots.
    head = jos.by_path({"^head/": jos.adam(0.02), "": jos.frozen()})
    params, state = train(head, initial(), head.init(initial()), steps)
    print(f"head trained: loss {loss_fn(params):.4f}")

    # All of it, the body at a tenth of the rate. The report says what was kept; the body's count begins at 0, so that
    # its first moments are corrected for their bias.
    whole = jos.by_path({"^head/": jos.adam(0.02), "": jos.adam(0.002)})
    moved, report = jos.state.migrate(state, whole, params)
    print(report)
    assert np.array_equal(*(jos.state.get_slot(s, "head/kernel", "v", within="^head/") for s in (state, moved)))
    assert jos.state.iterations(moved, within="head") == steps
    assert jos.state.iterations(moved, within="rest") == 0

    params, _ = train(whole, params, moved, steps)
    print(f"all trained: loss {loss_fn(params):.4f}")


if __name__ == "__main__":
    main()
