"""What `jos.state` puts into a state stays where the old was, and is nobody else's; Optax, Flax, Orbax and files."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from orbax.checkpoint import v1 as ocp
from programs import same
from test_state import refuse

import jaxopt_suite as jos

LARGE = (16, 256)  # numpy memory of this size is not copied to a CPU device unless one asks


def params():
    return {"bias": jnp.ones(3), "kernel": jnp.ones(LARGE)}


def on_mesh(tree):
    mesh = Mesh(np.array(jax.devices()), ("d",))
    return jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, P("d") if x.shape == LARGE else P())), tree)


PLACES = {
    "anywhere": lambda tree: jax.tree.map(jnp.copy, tree),
    "one device": lambda tree: jax.device_put(tree, jax.devices()[3]),
    "a mesh": on_mesh,
}


def aligned(array):
    """A copy in numpy memory that a CPU device would use as it is."""
    memory = np.zeros(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copied = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copied[...] = array
    return copied


def edits(state, fresh, file):
    """Functions that put something into a state, and what is handed in."""
    weights = [aligned(w) for w in jos.state.get_weights(state)]
    rate = jax.device_put(jnp.float32(0.25), jax.devices()[5])
    value = jnp.full(LARGE, 2.0)
    jos.state.save_weights(state, file)
    yield (lambda s: jos.state.set_weights(s, weights)), weights
    yield (lambda s: jos.state.load_own_variables(s, {str(i): w for i, w in enumerate(weights)})), weights
    yield (lambda s: jos.state.load_weights(s, file)), []
    yield (lambda s: jos.state.set_learning_rate(s, 0.5)), []
    yield (lambda s: jos.state.set_learning_rate(s, rate)), [rate]
    yield (lambda s: jos.state.set_slot(jos.state.set_slot(s, "kernel", "m", value), "kernel", "v", value)), [value]
    yield (lambda s: jos.state.set_slot(s, "kernel", "m", jax.device_put(value, jax.devices()[6]))), [value]
    yield (lambda s: jos.state.reset(s, "kernel", fresh)), jax.tree.leaves(fresh)


@pytest.mark.parametrize("place", PLACES)
def test_what_is_put_in_is_a_copy_in_the_place_of_the_old(place, tmp_path):
    tx, put = jos.adam(0.1), PLACES[place]
    step = jax.jit(lambda p, s, g: tx.apply_gradients(g, s, p), donate_argnums=(0, 1))
    grads = put(jax.tree.map(lambda w: 0.5 * w, params()))
    held, state = put((params(), tx.init(params())))
    held, state = step(*step(held, state, grads), grads)
    compiled = step._cache_size()
    before = jax.tree.map(lambda x: (x.sharding, x.committed, x.dtype, x.weak_type), state)
    for edit, handed_in in edits(state, put(tx.init(params())), tmp_path / "w.h5"):
        kept = [np.array(x) for x in handed_in]
        state = edit(state)
        assert jax.tree.map(lambda x: (x.sharding, x.committed, x.dtype, x.weak_type), state) == before
        copy = jax.tree.map(np.array, state)
        for memory in handed_in:
            if isinstance(memory, np.ndarray):
                memory[...] = 0
        jax.tree.map(np.testing.assert_array_equal, state, copy)
        for memory, value in zip(handed_in, kept, strict=True):
            if isinstance(memory, np.ndarray):
                memory[...] = value
        held, state = step(held, state, grads)
        for array, value in zip(handed_in, kept, strict=True):
            np.testing.assert_array_equal(array, value)
    assert step._cache_size() == compiled


def test_a_weak_type_and_a_narrow_dtype_stay():
    tx = jos.sgd(0.5, momentum=0.5)
    state = tx.init(params())
    weak = state._replace(rate={"learning_rate": jnp.asarray(0.5)})
    for put in PLACES.values():
        state = put(weak)
        rate = state.rate["learning_rate"]
        new = jos.state.set_learning_rate(state, np.float64(0.25)).rate["learning_rate"]
        assert (float(new), new.weak_type, new.dtype) == (0.25, True, rate.dtype)
        assert (new.sharding, new.committed) == (rate.sharding, rate.committed)
    narrow = weak._replace(stages=jax.tree.map(lambda x: x.astype(jnp.bfloat16), weak.stages))
    (name,) = jos.state.slot_names(narrow)
    assert jos.state.get_slot(jos.state.set_slot(narrow, "bias", name, [1, 2.5, 3.0]), "bias", name).dtype == "bfloat16"


def test_inside_a_trace_and_over_a_stack():
    tx, w = jos.adam(0.1), params()
    state = tx.init(w)
    put = jax.jit(lambda s, x: jos.state.reset(jos.state.set_slot(s, "kernel", "m", x), "bias", tx.init(w)))
    same(put(state, w["kernel"]).stages["rule"].m["kernel"], w["kernel"])
    stack = jax.vmap(lambda x: jos.state.set_slot(state, "kernel", "m", x))(jnp.stack([w["kernel"]] * 2))
    assert stack.stages["rule"].m["kernel"].shape == (2, *LARGE)


def test_what_fits_a_stack_of_states():
    stack = jax.vmap(lambda w: jos.sgd(0.1).init(w))(jnp.ones((4, 2)))
    assert jos.state.set_learning_rate(stack, 0.5).rate["learning_rate"].tolist() == [0.5] * 4


def test_reset_asks_for_a_state_of_the_same_optimizer():
    fresh = jos.sgd(0.1, momentum=0.9).init(params())
    words = "reset: fresh must be a state of the same optimizer: it has no 'v/bias'."
    refuse(ValueError, words, jos.state.reset, jos.adam().init(params()), "bias", fresh)
    other = jos.adam().init({"bias": jnp.ones(4)})
    refuse(
        ValueError, "reset: 'm/bias' must have shape (3,)", jos.state.reset, jos.adam().init(params()), "bias", other
    )


def test_optax_reads_and_sets_the_rate():
    w, g = {"a": jnp.ones(2)}, {"a": jnp.ones(2)}
    for tx in (
        jos.sgd(0.1),
        optax.chain(optax.identity(), jos.sgd(0.1)),
        jos.chain(jos.transforms.clip_by_value(1.0), jos.sgd(0.1)),
        jos.by_path({"": jos.sgd(0.1)}),
        optax.inject_hyperparams(jos.sgd)(learning_rate=0.1),
    ):
        state = tx.init(w)
        assert float(optax.tree.get(state, "learning_rate")) == pytest.approx(0.1)
        for _ in range(2):
            state = optax.tree.set(state, learning_rate=0.5)
            updates, state = tx.update(g, state, w)
            same(updates, {"a": jnp.full(2, -0.5)})
        assert float(optax.tree.get(state, "learning_rate")) == 0.5
    state = optax.inject_hyperparams(jos.adam)(learning_rate=0.1).init(w)
    assert float(optax.tree.get(state, "learning_rate")) == pytest.approx(0.1)
    tx = jos.sgd(jos.schedules.exponential_decay(1.0, 1, 0.5))
    state = tx.update(g, tx.update(g, tx.init(w))[1])[1]
    assert float(optax.tree.get(state, "learning_rate")) == 0.5


def test_a_line_search_keeps_its_value():
    def loss(p):
        return jnp.sum((p["a"] - 3.0) ** 2)

    search = optax.scale_by_backtracking_linesearch(5, store_grad=True)  # what value_and_grad_from_state reads
    tx, w = optax.chain(jos.sgd(1.0), search), {"a": jnp.ones(2)}
    state, evaluate = tx.init(w), optax.value_and_grad_from_state(loss)
    for _ in range(3):
        value, grad = evaluate(w, state=state)
        updates, state = tx.update(grad, state, w, value=value, grad=grad, value_fn=loss)
        w = optax.apply_updates(w, updates)
    assert float(optax.tree.get(state, "value")) == float(loss(w)) < 1.0


def test_a_file_has_the_mode_of_a_plain_one(tmp_path):
    state, file = jos.sgd().init(params()), tmp_path / "w.h5"
    for mask in (0o022, 0o077, 0o002):
        old = os.umask(mask)
        try:
            jos.state.save_weights(state, tmp_path / f"{mask}.h5")
        finally:
            os.umask(old)
        assert (tmp_path / f"{mask}.h5").stat().st_mode & 0o777 == 0o666 & ~mask
    file.touch()
    file.chmod(0o640)
    jos.state.save_weights(state, file)
    assert file.stat().st_mode & 0o777 == 0o640
    assert not [*tmp_path.glob(".*")]


def test_a_restored_state_is_asked_like_any_other(tmp_path):
    tx, w = jos.adam(0.1), on_mesh(params())
    state = tx.update(w, tx.init(w), w)[1]
    ocp.save(tmp_path / "state", {"step": jnp.int32(1), "opt": state})
    again = ocp.load(tmp_path / "state", {"step": jnp.int32(0), "opt": on_mesh(tx.init(w))})
    assert [*jos.state.variables(again)] == [*jos.state.variables(state)]
    same(jos.state.get_slot(again, "kernel", "m"), jos.state.get_slot(state, "kernel", "m"), 0)
    jos.state.save_weights(again, tmp_path / "w.h5")
    loaded = jos.state.load_weights(again, tmp_path / "w.h5")
    same(loaded["opt"], state, 0)
    assert loaded["opt"].stages["rule"].m["kernel"].sharding == again["opt"].stages["rule"].m["kernel"].sharding


class Net(nnx.Module):
    def __init__(self):
        self.value = nnx.Param(jnp.ones(3))
        self.layers = nnx.List([nnx.Linear(3, 2, rngs=nnx.Rngs(0))])


def test_after_steps_of_nnx():
    model = Net()
    optimizer = nnx.Optimizer(model, jos.adam(0.1), wrt=nnx.Param)
    grads = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    optimizer.update(model, grads)
    assert int(jos.state.iterations(optimizer)) == 1
    assert jos.state.get_slot(optimizer, "layers/0/kernel", "m").shape == (3, 2)
    assert jos.state.get_slot(optimizer, "value", "m").shape == (3,)
    assert float(jnp.abs(jos.state.variables(optimizer)["m/value"]).min()) > 0
    changed = jos.state.set_learning_rate(jos.state.set_slot(optimizer, "value", "m", np.zeros(3)), 0.0)
    assert type(changed) is nnx.Optimizer
    before = jnp.copy(model.value[...])
    changed.update(model, grads)
    same(model.value[...], before, 0)
    assert int(jos.state.iterations(changed)) == 2
    weights = jos.state.get_weights(changed)
    same(jos.state.get_weights(jos.state.set_weights(optimizer, weights)), weights, 0)
    fresh = jos.adam().init(nnx.state(model, nnx.Param))
    assert float(jnp.abs(jos.state.get_slot(jos.state.reset(optimizer, "value", fresh), "value", "m")).max()) == 0
