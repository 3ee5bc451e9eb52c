"""Where a rule departs from Keras on purpose, so that it stays finite."""

import jax.numpy as jnp
import numpy as np

import jaxopt_suite as jos


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
