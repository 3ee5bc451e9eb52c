"""Every property, for every row of the table."""

import jax
import numpy as np
import pytest
from recorded import error, recording
from rows import CASES, case_name

RECORDED = [(row, variant) for row, variant in CASES if variant.reference]


def trajectory(tx, params, grads, final=False):
    """The parameters after each step (and what they would be evaluated with), as one scanned program."""

    def step(carry, g):
        updates, state = tx.update(g, carry[1], carry[0])
        w = jax.tree.map(lambda p, u: p + u, carry[0], updates)
        return (w, state), (w, tx.finalize_variable_values(state, w) if final else None)

    return jax.jit(lambda p, g: jax.lax.scan(step, (p, tx.init(p)), g)[1])(params, grads)


@pytest.mark.parametrize(("row", "variant"), RECORDED, ids=case_name)
def test_recorded_trajectory(row, variant):
    record = recording(variant.reference)
    got, averages = trajectory(row.build(variant), record.params, record.grads, final=bool(record.average))
    errors = jax.tree.map(error, got, record.trajectory)
    assert max(jax.tree.leaves(errors)) <= variant.tolerance, errors
    if record.average:
        errors = jax.tree.map(error, averages, record.average)
        assert max(jax.tree.leaves(errors)) <= variant.tolerance, errors
    assert variant.tolerance <= 2e-6 or variant.reason
    assert np.isfinite(max(jax.tree.leaves(errors)))
