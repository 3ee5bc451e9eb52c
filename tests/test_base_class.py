"""What Keras's base class does, for the optimizer of each row or on the documentation's own examples."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from programs import example, quick, same, steps
from test_conformance import params_of, rows

import jaxopt_suite as jos
from jaxopt_suite import _transformation


def after(tx, grads, w):
    """The parameter after each of some gradients."""
    w, state, out = jnp.float32(w), tx.init(jnp.float32(w)), []
    for g in grads:
        w, state = tx.apply_gradients(jnp.float32(g), state, w)
        out.append(float(w))
    return out


@pytest.mark.parametrize(
    ("tx", "grads", "start", "want"),
    [
        (jos.adam(0.1), [10.0], 10.0, [9.9]),
        (jos.sgd(1.0, clipvalue=1.0), [2.0], 2.0, [1.0]),
        (jos.sgd(1.0, weight_decay=0.004), [0.0], 2.0, [1.992]),
        (
            jos.sgd(1.0, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3),
            [1.0] * 4,
            2.0,
            [1, 0, -0.125, -1.125],
        ),
        (
            jos.sgd(jos.schedules.piecewise_constant_decay([0, 1], [1.0, 10.0, 100.0]), decay=1.0),
            [1.0] * 3,
            0.0,
            [-1, -6, -6 - 100 / 3],
        ),
        (
            jos.sgd(jos.schedules.piecewise_constant_decay([0, 1], [1.0, 10.0, 100.0]), gradient_accumulation_steps=2),
            [1.0, 3.0, 5.0, 7.0],
            0.0,
            [0, -2, -2, -62],
        ),
        (
            jos.sgd(1.0, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2, gradient_accumulation_steps=2),
            [1.0] * 4,
            2.0,
            [2, 1, 1, 0.75],
        ),
    ],
    ids=[
        "first Adam step",
        "clipvalue",
        "decay",
        "average",
        "decay on a schedule",
        "accumulated schedule",
        "accumulated average",
    ],
)
def test_worked_examples(tx, grads, start, want):
    np.testing.assert_allclose(after(tx, grads, start), want, rtol=2e-7)


def test_excluded_from_decay():
    tx = jos.sgd(1.0, weight_decay=0.004)
    params = {"var1": jnp.array(2.0), "var2": jnp.array(2.0)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    for excluded in (tx.exclude_from_weight_decay(var_list=["var2"]), tx.exclude_from_weight_decay(var_names=["r2$"])):
        got, _ = excluded.apply_gradients(zeros, excluded.init(params), params)
        assert (float(got["var1"]), float(got["var2"])) == (pytest.approx(1.992), 2.0)
    assert tx.exclude_from_weight_decay(var_list=["var"]).apply_gradients(zeros, tx.init(params), params)[0]["var2"] < 2
    replaced = tx.exclude_from_weight_decay(var_names=["a"]).exclude_from_weight_decay(var_names=["b"])
    assert replaced.get_config()["exclude_from_weight_decay"] == ["b"]


@rows("exclusion", few=True)
def test_exclusion_is_no_decay(row):
    if "weight_decay" not in params_of(row):
        pytest.skip("there is no weight decay")
    params, grads = example("dense", "scale")
    tx = row.build(weight_decay=0.3, exclude_from_weight_decay=["bias", "scale"])
    got, _ = steps(tx, params, grads, 2)
    with_all, _ = steps(row.build(weight_decay=0.3, exclude_from_weight_decay=()), params, grads, 2)
    without, _ = steps(row.build(weight_decay=0.3, exclude_from_weight_decay=".*"), params, grads, 2)
    same(got["dense"]["bias"], without["dense"]["bias"])
    same(got["scale"], without["scale"])
    same(got["dense"]["kernel"], with_all["dense"]["kernel"])
    assert not np.allclose(with_all["dense"]["kernel"], without["dense"]["kernel"])


@rows("accumulation", few=True)
def test_accumulation_is_one_step_on_the_mean(row):
    if "gradient_accumulation_steps" not in params_of(row):
        pytest.skip("the wrapped optimizer accumulates")
    params, grads = example("dense")
    want, want_state = steps(row.build(), params, grads, 2)
    tx = row.build(gradient_accumulation_steps=4)
    update, state, w = quick(tx.update), tx.init(params), params
    for i in range(8):
        share = jax.tree.map(lambda g, i=i: g * (0.25 + 0.5 * (i % 4)), grads)
        before = w
        updates, state = update(share, state, w)
        w = optax.apply_updates(w, updates)
        if i % 4 != 3:
            same(w, before, 0)
    same(w, want, 1e-5)
    assert int(jos.state.iterations(state)) == int(want_state.count) == 2


def test_the_rule_runs_on_the_boundary_only():
    tx = jos.adam(gradient_accumulation_steps=4)
    params, grads = example()
    text = jax.jit(tx.update).lower(grads, tx.init(params), params).as_text()
    before, _, inside = text.partition("stablehlo.case")
    assert "stablehlo.sqrt" in inside
    assert "stablehlo.sqrt" not in before


@rows("loss scale", few=True)
def test_loss_scale_factor_changes_nothing(row):
    if "loss_scale_factor" not in params_of(row):
        pytest.skip("the wrapped optimizer scales")
    params, grads = example("dense")
    tx = row.build(loss_scale_factor=8.0)
    loss = lambda p: sum((w * g).sum() for w, g in zip(jax.tree.leaves(p), jax.tree.leaves(grads), strict=True))  # noqa: E731
    got, _, value = quick(lambda state, params: tx.minimize(loss, state, params))(tx.init(params), params)
    want, _ = steps(row.build(), params, grads, 1)
    same(got, want, 1e-5)
    np.testing.assert_allclose(value, loss(params), rtol=1e-6)


def test_float16_gradients_are_unscaled_in_float32():
    tx = jos.sgd(1.0, loss_scale_factor=2.0**15)
    params = {"w": jnp.zeros(1)}
    got, _ = tx.apply_gradients({"w": jnp.full(1, 2.0**-10, jnp.float16)}, tx.init(params), params)
    assert float(got["w"][0]) == -(2.0**-25)


@rows("hyperparameters")
def test_hyperparameters_may_be_schedules_and_arrays(row):
    params, grads = example("dense")
    fixed = row.variants[0].all_arguments()
    numbers = [
        name
        for name, p in params_of(row).items()
        if name in row.make.words
        and row.make.words[name].kind == "number"
        and isinstance(fixed.get(name, p.default), float)
        and name not in row.static
    ]
    values = {name: fixed.get(name, params_of(row)[name].default) for name in numbers}
    want, _ = steps(row.build(), params, grads, 3)
    scheduled = {name: lambda step, value=value: jnp.float32(value) for name, value in values.items()}
    same(steps(row.build(**scheduled), params, grads, 3)[0], want, 2e-4)
    arrays = {name: jnp.float32(value) for name, value in values.items()}
    same(steps(row.build(**arrays), params, grads, 3)[0], want, 2e-4)


@rows("aggregation", few=True)
def test_aggregation_sums_or_averages_before_the_clip(row):
    if "axis_name" not in params_of(row):
        pytest.skip("the wrapped optimizer aggregates")
    params, grads = example("dense")
    alone = row.build(clipnorm=0.5)

    @quick
    def aggregated_and_alone(grads, params):
        both, results = jax.tree.map(lambda g: jnp.stack([g * 0.5, g * 1.5]), grads), []
        for op, factor in (("sum", 2.0), ("mean", 1.0)):
            tx = row.build(axis_name="d", axis_op=op, clipnorm=0.5)
            got = jax.vmap(lambda g, tx=tx: tx.update(g, tx.init(params), params)[0], axis_name="d")(both)
            want, _ = alone.update(jax.tree.map(lambda g, f=factor: g * f, grads), alone.init(params), params)
            results.append((jax.tree.map(lambda u: u[1], got), want))
        return results

    for got, want in aggregated_and_alone(grads, params):
        same(got, want, 1e-5)


def test_params_and_state_in_the_wrong_order_are_refused():
    tx, params = jos.adam(), {"w": jnp.ones(2)}
    for call in (tx.minimize, lambda loss, *args: tx.apply_gradients(params, *args)):
        with pytest.raises(TypeError, match=r"adam: expected the state .*, got a dict: jos\.state\.migrate"):
            call(lambda p: p["w"].sum(), params, tx.init(params))


def test_has_aux_and_grad_loss():
    tx, w = jos.sgd(1.0), jnp.array([1.0, 2.0])
    (loss, aux), grads = tx.compute_gradients(lambda w, k: ((k * w).sum(), "aux"), w, 3.0, has_aux=True)
    assert (float(loss), aux, grads.tolist()) == (9.0, "aux", [3.0, 3.0])
    _, _, (loss, aux) = tx.minimize(lambda w: ((w**2).sum(), {"n": 2}), tx.init(w), w, has_aux=True)
    assert (float(loss), aux) == (5.0, {"n": 2})
    _, grads = tx.compute_gradients(lambda w: w**2, w, grad_loss=jnp.array([1.0, 10.0]))
    assert grads.tolist() == [2.0, 40.0]


def test_an_eager_update_is_one_program_and_is_inlined_inside_another():
    params, grads = example()
    tx = jos.adam(0.123, beta_1=0.4321)
    before = _transformation._compiled.cache_info().currsize
    tx.update(grads, tx.init(params), params)
    assert _transformation._compiled.cache_info().currsize == before + 1
    jax.jit(tx.update)(grads, tx.init(params), params)
    jos.adam(0.123, beta_1=0.4321, jit_compile=False).update(grads, tx.init(params), params)
    for rate in range(300):
        jos.adam(0.001 * rate, beta_1=0.4321, name=f"number {rate}").update(grads, tx.init(params), params)
    assert _transformation._compiled.cache_info().currsize == before + 1


def test_the_average_that_finalizes():
    params, grads = example()
    tx = jos.adam(use_ema=True, ema_momentum=0.0)
    w, state = steps(tx, params, grads, 2)
    same(tx.finalize_variable_values(state, w), w)
    assert jos.adam().finalize_variable_values(jos.adam().init(params), params) is params


def test_a_norm_that_is_not_finite_spoils_every_gradient():
    tx = jos.sgd(1.0, global_clipnorm=1.0)
    params = {"a": jnp.ones(1), "b": jnp.ones(1)}
    updates, state = tx.update({"a": jnp.array([jnp.inf]), "b": jnp.ones(1)}, tx.init(params))
    assert np.isnan(updates["b"]).all()
    assert np.isinf(jos.state.gradient_norm(state))
    zero, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params))
    assert not np.asarray(zero["a"]).any()
