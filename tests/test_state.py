"""`jos.state`, for every optimizer and inside everything that holds an optimizer's state."""

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from programs import example, same, steps, trajectory
from recorded import library, recording
from rows import CASES, ROWS
from test_conformance import rows

import jaxopt_suite as jos

HOLDERS = {
    "bare": (lambda tx, params: tx.init(params), lambda held: held),
    "chain": (lambda tx, p: optax.chain(optax.identity(), tx).init(p), lambda held: held[1]),
    "MultiSteps": (lambda tx, p: optax.MultiSteps(tx, 2).init(p), lambda held: held.inner_opt_state),
    "masked": (lambda tx, p: optax.masked(tx, True).init(p), lambda held: held.inner_state),
    "apply_if_finite": (lambda tx, p: optax.apply_if_finite(tx, 2).init(p), lambda held: held.inner_state),
    "TrainState": (
        lambda tx, p: TrainState.create(apply_fn=None, params=p, tx=tx),
        lambda held: held.opt_state,
    ),
}
holders = pytest.mark.parametrize("holder", HOLDERS)


def adam(**arguments):
    return jos.adam(**{"learning_rate": 0.1, **arguments})


@holders
def test_everything_inside_every_holder(holder):
    put, get = HOLDERS[holder]
    params, _ = example()
    held = put(adam(global_clipnorm=1.0, amsgrad=True), params)
    assert int(jos.state.iterations(held)) == 0
    assert jos.state.slot_names(held) == ["gradient_norm", "m", "v", "vhat"]
    changed = jos.state.set_learning_rate(held, 0.25)
    assert type(changed) is type(held)
    assert float(jos.state.learning_rate(changed)) == 0.25
    assert float(get(changed).rate["learning_rate"]) == 0.25
    slotted = jos.state.set_slot(held, "dense/bias", "m", np.full(3, 7.0))
    np.testing.assert_array_equal(jos.state.get_slot(slotted, "dense/bias", "m"), 7.0)
    np.testing.assert_array_equal(get(slotted).stages["rule"].m["dense"]["bias"], 7.0)
    cleaned = jos.state.reset(slotted, "bias", held)
    np.testing.assert_array_equal(jos.state.get_slot(cleaned, "dense/bias", "m"), 0.0)
    weights = [w + 1 for w in jos.state.get_weights(held)]
    again = jos.state.get_weights(jos.state.set_weights(held, weights))
    assert all((a == b).all() and a.dtype == b.dtype for a, b in zip(again, weights, strict=True))


def test_inside_nnx_optimizer():
    model = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, adam(), wrt=nnx.Param)
    assert list(jos.state.variables(optimizer)) == [
        *("count", "learning_rate", "m/bias", "m/kernel", "v/bias", "v/kernel"),
    ]
    optimizer.opt_state = jos.state.set_learning_rate(optimizer.opt_state, 0.0)
    before = jnp.copy(model.kernel[...])
    optimizer.update(model, nnx.grad(lambda m: m(jnp.ones((2, 3))).sum())(model))
    np.testing.assert_array_equal(model.kernel[...], before)
    assert int(jos.state.iterations(optimizer)) == 1


@rows("weights")
def test_weights_and_files_round_trip(row, tmp_path):
    params, grads = example()
    tx = row.build()
    _, state = steps(tx, params, grads, 3)
    fresh = tx.init(params)
    for dialect in ("keras", "legacy"):
        weights = jos.state.get_weights(state, dialect)
        assert int(weights[0]) == int(jos.state.iterations(state))
        same(jos.state.set_weights(fresh, weights, dialect).stages, state.stages, 0)
    jos.state.save_weights(state, tmp_path / "w.h5")
    loaded = jos.state.load_weights(fresh, tmp_path / "w.h5")
    same(jax.tree.leaves(loaded), jax.tree.leaves(state._replace(rate=loaded.rate)), 0)
    store: dict = {}
    jos.state.save_own_variables(state, store)
    assert list(store) == [str(i) for i in range(len(store))]
    same(jos.state.load_own_variables(fresh, store).stages, state.stages, 0)


RECORDED_STATES = [
    pytest.param(row, variant, id=variant.reference)
    for row, variant in CASES
    if variant.reference and f"{variant.reference.split('/')[1]}/state" in library(variant.reference.split("/")[0])[0]
]


@pytest.mark.parametrize(("row", "variant"), RECORDED_STATES)
def test_weights_are_in_the_order_of_the_library(row, variant):
    if variant.weights:
        pytest.skip(variant.weights)
    name, slug = variant.reference.split("/")
    record, want = recording(variant.reference), library(name)[0][f"{slug}/state"]
    *_, state = trajectory(row.build(variant), record.params, record.grads, jax.jit)[1]
    dialect = "keras" if name in ("keras3", "tf_keras") else "legacy"
    got = np.concatenate([np.ravel(w).astype(np.float32) for w in jos.state.get_weights(state, dialect)])
    want = without_what_the_library_adds(record.case["variables"], want)
    assert len(got) == len(want)
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


def without_what_the_library_adds(names, flat):
    """The recorded variables without Keras 3's learning rate, which is in our state beside the weights."""
    kept, start = [], 0
    for name, shape in names:
        size = int(np.prod(shape))
        if not name.endswith("/learning_rate"):
            kept.append(flat[start : start + size])
        start += size
    return np.concatenate(kept)


def test_set_learning_rate_never_retraces_and_may_be_traced():
    params, grads = example()
    tx, traces = adam(), 0

    @jax.jit
    def step(params, state, grads):
        nonlocal traces
        traces += 1
        return tx.apply_gradients(grads, state, params)

    state = tx.init(params)
    for rate in (0.1, 0.2, jnp.float32(0.3)):
        state = jos.state.set_learning_rate(state, rate)
        _, after = step(params, state, grads)
    assert traces == 1
    assert float(jos.state.learning_rate(after)) == pytest.approx(0.3)
    rates = jnp.array([0.0, 0.1])
    swept = jax.vmap(lambda r: tx.apply_gradients(grads, jos.state.set_learning_rate(state, r), params)[0])(rates)
    same(jax.tree.map(lambda x: x[0], swept), params)


def test_a_schedule_records_its_rate_and_refuses_another():
    tx = jos.sgd(jos.schedules.exponential_decay(1.0, 1, 0.5))
    _, state = steps(tx, jnp.ones(1), jnp.ones(1), 3)
    assert float(jos.state.learning_rate(state)) == 0.25
    with pytest.raises(TypeError, match="is ruled by a schedule or an array"):
        jos.state.set_learning_rate(state, 0.1)


def refuse(kind, words, function, *args, **kwargs):
    with pytest.raises(kind) as refusal:
        function(*args, **kwargs)
    assert words in str(refusal.value)


def test_bad_questions():
    params, _ = example()
    state = adam().init(params)
    two = optax.chain(adam(), adam()).init(params)
    refuse(ValueError, "several optimizers are in this state; name one with within=", jos.state.learning_rate, two)
    assert float(jos.state.learning_rate(jos.state.set_learning_rate(two, 0.5, within="1"), within="1")) == 0.5
    refuse(ValueError, "no state of ours at '7'; there are ['0', '1']", jos.state.iterations, two, within="7")
    refuse(
        ValueError, "there is no state of a jaxopt_suite optimizer", jos.state.iterations, optax.adam(1).init(params)
    )
    refuse(ValueError, "there is no slot 'mu'; the slots are ['m', 'v']", jos.state.get_slot, state, "scale", "mu")
    refuse(ValueError, "Did you mean 'dense/bias'?", jos.state.get_slot, state, "dense/bais", "m")
    refuse(ValueError, "'m/scale' must have shape (1,), got (2,)", jos.state.set_slot, state, "scale", "m", np.ones(2))
    refuse(TypeError, "'m/scale' must be float32, got int", jos.state.set_slot, state, "scale", "m", np.ones(1, int))
    refuse(ValueError, "expected 11 weights (the count first), got 1", jos.state.set_weights, state, [np.array(1)])
    refuse(ValueError, "no parameter's path matches 'biass'", jos.state.reset, state, "biass", state)
    refuse(ValueError, "rate must be >= 0", jos.state.set_learning_rate, state, -1.0)
    refuse(ValueError, "the norm is only kept where global_clipnorm is set", jos.state.gradient_norm, state)
    refuse(ValueError, "the store must have the keys", jos.state.load_own_variables, state, {"a": 1})
    refuse(ValueError, "dialect must be one of", jos.state.get_weights, state, "keras1")


def test_bad_files(tmp_path):
    params, _ = example()
    state, file = adam().init(params), tmp_path / "w.h5"
    jos.state.save_weights(state, file)
    whole = file.read_bytes()
    refuse(FileExistsError, "exists and overwrite is False", jos.state.save_weights, state, file, overwrite=False)
    assert file.read_bytes() == whole
    refuse(FileNotFoundError, "there is no folder", jos.state.save_weights, state, tmp_path / "no" / "w.h5")
    refuse(FileNotFoundError, "there is no file", jos.state.load_weights, state, tmp_path / "none.h5")
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    refuse(ValueError, "is no readable HDF5 file", jos.state.load_weights, state, tmp_path / "cut.h5")
    (tmp_path / "text.h5").write_text("weights")
    refuse(ValueError, "is no readable HDF5 file", jos.state.load_weights, state, tmp_path / "text.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as foreign:
        foreign["m"] = np.ones(3)
    refuse(ValueError, "was not written by save_weights", jos.state.load_weights, state, tmp_path / "foreign.h5")
    refuse(
        ValueError,
        "'vhat/conv/kernel' is only in the state",
        jos.state.load_weights,
        adam(amsgrad=True).init(params),
        file,
    )
    assert [p.name for p in tmp_path.glob(".w.h5*")] == []


def test_sixteen_bit_slots_survive_a_file(tmp_path):
    state = adam().init({"w": jnp.ones(3)})
    stages = jax.tree.map(lambda s: s.astype(jnp.bfloat16) + 1.5, state.stages)
    state = state._replace(stages=stages)
    jos.state.save_weights(state, tmp_path / "w.h5")
    loaded = jos.state.load_weights(state, tmp_path / "w.h5")
    assert loaded.stages["rule"].m["w"].dtype == jnp.bfloat16
    same(loaded.stages["rule"].m["w"].astype(jnp.float32), jnp.full(3, 1.5))


def test_every_row_has_a_state_of_ours():
    params, _ = example()
    assert all(jos.state.slot_names(row.build().init(params)) is not None for row in ROWS)
