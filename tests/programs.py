"""Compiled programs that tests share: a step, once for equal optimizers, and what is done with it.

`quick` compiles without optimising, in a third of the time or less. It is for claims that hold whatever XLA makes of
a program: that two ways of taking a step agree, that dtypes stay, that something does not move. Recorded numbers,
exact values, infinities and memory are those of programs as users compile them, by `jax.jit`.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from recorded import EXAMPLE, recording


def known(options):
    """Those that this version of XLA has."""

    def has(name, value):
        try:
            jax.jit(lambda: 0, compiler_options={name: value})()
        except jax.errors.JaxRuntimeError:
            return False
        return True

    return {name: value for name, value in options.items() if has(name, value)}


quick = functools.partial(
    jax.jit, compiler_options=known({"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False})
)


def example(*names, dtype=jnp.float32):
    """A small tree of parameters, and gradients that are unlike them; `names` are enough where shapes do not matter."""
    record = recording(EXAMPLE)
    params = {name: record.params[name] for name in names or record.params}
    params = jax.tree.map(lambda w: jnp.asarray(w, dtype), params)
    grads = {name: record.grads[name] for name in params}
    return params, jax.tree.map(lambda g: jnp.asarray(g[0], dtype), grads)


@functools.cache
def step(tx, compiled=quick):
    """A program of one step, `(params, state, grads) -> (params, state)`."""

    def once(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return compiled(once)


def steps(tx, params, grads, n=4, compiled=quick):
    """The parameters and the state after `n` steps on the same gradients."""
    state = tx.init(params)
    for _ in range(n):
        params, state = step(tx, compiled)(params, state, grads)
    return params, state


def trajectory(tx, params, grads, compiled=quick):
    """The parameters, and the state, after each step on the stacked gradients."""
    state, taken = tx.init(params), []
    for i in range(len(jax.tree.leaves(grads)[0])):
        params, state = step(tx, compiled)(params, state, jax.tree.map(lambda g, i=i: g[i], grads))
        taken.append((params, state))
    return [w for w, _ in taken], [state for _, state in taken]


def stacked(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def same(a, b, tolerance=1e-6):
    """Two trees agree; arrays that differ in the last bits of large sums do too."""
    chex.assert_trees_all_close(a, b, rtol=tolerance, atol=tolerance)
