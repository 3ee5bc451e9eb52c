"""An optimizer of your own in 20 lines: it gets every common argument, a config, validation and state functions."""

from typing import Any, NamedTuple

import jax.numpy as jnp

import jaxopt_suite as jos


class SignMomentumState(NamedTuple):
    m: Any  # one array per parameter
    steps: Any  # one number for all parameters


@jos.optimizer("SignMomentum")
def sign_momentum(learning_rate: Any = 0.01, momentum: Any = 0.9, **common: Any) -> Any:
    """w <- w - rate * sign(m), m <- momentum * m + g; counts its steps."""

    def init(w):
        return SignMomentumState(m=jnp.zeros_like(w), steps=None)

    def share(kept, gradients, t):
        return {"steps": kept["steps"] + 1}

    def update(g, slots, w, t):
        m = momentum * slots.m + g
        return jnp.sign(m), SignMomentumState(m, slots.steps)

    return jos.leafwise(SignMomentumState, init, update, shared={"steps": 0.0}, share=share)


def main() -> None:
    tx = sign_momentum(0.5, weight_decay=0.01, exclude_from_weight_decay="bias", global_clipnorm=1.0)
    params = {"kernel": jnp.array([3.0, -2.0]), "bias": jnp.array([1.0])}
    state = tx.init(params)
    for _ in range(3):
        params, state, loss = tx.minimize(lambda p: sum((x**2).sum() for x in p.values()), state, params)
    print(tx, f"loss {loss:.3f}", jos.state.slot_names(state), sep="\n")
    assert jos.deserialize(jos.serialize(tx)) == tx
    assert float(state.stages[-1].steps) == 3
    try:
        sign_momentum(momentun=0.5)
    except TypeError as error:
        print(error)


if __name__ == "__main__":
    main()
