"""What the docstrings say of Optax's counterparts is so."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from counterparts import COUNTERPARTS
from programs import trajectory
from rows import ROWS

import jaxopt_suite as jos

PAIRS = [(name, pair) for name, pairs in COUNTERPARTS.items() for pair in pairs]


def data():
    """Two parameters, seven steps of gradients that turn and grow, an entry that is zero at every other step."""
    time = np.arange(7.0)
    kernel = np.array([[0.1, -0.2], [0.3, 0.05], [-0.4, 0.25]]) * (np.cos(1.3 * time) * (1 + 0.2 * time))[:, None, None]
    kernel[::2, 2, 1] = 0
    bias = np.array([0.5, -0.3]) * np.sin(0.9 * time + 0.4)[:, None]
    params = {"bias": jnp.array([0.3, -0.7]), "kernel": jnp.array([[1.0, -2.0], [0.5, 3.0], [-0.25, 0.1]])}
    return params, {"bias": jnp.asarray(bias), "kernel": jnp.asarray(kernel)}


@pytest.mark.parametrize(("name", "pair"), PAIRS, ids=lambda x: x if isinstance(x, str) else f"{x.apart:g}")
def test_counterpart(name, pair):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):  # Optax itself promotes implicitly
        params, grads = data()
        ways = [trajectory(make(), params, grads)[0] for make in (pair.ours, pair.theirs)]
        apart = max(jax.tree.leaves(jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), *ways)))
    if pair.apart:
        assert apart == pytest.approx(pair.apart, rel=0.01)
        assert "optax" in getattr(jos, name).__doc__
    else:
        assert apart <= pair.within


def test_every_counterpart_is_in_the_table():
    rules = [row.name for row in ROWS if "optimizer" not in inspect.signature(row.make).parameters]
    there = {name for name in rules if hasattr(optax, name) or hasattr(optax.contrib, name)}
    assert there <= {*COUNTERPARTS}
