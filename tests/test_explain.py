"""explain says, before anything compiles, what is then done: for every row of the table, and for compositions."""

import inspect
import json
import time

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from programs import steps
from recorded import EXAMPLE, recording
from rows import CASES, SETTINGS, case_name, long_ones_marked
from test_groups import Model, Net, compositions

import jaxopt_suite as jos


def shapes(params):
    return jax.tree.map(lambda w: jax.ShapeDtypeStruct(w.shape, w.dtype), params)


def the_tree(dtype=jnp.float32, reference=None):
    return jax.tree.map(lambda w: jnp.asarray(w, dtype), recording(reference or EXAMPLE).params)


def held(tx, params):
    """The bytes of the real state."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(jax.eval_shape(tx.init, params)))


def by_path(explanation):
    return {p["path"]: p for p in explanation.to_dict()["parameters"]}


@pytest.mark.parametrize(("row", "variant"), CASES, ids=case_name)
def test_the_bytes_are_those_of_the_state(row, variant):
    tx, params = row.build(variant), shapes(the_tree(jnp.bfloat16, variant.reference))
    found = tx.explain(params)
    assert found.totals()["state_bytes"] == held(tx, params)
    assert found.totals()["parameter_bytes"] == 2 * found.totals()["elements"]
    assert all(p["rule"] for p in by_path(found).values())
    assert json.loads(json.dumps(found.to_dict()))["optimizer"] == repr(tx)


@pytest.mark.parametrize("tx", [*compositions()], ids=repr)
def test_the_bytes_of_a_composition(tx):
    params = shapes(the_tree())
    assert tx.explain(params).totals()["state_bytes"] == held(tx, params)


@pytest.mark.parametrize(
    ("row", "variant"), long_ones_marked(s for s in SETTINGS if "weight_decay" in s[1].all_arguments())
)
def test_decay_is_what_acts(row, variant):
    """Without gradients, decay changes the parameters that explain says decay, and no others."""
    tx, params = row.build(variant, exclude_from_weight_decay="bias"), the_tree()
    zero = jax.tree.map(jnp.zeros_like, params)
    moved, still = steps(tx, params, zero, n=2)[0], steps(off(row, variant), params, zero, n=2)[0]
    for path, p in by_path(tx.explain(params)).items():
        *parents, name = path.split("/")
        a, b = ((tree[parents[0]] if parents else tree)[name] for tree in (moved, still))
        assert (p["decay"] not in (["off"], ["excluded by 'bias'"])) == bool(jnp.any(a != b)), (path, p["decay"])


def off(row, variant):
    names = {"weight_decay", "adam_weight_decay"} & {*inspect.signature(row.make).parameters}
    return row.build(variant, **dict.fromkeys(names, 0.0))


def test_what_is_said_of_each_parameter():
    params = {"embedding": jnp.zeros((4, 2)), "dense": {"bias": jnp.zeros(2), "kernel": jnp.zeros((2, 2))}}
    found = jos.muon(jos.schedules.exponential_decay(0.1, 5, 0.5), exclude_from_weight_decay="bias", decay=0.5)
    rows = by_path(found.explain(params))
    assert {path: (p["rule"], p["decay"]) for path, p in rows.items()} == {
        "embedding": (["adam"], ["0.004"]),
        "dense/bias": (["adam"], ["excluded by 'bias'"]),
        "dense/kernel": (["scale_by_muon"], ["0.004"]),
    }
    assert rows["embedding"]["learning_rate"] == ["exponential_decay(0.1, 5.0, 0.5) / (1 + 0.5 * step)"]
    assert [slot["name"] for slot in rows["embedding"]["slots"]] == ["m", "v"]
    assert jos.adam().explain(params).to_dict()["parameters"][0]["decay"] == ["off"]


def test_groups_and_the_reach_of_a_clip():
    params = {"embedding": jnp.zeros((4, 2)), "bias": jnp.zeros(2), "kernel": jnp.zeros((2, 2))}
    inner = jos.chain(jos.transforms.clip_by_value(0.5), jos.adam(global_clipnorm=2.0, jit_compile=False))
    tx = jos.by_path({"embedding": jos.frozen(), "bias": jos.sgd(), "": inner}, global_clipnorm=1.0)
    found = tx.explain(params)
    rows = by_path(found)
    assert rows["embedding"]["rule"] == ["frozen"]
    assert rows["embedding"]["slots"] == []
    assert rows["bias"]["group"] == ["bias"]
    assert rows["kernel"]["clip"] == [
        "clip_by_global_norm(1.0)", "clip_by_value(0.5)", "clip_by_global_norm(2.0) within ''"
    ]  # fmt: skip
    assert found.stages == ("clip_by_global_norm(1.0)", "by_path")


def test_the_line_is_in_the_order_of_the_gradients_way():
    tx = jos.lookahead(jos.adam(gradient_accumulation_steps=2, clipnorm=1.0, loss_scale_factor=8.0, use_ema=True))
    assert tx.explain(the_tree()).stages == (
        "unscale(8.0)", "accumulate(2)", "clip_by_norm(1.0)", "adam", "ema()", "slow_weights()"
    )  # fmt: skip
    clip, scale = jos.transforms.clip_by_value(1.0), jos.from_optax("scale", step_size=2.0)
    tx = jos.chain(clip, jos.transforms.scale_by_adam(), scale)
    assert tx.explain(the_tree()).stages == ("clip_by_value(1.0)", "scale_by_adam", "optax.scale")


def test_any_tree_and_any_leaf():
    model = Model(jnp.ones(2), [jnp.ones(3), None])
    assert [p.path for p in jos.adam().explain(model).parameters] == ["embedding", "layers/0"]
    state = nnx.state(Net(), nnx.Param)
    assert {p.path for p in jos.adam().explain(state).parameters} == {"embedding", "dense/kernel", "dense/bias"}
    assert repr(jos.adam().explain({})).endswith("0 parameters of 0 elements: 0 B, state 8 B")
    for params, words in (({"key": jax.random.key(0)}, "'key'"), ({"n": {"i": jnp.ones(1, jnp.int32)}}, "'n/i'")):
        with pytest.raises(TypeError, match=f"the parameter at {words} must be a floating-point array"):
            jos.adam().explain(params)


def test_sharding_is_shown():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    struct = jax.ShapeDtypeStruct((8,), jnp.float32, sharding=sharding)
    params = {"a": struct, "b": jax.device_put(jnp.ones(8), sharding)}
    for p in jos.adam().explain(params).parameters:
        assert p.sharding == str(jax.sharding.PartitionSpec("data"))
    assert "sharding" in repr(jos.adam().explain(params))
    assert "sharding" not in repr(jos.adam().explain({"a": jnp.ones(8)}))


def test_a_notebook_gets_html():
    text = jos.adam(exclude_from_weight_decay="<b>").explain({"<i>": jnp.ones(2)})._repr_html_()
    assert "<table>" in text
    assert "&lt;i&gt;" in text
    assert "<b>" not in text


def many(n, name):
    leaf = jax.ShapeDtypeStruct((8, 8), jnp.float32)
    return {name(i): {"kernel": leaf, "bias": jax.ShapeDtypeStruct((8,), jnp.bfloat16)} for i in range(n)}


def test_many_parameters_are_grouped():
    numbered = repr(jos.adam().explain(many(300, lambda i: f"layer{i}"))).splitlines()
    assert len(numbered) == 5
    assert numbered[2].split()[:3] == ["layer*/bias", "300", "(8,)"]
    named = repr(jos.adam().explain(many(300, lambda i: "x" * (i + 1)))).splitlines()
    assert len(named) == 5
    assert named[2].startswith("x/bias ... xx")
    assert all(len(line) < 120 for line in named)


@pytest.mark.parametrize(
    "tx",
    [
        jos.adamw(global_clipnorm=1.0, exclude_from_weight_decay="bias"),
        jos.by_path({"bias": jos.sgd(), "": jos.muon()}, global_clipnorm=1.0),
    ],
    ids=["adamw", "by_path"],
)
def test_ten_thousand_leaves_take_less_than_two_seconds(tx):
    params = many(5000, lambda i: f"layer{i}")

    def seconds():
        begin = time.process_time()
        repr(tx.explain(params))
        return time.process_time() - begin

    assert any(seconds() < 2.0 for _ in range(3))


def test_nothing_is_compiled(caplog):
    params = the_tree()
    with jax.log_compiles(), caplog.at_level("DEBUG", logger="jax"):
        jos.novograd(weight_decay=0.1, use_ema=True, gradient_accumulation_steps=2).explain(params)
        assert not [record for record in caplog.records if "compil" in record.getMessage().lower()]
        jax.jit(lambda x: x + 1.5)(jnp.ones(7))
        assert [record for record in caplog.records if "compil" in record.getMessage().lower()]
