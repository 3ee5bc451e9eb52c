"""Every property, for every row of the table."""

import inspect
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from programs import example, quick, same, stacked, steps, trajectory
from recorded import EXAMPLE, error, nested, recording
from rows import CASES, ROWS, case_name, long_ones_marked

import jaxopt_suite as jos

RECORDED = long_ones_marked((row, variant) for row, variant in CASES if variant.reference)
BAD = [(row, arguments, words) for row in ROWS for arguments, words in row.bad]
COMMON_BAD = [
    ({"learning_rate": -1.0}, "learning_rate must be >= 0, got -1.0."),
    ({"learning_rate": "fast"}, "learning_rate must be a number >= 0, got 'fast'."),
    ({"learning_rate": float("nan")}, "learning_rate must be >= 0, got nan. It must be finite."),
    ({"learning_rate": jnp.ones(2)}, "An array must be a scalar, this one has shape (2,)."),
    ({"learning_rate": lambda: 0.1}, "a callable without arguments"),
    ({"learning_rate": 0.1, "lr": 0.1}, "lr is another name of learning_rate; give one of them, not both."),
    ({"clipnorm": 0.0}, "clipnorm must be > 0, got 0.0."),
    ({"clipnorm": 1.0, "clipvalue": 1.0, "dialect": "keras"}, "only one of clipnorm, clipvalue and global_clipnorm"),
    ({"clipnorm": 1.0, "global_clipnorm": 1.0, "dialect": "legacy"}, "clipnorm and global_clipnorm cannot both be set"),
    ({"weight_decay": -1.0}, "weight_decay must be >= 0, got -1.0."),
    ({"exclude_from_weight_decay": "("}, "got '('. '(' is no regular expression"),
    ({"exclude_from_weight_decay": 3}, "exclude_from_weight_decay must be a regular expression or a list of them"),
    ({"use_ema": True, "ema_momentum": 1.1}, "ema_momentum must be in [0, 1], got 1.1."),
    ({"use_ema": True, "ema_overwrite_frequency": 0}, "ema_overwrite_frequency must be an integer >= 1, got 0."),
    ({"ema_overwrite_frequency": 3}, "ema_overwrite_frequency acts only with use_ema=True."),
    ({"gradient_accumulation_steps": 1}, "gradient_accumulation_steps must be an integer >= 2, got 1."),
    ({"gradient_accumulation_steps": jnp.int32(2)}, "so it must be a Python value"),
    ({"loss_scale_factor": -2.0}, "loss_scale_factor must be > 0, got -2.0."),
    ({"decay": -0.1}, "decay must be >= 0, got -0.1."),
    ({"axis_op": "max"}, "axis_op must be one of 'sum', 'mean', got 'max'."),
    (
        {"axis_dtype": "bf16"},
        "axis_dtype must be one of 'bfloat16', 'float16', 'float32', got 'bf16'. Did you mean 'bf",
    ),
    ({"axis_dtype": "bfloat16"}, "axis_dtype acts only with axis_name."),
    ({"shard_axes": {"kernel": "model"}}, "For 'model', write ('model',)."),
    ({"dialect": "legcy"}, "dialect must be one of 'keras', 'legacy', 'torch', got 'legcy'. Did you mean 'legacy'?"),
    ({"jit_compile": "yes"}, "jit_compile must be True or False, got 'yes'."),
    ({"clip_norm": 1.0}, "there is no argument 'clip_norm'. Did you mean 'clipnorm'?"),
]


# the rows that stand for the others where each takes seconds; those run too, but not first
FEW = {"sgd", "adam", "lamb", "muon", "novograd", "lookahead"}


def rows(prop="", few=False):
    """All rows; one that is exempt from a property is skipped with its reason. With `few`, most of them are slow."""

    def marks(row):
        skipped = [pytest.mark.skip(reason=row.exempt[prop])] if prop in row.exempt else []
        return [*skipped, pytest.mark.slow] if few and row.name not in FEW else skipped

    return pytest.mark.parametrize("row", [pytest.param(row, marks=marks(row), id=row.name) for row in ROWS])


def params_of(row):
    return inspect.signature(row.make).parameters


@pytest.mark.parametrize(("row", "variant"), RECORDED, ids=case_name)
def test_recorded_trajectory(row, variant):
    record = recording(variant.reference)
    tx = row.build(variant)
    got, states = trajectory(tx, record.params, record.grads, jax.jit)
    errors = jax.tree.map(error, stacked(got), record.trajectory)
    assert max(jax.tree.leaves(errors)) <= variant.tolerance, errors
    if record.average:
        first, final = variant.average_from, jax.jit(tx.finalize_variable_values)
        averages = stacked([final(state, w) for state, w in zip(states, got, strict=True)])
        errors = jax.tree.map(lambda a, b: error(a[first:], b[first:]), averages, record.average)
        assert max(jax.tree.leaves(errors)) <= variant.tolerance, errors
    assert variant.tolerance <= 2e-6 or variant.reason


@pytest.mark.parametrize(("row", "variant"), CASES, ids=case_name)
def test_recipe(row, variant):
    tx, again = row.build(variant), row.build(variant)
    assert tx == again
    assert hash(tx) == hash(again)
    assert (tx != again) is False
    assert tx != row.build(variant, name="other") if "name" in inspect.signature(row.make).parameters else True
    assert tx == jos.deserialize(json.loads(json.dumps(jos.serialize(tx))))
    assert tx == row.make.from_config(json.loads(json.dumps(tx.get_config())))
    assert tx == pickle.loads(pickle.dumps(tx))
    assert eval(repr(tx), vars(jos) | vars(jos.schedules)) == tx


@pytest.mark.parametrize(("row", "arguments", "words"), BAD, ids=case_name)
def test_bad_arguments(row, arguments, words):
    with pytest.raises((ValueError, TypeError)) as refusal:
        row.build(**arguments)
    assert words in str(refusal.value)
    assert str(refusal.value).startswith(f"{row.name}: ")


@pytest.mark.parametrize(("arguments", "words"), COMMON_BAD, ids=lambda x: x if isinstance(x, str) else "")
@rows("common arguments")
def test_bad_common_arguments(row, arguments, words):
    if not {*arguments} & {*inspect.signature(row.make).parameters} and "there is no" not in words:
        pytest.skip("the argument is the wrapped optimizer's")
    with pytest.raises((ValueError, TypeError)) as refusal:
        row.make(**{**row.variants[0].all_arguments(), **arguments})
    assert words in str(refusal.value)
    assert str(refusal.value).startswith(f"{row.name}: ")


@rows("trees")
def test_bad_trees(row):
    tx, (params, grads) = row.build(), example("dense", "scale")
    state = tx.init(params)

    def refused(grads, state, params, words):
        with pytest.raises((ValueError, TypeError)) as refusal:
            tx.update(grads, state, params)
        assert words in str(refusal.value)

    refused({**grads, "scale": jnp.ones(2)}, state, params, "the gradient at 'scale' has shape (2,)")
    refused({k: v for k, v in grads.items() if k != "scale"}, state, params, "there is no gradient at 'scale'")
    refused({**grads, "more": jnp.ones(1)}, state, params, "there is no parameter at 'more'")
    refused(
        {**grads, "scale": jnp.ones(1, jnp.int32)}, state, params, "'scale' must be a floating-point array, got int32"
    )
    refused({**grads, "scale": jnp.ones(1, jnp.complex64)}, state, params, "split_real_and_imaginary")
    refused(jax.tree.map(lambda g: None, grads), state, params, "all of them are None")
    refused(grads, optax.EmptyState(), params, "expected the state that init made, got a EmptyState")
    with pytest.raises(TypeError, match="the parameter at 'key' must be a floating-point array"):
        tx.init({"key": jax.random.key(0)})
    other = next(r.build() for r in ROWS if unlike(r.build().init(params), state))
    with pytest.raises((ValueError, TypeError), match=r"of another optimizer|that init made|whose learning rate"):
        tx.update(grads, other.init(params), params)
    if state.stages:
        other = tx.init({"scale": jnp.ones(5)})
        refused({"scale": jnp.ones(4)}, other, {"scale": jnp.ones(4)}, "not of these parameters")


def unlike(a, b):
    """Whether two states are those of different rules."""
    return [*map(type, a.stages.values())] != [*map(type, b.stages.values())]


@rows("params")
def test_params_are_asked_for_where_they_are_needed(row):
    tx, (params, grads) = row.build(), example("dense")
    needs = any(stage.prototype.reads_weights for _, stage in tx.line.leafwise) or tx.line.meter
    if needs:
        with pytest.raises(ValueError, match="update needs the parameters"):
            tx.update(grads, tx.init(params))
    else:
        update = quick(tx.update)
        same(update(grads, tx.init(params))[0], update(grads, tx.init(params), params)[0])


@rows("retrace")
def test_second_call_does_not_retrace(row):
    params, grads = example("dense")
    count = 0

    def step(params, state, grads):
        nonlocal count
        count += 1
        return row.build().apply_gradients(grads, state, params)

    jitted = quick(step)
    state = row.build().init(params)
    for _ in range(3):
        params, state = jitted(params, state, grads)
    assert count == 1


@rows("eager")
def test_equal_optimizers_share_one_program(row):
    from jaxopt_suite import _transformation

    params, grads = example("embedding")
    state = row.build().init(params)
    row.build().update(grads, state, params)
    before = _transformation._compiled.cache_info().currsize
    eager, _ = row.build().update(grads, state, params)
    assert _transformation._compiled.cache_info().currsize == before
    same(
        eager,
        row.build(jit_compile=False).update(grads, state, params)[0] if "jit_compile" in params_of(row) else eager,
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
@rows("dtypes", few=True)
def test_dtypes(row, dtype):
    with jax.enable_x64(dtype == "float64"):
        params, grads = example("conv", "dense", dtype=dtype)
        after, state = steps(row.build(), params, grads)
        moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), params, after)
        assert any(jax.tree.leaves(moved))
        assert {w.dtype.name for w in jax.tree.leaves(after)} == {dtype}
        assert all(bool(jnp.isfinite(w).all()) for w in jax.tree.leaves(after))
        held = {s.dtype.name for s in jax.tree.leaves(state) if jnp.issubdtype(s.dtype, jnp.floating)}
        assert held <= {"float64" if dtype == "float64" else "float32"}


@rows("mixed dtypes")
def test_mixed_dtypes(row):
    params, grads = example()
    grads["scale"] = grads["scale"].astype(jnp.bfloat16)
    params["embedding"] = params["embedding"].astype(jnp.float16)
    updates, _ = jax.eval_shape(row.build().update, grads, row.build().init(params), params)
    with jax.numpy_dtype_promotion("standard"):
        assert dtypes(updates) == jax.tree.map(jnp.promote_types, dtypes(grads), dtypes(params))


def dtypes(tree):
    return jax.tree.map(lambda x: x.dtype, tree)


@rows("apply_gradients")
def test_apply_gradients_is_update_and_apply(row):
    params, grads = example("dense")
    tx = row.build()
    want, want_state = steps(tx, params, grads, 3)
    state, apply_gradients = tx.init(params), quick(tx.apply_gradients)
    for _ in range(3):
        params, state = apply_gradients(grads, state, params)
    same((params, state), (want, want_state))


@rows("edges", few=True)
def test_edges(row):
    tx = row.build()
    assert tx.update({}, tx.init({}), {})[0] == {}
    scalar, _ = steps(tx, jnp.float32(2.0), jnp.float32(1.0), compiled=jax.jit)
    assert scalar.shape == ()
    assert np.isfinite(scalar)
    params = {"empty": jnp.zeros((0, 3)), "w": jnp.ones((2, 3))}
    after, _ = steps(tx, params, jax.tree.map(jnp.ones_like, params), compiled=jax.jit)
    assert after["empty"].shape == (0, 3)
    assert np.isfinite(after["w"]).all()
    zero, _ = steps(tx, {"w": jnp.zeros(3)}, {"w": jnp.zeros(3)}, compiled=jax.jit)
    assert np.isfinite(zero["w"]).all()


@rows("missing gradient")
def test_missing_gradient_moves_nothing(row):
    params, grads = example("dense", "scale")
    tx = row.build(**({"weight_decay": 0.1} if "weight_decay" in params_of(row) else {}))
    state = tx.init(params)
    two = {"a": jnp.ones(1), "b": jnp.ones(2)}

    @quick
    def all_three(missing, state, params, two):
        alone, _ = tx.update({**two, "a": None}, tx.init(two), two)
        return tx.update(missing, state, params), tx.apply_gradients(missing, state, params), alone

    (updates, after), applied, alone = all_three({**grads, "scale": None}, state, params, two)
    assert not updates["scale"].any()
    for key, old in state.stages.items():
        for was, now in zip(old, after.stages[key], strict=True):
            if isinstance(was, dict):
                np.testing.assert_array_equal(was["scale"], now["scale"])
    assert not alone["a"].any()
    same(applied[0]["scale"], params["scale"])


@rows("eval_shape")
def test_eval_shape_of_init(row):
    params, _ = example()
    tx = row.build()
    shapes = jax.eval_shape(tx.init, params)
    state = tx.init(params)
    assert jax.tree.structure(shapes) == jax.tree.structure(state)
    assert jax.tree.map(lambda s: (s.shape, s.dtype), shapes) == jax.tree.map(lambda s: (s.shape, s.dtype), state)


@rows("vmap")
def test_vmap_scan_cond(row):
    tx, record = row.build(), recording(EXAMPLE)
    params, grads = record.params["dense"], jax.tree.map(lambda g: g[:4], record.grads["dense"])

    def scanned(params, grads):
        """The parameters after each step."""

        def step(carry, g):
            updates, state = tx.update(g, carry[1], carry[0])
            w = optax.apply_updates(carry[0], updates)
            return (w, state), w

        return jax.lax.scan(step, (params, tx.init(params)), grads)[1]

    @quick
    def ways(flag, params, grads):
        mapped = jax.vmap(scanned, (0, None))(jax.tree.map(lambda x: jnp.stack([x, x]), params), grads)
        state, g = tx.init(params), jax.tree.map(lambda g: g[0], grads)
        held = jax.tree.map(jnp.zeros_like, g), state
        branch = jax.lax.cond(flag, lambda: tx.update(g, state, params), lambda: held)
        return mapped, scanned(params, grads), branch, tx.update(g, state, params)

    mapped, want, branch, update = ways(True, params, grads)
    same(jax.tree.map(lambda x: x[1], mapped), want, 1e-5)
    same(branch, update)


def test_nested_helper_builds_trees():
    assert nested({"a/b": 1, "c": 2}) == {"a": {"b": 1}, "c": 2}
