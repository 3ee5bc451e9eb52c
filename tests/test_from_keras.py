"""The table `examples/from_keras.md` is true: every row is run, and every documented name has one."""

import pathlib
import re

import h5py
import pytest

PAGE = pathlib.Path(__file__).parent.parent / "examples" / "from_keras.md"
TEXT = PAGE.read_text()
ROWS = [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in TEXT.splitlines() if "| `" in line]

# what the published documentation of the optimizers and of their base class names
DOCUMENTED = [
    "learning_rate",
    "beta_1",
    "beta_2",
    "epsilon",
    "amsgrad",
    "name",
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "lr",
    "decay",
    "weight_decay",
    "grad_averaging",
    "momentum",
    "nesterov",
    "schedule_decay",
    "mom_iter_max",
    "use_ema",
    "ema_momentum",
    "ema_overwrite_frequency",
    "jit_compile",
    "mesh",
    "iterations",
    "weights",
    "variables",
    "add_slot",
    "add_weight",
    "add_variable",
    "add_variable_from_reference",
    "aggregate_gradients",
    "apply_gradients",
    "build",
    "compute_gradients",
    "exclude_from_weight_decay",
    "finalize_variable_values",
    "from_config",
    "get_config",
    "get_gradients",
    "get_slot",
    "get_slot_names",
    "get_updates",
    "get_weights",
    "minimize",
    "set_weights",
    "save_weights",
    "save_weights_to_hdf5_group",
    "save_own_variables",
    "load_own_variables",
    "update_step",
    "clip_norm",
    "skip_gradients_aggregation",
    "experimental_aggregate_gradients",
    "grad_loss",
    "tape",
    "custom_objects",
    "var_list",
    "var_names",
    "overwrite",
]


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", TEXT, re.DOTALL).group(1), names)
    folder = tmp_path_factory.mktemp("weights")
    with h5py.File(folder / "group.h5", "w") as group:
        yield {**names, "group": group, "file": folder / "weights.h5"}


def code(cell):
    return re.fullmatch(r"`(.*)`", cell).group(1)


@pytest.mark.parametrize(("keras", "here", "gives"), ROWS, ids=[row[0] for row in ROWS])
def test_row(setting, keras, here, gives):
    if gives.startswith("see "):
        assert (PAGE.parent / code(gives.removeprefix("see "))).exists()
        return
    expected = code(gives)
    if re.match(r"\w+Error: ", expected):
        with pytest.raises(Exception) as refusal:  # noqa: PT011 - the type is compared below
            eval(code(here), setting)
        assert f"{refusal.type.__name__}: {refusal.value}".startswith(expected)
    else:
        assert repr(eval(code(here), setting)) == expected


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_documented_name_has_a_row(name):
    assert any(re.search(rf"\b{name}\b", keras) for keras, *_ in ROWS)
