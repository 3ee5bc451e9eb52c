"""Learning rates that are learned: by the gradient of the loss after three steps, one rate for each group.

    python examples/learn_the_rates.py

A small model of words is to be good after three steps of Adam. The rates are in the state, so that its loss is a
function of them, which gradient descent brings down: each time from another start, on other sentences. Words that are
in no sentence of a batch have gradients of exactly zero: Adam's root of their mean square is differentiated at zero.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxopt_suite as jos

WORDS, WIDTH, CLASSES = 100, 8, 4

tx = jos.by_path({"embedding": jos.adam(), "head": jos.adam(clipnorm=1.0)})


def make_task(rng):
    """Where a model begins, and four batches of sentences: how often each word is among six words of the label."""
    params = {
        "embedding": rng.normal(size=(WORDS, WIDTH)).astype(np.float32),
        "head": {"bias": np.zeros(CLASSES, np.float32), "kernel": rng.normal(size=(WIDTH, CLASSES)).astype(np.float32)},
    }
    labels = rng.integers(CLASSES, size=(4, 16))
    words = rng.integers(WORDS // CLASSES, size=(4, 16, 6)) * CLASSES + labels[..., None]
    return params, np.eye(WORDS, dtype=np.float32)[words].sum(axis=2), labels


def loss_fn(params, counts, labels):
    logits = counts / 6 @ params["embedding"] @ params["head"]["kernel"] + params["head"]["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


# the pattern: the loss after a few steps, as a function of the rates
def loss_after_three_steps(log_rates, params, counts, labels):
    state = tx.init(params)
    for group, log_rate in log_rates.items():
        state = jos.state.set_learning_rate(state, jnp.exp(log_rate), within=group)

    def step(carry, batch):
        params, state, loss = tx.minimize(loss_fn, carry[1], carry[0], *batch)
        return (params, state), loss

    (params, _), _ = jax.lax.scan(step, (params, state), (counts[:3], labels[:3]))
    return loss_fn(params, counts[3], labels[3])


def main():
    rng, meta = np.random.default_rng(0), jos.adam(0.1)
    at_first = learned = {"embedding": jnp.log(0.001), "head": jnp.log(0.001)}
    state = meta.init(learned)
    learn = jax.jit(lambda rates, state, task: meta.minimize(loss_after_three_steps, state, rates, *task)[:2])
    for _ in range(100):
        learned, state = learn(learned, state, make_task(rng))

    fresh, loss = [make_task(rng) for _ in range(50)], jax.jit(loss_after_three_steps)
    before, after = (np.mean([loss(rates, *task) for task in fresh]) for rates in (at_first, learned))
    assert after < before / 2, "what was learned helps from other starts too"
    print("learned: " + ", ".join(f"{group} {jnp.exp(x):.2f}" for group, x in learned.items()))
    print(f"loss after three steps: {after:.3f}, at the rates of 0.001 that it began with {before:.3f}")


if __name__ == "__main__":
    main()
