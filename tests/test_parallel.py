"""Sharded parameters and sharded states: norms of all of an array, explicit axes, ZeRO, and what is refused."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from flax.training.train_state import TrainState
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from programs import quick, same
from rows import ROWS
from test_conformance import params_of, rows

import jaxopt_suite as jos
from jaxopt_suite._recipe.config import REGISTRY

SPECS = {"bias": P("model"), "kernel": P(None, "model"), "scale": P(), "wide": P(("data", "model"), None)}
AUTO, EXPLICIT = (AxisType.Auto,) * 2, (AxisType.Explicit,) * 2


def parameters():
    keys = iter(jax.random.split(jax.random.key(0), 4))
    shapes = {"bias": (12,), "kernel": (16, 128), "scale": (3,), "wide": (128, 16)}
    params = {name: jax.random.normal(next(keys), shape) for name, shape in shapes.items()}
    return params, jax.tree.map(lambda w: jnp.sin(3 * w) + 0.3, params)


def mesh_of(kinds=AUTO):
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=kinds)


def on(mesh, tree, specs=SPECS):
    return jax.device_put(jax.tree.map(np.array, tree), shardings(mesh, specs))


def shardings(mesh, specs=SPECS):
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs, is_leaf=lambda x: isinstance(x, P))


def reduces(tx):
    """Whether one step reduces an array."""
    w = jnp.ones((3, 2))
    program = str(jax.make_jaxpr(lambda w: tx.update(w, tx.init(w), w))(w))
    return re.search(r"= (reduce|reduce_sum|dot_general)\b", program) is not None


REDUCING = [row.name for row in ROWS if reduces(row.build())]

# all rows, of which those that reduce nothing are slow
reducing = pytest.mark.parametrize(
    "row", [pytest.param(row, marks=() if row.name in REDUCING else pytest.mark.slow, id=row.name) for row in ROWS]
)


def after_steps(tx, params, grads, n=4):
    state, step = tx.init(params), quick(lambda params, state: tx.apply_gradients(grads, state, params))
    for _ in range(n):
        params, state = step(params, state)
    return params, state


def test_rules_that_reduce_are_found():
    rules = ["novograd", "lamb", "adafactor", "muon", "conditional_gradient"]
    assert [*rules, "loss_scale", "with_metrics", "skip_large_updates"] == REDUCING


# norms are those of all of an array, inside shard_map too


def in_shard_map(tx, params, grads, checked, specs=SPECS):
    """The parameters after a step on this device's parts of everything."""

    def step(params, grads):
        return tx.apply_gradients(grads, tx.init(params), params)[0]

    mapped = jax.shard_map(step, mesh=mesh_of(), in_specs=(specs, specs), out_specs=specs, check_vma=checked)
    return quick(mapped)(params, grads)


@reducing
@pytest.mark.parametrize("checked", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_norms_of_shards_are_those_of_the_whole(row, checked):
    params, grads = parameters()
    arguments = {} if row.name in REDUCING or "shard_axes" not in params_of(row) else {"clipnorm": 0.5}
    want, _ = after_steps(row.build(**arguments), params, grads, 1)
    said = {"shard_axes": SPECS} if "shard_axes" in params_of(row) else {}
    if checked or said:
        same(in_shard_map(row.build(**arguments, **said), params, grads, checked), want)


@pytest.mark.parametrize(
    "tx",
    [
        jos.lamb(0.1),
        jos.by_path({"kernel|wide": jos.novograd(0.1), "": jos.adam(0.1, clipnorm=0.5)}, global_clipnorm=0.5),
        jos.chain(jos.transforms.clip_by_global_norm(0.5), jos.sgd(1.0)),
        jos.loss_scale(jos.sgd(0.1, momentum=0.9, gradient_accumulation_steps=2, global_clipnorm=0.5)),
    ],
    ids=str,
)
def test_types_tell_what_is_a_shard(tx):
    params, grads = parameters()

    def steps(params, grads):
        state = tx.init(params)
        for _ in range(2):
            params, state = tx.apply_gradients(grads, state, params)
        return params

    mapped = jax.shard_map(steps, mesh=mesh_of(), in_specs=(SPECS, SPECS), out_specs=SPECS)
    same(quick(mapped)(params, grads), after_steps(tx, params, grads, 2)[0])


def test_a_gradient_that_is_not_finite_in_one_shard_holds_back_all():
    tx, params = jos.loss_scale(jos.sgd(0.1)), parameters()[0]
    grads = jax.tree.map(jnp.ones_like, params)
    grads["bias"] = grads["bias"].at[0].set(jnp.inf)
    same(in_shard_map(tx, params, grads, True), params, 0)


def test_replicas_whose_gradients_are_summed_are_no_shards():
    """Parameters stacked by device vary in their type; their gradients, once summed, do not."""
    params = {"w": jnp.array([3.0, 4.0])}
    tx = jos.sgd(1.0, axis_name="data", axis_op="mean", global_clipnorm=1.0)

    def step(w):
        w = jax.tree.map(lambda x: x[0], w)
        new = tx.apply_gradients(w, tx.init(w), w)[0]
        return jax.tree.map(lambda x: x[None], new)

    stacked = jax.tree.map(lambda x: jnp.stack([x] * 4), params)
    got = quick(jax.shard_map(step, mesh=mesh_of(), in_specs=P("data"), out_specs=P("data")))(stacked)
    np.testing.assert_allclose(got["w"], [[2.4, 3.2]] * 4, rtol=1e-6)


@pytest.mark.parametrize(
    ("tx", "words"),
    [
        (jos.muon(), "muon: at 'kernel': it is split over ('model',), and along which of its dimensions must be known"),
        (jos.adafactor(), "adafactor: at 'kernel': it is split over ('model',)"),
        (jos.adam(shard_axes={"bias": (None, "model")}), "adam: shard_axes must fit the shape (6,) of 'bias', got (No"),
    ],
    ids=str,
)
def test_what_types_do_not_tell_is_asked_for(tx, words):
    params, grads = parameters()
    with pytest.raises(ValueError, match=re.escape(words)):
        in_shard_map(tx, params, grads, True)


def test_a_rule_of_one_s_own():
    @jos.optimizer("Unit")
    def unit(learning_rate=0.5, **common):
        def update(g, s, w, t):
            return t.whole(jnp.cumsum, g / jnp.sqrt(t.sum(g * g)) + t.mean(w)), s

        return jos.leafwise(None, None, update, reads_weights=True)

    params, specs = {"w": jnp.arange(1.0, 17.0)}, {"w": P(("model", "data"))}
    got = in_shard_map(unit(shard_axes=specs), params, params, True, specs)
    same(got, after_steps(unit(), params, params, 1)[0])
    del REGISTRY["unit"]


def test_gradients_alone_do_not_tell():
    tx, grads = jos.adam(clipnorm=1.0), parameters()[1]
    mapped = jax.shard_map(lambda g: tx.update(g, tx.init(g))[0], mesh=mesh_of(), in_specs=(SPECS,), out_specs=SPECS)
    with pytest.raises(
        ValueError, match=re.escape("adam: at 'bias': a norm needs all of it, and its gradient differs")
    ):
        quick(mapped)(grads)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kernel": "model"}, "shard_axes must be a dict from regular expressions to an axis name, a tuple of them or"),
        ({"kernel": "model"}, "For 'model', write ('model',)."),
        ({"kernel": (3,)}, "adam: shard_axes must be a dict"),
        ({"(": ("model",)}, "is no regular expression"),
        ("model", "adam: shard_axes must be a dict"),
    ],
)
def test_shard_axes_refuses(given, words):
    with pytest.raises((TypeError, ValueError), match=re.escape(words)):
        jos.adam(shard_axes=given)


def test_shard_axes_act_where_they_are_mapped():
    tx, w = jos.adam(shard_axes={"w": ("nowhere",)}), {"w": jnp.ones(2)}
    with pytest.raises(ValueError, match="adam: shard_axes must name axes of the shard_map or pmap around, got 'nowh"):
        tx.update(w, tx.init(w), w)


def test_pmap_cannot_tell_and_is_told():
    params, tx = {"w": jnp.arange(16.0)}, jos.lamb(0.1, shard_axes={"w": ("data",)})
    parts = jax.tree.map(lambda x: x.reshape(8, 2), params)
    got = jax.pmap(lambda w: tx.apply_gradients(w, tx.init(w), w)[0], axis_name="data")(parts)
    want, _ = after_steps(jos.lamb(0.1), params, params, 1)
    same(np.ravel(got["w"]), want["w"])


ROUNDED = {"columns": P(None, ("data", "model")), "rows": P("data")}


@pytest.mark.parametrize(
    ("kind", "checked"),
    [("bfloat16", True), *(pytest.param("blockwise8", checked, marks=pytest.mark.slow) for checked in (True, False))],
)
def test_rounding_by_chance_is_that_of_one_device(kind, checked):
    """Each part draws by its place in the whole: parameters and slots in fewer bits, to the bit."""

    def make(**said):
        tx = jos.precision.state_dtype(jos.lion(0.1, **said), kind, min_size=1, block=16)
        return jos.precision.stochastic_rounding(tx)

    def step(tx):
        return lambda params, state: tx.apply_gradients(params, state, params)

    shapes, rng = {"columns": (3, 256), "rows": (8, 24)}, np.random.default_rng(0)
    params = {name: jnp.asarray(rng.normal(size=shape), jnp.bfloat16) for name, shape in shapes.items()}
    of_state = jos.parallel.state_sharding(make(), on(mesh_of(), params, ROUNDED), mesh_of())
    specs = (ROUNDED, jax.tree.map(lambda s: s.spec, of_state))
    alone, mapped = quick(step(make())), step(make(shard_axes=ROUNDED))
    mapped = quick(jax.shard_map(mapped, mesh=mesh_of(), in_specs=specs, out_specs=specs, check_vma=checked))
    want = got = (params, make().init(params))
    for _ in range(2):
        want, got = alone(*want), mapped(*got)
    same(got, want, 0)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "adam: at 'w': it is split over ('model',), and along which of its dimensions must be known: say it by"),
        (
            {"shard_axes": {"w": (None, "model")}},
            "slots are stored in blocks of 32 along the last dimension, of which ",
        ),
        ({"shard_axes": {"w": ("model",)}}, None),
    ],
)
def test_a_block_that_a_shard_would_cut_is_refused(said, words):
    """Of 60 entries in blocks of 32, a shard of 30 has one scale, and so have 32 in the whole."""
    tx = jos.precision.state_dtype(jos.adam(0.1, **said), "blockwise8", min_size=1, block=32)
    specs = {"w": P("model") if words is None else P(None, "model")}
    params = {"w": jnp.ones((2, 30 if words is None else 60))}
    if words is None:
        in_shard_map(tx, params, params, True, specs)
    else:
        with pytest.raises(ValueError, match=re.escape(words)):
            in_shard_map(tx, params, params, True, specs)


def test_shard_axes_is_part_of_the_recipe():
    tx = jos.adam(shard_axes={"kernel": P(None, ("data", "model")), "bias": ["model"]})
    assert (
        tx
        == jos.deserialize(jos.serialize(tx))
        == jos.adam(shard_axes={"kernel": (None, ("data", "model")), "bias": ("model",)})
    )
    assert tx != jos.adam()


# explicit axes, and states that are split further than their parameters


@reducing
def test_a_step_on_a_mesh_of_two_dimensions(row):
    params, grads = parameters()
    zero_1(row.build(), mesh_of(EXPLICIT), params, grads)


@pytest.mark.slow
@rows("sharding")
def test_all_stages_on_a_mesh_of_two_dimensions(row):
    params, grads = parameters()
    stages = {"global_clipnorm": 0.5, "gradient_accumulation_steps": 2, "use_ema": True}
    given = stages if "use_ema" in params_of(row) else {}
    for kinds in (AUTO, EXPLICIT):
        zero_1(row.build(**given), mesh_of(kinds), params, grads)


def zero_1(tx, mesh, params, grads, axis="data", tolerance=1e-5):
    """Four donated steps with a state that is split over an axis: the numbers of one device, placed as before."""
    want, _ = after_steps(tx, params, grads)
    placed, given = on(mesh, params), on(mesh, grads)
    state, of_state = jos.parallel.init(tx, placed, mesh, axis), jos.parallel.state_sharding(tx, placed, mesh, axis)
    assert jax.tree.map(lambda x: x.sharding, state) == of_state
    results = shardings(mesh), of_state
    step = quick(lambda w, s, g: tx.apply_gradients(g, s, w), donate_argnums=(0, 1), out_shardings=results)
    for _ in range(4):
        placed, state = step(placed, state, given)
    same(jax.tree.map(np.asarray, placed), want, tolerance)
    assert jax.tree.map(lambda x: x.sharding, (placed, state)) == results
    return state


def test_stages_on_explicit_axes():
    params, grads = parameters()
    stages = {"global_clipnorm": 0.5, "gradient_accumulation_steps": 2, "use_ema": True}
    state = zero_1(jos.adam(amsgrad=True, **stages), mesh_of(EXPLICIT), params, grads)
    assert jos.state.get_slot(state, "kernel", "accumulator").sharding.spec == P("data", "model")


@pytest.mark.slow
def test_groups_on_explicit_axes():
    params, grads = parameters()
    mixed = {"kernel|wide": jos.muon(), "": jos.from_optax("adam", learning_rate=0.1)}
    zero_1(jos.by_path(mixed, global_clipnorm=0.5), mesh_of(EXPLICIT), params, grads)


def test_updates_lie_as_their_gradients():
    params, grads = parameters()
    mesh, tx = mesh_of(EXPLICIT), jos.lamb()
    placed, given = on(mesh, params), on(mesh, grads)
    updates, _ = tx.update(given, jos.parallel.init(tx, placed, mesh, "data"), placed)
    assert jax.tree.map(jax.typeof, updates) == jax.tree.map(jax.typeof, given)
    given["bias"] = None
    updates, _ = tx.update(given, jos.parallel.init(tx, placed, mesh, "data"), placed)
    assert jax.typeof(updates["bias"]) == jax.typeof(placed["bias"])
    assert not updates["bias"].any()


def test_one_step_compiles_once():
    params, grads = parameters()
    for kinds in (AUTO, EXPLICIT):
        mesh, tx = mesh_of(kinds), jos.adamw()
        placed, given = on(mesh, params), on(mesh, grads)
        state, of_state = (
            jos.parallel.init(tx, placed, mesh, "data"),
            jos.parallel.state_sharding(tx, placed, mesh, "data"),
        )
        traced = []

        @functools.partial(jax.jit, donate_argnums=(0, 1), out_shardings=(shardings(mesh), of_state))
        def step(params, state, grads, tx=tx, traced=traced):
            traced.append(1)
            return tx.apply_gradients(grads, state, params)

        for _ in range(3):
            placed, state = step(placed, state, given)
        assert (len(traced), step._cache_size()) == (1, 1)


# where a state lies


def structs(mesh, **shapes):
    """Shapes of float32 parameters; a pair gives the spec too."""

    def struct(shape, *spec):
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, *spec or [P()]))

    return {name: struct(*value) if isinstance(value[0], tuple) else struct(value) for name, value in shapes.items()}


def test_the_best_dimension():
    mesh = mesh_of()
    params = structs(
        mesh,
        rows_before_columns=(64, 4096),
        the_most_rows=(16, 64, 64),
        columns_if_nothing_else=(3, 3, 1024),
        beside_its_own=((64, 64), P("data", "model")),
        with_model=((4096, 3), P("model", None)),
        odd=(4097, 3),
        small=(16, 16),
    )
    layout = jos.parallel.explain(jos.sgd(momentum=0.9), params, mesh, "data")
    found = {place.path.rpartition("/")[2]: place for place in layout.places}
    assert {name: tuple(place.spec) for name, place in found.items()} == {
        "rows_before_columns": ("data", None),
        "the_most_rows": (None, "data", None),
        "columns_if_nothing_else": (None, None, "data"),
        "beside_its_own": ("data", "model"),
        "with_model": (("model", "data"), None),
        "odd": (None, None),
        "small": (None, None),
        "count": (),
        "learning_rate": (),
    }
    assert {name: place.why for name, place in found.items() if place.why} == {
        "odd": "no dimension of (4097, 3) divides by 4",
        **dict.fromkeys(["small", "count", "learning_rate"], "fewer than 4 x 128 entries"),
    }
    assert [place.path for place in layout.replicated][:2] == ["stages/rule/m/odd", "stages/rule/m/small"]


def test_slots_of_another_shape_follow_too():
    mesh = mesh_of()
    params = structs(mesh, w=((256, 256), P("data", "model")))
    specs = jax.tree.map(lambda x: x.spec, jos.parallel.state_sharding(jos.adafactor(), params, mesh))
    assert [specs.stages["rule"].r["w"], specs.stages["rule"].c["w"]] == [P("data"), P("model")]
    assert jos.parallel.state_sharding(optax.adam(0.1), params, mesh)[0].mu["w"].spec == P("data", "model")


def test_codes_are_split_in_whole_blocks_and_their_scales_beside_them():
    mesh = mesh_of()
    params = structs(mesh, rows=(64, 512), columns=(3, 4096), cut=(3, 2048), line=(65536,))
    tx = jos.precision.state_dtype(jos.sgd(momentum=0.9), "blockwise8", block=1024)
    found = {place.path: place for place in jos.parallel.explain(tx, params, mesh, "data").places}
    pairs = {name: [found[f"stages/rule/{place}/{name}"] for place in ("slots/m", "scales/m_scale")] for name in params}
    assert {name: [tuple(place.spec) for place in pair] for name, pair in pairs.items()} == {
        "rows": [("data", None), ("data", None)],
        "columns": [(None, "data"), (None, "data")],
        "cut": [(None, None), (None, None)],
        "line": [("data",), ("data",)],
    }
    assert {pair.why for pair in pairs["cut"]} == {
        "no dimension of (3, 2048) divides by 4, nor the last in blocks of 1024"
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrapped", "dtype", "tolerance"),
    [
        (lambda tx: jos.precision.state_dtype(tx, "blockwise8", min_size=128), jnp.float32, 1e-6),
        (jos.precision.master_weights, jnp.bfloat16, 0),
        (jos.precision.stochastic_rounding, jnp.bfloat16, 0),
        (jos.precision.kahan_summation, jnp.bfloat16, 0),
    ],
)
@pytest.mark.parametrize("kinds", [AUTO, EXPLICIT], ids=["auto", "explicit"])
def test_codes_and_random_bits_are_the_same_wherever_they_lie(wrapped, dtype, tolerance, kinds):
    params, grads = jax.tree.map(lambda x: x.astype(dtype), parameters())
    tx = wrapped(jos.adam(0.01))
    state = zero_1(tx, mesh_of(kinds), params, grads, tolerance=tolerance)
    same(jax.tree.map(np.asarray, state), after_steps(tx, params, grads)[1], tolerance)


def test_several_axes():
    mesh = jax.make_mesh((2, 4), ("slice", "data"), axis_types=AUTO)
    layout = jos.parallel.explain(jos.adam(), structs(mesh, w=(1024, 8)), mesh, ("slice", "data"))
    assert [place.spec for place in layout.places if place.path.endswith("w")] == [P(("slice", "data"), None)] * 2
    assert layout.bytes_per_device == 8 * 1024 + 8


def test_bert_base_takes_an_eighth():
    """The shapes of BERT-base, 110 million parameters."""
    layer = {f"{n}/kernel": (768, 768) for n in "qkvo"} | {"up/kernel": (768, 3072), "down/kernel": (3072, 768)}
    layer |= {f"{n}/bias": (768,) for n in ("q", "k", "v", "o", "down", "norm_1", "norm_2")} | {"up/bias": (3072,)}
    layer |= {"norm_1/scale": (768,), "norm_2/scale": (768,)}
    shapes = {f"{i}/{name}": shape for i in range(12) for name, shape in layer.items()}
    shapes |= {"words": (30522, 768), "positions": (512, 768), "types": (2, 768), "pooler": (768, 768)}
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    layout = jos.parallel.explain(jos.adamw(), structs(mesh, **shapes), mesh, "data")
    assert layout.bytes > 8 * 108_000_000
    assert layout.bytes_per_device / layout.bytes <= 0.14
    assert repr(layout).endswith("105.0 MiB on a device, 0.126 of 835.3 MiB")


def test_the_state_is_made_in_parts():
    mesh, params = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,)), {"w": jnp.ones((1024, 4))}
    state = jos.parallel.init(jos.adam(use_ema=True), params, mesh, "data")
    for name in ("m", "v", "average"):
        assert [part.data.shape for part in jos.state.get_slot(state, "w", name).addressable_shards] == [(128, 4)] * 8
    np.testing.assert_array_equal(jos.state.get_slot(state, "w", "average"), params["w"])


def test_nnx():
    mesh, model, tx = mesh_of(), nnx.Linear(64, 64, rngs=nnx.Rngs(0)), jos.adam(0.001)
    for variable in (model.kernel, model.bias):
        variable[...] = jax.device_put(variable[...], NamedSharding(mesh, P()))
    optimizer = nnx.Optimizer(model, tx._replace(init=lambda w: jos.parallel.init(tx, w, mesh, "data")), wrt=nnx.Param)

    @nnx.jit
    def train(model, optimizer):
        loss, grads = nnx.value_and_grad(lambda model: (model(jnp.ones(64)) ** 2).mean())(model)
        optimizer.update(model, grads)
        return loss

    def parts():
        return optimizer.opt_state.stages["rule"].m["kernel"].get_value().sharding.shard_shape((64, 64))

    assert parts() == (16, 64)
    losses = [train(model, optimizer) for _ in range(3)]
    assert losses[2] < losses[1] < losses[0]
    assert parts() == (16, 64)


def test_linen_train_state():
    mesh, tx = mesh_of(), jos.adam(0.1)
    params = on(mesh, {"w": np.ones((64, 64), np.float32)}, {"w": P(None, "model")})
    placed = tx._replace(init=lambda w: jos.parallel.init(tx, w, mesh, "data"))
    state = TrainState.create(apply_fn=None, params=params, tx=placed)
    lies = jax.tree.map(lambda x: x.sharding, (state.params, state.opt_state))
    state = jax.jit(lambda state: state.apply_gradients(grads=state.params))(state)
    assert state.opt_state.stages["rule"].m["w"].sharding.shard_shape((64, 64)) == (16, 32)
    assert lies[1].stages["rule"].m["w"].spec == P("data", "model")
    same(state.params["w"], jnp.full((64, 64), 0.9), 1e-5)


@pytest.mark.parametrize("kinds", [AUTO, pytest.param(EXPLICIT, marks=pytest.mark.slow)])
def test_nnx_with_annotations(kinds):
    """Flax lays what is in a variable as the variable says; taken out of it, slots lie as they were made."""
    mesh, tx = mesh_of(kinds), jos.precision.state_dtype(jos.adam(0.1), "blockwise8", min_size=1, block=16)
    columns = nnx.with_partitioning(nnx.initializers.ones, (None, "model"))
    placed = tx._replace(init=lambda w: jos.parallel.init(tx, nnx.as_pure(w), mesh, "data"))
    with jax.set_mesh(mesh):
        model = nnx.Linear(64, 64, use_bias=False, kernel_init=columns, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, placed, wrt=nnx.Param)
        model.kernel[...] = model.kernel * 2
        optimizer.update(model, nnx.state(model))
    stage = optimizer.opt_state.stages["rule"]
    assert stage.slots.m["kernel"].sharding.spec == P("data", "model")
    assert stage.scales["m_scale"]["kernel"].sharding.spec == P("data", "model")
    same(np.asarray(model.kernel[...]), np.full((64, 64), 1.9), 1e-5)


def test_linen_with_annotations():
    """The shardings of a state by those of the parameters without their boxes."""
    mesh, tx = mesh_of(), jos.adafactor()
    columns = nn.with_logical_partitioning(nn.initializers.ones, ("embed", "mlp"))
    module = nn.Dense(64, use_bias=False, kernel_init=columns)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.ones((2, 128))))
    of_params = nn.logical_to_mesh_sharding(nn.get_partition_spec(shapes), mesh, [("embed", "data"), ("mlp", "model")])
    placed = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), nn.unbox(shapes), of_params)
    rule = jos.parallel.state_sharding(tx, placed, mesh).stages["rule"]
    assert rule.r["params"]["kernel"].spec == P("data")
    assert rule.c["params"]["kernel"].spec == P("model")


@pytest.mark.parametrize("kinds", [AUTO, EXPLICIT])
def test_in_the_context_of_a_mesh(kinds):
    mesh, tx = mesh_of(kinds), jos.adam()
    params = on(mesh, parameters()[0])
    want = jos.parallel.state_sharding(tx, params, mesh, "data")
    with jax.set_mesh(mesh):
        assert jos.parallel.state_sharding(tx, params, mesh, "data") == want


def test_explicit_axes_inside_shard_map():
    """One axis is manual, the other one stays explicit: the compiler sees to it, and the types are kept."""
    mesh, tx = mesh_of(EXPLICIT), jos.lamb(0.1)
    params, grads = parameters()
    want, _ = after_steps(tx, params, grads, 1)
    specs = SPECS | {"wide": P("model", None)}

    def step(params, grads):
        return tx.apply_gradients(grads, tx.init(params), params)[0]

    mapped = jax.shard_map(step, mesh=mesh, in_specs=P(), out_specs=P(), axis_names={"data"})
    got = quick(mapped)(on(mesh, params, specs), on(mesh, grads, specs))
    same(jax.tree.map(np.asarray, got), want)
    assert got["kernel"].sharding.spec == P(None, "model")


@pytest.mark.parametrize("call", [jos.parallel.init, jos.parallel.state_sharding, jos.parallel.explain])
def test_refused(call):
    mesh, name, tx = mesh_of(), call.__name__, jos.adam()
    with pytest.raises(
        ValueError, match=rf"{name}: axis must be an axis of the mesh, one of \['data', 'model'\], got 'dat"
    ):
        call(tx, {"w": jnp.ones(2)}, mesh, "date")
    there = {"w": jax.device_put(jnp.ones(2), jax.devices()[3])}
    with pytest.raises(ValueError, match=f"{name}: the parameter at 'w' is on .* alone: put it on the mesh first"):
        call(tx, there, mesh, "data")
    other = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    with pytest.raises(ValueError, match=f"{name}: the parameter at 'w' is on another mesh"):
        call(tx, on(other, {"w": jnp.ones(2)}, {"w": P()}), mesh, "data")
    with pytest.raises(TypeError, match=f"{name}: tx must be an optimizer, got {{'w'"):
        call({"w": jnp.ones(2)}, tx, mesh, "data")


@pytest.mark.parametrize(
    ("tx", "params", "mesh", "axis", "words"),
    [
        ("adam", {}, None, None, "explain: tx must be an optimizer, got 'adam'."),
        (jos.adam(), {}, None, None, "explain: mesh must be a jax.sharding.Mesh, got None."),
        (jos.adam(), {}, mesh_of(), 3, "explain: axis must be the name of an axis of the mesh, or several, got 3."),
        (jos.adam(), {}, mesh_of(), ("data", "data"), "explain: axis must be the name of an axis"),
        (jos.adam(), {"w": 1.0}, mesh_of(), None, "explain: the parameter at 'w' must be an array, got 1.0."),
    ],
)
def test_wrong_arguments(tx, params, mesh, axis, words):
    with pytest.raises(TypeError, match=re.escape(words)):
        jos.parallel.explain(tx, params, mesh, axis)


def test_a_state_on_other_devices():
    params, tx = on(mesh_of(), parameters()[0]), jos.adam()
    state = jax.device_put(tx.init(parameters()[0]), jax.devices()[3])
    with pytest.raises(
        ValueError, match="adam: gradients, state and parameters must be on the same devices: make the st"
    ):
        tx.update(params, state, params)


@pytest.mark.slow
def test_a_line_search_on_explicit_axes():
    params, mesh, tx = parameters()[0], mesh_of(EXPLICIT), jos.from_optax("lbfgs", linesearch=None)
    want, _ = tx.update(params, tx.init(params), params)
    placed = on(mesh, params)
    updates, _ = tx.update(placed, jos.parallel.init(tx, placed, mesh), placed, value_fn=lambda w: 0.0)
    same(jax.tree.map(np.asarray, updates), want)


@pytest.mark.parametrize(
    "make",
    [
        lambda said: jos.by_path({".*": said}, global_clipnorm=1.0),
        lambda said: jos.skip_large_updates(jos.chain(jos.by_path({".*": said}))),
        lambda said: jos.precision.stochastic_rounding(jos.chain(said)),
    ],
)
def test_what_stands_around_members_must_be_told_their_parts(make):
    said = jos.sgd(0.1, shard_axes={"kernel": ("x",)})
    with pytest.raises(ValueError, match="does not see the shard_axes of a member: give them to"):
        make(said)
    jos.by_path({".*": said}, global_clipnorm=1.0, shard_axes={"kernel": ("x",)})
