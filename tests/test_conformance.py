"""Every property, for every row of the table."""

import inspect
import json
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from recorded import error, nested, recording
from rows import CASES, ROWS, case_name

import jaxopt_suite as jos

RECORDED = [(row, variant) for row, variant in CASES if variant.reference]
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
    ({"dialect": "legcy"}, "dialect must be one of 'keras', 'legacy', got 'legcy'. Did you mean 'legacy'?"),
    ({"jit_compile": "yes"}, "jit_compile must be True or False, got 'yes'."),
    ({"clip_norm": 1.0}, "there is no argument 'clip_norm'. Did you mean 'clipnorm'?"),
]


def rows(prop):
    """All rows; one that is exempt from a property is skipped with its reason."""
    marks = {row.name: [pytest.mark.skip(reason=row.exempt[prop])] if prop in row.exempt else [] for row in ROWS}
    return pytest.mark.parametrize("row", [pytest.param(row, marks=marks[row.name], id=row.name) for row in ROWS])


def example(dtype=jnp.float32):
    """A small tree of parameters, and gradients that are unlike them."""
    record = recording("keras3/sgd_plain")
    params = jax.tree.map(lambda w: jnp.asarray(w, dtype), record.params)
    return params, jax.tree.map(lambda g: jnp.asarray(g[0], dtype), record.grads)


def trajectory(tx, params, grads, final=False):
    """The parameters after each step (and what they would be evaluated with), as one scanned program."""

    def step(carry, g):
        updates, state = tx.update(g, carry[1], carry[0])
        w = optax.apply_updates(carry[0], updates)
        return (w, state), (w, tx.finalize_variable_values(state, w) if final else None)

    return jax.jit(lambda p, g: jax.lax.scan(step, (p, tx.init(p)), g)[1])(params, grads)


def steps(tx, params, grads, n=4):
    """The parameters and the state after `n` steps on the same gradients."""
    state = tx.init(params)
    for _ in range(n):
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def same(a, b, tolerance=1e-6):
    """Two trees agree; arrays that differ in the last bits of large sums do too."""
    chex.assert_trees_all_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("row", "variant"), RECORDED, ids=case_name)
def test_recorded_trajectory(row, variant):
    record = recording(variant.reference)
    got, averages = trajectory(row.build(variant), record.params, record.grads, final=bool(record.average))
    errors = jax.tree.map(error, got, record.trajectory)
    assert max(jax.tree.leaves(errors)) <= variant.tolerance, errors
    if record.average:
        first = variant.average_from
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
    tx, (params, grads) = row.build(), example()
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
    other = jos.adagrad if row.make is not jos.adagrad else jos.adadelta
    with pytest.raises(
        (ValueError, TypeError), match=r"of another optimizer|the state that init made|whose learning rate"
    ):
        tx.update(grads, other().init(params), params)
    if state.stages:
        other = tx.init({"scale": jnp.ones(5)})
        refused({"scale": jnp.ones(4)}, other, {"scale": jnp.ones(4)}, "not of these parameters")


@rows("params")
def test_params_are_asked_for_where_they_are_needed(row):
    tx, (params, grads) = row.build(), example()
    needs = any(stage.prototype.reads_weights for _, stage in tx.line.leafwise)
    if needs:
        with pytest.raises(ValueError, match="update needs the parameters"):
            tx.update(grads, tx.init(params))
    else:
        same(tx.update(grads, tx.init(params))[0], tx.update(grads, tx.init(params), params)[0])


@rows("retrace")
def test_second_call_does_not_retrace(row):
    params, grads = example()
    count = 0

    def step(params, state, grads):
        nonlocal count
        count += 1
        return row.build().apply_gradients(grads, state, params)

    jitted = jax.jit(step)
    state = row.build().init(params)
    for _ in range(3):
        params, state = jitted(params, state, grads)
    assert count == 1


@rows("eager")
def test_equal_optimizers_share_one_program(row):
    from jaxopt_suite import _transformation

    params, grads = example()
    state = row.build().init(params)
    row.build().update(grads, state, params)
    before = _transformation._compiled.cache_info().currsize
    eager, _ = row.build().update(grads, state, params)
    assert _transformation._compiled.cache_info().currsize == before
    same(
        eager,
        row.build(jit_compile=False).update(grads, state, params)[0] if "jit_compile" in params_of(row) else eager,
    )


def params_of(row):
    return inspect.signature(row.make).parameters


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
@rows("dtypes")
def test_dtypes(row, dtype):
    with jax.enable_x64(dtype == "float64"):
        params, grads = example(dtype)
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
    updates, _ = row.build().update(grads, row.build().init(params), params)
    with jax.numpy_dtype_promotion("standard"):
        assert jax.tree.map(lambda u: u.dtype, updates) == jax.tree.map(
            jnp.promote_types, dtypes(grads), dtypes(params)
        )


def dtypes(tree):
    return jax.tree.map(lambda x: x.dtype, tree)


@rows("apply_gradients")
def test_apply_gradients_is_update_and_apply(row):
    params, grads = example()
    tx = row.build()
    want, want_state = steps(tx, params, grads, 3)
    state = tx.init(params)
    for _ in range(3):
        params, state = tx.apply_gradients(grads, state, params)
    same((params, state), (want, want_state))


@rows("edges")
def test_edges(row):
    tx = row.build()
    assert tx.update({}, tx.init({}), {})[0] == {}
    scalar, _ = steps(tx, jnp.float32(2.0), jnp.float32(1.0))
    assert scalar.shape == ()
    assert np.isfinite(scalar)
    params = {"empty": jnp.zeros((0, 3)), "w": jnp.ones((2, 3))}
    after, _ = steps(tx, params, jax.tree.map(jnp.ones_like, params))
    assert after["empty"].shape == (0, 3)
    assert np.isfinite(after["w"]).all()
    zero, _ = steps(tx, {"w": jnp.zeros(3)}, {"w": jnp.zeros(3)})
    assert np.isfinite(zero["w"]).all()


@rows("missing gradient")
def test_missing_gradient_moves_nothing(row):
    params, grads = example()
    tx = row.build(**({"weight_decay": 0.1} if "weight_decay" in params_of(row) else {}))
    state = tx.init(params)
    updates, after = tx.update({**grads, "scale": None}, state, params)
    assert not updates["scale"].any()
    for key, old in state.stages.items():
        for was, now in zip(old, after.stages[key], strict=True):
            if isinstance(was, dict):
                np.testing.assert_array_equal(was["scale"], now["scale"])
    alone, _ = tx.update(
        {"a": None, "b": jnp.ones(2)},
        tx.init({"a": jnp.ones(1), "b": jnp.ones(2)}),
        {"a": jnp.ones(1), "b": jnp.ones(2)},
    )
    assert not alone["a"].any()
    same(tx.apply_gradients({**grads, "scale": None}, state, params)[0]["scale"], params["scale"])


@rows("eval_shape")
def test_eval_shape_of_init(row):
    params, _ = example()
    tx = row.build()
    shapes = jax.eval_shape(tx.init, params)
    state = tx.init(params)
    assert jax.tree.structure(shapes) == jax.tree.structure(state)
    assert jax.tree.map(lambda s: (s.shape, s.dtype), shapes) == jax.tree.map(lambda s: (s.shape, s.dtype), state)


def shown(record_steps=4):
    record = recording("keras3/sgd_plain")
    return record.params, jax.tree.map(lambda g: g[:record_steps], record.grads)


@rows("vmap")
def test_vmap_scan_cond(row):
    tx, (params, grads) = row.build(), shown()
    want, _ = trajectory(tx, params, grads)
    twice = jax.tree.map(lambda x: jnp.stack([x, x]), params)
    mapped = jax.vmap(lambda p: trajectory(tx, p, grads)[0])(twice)
    same(jax.tree.map(lambda x: x[1], mapped), want, 1e-5)
    g = jax.tree.map(lambda g: g[0], grads)

    def branch(flag, state):
        return jax.lax.cond(flag, lambda: tx.update(g, state, params), lambda: (jax.tree.map(jnp.zeros_like, g), state))

    same(jax.jit(branch)(True, tx.init(params)), tx.update(g, tx.init(params), params))


def test_nested_helper_builds_trees():
    assert nested({"a/b": 1, "c": 2}) == {"a": {"b": 1}, "c": 2}
