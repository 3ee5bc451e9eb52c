"""compare names where two optimizers part first, by how much, and what their recipes differ in."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from programs import example
from rows import ROWS

import jaxopt_suite as jos

PARAMS = {"bias": jnp.array([1.0, 2.0]), "kernel": jnp.ones((2, 2))}
GRADS = {"bias": jnp.array([3.0, 0.5]), "kernel": jnp.zeros((2, 2)).at[1, 0].set(-1.0)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_equal_optimizers_agree_to_the_bit(row):
    params, grads = example("dense")
    found = jos.compare(row.build(), row.build(), params, grads, steps=3, tolerance=0.0)
    assert found.first is None
    assert found.recipes == ()
    assert found.steps == 3


def test_the_place_where_they_part():
    late = jos.schedules.piecewise_constant_decay([2], [0.5, 0.25])  # the fourth update is the first at 0.25
    found = jos.compare(jos.sgd(0.5), jos.sgd(late), PARAMS, GRADS, steps=6)
    assert (found.first.step, found.first.path, found.first.index) == (4, "bias", (0,))
    assert (found.first.a, found.first.b) == (-5.0, -4.25)
    assert found.first.error == pytest.approx(0.75 / 4.251)
    assert {p.path: (p.step, p.index) for p in found.worst} == {"bias": (6, (0,)), "kernel": (6, (1, 0))}
    assert "They part at step 4 in 'bias'[0]: -5 and -4.25, an error of 0.18." in repr(found)
    assert found.to_dict()["first"]["path"] == "bias"


def test_the_entries_that_differ():
    a = jos.adam(jos.schedules.exponential_decay(0.1, 10, 0.5), epsilon=1e-3, exclude_from_weight_decay="bias")
    b = jos.adam(jos.schedules.exponential_decay(0.1, 20, 0.5), epsilon=1e-7)
    assert jos.compare(a, b, PARAMS, GRADS, steps=1).recipes == (
        ("learning_rate.decay_steps", "10.0", "20.0"),
        ("epsilon", "0.001", "1e-07"),
        ("exclude_from_weight_decay", "('bias',)", "()"),
    )
    rules = [jos.by_path({"bias": jos.sgd(rate), "": jos.adam()}) for rate in (0.1, 0.2)]
    assert jos.compare(*rules, PARAMS, GRADS, steps=1).recipes == (("rules.bias.learning_rate", "0.1", "0.2"),)
    chains = [jos.chain(jos.sgd(), jos.sgd(momentum=m)) for m in (0.1, 0.2)]
    assert jos.compare(*chains, PARAMS, GRADS, steps=1).recipes == (("members.1.momentum", "0.1", "0.2"),)
    names = {name for name, _, _ in jos.compare(jos.adam(), jos.sgd(), PARAMS, GRADS, steps=1).recipes}
    assert {"class_name", "learning_rate", "beta_1", "nesterov"} <= names


def test_transformations_of_optax():
    with jax.numpy_dtype_promotion("standard"):
        found = jos.compare(jos.sgd(0.5), optax.sgd(0.5), PARAMS, GRADS)
        assert found.first is None
        assert ("class_name", "'SGD'", "'without a recipe'") in found.recipes
        assert jos.compare(jos.adam(0.5), optax.adam(0.5, eps=0.1), PARAMS, GRADS).first.step == 1


def test_gradients_by_step_and_of_the_parameters():
    rising = [jax.tree.map(lambda g, i=i: i * g, GRADS) for i in range(3)]
    found = jos.compare(jos.sgd(0.5), jos.sgd(0.25), PARAMS, rising)
    assert (found.steps, found.first.step) == (3, 2)
    found = jos.compare(jos.sgd(0.5), jos.sgd(1.0), PARAMS, jax.grad(lambda w: jnp.sum(w["bias"] ** 2) / 2), steps=2)
    assert {p.path: (p.a, p.b) for p in found.worst} == {"bias": (1.0, 0.0)}
    listed = jos.compare(jos.sgd(0.5), jos.sgd(0.25), [jnp.ones(2), jnp.ones(3)], [jnp.ones(2), jnp.ones(3)], steps=2)
    assert listed.steps == 2


def test_numbers_that_are_not_finite():
    found = jos.compare(jos.sgd(0.5), jos.sgd(0.5), PARAMS, jax.tree.map(lambda w: w * jnp.nan, PARAMS), steps=2)
    assert found.first is None
    lost = jos.sgd(jos.schedules.piecewise_constant_decay([0], [0.5, 0.25]))
    huge = jax.tree.map(lambda w: jnp.full_like(w, 3e38), PARAMS)
    found = jos.compare(jos.sgd(1.0), lost, PARAMS, huge, steps=3)
    assert np.isinf(found.first.error) or found.first.error > 0


def test_tolerance():
    near = (jos.sgd(0.5), jos.sgd(0.5 * (1 + 1e-5)))
    assert jos.compare(*near, PARAMS, GRADS, steps=1).first is not None
    assert jos.compare(*near, PARAMS, GRADS, steps=1, tolerance=1e-3).first is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((jos.adam(), "adam", PARAMS, GRADS), "compare: tx_b must be an optimizer or a transformation of Optax"),
        ((jos.adam(), jos.sgd(), PARAMS, {"bias": GRADS["bias"]}), "compare: gradients and parameters differ"),
        ((jos.adam(), jos.sgd(), PARAMS, [GRADS, PARAMS["bias"]]), "compare: gradients and parameters differ"),
    ],
)
def test_refusals(arguments, words):
    with pytest.raises((TypeError, ValueError), match=words):
        jos.compare(*arguments)


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 0), ("steps", 2.5), ("tolerance", float("nan")), ("tolerance", "a")]
)
def test_senseless_numbers_are_refused(name, value):
    with pytest.raises(ValueError, match=f"compare: {name} must be"):
        jos.compare(jos.sgd(1.0), jos.sgd(1.0), jnp.ones(2), jnp.ones(2), **{name: value})
