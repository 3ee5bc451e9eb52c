"""Sparse gradients: what the originals do with them, what lazy touches, and slices in everything around a rule."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from programs import quick, same, stacked, steps
from recorded import error, library, sparse_recording
from rows import BETAS, FLOAT32_BETAS, LONG_PRODUCT, ROWS, case_name

import jaxopt_suite as jos
from jaxopt_suite._recipe.config import REGISTRY

Slices = jos.sparse.IndexedSlices
SHAPE = (6, 3)
OWN = [row for row in ROWS if "optimizer" not in row.make.__signature__.parameters]  # the others wrap one


def is_slices(x):
    return isinstance(x, Slices)


def dense(tree):
    return jax.tree.map(lambda x: x.to_dense() if is_slices(x) else x, tree, is_leaf=is_slices)


def example(seed=0, dtype=jnp.float32, indices=(4, 1, 4)):
    """A table and a bias, and gradients: slices with a row that comes twice."""
    rng = np.random.RandomState(seed)
    params = {"bias": rng.standard_normal(3), "table": rng.standard_normal(SHAPE)}
    params = jax.tree.map(lambda w: jnp.asarray(w, dtype), params)
    values = jnp.asarray(rng.standard_normal((len(indices), 3)), dtype)
    return params, {"bias": jnp.asarray(rng.standard_normal(3), dtype), "table": Slices(values, indices, SHAPE)}


# --- the recorded trajectories ---------------------------------------------------

_ORIGINAL = {
    ("tf_addons", "LAMB"): {"dialect": "legacy", "epsilon": 1e-6},
    ("tf_addons", "AdamW"): {"dialect": "legacy"},
}
_NO_BETAS = ("SGD", "RMSprop", "Adagrad", "Adadelta", "Adamax", "Ftrl", "SGDW", "ProximalAdagrad")
_NO_BETAS += ("ConditionalGradient",)
CASES = library("sparse")[1]["cases"]


def original(slug):
    """Our optimizer for a case, and how closely it must follow."""
    case = CASES[slug]
    given = {BETAS.get(name, name): value for name, value in sparse_recording(slug).arguments().items()}
    dialect = {"dialect": "legacy"} if case["library"] == "legacy" else {}
    tx = REGISTRY[case["class"].lower()](**{**dialect, **_ORIGINAL.get((case["library"], case["class"]), {}), **given})
    if case["library"] != "tf_keras" and case["class"] not in _NO_BETAS:
        return tx, FLOAT32_BETAS["tolerance"]
    return tx, LONG_PRODUCT["tolerance"] if case["class"] == "Nadam" else 2e-6


@functools.cache
def trajectories(kind):
    """Of all cases with these inputs, which take their steps in one program: the parameters and the averages."""
    slugs = [slug for slug in CASES if CASES[slug]["kind"] == kind]
    made, record = [original(slug)[0] for slug in slugs], sparse_recording(slugs[0])

    @(quick if kind == "short" else jax.jit)  # a few steps: there is nothing that optimising could add up to
    def step(grads, every):
        after = [tx.apply_gradients(grads, state, w) for tx, (w, state) in zip(made, every, strict=True)]
        return after, [tx.finalize_variable_values(state, w) for tx, (w, state) in zip(made, after, strict=True)]

    every, taken = [(record.params, tx.init(record.params)) for tx in made], []
    for grads in record.grads:
        every, averages = step(grads, every)
        taken.append([(w, average) for (w, _), average in zip(every, averages, strict=True)])
    return dict(zip(slugs, stacked(taken), strict=True))


@pytest.mark.parametrize(
    "slug", [pytest.param(slug, marks=[] if CASES[slug]["kind"] == "short" else pytest.mark.slow) for slug in CASES]
)
def test_recorded_trajectory(slug):
    record, (_, tolerance), (taken, averages) = (
        sparse_recording(slug),
        original(slug),
        trajectories(CASES[slug]["kind"])[slug],
    )
    errors = jax.tree.map(error, taken, record.trajectory)
    errors |= {f"average/{path}": error(averages[path], x) for path, x in record.average.items()}
    assert max(errors.values()) <= tolerance, errors


TORCH = {"lr": "learning_rate", "eps": "epsilon", "lr_decay": "decay"}


@pytest.mark.parametrize("slug", library("sparse_torch")[1]["cases"])
def test_recorded_of_torch(slug):
    """Its dialect: SGD and Adagrad as they are, SparseAdam as lazy Adam, which `lazy_adam` is too."""
    arrays, meta = library("sparse_torch")
    case, record = meta["cases"][slug], sparse_recording("tf_keras_sgd")
    given = {TORCH.get(name, name): value for name, value in case["arguments"].items()}
    given |= dict(zip(("beta_1", "beta_2"), given.pop("betas", ()), strict=False))
    if case["class"] == "SparseAdam":
        given = {"epsilon": 1e-8, **given}
        made = {jos.adam(**given, dialect="torch", lazy=True): 2e-6}
        made[jos.lazy_adam(**given)] = 1e-5  # 1 - beta ** t, in float32
    else:
        made = {REGISTRY[case["class"].lower()](**given, dialect="torch"): 2e-6}

    @quick
    def step(g, every):
        return [tx.apply_gradients(g, state, w) for tx, (w, state) in zip(made, every, strict=True)]

    every = [(record.params["table"], tx.init(record.params["table"])) for tx in made]
    for grads, want in zip(record.grads, arrays[f"{slug}/table"], strict=True):
        every = step(grads["table"], every)
        for (w, _), tolerance in zip(every, made.values(), strict=True):
            assert error(w, want) <= tolerance


# --- what is touched -------------------------------------------------------------


@functools.cache
def one_after_the_other():
    """For every optimizer, in one program: a step on row 1, then one on row 4, and the latter with a dense gradient."""
    params = {"table": example()[0]["table"]}
    first, second = ({"table": Slices(jnp.ones((1, 3)), [index], SHAPE)} for index in (1, 4))

    @quick
    def run(params):
        found = {}
        for row in OWN:
            tx = row.build()
            before = tx.apply_gradients(first, tx.init(params), params)
            ways = [tx.apply_gradients(g, *before[::-1]) for g in (second, dense(second))]
            found[row.name] = (before, *ways)
        return found

    return run(params)


@pytest.mark.parametrize("row", OWN, ids=case_name)
def test_what_a_sparse_gradient_touches(row):
    """What happens to row 1 in a step on row 4 is what the table says, and explain too."""
    tx, (before, after, with_dense) = row.build(), one_after_the_other()[row.name]
    assert tx.explain({"table": jnp.zeros(SHAPE)}).to_dict()["parameters"][0]["sparse"] == row.sparse
    if row.sparse == "everything":
        same(after, with_dense)
        return
    tables = zip(jax.tree.leaves(before[1].stages), jax.tree.leaves(after[1].stages), strict=True)
    assert not changed(before[0]["table"], after[0]["table"])
    assert any(changed(a, b) for a, b in tables if a.shape == SHAPE) == (row.sparse != "rows")


def changed(a, b):
    """Whether row 1 is another."""
    return bool(jnp.any(a[1] != b[1]))


PRESENT = jnp.array([1, 4])


def lazy_and_alone(row):
    """Three lazy steps, three on a table of the present rows, and one more lazy one in both ways."""
    params, grads = example()
    part = {**params, "table": params["table"][PRESENT]}
    part_grads = {**grads, "table": grads["table"].to_dense()[PRESENT]}
    tx, alone = row.build(lazy=True, weight_decay=0.1), row.build(weight_decay=0.1)

    @quick
    def run(params, part):
        got, want = (params, tx.init(params)), (part, alone.init(part))
        for _ in range(3):
            got, want = tx.apply_gradients(grads, *got[::-1]), alone.apply_gradients(part_grads, *want[::-1])
        return got[0], want[0], tx.update(grads, *got[::-1])[0], tx.apply_gradients(grads, *got[::-1])[0]

    return params, run(params, part)


SOON = ("adam", "lazy_adam", "ftrl", "lamb", "adafactor", "muon", "novograd", "conditional_gradient")  # others slowly


@pytest.mark.parametrize(
    "row", [pytest.param(r, id=r.name, marks=[] if r.name in SOON else pytest.mark.slow) for r in OWN]
)
def test_lazy_is_the_rule_on_the_rows_alone(row):
    if row.not_lazy:
        with pytest.raises(ValueError, match=f"{row.name}: lazy must be False"):
            row.build(lazy=True)
        return
    params, (got, want, updates, applied) = lazy_and_alone(row)
    same({**got, "table": got["table"][PRESENT]}, want)
    still = jnp.array([0, 2, 3, 5])
    np.testing.assert_array_equal(got["table"][still], params["table"][still])
    assert is_slices(updates["table"])
    same(optax.apply_updates(got, updates), applied)


def test_lazy_is_refused_where_it_would_do_nothing():
    with pytest.raises(ValueError, match="adam: lazy=True has no effect with gradient_accumulation_steps"):
        jos.adam(lazy=True, gradient_accumulation_steps=2)

    for tx in (jos.sgd(momentum=0.9, dialect="torch", lazy=True), jos.rmsprop(dialect="torch", lazy=True)):
        assert tx.explain({"t": jnp.ones(SHAPE)}).to_dict()["parameters"][0]["sparse"] == "rows"

    @jos.optimizer("Whole")
    def whole(learning_rate=0.1, **common):
        return jos.leafwise(None, None, lambda g, s, w, t: (g / jnp.max(g), s))

    with pytest.raises(ValueError, match=r"whole: lazy must be False: .* leafwise\(\.\.\., elementwise=True\)"):
        whole(lazy=True)

    @jos.optimizer("Entries")
    def entries(learning_rate=0.5, **common):
        return jos.leafwise(None, None, lambda g, s, w, t: (jnp.sign(g) + w, s), elementwise=True)

    params, grads = {"table": jnp.ones(SHAPE)}, {"table": Slices(jnp.ones((1, 3)), [2], SHAPE)}
    after, _ = steps(entries(lazy=True), params, grads, 1)
    assert after["table"][:, 0].tolist() == [1, 1, 0, 1, 1, 1]


@pytest.mark.slow
def test_catch_up_follows_dense_adam():
    """The rows that come are where dense Adam has them, but for the approximation; without it they are far off."""
    rng = np.random.RandomState(0)
    n, k, many = 30, 5, 80
    often, drift = 1 / np.arange(1, n + 1), rng.standard_normal((n, 2))
    ids = [rng.choice(n, size=k, p=often / often.sum()) for _ in range(many)] + [np.arange(n)]  # in the end, all rows
    values = [jnp.asarray(drift[i] + rng.standard_normal((len(i), 2)), jnp.float32) for i in ids]
    params = {"table": jnp.asarray(rng.standard_normal((n, 2)), jnp.float32)}

    def run(tx, change):
        w, state, step = params, tx.init(params), jax.jit(tx.apply_gradients)
        for i, g in zip(ids, values, strict=True):
            w, state = step({"table": change(Slices(g, i, (n, 2)))}, state, w)
        return w["table"]

    want = run(jos.adam(0.01), Slices.to_dense)
    far = jnp.abs(run(jos.lazy_adam(0.01), lambda g: g) - want).mean()
    near = jnp.abs(run(jos.lazy_adam(0.01, catch_up=True), lambda g: g) - want).mean()
    assert near < far / 50
    assert near < 2e-3
    assert far > 0.05
    same(
        run(jos.lazy_adam(0.01, catch_up=True), Slices.to_dense), want
    )  # who misses nothing has nothing to make up for
    for bad in ({"amsgrad": True}, {"beta_1": 0.9, "beta_2": 0.5}):
        with pytest.raises(ValueError, match="lazy_adam: catch_up"):
            jos.lazy_adam(catch_up=True, **bad)


# --- everything around a rule ----------------------------------------------------

LAZY = functools.partial(jos.adam, 0.1, lazy=True)
AROUND = {
    "clipnorm": jos.adam(0.1, clipnorm=0.5),
    "accumulation": jos.adam(0.1, gradient_accumulation_steps=2, global_clipnorm=0.5),
    "loss scale": jos.loss_scale(jos.adam(0.1), 8.0),
    "static loss scale": jos.adam(0.1, loss_scale_factor=4.0),
    "ema": jos.sgd(0.1, use_ema=True, ema_overwrite_frequency=2),
    "decay": jos.sgd(0.1, weight_decay=0.5),
    "lookahead": jos.lookahead(jos.sgd(0.1), 2),
    "swa of lazy": jos.swa(jos.adagrad(0.1), average_period=1),
    "by_path": jos.by_path({"table": jos.adagrad(0.1), ".*": jos.adam()}, global_clipnorm=0.5),
    "by_path that holds": jos.by_path({"table": jos.adam(gradient_accumulation_steps=2), ".*": jos.adam()}),
    "frozen": jos.by_path({"table": jos.frozen(), ".*": jos.adam()}),
    "chain": jos.chain(jos.transforms.clip_by_global_norm(0.5), jos.transforms.accumulate(2), jos.adam(0.1)),
    "chain of a check": jos.chain(jos.transforms.unscale_dynamically(8.0), jos.adagrad(0.1)),
    "from_optax": jos.chain(jos.transforms.unscale(2.0), jos.from_optax("adam", learning_rate=0.1)),
}


QUICKLY = ("accumulation", "by_path that holds")  # the others run slowly


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICKLY else pytest.mark.slow) for n in AROUND])
def test_slices_are_as_their_dense_gradient(name):
    """Where each row comes once, and the rule does not leave rows alone, the numbers are those of a dense gradient."""
    tx, (params, grads) = AROUND[name], example(indices=(4, 1, 2))
    taken, step = [], quick(tx.apply_gradients)
    for change in (lambda g: g, dense):
        w, state = params, tx.init(params)
        for _ in range(4):
            w, state = step(change(grads), state, w)
        taken.append((w, state, tx.finalize_variable_values(state, w)))
    same(*taken)
    updates, _ = quick(tx.update)(grads, tx.init(params), params)
    same(optax.apply_updates(params, updates), step(grads, tx.init(params), params)[0])


def test_lazy_says_nothing_new_of_lazy_adam():
    """It has a rule of its own for slices, which keeps no largest moment, as in TF Addons."""
    params, grads = example()
    made = [jos.lazy_adam(0.1, beta_2=0.5, amsgrad=True, lazy=lazy) for lazy in (False, True)]
    after = [steps(tx, params, grads, 2) for tx in made]
    same(*after)
    assert not jnp.any(jos.state.get_slot(after[1][1], "table", "vhat"))


@pytest.mark.parametrize("kind", ["parameter", "slots"])
def test_rounding_is_drawn_by_the_row(kind):
    """The same, whatever rows come with it and in which order, and as that of a dense gradient."""
    tx, w = jos.precision.stochastic_rounding(jos.sgd(0.01), seed=1), jnp.ones((9, 64), jnp.bfloat16)
    if kind == "slots":
        inner = jos.sgd(0.01, momentum=0.5, lazy=True)
        tx, w = jos.precision.state_dtype(inner, "bfloat16", min_size=0), jnp.ones((9, 64))
    step = quick(lambda g: tx.apply_gradients(g, tx.init(w), w))
    some, more, dense_step = (
        step(g)
        for g in (
            Slices(jnp.full((2, 64), 0.3), [1, 7], w.shape),
            Slices(jnp.full((4, 64), 0.3), [7, 0, 1, 8], w.shape),
            jnp.full(w.shape, 0.3),
        )
    )
    arrays = [[x[0]] if kind == "parameter" else jax.tree.leaves(x[1].stages) for x in (some, more, dense_step)]
    for a, b, c in zip(*arrays, strict=True):
        assert len({*a[1].tolist()}) == 2  # rounded up and down
        np.testing.assert_array_equal(a[jnp.array([1, 7])], b[jnp.array([1, 7])])
        np.testing.assert_array_equal(a[jnp.array([1, 7])], c[jnp.array([1, 7])])


HALVES = {
    "master": jos.precision.master_weights(LAZY()),
    "kahan": jos.precision.kahan_summation(jos.loss_scale(LAZY(), 8.0)),
    "by chance": jos.precision.stochastic_rounding(jos.by_path({"table": LAZY(), ".*": jos.sgd(0.1)})),
    "in 8 bits": jos.precision.state_dtype(LAZY(), "blockwise8", min_size=0),
    "all slots": jos.precision.state_dtype(jos.radam(0.1), "blockwise8", min_size=0),
}


def wide(tree):
    return jax.tree.map(lambda x: x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


@pytest.mark.parametrize("name", [n if n == "master" else pytest.param(n, marks=pytest.mark.slow) for n in HALVES])
def test_precision_of_rows(name):
    """16-bit parameters and coded slots move by their rows, to about the numbers of float32."""
    tx, (params, grads) = HALVES[name], example(dtype=jnp.bfloat16)
    plain = {"all slots": jos.radam(0.1), "by chance": jos.by_path({"table": LAZY(), ".*": jos.sgd(0.1)})}
    got, want = (params, tx.init(params)), wide(params)
    want = want, plain.get(name, LAZY()).init(want)
    step, plain_step = quick(tx.apply_gradients), quick(plain.get(name, LAZY()).apply_gradients)
    updates, _ = quick(tx.update)(grads, tx.init(params), params)
    assert is_slices(updates["table"])
    with jax.numpy_dtype_promotion("standard"):  # optax.apply_updates itself promotes implicitly
        applied = optax.apply_updates(params, updates)
    same(applied, step(grads, *got[::-1])[0], 1e-2)
    for _ in range(3):
        got, want = step(grads, *got[::-1]), plain_step(wide(grads), *want[::-1])
    same(wide(got[0]), want[0], 0.05)
    still = jnp.array([0, 2, 3, 5])
    np.testing.assert_array_equal(got[0]["table"][still], params["table"][still])


def test_plain_optax():
    """Our primitives know slices; what maps over arrays in between changes the indices, which is seen."""
    params, grads = example()
    chained = optax.chain(jos.transforms.clip_by_value(0.5), LAZY())
    (got, _), (want, _) = steps(chained, params, grads, 2), steps(LAZY(clipvalue=0.5), params, grads, 2)
    same(got, want)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = optax.scale(-0.1).update(grads, optax.scale(-0.1).init(params))
        for use in (lambda: optax.apply_updates(params, updates), lambda: LAZY().update(updates, LAZY().init(params))):
            with pytest.raises(TypeError, match=r"indices must be integers, got float32\. What maps over all arrays"):
                use()


def test_donated_scanned_mapped_differentiated():
    params, grads = example()
    tx = LAZY(global_clipnorm=1.0)
    want, _ = steps(tx, params, grads, 3)

    def once(carry, _):
        return tx.apply_gradients(grads, carry[1], carry[0]), None

    scanned, _ = quick(lambda params: jax.lax.scan(once, (params, tx.init(params)), None, length=3)[0])(params)
    same(scanned, want)
    two = jax.tree.map(lambda x: jnp.stack([x, x]), (params, tx.init(params), grads))
    mapped, _ = quick(jax.vmap(lambda w, s, g: tx.apply_gradients(g, s, w)))(*two)
    same(jax.tree.map(lambda x: x[1], mapped), steps(tx, params, grads, 1)[0])
    donated = jax.jit(lambda w, s, g: tx.apply_gradients(g, s, w), donate_argnums=(0, 1))
    kept = jax.tree.map(jnp.copy, params)
    held, state = kept, tx.init(kept)
    for _ in range(3):
        held, state = donated(held, state, grads)
    same(held, want)

    def outcome(values):
        g = {**grads, "table": Slices(values, grads["table"].indices, SHAPE)}
        return jnp.sum(jnp.sin(tx.apply_gradients(g, tx.init(params), params)[0]["table"][1:5:3]))

    values = jnp.where(jnp.arange(3)[:, None] == 1, 0.0, grads["table"].values)  # a row of zeros, at a root's corner
    slope = quick(jax.grad(outcome))(values)
    assert np.isfinite(slope).all()
    assert jnp.any(slope[0] != 0)


def both_ways(tx, grads, state, params):
    return tx.apply_gradients(grads, state, params), tx.update(grads, state, params)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_dtypes(dtype):
    with jax.enable_x64(dtype == "float64"):
        params, grads = example(dtype=dtype)
        for tx in (jos.radam(0.1), jos.lazy_adam(0.1, catch_up=True), jos.schedule_free_adamw(lazy=True)):
            state = tx.init(params)
            (applied, after), (updates, _) = quick(both_ways, static_argnums=0)(tx, grads, state, params)
            assert applied["table"].dtype == dtype
            held = {s.dtype.name for s in jax.tree.leaves(after.stages)}
            assert held == {"float64" if dtype == "float64" else "float32"}
            same(applied, optax.apply_updates(params, updates), 1e-2 if dtype == "bfloat16" else 1e-12)


@pytest.mark.slow
def test_nothing_of_the_table_s_size_is_made():
    """The compiled step needs room for the slices alone, however large the table, and works in place."""
    k, d, rooms = 64, 8, []
    for n in (10_000, 100_000):
        params = {"table": jax.ShapeDtypeStruct((n, d), jnp.float32)}
        slices = Slices(jnp.ones((k, d)), np.arange(k), (n, d))
        for tx in (jos.lazy_adam(catch_up=True), LAZY(global_clipnorm=1.0)):
            state = jax.eval_shape(tx.init, params)
            step = jax.jit(lambda w, s, g, tx=tx: tx.apply_gradients({"table": g}, s, w), donate_argnums=(0, 1))
            memory = step.lower(params, state, slices).compile().memory_analysis()
            rooms.append(memory.temp_size_in_bytes)
            assert memory.alias_size_in_bytes >= sum(s.size * 4 for s in jax.tree.leaves((params, state.stages)))
    assert rooms[:2] == rooms[2:]
    assert max(rooms) <= 40 * k * d * 4


def test_recipes():
    tx = jos.lazy_adam(0.1, catch_up=True, clipnorm=1.0)
    assert tx == jos.deserialize(jos.serialize(tx))
    assert jos.adam(lazy=True) != jos.adam()
    assert jos.adam(lazy=True).get_config()["lazy"] is True
    params = {"bias": jnp.zeros(3), "table": jnp.zeros(SHAPE)}
    shown = repr(jos.adam(lazy=True).explain(params)).splitlines()
    assert [" rows " in line for line in shown[1:4]] == [False, False, True]  # a bias is no table
    assert "sparse" not in repr(jos.adam().explain(params))
    summed = jos.chain(jos.transforms.accumulate(2), jos.lazy_adam()).explain(params)
    assert {p["sparse"] for p in summed.to_dict()["parameters"]} == {"everything"}
