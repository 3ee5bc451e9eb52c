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


KERAS = [(lib, slug) for lib in ("keras3", "tf") for slug in library(lib)[1]["cases"] if not slug.endswith("model")]


class Of:
    """A variable of Keras."""

    def __init__(self, name, value):
        self.name, self.value = name, value

    def __array__(self, dtype=None, copy=None):
        return self.value


def variables(recorded):
    names = recorded.case["names"]
    return [Of(name, recorded.kept[str(i)]) for i, name in enumerate(names)]


@pytest.mark.parametrize(("lib", "slug"), KERAS)
def test_keras_goes_on(lib, slug):
    recorded = run(lib, slug)
    params = recorded.params(BEFORE)
    tx, state, report = jos.importers.keras(variables(recorded), params, optimizer=recorded.case["config"])
    assert not report.dropped
    assert worst(continued(tx, state, params, gradients()), recorded) <= 2e-6
