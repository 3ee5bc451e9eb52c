"""by_path, chain, frozen and from_optax: over any tree, inside what surrounds them, with every refusal named."""

import dataclasses
import json
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from orbax.checkpoint import v1 as ocp
from programs import example, quick, same, stacked, steps, trajectory
from rows import ROWS

import jaxopt_suite as jos
from jaxopt_suite import _trees as trees

RULES = {"embedding": jos.frozen(), "bias|scale": jos.sgd(0.1, momentum=0.5), ".*": jos.adam(0.01)}


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Model:
    embedding: jax.Array
    layers: list


class Net(nnx.Module):
    def __init__(self):
        self.embedding = nnx.Param(jnp.ones((2, 3)))
        self.dense = nnx.Linear(3, 2, rngs=nnx.Rngs(0))


def small():
    params = {"embedding": jnp.ones(2), "dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    return params, jax.tree.map(lambda w: jnp.full_like(w, 3.0), params)


def compositions():
    """One of each, and nested in each other and in wrappers."""
    adam = jos.from_optax("adam", learning_rate=0.01)
    yield jos.by_path(RULES, global_clipnorm=1.0)
    yield jos.by_path({"bias": adam, "": jos.chain(jos.transforms.clip_by_value(1.0), jos.adam(0.1))})
    yield jos.chain(jos.transforms.clip_by_global_norm(1.0), jos.by_path({"bias": jos.sgd(), "": adam}))
    yield jos.lookahead(jos.by_path({"bias": jos.sgd(), "": jos.adam()}), sync_period=2)
    yield jos.loss_scale(jos.chain(jos.transforms.clip_by_value(1.0), adam))
    yield jos.moving_average(adam)
    yield jos.from_optax("masked", inner=jos.adam(), mask=True)
    yield jos.from_optax("contrib.prodigy", learning_rate=0.5)
    yield jos.frozen()


@pytest.mark.parametrize("tx", [*compositions()], ids=repr)
def test_compositions_are_values(tx):
    again = eval(repr(tx), vars(jos.transforms) | vars(jos))
    assert tx == again
    assert hash(tx) == hash(again)
    assert tx == pickle.loads(pickle.dumps(tx))
    assert tx == jos.deserialize(json.loads(json.dumps(jos.serialize(tx), sort_keys=True)))
    params, grads = example("embedding", "dense")
    for a, b in zip(steps(tx, params, grads), steps(again, params, grads), strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)
    assert jax.tree.structure(jax.eval_shape(tx.init, params)) == jax.tree.structure(tx.init(params))


@pytest.mark.parametrize("tx", [*compositions()], ids=repr)
def test_compositions_work_in_their_surroundings(tx):
    params, grads = example("embedding", "dense")
    expected, _ = steps(tx, params, grads)
    applied, state = params, tx.init(params)
    scan = quick(lambda p: jax.lax.scan(lambda c, _: (tx.apply_gradients(grads, c[1], c[0]), None), p, None, 4)[0])
    same(scan((params, tx.init(params)))[0], expected)
    for _ in range(4):
        applied, state = tx.apply_gradients(grads, state, applied)
    same(applied, expected)
    same(steps(optax.chain(optax.identity(), tx), params, grads)[0], expected)
    mapped = optax.tree_map_params(tx, lambda x: x + 1, tx.init(params))
    assert jax.tree.structure(mapped) == jax.tree.structure(tx.init(params))
    jax.tree.map(jnp.shape, tx.finalize_variable_values(state, applied))
    with pytest.raises((TypeError, ValueError), match=r"init|of another optimizer"):
        tx.update(grads, jos.sgd().init(params), params) if tx != jos.frozen() else jos.sgd().update(grads, (), params)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_group_moves_as_its_optimizer_alone(row):
    if row.build().line.scales_loss:
        pytest.skip("a loss scale is for all parameters")
    params, grads = example("dense", "embedding", "scale")
    tx = jos.by_path({"embedding|kernel": row.build(), "": jos.frozen()})
    alone, _ = steps(row.build(), kernels(params), kernels(grads), n=2)
    moved, _ = steps(tx, params, grads, n=2)
    same(kernels(moved), alone)
    same(moved["scale"], params["scale"], tolerance=0)


def kernels(tree):
    return {"dense": {"kernel": tree["dense"]["kernel"]}, "embedding": tree["embedding"]}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_clips_act_across_the_groups(dtype):
    params, grads = example(dtype=dtype)
    whole = jos.sgd(0.1, global_clipnorm=0.5)
    parts = jos.by_path({"bias": jos.sgd(0.1), "": jos.sgd(0.1)}, global_clipnorm=0.5)
    moved = [steps(tx, params, grads, compiled=jax.jit)[0] for tx in (parts, whole)]
    same(*moved, tolerance=0)
    state = parts.update(grads, parts.init(params), params)[1]
    norm = jos.state.gradient_norm(state)
    np.testing.assert_allclose(norm, optax.tree.norm(jax.tree.map(lambda g: g.astype(jnp.float32), grads)), rtol=1e-6)


def test_a_group_decides_over_the_regex_that_comes_first():
    params, grads = small()
    tx = jos.by_path({"bias": jos.sgd(1.0), "dense": jos.sgd(2.0), "": jos.sgd(3.0)})
    updates, _ = tx.update(grads, tx.init(params))
    assert {k: float(x.ravel()[0]) for k, x in flat(updates).items()} == {
        "embedding": -9.0, "dense/kernel": -6.0, "dense/bias": -3.0
    }  # fmt: skip


def flat(tree):
    return dict(zip(trees.paths(tree), trees.leaves(tree), strict=True))


def test_any_tree():
    tx = jos.by_path({r"embedding|^0$": jos.frozen(), r"bias|/1": jos.sgd(0.5), "": jos.sgd(1.0)})
    for params in (
        Model(jnp.ones(2), [jnp.ones(3), jnp.ones(4)]),
        [jnp.ones(2), [jnp.ones(3), jnp.ones(4)]],
        {"embedding": jnp.ones(2), "layers": (jnp.ones(3), {"bias": jnp.ones(4)})},
    ):
        new, _ = jax.jit(tx.apply_gradients)(params, tx.init(params), params)
        assert jax.tree.structure(new) == jax.tree.structure(params)
        assert [float(x[0]) for x in jax.tree.leaves(new)] == [1.0, 0.0, 0.5]


@pytest.mark.parametrize("inner", [jos.adam(0.01), jos.from_optax("adam", learning_rate=0.01)], ids=repr)
def test_nnx_optimizer(inner):
    tx = jos.by_path({"embedding": jos.frozen(), "bias": inner, "": jos.sgd(0.1, momentum=0.9)}, global_clipnorm=1.0)
    model, plain = Net(), Net()
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    def loss(model):
        return jnp.sum(model.dense(model.embedding[...]) ** 2)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(loss)(model))

    params = nnx.to_pure_dict(nnx.state(plain, nnx.Param))
    state = tx.init(params)
    for _ in range(4):
        step(model, optimizer)
        grads = jax.grad(lambda p: jnp.sum((p["embedding"] @ p["dense"]["kernel"] + p["dense"]["bias"]) ** 2))(params)
        params, state = tx.apply_gradients(grads, state, params)
    same(nnx.to_pure_dict(nnx.state(model, nnx.Param)), params)
    rate = jos.state.learning_rate(optimizer.opt_state, within="rest")
    assert float(rate) == pytest.approx(0.1)


def test_masked_parameters_have_no_slots():
    params, _ = small()
    state = jos.by_path({"embedding": jos.frozen(), "": jos.adam()}).init(params)
    assert jax.tree.leaves(state.stages["members"]["embedding"]) == []
    assert {*jos.state.variables(state)} == {
        "count", "learning_rate", "m/dense/bias", "m/dense/kernel", "v/dense/bias", "v/dense/kernel"
    }  # fmt: skip


def test_setting_a_rate_asks_which():
    params, grads = small()
    tx = jos.by_path({"bias": jos.sgd(0.1), "": jos.sgd(0.2)})
    with pytest.raises(ValueError, match=re.escape("name one with within=, of ['bias', 'rest']")):
        jos.state.set_learning_rate(tx.init(params), 1.0)
    state = jos.state.set_learning_rate(tx.init(params), 1.0, within="bias")
    updates, state = tx.update(grads, state)
    assert {path: float(x.min()) for path, x in flat(updates).items()} == pytest.approx(
        {"embedding": -0.6, "dense/kernel": -0.6, "dense/bias": -3.0}
    )
    assert int(jos.state.iterations(state, within="")) == 1


def test_a_parameter_without_a_gradient_stays():
    params, grads = small()
    tx = jos.lookahead(jos.by_path({"embedding": jos.adam(), "": jos.sgd(0.1, momentum=0.9)}), sync_period=2)
    missing = {**grads, "embedding": None}
    moved, state = steps(tx, params, missing)
    same(moved["embedding"], params["embedding"], tolerance=0)
    assert float(jnp.abs(jos.state.get_slot(state, "embedding", "m", within="embedding")).max()) == 0
    assert float(moved["dense"]["bias"][0]) < 1
    chained = jos.chain(jos.transforms.clip_by_value(1.0), jos.adam())
    same(steps(chained, params, missing)[0]["embedding"], params["embedding"], tolerance=0)
    with pytest.raises(ValueError, match="adam needs all gradients, there is none at 'embedding'"):
        steps(jos.from_optax("adam", learning_rate=0.1), params, missing)


def test_averages_of_groups():
    params, grads = small()
    tx = jos.by_path({"dense": jos.sgd(1.0, use_ema=True, ema_momentum=0.5), "": jos.sgd(1.0)})
    moved, state = steps(tx, params, grads, n=1)
    final = tx.finalize_variable_values(state, moved)
    assert {path: float(x.min()) for path, x in flat(final).items()} == {
        "embedding": -2.0, "dense/kernel": -0.5, "dense/bias": -0.5
    }  # fmt: skip
    plain = jos.by_path({"": jos.sgd(1.0)})
    assert plain.finalize_variable_values(plain.init(params), moved) is moved


def test_decay_is_excluded_in_every_member():
    params, _ = small()
    zero = jax.tree.map(jnp.zeros_like, params)
    inner = jos.by_path({"embedding": jos.frozen(), "": jos.sgd(1.0, weight_decay=0.5)})
    for tx in (inner, jos.lookahead(inner), jos.chain(inner)):
        moved, _ = steps(tx.exclude_from_weight_decay(var_list=["dense/bias"]), params, zero, n=1)
        assert [float(x.ravel()[0]) for x in jax.tree.leaves(moved)] == [1.0, 0.5, 1.0]
    for tx in (jos.frozen(), jos.from_optax("adam", learning_rate=0.1)):
        with pytest.raises(TypeError, match="there is no weight decay here that parameters could be excluded from"):
            tx.exclude_from_weight_decay(var_names=["bias"])


def test_a_chain_gives_what_its_members_give():
    params, grads = example()
    ours = jos.chain(jos.transforms.clip_by_value(0.1), jos.adam(0.1))
    same(steps(ours, params, grads)[0], steps(jos.adam(0.1, clipvalue=0.1), params, grads)[0])
    scaled = jos.chain(jos.transforms.unscale(8.0), jos.loss_scale(jos.sgd(), initial_scale=4.0))
    assert float(scaled.scale_loss(jnp.float32(1.0), scaled.init(params))) == 32.0


def test_a_chain_passes_a_line_search_on():
    def loss(w):
        return jnp.sum((w - 3.0) ** 2)

    search = jos.from_optax("scale_by_backtracking_linesearch", max_backtracking_steps=9)
    tx = jos.chain(jos.sgd(4.0), search)
    theirs = optax.chain(optax.sgd(4.0), optax.scale_by_backtracking_linesearch(9))
    w = v = jnp.zeros(3)
    state, other = tx.init(w), theirs.init(v)
    for _ in range(2):
        value, grad = jax.value_and_grad(loss)(w)
        w, state = tx.apply_gradients(grad, state, w, value=value, grad=grad, value_fn=loss)
        value, grad = jax.value_and_grad(loss)(v)
        with jax.numpy_dtype_promotion("standard"):
            updates, other = theirs.update(grad, other, v, value=value, grad=grad, value_fn=loss)
        v = optax.apply_updates(v, updates)
    assert float(loss(w)) < 5.0 < float(loss(jnp.zeros(3)))
    same(w, v)
    plain = jos.chain(jos.sgd(1.0))
    same(plain.update(w, plain.init(w), w, value_fn=loss)[0], -w)


def test_two_equal_ones_of_optax_are_one_program():
    params, grads = example()
    count = 0

    def step(tx, params, state, grads):
        nonlocal count
        count += 1
        return tx.apply_gradients(grads, state, params)

    jitted = jax.jit(step, static_argnums=0)
    for _ in range(3):
        tx = jos.from_optax("adamw", learning_rate=1e-3)
        jitted(tx, params, tx.init(params), grads)
    assert count == 1


OPTAX = [
    ("adamw", {"learning_rate": 0.01, "mu_dtype": "bfloat16"}),
    ("sgd", {"learning_rate": jos.schedules.exponential_decay(0.1, 2, 0.5), "momentum": 0.9}),
    ("nadam", {"learning_rate": 0.1}),
    ("lion", {"learning_rate": 0.01, "mask": {"embedding": True, "dense": False}}),
    ("contrib.dog", {}),
    ("contrib.muon", {"learning_rate": 0.01, "ns_coeffs": (3.0, -4.0, 2.0)}),
    ("contrib.schedule_free", {"base_optimizer": jos.sgd(0.1), "learning_rate": 0.1}),
    ("apply_if_finite", {"inner": jos.adam(0.1), "max_consecutive_errors": 3}),
    ("multi_transform", {"transforms": {"a": jos.adam(0.1), "b": jos.frozen()}, "param_labels": "a"}),
]


@pytest.mark.parametrize(("name", "arguments"), OPTAX, ids=[name for name, _ in OPTAX])
def test_the_numbers_are_those_of_optax(name, arguments):
    params, grads = example("embedding", "dense")
    module, _, last = name.rpartition(".")
    theirs = getattr(optax.contrib if module else optax, last)(**arguments)
    tx = jos.deserialize(json.loads(jos.from_optax(name, **arguments).to_json()))
    assert tx == jos.from_optax(name, **arguments)
    grads = stacked([grads, jax.tree.map(lambda g: 2 * g, grads), jax.tree.map(lambda g: -g, grads)])
    got, _ = trajectory(tx, params, grads, jax.jit)
    with jax.numpy_dtype_promotion("standard"):  # Optax's code counts on it
        want, _ = trajectory(theirs, params, grads, jax.jit)
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_dtypes_are_kept_by_name():
    tx = jos.from_optax("adam", learning_rate=0.1, mu_dtype=jnp.bfloat16)
    assert repr(tx) == "from_optax('adam', learning_rate=0.1, mu_dtype='bfloat16')"
    assert tx == jos.from_optax("adam", learning_rate=0.1, mu_dtype=np.dtype("bfloat16"))


def test_every_factory_of_optax_that_asks_for_a_rate_alone():
    made, refused = 0, []
    for module, prefix in ((optax, ""), (optax.contrib, "contrib.")):
        for name in [name for name in vars(module) if not name.startswith("_")]:
            try:
                tx = jos.from_optax(prefix + name, learning_rate=0.1)
            except (TypeError, ValueError) as refusal:
                refused.append(str(refusal))
                continue
            assert jos.deserialize(json.loads(tx.to_json())) == tx
            made += 1
    assert made >= 40
    assert all(sentence.startswith("from_optax: ") for sentence in refused)


REFUSED = [
    (lambda: jos.by_path({}), "by_path: rules must be a dict from regular expressions to optimizers, got {}."),
    (lambda: jos.by_path(jos.adam()), "rules must be a dict from regular expressions to optimizers, got adam()."),
    (lambda: jos.by_path({"(": jos.adam()}), "'(' is no regular expression"),
    (lambda: jos.by_path([("a", jos.adam()), ("a", jos.sgd())]), "The same regular expression stands in it twice."),
    (lambda: jos.by_path({"a": optax.adam(0.1)}), "the rule 'a' is a plain transformation of Optax, without a recipe"),
    (lambda: jos.by_path({"a": "adam"}), "'a' must be an optimizer or a primitive of jaxopt_suite, got 'adam'."),
    (lambda: jos.by_path({"a": jos.adam()}, clipnorm=1.0, clipvalue=1.0), "only one of clipnorm, clipvalue and"),
    (lambda: jos.by_path({"a": jos.adam(loss_scale_factor=2.0)}), "put it around by_path, not into adam(loss_scale"),
    (lambda: jos.by_path({"a": jos.adam()}, global_clipnrom=1.0), "Did you mean 'global_clipnorm'?"),
    (lambda: jos.chain(), "chain: there must be at least one member."),
    (lambda: jos.chain(optax.adam(0.1)), "chain: member 0 is a plain transformation of Optax, without"),
    (lambda: jos.chain(jos.adam(), 3), "chain: member 1 must be an optimizer or a primitive of jaxopt_suite, got 3."),
    (lambda: jos.lookahead(jos.frozen()), "frozen: there is nothing to wrap"),
    (lambda: jos.from_optax("adamz"), "from_optax: optax has no public factory 'adamz'. Did you mean 'adam"),
    (lambda: jos.from_optax("contrib.prodogy"), "no public factory 'contrib.prodogy'. Did you mean 'contrib.prodigy'?"),
    (lambda: jos.from_optax("os.system"), "from_optax: optax has no public factory 'os.system'."),
    (lambda: jos.from_optax("contrib.__builtins__"), "optax has no public factory 'contrib.__builtins__'."),
    (lambda: jos.from_optax("_src.base.identity"), "optax has no public factory '_src.base.identity'."),
    (lambda: jos.from_optax("__class__"), "optax has no public factory '__class__'."),
    (lambda: jos.from_optax("apply_updates"), "optax has no public factory 'apply_updates'."),
    (lambda: jos.from_optax("matrix_inverse_pth_root", x=1.0), "from_optax: optax.matrix_inverse_pth_root"),
    (lambda: jos.from_optax(3), "from_optax: factory must be a string of at most 1000 characters, got 3."),
    (lambda: jos.from_optax("adam"), "from_optax: optax.adam needs the argument 'learning_rate'."),
    (lambda: jos.from_optax("adam", learning_rate="x"), "learning_rate must be a number of any sign, got 'x'."),
    (lambda: jos.from_optax("adam", learning_rate=0.1, nesterov=1), "nesterov must be True or False, got 1."),
    (lambda: jos.from_optax("adam", learning_rate=0.1, beta=1), "optax.adam has no argument 'beta'."),
    (lambda: jos.from_optax("chain"), "from_optax: optax.chain takes transformations by position: use jos.chain."),
    (lambda: jos.from_optax("masked", inner=optax.adam(1.0), mask=True), "inner is a plain transformation of Optax"),
]


@pytest.mark.parametrize(("make", "words"), REFUSED, ids=[words[:60] for _, words in REFUSED])
def test_refusals(make, words):
    with pytest.raises((ValueError, TypeError)) as refusal:
        make()
    assert words in str(refusal.value)


UNFIT = [
    ({"kernel": jos.adam()}, "by_path: no rule covers 'dense/bias', 'embedding'."),
    ({"kernal": jos.adam(), "": jos.sgd()}, "the rule 'kernal' matches no parameter; the nearest are ['dense/kernel',"),
    ({".*": jos.adam(), "bias": jos.sgd()}, "an earlier rule takes all that 'bias' matches, such as 'dense/bias'."),
]


@pytest.mark.parametrize(("rules", "words"), UNFIT, ids=[words for _, words in UNFIT])
def test_rules_that_do_not_fit_the_parameters(rules, words):
    with pytest.raises(ValueError, match="by_path") as refusal:
        jos.by_path(rules).init(small()[0])
    assert words in str(refusal.value)
    with pytest.raises(ValueError, match=re.escape(words)):
        jos.by_path(rules).explain(small()[0])


def test_a_rule_for_the_rest_may_be_left_without():
    params, grads = small()
    tx = jos.by_path({"dense|embedding": jos.sgd(1.0), ".*": jos.adam()})
    same(tx.update(grads, tx.init(params))[0], jax.tree.map(jnp.negative, grads))


def test_many_bare_parameters_are_counted():
    params = {f"w{i}": jnp.ones(1) for i in range(20)}
    with pytest.raises(ValueError, match=r"no rule covers 'w1', .* and 11 more\."):
        jos.by_path({"w0": jos.sgd()}).init(params)


def test_orbax_and_the_wrappers_of_optax(tmp_path):
    params, grads = small()
    rules = {"embedding": jos.frozen(), "bias": jos.sgd(0.1, momentum=0.9), "": jos.muon()}
    tx = jos.by_path(rules, global_clipnorm=1.0)
    expected, state = steps(tx, params, grads, n=2)
    ocp.save(tmp_path / "state", state)
    again = ocp.load(tmp_path / "state", tx.init(params))
    assert jax.tree.structure(again) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, again, state)
    with jax.numpy_dtype_promotion("standard"):
        for wrapped in (optax.apply_if_finite(tx, 3), optax.MultiSteps(tx, 1).gradient_transformation()):
            same(steps(wrapped, params, grads, n=2)[0], expected)
    stacked = jax.tree.map(lambda w: jnp.stack([w, w]), params)
    mapped = jax.vmap(lambda p: steps(tx, p, grads, n=2)[0])(stacked)
    same(jax.tree.map(lambda w: w[1], mapped), expected)


def test_groups_on_many_devices_give_the_numbers_of_one():
    params, grads = example()
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    tx = jos.by_path({"bias": jos.sgd(0.1), "": jos.adam()}, global_clipnorm=0.5)
    replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    params8, grads8 = jax.device_put((params, grads), replicated)
    same(steps(tx, params8, grads8)[0], steps(tx, params, grads)[0])
    aggregated = jos.chain(jos.transforms.aggregate_gradients("data", axis_op="mean"), tx)
    copies = jax.tree.map(lambda w: jnp.stack([w] * 8), (params, grads, aggregated.init(params)))
    moved = jax.pmap(lambda p, g, s: aggregated.apply_gradients(g, s, p)[0], axis_name="data")(*copies[:2], copies[2])
    same(jax.tree.map(lambda w: w[3], moved), steps(tx, params, grads, n=1)[0])
