"""What comes as an argument, from whom: injected arrays, numpy's numbers, others' words, Optax's schedules, configs."""

import copy
import functools
import inspect
import json
import pickle
import re
import subprocess
import sys
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_suite as jos
from jaxopt_suite._compositions.from_optax import ScheduleName
from jaxopt_suite._recipe.config import REGISTRY
from jaxopt_suite._recipe.words import Beta

W = {"dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
G = jax.tree.map(lambda w: w * 0.5, W)


def sentence(make, kind=(TypeError, ValueError)):
    with pytest.raises(kind) as refusal:
        make()
    return str(refusal.value)


# arrays of 16 bits and numbers of numpy


def test_injected_rates_of_16_bits_are_refused_and_of_32_train():
    params, grads = jax.tree.map(lambda w: w.astype(jnp.bfloat16), (W, G))
    said = sentence(lambda: optax.inject_hyperparams(jos.adamw)(learning_rate=0.5).init(params))
    assert said.startswith("adamw: beta_1 must be a number in [0, 1) in more than 16 bits, which round 0.999 to 1, got")
    assert said.endswith("To optax.inject_hyperparams give hyperparam_dtype=jnp.float32.")
    tx = optax.inject_hyperparams(jos.adamw, hyperparam_dtype=jnp.float32)(learning_rate=0.5)
    state = tx.init(params)
    for _ in range(3):
        updates, state = jax.jit(tx.update)(grads, state, params)
        params = optax.apply_updates(params, updates)
    assert all(w.dtype == jnp.bfloat16 for w in jax.tree.leaves(params))
    assert float(params["dense"]["bias"][0]) == pytest.approx(-0.5, abs=0.05)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda x: jos.adam(beta_2=x), "beta_2"),
        (lambda x: jos.sgd(momentum=x), "momentum"),
        (lambda x: jos.sgd(use_ema=True, ema_momentum=x), "ema_momentum"),
        (lambda x: jos.moving_average(jos.sgd(), average_decay=x), "average_decay"),
    ],
    ids=["beta_2", "momentum", "ema_momentum", "average_decay"],
)
def test_what_is_near_1_needs_more_than_16_bits(make, name, dtype):
    for x in (jnp.asarray(0.5, dtype), np.asarray(0.5, dtype), np.asarray(0.5, dtype)[()]):
        assert f": {name} must be a number in [0, 1" in sentence(lambda x=x: make(x), TypeError)
    assert "got JitTracer" in sentence(lambda: jax.jit(lambda x: make(x).init(W))(jnp.asarray(0.5, dtype)), TypeError)
    make(jnp.float32(0.5))
    jos.adam(jnp.asarray(0.5, dtype))  # a rate may be coarse


def test_a_scalar_of_numpy_is_a_number():
    rate, beta = np.array(0.5), np.array(0.25)
    tx = jos.sgd(rate, momentum=beta, ema_overwrite_frequency=np.array(3), use_ema=np.array(True))
    schedule = jos.schedules.exponential_decay(rate, decay_steps=np.array(2), decay_rate=beta)
    optaxs = jos.from_optax("sgd", learning_rate=rate)
    rate[...] = beta[...] = 0.0
    assert tx == jos.sgd(0.5, momentum=0.25, use_ema=True, ema_overwrite_frequency=3)
    assert json.loads(tx.to_json())["config"]["learning_rate"] == 0.5
    assert schedule == jos.schedules.exponential_decay(0.5, 2, 0.25)
    assert optaxs == jos.from_optax("sgd", learning_rate=0.5)
    assert [float(t.update(G, t.init(W), W)[0]["dense"]["bias"][0]) for t in (tx, optaxs)] == [-0.25, -0.25]
    assert sentence(lambda: jos.adam(np.array(-0.5))) == "adam: learning_rate must be >= 0, got -0.5."
    assert isinstance(jos.adam(jnp.float32(0.5)).recipe.arguments["learning_rate"], jax.Array)


def test_nothing_touches_a_device_before_init():
    code = """
import numpy as np, jaxopt_suite as jos
from jax._src import xla_bridge
tx = jos.adamw(np.array(0.5), beta_1=np.float32(0.9), exclude_from_weight_decay="bias")
rate = jos.from_optax("warmup_cosine_decay_schedule", init_value=0.0, peak_value=1.0, warmup_steps=2, decay_steps=9)
jos.lookahead(jos.by_path({"a": tx, ".*": jos.from_optax("adam", learning_rate=rate)})).to_json()
assert not xla_bridge._backends, xla_bridge._backends
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# weight decay that cannot be excluded


@pytest.mark.parametrize(
    ("member", "strength"),
    [
        (jos.from_optax("adamw", learning_rate=0.1), "weight_decay=0.0001"),
        (jos.from_optax("adafactor", learning_rate=0.1, weight_decay_rate=0.5), "weight_decay_rate=0.5"),
        (jos.from_optax("masked", inner=jos.from_optax("lion", learning_rate=0.1), mask=True), "weight_decay=0.001"),
        (jos.transforms.scale_by_lamb(weight_decay=0.25), "weight_decay=0.25"),
    ],
    ids=repr,
)
def test_what_decays_without_paths_is_refused(member, strength):
    for tx in (jos.by_path({"a": member, ".*": jos.adamw()}), jos.lookahead(jos.chain(jos.adamw(), member))):
        said = sentence(lambda tx=tx: tx.exclude_from_weight_decay(var_names=["bias"]), TypeError)
        assert said.startswith(f"{tx.name}: ")
        assert f" decays weights by {strength} and takes no paths to exclude: give it a mask" in said


def test_what_does_not_decay_is_no_obstacle():
    off = jos.from_optax("adamw", learning_rate=0.1, weight_decay=0)
    masked = jos.from_optax("masked", inner=jos.adamw(), mask=True)
    members = {"a": jos.from_optax("lars", learning_rate=0.1), "b": off, "c": masked, ".*": jos.adamw()}
    tx = jos.by_path(members).exclude_from_weight_decay(var_names=["bias"])
    assert repr(tx).count("exclude_from_weight_decay=('bias',)") == 2


# functions and dicts in a config


def halve(step):
    return 0.5**step


class Halving:
    def __call__(self, step):
        return 0.5**step


def test_a_function_without_a_name_is_refused_when_it_is_written():
    def local(step):
        return 0.5

    for rate in (local, lambda step: 0.5, functools.partial(halve), Halving(), optax.linear_schedule(1.0, 0.0, 9)):
        tx = jos.lookahead(jos.adam(rate))
        for write in (jos.serialize, lambda tx: tx.get_config(), lambda tx: tx.to_json()):
            said = sentence(lambda tx=tx, write=write: write(tx), TypeError)
            assert said.startswith("adam: learning_rate cannot be written to a config, which holds a function by its")
    tx = jos.adam(halve)
    assert jos.deserialize(json.loads(tx.to_json()), {"halve": halve}) == tx


def test_a_dict_whose_keys_are_no_strings_comes_back():
    mask = {"class_name": True, "config": False}
    for arguments in ({"inner": jos.adam(), "mask": mask}, {"inner": jos.adam(), "mask": {3: {4.5: True}}}):
        tx = jos.from_optax("masked", **arguments)
        assert jos.deserialize(json.loads(tx.to_json())) == tx
    for pairs in (3, [3], [[1, 2, 3]], [[[], 1]], [[{}, 1]]):
        config = {"factory": "adam", "arguments": {"learning_rate": {"class_name": "dict", "config": pairs}}}
        assert sentence(lambda config=config: jos.from_optax.from_config(config)).startswith("from_optax: the ")


# Optax's words and schedules


def test_words_of_optax_have_no_order():
    one, other = (
        jos.from_optax("sgd", learning_rate=0.1, momentum=0.9),
        jos.from_optax("sgd", momentum=0.9, learning_rate=0.1),
    )
    assert one == other
    assert hash(one) == hash(other)
    assert one.to_json() == other.to_json()
    assert repr(one) == repr(other)


WARM = {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 2}
SCHEDULES = {
    "constant_schedule": {"value": 0.25},
    "cosine_decay_schedule": {"init_value": 0.5, "decay_steps": 7, "alpha": 0.1},
    "cosine_onecycle_schedule": {"transition_steps": 9, "peak_value": 0.5},
    "exponential_decay": {"init_value": 0.5, "transition_steps": 3, "decay_rate": 0.5, "staircase": True},
    "join_schedules": {"schedules": [jos.from_optax("constant_schedule", value=0.5),
        jos.schedules.exponential_decay(1.0, 2, 0.5)], "boundaries": [4]},
    "linear_onecycle_schedule": {"transition_steps": 9, "peak_value": 0.5},
    "linear_schedule": {"init_value": 0.5, "end_value": 0.0, "transition_steps": 6, "transition_begin": 2},
    "piecewise_constant_schedule": {"init_value": 0.5, "boundaries_and_scales": {3: 0.5, 6: 0.1}},
    "piecewise_interpolate_schedule": {"interpolate_type": "cosine", "init_value": 0.5,
        "boundaries_and_scales": {3: 0.5, 6: 0.1}},
    "polynomial_schedule": {"init_value": 0.5, "end_value": 0.0, "power": 2.0, "transition_steps": 6},
    "sgdr_schedule": {"cosine_kwargs": [{**WARM, "decay_steps": 4}, {**WARM, "decay_steps": 5}]},
    "warmup_constant_schedule": WARM,
    "warmup_cosine_decay_schedule": {**WARM, "decay_steps": 8, "end_value": 0.1},
    "warmup_exponential_decay_schedule": {**WARM, "transition_steps": 3, "decay_rate": 0.5},
}  # fmt: skip


def test_every_schedule_of_optax_is_named():
    public = {**vars(optax), **{f"contrib.{name}": value for name, value in vars(optax.contrib).items()}}
    functions = {name: value for name, value in public.items() if inspect.isfunction(value)}
    made = {name for name, f in functions.items() if inspect.signature(f).return_annotation == optax.Schedule}
    assert made == {*SCHEDULES} == {*get_args(ScheduleName)}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_of_optax_is_a_value(name):
    rate = jos.from_optax(name, **SCHEDULES[name])
    assert isinstance(rate, jos.schedules.Schedule)
    for again in (
        jos.deserialize(json.loads(json.dumps(jos.serialize(rate)))),
        pickle.loads(pickle.dumps(rate)),
        copy.deepcopy(rate),
        eval(repr(rate), vars(jos.schedules) | vars(jos)),
    ):
        assert again == rate
        assert hash(again) == hash(rate)
    with jax.numpy_dtype_promotion("standard"):
        theirs = jax.jit(jax.vmap(getattr(optax, name)(**SCHEDULES[name])))(jnp.arange(10))
    got = jax.jit(jax.vmap(rate))(jnp.arange(10))
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got, theirs)


def test_schedules_of_optax_in_optimizers():
    arguments = SCHEDULES["warmup_cosine_decay_schedule"]
    rate = jos.from_optax("warmup_cosine_decay_schedule", **arguments)
    with jax.numpy_dtype_promotion("standard"):
        theirs = optax.adamw(optax.warmup_cosine_decay_schedule(**arguments))
        want, state = W, theirs.init(W)
        for _ in range(4):
            updates, state = theirs.update(G, state, want)
            want = optax.apply_updates(want, updates)
    inside = jos.from_optax("adamw", learning_rate=rate)
    assert jos.deserialize(json.loads(inside.to_json())) == inside
    for tx, tolerance in ((inside, 0), (jos.adamw(rate, weight_decay=1e-4, epsilon=1e-10), 1e-5)):
        got, state = W, tx.init(W)
        for _ in range(4):
            got, state = tx.apply_gradients(G, state, got)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=tolerance), got, want)
    assert float(jos.state.learning_rate(jos.sgd(rate).init(W))) == float(rate(0))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: jos.from_optax("warmup_cosine_schedule"), "no public factory 'warmup_cosine_schedule'. Did you mean"),
        (lambda: jos.from_optax("constant_schedule", value="x"), "value must be a number of any sign, got 'x'."),
        (lambda: jos.from_optax("constant_schedule", value=halve), "value must be a number of any sign, got <func"),
        (lambda: jos.from_optax("linear_schedule", **WARM), "optax.linear_schedule has no argument 'peak_value'."),
        (lambda: jos.from_optax("linear_schedule", init_value=1.0), "optax.linear_schedule needs the argument 'end_"),
        (
            lambda: jos.from_optax("cosine_decay_schedule", init_value=1.0, decay_steps=0.5),
            "cosine_decay_schedule: decay_steps must be an integer, got 0.5.",
        ),
        (
            lambda: jos.from_optax("cosine_decay_schedule", init_value=1.0, decay_steps=-5),
            "from_optax: optax.cosine_decay_schedule refuses its arguments: ValueError",
        ),
        (
            lambda: jos.from_optax("join_schedules", schedules=[3], boundaries=[]),
            "from_optax: optax.join_schedules refuses its arguments: TypeError",
        ),
        (
            lambda: jos.from_optax("join_schedules", schedules=[lambda step: jnp.ones(3)], boundaries=[]),
            "from_optax: optax.join_schedules must give scalars, got the shape (3,).",
        ),
        (
            lambda: jos.chain(jos.from_optax("constant_schedule", value=0.5)),
            "chain: member 0 must be an optimizer or a primitive of jaxopt_suite, got from_optax('constant_sche",
        ),
    ],
)
def test_refused_schedules_of_optax(make, words):
    assert words in sentence(make)


# what Keras wrote

SGD_3 = {"module": "keras.optimizers", "class_name": "SGD", "config": {"name": "SGD", "learning_rate": 0.5,
    "weight_decay": None, "clipnorm": None, "global_clipnorm": None, "clipvalue": None, "use_ema": False,
    "ema_momentum": 0.99, "ema_overwrite_frequency": None, "loss_scale_factor": None,
    "gradient_accumulation_steps": None, "momentum": 0.0, "nesterov": False}, "registered_name": None}  # fmt: skip
ADAM_3 = {**SGD_3, "class_name": "Adam", "config": {"name": "adam", "learning_rate": 0.25,
    "weight_decay": None, "clipnorm": None, "global_clipnorm": None, "clipvalue": None, "use_ema": False,
    "ema_momentum": 0.99, "ema_overwrite_frequency": None, "loss_scale_factor": None,
    "gradient_accumulation_steps": None, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-07,
    "amsgrad": False}}  # fmt: skip

# keras.optimizers.serialize(LossScaleOptimizer(SGD(0.5), initial_scale=16.0, dynamic_growth_steps=4)), as it was run
# in Keras 3.3.3, 3.8.0 and 3.11.3, which give the same; 3.12 and later write the name and the last three keys alone
LOSS_SCALE_3_3_TO_3_11 = {"module": "keras.optimizers", "class_name": "LossScaleOptimizer", "config": {
    "name": "loss_scale_optimizer", "weight_decay": None, "clipnorm": None, "global_clipnorm": None,
    "clipvalue": None, "use_ema": False, "ema_momentum": 0.99, "ema_overwrite_frequency": None,
    "loss_scale_factor": None, "gradient_accumulation_steps": None, "inner_optimizer": SGD_3,
    "initial_scale": 16.0, "dynamic_growth_steps": 4}, "registered_name": None}  # fmt: skip
# tf.keras.mixed_precision.LossScaleOptimizer(SGD(0.5)) of tf.keras 2.15.1
LOSS_SCALE_2_15 = {"module": "keras.src.mixed_precision.loss_scale_optimizer", "class_name": "LossScaleOptimizerV3",
    "config": {"inner_optimizer": {"module": "keras.optimizers.experimental", "class_name": "SGD", "config": {
    "name": "SGD", "weight_decay": None, "clipnorm": None, "global_clipnorm": None, "clipvalue": None, "use_ema": False,
    "ema_momentum": 0.99, "ema_overwrite_frequency": None, "jit_compile": False, "is_legacy_optimizer": False,
    "learning_rate": 0.5, "momentum": 0.0, "nesterov": False}, "registered_name": None}, "dynamic": True,
    "initial_scale": 32768.0, "dynamic_growth_steps": 2000}, "registered_name": "LossScaleOptimizerV3"}  # fmt: skip


def with_config(data, **changes):
    return {**data, "config": {**data["config"], **changes}}


def test_loss_scale_optimizers_of_every_keras():
    inner = jos.sgd(0.5, name="SGD")
    want = jos.loss_scale(inner, 16.0, 4, name="loss_scale_optimizer")
    assert jos.deserialize(LOSS_SCALE_3_3_TO_3_11) == want
    assert jos.loss_scale.from_config(LOSS_SCALE_3_3_TO_3_11["config"]) == want
    assert jos.deserialize(json.loads(want.to_json())) == want
    read = jos.deserialize(LOSS_SCALE_2_15)
    assert read.replace(optimizer=read.recipe.arguments["optimizer"].replace(jit_compile=True)) == jos.loss_scale(inner)


@pytest.mark.parametrize(
    ("key", "value"),
    [("clipnorm", 1.0), ("use_ema", True), ("weight_decay", 0.1), ("gradient_accumulation_steps", 2)],
)
def test_what_a_loss_scale_optimizer_would_ignore_is_refused(key, value):
    said = sentence(lambda: jos.deserialize(with_config(LOSS_SCALE_3_3_TO_3_11, **{key: value})), ValueError)
    assert said == f"loss_scale: {key}={value} has no effect in Keras's wrapper: it belongs to the inner optimizer."
    assert jos.deserialize(with_config(LOSS_SCALE_3_3_TO_3_11, ema_momentum=0.5))
    fixed = with_config(LOSS_SCALE_2_15, dynamic=False, dynamic_growth_steps=None)
    assert "loss_scale: a scale that is not dynamic is" in sentence(lambda: jos.deserialize(fixed), ValueError)


# keras.optimizers.serialize(MultiOptimizer(OptimizerMap(SGD(0.5), {"encoder/.*": Adam(0.25), "encoder/kernel":
# SGD(0.125)}))) of Keras 3.15.1; 3.14 has none
MULTI_3_15 = {"module": "keras.optimizers", "class_name": "MultiOptimizer", "config": {"optimizer_map": {
    "module": "keras.optimizers", "class_name": "OptimizerMap", "config": {"default_optimizer": SGD_3,
    "optimizer_map": {"encoder/.*": ADAM_3, "encoder/kernel": with_config(SGD_3, learning_rate=0.125)}},
    "registered_name": None}, "loss_scale_factor": None, "name": "multi_optimizer"},
    "registered_name": None}  # fmt: skip
# tf.keras.optimizers.serialize(MultiOptimizer([(Adam(0.25), first), (SGD(0.5), [norm, second])])) of TF Addons 0.23.0
# with tf.keras 2.15.1 and its legacy optimizers
LEGACY = "keras.optimizers.legacy"
MULTI_TFA = {"module": "tensorflow_addons.optimizers.discriminative_layer_training", "class_name": "MultiOptimizer",
    "config": {"name": "MultiOptimizer", "optimizer_specs": [{"optimizer": {"module": LEGACY, "class_name": "Adam",
    "config": {"name": "Adam", "learning_rate": 0.25, "decay": 0.0, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-07,
    "amsgrad": False}, "registered_name": None}, "weights": ["first/kernel:0", "first/bias:0"]}, {"optimizer": {
    "module": LEGACY, "class_name": "SGD", "config": {"name": "SGD", "learning_rate": 0.5, "decay": 0.0,
    "momentum": 0.0, "nesterov": False}, "registered_name": None}, "weights": ["norm/gamma:0", "norm/beta:0",
    "norm/moving_mean:0", "norm/moving_variance:0", "second/kernel:0", "second/bias:0"]}]},
    "registered_name": "Addons>MultiOptimizer"}  # fmt: skip


def test_multi_optimizer_of_keras():
    """Its keys are paths, which come first, and regexes of whole paths; the rest has the default."""
    tx = jos.deserialize(MULTI_3_15)
    paths = {"encoder": {"kernel": 0, "bias": 0}, "pre": {"encoder": {"kernel": 0}}, "head": {"kernel": 0}}
    params = jax.tree.map(lambda _: jnp.ones(()), paths)
    updates, _ = tx.update(params, tx.init(params), params)
    got = [round(float(u), 4) for u in jax.tree.leaves(updates)]  # encoder/bias, encoder/kernel, head, pre
    assert got == [-0.25, -0.125, -0.5, -0.5]
    assert tx.name == "multi_optimizer"
    assert jos.deserialize(json.loads(tx.to_json())) == tx
    assert jos.by_path({"a": jos.sgd()}).name == "by_path"


def test_multi_optimizer_with_a_loss_scale():
    """Keras writes its factor into every optimizer in it, and multiplies the loss once."""
    scaled = copy.deepcopy(MULTI_3_15)
    inner = scaled["config"]["optimizer_map"]["config"]
    for data in (inner["default_optimizer"], *inner["optimizer_map"].values()):
        data["config"]["loss_scale_factor"] = 8.0
    scaled["config"]["loss_scale_factor"] = 8.0
    tx = jos.deserialize(scaled)
    assert tx == jos.deserialize(MULTI_3_15).replace(loss_scale_factor=8.0)
    assert float(tx.scale_loss(jnp.float32(1.0))) == 8.0


def test_multi_optimizer_of_tf_addons():
    """It lists the weights by name; what it does not list stays as it is."""
    tx = jos.deserialize(MULTI_TFA)
    params = {name: {"kernel": jnp.ones(())} for name in ("first", "second", "third")}
    updates, _ = tx.update(params, tx.init(params), params)
    assert [round(float(u), 4) for u in jax.tree.leaves(updates)] == [-0.25, -0.5, 0.0]
    assert all(t.recipe.arguments.get("dialect", "legacy") == "legacy" for t in tx.recipe.arguments["rules"].values())
    large = copy.deepcopy(MULTI_TFA)
    large["config"]["optimizer_specs"][0]["weights"] += [f"block_{i}/convolution/kernel:0" for i in range(1000)]
    assert jos.deserialize(large).init(params)


def specs(*given):
    return {"class_name": "MultiOptimizer", "config": {"optimizer_specs": [*given]}}


ONE = {"optimizer": SGD_3, "weights": ["a:0"]}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (specs(ONE, ONE), "MultiOptimizer: two optimizers move 'a', which by_path cannot do."),
        (specs(3), "MultiOptimizer: each of optimizer_specs must be a dict, got 3."),
        (specs({"weights": 3}), "MultiOptimizer: weights must be a list, got 3."),
        (specs({"weights": [3]}), "MultiOptimizer: weights must be names, got 3."),
        (specs({"weights": ["a"]}), "by_path: the rule '^(a)$' must be an optimizer or a primitive of jaxopt_suite"),
        (with_config(MULTI_3_15, optimizer_map=3), "MultiOptimizer: optimizer_map must be a dict, got 3."),
        (
            with_config(MULTI_3_15, optimizer_map={"module": "builtins", "class_name": "function", "config": "choose"}),
            "MultiOptimizer: optimizer_map must be an OptimizerMap, got a 'function': write by_path rules.",
        ),
        (with_config(MULTI_3_15, optimizer_map={"class_name": "OptimizerMap"}), "of optimizer_map must be a dict, got"),
        ({"class_name": "MultiOptimizer", "config": {}}, "MultiOptimizer: its config must have optimizer_specs or"),
        ({"class_name": "MultiOptimizer", "config": 3}, "the 'config' of 'MultiOptimizer' must be a dict, got 3."),
        ({**MULTI_3_15, "module": "os"}, "deserialize: the module 'os' is not Keras's"),
    ],
)
def test_multi_optimizers_that_by_path_cannot_be(config, words):
    assert words in sentence(lambda: jos.deserialize(config))


def test_custom_objects_come_first():
    assert jos.deserialize({"class_name": "MultiOptimizer", "config": {}}, {"MultiOptimizer": jos.sgd}) == jos.sgd()


def test_a_wrapped_optimizer_by_its_name_or_config():
    assert jos.lookahead("adam", sync_period=3) == jos.lookahead(jos.adam(), sync_period=3)
    config = {"class_name": "SGD", "config": {"lr": 0.5}}
    assert jos.swa(config) == jos.swa(jos.sgd(0.5))
    assert jos.loss_scale(optimizer="SGD").recipe.arguments["optimizer"] == jos.sgd()
    assert jos.moving_average.from_config({"optimizer": "yogi"}) == jos.moving_average(jos.yogi())
    assert repr(jos.lookahead("adam")) == "lookahead(adam())"
    for optimizer, words in (
        ("adamm", "lookahead: unknown class name 'adamm'. Did you mean 'adam'?"),
        ("scale_by_adam", "lookahead: optimizer must be an optimizer of jaxopt_suite, got scale_by_adam()."),
        ({}, "lookahead: a config must have the keys 'class_name' and 'config', got {}."),
        (3, "lookahead: optimizer must be an optimizer of jaxopt_suite, got 3."),
        ("ExponentialDecay", "exponential_decay: missing a required argument: 'initial_learning_rate'."),
    ):
        assert sentence(lambda optimizer=optimizer: jos.lookahead(optimizer)).startswith(words)


# words of others


@pytest.mark.parametrize(
    ("make", "word", "says"),
    [
        (jos.adam, "b1", " Did you mean 'beta_1'?"),
        (jos.adam, "b2", " Did you mean 'beta_2'?"),
        (jos.muon, "b1", " Did you mean 'adam_beta_1'?"),
        (jos.rmsprop, "b1", ""),
        (jos.adam, "betas", " They come one by one, as beta_1 and beta_2."),
        (jos.adam, "eps", " Did you mean 'epsilon'?"),
        (jos.adafactor, "eps", " Did you mean 'epsilon_1'?"),
        (jos.sgd, "eps", ""),
        (jos.adam, "eps_root", " There is no second one, under the root: epsilon is all there is."),
        (jos.adamw, "mask", " Name what is not decayed in exclude_from_weight_decay, by regexes."),
        (jos.adamw, "decay_var_list", " Name what is not decayed in exclude_from_weight_decay, by regexes."),
        (jos.by_path, "mask", ""),
        (jos.adam, "max_norm", " Did you mean 'global_clipnorm'?"),
        (jos.adam, "grad_clip", " Did you mean 'global_clipnorm'?"),
        (jos.transforms.clip_by_norm, "max_norm", " Did you mean 'clipnorm'?"),
        (
            jos.adam,
            "mu_dtype",
            " Slots are float32 whatever the parameters are; jos.precision.state_dtype stores them otherwise.",
        ),
        (jos.lamb, "weight_decay_rate", " Did you mean 'weight_decay'?"),
        (jos.adam, "alpha", " Did you mean 'learning_rate'?"),
        (jos.rmsprop, "alpha", " Did you mean 'rho'?"),
        (jos.sgd, "step_size", " Did you mean 'learning_rate'?"),
        (jos.sgd, "use_nesterov", " Did you mean 'nesterov'?"),
        (jos.adam, "use_nesterov", ""),
        (jos.adam, "maximize", " There is nothing like it: negate the loss."),
        (jos.adam, "beta1", " Did you mean 'beta_1'?"),
        (jos.schedules.exponential_decay, "init_value", " Did you mean 'initial_learning_rate'?"),
    ],
)
def test_words_of_others(make, word, says):
    called = make.__name__
    assert sentence(lambda: make(**{word: 0.5}), TypeError) == f"{called}: there is no argument {word!r}.{says}"


# what a user builds and declares


def init(params):
    return ()


def update(updates, state, params=None, **extra):
    return updates, state


def test_an_optimizer_built_by_hand_is_a_tuple_of_functions():
    tx = jos.Optimizer(init, update)
    assert re.match(r"Optimizer\(init=<function init at \w+>, update=<function update at \w+>\)$", repr(tx))
    assert tx == jos.Optimizer(init, update) == pickle.loads(pickle.dumps(tx)) == copy.deepcopy(tx) == (init, update)
    assert hash(tx) == hash(jos.Optimizer(init, update)) == hash((init, update))
    assert tx != jos.Optimizer(init, lambda *arguments: update(*arguments))
    assert (tx == jos.adam(), jos.adam() == tx, jos.adam() == tuple(jos.adam()), tx == 3) == (False,) * 4
    assert len({tx, jos.adam(), jos.Optimizer(init, update)}) == 2
    assert optax.chain(tx, optax.scale(-1.0)).update(3.0, ((), optax.ScaleState()))[0] == -3.0
    for ask in (tx.get_config, tx.to_json, lambda: tx.recipe, lambda: jos.serialize(tx), lambda: jos.lookahead(tx)):
        assert "built by hand from init and update and has no recipe. Declare it with @jos" in sentence(ask, TypeError)


@pytest.fixture
def registry():
    """What a test declares is forgotten after it."""
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


class Slots(NamedTuple):
    m: jax.Array


@pytest.mark.usefixtures("registry")
def test_words_of_the_library_do_not_bind_an_optimizer_of_ones_own():
    @jos.optimizer("Mine")
    def mine(learning_rate: float = 0.1, beta_1: float = 1.5, epsilon=-1.0, momentum=-2, rho: Beta = 0.5, **common):
        """My own."""
        return jos.leafwise(None, None, lambda g, s, w, t: (g * beta_1 + epsilon, s))

    assert mine() == mine(beta_1=1.5, epsilon=-1.0) == jos.deserialize(json.loads(mine().to_json()))
    tx = mine(-0.5, beta_1=jnp.bfloat16(3.0), epsilon=-4, momentum=7)
    assert float(tx.update(jnp.float32(2.0), tx.init(jnp.float32(0.0)))[0]) == 1.0
    assert sentence(lambda: mine(rho=1.5)) == "mine: rho must be in [0, 1), got 1.5."
    assert sentence(lambda: mine(clipnorm=-1.0)) == "mine: clipnorm must be > 0, got -1.0."
    assert "clipnorm: a number > 0: largest norm" in mine.__doc__
    assert "beta_1" not in mine.__doc__  # what it means is not ours to say


@pytest.mark.usefixtures("registry")
def test_declarations_that_are_wrong():
    def declared(make):
        return jos.optimizer("Wrong")(make)()

    assert sentence(lambda: declared(lambda learning_rate=0.1: None), TypeError) == (
        "<lambda>: an optimizer must take **common, the arguments that all have in common."
    )
    assert sentence(lambda: declared(lambda learning_rate=0.1, **common: 3), TypeError).startswith(
        "<lambda>: an optimizer must return a rule, such as what leafwise makes or a primitive's"
    )
    step = lambda g, s, w, t: (g, s)  # noqa: E731
    assert sentence(lambda: jos.leafwise(dict, lambda w: {}, step), TypeError).startswith(
        "leafwise: slots must be a NamedTuple class, or None for a rule without state, got <class 'dict'>."
    )
    assert sentence(lambda: jos.leafwise(Slots, lambda w: Slots(w), step, read_weights=True), TypeError) == (
        "leafwise: a rule has no attribute 'read_weights'. Did you mean 'reads_weights'?"
    )
