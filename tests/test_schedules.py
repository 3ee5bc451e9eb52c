"""The schedules: the values that Keras and TF Addons gave, their boundaries, recipes and errors."""

import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recorded import library

import jaxopt_suite as jos
from jaxopt_suite import schedules
from jaxopt_suite._recipe.config import lookup

ULP = float(np.finfo(np.float32).eps)
SCALES = {"1.0": lambda x: 1.0, "1.0 / x": lambda x: 1.0 / x, "0.95 ** x": lambda x: 0.95**x}
RECORDED = [(f"schedules_{who}", slug) for who in ("keras", "tfa") for slug in library(f"schedules_{who}")[1]["cases"]]
# These subtract whole periods from `step / period` in float32, which leaves them an error of `step / period` ulp.
CANCELLING = {"restarts", "restarts_even", "restarts_alpha", "triangular", "triangular_iterations", "cyclical_one"}

EXAMPLES = [
    schedules.exponential_decay(0.1, 7, 0.6),
    schedules.exponential_decay(0.1, 7, 0.6, staircase=True, name="stairs"),
    schedules.inverse_time_decay(0.1, 7, 0.5),
    schedules.piecewise_constant_decay([4, 15.5], [0.08, 0.02, 0.05]),
    schedules.polynomial_decay(0.1, 20, 0.01, 2.0, cycle=True),
    schedules.cosine_decay(0.1, 30, 0.1, warmup_target=0.5, warmup_steps=10),
    schedules.cosine_decay_restarts(0.1, 10, 1.5, 0.8),
    schedules.triangular_cyclical(0.01, 0.1, 7),
    schedules.triangular2_cyclical(0.01, 0.1, 7),
    schedules.exponential_cyclical(0.01, 0.1, 7, gamma=0.95),
    schedules.momentum_ramp(0.9),
]

BAD = [
    (lambda: schedules.exponential_decay(0.1, 0, 0.5), "exponential_decay: decay_steps must be > 0, got 0."),
    (lambda: schedules.inverse_time_decay(0.1, -1, 0.5), "inverse_time_decay: decay_steps must be > 0, got -1."),
    (lambda: schedules.polynomial_decay(0.1, 0), "polynomial_decay: decay_steps must be > 0, got 0."),
    (lambda: schedules.polynomial_decay(0.1, 5, power=-1), "polynomial_decay: power must be >= 0, got -1."),
    (lambda: schedules.cosine_decay(0.1, 0), "cosine_decay: decay_steps must be > 0, got 0."),
    (lambda: schedules.cosine_decay(0.1, 9, warmup_steps=3), "warmup_steps acts only with a warmup_target, got 3"),
    (lambda: schedules.cosine_decay(0.1, 9, warmup_target=1.0, warmup_steps=-3), "warmup_steps must be an integer"),
    (lambda: schedules.cosine_decay_restarts(0.1, 0), "first_decay_steps must be > 0, got 0."),
    (lambda: schedules.cosine_decay_restarts(0.1, 5, t_mul=0.5), "t_mul must be >= 1, got 0.5."),
    (lambda: schedules.cosine_decay_restarts(0.1, 5, t_mul=jnp.float32(2)), "t_mul must be a Python number"),
    (lambda: schedules.piecewise_constant_decay([1], [0.1]), "got 1 values and 1 boundaries."),
    (lambda: schedules.piecewise_constant_decay([2, 2], [0.1, 0.2, 0.3]), "boundaries must increase, got [2.0, 2.0]."),
    (lambda: schedules.piecewise_constant_decay(3, [0.1]), "boundaries must be a list of finite numbers, got 3."),
    (lambda: schedules.piecewise_constant_decay([3], [0.1, "x"]), "values must be a list of finite numbers"),
    (lambda: schedules.piecewise_constant_decay([3], [0.1, float("nan")]), "values must be a list of finite numbers"),
    (lambda: schedules.exponential_decay(-0.1, 5, 0.5), "initial_learning_rate must be >= 0, got -0.1."),
    (lambda: schedules.exponential_decay("0.1", 5, 0.5), "initial_learning_rate must be a number >= 0, got '0.1'."),
    (lambda: schedules.exponential_decay(lambda step: 0.1, 5, 0.5), "must be a number or a scalar array"),
    (lambda: schedules.exponential_decay(0.1, 5), "exponential_decay: missing a required argument: 'decay_rate'."),
    (lambda: schedules.exponential_decay(0.1, 5, 0.5, stairs=True), "Did you mean 'staircase'?"),
    (lambda: schedules.triangular_cyclical(0.1, 1.0, 0), "triangular_cyclical: step_size must be > 0, got 0."),
    (lambda: schedules.triangular_cyclical(0.1, 1.0, 3, "steps"), "scale_mode must be one of 'cycle', 'iterations'"),
    (lambda: schedules.cyclical(0.1, 1.0, 3, 2.0), "cyclical: scale_fn must be a function of one number, got 2.0."),
    (lambda: schedules.momentum_ramp(1.5), "momentum_ramp: momentum must be in [0, 1], got 1.5."),
    (lambda: schedules.momentum_ramp(0.9, mom_iter_max=0), "momentum_ramp: mom_iter_max must be > 0, got 0."),
]


def recorded(name, slug):
    """A recorded case, the steps, the values, and our schedule of the same arguments."""
    arrays, meta = library(name)
    case = meta["cases"][slug]
    arguments = {k: SCALES[v["function"]] if isinstance(v, dict) else v for k, v in case["arguments"].items()}
    return case, arrays["steps"], arrays[slug], lookup(case["class"], {}, "test")(**arguments)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("name", "slug"), RECORDED)
def test_recorded_values(name, slug, compiled):
    case, steps, want, rate = recorded(name, slug)
    got = jax.jit(jax.vmap(rate))(jnp.asarray(steps)) if compiled else [rate(int(step)) for step in steps]
    periods = np.maximum(1, steps / 7) if slug in CANCELLING else 1
    largest = max(want.max(), case["arguments"].get("maximal_learning_rate", 0.0))
    assert np.all(np.abs(np.asarray(got, np.float64) - want) <= 2 * ULP * largest * periods)


@pytest.mark.parametrize(("name", "slug"), RECORDED)
def test_config_that_keras_wrote(name, slug):
    case, steps, _, rate = recorded(name, slug)
    config = case["config"]
    if "class_name" not in config:
        config = {"class_name": case["class"], "config": config}
    scale_fn = rate.recipe.arguments.get("scale_fn")
    if scale_fn:  # TF Addons writes no readable name of a function
        config = {**config, "config": {**config["config"], "scale_fn": {"class_name": "function", "config": "f"}}}
        with pytest.raises(ValueError, match="custom_objects"):
            jos.deserialize(config)
        with pytest.raises(TypeError, match="cyclical: scale_fn cannot be written to a config, which holds a function"):
            jos.serialize(rate)
    read = jos.deserialize(config, {"f": scale_fn})
    assert [float(read(step)) for step in steps[:20]] == [float(rate(step)) for step in steps[:20]]


@pytest.mark.parametrize("rate", EXAMPLES, ids=repr)
def test_recipe(rate):
    again = rate.recipe.remake()
    assert rate == again
    assert hash(rate) == hash(again)
    assert rate != rate.recipe.remake(name="other")
    assert rate == jos.deserialize(json.loads(json.dumps(jos.serialize(rate))))
    assert rate == pickle.loads(pickle.dumps(rate))
    assert rate == eval(repr(rate), vars(schedules))


@pytest.mark.parametrize("rate", EXAMPLES, ids=repr)
def test_step_types(rate):
    want = float(rate(5))
    for step in (5.0, np.int64(5), np.float64(5), jnp.int32(5), jnp.uint8(5), jnp.float32(5), jnp.bfloat16(5)):
        value = rate(step)
        assert value.dtype == jnp.float32
        assert value.shape == ()
        assert float(value) == want
    steps = jnp.arange(40)
    one_by_one = [float(rate(step)) for step in range(40)]
    np.testing.assert_allclose(jax.jit(jax.vmap(rate))(steps), one_by_one, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(jax.vmap(rate)(steps), one_by_one, rtol=1e-6, atol=1e-7)
    assert jax.jit(rate)(jnp.int32(5)).dtype == jnp.float32


@pytest.mark.parametrize(("make", "words"), BAD, ids=[words for _, words in BAD])
def test_bad_arguments(make, words):
    with pytest.raises((ValueError, TypeError)) as refusal:
        make()
    assert words in str(refusal.value)


def test_integer_rates_are_floats():
    """An integer rate makes Keras compute in integers: a rate of 0 for ever, or 1, 0, 0."""
    assert [float(schedules.exponential_decay(1, 10, 0.5)(step)) for step in (0, 10)] == [1.0, 0.5]
    assert float(schedules.cosine_decay(0, 10, warmup_target=1, warmup_steps=4)(2)) == 0.5
    assert float(schedules.polynomial_decay(2, 4, 1)(2)) == 1.5
    assert float(schedules.inverse_time_decay(1, 1, 1)(3)) == 0.25
    assert float(schedules.piecewise_constant_decay([2], [1, 2])(3)) == 2.0


@pytest.mark.parametrize("period", [41, 47, 55, 61, 82, 83, 94, 97, 107, 109])
def test_exact_at_boundaries(period):
    """XLA multiplies by the rounded `1 / period`: with these, `period * (1 / period)` is less than 1."""
    ends = jnp.asarray([period * k for k in range(1, 6)])

    def at(rate, steps=ends):
        return jax.jit(jax.vmap(rate))(steps).tolist()

    assert at(schedules.exponential_decay(1.0, period, 0.5, staircase=True)) == [0.5**k for k in range(1, 6)]
    assert at(schedules.inverse_time_decay(1.0, period, 1.0, staircase=True)) == [
        float(np.float32(1) / np.float32(k + 1)) for k in range(1, 6)
    ]
    assert at(schedules.polynomial_decay(1.0, period, 0.0, power=0.5)) == [0.0] * 5
    assert at(schedules.polynomial_decay(1.0, period, 0.0, power=0.5, cycle=True)) == [0.0] * 5
    assert at(schedules.cosine_decay(1.0, period, alpha=0.25)) == [0.25] * 5
    assert at(schedules.cosine_decay_restarts(1.0, period, t_mul=1, m_mul=0.5)) == [0.5**k for k in range(1, 6)]
    assert at(schedules.triangular_cyclical(0.25, 1.0, period)) == [1.0, 0.25, 1.0, 0.25, 1.0]
    warm = schedules.cosine_decay(0.0, period, warmup_target=1.0, warmup_steps=period)
    assert at(warm)[:2] == [1.0, 0.0]
    starts = jnp.asarray([period * (2**k - 1) for k in range(1, 16)])
    doubling = schedules.cosine_decay_restarts(1.0, period, t_mul=2, m_mul=0.5)
    assert at(doubling, starts) == [0.5**k for k in range(1, 16)]


def test_large_steps():
    boundary = 2**24 + 1  # the first integer that float32 does not have
    rate = schedules.piecewise_constant_decay([boundary, 2**31 - 3], [1.0, 0.5, 0.25])
    steps = [boundary - 1, boundary, boundary + 1, 2**31 - 3, 2**31 - 2]
    assert [float(rate(step)) for step in steps] == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert jax.jit(jax.vmap(rate))(jnp.asarray(steps)).tolist() == [1.0, 1.0, 0.5, 0.5, 0.25]
    fractional = schedules.piecewise_constant_decay([2.7], [1.0, 0.5])  # an integer step passes 2.7 at 3
    assert [float(fractional(step)) for step in (2, 2.5, 3)] == [1.0, 1.0, 0.5]


def test_traced_arguments():
    def value(rate, steps):
        return schedules.cosine_decay(rate, steps, warmup_target=2 * rate, warmup_steps=2)(4)

    rates = jnp.asarray([0.1, 0.2])
    want = [float(value(0.1, 10)), float(value(0.2, 20))]
    np.testing.assert_allclose(jax.jit(jax.vmap(value))(rates, jnp.asarray([10.0, 20.0])), want, rtol=1e-6)
    half = schedules.exponential_decay(jnp.bfloat16(0.5), jnp.int32(1), jnp.float16(0.5))
    assert float(half(1)) == 0.25


def test_in_an_optimizer():
    tx = jos.sgd(schedules.piecewise_constant_decay([0], [1.0, 10.0]), schedules.momentum_ramp(0.8, mom_iter_max=1))
    w, state = jnp.float32(0.0), tx.init(jnp.float32(0.0))
    for want in (-1.0, -1.0 - 10.0 - 0.4):  # the second momentum is half of its goal
        w, state = tx.apply_gradients(jnp.float32(1.0), state, w)
        assert float(w) == pytest.approx(want)
