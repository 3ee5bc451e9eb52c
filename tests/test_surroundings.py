"""Every optimizer inside what people put optimizers into: Optax's wrappers, Flax, devices, checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from orbax.checkpoint import v1 as ocp
from programs import example, quick, same, step, steps
from test_conformance import params_of, rows

import jaxopt_suite as jos


def alone(row, n=4):
    params, grads = example("dense")
    return params, grads, steps(row.build(), params, grads, n)[0]


@rows("chain")
def test_chain(row):
    params, grads, want = alone(row)
    got, _ = steps(optax.chain(optax.identity(), row.build()), params, grads)
    same(got, want)


@rows("masked", few=True)
def test_masked(row):
    params, grads, want = alone(row)
    mask = {"dense": {"kernel": True, "bias": False}}
    got, _ = steps(optax.masked(row.build(), mask), params, grads, 4)
    same(got["dense"]["kernel"], want["dense"]["kernel"])
    same(got["dense"]["bias"], params["dense"]["bias"] + 4 * grads["dense"]["bias"])


@rows("multi_transform", few=True)
def test_multi_transform(row):
    params, grads, want = alone(row)
    labels = {"dense": {"kernel": "ours", "bias": "none"}}
    got, _ = steps(optax.multi_transform({"ours": row.build(), "none": optax.set_to_zero()}, labels), params, grads)
    same(got["dense"]["kernel"], want["dense"]["kernel"])
    same(got["dense"]["bias"], params["dense"]["bias"])


@rows("MultiSteps", few=True)
def test_multi_steps(row):
    params, grads, want = alone(row, 2)
    with jax.numpy_dtype_promotion("standard"):  # optax.MultiSteps itself promotes implicitly
        got, _ = steps(optax.MultiSteps(row.build(), 2), params, grads, 4)
    same(got, want, 1e-5)


@rows("apply_if_finite")
def test_apply_if_finite(row):
    params, grads, want = alone(row)
    tx = optax.apply_if_finite(row.build(), max_consecutive_errors=3)
    update, state, got = quick(tx.update), tx.init(params), params
    for _ in range(4):
        updates, state = update(grads, state, got)
        got = optax.apply_updates(got, updates)
    same(got, want)
    updates, after = update(jax.tree.map(lambda g: g * jnp.nan, grads), state, got)
    assert not any(np.asarray(u).any() for u in jax.tree.leaves(updates))
    same(after.inner_state, state.inner_state)


@rows("inject_hyperparams")
def test_inject_hyperparams(row):
    if "learning_rate" not in params_of(row):
        pytest.skip("there is no learning rate to inject")
    params, grads = example("dense")
    arguments = {**row.variants[0].all_arguments(), "learning_rate": 0.05}
    tx, direct = optax.inject_hyperparams(row.make, static_args=row.static)(**arguments), row.make(**arguments)
    update, state = quick(tx.update), tx.init(params)
    want, _ = quick(direct.update)(grads, direct.init(params), params)
    updates, state = update(grads, state, params)
    same(updates, want, 1e-5)
    state.hyperparams["learning_rate"] = jnp.float32(0.0)
    frozen, _ = update(grads, state, params)
    moved, _ = update(
        grads, state._replace(hyperparams={**state.hyperparams, "learning_rate": jnp.float32(0.1)}), params
    )
    assert not np.allclose(frozen["dense"]["kernel"], moved["dense"]["kernel"])


@rows("tree_map_params")
def test_tree_map_params(row):
    params, _ = example()
    tx = row.build()
    state = tx.init(params)
    names = jax.tree.map(lambda _: "spec", params)
    mapped = optax.tree_map_params(tx, lambda _, name: name, state, names, transform_non_params=lambda _: "other")
    assert jax.tree.structure(mapped) == jax.tree.structure(state)
    assert {*jax.tree.leaves(mapped)} <= {"spec", "other"}
    slots = [s for s in jax.tree.leaves(state.stages) if s.ndim]
    assert ("spec" in jax.tree.leaves(mapped)) or not slots


class Model(nnx.Module):
    def __init__(self):
        self.layer = nnx.Linear(3, 4, rngs=nnx.Rngs(0))

    def loss(self):
        return ((jnp.tanh(self.layer(jnp.arange(6.0).reshape(2, 3) / 6)) - 1) ** 2).mean()


@quick
@jax.grad
def gradient(params):
    graph, state = nnx.split(Model())
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state).loss()


@rows("nnx", few=True)
def test_nnx_optimizer(row):
    model = Model()
    params = jax.tree.map(jnp.copy, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    optimizer = nnx.Optimizer(model, row.build(), wrt=nnx.Param)

    @nnx.jit
    def train(model, optimizer):
        optimizer.update(model, nnx.grad(Model.loss)(model))

    tx, state = row.build(), row.build().init(params)
    for _ in range(5):
        train(model, optimizer)
        params, state = step(tx)(params, state, gradient(params))
    same(nnx.to_pure_dict(nnx.state(model, nnx.Param)), params, 1e-5)


@rows("TrainState", few=True)
def test_train_state(row):
    params, grads, want = alone(row, 2)
    state = TrainState.create(apply_fn=None, params=params, tx=row.build())
    apply_gradients = quick(lambda state, grads: state.apply_gradients(grads=grads))
    for _ in range(2):
        state = apply_gradients(state, grads)
    same(state.params, want)


def replicas(grads):
    """Gradients of 8 replicas whose mean is `grads`."""
    return jax.tree.map(lambda g: g[None] * jnp.linspace(0.5, 1.5, 8).reshape(8, *[1] * g.ndim), grads)


@rows("pmap", few=True)
def test_pmap(row):
    params, grads, want = alone(row, 1)
    tx = optax.chain(jos.transforms.aggregate_gradients("d", axis_op="mean"), row.build())
    updates = quick(jax.pmap(lambda g: tx.update(g, tx.init(params), params)[0], axis_name="d"))(replicas(grads))
    for replica in (0, 7):
        got = optax.apply_updates(params, jax.tree.map(lambda u, r=replica: u[r], updates))
        same(got, want, 1e-5)


@rows("shard_map")
def test_shard_map(row):
    params, grads, want = alone(row, 1)
    mesh = Mesh(np.array(jax.devices()), ("d",))
    tx = row.build(**({"axis_name": "d", "axis_op": "mean"} if "axis_name" in params_of(row) else {}))

    def one(g):
        g = jax.tree.map(lambda x: x[0], g)
        if "axis_name" not in params_of(row):
            g = jax.lax.pmean(g, "d")
        return tx.apply_gradients(g, tx.init(params), params)[0]

    got = quick(jax.shard_map(one, mesh=mesh, in_specs=P("d"), out_specs=P()))(replicas(grads))
    same(got, want, 1e-5)


def sharded(tree, mesh):
    """Every array split over the mesh where its first axis allows it."""

    def put(x):
        split = x.ndim and x.shape[0] % mesh.size == 0
        return jax.device_put(x, NamedSharding(mesh, P("d") if split else P()))

    return jax.tree.map(put, tree)


@rows("orbax", few=True)
def test_orbax_from_eight_devices_to_four(row, tmp_path):
    eight, four = (Mesh(np.array(jax.devices()[:n]), ("d",)) for n in (8, 4))
    params = {"kernel": jnp.linspace(-1, 1, 64).reshape(16, 4), "bias": jnp.ones(3)}
    grads = jax.tree.map(lambda w: w * 0.1 + 0.2, params)
    tx = row.build()
    after, update = sharded(params, eight), quick(tx.update)
    state = tx.init(after)
    for _ in range(2):
        updates, state = update(sharded(grads, eight), state, after)
        after = optax.apply_updates(after, updates)
    ocp.save(tmp_path / "checkpoint", {"params": after, "state": state})
    template = sharded({"params": params, "state": tx.init(params)}, four)
    restored = ocp.load(tmp_path / "checkpoint", template)
    same(jax.tree.map(np.asarray, restored), jax.tree.map(np.asarray, {"params": after, "state": state}), 0)
    assert jax.tree.structure(restored["state"]) == jax.tree.structure(state)
    onward = update(sharded(grads, four), restored["state"], restored["params"])[0]
    want = update(sharded(grads, eight), state, after)[0]
    same(jax.tree.map(np.asarray, onward), jax.tree.map(np.asarray, want), 1e-5)
