"""What a rule must bear: to be differentiated where gradients are zero, a rate of zero, hyperparameters that change."""

import inspect
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_conformance import rows

import jaxopt_suite as jos
from jaxopt_suite._algorithms.conditional_gradient import _top_singular
from jaxopt_suite._frame.roots import power, quotient, root

TESTS = pathlib.Path(__file__).parent
PACKAGE = pathlib.Path(jos.__file__).parent

# weights and gradients with zeros, weights that are all zero and have a gradient that is all zero
WEIGHTS = {"still": jnp.zeros(2), "kernel": jnp.array([[1.0, -2.0], [0.0, 0.5], [0.0, 0.0]])}
GRADIENT = {"still": jnp.zeros(2), "kernel": jnp.array([[1.0, 0.0], [0.0, 0.0], [0.0, -2.0]])}

# settings in which a rule divides by what may be zero, or takes its root
CORNERS = {
    "amsgrad": True,
    "dialect": "legacy",
    "initial_accumulator_value": 0.0,
    "ord": "nuclear",
    "start_averaging": 2,
    "total_steps": 4,
    "warmup_proportion": 0.0,
}


def built(row, **arguments):
    """The first variant of a row with those of the arguments that it takes; a wrapper's others are its optimizer's."""

    def taken(make):
        return {name: value for name, value in arguments.items() if name in inspect.signature(make).parameters}

    arguments = {"exclude_from_weight_decay": (), **arguments}
    inner = row.variants[0].all_arguments().get("optimizer")
    wrapped = {} if inner is None else {"optimizer": inner.replace(**taken(inner.recipe.factory))}
    return row.build(**taken(row.make), **wrapped)


def finite(tree):
    return all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(tree))


@rows(few=True)
def test_a_run_can_be_differentiated_where_gradients_are_zero(row):
    clipped = built(row, **CORNERS, global_clipnorm=1.0)
    tx = jos.chain(jos.transforms.clip_by_norm(1.5), clipped)
    has_rate = clipped.line.learning_rate is not None

    def loss(weights, gradients, rate):
        state = tx.init(weights)
        if has_rate:
            state = jos.state.set_learning_rate(state, rate)
        for factor in (0.0, 1.0, 0.5):  # in the first step all gradients are zero
            gradient = jax.tree.map(lambda g, factor=factor: factor * g, gradients)
            weights, state = tx.apply_gradients(gradient, state, weights)
        final = tx.finalize_variable_values(state, weights)
        return sum(jnp.sum(jnp.sin(w)) for w in jax.tree.leaves((weights, final)))

    with jax.disable_jit():  # operation by operation, which rows share: nothing is compiled for one row alone
        by_weights, by_gradients, by_rate = jax.grad(loss, (0, 1, 2))(WEIGHTS, GRADIENT, jnp.float32(0.1))
    assert finite(by_weights)
    assert finite(by_gradients)
    assert finite(by_rate)


def test_roots_are_those_of_numpy_and_flat_at_zero():
    x, p = jnp.array([0.0, 1e-45, 1e-38, 0.3, 2.0, jnp.inf, jnp.nan]), jnp.float32(0.3)
    functions = ((root, jnp.sqrt), (lambda x: power(x, p), lambda x: x**p), (lambda x: quotient(p, x), lambda x: p / x))
    orders = (lambda f: f, jax.grad, lambda f: jax.grad(jax.grad(f)), lambda f: jax.jacfwd(jax.grad(f)))
    known = jax.jit(lambda x: [[[jax.vmap(order(f))(x) for f in pair] for order in orders] for pair in functions])(x)
    for (values, *slopes), flat in zip(known, (True, True, False), strict=True):
        np.testing.assert_array_equal(*values)
        for ours, theirs in slopes:
            np.testing.assert_allclose(ours[3:5], theirs[3:5], rtol=1e-5)
            assert not flat or ours[0] == 0
    for function, plain in ((power, jnp.power), (quotient, jnp.divide)):
        ours, theirs = (jax.jit(jax.grad(f, (0, 1)))(0.7, 0.3) for f in (function, plain))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_no_rule_takes_a_root_of_its_own():
    files = [*PACKAGE.glob("_algorithms/*.py"), *PACKAGE.glob("_stages/*.py")]
    found = [path.name for path in files if re.search(r"(?:jnp|lax|linalg)\.(?:sqrt|rsqrt|norm)\(", code(path))]
    assert files
    assert not found


def code(path):
    """The text of a file without its docstrings."""
    return re.sub(r'""".*?"""', "", path.read_text(), flags=re.DOTALL)


def test_the_top_singular_vectors_move_as_the_decomposition_says():
    def plain(g):
        u, _, vt = jnp.linalg.svd(g, full_matrices=False)
        return u[:, :1] * vt[:1]

    g, dg = jax.random.normal(jax.random.key(0), (2, 3, 2))
    got, want = jax.jit(lambda g, dg: [jax.jvp(f, (g,), (dg,)) for f in (_top_singular, plain)])(g, dg)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    degenerate = jnp.stack([jnp.zeros((3, 2)), jnp.eye(3)[:, :2], jnp.ones((3, 2))])
    assert finite(jax.jit(jax.vmap(jax.grad(lambda g: jnp.sum(jnp.sin(_top_singular(g))))))(degenerate))


# at first, in the middle and for ever
RATES = jnp.array([0.0, 0.0, 0.1, 0.1, 0.0, 0.1, 0.0, 0.0])


@rows(few=True)
def test_a_rate_of_zero(row):
    tx = built(row, learning_rate=lambda step: RATES[jnp.minimum(step, len(RATES) - 1)])
    never = built(row, learning_rate=0.0)
    moved = []
    with jax.disable_jit():
        weights, state = WEIGHTS, tx.init(WEIGHTS)
        for _ in RATES:
            after, state = tx.apply_gradients(GRADIENT, state, weights)
            assert finite((after, state))
            moved.append(any(jnp.any(a != b) for a, b in zip(*map(jax.tree.leaves, (weights, after)), strict=True)))
            weights = after
        assert finite(tx.finalize_variable_values(state, weights))
        assert finite(never.apply_gradients(GRADIENT, never.init(WEIGHTS), WEIGHTS))
    assert any(moved)
    assert any(moved[:2]) == ("a rate of zero at first" in row.exempt), row.exempt
    assert any([moved[4], *moved[6:]]) == ("a rate of zero later" in row.exempt), row.exempt


def test_at_a_rate_of_zero_a_leader_is_not_followed():
    tx, still = jos.ftrl(0.5, beta=0.5, l2_shrinkage_regularization_strength=0.1), jos.ftrl(0.0)
    state = tx.init(WEIGHTS)
    weights, state = tx.apply_gradients(GRADIENT, state, WEIGHTS)
    held = jos.state.set_learning_rate(state, 0.0)
    after, kept = tx.apply_gradients(GRADIENT, held, weights)
    jax.tree.map(np.testing.assert_array_equal, (after, kept.stages), (weights, state.stages))
    after, _ = still.apply_gradients(GRADIENT, still.init(WEIGHTS), WEIGHTS)
    jax.tree.map(np.testing.assert_array_equal, after, WEIGHTS)


def test_an_accumulator_of_zero_is_not_divided_by():
    tx, w = jos.ftrl(0.5, initial_accumulator_value=0.0), jnp.array([3.0, 0.0])
    w, _ = tx.apply_gradients(jnp.array([0.0, 2.0]), tx.init(w), w)
    np.testing.assert_allclose(w, [0.0, -0.5])  # a first step ends at -rate * sign(g)


def test_keras_ignores_relative_step():
    falling = jos.schedules.exponential_decay(0.9, 10, 0.9)
    with pytest.warns(UserWarning, match="cap_rate=False") as warned:
        ignored = jos.adafactor(falling, relative_step=False)
    assert len(warned) == 1
    made = (jos.adafactor(falling), ignored, jos.adafactor(falling, cap_rate=False))
    ends = []
    for tx in made:  # a step does not warn again
        w, state = jnp.array([3.0, -1.0]), tx.init(jnp.array([3.0, -1.0]))
        for g in jnp.array([[0.5, -2.0], [1.0, 0.1], [0.2, 0.3]]):
            w, state = tx.apply_gradients(g, state, w)
        ends.append(w)
    np.testing.assert_array_equal(ends[0], ends[1])
    assert float(jnp.abs(ends[0] - ends[2]).max()) > 0.1


CONSTRUCTS = """
import sys
sys.path.insert(0, {tests!r})
import jax
from jax._src import xla_bridge
import jaxopt_suite as jos
import rows

made = [row.build(variant) for row in rows.ROWS for variant in row.variants]
ramp = jos.schedules.momentum_ramp(0.9)
falling = jos.schedules.cosine_decay(0.1, 30, 0.1, warmup_target=0.5, warmup_steps=10)
made += [
    jos.radam(total_steps=100, warmup_proportion=0.1, min_lr=1e-5),
    jos.adabelief(falling, total_steps=100, warmup_proportion=0.1, min_lr=1e-5),
    jos.moving_average(jos.sgd(), num_updates=3, dynamic_decay=True),
    ramp,
    falling,
    jos.schedules.cosine_decay_restarts(0.1, 10, 1.5, 0.8),
    jos.schedules.exponential_decay(0.1, 7, 0.6, staircase=True),
    jos.schedules.inverse_time_decay(0.1, 7, 0.5),
    jos.schedules.piecewise_constant_decay([4, 15.5], [0.08, 0.02, 0.05]),
    jos.schedules.polynomial_decay(0.1, 20, 0.01, 2.0, cycle=True),
    jos.schedules.triangular_cyclical(0.01, 0.1, 7),
    jos.schedules.triangular2_cyclical(0.01, 0.1, 7),
    jos.schedules.exponential_cyclical(0.01, 0.1, 7, gamma=0.95),
    jos.chain(jos.transforms.clip_by_value(0.5), jos.from_optax("adam", learning_rate=0.01), jos.transforms.ema(0.9)),
    jos.by_path({{"bias": jos.sgd(falling), "frozen": jos.frozen(), "": jos.adamw()}}, global_clipnorm=1.0),
]
for row in rows.ROWS:  # each number as a schedule, and all common arguments at once
    numbers = [name for name, word in row.make.words.items() if word.kind == "number" and name != "decay"]
    made += [row.build(**{{name: ramp}}) for name in numbers]
for tx in made:
    hash(tx), repr(tx), tx == tx, jos.serialize(tx)
assert not xla_bridge.backends_are_initialized()
"""


def test_nothing_computes_at_construction():
    done = subprocess.run(
        [sys.executable, "-c", CONSTRUCTS.format(tests=str(TESTS))], capture_output=True, text=True, cwd=PACKAGE.parent
    )
    assert done.returncode == 0, done.stderr


def test_without_a_rate_a_decay_stands_alone():
    bet, plain = jos.cocob(weight_decay=0.01), jos.cocob()
    w, g = jnp.array([2.0, -1.0]), jnp.array([0.5, 0.0])
    step = plain.apply_gradients(g, plain.init(w), w)[0] - w
    np.testing.assert_allclose(bet.apply_gradients(g, bet.init(w), w)[0], 0.99 * w + step, rtol=1e-6)


def test_a_beta_that_changes():
    betas, rate, beta_2, epsilon = [0.9, 0.5, 0.8, 0.3, 0.95], 0.5, 0.9, 1e-8
    gradients = np.random.default_rng(0).normal(size=(len(betas), 3))

    def run(beta_1):
        """The paper's three sequences, each of them stored."""
        x, z, v, out = np.ones(3), np.ones(3), np.zeros(3), []
        for t, (g, beta) in enumerate(zip(gradients, beta_1, strict=True), start=1):
            v = beta_2 * v + (1 - beta_2) * g * g
            z = z - rate * g / (np.sqrt(v / (1 - beta_2**t)) + epsilon)
            x = x + (z - x) / t
            out.append(((1 - beta) * z + beta * x, x))
        return out

    with jax.enable_x64(True):
        changing, constant = lambda step: jnp.array(betas)[step], 0.7
        for beta_1, want in ((changing, run(betas)), (constant, run([constant] * len(betas)))):
            tx = jos.schedule_free_adamw(rate, beta_1, beta_2, epsilon)
            y, state = jnp.ones(3), tx.init(jnp.ones(3))
            assert len(jax.tree.leaves(state)) == (6 if callable(beta_1) else 4)  # count, rate, z and v; two betas
            np.testing.assert_allclose(tx.finalize_variable_values(state, y), y)
            for g, (want_y, want_x) in zip(gradients, want, strict=True):
                y, state = tx.apply_gradients(jnp.array(g), state, y)
                np.testing.assert_allclose(y, want_y, rtol=1e-12)
                np.testing.assert_allclose(tx.finalize_variable_values(state, y), want_x, rtol=1e-12)
