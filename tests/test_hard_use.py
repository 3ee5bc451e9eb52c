"""What hard use found: gates in chains, states of another kind, donation, types of shard_map, what compiles again."""

import os
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from programs import example, same, steps
from rows import ROWS
from test_conformance import FEW, rows
from test_groups import compositions

import jaxopt_suite as jos

accumulate, dynamic = jos.transforms.accumulate, jos.transforms.unscale_dynamically


# updates and their dtype


@rows("dtypes", few=True)
def test_sixteen_bit_gradients_lose_nothing(row):
    """With float32 parameters and bfloat16 gradients `update` and `apply_gradients` agree."""
    params, grads = example()
    tx, grads = row.build(), jax.tree.map(lambda g: g.astype(jnp.bfloat16), grads)
    state = tx.init(params)
    updates, _ = tx.update(grads, state, params)
    assert {u.dtype.name for u in jax.tree.leaves(updates)} == {"float32"}
    same(optax.apply_updates(params, updates), tx.apply_gradients(grads, state, params)[0], 1e-6)


# gates


@pytest.mark.parametrize(
    ("chained", "whole"),
    [
        (jos.chain(accumulate(2), jos.adam(0.1)), jos.adam(0.1, gradient_accumulation_steps=2)),
        (
            jos.chain(jos.chain(accumulate(2), jos.sgd(0.1, momentum=0.9)), jos.transforms.ema(0.5)),
            jos.sgd(0.1, momentum=0.9, gradient_accumulation_steps=2, use_ema=True, ema_momentum=0.5),
        ),
        (
            jos.chain(jos.adam(0.1), gradient_accumulation_steps=2, global_clipnorm=0.5),
            jos.adam(0.1, gradient_accumulation_steps=2, global_clipnorm=0.5),
        ),
        (
            jos.swa(jos.by_path({"": jos.adam(0.1)}, gradient_accumulation_steps=2), average_period=1),
            jos.swa(jos.adam(0.1, gradient_accumulation_steps=2), average_period=1),
        ),
        (
            jos.lookahead(jos.chain(jos.adam(0.1, gradient_accumulation_steps=2)), sync_period=2),
            jos.lookahead(jos.adam(0.1, gradient_accumulation_steps=2), sync_period=2),
        ),
        (
            jos.by_path({"": jos.adam(0.1)}, gradient_accumulation_steps=2, global_clipnorm=0.5, use_ema=True),
            jos.adam(0.1, gradient_accumulation_steps=2, global_clipnorm=0.5, use_ema=True),
        ),
    ],
    ids=lambda tx: repr(tx)[:60],
)
def test_a_gate_holds_everything_behind_it(chained, whole):
    params, grads = example()
    runs = [jax.jit(lambda p, tx=tx: micro_steps(tx, p, grads))(params) for tx in (chained, whole)]
    same(*runs, 1e-6)


def micro_steps(tx, params, grads):
    """The parameters, and what they are evaluated with, after each of five micro-steps."""
    state, out = tx.init(params), []
    for i in range(5):
        params, state = tx.apply_gradients(jax.tree.map(lambda g, i=i: g * (1.0 + i), grads), state, params)
        out.append((params, tx.finalize_variable_values(state, params)))
    return out


def test_a_check_for_finite_values_holds_everything_behind_it():
    params, grads = example()
    tx = jos.chain(dynamic(8.0), jos.adam(0.1), jos.transforms.ema(0.5))
    after, state = tx.apply_gradients(grads, tx.init(params), params)
    held, kept = tx.apply_gradients(jax.tree.map(lambda g: g * jnp.inf, grads), state, after)
    same(held, after, 0)
    members = state.stages["members"]
    for name in ("adam", "ema"):
        same(kept.stages["members"][name], members[name], 0)
    assert int(jos.state.iterations(kept, within="adam")) == 1


def test_what_cannot_be_held_is_refused():
    groups = jos.by_path({"bias": jos.sgd(gradient_accumulation_steps=2), "": jos.adam()})
    for make in (
        lambda: jos.swa(groups),
        lambda: jos.by_path({"bias": jos.sgd(gradient_accumulation_steps=2), "": jos.adam()}, global_clipnorm=1.0),
        lambda: jos.chain(groups, jos.sgd(1.0)),
    ):
        with pytest.raises(ValueError, match="give gradient_accumulation_steps to"):
            make()
    jos.chain(jos.transforms.unscale(2.0), groups)  # nothing stands behind


@pytest.mark.parametrize("before", [8, 4])
def test_counters_that_are_worn_out_or_of_another_setting_go_on(before):
    w = jnp.zeros(2)
    long, short = (jos.sgd(1.0, gradient_accumulation_steps=n) for n in (before, 4))
    state = long.init(w)
    for _ in range(before - 2):
        _, state = long.apply_gradients(jnp.ones(2), state, w)
    moved = [w]
    for _ in range(3):
        w, state = short.apply_gradients(jnp.ones(2), state, moved[-1])
        moved.append(w)
    np.testing.assert_allclose(moved[-1], -1.0)  # a mean of ones, however many there were
    scale = dynamic(8.0, dynamic_growth_steps=2)
    state = scale.init(w)
    kept = state.stages["unscale_dynamically"]
    worn = state._replace(stages={"unscale_dynamically": kept._replace(finite_steps=jnp.int32(90))})
    assert float(scale.update(w, worn)[1].stages["unscale_dynamically"].scale) == 16.0


@pytest.mark.parametrize(("bad", "bound"), [(jnp.nan, 1.0), (1.0, float(np.finfo(np.float32).max / 2))])
def test_a_dynamic_scale_has_bounds(bad, bound):
    tx = dynamic(8.0, dynamic_growth_steps=1)

    def step(state, _):
        return tx.update(jnp.full(2, bad), state)[1], None

    state = jax.jit(lambda s: jax.lax.scan(step, s, None, 300)[0])(tx.init(jnp.zeros(2)))
    assert float(state.stages["unscale_dynamically"].scale) == bound
    assert np.isfinite(tx.update(jnp.ones(2), state)[0]).all()


def test_a_gradient_that_is_missing_at_the_boundary_counts():
    tx = jos.sgd(1.0, gradient_accumulation_steps=2, weight_decay=0.1)
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    state = tx.init(params)
    for a in (jnp.full(2, 4.0), None):
        params, state = tx.apply_gradients({"a": a, "b": jnp.ones(2)}, state, params)
    np.testing.assert_allclose(params["a"], 1 - 2.0 - 0.1, rtol=1e-6)
    before = params["a"]
    for _ in range(2):
        params, state = tx.apply_gradients({"a": None, "b": jnp.ones(2)}, state, params)
    np.testing.assert_array_equal(params["a"], before)  # none at all: neither moved nor decayed


# states of another kind


def test_states_of_another_kind_of_rate_are_refused():
    w = jnp.ones(2)
    kinds = [jos.sgd(0.5), jos.sgd(jos.schedules.cosine_decay(0.1, 10)), jos.sgd(jnp.float32(0.1))]
    for tx in kinds:
        for other in kinds:
            if tx is not other:
                with pytest.raises(ValueError, match="sgd: the state is of an optimizer whose learning rate"):
                    tx.update(w, other.init(w), w)


@pytest.mark.parametrize(
    ("tx", "other"),
    [
        (jos.adam(), jos.adam(amsgrad=True)),
        (jos.rmsprop(), jos.rmsprop(momentum=0.9)),
        (jos.rmsprop(), jos.rmsprop(centered=True)),
        (jos.sgd(), jos.sgd(momentum=0.9)),
        (jos.yogi(), jos.yogi(beta_1=0.0)),
        (jos.adam(), jos.adam(use_ema=True)),
    ],
    ids=repr,
)
def test_states_of_another_setting_get_a_sentence(tx, other):
    w = {"w": jnp.ones((2, 2))}
    for a, b in ((tx, other), (other, tx)):
        with pytest.raises(ValueError, match=r"the state is of another (setting|optimizer)"):
            a.update(w, b.init(w), w)


# donation


def large(tx):
    return jax.jit(lambda p, s, g: tx.apply_gradients(g, s, p), donate_argnums=(0, 1))


EACH = [pytest.param(row.build(), marks=[] if row.name in FEW else pytest.mark.slow) for row in ROWS]


@pytest.mark.parametrize("tx", [*EACH, *compositions(), jos.adam(use_ema=True)], ids=repr)
def test_a_state_that_was_just_made_can_be_donated(tx):
    params, grads = example()
    buffers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((params, tx.init(params))) if x.size]
    assert len({*buffers}) == len(buffers)
    step = large(tx)
    for init in (tx.init, jax.jit(tx.init)):
        params, _ = example()
        after, state = step(params, init(params), grads)
        after, state = step(after, state, grads)
        assert all(np.isfinite(w).all() for w in jax.tree.leaves(after))
    params, _ = example()
    jax.jit(lambda p, g: tx.apply_gradients(g, tx.init(p), p)[0], donate_argnums=(0,))(params, grads)


def test_slots_do_not_alias_numpy_arrays():
    w = np.ones(3, np.float32)
    tx = jos.adam(use_ema=True)
    state = tx.init({"w": w})
    w += 5
    np.testing.assert_array_equal(jos.state.get_slot(state, "w", "average"), 1.0)


# types of shard_map


@pytest.mark.parametrize("op", ["sum", "mean"])
@pytest.mark.parametrize("checked", [True, False])
def test_a_gradient_that_is_summed_is_not_summed_again(op, checked):
    mesh, x, w = Mesh(np.array(jax.devices()), ("d",)), jnp.arange(8.0), jnp.array(2.0)
    tx = jos.sgd(1.0, axis_name="d", axis_op=op)

    def step(w, x):
        return tx.update(jax.grad(lambda w: jnp.mean(w * x))(w), tx.init(w), w)[0]

    mapped = jax.jit(jax.shard_map(step, mesh=mesh, in_specs=(P(), P("d")), out_specs=P(), check_vma=checked))
    if checked and op == "mean":
        with pytest.raises(ValueError, match="take the mean of the loss over the axis"):
            mapped(w, x)
    else:
        assert float(mapped(w, x)) == (-28.0 if op == "sum" else -3.5)


# frozen parameters, and what a tree may hold


def test_frozen_parameters_are_no_part_of_anything():
    tx = jos.by_path(
        {"frozen": jos.frozen(), "": jos.sgd(1.0)}, global_clipnorm=1.0, use_ema=True, gradient_accumulation_steps=2
    )
    params = {"frozen": {"int": jnp.arange(3), "key": jax.random.key(0), "nan": jnp.ones(2)}, "w": jnp.zeros(2)}
    grads = {"frozen": {"int": None, "key": None, "nan": jnp.full(2, jnp.nan)}, "w": jnp.array([3.0, 4.0])}
    state = tx.init(params)
    for _ in range(2):
        params, state = jax.jit(tx.apply_gradients)(grads, state, params)
    np.testing.assert_allclose(params["w"], [-0.6, -0.8], rtol=1e-6)
    assert float(jos.state.gradient_norm(state)) == 5.0
    np.testing.assert_array_equal(params["frozen"]["int"], jnp.arange(3))
    assert {*jos.state.variables(state, within="")} == {
        "count", "micro_step", "accumulator/w", "average/w", "gradient_norm"
    }  # fmt: skip
    evaluated = tx.finalize_variable_values(state, params)
    np.testing.assert_array_equal(evaluated["frozen"]["nan"], params["frozen"]["nan"])
    assert tx.explain(params).totals()["parameters"] == 4
    updates, _ = tx.update(grads, state, params)
    assert updates["frozen"]["int"].tolist() == [0, 0, 0]


def test_init_from_shapes():
    shapes = {"w": jax.ShapeDtypeStruct((2, 3), jnp.bfloat16)}
    same(jos.adam().init(shapes), jos.adam().init({"w": jnp.ones((2, 3), jnp.bfloat16)}), 0)
    with pytest.raises(TypeError, match="a slot starts from the parameter at 'w': init needs the array"):
        jos.adam(use_ema=True).init(shapes)


def test_patterns_that_match_nothing_are_named():
    params = {"dense": {"bias": jnp.ones(2), "kernel": jnp.ones((2, 2))}}
    tx = jos.adamw(exclude_from_weight_decay="baias")
    sentence = "exclude_from_weight_decay: 'baias' matches no parameter; the nearest is 'dense/bias'"
    for one in (tx, jos.lookahead(tx), jos.chain(tx), jos.by_path({"kernel": tx, "": jos.sgd()})):
        with pytest.warns(UserWarning, match=sentence) as caught:
            one.init(params)
        assert len(caught) == 1
        assert sentence in repr(one.explain(params))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jos.by_path({"kernel": jos.adamw(exclude_from_weight_decay="kernel"), "": jos.sgd()}).init(params)
        optax.masked(tx, {"dense": {"bias": True, "kernel": False}}).init(params)
        jos.adamw(exclude_from_weight_decay="bias").init(params)


def test_optax_s_own_name_for_the_gradients():
    w = jnp.ones(2)
    tx = jos.sgd(1.0)
    same(tx.update(updates=w, state=tx.init(w), params=w)[0], -w)


# what compiles


@pytest.fixture
def compiled():
    """How many programs each of three calls compiles."""
    seen = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: seen.append(name))

    def count(call):
        counts = []
        for _ in range(3):
            before = sum("backend_compile" in name for name in seen)
            call()
            counts.append(sum("backend_compile" in name for name in seen) - before)
        return counts

    yield count
    jax.monitoring.clear_event_listeners()


def test_nothing_compiles_after_the_first_call(compiled):
    params, grads = example()
    tx = jos.adam(0.1, global_clipnorm=1.0)
    state = tx.init(params)
    plain = jos.adam(0.1, jit_compile=False, gradient_accumulation_steps=2)
    held = plain.init(params)
    batch = jax.tree.map(lambda g: jnp.stack([g, g]), grads)
    injected = optax.inject_hyperparams(jos.adam)(learning_rate=0.1)
    inside = injected.init(params)
    total = lambda g: sum(u.sum() for u in jax.tree.leaves(tx.update(g, state, params)[0]))  # noqa: E731
    calls = {
        "eager": lambda: tx.update(grads, state, params),
        "rebuilt": lambda: jos.adam(0.1, global_clipnorm=1.0).update(grads, state, params),
        "jit_compile=False": lambda: plain.update(grads, held, params),
        "vmap": lambda: jax.vmap(lambda g: tx.update(g, state, params)[0])(batch),
        "grad": lambda: jax.grad(total)(grads),
        "inject_hyperparams": lambda: injected.update(grads, inside, params),
        "an array": lambda: jos.adam(jnp.float32(0.1)).update(grads, jos.adam(jnp.float32(0.1)).init(params), params),
    }
    counts = {name: compiled(call) for name, call in calls.items()}
    assert {name: count[1:] for name, count in counts.items()} == {name: [0, 0] for name in calls}


LOWER = """
import jax, jax.numpy as jnp, jaxopt_suite as jos
jax.config.update("jax_enable_x64", True)
params = {"a": jnp.ones(2, jnp.float32), "b": jnp.ones(3, jnp.float64), "c": jnp.ones(3, jnp.bfloat16)}
tx = jos.by_path({"a": jos.nadam(global_clipnorm=1.0), "": jos.adamw(exclude_from_weight_decay=["a", "b"])})
tx = jos.chain(jos.nadam(), tx)
print(jax.jit(tx.apply_gradients).lower(params, tx.init(params), params).as_text())
"""


def test_what_is_lowered_does_not_depend_on_the_hash_seed():
    texts = set()
    for seed in ("0", "1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", LOWER], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        texts.add(done.stdout)
    assert len(texts) == 1


def test_a_composition_compiles_as_its_members_do():
    assert not jos.by_path({"": jos.adam(jit_compile=False)}).line.compiles
    assert not jos.chain(jos.adam(jit_compile=False)).line.compiles
    assert not jos.chain(jos.adam(), jit_compile=False).line.compiles
    assert jos.chain(jos.adam()).line.compiles


def test_explain_stays_narrow():
    schedule = jos.schedules.cosine_decay(1e-3, 10_000, warmup_target=0.1, warmup_steps=100)
    params = {"a" * 40: {"b" * 40: {"c" * 40: jnp.ones((3, 4))}}}
    shown = repr(jos.by_path({"a": jos.adamw(schedule, weight_decay=0.1)}, global_clipnorm=1.0).explain(params))
    assert max(map(len, shown.splitlines())) < 120
    assert shown.count("warmup_steps=100") == 1


def test_injected_momentum_has_a_slot_only_where_it_is_asked_for():
    params, _ = example()
    for make in (jos.sgd, jos.rmsprop):
        inner = optax.inject_hyperparams(make)(learning_rate=0.1).init(params).inner_state
        assert {*jos.state.slot_names(inner)} == {*jos.state.slot_names(make().init(params))}
        asked = optax.inject_hyperparams(make)(learning_rate=0.1, momentum=0.9).init(params).inner_state
        assert "m" in jos.state.slot_names(asked)


def test_steps_are_counted_once():
    params, grads = example()
    _, state = steps(jos.chain(accumulate(2), jos.sgd(0.1)), params, grads, 4)
    assert int(jos.state.iterations(state)) == 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_schedule_free_finds_its_average_again_in_sixteen_bits(dtype):
    tx, w = jos.schedule_free_adamw(0.01), {"16": jnp.zeros(2, dtype), "32": jnp.zeros(2)}

    def step(carry, _):
        w, state = carry
        return tx.apply_gradients(jax.tree.map(lambda w: w - 1, w), state, w), None

    w, state = jax.jit(lambda w: jax.lax.scan(step, (w, tx.init(w)), None, 2000)[0])(w)
    final = tx.finalize_variable_values(state, w)
    assert final["16"].dtype == dtype
    same(
        jax.tree.map(lambda x: x.astype(jnp.float32), (w, final)),
        ({"16": 1.0 * jnp.ones(2), "32": jnp.ones(2)},) * 2,
        5e-3,
    )


def test_what_a_composition_keeps_is_not_lost_in_a_file(tmp_path):
    params, _ = example()
    tx = jos.by_path({"bias": jos.frozen(), "": jos.adam()}, use_ema=True, gradient_accumulation_steps=2)
    state = tx.init(params)
    for call in (jos.state.get_weights, lambda state: jos.state.save_weights(state, tmp_path / "w.h5")):
        with pytest.raises(ValueError, match=r"keeps \['accumulate', 'ema'\] too, which would be lost"):
            call(state)
    jos.state.save_weights(state, tmp_path / "w.h5", within="")
    assert "micro_step" in jos.state.variables(state, within="")


def test_a_state_of_another_composition_gets_a_sentence():
    params, grads = example()
    one, two = (jos.by_path({pattern: jos.sgd(), "": jos.adam()}) for pattern in ("bias", "kernel"))
    with pytest.raises(ValueError, match="by_path: the state is of another composition: it has the members"):
        one.update(grads, two.init(params), params)


def test_an_axis_that_is_not_there_gets_a_sentence():
    tx, w = jos.sgd(axis_name="nowhere"), jnp.ones(2)
    with pytest.raises(ValueError, match="axis_name must be an axis of the pmap or shard_map around, got 'nowhere'"):
        tx.update(w, tx.init(w), w)


def test_a_checkpoint_is_read_whatever_else_is_switched_on(tmp_path):
    """By orbax's partial restore: into the stages that a template shares with it."""
    params, grads = example()
    _, state = steps(jos.adam(use_ema=True), params, grads, 2)
    checkpointer = ocp.PyTreeCheckpointer()
    checkpointer.save(tmp_path / "state", state)
    arguments = ocp.args.PyTreeRestore(
        item=jos.adam().init(params),
        restore_args=ocp.checkpoint_utils.construct_restore_args(jos.adam().init(params)),
        partial_restore=True,
    )
    read = ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).restore(tmp_path / "state", args=arguments)
    same(read.stages["rule"].m, state.stages["rule"].m, 0)
    same(jos.adam().update(grads, read, params)[0], jos.adam(use_ema=True).update(grads, state, params)[0])


def test_frozen_parameters_inside_of_anything_get_zero():
    tx = jos.by_path({".*": jos.frozen()})
    w = {"a": jnp.ones(2), "b": jnp.ones(3)}
    state = tx.init(w)
    assert not any(np.asarray(u).any() for u in jax.tree.leaves(tx.update(w, state, w)[0]))
    inner = jos.by_path({"a": jos.frozen(), "": jos.sgd(1.0)})
    nested = jos.by_path({"a|b": inner}, global_clipnorm=1.0)
    flat = jos.by_path({"a": jos.frozen(), "": jos.sgd(1.0)}, global_clipnorm=1.0)
    grads = {"a": jnp.full(2, jnp.nan), "b": jnp.array([3.0, 4.0, 0.0])}
    same(nested.update(grads, nested.init(w), w)[0], flat.update(grads, flat.init(w), w)[0], 0)
    whole = {"a": jnp.arange(3), "b": jnp.ones(3)}
    jax.jit(nested.apply_gradients)({**grads, "a": None}, nested.init(whole), whole)


def test_what_is_released_late_goes_through_compositions():
    member = jos.sgd(1.0, gradient_accumulation_steps=2)
    w, g = {"a": jnp.zeros(2), "b": jnp.zeros(2)}, {"a": jnp.ones(2), "b": jnp.ones(2)}
    for tx in (member, jos.chain(member), jos.by_path({".*": member}), jos.by_path({"a": member, "": member})):
        state, moved = tx.init(w), w
        for gradient in (g, {**g, "a": None}, g, g):
            moved, state = tx.apply_gradients(gradient, state, moved)
        same(moved, {"a": jnp.full(2, -1.5), "b": jnp.full(2, -2.0)}, 0)


def test_groups_that_hold_back_are_refused_at_any_depth():
    inner = jos.by_path({"a": jos.sgd(gradient_accumulation_steps=2), "": jos.sgd()})
    for make in (
        lambda: jos.by_path({"": inner}, use_ema=True),
        lambda: jos.lookahead(jos.by_path({"": inner})),
        lambda: jos.chain(jos.by_path({"": inner}), jos.sgd()),
    ):
        with pytest.raises(ValueError, match="give gradient_accumulation_steps to"):
            make()
