"""Runs of other libraries go on here: imported at step 50, as the library itself went on from there."""

import pytest
from runs import BEFORE, continued, gradients, library, run, worst

import jaxopt_suite as jos

TORCH = [*library("torch")[1]["cases"]]


def state_dict(slug):
    """As `optimizer.state_dict()` gives it, with arrays for tensors."""
    recorded, state = run("torch", slug), {}
    for key, x in recorded.kept.items():
        number, _, name = key.partition("/")
        state.setdefault(int(number), {})[name] = x
    return {"state": state, "param_groups": recorded.case["param_groups"]}


@pytest.mark.parametrize("slug", TORCH)
def test_torch_goes_on(slug):
    recorded = run("torch", slug)
    tx, state, report = jos.importers.torch(state_dict(slug), recorded.params(BEFORE), iterations=BEFORE)
    assert not report.dropped
    assert not [name for name in report.reset if name != "count"]
    assert worst(continued(tx, state, recorded.params(BEFORE), gradients()), recorded) <= 2e-6
