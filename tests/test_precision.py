"""Training in 16 bits: what is written, how it is rounded, and how slots are stored, for every row that has any."""

import functools
import json
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from programs import example, quick, steps
from rows import ROWS
from test_conformance import rows

import jaxopt_suite as jos
from jaxopt_suite import precision
from jaxopt_suite.state._codec import Blocks, decode, encode

OPTIMIZERS = [row for row in ROWS if "optimizer" not in row.make.__signature__.parameters]
WRITERS = (precision.master_weights, precision.stochastic_rounding, precision.kahan_summation)
EIGHT = {"m": "blockwise8", "v": "blockwise8"}
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
some_rows = rows(few=True)
every_writer = pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)


def name(function):
    return function.__name__


def halves(tree, dtype=jnp.bfloat16):
    return jax.tree.map(lambda x: x.astype(dtype), tree)


def taken(tx, params, grads, n, compiled=quick):
    """Parameters and state after `n` steps of `apply_gradients`."""
    state, step = tx.init(params), compiled(tx.apply_gradients)
    for _ in range(n):
        params, state = step(grads, state, params)
    return params, state


def matrix(seed=0, shape=(64, 300), dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


# what is written


@some_rows
def test_a_master_copy_is_training_in_float32_rounded_once(row):
    params, grads = example(dtype=jnp.bfloat16)
    tx = row.build()
    written, _ = taken(precision.master_weights(tx), params, grads, 3)
    wide, _ = taken(tx, halves(params, jnp.float32), halves(grads, jnp.float32), 3)
    chex.assert_trees_all_equal(written, halves(wide))


INNER = ["adamw", "adam_ema", "lookahead", "by_path", "loss_scale", "from_optax", "chain"]
BEHIND = [  # one writer in front of all, each in front of two; the others run in CI
    pytest.param(writer, inner, marks=[] if writer is WRITERS[0] or inner in INNER[1:3] else pytest.mark.slow)
    for writer in WRITERS
    for inner in INNER
]


@pytest.mark.parametrize(("writer", "inner"), BEHIND, ids=lambda x: getattr(x, "__name__", x))
def test_what_stands_behind_a_rule_goes_through_the_writer(writer, inner):
    rules = {"kernel": jos.adamw(1e-3), ".*": jos.sgd(0.01, momentum=0.9)}
    tx = {
        "adamw": lambda: jos.adamw(1e-3, gradient_accumulation_steps=2, global_clipnorm=1.0),
        "adam_ema": lambda: jos.adam(1e-3, use_ema=True, ema_overwrite_frequency=3),
        "lookahead": lambda: jos.lookahead("adam", sync_period=2),
        "by_path": lambda: jos.by_path(rules),
        "loss_scale": lambda: jos.loss_scale("adam"),
        "from_optax": lambda: jos.from_optax("adamw", learning_rate=1e-3),
        "chain": lambda: jos.chain(jos.transforms.clip_by_value(1.0), jos.adam(1e-3)),
    }[inner]()
    params = {"kernel": matrix(dtype=jnp.bfloat16), "bias": jnp.ones(3), "gain": jnp.ones(5, jnp.float16)}
    grads = jax.tree.map(lambda w: matrix(1, w.shape, w.dtype), params)
    applied, state = taken(writer(tx), params, grads, 6)
    with jax.numpy_dtype_promotion("standard"):  # optax.apply_updates adds float32 to 16 bits
        added, _ = steps(writer(tx), params, grads, 6)
    chex.assert_trees_all_equal_dtypes(applied, params)
    near = [int((a != b).sum()) for a, b in zip(jax.tree.leaves(applied), jax.tree.leaves(added), strict=True)]
    assert max(near) <= 1, "an update, added, lands on another value for one weight in 100,000 at most"
    wide = taken(tx, halves(params, jnp.float32), halves(grads, jnp.float32), 6)[0]
    tolerance = 6 * 2**-7 if writer is precision.stochastic_rounding else 3 * 2**-8  # one unit for each step, or three
    for a, b in zip(jax.tree.leaves(applied), jax.tree.leaves(wide), strict=True):
        error = np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))
        assert (error <= tolerance * np.abs(np.asarray(b, np.float64)) + 1e-3).all()
    chex.assert_trees_all_equal_dtypes(writer(tx).finalize_variable_values(state, applied), params)


@every_writer
def test_updates_are_float32_and_land_where_they_should(writer):
    w = jnp.asarray(np.random.default_rng(0).standard_normal(400_000), jnp.bfloat16)
    tx, g = writer(jos.sgd(0.01)), jnp.asarray(np.random.default_rng(1).standard_normal(400_000), jnp.bfloat16)
    state = tx.init(w)
    updates, _ = jax.jit(tx.update)(g, state, w)
    applied, _ = jax.jit(tx.apply_gradients)(g, state, w)
    assert updates.dtype == jnp.float32
    with jax.numpy_dtype_promotion("standard"):
        assert int((optax.apply_updates(w, updates) != applied).sum()) <= 4
    assert int((w != applied).sum()) > 200_000


@every_writer
def test_sixteen_bits_that_do_not_move_learn(writer):
    plain, w = jos.adam(1e-3), jnp.ones(1000, jnp.bfloat16)
    assert (taken(plain, w, jnp.ones_like(w), 100)[0] == 1).all()
    moved = taken(writer(plain), w, jnp.ones_like(w), 100)[0]
    assert abs(float(jnp.mean(moved.astype(jnp.float32))) - 0.9) < 0.003


def test_stochastic_rounding_is_unbiased():
    for dtype in (jnp.bfloat16, jnp.float16):
        for step in (0.0011, -0.0029, 3e-8):
            w = jnp.full(100_000, 0.5 if abs(step) > 1e-6 else 0.0, dtype)
            tx = precision.stochastic_rounding(jos.sgd(1.0), seed=3)
            new, _ = jax.jit(tx.apply_gradients)(jnp.full(w.shape, -step), tx.init(w), w)
            x = np.asarray(new, np.float64)
            asked = np.float32(w[0]) + np.float32(step)
            assert abs(x.mean() - asked) <= 4 * x.std() / np.sqrt(x.size) + 1e-9
            assert len({*x.tolist()}) <= 2


def test_random_bits_are_those_of_a_leaf_a_step_and_an_index():
    def bits(path, step, seed=0):
        tx, w = precision.stochastic_rounding(jos.sgd(1.0), seed=seed), {path: jnp.ones((100, 1000), jnp.bfloat16)}
        state = tx.init(w)._replace(count=jnp.int32(step))
        new, _ = jax.jit(tx.apply_gradients)({path: jnp.full((100, 1000), 2.0**-9)}, state, w)
        return np.asarray(new[path] == 1, np.float64).ravel() - 0.5

    draws = [bits("a", 0), bits("a", 1), bits("b", 0), bits("a", 0, seed=1)]
    chex.assert_trees_all_equal(draws[0], bits("a", 0))
    for i, x in enumerate(draws):
        others = [*draws[:i], *(np.roll(x, k) for k in (1, 2, 7, 1000))]
        assert max(abs(np.corrcoef(x, y)[0, 1]) for y in others) < 5 / np.sqrt(x.size)


EIGHT_BITS = pytest.param(functools.partial(precision.state_dtype, **EIGHT), marks=pytest.mark.slow)


@pytest.mark.parametrize("make", [precision.stochastic_rounding, EIGHT_BITS])
def test_rounding_does_not_depend_on_sharding(make):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    tx, w, g = make(jos.adam(0.01)), matrix(0, (64, 512), jnp.bfloat16), matrix(1, (64, 512), jnp.bfloat16)
    alone, _ = taken(tx, w, g, 2, jax.jit)
    sharded, _ = taken(tx, jax.device_put(w, spread), jax.device_put(g, spread), 2, jax.jit)
    chex.assert_trees_all_equal(np.asarray(alone), np.asarray(sharded))


@every_writer
def test_writers_survive_what_jax_does_with_them(writer):
    tx, w, g = writer(jos.adamw(0.01)), matrix(dtype=jnp.bfloat16), matrix(1, dtype=jnp.bfloat16)
    state = tx.init(w)
    donated = jax.jit(tx.apply_gradients, donate_argnums=(1, 2))
    expected = taken(tx, w, g, 2)[0]
    once, state = donated(g, state, jnp.copy(w))
    chex.assert_trees_all_equal(donated(g, state, once)[0], expected)
    many = jax.vmap(lambda w, g: tx.apply_gradients(g, tx.init(w), w)[0])(jnp.stack([w, w]), jnp.stack([g, g]))
    chex.assert_trees_all_equal(many[0], many[1])
    assert tx == jos.deserialize(json.loads(tx.to_json())) == pickle.loads(pickle.dumps(tx))
    marked = optax.tree_utils.tree_map_params(tx, lambda x: "slot", tx.init(w), transform_non_params=lambda x: "other")
    assert sorted(jax.tree.leaves(marked))[:2] == ["other", "other"]
    assert {*jax.tree.leaves(marked)[2:]} == {"slot"}


# how slots are stored


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("shape", [(3, 1000), (5, 64), (2, 257), (0,)])
def test_codes_are_near_and_keep_what_they_are_given(shape, signed):
    x = matrix(2, shape) if signed else matrix(2, shape) ** 2
    blocks = -(-shape[-1] // 256)
    empty = Blocks(jnp.zeros(shape, jnp.int8 if signed else jnp.uint8), jnp.zeros((*shape[:-1], blocks), jnp.bfloat16))
    coded = quick(lambda x: encode(x, empty, None))(x)
    level = quick(decode)(coded)
    top = np.asarray(jnp.repeat(coded.scale.astype(jnp.float32), 256, -1))[..., : shape[-1]]
    x, level = np.asarray(x), np.asarray(level)
    fine = np.abs(x) > top / 2 ** (5 if signed else 12)
    assert (np.abs(level - x)[fine] <= 0.0313 * np.abs(x)[fine]).all()
    coarse = np.abs(x) > top / 2 ** (16 if signed else 27)
    assert (np.abs(level - x)[coarse] <= 0.125 * np.abs(x)[coarse]).all()
    assert signed or ((level > 0) == (x > 0)).all()
    chex.assert_trees_all_equal(quick(lambda x: decode(encode(x, coded, None)))(level), level)


def test_what_is_not_finite_stays_not_finite():
    x = jnp.ones(600).at[3].set(jnp.nan).at[300].set(jnp.inf)
    empty = Blocks(jnp.zeros(600, jnp.int8), jnp.zeros(3, jnp.bfloat16))
    level = quick(lambda x: decode(encode(x, empty, None)))(x)
    assert np.isfinite(np.asarray(level)).sum() == 600 - 512


@pytest.mark.parametrize("kind", ["blockwise8", "bfloat16"])
def test_a_slow_average_does_not_stall(kind):
    """Stationary noise of unit variance, over four decades in one block: rounding to the nearest gave 2.6 for 1."""
    size = np.repeat(np.float32([1, 0.1, 0.01, 0.001]), 1024)
    tx = precision.state_dtype(jos.adam(0.0), v=kind)
    draw = jax.random.key(0)

    def step(i, state):
        g = size * jax.random.normal(jax.random.fold_in(draw, i), (4096,))
        return tx.update(g, state, jnp.zeros(4096))[1]

    state = jax.jit(lambda: jax.lax.fori_loop(0, 5000, step, tx.init(jnp.zeros(4096))))()
    v = np.asarray(jos.state.get_slot(state, "", "v"), np.float64) / size**2 / (1 - 0.999**5000)
    assert np.abs(v.reshape(4, 1024).mean(1) - 1).max() < 0.05
    assert (v > 0).all()


@some_rows
def test_every_slot_can_be_stored_in_eight_bits(row):
    """Three steps stay near those of float32, and the state says what it holds."""
    params = {"kernel": matrix(0, (8, 96)), "bias": matrix(1, (5,))}
    grads = jax.tree.map(lambda w: 0.1 + matrix(2, w.shape) ** 2, params)
    plain = row.build()
    state = plain.init(params)
    names = [name for name in jos.state.slot_names(state) if name not in _SCALARS]
    arrays = [name for name in names if _sized(state, name)]
    if not arrays:
        with pytest.raises((ValueError, TypeError), match="state_dtype: "):
            precision.state_dtype(plain, default="blockwise8")
        return
    weights = _weights(plain)
    named = dict.fromkeys(weights & {*arrays}, "blockwise8") if {*arrays} <= weights else {"default": "blockwise8"}
    tx = precision.state_dtype(plain, min_size=64, **named)
    moved, state = taken(tx, params, grads, 3)
    exact, wide = taken(plain, params, grads, 3)
    found, expected = jos.state.variables(state), jos.state.variables(wide)
    assert [*found] == [*expected]
    for path, x in found.items():
        chex.assert_tree_all_finite(x)
        assert x.shape == expected[path].shape
    if not {*arrays} <= weights:
        way = np.abs(np.asarray(exact["kernel"] - params["kernel"]))
        assert np.abs(np.asarray(moved["kernel"] - exact["kernel"])).max() <= 0.2 * way.max()
    again = jos.state.set_weights(tx.init(params), jos.state.get_weights(state))
    chex.assert_trees_all_equal(jos.state.variables(again), {**found, **_rate(jos.state.variables(again))})
    assert {"blockwise8"} & {slot.dtype for p in tx.explain(params).parameters for slot in p.slots}


def _weights(tx):
    """The slots that hold weights, which a default leaves alone."""
    stages = [stage.layout.slots for stage in tx.line.stages if stage.layout.slots is not None]
    return {name for slots in stages for name in getattr(slots, "holds_weights", ())}


_SCALARS = ("gradient_norm", "product", "beta_1", "last_beta_1")


def _sized(state, name):
    return any(x.size >= 64 for path, x in jos.state.variables(state).items() if path.startswith(f"{name}/"))


def _rate(variables):
    return {name: variables[name] for name in ("learning_rate",) if name in variables}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=name)
@every_row
def test_no_gradient_makes_nan(row, dtype):
    params = {"kernel": matrix(0, (8, 96), dtype), "bias": jnp.ones(5, dtype)}
    ways = [precision.master_weights, precision.stochastic_rounding, precision.kahan_summation]
    tx = row.build()
    names = [n for n in jos.state.slot_names(tx.init(params)) if n not in _SCALARS]
    names = [n for n in names if _sized(tx.init(params), n)]
    if names:
        ways.append(lambda tx: precision.state_dtype(tx, min_size=8, **dict.fromkeys(names, "blockwise8")))
    for way in ways:
        step = jax.jit(way(tx).apply_gradients)
        for size in (0.0, 1e-8, 6e4):
            w, state = params, way(tx).init(params)
            grads = jax.tree.map(lambda w, size=size: jnp.full_like(w, size), params)
            for _ in range(3):
                w, state = step(grads, state, w)
            held = [x for x in jax.tree.leaves(jos.state.variables(state)) if jnp.issubdtype(x.dtype, jnp.floating)]
            assert not any(np.isnan(np.asarray(x, np.float32)).any() for x in [*jax.tree.leaves(w), *held]), (way, size)


def test_a_default_leaves_weights_alone():
    tx = precision.state_dtype(jos.lookahead(jos.adam(use_ema=True)), "blockwise8", min_size=1)
    state = jax.eval_shape(tx.init, {"w": jnp.ones((4, 64))})
    dtypes = {p: x.dtype.name for p, x in zip(*_flat(state), strict=True)}
    assert dtypes["stages/rule/slots/m/w"] == "int8"
    assert dtypes["stages/rule/slots/v/w"] == "uint8"
    assert dtypes["stages/rule/scales/v_scale/w"] == "bfloat16"
    assert dtypes["stages/ema/average/w"] == dtypes["stages/slow_weights/slow/w"] == "float32"


def _flat(tree):
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in flat], [x for _, x in flat]


def test_members_are_stored_too_and_small_and_excluded_arrays_are_not():
    params = {"a": jnp.ones((64, 64)), "b": jnp.ones((64, 64)), "c": jnp.ones((64, 64)), "d": jnp.ones(64)}
    groups = jos.by_path({"a": jos.adam(), "c": jos.frozen(), ".*": jos.sgd(momentum=0.9)})
    tx = precision.state_dtype(groups, "blockwise8", exclude="b")
    dtypes = {p: x.dtype.name for p, x in zip(*_flat(jax.eval_shape(tx.init, params)), strict=True)}
    assert dtypes["stages/members/a/stages/rule/slots/m/a"] == "int8"
    assert dtypes["stages/members/rest/stages/rule/slots/m/b"] == "float32"
    assert dtypes["stages/members/rest/stages/rule/slots/m/d"] == "float32"
    slots = {p.path: [slot.dtype for slot in p.slots] for p in tx.explain(params).parameters}
    assert slots == {"a": ["blockwise8"] * 2, "b": ["float32"], "c": [], "d": ["float32"]}


def test_bytes_are_those_that_are_promised():
    tx = precision.state_dtype(jos.adam(), **EIGHT)
    for shape, most in (((30_522, 768), 2.1), ((4096, 128), 2.1), ((4096, 64), 2.1), ((1000, 1000), 2.1)):
        params = jax.ShapeDtypeStruct(shape, jnp.float32)
        state = jax.eval_shape(lambda s=shape: tx.init(jnp.zeros(s)))
        held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
        assert held / params.size <= most
        assert tx.explain(params).totals()["state_bytes"] == held


def test_a_step_needs_less_room_than_two_arrays():
    tx, w = precision.state_dtype(jos.adam(), **EIGHT), jnp.zeros((1024, 1024))
    step = jax.jit(lambda w, s, g: tx.apply_gradients(g, s, w), donate_argnums=(0, 1))
    analysis = step.lower(w, tx.init(w), w).compile().memory_analysis()
    assert 0 < analysis.temp_size_in_bytes <= 2 * w.nbytes


def test_a_state_in_codes_is_edited_saved_and_donated(tmp_path):
    tx = precision.state_dtype(jos.adam(), **EIGHT)
    w, g = {"w": matrix(0, (16, 300))}, {"w": matrix(1, (16, 300))}
    _, state = taken(tx, w, g, 2)
    m = jos.state.get_slot(state, "w", "m")
    new = jos.state.set_slot(state, "w", "m", 2 * m)
    chex.assert_trees_all_equal(jos.state.get_slot(new, "w", "m"), 2 * m)
    chex.assert_trees_all_equal(jos.state.get_slot(new, "w", "v"), jos.state.get_slot(state, "w", "v"))
    jos.state.save_weights(state, tmp_path / "state.h5")
    loaded = jos.state.load_weights(tx.init(w), tmp_path / "state.h5")
    chex.assert_trees_all_equal(jos.state.variables(loaded), jos.state.variables(state))
    step = jax.jit(tx.apply_gradients, donate_argnums=(1, 2))
    expected = jax.jit(tx.apply_gradients)(g, state, w)[0]
    chex.assert_trees_all_equal(step(g, loaded, jax.tree.map(jnp.copy, w))[0], expected)
    jos.state.reset(state, ".*", tx.init(g))


def test_orbax_and_nnx_keep_codes(tmp_path):
    import orbax.checkpoint as ocp
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self):
            self.kernel = nnx.Param(matrix(0, (16, 300)))

    tx, model = precision.state_dtype(jos.adam(), **EIGHT), Model()
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    optimizer.update(model, nnx.grad(lambda m: jnp.sum(m.kernel**2))(model))
    expected, state = taken(tx, {"kernel": matrix(0, (16, 300))}, {"kernel": 2 * matrix(0, (16, 300))}, 1)
    chex.assert_trees_all_close(model.kernel[...], expected["kernel"], rtol=1e-6)
    assert jos.state.variables(optimizer.opt_state)["m/kernel"].shape == (16, 300)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        again = checkpointer.restore(tmp_path / "state", tx.init(expected))
    chex.assert_trees_all_equal(again, state)


def test_compare_works_across_storages():
    w, g = {"w": matrix(0, (16, 300))}, {"w": matrix(1, (16, 300))}
    found = jos.compare(jos.adam(), precision.state_dtype(jos.adam(), **EIGHT), w, g, steps=2)
    assert found.first is not None
    assert "blockwise8" in repr(found)


# what is refused

BAD = (
    (lambda: precision.state_dtype(jos.adam(), w="blockwise8"), "adam has no slot 'w'; the slots are ['m', 'v']"),
    (lambda: precision.state_dtype(jos.adam(), vhat="bfloat16"), "adam has no slot 'vhat'"),
    (lambda: precision.state_dtype(jos.adam(), m="blockwise"), "m must be one of 'float32', 'bfloat16', 'blockwise8'"),
    (lambda: precision.state_dtype(jos.adam(), m="blokwise8"), "Did you mean 'blockwise8'?"),
    (lambda: precision.state_dtype(jos.adam(), **EIGHT, block=100), "block must be a power of two >= 2, got 100."),
    (lambda: precision.state_dtype(jos.adam()), "nothing of adam is stored otherwise"),
    (lambda: precision.state_dtype(jos.ftrl(), "blockwise8"), "a default leaves alone what holds weights"),
    (lambda: precision.state_dtype(jos.sgd(), "bfloat16"), "it has none"),
    (lambda: precision.state_dtype(jos.from_optax("adam", learning_rate=0.1), "bfloat16"), "as Optax does"),
    (lambda: precision.state_dtype(optax.adam(0.1), "bfloat16"), "must be an optimizer of jaxopt_suite"),
    (
        lambda: precision.state_dtype(jos.adam(gradient_accumulation_steps=2), accumulator="bfloat16"),
        "accumulator adds gradients up",
    ),
    (lambda: precision.state_dtype(precision.state_dtype(jos.adam(), m="bfloat16"), v="bfloat16"), "in one call"),
    (lambda: precision.master_weights(jos.frozen()), "nothing to wrap"),
    (lambda: precision.master_weights(precision.kahan_summation("adam")), "writes its 16-bit parameters already"),
    (lambda: jos.chain(precision.master_weights("adam")), "must come last of all"),
    (lambda: jos.by_path({".*": precision.master_weights("adam")}), "around by_path itself"),
    (lambda: precision.master_weights("adam").init(jnp.ones(3)), "no parameter in 16 bits to write, only float32"),
    (
        lambda: precision.master_weights("adam").init([jnp.ones(3, jnp.float8_e4m3fn), jnp.ones(3, jnp.bfloat16)]),
        "there is a parameter in float8_e4m3fn",
    ),
    (lambda: _step(precision.master_weights("adam"), jos.adam()), "the state is of another optimizer"),
    (lambda: _step(precision.state_dtype("adam", "blockwise8"), jos.adam()), "the state is stored otherwise"),
    (lambda: _step(jos.adam(), precision.state_dtype("adam", "blockwise8")), "the state is stored otherwise"),
    (lambda: precision.stochastic_rounding("adam", seed=-1), "seed must be an integer >= 0, got -1."),
)


def _step(tx, other):
    w = jnp.ones(3, jnp.bfloat16)
    return tx.update(w, other.init(w), w)


@pytest.mark.parametrize(("wrong", "sentence"), BAD, ids=[sentence for _, sentence in BAD])
def test_a_mistake_gets_a_sentence(wrong, sentence):
    with pytest.raises((ValueError, TypeError)) as caught:
        wrong()
    assert sentence in str(caught.value)


# what hard use broke


def test_small_float16_weights_are_written():
    w, g = jnp.float16([3e-5, 1e-6, 5e-4]), jnp.float16([-1e-5, -1e-6, 0])
    expected = (w.astype(jnp.float32) - g.astype(jnp.float32)).astype(jnp.float16)
    for writer in (precision.master_weights, precision.kahan_summation):
        tx = writer(jos.sgd(1.0))
        chex.assert_trees_all_equal(jax.jit(tx.apply_gradients)(g, tx.init(w), w)[0], expected)


def test_kahan_summation_of_what_overflowed_is_infinite():
    tx, w = precision.kahan_summation(jos.sgd(1.0)), jnp.float16([65500])
    state = tx.init(w)
    for g in (-100.0, 200.0, 0.0):
        w, state = tx.apply_gradients(jnp.array([g]), state, w)
    assert np.isinf(np.asarray(w)).all()


@every_writer
def test_a_step_that_is_written_can_be_differentiated(writer):
    tx, w = writer(jos.sgd(0.1)), jnp.ones(4, jnp.bfloat16)

    def moved(rate):
        state = jos.state.set_learning_rate(tx.init(w), rate)
        return tx.apply_gradients(w, state, w)[0].astype(jnp.float32).sum()

    assert jax.grad(moved)(0.1) == -4.0


@every_writer
def test_float64_gradients_are_written(writer):
    with jax.enable_x64(True):
        tx, w = writer(jos.sgd(0.1)), jnp.ones(4, jnp.bfloat16)
        assert tx.apply_gradients(jnp.ones(4, jnp.float64), tx.init(w), w)[0].dtype == jnp.bfloat16


def test_a_block_is_nan_as_a_whole():
    tx, w = precision.state_dtype(jos.rmsprop(), "blockwise8", min_size=1), jnp.ones(4)
    _, state = tx.update(jnp.array([1.0, jnp.nan, 2.0, 3.0]), tx.init(w), w)
    assert np.isnan(np.asarray(jos.state.get_slot(state, "", "v"))).all()


@pytest.mark.parametrize(
    "shape", [(64, 2048), *(pytest.param(shape, marks=pytest.mark.slow) for shape in ((1024, 512), (8, 256)))]
)
def test_codes_on_explicit_axes(shape):
    mesh = jax.make_mesh((8,), ("model",), axis_types=(jax.sharding.AxisType.Explicit,))
    w = jax.device_put(matrix(0, shape), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "model")))
    tx = precision.state_dtype(jos.adam(), "blockwise8", min_size=1)
    jos.parallel.explain(tx, w, mesh)
    state = jos.parallel.init(tx, w, mesh)
    new, state = jax.jit(tx.apply_gradients)(w, state, w)
    expected, alone = taken(tx, matrix(0, shape), matrix(0, shape), 1, jax.jit)
    chex.assert_trees_all_equal(np.asarray(new), np.asarray(expected))
    m = jax.jit(lambda s: jos.state.get_slot(s, "", "m"))(state)
    chex.assert_trees_all_equal(np.asarray(m), np.asarray(jos.state.get_slot(alone, "", "m")))


def test_an_array_on_explicit_axes_may_be_the_rate():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    w, rate = jax.device_put(jnp.ones((8, 8)), whole), jax.device_put(jnp.float32(0.5), whole)
    tx = jos.sgd(rate)
    chex.assert_trees_all_equal(np.asarray(tx.apply_gradients(w, tx.init(w), w)[0]), np.full((8, 8), 0.5))


def test_a_state_that_is_stored_otherwise_is_refused():
    def stored(kind="blockwise8", **changes):
        return precision.state_dtype(jos.adam(), kind, **{"min_size": 1, **changes})

    w = jnp.ones((4, 8))
    state = stored(block=4).init(w)
    for tx, sentence in (
        (stored(block=8), "must be blockwise8 in blocks of 8"),
        (stored(min_size=10**6), "is blockwise8, it must be float32"),
    ):
        with pytest.raises(ValueError, match=sentence):
            tx.update(w, state, w)
    with pytest.raises(ValueError, match="is float32, it must be bfloat16"):
        stored("bfloat16").update(w, jos.adam().init(w), w)


def test_a_pattern_without_a_parameter_is_said_and_a_table_without_16_bits_refused():
    with pytest.warns(UserWarning, match="exclude: 'embbed' matches no parameter; the nearest is 'embed'"):
        precision.state_dtype(jos.adam(), "blockwise8", exclude="embbed").init({"embed": jnp.ones(3)})
    with pytest.raises(ValueError, match="no parameter in 16 bits"):
        precision.master_weights(jos.adam()).explain({"a": jnp.ones(3)})


def test_a_parameter_that_was_none_is_named():
    tx = jos.adam()
    state = tx.init({"a": jnp.ones(2), "b": None})
    with pytest.raises(ValueError, match="slot 'm' has no array at 'b'"):
        tx.update({"a": jnp.ones(2), "b": jnp.ones(2)}, state, {"a": jnp.ones(2), "b": jnp.ones(2)})


def test_init_of_codes_is_compiled_without_folding_them():
    tx = precision.state_dtype(jos.adam(), **EIGHT)
    text = jax.jit(tx.init).lower(jax.ShapeDtypeStruct((512, 512), jnp.float32)).as_text()
    assert text.count("optimization_barrier") == 2
