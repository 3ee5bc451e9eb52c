"""Checkpoints of the layout before stages had names go on in today's optimizers, from orbax and from HDF5."""

import functools
import json
import pathlib

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp
from programs import quick, same

import jaxopt_suite as jos

FOLDER = pathlib.Path(__file__).parent / "references" / "layout_1"
INDEX = json.loads((FOLDER / "index.json").read_text())
CASES = INDEX["cases"]


@functools.cache
def arrays():
    with np.load(FOLDER / "arrays.npz") as file:
        return dict(file)


def tree(prefix):
    """The parameters, or what is shaped like them, of one recording."""
    shaped = {"dense": {"bias": 0, "kernel": 0}, "embedding": 0, "scale": 0}
    return jax.tree_util.tree_map_with_path(lambda p, _: arrays()[f"{prefix}/{jax.tree_util.keystr(p)}"], shaped)


# what the library does otherwise since
CHANGED = {"by_path": "of frozen parameters nothing is read, so that the norm of all gradients is another"}


def goes_on(case, tx, state):
    """The state holds what was stored, and the next step is that which the old code took."""
    stored = [value for key, value in arrays().items() if key.startswith(f"{case}/state/")]
    assert sorted(map(content, jax.tree.leaves(state))) == sorted(map(content, stored))
    if case not in CHANGED:
        scale = np.float32(tx.scale_loss(np.float32(1), state))
        grads = jax.tree.map(lambda g: g * scale, tree(f"gradients/{INDEX['steps']}"))
        same(quick(tx.apply_gradients)(grads, state, tree(f"{case}/after"))[0], tree(f"{case}/next"))


def content(x):
    return x.dtype.name, x.shape, np.asarray(x).tobytes()


@pytest.mark.filterwarnings("ignore:Sharding info not provided")
@pytest.mark.parametrize("case", CASES)
def test_what_orbax_gives_without_a_template(case):
    tx = jos.deserialize(CASES[case]["optimizer"])
    old = ocp.load((FOLDER / CASES[case]["orbax"]).absolute())
    state, report = jos.state.migrate(old, tx, tree("before"))
    assert not report.dropped
    assert not report.reset
    goes_on(case, tx, state)


@pytest.mark.parametrize("case", [case for case in CASES if len(CASES[case]["hdf5"]) == 1 and case != "chain"])
def test_what_save_weights_wrote(case):
    tx = jos.deserialize(CASES[case]["optimizer"])
    ((file, _),) = CASES[case]["hdf5"]
    state, report = jos.state.migrate(jos.state.load_dict(FOLDER / file), tx, tree("before"))
    assert not report.dropped
    assert set(report.reset) <= {"last_learning_rate"}  # which the file did not hold
    if case != "nadam_schedule":
        goes_on(case, tx, state)
    same(
        jos.state.variables(state), jos.state.variables(jos.state.load_weights(tx.init(tree("before")), FOLDER / file))
    )


def test_one_file_of_several():
    """Of a composition there is a file for each state, which `load_weights` puts in its place."""
    tx, members = jos.deserialize(CASES["by_path"]["optimizer"]), {"members/0": "bias_scale", "members/2": "rest"}
    state = tx.init(tree("before"))
    for file, within in CASES["by_path"]["hdf5"]:
        state = jos.state.load_weights(state, FOLDER / file, within=members.get(within, ""))
    goes_on("by_path", tx, state)
