"""States as flat dicts: through files they come back to the bit, and a file that is hostile or cut is a sentence."""

import json

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy
from orbax.checkpoint import v1 as ocp
from programs import same
from test_migrate import SCHEDULE, TREE, marked
from test_state import refuse

import jaxopt_suite as jos

HALF = jax.tree.map(lambda w: w.astype(jnp.bfloat16), TREE)
STATES = {
    "adam": (jos.adam(0.1), TREE),
    "bfloat16 averages": (jos.adam(SCHEDULE, use_ema=True, gradient_accumulation_steps=2), HALF),
    "groups": (jos.by_path({"bias": jos.nadam(0.1), "body": jos.frozen(), "": jos.adafactor(0.1)}, clipnorm=1.0), TREE),
    "Optax inside": (jos.chain(jos.transforms.clip_by_value(1.0), jos.from_optax("adam", learning_rate=0.1)), TREE),
    "inside of Optax": (optax.chain(optax.trace(0.9), jos.rmsprop(0.1)), TREE),
    "codes": (jos.precision.state_dtype(jos.adam(0.1), m="blockwise8", v="blockwise8", min_size=4), TREE),
    "one array": (jos.adam(0.1, global_clipnorm=1.0), jnp.ones(3)),
    "nothing": (jos.frozen(), TREE),
}


def through_orbax(flat, folder):
    ocp.save(folder / "dict", flat)
    return ocp.load(folder / "dict")


def through(suffix):
    def there_and_back(flat, folder):
        jos.state.save_dict(folder / f"dict{suffix}", flat)
        return jos.state.load_dict(folder / f"dict{suffix}")

    return there_and_back


def through_its_library(flat, folder):
    safetensors.numpy.save_file({name: np.array(x, order="C") for name, x in flat.items()}, folder / "s.safetensors")
    return safetensors.numpy.load_file(folder / "s.safetensors")


WAYS = {
    "memory": lambda flat, folder: flat,
    "orbax": through_orbax,
    "safetensors": through(".safetensors"),
    "safetensors itself": through_its_library,
    "HDF5": through(".h5"),
}


@pytest.mark.filterwarnings("ignore:Sharding info not provided")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", STATES)
def test_round_trips_are_equal_to_the_bit(name, way, tmp_path):
    tx, params = STATES[name]
    state, _ = jos.state.migrate(marked(tx, params), tx, params)  # beside what is not coded, a scale is a lone zero
    flat = WAYS[way](jos.state.to_dict(state, tx, params), tmp_path)
    back = jos.state.from_dict(flat, tx, params)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(state), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    moved, report = jos.state.migrate(flat, tx, params)
    same(moved, state, 0)
    assert not report.reset + report.dropped


def test_names_are_those_of_variables():
    tx, params = STATES["adam"]
    state = tx.init(params)
    assert {*jos.state.to_dict(state, tx, params)} == {*jos.state.variables(state), "about"}


def test_a_reader_without_this_library_can_make_sense_of_the_file(tmp_path):
    tx, params = STATES["groups"]
    jos.state.save_dict(tmp_path / "s.safetensors", jos.state.to_dict(tx.init(params), tx, params))
    arrays = safetensors.numpy.load_file(tmp_path / "s.safetensors")
    about = json.loads(arrays.pop("about").tobytes())
    assert {*about} == {"format", "layout", "versions", "optimizer", "variables"}
    assert jos.deserialize(about["optimizer"]) == tx
    assert about["versions"] == {"jaxopt_suite": jos.__version__, "jax": jax.__version__}
    assert {*about["variables"]} == {*arrays}
    for name, said in about["variables"].items():
        assert (said["shape"], said["dtype"]) == (list(arrays[name].shape), arrays[name].dtype.name)
    described = {"state": "rest", "slot": "r", "parameter": "head", "stage": "rule", "kind": "AdafactorState"}
    assert {**about["variables"]["rest/r/head"], **described} == about["variables"]["rest/r/head"]


def test_what_does_not_belong_together_is_refused():
    tx, params = STATES["adam"]
    state, give, take = tx.init(params), jos.state.to_dict, jos.state.from_dict
    flat = give(state, tx, params)
    refuse(ValueError, "to_dict: the state is not of this optimizer and these parameters: 'vhat/body/bias' is not "
           "there, must have (2,).", give, state, jos.adam(amsgrad=True), params)  # fmt: skip
    refuse(
        ValueError,
        "'m/head' has shape (2, 4), must have (2, 5).",
        give,
        state,
        tx,
        {**params, "head": jnp.ones((2, 5))},
    )
    twice = {"a/b": jnp.ones(2), "a": {"b": jnp.zeros(2)}}
    refuse(ValueError, "to_dict: two variables are called 'm/a/b'", give, tx.init(twice), tx, twice)
    refuse(ValueError, "'vhat/body/bias' is not in the dict. Did you mean", take, flat, jos.adam(amsgrad=True), params)
    refuse(ValueError, "from_dict: 6 variables would be lost: 'm/body/bias' (nothing here keeps it)", take, flat,
           jos.sgd(momentum=0.5), params)  # fmt: skip
    refuse(TypeError, "from_dict: 'learning_rate' is float32, in the state it is float64.", wide, flat, tx)
    refuse(TypeError, "from_dict: expected the dict that to_dict made, got {'count'", take, {"count": 1}, tx, params)
    without = {name: x for name, x in flat.items() if name != "m/head"}
    refuse(ValueError, "'m/head' is only among the list in 'about': the dict is not whole", take, without, tx, params)
    more = {**flat, "w/head": np.ones(2)}
    refuse(ValueError, "'w/head' is only among the arrays", take, more, tx, params)
    other = {**flat, "m/head": np.ones((4, 2), np.float32)}
    refuse(ValueError, "'m/head' must have shape [2, 4] of 'float32', got [4, 2] of", take, other, tx, params)


def wide(flat, tx):
    with jax.enable_x64(True):
        return jos.state.from_dict(flat, tx, jax.tree.map(lambda w: w.astype(jnp.float64), TREE))


def said(flat, **changes):
    """The dict with another text about itself."""
    about = {**json.loads(np.asarray(flat["about"]).tobytes()), **changes}
    return {**flat, "about": np.frombuffer(json.dumps(about).encode(), np.uint8)}


def test_what_the_text_says_is_checked():
    tx, params = STATES["adam"]
    flat = jos.state.to_dict(tx.init(params), tx, params)
    about = json.loads(np.asarray(flat["about"]).tobytes())["variables"]

    def refused(flat, words):
        refuse((ValueError, TypeError), words, jos.state.from_dict, flat, tx, params)
        refuse((ValueError, TypeError), words, jos.state.migrate, flat, tx, params)

    refused({**flat, "about": np.frombuffer(b'{"format": ', np.uint8)}, "'about' is no JSON text")
    refused({**flat, "about": np.frombuffer(b"[" * 100_000, np.uint8)}, "'about' is no JSON text")
    refused({**flat, "about": np.ones(3)}, "'about' must be the bytes of a JSON text")
    refused(said(flat, format="other"), "does not say the format 'jaxopt_suite state'")
    refused(said(flat, variables=[]), "does not say the format")
    refused(said(flat, layout=3), "the dict has layout 3, this version of the library reads 2.")
    refused(said(flat, variables={**about, "count": {"slot": 3}}), "what 'about' says of 'count' must be a dict with")
    moved = {**about, "m/head": {**about["m/head"], "parameter": "body"}}
    refused(said(flat, variables=moved), "'m/head' is 'm/body' by what 'about' says of it.")


def test_codes_have_their_scales():
    tx, params = STATES["codes"]
    flat = jos.state.to_dict(tx.init(params), tx, params)
    assert flat["m/head"].dtype == jnp.int8
    assert flat["m_scale/head"].shape == (2, 1)
    take = jos.state.from_dict
    without = {name: x for name, x in flat.items() if name != "m_scale/head"}
    refuse(ValueError, "'m_scale/head' is only among the list in 'about'", take, without, tx, params)
    for wrong in (np.ones((2, 9)), np.ones((3, 1)), np.ones(())):
        refuse(ValueError, "'m/head' must be codes with a scale for each block", take, {**flat, "m_scale/head": wrong},
               tx, params)  # fmt: skip
    refuse(TypeError, "from_dict: 'm/body/kernel' is int8 codes in 1 blocks, in the state it is float32.", take, flat,
           jos.adam(0.1), params)  # fmt: skip


def files(tmp_path):
    tx, params = STATES["adam"]
    flat = jos.state.to_dict(tx.init(params), tx, params)
    for suffix in (".safetensors", ".h5"):
        jos.state.save_dict(tmp_path / f"good{suffix}", flat)
    return flat


@pytest.mark.parametrize("suffix", [".safetensors", ".h5"])
def test_a_cut_file_is_a_sentence(suffix, tmp_path):
    files(tmp_path)
    whole = (tmp_path / f"good{suffix}").read_bytes()
    words = {".safetensors": "is no readable file of safetensors", ".h5": "is no readable HDF5 file"}[suffix]
    for content in (b"", b"\x00" * 7, b"\xff" * 64, whole[:20], whole[: len(whole) // 2], whole[:-1]):
        (tmp_path / f"cut{suffix}").write_bytes(content)
        refuse(ValueError, words, jos.state.load_dict, tmp_path / f"cut{suffix}")
    refuse(FileNotFoundError, "load_dict: there is no file", jos.state.load_dict, tmp_path / f"none{suffix}")


def test_what_a_file_claims_is_checked_before_it_is_read(tmp_path):
    def refused(make, words):
        with h5py.File(tmp_path / "bad.h5", "w") as file:
            file.attrs["format"] = "jaxopt_suite weights"
            make(file)
        refuse(ValueError, words, jos.state.load_dict, tmp_path / "bad.h5")

    huge = lambda file: file.create_dataset("0", shape=(2**40,), dtype="f4", chunks=(1024,))  # noqa: E731
    refused(huge, "'/0' says that it has 4398046511104 bytes, which the file does not hold.")
    files(tmp_path)
    outside = lambda file: file.__setitem__("0", h5py.ExternalLink(str(tmp_path / "good.h5"), "/0"))  # noqa: E731
    refused(outside, "must be an array of numbers in the file itself.")
    refused(lambda file: file.create_group("0"), "must be an array of numbers in the file itself.")
    refused(lambda file: file.create_dataset("0", data=b"text"), "must be an array of numbers in the file itself.")
    refused(lambda file: file.create_dataset("1", data=np.ones(2)), "must be an array of numbers")
    refused(lambda file: file.create_dataset("0", data=np.ones(2)), "is no readable HDF5 file")  # it has no name
    refused(lambda file: file.attrs.__setitem__("format", "x"), "was not written by save_weights or save_dict")


@pytest.mark.parametrize(("dtype", "array"), [("float64", np.zeros(3, np.float32)), ("float16", np.float32(3)),
                                              ("object", np.zeros(2)), ("bool", np.zeros(2, np.int8))])  # fmt: skip
def test_a_dtype_that_the_bytes_are_not_of_is_refused(dtype, array, tmp_path):
    with h5py.File(tmp_path / "state.h5", "w") as h5:
        h5.attrs["format"] = "jaxopt_suite weights"
        h5.create_dataset("0", data=array).attrs.update(name="m/w", dtype=dtype)
    words = f"load_dict: '/0' says that it is {dtype}, the file holds {array.dtype}."
    refuse(ValueError, words, jos.state.load_dict, tmp_path / "state.h5")


@pytest.mark.parametrize("count", [np.int32(-5), np.float32("nan"), np.float32(2.5)])
def test_a_count_that_no_run_has_come_to_is_refused(count):
    tx, params = jos.adam(0.1), {"w": jnp.ones(2)}
    named = {**jos.state.variables(tx.init(params)), "count": count}
    words = "migrate: 'count' must be a number of steps below 2**31, got"
    refuse(ValueError, words, jos.state.migrate, named, tx, params)


def test_files_are_written_whole_or_not_at_all(tmp_path):
    flat = files(tmp_path)
    for suffix in (".safetensors", ".h5"):
        file = tmp_path / f"good{suffix}"
        refuse(FileExistsError, "exists and overwrite is False", jos.state.save_dict, file, flat, overwrite=False)
        before = file.read_bytes()
        bad = {**flat, "bad": np.array(["text"])}
        refuse(
            TypeError, "save_dict: 'bad' must be an array of numbers, got one of <U4.", jos.state.save_dict, file, bad
        )
        assert file.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {"good.safetensors", "good.h5"}
    refuse(ValueError, "save_dict: the file must end with one of ['.safetensors'", jos.state.save_dict, "a.pkl", flat)
    refuse(
        TypeError, "save_dict: expected the dict that to_dict made", jos.state.save_dict, tmp_path / "a.h5", {"x": 1}
    )


@pytest.mark.parametrize("within", [None, ""])
def test_weights_leave_nothing_of_optax_out(within, tmp_path):
    adam = jos.from_optax("adam", learning_rate=0.1)
    for tx in (adam, jos.chain(adam, jos.sgd(0.1)), jos.loss_scale(adam), jos.by_path({"w": adam, "": jos.sgd(0.1)})):
        state = tx.init({"w": jnp.ones(2), "b": jnp.ones(2)})
        sentence = "this state keeps Optax's state too, which would be lost: use jos.state.to_dict."
        for write in (jos.state.get_weights, jos.state.variables):
            refuse(ValueError, f"{write.__name__}: {sentence}", write, state, within=within)
        refuse(ValueError, sentence, jos.state.save_weights, state, tmp_path / "w.h5", within=within)
        refuse(ValueError, sentence, jos.state.save_own_variables, state, {}, within=within)
    beside = jos.chain(adam, jos.adam(0.1)).init({"w": jnp.ones(2)})
    assert list(jos.state.variables(beside, within="adam_2")) == ["count", "learning_rate", "m/w", "v/w"]
    assert len(jos.state.variables(jos.from_optax("scale", step_size=1.0).init({"w": jnp.ones(2)}))) == 1


def test_the_weights_of_what_keeps_nothing(tmp_path):
    state = jos.frozen().init(TREE)
    jos.state.save_weights(state, tmp_path / "w.h5")
    assert jos.state.load_weights(state, tmp_path / "w.h5") == state


def test_about_says_of_which_field_a_slot_is():
    tx = jos.adam(0.1)
    flat = jos.state.to_dict(tx.init(TREE), tx, TREE)
    said = json.loads(flat["about"].tobytes())
    said["variables"]["m/head"]["field"] = "v"
    wrong = {**flat, "about": np.frombuffer(json.dumps(said).encode(), np.uint8)}
    refuse(
        ValueError,
        "from_dict: 'm/head' is 'v' by what 'about' says of its field.",
        jos.state.from_dict,
        wrong,
        tx,
        TREE,
    )


def test_what_has_no_place_is_refused():
    params = {"w": jnp.ones(2)}
    clipped = jos.adam(global_clipnorm=1.0)
    flat = jos.state.to_dict(clipped.init(params), clipped, params)
    with pytest.raises(ValueError, match="from_dict: 'gradient_norm' has no place in this optimizer's state"):
        jos.state.from_dict(flat, jos.adam(), params)
