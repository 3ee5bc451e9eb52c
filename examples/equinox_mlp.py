"""Equinox: a model is a tree that holds functions too; the optimizer is given its arrays.

python examples/equinox_mlp.py --steps 300
"""

import argparse

import equinox as eqx
import jax
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxopt_suite as jos


def loss_fn(model, images, labels):
    return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(images), labels).mean()


@eqx.filter_jit
def accuracy(model, images, labels):
    return (jax.vmap(model)(images).argmax(-1) == labels).mean()


@eqx.filter_jit
def train_step(tx, model, state, images, labels):
    # the pattern: what is no array, as the activation is, is None in the gradients and in the parameters
    loss, grads = eqx.filter_value_and_grad(loss_fn)(model, images, labels)
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    params, state = tx.apply_gradients(grads, state, params)
    return eqx.combine(params, rest), state, loss


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=300, help="default: %(default)s")
    steps = parser.parse_args().steps

    images, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        np.float32(images / 16), labels, stratify=labels, random_state=0
    )
    model = eqx.nn.MLP(64, 10, width_size=64, depth=2, key=jax.random.key(0))
    tx = jos.adamw(0.003, weight_decay=0.1, exclude_from_weight_decay=["bias"])
    params = eqx.filter(model, eqx.is_inexact_array)
    state = tx.init(params)
    print(tx.explain(params))

    for batch in np.random.default_rng(1).integers(len(y_train), size=(steps, 64)):
        model, state, loss = train_step(tx, model, state, x_train[batch], y_train[batch])
    print(f"loss {loss:.4f}, held-out accuracy {accuracy(model, x_test, y_test):.1%}")


if __name__ == "__main__":
    main()
