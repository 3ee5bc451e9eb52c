"""The schedules: the values that Keras, TF Addons and PyTorch gave, their boundaries, recipes, curves and errors."""

import json
import pickle
import sys
import xml.etree.ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import optax
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
    schedules.constant(0.25),
    schedules.warmup(0.1, 4),
    schedules.warmup(schedules.polynomial_decay(0.1, 20, 0.01, 0.5), 10, start=0.02),
    schedules.join_schedules([0.1, schedules.warmup(0.2, 3), schedules.piecewise_constant_decay([4], [1, 2])], [5, 17]),
    schedules.one_cycle(0.1, 30),
    schedules.one_cycle(0.1, 30, 0.4, "linear", three_phase=True),
    *(schedules.warmup_stable_decay(0.1, 5, 9, 11, 0.001, shape) for shape in ("linear", "sqrt", "exponential")),
    0.5 * schedules.cosine_decay(0.1, 30) + 1e-3,
    schedules.cosine_decay(0.1, 30) * schedules.warmup(1.0, 7),
]

BAD = [
    (lambda: schedules.warmup("fast", 3), "warmup: schedule must be a schedule or a number, got 'fast'."),
    (lambda: schedules.warmup(0.1, 3.5), "warmup: steps must be an integer >= 0, got 3.5."),
    (lambda: schedules.warmup(0.1, -1), "warmup: steps must be an integer >= 0, got -1."),
    (lambda: schedules.warmup(0.1, 3, start=-0.1), "warmup: start must be >= 0, got -0.1."),
    (lambda: schedules.warmup(0.1, 3, start=schedules.constant(0.1)), "start must be a number or a scalar array"),
    (lambda: schedules.warmup(lambda: 0.1, 3), "It is a callable without arguments, and JAX would freeze"),
    (lambda: schedules.warmup(0.1, num_warmup_steps=3), "no argument 'num_warmup_steps'. Did you mean 'steps'?"),
    (lambda: schedules.constant(schedules.constant(0.1)), "constant: value must be a number or a scalar array"),
    (lambda: schedules.constant(jnp.ones(2)), "constant: value must be of any sign, got Array([1., 1.]"),
    (lambda: schedules.join_schedules([0.1, 0.2], []), "one more than boundaries, got 2 schedules and 0 boundaries."),
    (lambda: schedules.join_schedules(0.1, [3]), "schedules must be a list of schedules and numbers, got 0.1."),
    (lambda: schedules.join_schedules([0.1, "x"], [3]), "schedules must be a list of schedules and numbers"),
    (lambda: schedules.join_schedules([0.1, 0.2], [3.5]), "boundaries must be a list of integers, got [3.5]."),
    (lambda: schedules.join_schedules([0.1, 0.2], [0]), "boundaries must increase, from at least 1, got [0]."),
    (lambda: schedules.join_schedules([0.1, 0.2, 0.3], [4, 4]), "must increase, from at least 1, got [4, 4]."),
    (lambda: schedules.join_schedules([0.1, 0.2], [2**31]), "It must fit into 32 bits."),
    (lambda: schedules.one_cycle(0.1, 10, pct_start=0.1), "pct_start must leave steps to each phase, got 0.1 of 10"),
    (lambda: schedules.one_cycle(0.1, 10, 0.7, three_phase=True), "pct_start must leave steps to each phase, got 0.7"),
    (lambda: schedules.one_cycle(0.1, 10.5), "one_cycle: total_steps must be an integer >= 1, got 10.5."),
    (lambda: schedules.one_cycle(max_lr=0.1, total_steps=9), "Did you mean 'maximal_learning_rate'?"),
    (lambda: schedules.one_cycle(0.1, 10, anneal_strategy="cosine"), "must be one of 'cos', 'linear', got 'cosine'."),
    (lambda: schedules.one_cycle(0.1, 10, div_factor=0), "one_cycle: div_factor must be > 0, got 0."),
    (lambda: schedules.warmup_stable_decay(0.1, 1, 1, 0), "warmup_stable_decay: decay_steps must be > 0, got 0."),
    (lambda: schedules.warmup_stable_decay(0.1, 1, 1, 5, shape="exponential"), "end_learning_rate must be > 0 for an"),
    (lambda: schedules.warmup_stable_decay(0.1, 1, 1, 5, shape="log"), "shape must be one of 'linear', 'sqrt'"),
    (lambda: schedules.constant(0.1) * {}, "unsupported operand type(s) for *: 'Schedule' and 'dict'"),
    (lambda: schedules.constant(0.1) * jnp.ones(3), "product: factor must be a schedule or a number, got"),
    (lambda: schedules.constant(0.1) * float("nan"), "product: factor must be a schedule or a number, got nan."),
    (lambda: 1 / schedules.constant(0.1), "unsupported operand type(s) for /: 'int' and 'Schedule'"),
    (lambda: schedules.constant(0.1) / schedules.constant(0.1), "unsupported operand type(s) for /"),
    (lambda: schedules.constant(0.1) - 0.1, "unsupported operand type(s) for -: 'Schedule' and 'float'"),
    (lambda: schedules.constant(0.1).plot(0), "plot: steps must be an integer from 1 to 2147483647, got 0."),
    (lambda: schedules.constant(0.1).plot(2.5), "plot: steps must be an integer from 1 to 2147483647, got 2.5."),
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


@pytest.mark.parametrize("slug", library("schedules_torch")[1]["cases"])
def test_recorded_by_torch(slug):
    """Rates, and the momenta that run against them; torch computes in double, half a cosine here is good to 4 ulp."""
    arrays, meta = library("schedules_torch")
    given = meta["cases"][slug]["arguments"]
    given["maximal_learning_rate"] = given.pop("max_lr", None) or given["maximal_learning_rate"]
    heights = {"maximal_learning_rate": 0.85, "div_factor": 0.85 / 0.95, "final_div_factor": 1.0}
    for name, further in ((slug, {}), (f"{slug}/momentum", heights)):
        rate = schedules.one_cycle(**{**given, **further})
        got = jax.jit(jax.vmap(rate))(jnp.asarray(arrays["steps"]))
        np.testing.assert_allclose(got, arrays[name], rtol=0, atol=4 * ULP * arrays[name].max())
        assert float(rate(1000)) == pytest.approx(arrays[name][-1], rel=1e-6)  # where torch raises


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


def at(rate, steps=range(40)):
    return jax.jit(jax.vmap(rate))(jnp.asarray([*steps])).tolist()


def test_joined_as_in_optax():
    """To the bit: which schedule acts at a boundary, and which step it is told."""
    parts = [schedules.exponential_decay(0.5, 3, 0.5), schedules.warmup(1.0, 4), schedules.constant(0.125)]
    assert at(schedules.join_schedules(parts, [7, 20])) == at(optax.join_schedules(parts, [7, 20]))
    warm = schedules.warmup(schedules.polynomial_decay(1.0, 16, 0.25), 8)
    both = optax.warmup_constant_schedule(0.0, 1.0, 8), optax.linear_schedule(1.0, 0.25, 16)
    assert at(warm) == at(optax.join_schedules(both, [8]))
    keras = schedules.cosine_decay(0.02, 20, 0.1, warmup_target=0.5, warmup_steps=10)
    assert at(schedules.warmup(schedules.cosine_decay(0.5, 20, 0.1), 10, start=0.02)) == at(keras)
    assert at(schedules.warmup(keras, 0)) == at(keras)
    assert at(schedules.join_schedules([keras], [])) == at(keras)


def test_one_cycle_of_optax_is_another():
    """Its peak and its end lie one step later, and its ends are PyTorch's."""
    ours = schedules.one_cycle(1.0, 20, 0.5)
    theirs = jos.from_optax("cosine_onecycle_schedule", transition_steps=20, peak_value=1.0, pct_start=0.5)
    assert (np.argmax(at(ours, range(21))), np.argmax(at(theirs, range(21)))) == (9, 10)
    for mine, other in ((0, 0), (9, 10), (19, 20)):
        assert float(ours(mine)) == pytest.approx(float(theirs(other)), abs=ULP)


@pytest.mark.parametrize(("shape", "f"), [
    ("linear", lambda p: 1 - p),
    ("sqrt", lambda p: 1 - np.sqrt(p)),
    ("cosine", lambda p: (1 + np.cos(np.pi * p)) / 2),
    ("exponential", lambda p: (0.5 ** (8 * p) - 0.5**8) / (1 - 0.5**8)),
])  # fmt: skip
def test_warmup_stable_decay(shape, f):
    """As published, in double; the exponential one halves the rate every 4 of its 32 steps."""
    rate = schedules.warmup_stable_decay(0.5, 5, 10, 32, 0.5 * 0.5**8, shape)
    steps = np.arange(60)
    low = 0.5 * 0.5**8
    want = np.where(steps < 15, 0.5 * np.minimum(steps / 5, 1), low + (0.5 - low) * f(np.clip((steps - 15) / 32, 0, 1)))
    np.testing.assert_allclose(at(rate, steps), want, rtol=2e-6)
    assert at(schedules.warmup_stable_decay(0.5, 0, 0, 4), range(5)) == [0.5, 0.375, 0.25, 0.125, 0.0]


def test_arithmetic():
    rate = schedules.exponential_decay(1.0, 1, 0.5)
    tenth = schedules.product(rate, 0.125)
    for other in (rate * 0.125, 0.125 * rate, rate / 8, np.float32(0.125) * rate, np.float64(0.125) * rate, tenth):
        assert other == tenth
        assert at(other, range(3)) == [0.125, 0.0625, 0.03125]
    assert at(jnp.float32(0.125) * rate, range(2)) == at(rate * jnp.bfloat16(0.125), range(2)) == [0.125, 0.0625]
    assert rate + 1 == 1 + rate == schedules.total(rate, 1.0)
    assert at(rate + rate * rate, range(3)) == [2.0, 0.75, 0.3125]
    assert at(rate * (lambda step: step), range(3)) == [0.0, 0.5, 0.5]
    theirs = jos.from_optax("linear_schedule", init_value=1.0, end_value=0.0, transition_steps=4) * 2
    assert at(theirs, range(3)) == [2.0, 1.5, 1.0]
    assert jos.deserialize(jos.serialize(theirs)) == theirs


def test_the_last_step_that_a_counter_knows():
    last = 2**31 - 1
    for rate in EXAMPLES:
        assert np.isfinite(float(rate(last)))
    late = schedules.join_schedules([1.0, schedules.piecewise_constant_decay([0], [2.0, 3.0])], [last - 1])
    assert at(late, [last - 2, last - 1, last]) == [1.0, 2.0, 3.0]  # one more than float32 can tell apart


def test_derivatives_are_finite_where_a_schedule_is_not_in_its_turn():
    """A root beyond its end, or before its begin, has none: it is not asked there."""

    def made(x):
        fall = schedules.polynomial_decay(x, 10 * x, power=0.5)
        return schedules.join_schedules([fall, schedules.warmup(fall, 3, start=x / 2), 3 * x], [5, 15]) * x

    def values(x):
        return jax.vmap(made(x))(jnp.asarray([0, 4, 5, 8, 14, 15, 30]))

    near = (jax.jit(values)(1.01) - jax.jit(values)(0.99)) / 0.02
    np.testing.assert_allclose(jax.jit(jax.jacfwd(values))(1.0), near, rtol=1e-2)
    assert np.isfinite(jax.jit(jax.jacrev(values))(1.0)).all()
    wsd = jax.grad(lambda n: schedules.warmup_stable_decay(0.5, 2, 2, n, shape="sqrt")(4))(jnp.float32(8))
    assert wsd == 0


def test_traced_and_injected_compositions():
    def value(rate, factor):
        return (schedules.warmup(rate, 4) * factor)(2)

    got = jax.jit(jax.vmap(value))(jnp.asarray([1.0, 2.0]), jnp.asarray([0.5, 0.25], jnp.bfloat16))
    assert got.tolist() == [0.25, 0.25]
    rate = schedules.warmup(schedules.constant(1.0), 2)
    injected, plain = optax.inject_hyperparams(jos.sgd)(learning_rate=rate), jos.sgd(rate)
    for tx in (injected, plain):
        w, state = jnp.float32(0), tx.init(jnp.float32(0))
        for want in (0.0, -0.5, -1.5):
            updates, state = tx.update(jnp.float32(1), state, w)
            w = optax.apply_updates(w, updates)
            assert float(w) == want
    assert jos.adam(rate * 0.5) == jos.adam(schedules.warmup(schedules.constant(1.0), 2) * 0.5)


def test_a_curve_in_a_notebook():
    for rate in (*EXAMPLES, schedules.constant(0.0), schedules.constant(1.0) * jnp.float32(2)):
        face = xml.etree.ElementTree.fromstring(rate._repr_html_())
        curve = next(x.attrib["points"] for x in face.iter() if x.tag.endswith("polyline"))
        heights = [float(point.partition(",")[2]) for point in curve.split()]
        assert len(heights) > 5
        assert all(0 <= height <= 120 for height in heights)
        assert (max(heights) > min(heights)) == (max(ys := at(rate)) > min(ys))
    jax.jit(lambda x: [schedules.warmup(x, 3)._repr_html_()][1:])(1.0)  # without a curve: its numbers are not known
    assert "&lt;b&gt;" in schedules.constant(1.0, name="<b>")._repr_html_()
    assert "step 1075<" in schedules.warmup_stable_decay(1e-3, 100, 600, 300)._repr_html_()


def test_plot(monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figure, axes = pyplot.subplots()
    rate = schedules.warmup(1.0, 4)
    assert rate.plot(8, ax=axes) is axes
    assert axes.get_lines()[0].get_ydata().tolist() == [float(rate(step)) for step in range(9)]
    assert rate.plot(2**31 - 1, ax=axes).get_lines()[1].get_xdata()[-1] == 2**31 - 1
    pyplot.close(figure)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot")
    with pytest.raises(ImportError, match=r"plot: it needs matplotlib: pip install 'jaxopt-suite\[plot\]'"):
        rate.plot(8)
