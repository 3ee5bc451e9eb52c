"""Data parallelism: 20 steps on 8 devices, in each of the ways, are those of one device."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from programs import quick, same
from rows import ROWS
from test_conformance import params_of

import jaxopt_suite as jos

STEPS, DEVICES = 20, 8
MESH = jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Auto,))
FIRST = ("adam", "lamb")  # of the ways' sweeps, by default; what reduces and what does not

few = pytest.mark.parametrize(
    "row", [pytest.param(row, marks=() if row.name in FIRST else pytest.mark.slow, id=row.name) for row in ROWS]
)


def problem():
    """Parameters, and for each step and device a gradient in sixteenths, so that sums are exact in any order."""
    params = {"bias": jnp.linspace(-1, 1, 4), "kernel": jnp.linspace(-1, 1, 12).reshape(3, 4)}

    def draws(w):
        return np.float32(np.random.default_rng(w.size).integers(-16, 17, (STEPS, DEVICES, *w.shape))) / 16

    return params, jax.tree.map(draws, params)


def loss_fn(params, shares):
    """Its gradient is the mean of the shares'."""
    return sum(jnp.vdot(w, share.mean(0)) for w, share in zip(params.values(), shares.values(), strict=True))


def trained(step, params, state, data):
    return lax.scan(lambda carry, shares: (step(*carry, shares), None), (params, state), data)[0]


def aggregated(row):
    """The optimizer that averages over the axis itself, where it is asked to; a wrapper leaves it to the loop."""
    asks = "axis_name" in params_of(row)
    tx = row.build(**({"axis_name": "data", "axis_op": "mean"} if asks else {}))
    return tx, (lambda grads: grads) if asks else functools.partial(lax.pmean, axis_name="data")


def alone(row, params, data):
    tx = row.build()

    def step(params, state, shares):
        return tx.minimize(loss_fn, state, params, shares)[:2]

    return quick(functools.partial(trained, step))(params, tx.init(params), data)


def by_pmap(row, params, data):
    tx, mean = aggregated(row)

    def step(params, state, shares):
        _, grads = tx.compute_gradients(loss_fn, params, shares, state=state)
        return tx.apply_gradients(mean(grads), state, params)

    run = jax.pmap(functools.partial(trained, step), axis_name="data", in_axes=(None, None, 1))
    shares = jax.tree.map(lambda g: g[:, :, None], data)
    results = quick(run)(params, tx.init(params), shares)
    for x in jax.tree.leaves(results):
        np.testing.assert_array_equal(x, x[:1].repeat(DEVICES, 0))
    return jax.tree.map(lambda x: x[0], results)


def by_shard_map(row, params, data):
    """The loss is averaged, and with it the gradient: `axis_name` is not needed."""
    tx = row.build()

    def step(params, state, shares):
        return tx.minimize(lambda *args: lax.pmean(loss_fn(*args), "data"), state, params, shares)[:2]

    run = functools.partial(trained, step)
    mapped = jax.shard_map(run, mesh=MESH, in_specs=(P(), P(), P(None, "data")), out_specs=P())
    return quick(mapped)(params, tx.init(params), data)


def by_shard_map_once(row, params, data):
    """Gradients of parameters that vary are the device's own: the optimizer reduces them."""
    tx, mean = aggregated(row)

    def step(params, state, shares):
        own = lax.pcast(params, "data", to="varying")
        _, grads = tx.compute_gradients(loss_fn, own, shares, state=state)
        return tx.apply_gradients(mean(grads), state, params)

    run = functools.partial(trained, step)
    mapped = jax.shard_map(run, mesh=MESH, in_specs=(P(), P(), P(None, "data")), out_specs=P())
    return quick(mapped)(params, tx.init(params), data)


def by_jit(row, params, data):
    tx, whole = row.build(), NamedSharding(MESH, P())

    def step(params, state, shares):
        return tx.minimize(loss_fn, state, params, shares)[:2]

    placed = jax.device_put(jax.tree.map(np.array, params), whole)
    given = jax.device_put(data, NamedSharding(MESH, P(None, "data")))
    state = jos.parallel.init(tx, placed, MESH)
    return quick(functools.partial(trained, step), out_shardings=whole)(placed, state, given)


WAYS = [by_pmap, by_shard_map, by_shard_map_once, by_jit]


@few
def test_the_trajectory_of_one_device(row):
    params, data = problem()
    want = alone(row, params, data)
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(want[0].values(), params.values(), strict=True))
    for way in WAYS:
        same(jax.tree.map(np.asarray, way(row, params, data)), want, 1e-5 if row.name in REORDERED else 1e-6)


REORDERED = ("lamb", "adafactor", "muon")  # whose own sums XLA orders otherwise in another program


# one reduction for each real step


def reductions(function, *args):
    """How many arrays a program sums over devices."""
    text = jax.jit(function).lower(*args).compile().as_text()
    return sum(len(re.findall(r"f32\[", shapes)) for shapes in re.findall(r"= (.*?) all-reduce(?:-start)?\(", text))


def accumulated(params, state, micro_batches, tx):
    """Micro-batches on parameters that vary, one reduction, one update."""
    own = lax.pcast(params, "data", to="varying")

    def add(total, shares):
        _, grads = tx.compute_gradients(loss_fn, own, shares, state=state)
        return jax.tree.map(jnp.add, total, grads), None

    total, _ = lax.scan(add, jax.tree.map(jnp.zeros_like, own), micro_batches)
    mean = jax.tree.map(lambda g: g / len(jax.tree.leaves(micro_batches)[0]), total)
    return tx.apply_gradients(mean, state, params)


def test_accumulation_reduces_once():
    params, data = problem()
    tx, plain = jos.adam(axis_name="data", axis_op="mean"), jos.adam()
    step = functools.partial(accumulated, tx=tx)
    mapped = jax.shard_map(step, mesh=MESH, in_specs=(P(), P(), P(None, "data")), out_specs=P())
    state, micro_batches = tx.init(params), jax.tree.map(lambda g: g[:4], data)
    assert reductions(mapped, params, state, micro_batches) == len(params)
    got, _ = jax.jit(mapped)(params, state, micro_batches)
    whole = jax.tree.map(lambda g: g.mean((0, 1)), micro_batches)
    same(jax.tree.map(np.asarray, got), plain.apply_gradients(whole, plain.init(params), params)[0])


def test_each_gradient_is_reduced_once():
    params, data = problem()
    tx = jos.lamb(axis_name="data", axis_op="mean", global_clipnorm=1.0)

    def once(params, state, shares):
        own = lax.pcast(params, "data", to="varying")
        _, grads = tx.compute_gradients(loss_fn, own, shares, state=state)
        return tx.apply_gradients(grads, state, params)

    mapped = jax.shard_map(once, mesh=MESH, in_specs=(P(), P(), P("data")), out_specs=P())
    assert reductions(mapped, params, tx.init(params), jax.tree.map(lambda g: g[0], data)) == len(params)


# gradients that are sent in 16 bits


@pytest.mark.parametrize(("dtype", "unit"), [("bfloat16", 2**-9), ("float16", 2**-12), ("float32", 2**-24)])
@pytest.mark.parametrize("op", ["sum", "mean"])
def test_sent_in_another_dtype(dtype, unit, op):
    grads = np.random.default_rng(0).normal(size=(DEVICES, 1000)).astype(np.float32)
    tx = jos.sgd(1.0, axis_name="data", axis_op=op, axis_dtype=dtype)

    def update(g):
        return tx.update(g, tx.init(g), jnp.zeros_like(g))[0]

    mapped = jax.jit(jax.shard_map(update, mesh=MESH, in_specs=P("data"), out_specs=P("data"), check_vma=False))
    got = -np.asarray(mapped(grads))[0]
    want = grads.sum(0, dtype=np.float64) / (DEVICES if op == "mean" else 1)
    worst = np.abs(got - want).max() / np.abs(grads).sum(0).max() * (DEVICES if op == "mean" else 1)
    assert got.dtype == np.float32
    assert unit / 100 < worst <= DEVICES * unit  # it rounds once for each device at most


def test_what_is_sent_is_of_that_dtype():
    tx = jos.sgd(axis_name="data", axis_dtype="bfloat16")
    mapped = jax.shard_map(
        lambda g: tx.update(g, tx.init(g), g)[0], mesh=MESH, in_specs=P("data"), out_specs=P("data"), check_vma=False
    )
    program = str(jax.make_jaxpr(mapped)(jnp.ones((8, 2))))
    assert re.search(r"bf16\[1,2\] = psum", program)
    assert "axis_dtype='bfloat16'" in repr(tx)


def test_what_is_summed_already_is_not_sent_again():
    tx, w = jos.sgd(axis_name="data", axis_dtype="bfloat16"), jnp.ones(2)
    mapped = jax.shard_map(
        lambda w, x: tx.update(jax.grad(lambda w: jnp.vdot(w, x[0]))(w), tx.init(w), w)[0],
        mesh=MESH,
        in_specs=(P(), P("data")),
        out_specs=P(),
    )
    with pytest.raises(
        ValueError, match=r"aggregate_gradients: the gradients are already summed over \['data'\], in th"
    ):
        mapped(w, jnp.ones((8, 2)))
