"""Dynamic loss scaling: the recorded trajectories of Keras 3, the model it is for, and what it wraps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recorded import error, library, recording

import jaxopt_suite as jos

RECORDED = ["sgd_loss_scale_optimizer", "adam_loss_scale_optimizer"]


def scale(state):
    return state.stages["unscale_dynamically"].scale


@pytest.mark.parametrize("slug", RECORDED)
def test_recorded_trajectory(slug):
    record, arrays = recording(f"keras3/{slug}"), library("keras3")[0]
    extras = record.case["extras"]["loss_scale"]
    inner_tx = jos.get(record.case["class"].lower()).recipe.remake(**record.arguments())
    tx = jos.loss_scale(inner_tx, **extras["arguments"])
    outer, inner = extras["inf_path"].split("/")

    @jax.jit
    def step(params, state, grads, overflow):
        grads = jax.tree.map(lambda g: g * scale(state), grads)
        g = grads[outer][inner]
        grads[outer][inner] = jnp.where(overflow, g.at[(0,) * g.ndim].set(jnp.inf), g)
        return tx.apply_gradients(grads, state, params)

    params = jax.tree.map(jnp.asarray, record.params)
    state, after = tx.init(params), []
    for i in range(record.case["steps"]):
        grads = jax.tree.map(lambda g, i=i: jnp.asarray(g[i]), record.grads)
        params, state = step(params, state, grads, i in extras["inf_steps"])
        after.append(params)
        assert float(scale(state)) == arrays[f"{slug}/extra/loss_scale"][i]
        assert int(state.count) == arrays[f"{slug}/extra/iterations"][i]
    errors = jax.tree.map(lambda want, *got: error(np.stack(got), want), record.trajectory, *after)
    assert max(jax.tree.leaves(errors)) <= 2e-6, errors


@pytest.mark.parametrize("slug", RECORDED)
def test_config_that_keras_wrote(slug):
    case = library("keras3")[1]["cases"][slug]
    tx = jos.deserialize(case["config"])
    assert tx == jos.loss_scale.from_config(case["config"]["config"])
    config = tx.get_config()
    assert (config["initial_scale"], config["dynamic_growth_steps"]) == (16.0, 4)
    assert config["optimizer"]["class_name"] == case["class"]
    assert tx == jos.deserialize(jos.serialize(tx))


def test_small_gradients_of_a_float16_model_do_not_vanish():
    w = {"w": jnp.ones(1, jnp.float16)}

    def loss(params):
        return (params["w"] * jnp.float16(2e-4)).sum() * jnp.float16(1e-4)  # its gradient is no float16

    _, lost = jos.sgd(1.0).compute_gradients(loss, w)
    assert float(lost["w"][0]) == 0
    tx = jos.loss_scale(jos.adam(0.5, epsilon=0.0))
    state = tx.init(w)
    assert float(tx.scale_loss(jnp.float16(0.5), state)) == 2.0**14
    params, state, value = tx.minimize(loss, state, w)
    assert float(params["w"][0]) == pytest.approx(0.5, rel=0.01)
    assert float(value) == float(loss(w))


def test_a_skipped_step_touches_nothing_behind():
    tx = jos.loss_scale(jos.moving_average(jos.adam(0.1, global_clipnorm=1.0), average_decay=0.5), initial_scale=4.0)
    w = {"a": jnp.ones(2), "b": jnp.ones(1)}
    _, state = tx.apply_gradients(jax.tree.map(jnp.ones_like, w), tx.init(w), w)
    after, skipped = tx.apply_gradients({"a": jnp.ones(2), "b": jnp.full(1, jnp.nan)}, state, w)
    jax.tree.map(np.testing.assert_array_equal, after, w)
    assert float(scale(skipped)) == 2.0
    for key in state.stages.keys() - {"unscale_dynamically"}:
        jax.tree.map(np.testing.assert_array_equal, skipped.stages[key], state.stages[key])
    assert int(skipped.count) == int(state.count)


def test_the_scale_is_asked_for_where_it_is_needed():
    with pytest.raises(ValueError, match="give compute_gradients or scale_loss the state"):
        jos.loss_scale(jos.sgd()).scale_loss(jnp.float32(1.0))


def test_one_scale_only():
    for twice in (jos.loss_scale(jos.sgd()), jos.lookahead(jos.loss_scale(jos.sgd())), jos.sgd(loss_scale_factor=2.0)):
        with pytest.raises(ValueError, match="loss_scale: optimizer must not scale the loss itself"):
            jos.loss_scale(twice)
