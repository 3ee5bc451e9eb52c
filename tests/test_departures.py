"""Where a rule departs from its original on purpose."""

import decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_suite as jos
from jaxopt_suite._algorithms._rectified import sma_length
from jaxopt_suite._frame.leafwise import Moment


def test_a_variance_that_rounding_makes_negative_counts_as_zero():
    for dialect in ("keras", "legacy"):
        tx = jos.rmsprop(0.1, rho=0.5, epsilon=1e-4, centered=True, dialect=dialect)
        state = jos.state.set_slot(tx.init(jnp.array(1.0)), "", "v", 0.99)
        state = jos.state.set_slot(state, "", "a", 1.0)  # as after many equal gradients: v - a^2 < 0
        step, _ = tx.update(jnp.array(1.0), state)
        assert float(step) == np.float32(-0.1) / np.float32(1e-2 if dialect == "keras" else 1e-4)


def test_a_row_and_a_column_without_gradients_do_not_underflow():
    tx, w = jos.adafactor(0.01), jnp.ones((2, 2))
    state = tx.init(w)
    for _ in range(3):
        w, state = tx.apply_gradients(jnp.array([[1.0, 0.0], [0.0, 0.0]]), state, w)
    assert float(w[0, 0]) < 1
    np.testing.assert_array_equal(w.ravel()[1:], 1)


@pytest.mark.parametrize("optimizer", [jos.nadam, pytest.param(jos.radam, marks=pytest.mark.slow)])
def test_a_decay_may_be_said_to_be_a_penalty_or_none(optimizer):
    """A penalty is part of the gradient that is averaged; what is none does not see the averages."""
    g, w = jnp.array([0.5, -1.0]), jnp.array([2.0, 3.0])
    for dialect, decoupled in (("keras", False), ("torch", True)):
        free = optimizer(0.1, dialect=dialect)
        want = free.update(g if decoupled else g + 0.5 * w, free.init(w), w)[0] - decoupled * 0.1 * 0.5 * w
        tx = optimizer(0.1, weight_decay=0.5, decoupled_weight_decay=decoupled, dialect=dialect)
        step, state = tx.update(g, tx.init(w), w)
        np.testing.assert_allclose(step, want, rtol=1e-6)
        averaged = g if decoupled else g + 0.5 * w
        np.testing.assert_allclose(jos.state.get_slot(state, "", "m"), 0.1 * averaged, rtol=1e-6)


def test_the_rectification_length_does_not_cancel():
    for beta_2, count in (("0.999", 6), ("0.9999", 5), ("0.9999", 3000), ("0.9", 10**6)):
        t = Moment(jnp.float32(count), jnp.float32(1.0), jnp.int32(count))
        q = decimal.Decimal(beta_2)
        exact = 2 / (1 - q) - 1 - 2 * count * q**count / (1 - q**count)
        np.testing.assert_allclose(sma_length(float(beta_2), t)[0], float(exact), rtol=3e-6)


def test_an_entry_without_a_gradient_stays_at_an_empty_accumulator():
    tx, w = jos.proximal_adagrad(0.1, initial_accumulator_value=0.0, l1_regularization_strength=0.1), jnp.ones(2)
    w, _ = tx.apply_gradients(jnp.array([0.0, 1.0]), tx.init(w), w)
    np.testing.assert_allclose(w, [1.0, 0.89], rtol=1e-6)


def test_an_average_without_snapshots_is_that_of_the_initial_parameters():
    tx, w = jos.swa(jos.sgd(1.0), start_averaging=5), jnp.float32(3.0)
    after, state = tx.apply_gradients(jnp.float32(1.0), tx.init(w), w)
    assert float(tx.finalize_variable_values(state, after)) == 3.0


def test_wrapped_optimizers_clip():
    for wrap in (jos.lookahead, jos.moving_average, jos.swa, jos.loss_scale):
        tx = wrap(jos.sgd(1.0, clipvalue=0.5))
        g = jnp.float32(2.0) * tx.scale_loss(jnp.float32(1.0), tx.init(jnp.float32(0.0)))
        assert float(tx.apply_gradients(g, tx.init(g), g)[0] - g) == -0.5


def test_the_rate_of_a_conditional_gradient_may_be_a_schedule():
    tx = jos.conditional_gradient(jos.schedules.piecewise_constant_decay([0], [0.5, 1.0]), lambda_=10.0)
    w, state = jnp.ones(1), tx.init(jnp.ones(1))
    for _ in range(3):  # a rate of 1 stands still
        w, state = tx.apply_gradients(jnp.ones(1), state, w)
        np.testing.assert_allclose(w, [-4.5], rtol=1e-6)


def test_a_nuclear_ball_has_no_room_for_a_convolution():
    tx, w = jos.conditional_gradient(0.9, ord="nuclear"), {"conv": {"kernel": jnp.ones((2, 2, 3, 4))}}
    with pytest.raises(ValueError, match=r"parameter at 'conv/kernel' has shape \(2, 2, 3, 4\)"):
        tx.update(w, tx.init(w), w)


def test_clip_norm_of_the_old_fork():
    g = jnp.array([3.0, 4.0])
    for c, n, want in ((2.5, 5.0, 0.5), (5.0, 5.0, 1.0), (9.0, 5.0, 1.0), (0.0, 5.0, 1.0), (-1.0, 5.0, 1.0)):
        np.testing.assert_allclose(jos.transforms.clip_norm(g, c, n), want * g)
        np.testing.assert_allclose(jax.jit(jos.transforms.clip_norm)(g, jnp.float32(c), jnp.float32(n)), want * g)
    assert jos.transforms.clip_norm(jnp.ones(1, jnp.bfloat16), 1.0, jnp.float32(2.0)).dtype == jnp.bfloat16


def test_gradients_that_need_no_clipping_stay_as_they_are():
    tx, g = jos.transforms.clip_by_global_norm(41.0), jnp.array([0.1, -0.7])
    assert np.float32(41) * (1 / np.float32(41)) != 1  # Keras's scale
    np.testing.assert_array_equal(tx.update(g, tx.init(g))[0], g)
    for bad in (jnp.inf, jnp.nan):
        assert np.isnan(tx.update(g.at[0].set(bad), tx.init(g))[0]).all()


def test_yogi_needs_the_weights_for_its_penalties_alone():
    g = jnp.array([0.5, -2.0])
    for penalties in ({"l1_regularization_strength": 0.1}, {"l2_regularization_strength": 0.1}):
        tx = jos.yogi(0.1, **penalties)
        with pytest.raises(ValueError, match="yogi: update needs the parameters"):
            tx.update(g, tx.init(g))
    step, _ = jos.yogi(0.1).update(g, jos.yogi(0.1).init(g))
    same, _ = jos.yogi(0.1, l1_regularization_strength=1e-30).update(g, tx.init(g), jnp.ones(2))
    np.testing.assert_allclose(step, same, rtol=1e-6)


def test_the_last_count_stays():
    last = jnp.iinfo(jnp.int32).max
    for tx in (jos.adam(), jos.chain(jos.adam())):
        w = jnp.array(1.0)
        state = jax.tree.map(lambda x: jnp.full_like(x, last) if x.dtype == jnp.int32 else x, tx.init(w))
        w, state = tx.apply_gradients(w, state, w)
        counts = [int(x) for x in jax.tree.leaves(state) if x.dtype == jnp.int32]
        assert counts == [last] * len(counts)
        assert float(w) < 1
