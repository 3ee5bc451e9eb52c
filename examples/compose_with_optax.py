"""Our primitives beside Optax's in one chain, inside a Linen `TrainState`.

python examples/compose_with_optax.py --steps 200
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training.train_state import TrainState
from sklearn.datasets import load_digits

import jaxopt_suite as jos


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.relu(nn.Dense(32)(x)))


@jax.jit
def train_step(state, images, labels):
    def loss_fn(params):
        return optax.softmax_cross_entropy_with_integer_labels(state.apply_fn(params, images), labels).mean()

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    return state.apply_gradients(grads=grads), loss


def train(tx, steps):
    images, labels = load_digits(return_X_y=True)
    images = jnp.asarray(images / 16, jnp.float32)
    model = Mlp()
    state = TrainState.create(apply_fn=model.apply, params=model.init(jax.random.key(0), images), tx=tx)
    losses = []
    for _ in range(steps):
        state, loss = train_step(state, images, labels)
        losses.append(float(loss))
    return state, losses


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200, help="default: %(default)s")
    steps = parser.parse_args().steps

    # A primitive emits the positive direction, without a rate: what comes behind it is up to you.
    rate = optax.warmup_cosine_decay_schedule(0.0, 0.02, steps // 10, steps)
    mixed = optax.chain(
        jos.transforms.clip_by_global_norm(1.0),
        jos.transforms.scale_by_adam(epsilon=1e-4),
        optax.add_decayed_weights(1e-3),
        optax.scale_by_learning_rate(rate),
    )
    # The same from one declaration. Keras decays the weights before the rule, with this rule it makes no difference.
    whole = jos.adam(rate, epsilon=1e-4, weight_decay=1e-3, global_clipnorm=1.0)

    (state, losses), (_, expected) = train(mixed, steps), train(whole, steps)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert losses[-1] < losses[0] / 2
    assert jos.state.slot_names(state, within="opt_state/1") == ["m", "v"]
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}, the chain and the declared optimizer agree")


if __name__ == "__main__":
    main()
