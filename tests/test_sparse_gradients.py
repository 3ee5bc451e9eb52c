"""Slices by themselves, what is refused of them, and the gradients that are made of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from jax.experimental import sparse
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from programs import quick, same
from test_sparse import SHAPE, Slices, dense, example, is_slices

import jaxopt_suite as jos

value_and_grad = jos.sparse.value_and_grad
IDS = jnp.array([[1, 2, -1], [3, 3, 6]])
ALONE = NamedSharding(Mesh(np.array(jax.devices()[:1]), ("data",)), P())


# --- slices ----------------------------------------------------------------------


def test_slices_and_tables():
    slices = Slices(jnp.array([[1.0], [2.0], [4.0], [8.0]]), np.array([3, 0, 3, 5], np.uint8), (5, 1))
    assert slices.to_dense().ravel().tolist() == [2, 0, 0, 5, 0]
    once = slices.summed()
    assert once.indices.tolist() == [0, 3, 5, 5]
    assert once.values.ravel().tolist() == [2, 5, 0, 0]
    again = Slices.from_dense(slices.to_dense())
    assert (again.indices.tolist(), again.values.ravel().tolist()) == ([0, 3], [2, 5])
    same(jax.jit(Slices.from_dense)(slices.to_dense()).to_dense(), slices.to_dense())
    assert (slices + slices).to_dense().ravel().tolist() == [4, 0, 0, 10, 0]
    assert (0.5 * slices).to_dense().ravel().tolist() == [1, 0, 0, 2.5, 0]
    for table in (np.ones((5, 1), np.float32), jnp.ones((5, 1))):
        assert (table + slices).ravel().tolist() == [3, 1, 1, 6, 1]
    assert (jnp.ones((5, 1), jnp.bfloat16) + slices).dtype == jnp.bfloat16  # the table's
    assert (jnp.ones((5, 1)) - 0.5 * slices).ravel().tolist() == [0, 1, 1, -1.5, 1]
    small = Slices(jnp.full((64, 1), 2.0**-9, jnp.bfloat16), jnp.zeros(64, int), (5, 1))
    assert (jnp.ones((5, 1), jnp.bfloat16) + small)[0, 0] == 1.125  # not lost one by one
    empty = Slices(jnp.zeros((0, 1)), [], (5, 1))
    assert empty.summed().to_dense().tolist() == [[0]] * 5
    assert "indices=[3 0 3 5]" in repr(slices)


SELDOM = ("int8", "int16", "uint32", "int64", "uint64")


@pytest.mark.parametrize("dtype", ["uint8", "int32", *(pytest.param(d, marks=pytest.mark.slow) for d in SELDOM)])
def test_indices_of_any_integer_type(dtype):
    with jax.enable_x64(dtype.endswith("64")):
        slices = Slices(jnp.ones((3, 1), jnp.float32), jnp.array([2, 0, 2], dtype), (3, 1))
        assert quick(lambda s: jnp.zeros((3, 1), jnp.float32) + s)(slices).ravel().tolist() == [1, 0, 2]
        assert slices.summed().indices.dtype == jnp.int32


def test_what_is_out_of_range():
    """Refused where it is known; elsewhere dropped, with all that it holds. Padding is `n`, and may hold anything."""
    for wrong in (-1, 7):
        with pytest.raises(ValueError, match=rf"indices must be in \[0, 6\), or 6 for padding, got {wrong} at place 1"):
            Slices(jnp.ones((2, 3)), [0, wrong], SHAPE)
    params, tx = {"table": jnp.ones(SHAPE)}, jos.lazy_adam(0.1, global_clipnorm=1.0)

    @quick
    def step(indices, values):
        return tx.apply_gradients({"table": Slices(values, indices, SHAPE)}, tx.init(params), params)[0]["table"]

    want = step(jnp.array([2, 6, 6, 6]), jnp.ones((4, 3)))
    got = step(jnp.array([2, -1, 7, -(2**31)]), jnp.ones((4, 3)).at[1:].set(jnp.nan))
    np.testing.assert_array_equal(got, want)
    assert (want[:, 0] != 1).tolist() == [False, False, True, False, False, False]


def test_a_row_of_nan_is_that_row_s():
    params, tx = {"table": jnp.ones(SHAPE)}, jos.lazy_adam(0.1)
    grads = {"table": Slices(jnp.ones((2, 3)).at[0].set(jnp.nan), [4, 1], SHAPE)}
    after = quick(tx.apply_gradients)(grads, tx.init(params), params)[0]["table"]
    assert jnp.isnan(after).all(axis=1).tolist() == [False, False, False, False, True, False]
    checked = jos.loss_scale(tx, 8.0)
    held, state = quick(checked.apply_gradients)(grads, checked.init(params), params)
    same(held, params)
    assert state.count == 0


def test_bad_slices():
    with pytest.raises(TypeError, match="indices must be integers, got float32"):
        Slices(jnp.ones((1, 3)), jnp.ones(1), SHAPE)
    with pytest.raises(TypeError, match="values must be floating-point numbers, got int32"):
        Slices(jnp.ones((1, 3), int), [0], SHAPE)
    with pytest.raises(ValueError, match=r"must be rows of the table, \(k, 3\), and indices \(k,\), got \(2, 3\)"):
        Slices(jnp.ones((2, 3)), [0], SHAPE)
    with pytest.raises(ValueError, match=r"got \(1, 4\) and \(1,\)"):
        Slices(jnp.ones((1, 4)), [0], SHAPE)
    with pytest.raises(ValueError, match=r"must be that of a table, \(rows, ...\), got \(\)"):
        Slices(jnp.ones(1), [0], ())
    for shape in (3, (-1, 3), (2.0, 3)):
        with pytest.raises(ValueError, match=r"dense_shape must be the shape of a table, \(rows, \.\.\.\), got"):
            Slices(jnp.zeros((0, 3)), [], shape)
    with pytest.raises(ValueError, match=r"a factor must be a scalar, got an array of \(6, 1\)"):
        Slices(jnp.ones((6, 3)), jnp.arange(6), SHAPE) * jnp.ones((6, 1))  # a factor of each row of the table, or not
    for function in (np.asarray, jnp.asarray):
        with pytest.raises(TypeError, match=r"some rows of a table are no array: to_dense\(\)"):
            function(Slices(jnp.ones((1, 3)), [0], SHAPE))
    with pytest.raises(ValueError, match=r"added to an array of \(3,\)"):
        jnp.ones(3) + Slices(jnp.ones((1, 3)), [0], SHAPE)
    with pytest.raises(ValueError, match="do not add up"):
        Slices(jnp.ones((1, 3)), [0], SHAPE) + Slices(jnp.ones((1, 3)), [0], (7, 3))
    tx, (params, grads) = jos.adam(), example()
    with pytest.raises(ValueError, match=r"adam: the gradient at 'bias' has shape \(6, 3\), its parameter has \(3,\)"):
        tx.update({**grads, "bias": grads["table"]}, tx.init(params), params)
    bad = Slices._of(jnp.ones((2, 3)), jnp.arange(3), SHAPE)
    with pytest.raises(ValueError, match="adam: the gradient at 'table': IndexedSlices: values must be rows"):
        tx.update({**grads, "table": bad}, tx.init(params), params)


@pytest.mark.slow
def test_bcoo():
    tx, (params, grads) = jos.lazy_adam(0.1), example()
    values, indices = grads["table"].values, grads["table"].indices[:, None]
    matrix = sparse.BCOO((values, indices), shape=SHAPE)
    got = quick(tx.apply_gradients)({**grads, "table": matrix}, tx.init(params), params)
    same(got, quick(tx.apply_gradients)(grads, tx.init(params), params))
    with pytest.raises(ValueError, match=r"BCOO gradient at 'table' must hold whole rows \(n_batch=0, n_dense=1\)"):
        tx.update({**grads, "table": sparse.BCOO.fromdense(jnp.ones(SHAPE))}, tx.init(params), params)


# --- gradients -------------------------------------------------------------------


def tables():
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = {"t": (7, 3), "u": (5, 3), "w": (3,)}
    params = {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}
    return {**params, "one": jnp.arange(7.0)}


def ways(loss_fn, names):
    return jax.value_and_grad(loss_fn), value_and_grad(loss_fn, names)


def agrees(loss_fn, names, params, *args):
    """The loss and the gradients are those of JAX, and those of tables are slices."""
    want, (loss, grads) = (
        jax.value_and_grad(loss_fn)(params, *args),
        quick(value_and_grad(loss_fn, names))(params, *args),
    )
    same((loss, dense(grads)), want, 1e-5)
    return grads


LOSSES = {
    "take": lambda p, ids: jnp.sum(jnp.sin(jnp.take(p["t"], ids, axis=0)) @ p["w"]),
    "index": lambda p, ids: jnp.sum(p["t"][ids] ** 2),
    "scalar and slice": lambda p, ids: jnp.sum(p["t"][ids[0, 0]] * p["t"][2]) + jnp.prod(p["u"][1:3]),
    "several": lambda p, ids: jnp.sum(p["t"][ids] * jnp.take(p["t"], ids[0], axis=0)) + jnp.sum(p["u"][ids % 5] ** 3),
    "a vector": lambda p, ids: jnp.sum(p["one"][ids] ** 2),
    "vmap": lambda p, ids: jnp.sum(jax.vmap(lambda i: jnp.sin(p["t"][i]))(ids[0])),
    "jit": lambda p, ids: jnp.sum(jax.jit(lambda t, i: jnp.sin(t[i]) @ p["w"])(p["t"], ids)),
    "checkpoint": lambda p, ids: jax.checkpoint(lambda t: jnp.sum(jnp.sin(t[ids]) @ p["w"]) * 2.0)(p["t"]),
    "another dtype": lambda p, ids: jnp.sum(jnp.sin(p["t"].astype(jnp.float16)[ids].astype(jnp.float32))),
    "fill": lambda p, ids: jnp.sum(p["t"].at[ids * 2].get(mode="fill", fill_value=1.0) ** 2),
    "out of range": lambda p, ids: jnp.sum(jnp.sin(p["t"][ids * 2]) @ p["w"]),
    "placed": lambda p, ids: jnp.sum(jax.lax.with_sharding_constraint(p["t"], ALONE)[ids] ** 2),
    "clip": lambda p, ids: jnp.sum(jnp.take(p["t"], ids * 2, axis=0, mode="clip") ** 2),
    "a custom rule": lambda p, ids: jnp.sum(jax.nn.relu(p["t"][ids]) + jax.nn.silu(p["t"][ids])),
    "stopped": lambda p, ids: jnp.sum(p["t"][ids]) * jnp.sum(jax.lax.stop_gradient(p["t"])),
    "unused": lambda p, ids: jnp.sum(p["w"]),
}


@functools.cache
def of_all_losses():
    """The gradients of JAX and ours, in one program."""
    every = {name: ways(loss_fn, ["t", "u", "one"]) for name, loss_fn in LOSSES.items()}
    return quick(lambda p, ids: {name: [f(p, ids) for f in both] for name, both in every.items()})(tables(), IDS)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_jax(name):
    want, (loss, grads) = of_all_losses()[name]
    same((loss, dense(grads)), want, 1e-5)
    assert [path for path, g in grads.items() if is_slices(g)] == ["one", "t", "u"]


def test_no_table_is_made():
    """Neither in the program nor compiled is there an array of a table's size, but for the table itself."""
    n = 50_000
    params = {"t": jax.ShapeDtypeStruct((n, 8), jnp.float32), "w": jax.ShapeDtypeStruct((8,), jnp.float32)}
    loss = lambda p, ids: jnp.sum(jax.checkpoint(lambda t: jnp.sin(t[ids]) @ p["w"])(p["t"]))  # noqa: E731
    compiled = jax.jit(value_and_grad(loss, "t")).lower(params, IDS).compile()
    assert compiled.memory_analysis().temp_size_in_bytes + compiled.memory_analysis().output_size_in_bytes < n


@pytest.mark.parametrize(
    ("loss_fn", "words"),
    [
        (lambda p: jnp.sum(p["t"] @ p["w"]), "the table at 't' is used for more than its rows, by dot_general"),
        (lambda p: jnp.sum(p["t"][1] * jnp.sum(p["t"])), "more than its rows, by reduce_sum"),
        (lambda p: jnp.sum(p["t"][:, 1]), "the table at 't' is used for more than its rows"),
        (
            lambda p: jax.lax.scan(lambda c, i: (c + p["t"][i].sum(), None), 0.0, IDS[0])[0],
            "inside a scan: look up all",
        ),
        (lambda p: jax.lax.cond(p["w"][0] > 0, lambda: p["t"][0].sum(), lambda: 0.0), "'t' is used inside a cond"),
    ],
)
def test_what_is_no_look_up(loss_fn, words):
    with pytest.raises(ValueError, match=r"sparse\.value_and_grad: ") as refusal:
        value_and_grad(loss_fn, "t")(tables())
    assert words in str(refusal.value)
    assert "leave it out of tables" in str(refusal.value)


def test_bad_calls():
    with pytest.raises(ValueError, match=r"tables: 'tabel' matches no parameter; the nearest are \["):
        value_and_grad(LOSSES["index"], "tabel")(tables(), IDS)
    with pytest.raises(TypeError, match="tables must be a regex of paths, or several, got 3"):
        value_and_grad(LOSSES["index"], 3)
    with pytest.raises(ValueError, match=r"tables: '\[' is no regular expression: unterminated"):
        value_and_grad(LOSSES["index"], "[")
    with pytest.raises(TypeError, match="loss_fn must give a scalar"):
        value_and_grad(lambda p: p["t"][IDS], "t")(tables())
    with pytest.raises(ValueError, match="the parameter at 't' is no table"):
        value_and_grad(lambda p: p["t"], "t")({"t": jnp.float32(1.0)})
    with pytest.raises(TypeError, match="the table at 't' must be a floating-point array, got int32"):
        value_and_grad(lambda p: 1.0 * p["t"][0], "t")({"t": jnp.arange(3)})


@pytest.mark.slow
def test_aux_and_scan():
    params, tx = tables(), jos.by_path({"^[tu]$": jos.lazy_adam(0.1), ".*": jos.sgd(0.1)})

    def loss_fn(p, ids):
        rows = p["t"][ids]
        return jnp.sum(rows**2), {"rows": rows, "table": p["t"]}

    (loss, aux), _ = value_and_grad(loss_fn, "t", has_aux=True)(params, IDS)
    same((loss, aux["rows"], aux["table"]), (jnp.sum(aux["rows"] ** 2), params["t"][IDS], params["t"]))

    def step(carry, ids):
        (loss, _), grads = value_and_grad(loss_fn, "t", has_aux=True)(carry[0], ids)
        return tx.apply_gradients(grads, carry[1], carry[0]), loss

    many = jnp.tile(IDS[None], (20, 1, 1))
    (after, _), losses = quick(lambda params: jax.lax.scan(step, (params, tx.init(params)), many))(params)
    assert losses[-1] < losses[0] / 10
    np.testing.assert_array_equal(after["t"][jnp.array([0, 4, 5])], params["t"][jnp.array([0, 4, 5])])


@pytest.mark.slow
def test_linen():
    embed = nn.Embed(7, 2, dtype=jnp.bfloat16)
    params = embed.init(jax.random.key(0), IDS)
    agrees(lambda p, ids: jnp.sum(embed.apply(p, ids).astype(jnp.float32) ** 2), "embedding", params, IDS)
    tied = value_and_grad(lambda p: jnp.sum(embed.apply(p, embed.apply(p, IDS), method="attend")), "embedding")
    with pytest.raises(ValueError, match="the table at 'params/embedding' is used for more than its rows"):
        tied(params)


class Model(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.embed, self.norm = nnx.Embed(7, 2, rngs=rngs), nnx.BatchNorm(2, rngs=rngs)
        self.out = nnx.Linear(2, 1, rngs=rngs)

    def __call__(self, ids):
        return self.out(self.norm(self.embed(ids)))


def test_nnx():
    def loss_fn(model, ids):
        return jnp.mean((model(ids) - 1.0) ** 2)

    model, other = Model(), Model()
    loss, grads = value_and_grad(loss_fn, "embed/")(model, IDS)
    want_loss, want = nnx.value_and_grad(loss_fn)(other, IDS)
    same((loss, dense(nnx.to_pure_dict(grads))), (want_loss, nnx.to_pure_dict(want)), 1e-5)
    same(model.norm.mean[...], other.norm.mean[...])  # its other variables are updated
    assert jnp.any(model.norm.mean[...] != 0)
    optimizer, before = nnx.Optimizer(model, jos.lazy_adam(0.1), wrt=nnx.Param), model.embed.embedding[...]

    @nnx.jit
    def step(model, optimizer, ids):
        loss, grads = value_and_grad(loss_fn, "embed/")(model, ids)
        optimizer.update(model, grads)
        return loss

    losses = [step(model, optimizer, IDS) for _ in range(12)]
    assert losses[-1] < losses[0]
    moved = jnp.any(model.embed.embedding[...] != before, axis=1)
    assert moved.tolist() == [False, True, True, True, False, False, True]


# --- replicas --------------------------------------------------------------------


def mean_loss(p, ids):
    return jnp.mean(jnp.sin(jnp.take(p["t"], ids, axis=0)) @ p["w"])


def replicas_agree(after):
    params, ids = {n: tables()[n] for n in "tw"}, jnp.arange(16) % 7
    tx = jos.lazy_adam(0.1, global_clipnorm=0.5)
    alone = quick(lambda p, ids: tx.apply_gradients(value_and_grad(mean_loss, "t")(p, ids)[1], tx.init(p), p)[0])
    same(after(params, ids), alone(params, ids), 1e-5)


@pytest.mark.parametrize("axis_name", [None, pytest.param("data", marks=pytest.mark.slow)])
def test_shard_map_gathers_where_types_tell(axis_name):
    tx = jos.lazy_adam(0.1, global_clipnorm=0.5, axis_name=axis_name)

    def step(p, state, ids):
        loss_fn = lambda p, ids: jax.lax.pmean(mean_loss(p, ids), "data")  # noqa: E731
        _, grads = value_and_grad(loss_fn, "t")(p, ids)
        assert grads["t"].values.shape == (16, 3)  # of all replicas
        return tx.apply_gradients(grads, state, p)[0]

    mesh = Mesh(np.array(jax.devices()), ("data",))
    mapped = jax.shard_map(step, mesh=mesh, in_specs=(P(), P(), P("data")), out_specs=P())
    replicas_agree(lambda p, ids: quick(mapped)(p, tx.init(p), ids))


@pytest.mark.slow
def test_pmap_gathers_with_axis_name():
    tx = jos.lazy_adam(0.1, global_clipnorm=0.5, axis_name="data", axis_op="mean")

    def step(p, state, ids):
        return tx.apply_gradients(value_and_grad(mean_loss, "t")(p, ids)[1], state, p)[0]

    def run(p, ids):
        p, state = jax.tree.map(lambda x: jnp.stack([x] * 8), (p, tx.init(p)))
        return jax.tree.map(lambda x: x[0], jax.pmap(step, axis_name="data")(p, state, ids.reshape(8, 2)))

    replicas_agree(run)


@pytest.mark.parametrize("lazy", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_explicit_axes(lazy):
    """On them JAX asks where the rows of a look-up lie; the rest of the step needs nothing."""
    mesh = jax.make_mesh((4, 2), ("data", "model"))
    params, ids, tx = {n: tables()[n] for n in "uw"}, jnp.arange(8) % 5, jos.adam(0.1, epsilon=0.1, lazy=lazy)
    params["u"] = jnp.concatenate([params["u"], params["u"]])[:8]
    rows = NamedSharding(mesh, P("data", None))

    def loss_fn(p, ids, where=None):
        return jnp.mean(jnp.sin(p["u"].at[ids].get(out_sharding=where)) @ p["w"])

    def step(p, state, ids, where=None):
        grads = value_and_grad(loss_fn, "u")(p, ids, where)[1]
        updates, _ = tx.update(grads, state, p)
        assert is_slices(updates["u"]) == lazy
        return tx.apply_gradients(grads, state, p)[0], optax.apply_updates(p, updates)

    want, _ = quick(step)(params, tx.init(params), ids)
    placed = jax.device_put(params, {"u": rows, "w": NamedSharding(mesh, P())})
    for after in quick(lambda p, s, ids: step(p, s, ids, rows))(
        placed, tx.init(placed), jax.device_put(ids, rows.update(spec=P("data")))
    ):
        same(jax.tree.map(np.asarray, after), want, 1e-5)
        assert after["u"].sharding == rows


def test_optax_apply_updates_takes_updates_of_a_chain():
    tx, (params, grads) = optax.chain(jos.lazy_adam(0.1), jos.transforms.clip_by_value(0.01)), example()
    updates, _ = quick(tx.update)(grads, tx.init(params), params)
    assert is_slices(updates["table"])
    assert jnp.abs(optax.apply_updates(params, updates)["table"] - params["table"]).max().round(4) == 0.01
