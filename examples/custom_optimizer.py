"""Optimizers of your own: each gets every common argument, a config, validation and the functions of `jos.state`.

The second one, Sophia, asks for a further argument of `update`: the diagonal of the Hessian.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxopt_suite as jos


class SignMomentumState(NamedTuple):
    m: jax.Array


@jos.optimizer("SignMomentum")
def sign_momentum(learning_rate: float = 0.01, momentum: float = 0.9, **common):
    """w <- w - rate * sign(m), m <- momentum * m + g."""

    def init(w):
        return SignMomentumState(m=jnp.zeros_like(w))

    def update(g, s, w, t):
        m = momentum * s.m + g
        return jnp.sign(m), SignMomentumState(m)

    return jos.leafwise(SignMomentumState, init, update)


class SophiaState(NamedTuple):
    m: jax.Array
    h: jax.Array


@jos.optimizer("Sophia")
def sophia(
    learning_rate: float = 1e-3,
    beta_1: float = 0.96,
    beta_2: float = 0.99,
    rho: float = 0.04,
    every: int = 10,
    **common,
):
    """Sophia (Liu et al., 2023): the momentum over the curvature, each entry clipped to 1.

    h <- beta_2 h + (1 - beta_2) hessian         in every so many steps
    w <- w - rate * clip(m / max(rho h, 1e-12), -1, 1)
    """

    def init(w):
        return SophiaState(m=jnp.zeros_like(w), h=jnp.zeros_like(w))

    def update(g, s, w, t):
        m = beta_1 * s.m + (1 - beta_1) * g
        renewed = beta_2 * s.h + (1 - beta_2) * t.extra["hessian"]
        h = jnp.where((t.step - 1) % every == 0, renewed, s.h)
        return jnp.clip(m / jnp.maximum(rho * h, 1e-12), -1, 1), SophiaState(m, h)

    return jos.leafwise(SophiaState, init, update, extra_args=("hessian",))


def hessian_diagonal(loss, params, key):
    """Hutchinson's estimate: `u * (H u)` for random signs `u`."""
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    u = jax.tree.unflatten(
        treedef, [jax.random.rademacher(k, w.shape, w.dtype) for k, w in zip(keys, leaves, strict=True)]
    )
    _, Hu = jax.jvp(jax.grad(loss), (params,), (u,))
    return jax.tree.map(jnp.multiply, u, Hu)


def loss(params):
    """A narrow valley: one direction is a hundred times as steep as the other."""
    return (100 * params["kernel"][0] ** 2 + params["kernel"][1] ** 2 + params["bias"] ** 2).sum() / 2


def main() -> None:
    start = {"kernel": jnp.array([3.0, -2.0]), "bias": jnp.array([1.0])}

    tx = sign_momentum(0.5, weight_decay=0.01, exclude_from_weight_decay="bias", global_clipnorm=1.0)
    params, state = start, tx.init(start)
    for _ in range(3):
        params, state, _ = tx.minimize(loss, state, params)
    print(tx, jos.state.slot_names(state), f"loss {loss(params):.3f}", sep="\n")
    assert jos.deserialize(jos.serialize(tx)) == tx
    try:
        sign_momentum(momentun=0.5)
    except TypeError as error:
        print(error)

    tx = sophia(0.1, every=1)
    for name, chained in (
        ("alone", tx),
        ("jos.chain", jos.chain(tx)),
        ("optax.chain", optax.chain(optax.identity(), tx)),
    ):
        params, state = start, chained.init(start)

        @jax.jit
        def step(params, state, key, chained=chained):
            hessian = hessian_diagonal(loss, params, key)
            updates, state = chained.update(jax.grad(loss)(params), state, params, hessian=hessian)
            return optax.apply_updates(params, updates), state

        for key in jax.random.split(jax.random.key(0), 60):
            params, state = step(params, state, key)
        print(f"{tx} {name}: loss {loss(params):.4f}")
        assert loss(params) < 0.02 * loss(start)
    try:
        tx.update(start, tx.init(start), start)
    except TypeError as error:
        print(error)


if __name__ == "__main__":
    main()
