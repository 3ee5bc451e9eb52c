"""What is measured of a step, and steps that are skipped: the numbers, and everything around them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from orbax.checkpoint import v1 as ocp
from programs import example, quick, same, steps
from rows import ROWS
from test_groups import compositions
from test_parallel import SPECS, after_steps, mesh_of, on, parameters

import jaxopt_suite as jos
from jaxopt_suite import _trees as trees

NAMES = ["gradient_norm", "update_norm", "weight_norm", "rounded_share", "update_to_weight_ratio"]
metrics = jos.state.metrics


def norm(tree):
    return np.sqrt(sum(np.sum(np.square(np.asarray(x, np.float64))) for x in jax.tree.leaves(tree)))


def close(measured, **want):
    for name, value in want.items():
        np.testing.assert_allclose(measured[name], value, rtol=1e-5, err_msg=name)


def measured_by_hand(tx, grads, state, params):
    """The norms, and the share of steps that rounding in the parameters' dtype takes, entry by entry."""
    updates, _ = tx.update(grads, state, params)
    rows = [x.astype(np.float32) for x in map(np.asarray, jax.tree.leaves(updates))]
    old = jax.tree.leaves(params)
    old = [np.asarray(w) for w in old]
    same_still = [w == (w.astype(np.float32) + x).astype(w.dtype) for w, x in zip(old, rows, strict=True)]
    lost, moved = (sum(int(np.sum(a)) for a in found) for found in (
        [s & (x != 0) for s, x in zip(same_still, rows, strict=True)], [x != 0 for x in rows]))  # fmt: skip
    return {
        "gradient_norm": norm(grads),
        "update_norm": norm(updates),
        "weight_norm": norm(params),
        "update_to_weight_ratio": norm(updates) / norm(params),
        "rounded_share": lost / max(moved, 1),
    }


@pytest.mark.parametrize(
    "row", [pytest.param(row, marks=() if row.name == "adam" else pytest.mark.slow, id=row.name) for row in ROWS]
)
def test_every_optimizer_is_measured_as_it_is(row):
    """The steps are those without, to the last bits that XLA chooses, and the numbers those of the steps."""
    tx, (params, grads) = row.build(), example("dense", "scale")
    if tx.line.meter:
        pytest.skip("it is measured already")
    watched = jos.with_metrics(tx)
    want, state = steps(tx, params, grads, 2)
    got, seen = steps(watched, params, grads, 2)
    same(got, want)
    by_hand = measured_by_hand(tx, grads, state, want)
    by_hand["gradient_norm"] /= float(tx.scale_loss(jnp.float32(1), state))
    close(metrics(quick(watched.update)(grads, seen, got)[1]), **by_hand)


@pytest.mark.slow
@pytest.mark.parametrize("tx", [tx for tx in compositions() if tx != jos.frozen()], ids=repr)
def test_every_composition_is_measured(tx):
    params, grads = example("embedding", "dense", "scale")
    watched = jos.with_metrics(tx)
    got, state = steps(watched, params, grads, 2)
    same(got, steps(tx, params, grads, 2)[0])
    found = metrics(state)
    assert {*NAMES} <= {*found}
    assert all(np.isfinite(x) and x.shape == () for x in found.values())
    assert watched == jos.deserialize(jos.serialize(watched))
    assert "measure()" in watched.explain(params).stages


def test_groups_are_measured_by_themselves():
    params, grads = example("embedding", "dense", "scale")
    inner = jos.by_path({"bias": jos.adam(0.1), "": jos.chain(jos.transforms.scale_by_adam(), jos.sgd(0.5))})
    tx = jos.with_metrics(jos.by_path({"embedding": jos.frozen(), "dense": inner, "": jos.sgd(1.0)}))
    updates, state = tx.update(grads, tx.init(params), params)
    found = metrics(state)
    parts = {"": [("dense",), ("scale",)], "dense/": [("dense",)], "rest/": [("scale",)]}
    parts |= {"dense/bias/": [("dense", "bias")], "dense/rest/": [("dense", "kernel")]}
    assert {name.rpartition("/")[0] for name in found} == {name.rstrip("/") for name in parts}
    for place, paths in parts.items():
        for name, tree in (("gradient", grads), ("update", updates), ("weight", params)):
            leaves = [tree[path[0]] if len(path) == 1 else tree[path[0]][path[1]] for path in paths]
            close(found, **{f"{place}{name}_norm": norm(leaves)})


@pytest.mark.parametrize(("dtype", "rate"), [("bfloat16", 1e-3), pytest.param("float16", 1e-4, marks=pytest.mark.slow)])
def test_what_rounds_to_nothing(dtype, rate):
    """In 16 bits small steps are lost; nothing is where a writer keeps what is rounded, or draws by chance."""
    params, grads = example("dense", dtype=dtype)
    tx = jos.adam(rate)
    share = measured_by_hand(tx, jax.tree.map(lambda g: g.astype(jnp.float32), grads), tx.init(params), params)
    watched = jos.with_metrics(tx)
    _, state = quick(watched.apply_gradients)(grads, watched.init(params), params)
    close(metrics(state), rounded_share=share["rounded_share"])
    assert 0.1 < share["rounded_share"] < 1
    for write in (jos.precision.master_weights, jos.precision.kahan_summation, jos.precision.stochastic_rounding):
        for made in (write(jos.with_metrics(tx)), jos.with_metrics(write(tx))):
            state = quick(made.apply_gradients)(grads, made.init(params), params)[1]
            assert metrics(state)["rounded_share"] == 0
    still = jos.with_metrics(jos.sgd(0.0))  # no step, and so none that is lost
    assert metrics(quick(still.update)(grads, still.init(params), params)[1])["rounded_share"] == 0


def test_only_steps_are_measured():
    """Micro-steps and steps that are held back leave the numbers of the last one; the gradient is the mean."""
    params, grads = example("dense")
    tx = jos.with_metrics(jos.loss_scale(jos.adam(0.1, gradient_accumulation_steps=2, global_clipnorm=0.1), 4.0))
    state, step = tx.init(params), quick(tx.apply_gradients)
    seen = []
    for factor in (4.0, 8.0, 100.0, jnp.inf, 4.0):
        params, state = step(jax.tree.map(lambda g, f=factor: g * f, grads), state, params)
        seen.append(float(metrics(state)["gradient_norm"]))
    assert seen[0] == 0
    assert seen[1] == seen[2] == seen[3] == pytest.approx(1.5 * norm(grads), rel=1e-5)  # before it is clipped
    assert seen[4] != seen[3]
    assert float(jos.state.gradient_norm(state)) == seen[4]


@pytest.mark.slow
def test_sparse_gradients_are_measured_as_dense_ones():
    table = jnp.arange(12.0).reshape(6, 2)
    slices = jos.sparse.IndexedSlices(jnp.ones((4, 2)), jnp.array([1, 4, 1, 6]), (6, 2))  # one twice, one for padding
    for tx in (jos.sgd(0.1), jos.adam(0.1), jos.sgd(0.1, gradient_accumulation_steps=2)):
        states = []
        for g in (slices, slices.to_dense()):
            watched = jos.skip_large_updates(jos.with_metrics(tx))
            state = watched.init({"t": table})
            for _ in range(2):
                state = quick(watched.update)({"t": g}, state, {"t": table})[1]
            states.append(metrics(state))
        close(states[0], **states[1])


@pytest.mark.slow
@pytest.mark.parametrize("checked", [True, False])
def test_shards_are_measured_as_the_whole(checked):
    params, grads = parameters()
    wrapped = jos.skip_large_updates(jos.with_metrics(jos.adam(0.1, **({} if checked else {"shard_axes": SPECS}))))
    _, state = after_steps(jos.skip_large_updates(jos.with_metrics(jos.adam(0.1))), params, grads, 1)

    def step(params, grads):
        return metrics(wrapped.update(grads, wrapped.init(params), params)[1])

    specs = jax.sharding.PartitionSpec()
    mapped = jax.shard_map(step, mesh=mesh_of(), in_specs=(SPECS, SPECS), out_specs=specs, check_vma=checked)
    close(quick(mapped)(params, grads), **metrics(state))
    mesh = mesh_of()
    close(metrics(after_steps(wrapped.replace() if checked else wrapped, on(mesh, params), on(mesh, grads), 1)[1]),
          **metrics(state)) if checked else None  # fmt: skip


def both():
    return jos.skip_large_updates(jos.with_metrics(jos.adam(0.1)), warmup_steps=1)


@pytest.mark.slow
def test_in_a_scan_under_vmap_in_nnx_and_from_a_checkpoint(tmp_path):
    params, grads = example("dense")
    tx = both()
    want, state = steps(tx, params, grads, 4)

    def body(carry, _):
        params, state = tx.apply_gradients(grads, carry[1], carry[0])
        return (params, state), metrics(state)

    (got, after), history = quick(lambda p: jax.lax.scan(body, (p, tx.init(p)), None, 4))(params)
    same((got, after), (want, state))
    assert {name: x.shape for name, x in history.items()} == dict.fromkeys(metrics(state), (4,))
    rates = quick(jax.vmap(lambda r: metrics(jos.with_metrics(jos.sgd(r)).update(grads, jos.with_metrics(
        jos.sgd(r)).init(params), params)[1])))(jnp.array([0.5, 1.0]))  # fmt: skip
    np.testing.assert_allclose(rates["update_norm"], np.array([0.5, 1.0]) * norm(grads), rtol=1e-5)

    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, both(), wrt=nnx.Param)
    optimizer.update(model, jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param)))
    close(metrics(optimizer.opt_state), gradient_norm=np.sqrt(6), skipped=0)

    ocp.save(tmp_path / "state", state)
    same(metrics(ocp.load(tmp_path / "state", tx.init(params))), metrics(state), 0)
    same(metrics(jos.state.from_dict(jos.state.to_dict(state, tx, params), tx, params)), metrics(state), 0)
    plain, _ = jos.state.migrate(state, jos.adam(0.1), params)  # strict: no record is missed
    again, report = jos.state.migrate(plain, tx, params)
    same((plain.stages["rule"], again.stages["rule"]), (state.stages["rule"], state.stages["rule"]), 0)
    assert {"gradient_norm", "skipped"} <= {*report.reset}
    assert int(again.count) == 4


def test_derivatives_through_a_measured_step():
    def loss(w, rate):
        tx = jos.skip_large_updates(jos.with_metrics(jos.sgd(rate)))
        moved, state = tx.apply_gradients({"w": 2 * w}, tx.init({"w": w}), {"w": w})
        return moved["w"].sum() + metrics(state)["update_norm"]

    slopes = jax.jit(jax.grad(loss, (0, 1)))(jnp.zeros(3), 0.1)
    assert all(np.isfinite(x).all() for x in slopes)


def skipped_by_hand(norms, factor, warmup_steps, mean_decay):
    mean, k, skipped = 0.0, 0, []
    for n in norms:
        limit = factor * mean if k >= warmup_steps and mean > 0 else np.inf
        skipped.append(not (np.isfinite(n) and n <= limit))
        if np.isfinite(n):
            k += 1
            mean += max(1 - mean_decay, 1 / k) * (min(n, limit) - mean)
    return skipped, mean


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"factor": 1.5, "warmup_steps": 3, "mean_decay": 0.8},
        pytest.param({"warmup_steps": 0}, marks=pytest.mark.slow),
    ],
)
def test_large_gradients_are_skipped(arguments):
    """As the formula says, over a run with spikes, a lasting rise, zeros and what is no number."""
    rng = np.random.default_rng(0)
    norms = np.concatenate([[0.0, 0.0], np.exp(0.05 * rng.normal(size=150)), 100 * np.exp(0.05 * rng.normal(size=250))])
    norms[[30, 60, 140, 120]] = [np.nan, np.inf, 1e15, 0.0]
    tx = jos.skip_large_updates(jos.sgd(1.0, use_ema=True), **arguments)
    settings = {"factor": 4.0, "warmup_steps": 100, "mean_decay": 0.99, **arguments}
    want, mean = skipped_by_hand(norms, **settings)

    def body(carry, norm):
        w, state = tx.apply_gradients(norm * jnp.array([0.6, 0.8]), carry[1], carry[0])
        return (w, state), metrics(state)["skipped"]

    w = jnp.zeros(2)
    (_, state), counted = quick(lambda xs: jax.lax.scan(body, (w, tx.init(w)), xs))(jnp.asarray(norms, jnp.float32))
    assert np.diff(counted, prepend=0).astype(bool).tolist() == want
    assert 3 <= sum(want) < 250
    assert not any(want[-20:])  # gradients that stay large are taken in the end
    found = metrics(state)
    close(found, skipped=sum(want), mean_gradient_norm=mean)
    assert int(state.count) == len(norms) - sum(want)


@pytest.mark.slow
def test_a_skip_holds_everything_behind_it():
    params, grads = example("dense")
    huge = jax.tree.map(lambda g: 1e6 * g, grads)
    skip = jos.transforms.skip_large_gradients(warmup_steps=1)
    for tx in (
        jos.skip_large_updates(jos.lookahead(jos.adam(0.1, use_ema=True), sync_period=1), warmup_steps=1),
        jos.chain(skip, jos.adam(0.1), jos.transforms.ema(0.5)),
        jos.skip_large_updates(jos.by_path({"bias": jos.adam(0.1), "": jos.sgd(0.1)}), warmup_steps=1),
        jos.skip_large_updates(jos.precision.master_weights(jos.adam(0.1)), warmup_steps=1),
    ):
        after = jax.tree.map(lambda w: w.astype(jnp.bfloat16), params) if "master" in repr(tx) else params
        state = tx.init(after)
        for _ in range(2):
            after, state = quick(tx.apply_gradients)(grads, state, after)
        held, kept = quick(tx.apply_gradients)(huge, state, after)
        same(held, after, 0)
        assert next(x for name, x in metrics(kept).items() if name.endswith("skipped")) == 1
        worn = jax.tree.map(lambda a, b: (np.asarray(a) == np.asarray(b)).all(), kept, state)
        assert jax.tree.leaves(worn).count(False) == 3  # the mean, and the two counts


def test_a_skip_stands_behind_the_accumulation():
    w, tx = jnp.zeros(1), jos.skip_large_updates(jos.sgd(1.0, gradient_accumulation_steps=2, clipvalue=0.5), 3.0, 1)
    state, seen = tx.init(w), []
    for g in (1.0, 1.0, 5.0, -3.0, 20.0, 20.0, 1.0, 1.0):  # means of 1, 1, 20 and 1
        w, state = tx.apply_gradients(jnp.array([g]), state, w)
        seen.append(float(w[0]))
    assert seen == [0.0, -0.5, -0.5, -1.0, -1.0, -1.0, -1.0, -1.5]
    assert metrics(state)["skipped"] == 1


def test_worn_counters_go_on():
    tx, w = jos.skip_large_updates(jos.sgd(1.0), warmup_steps=1), jnp.zeros(1)
    state = tx.init(w)
    slots = state.stages["skip_large_gradients"]
    last = jnp.int32(2**31 - 1)
    worn = slots._replace(mean_gradient_norm=jnp.float32(1.0), norms=last, skipped=last)
    state = state._replace(stages={"skip_large_gradients": worn})
    for g, want in ((100.0, 0.0), (1.0, -1.0)):
        w, state = tx.apply_gradients(jnp.array([g]), state, w)
        assert float(w[0]) == want
    assert state.stages["skip_large_gradients"].skipped == last


def test_what_cannot_be_measured_is_refused():
    w = {"w": jnp.ones(2)}
    sgd = jos.sgd(0.1)
    some = jos.by_path({"bias": jos.sgd(gradient_accumulation_steps=2), "": jos.adam()})
    for make, words in (
        (lambda: jos.with_metrics(jos.with_metrics(sgd)), "sgd: measure measures its steps already."),
        (lambda: jos.with_metrics(some), "by_path: measure would act in steps too that a member holds back"),
        (lambda: jos.skip_large_updates(some), "by_path: skip_large_gradients would act in steps too that a member"),
        (lambda: jos.with_metrics(jos.frozen()), "there is nothing to wrap in an optimizer that moves nothing."),
        (lambda: metrics(sgd.init(w)), "metrics: nothing in this state is measured: wrap the optimizer in jos.with"),
        (lambda: metrics({"w": 1}), "metrics: there is no state of a jaxopt_suite optimizer in a dict."),
        (lambda: jos.with_metrics(sgd).update(w, jos.with_metrics(sgd).init(w)), "sgd: update needs the parameters"),
        (lambda: jos.with_metrics(sgd).update(w, sgd.init(w), w), "of another optimizer: it has the stages []"),
    ):
        with pytest.raises((TypeError, ValueError)) as refusal:
            make()
        assert words in str(refusal.value)
    assert not any(x for x in metrics(jos.with_metrics(sgd).init(w)).values())  # and no 0 / 0 before the first step
    two = {"a": jos.with_metrics(sgd).init(w), "b": jos.skip_large_updates(sgd).init(w)}
    assert {name.partition("/")[0] for name in metrics(two)} == {"a", "b"}


# patterns of what a mask picks

ODD = {
    "a.b": {"c+": jnp.ones(2), "c": jnp.ones((2, 2))},
    "layers": [{"bias": jnp.ones(2), "kernel": jnp.ones((2, 2))} for _ in range(12)],
    "a/b": jnp.ones(3),
    "a": {"b2": jnp.ones(1), "none": None},
    "x": jnp.ones(1),
    "x/y": jnp.ones(1),
}


@pytest.mark.parametrize("seed", range(30))
def test_patterns_pick_what_was_picked(seed):
    """Whatever is picked by chance: those, and no other."""
    names = [path for path in trees.paths(ODD) if path != "a/none"]
    rng = np.random.default_rng(seed)
    picked = {name for name in names if rng.random() < rng.random()} | {names[seed % 2]}
    pattern = jos.paths(ODD, lambda path, w: path in picked)
    assert {name for name in names if re.search(pattern, name)} == picked
    assert not any(re.search(pattern, f"{end}{name}{end}") for name in picked for end in ("/", "0"))


def test_masks_of_optax_become_recipes():
    params, grads = example()
    for mask in (
        lambda path, w: w.ndim > 1,
        lambda path, w: jnp.array(w.ndim > 1),
        lambda params: jax.tree.map(lambda w: w.ndim > 1, params),
        jax.tree.map(lambda w: w.ndim > 1, params),
    ):
        pattern = jos.paths(params, mask)
        ours = jos.by_path({pattern: jos.sgd(0.1), "": jos.frozen()})
        assert ours == jos.deserialize(jos.serialize(ours))
        same(quick(ours.update)(grads, ours.init(params), params)[0],
             jax.tree.map(lambda g, w: -0.1 * g if w.ndim > 1 else 0 * g, grads, params))  # fmt: skip
    assert jos.paths(params, {**dict.fromkeys(params, False), "dense": True}) == "^dense/(bias|kernel)$"
    assert jos.paths(jnp.ones(2), True) == "^$"
    assert jos.paths(jax.eval_shape(lambda: params), lambda path, w: w.ndim > 1) == pattern
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    assert jos.paths(nnx.state(model, nnx.Param), lambda path, w: w.ndim > 1) == "^kernel$"
    for make, words in (
        (lambda: jos.paths(params, lambda path, w: w.sum()), "paths: predicate must say True or False of 'conv/kern"),
        (lambda: jax.jit(lambda p: jos.paths(p, lambda path, w: w.sum() > 0))(params), "must say True or False of 'c"),
        (lambda: jos.paths(params, lambda path, w: path == "nothing" or None), "of 'conv/kernel', got None."),
        (lambda: jos.paths(params, lambda path, w: False), "paths: predicate must pick a parameter, and picks none"),
        (lambda: jos.paths(params, {"dense": True}), "paths: predicate must be a tree like params: "),
        (lambda: jos.paths(params, "bias"), "predicate must say True or False of 'conv/kernel', got 'bias'."),
        (lambda: jos.paths({"a" * 60_000: jnp.ones(1)}, True), "must have at most 50000 characters, and has 60002"),
    ):
        with pytest.raises((TypeError, ValueError)) as refusal:
            make()
        assert words in str(refusal.value)


def test_two_skips_are_counted_apart():
    tx = jos.skip_large_updates(jos.skip_large_updates(jos.sgd(1.0), 2.0, 1), 100.0, 1)
    w, state = jnp.float32(0), tx.init(jnp.float32(0))
    for g in (1.0, 10.0, 1.0):
        w, state = tx.apply_gradients(jnp.float32(g), state, w)
    skipped = {name: int(x) for name, x in jos.state.metrics(state).items() if name.startswith("skipped")}
    assert skipped == {"skipped": 1, "skipped_2": 0}
