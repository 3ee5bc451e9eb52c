"""An optimizer is a value: it compares, hashes, prints, copies, pickles, goes to JSON and back, and compiles once."""

import copy
import functools
import json
import pickle
import re
import subprocess
import sys

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from programs import example, quick, stacked, trajectory
from recorded import error, library, recording
from rows import CASES, ROWS, SETTINGS, case_name, long_ones_marked
from test_schedules import EXAMPLES

import jaxopt_suite as jos
from jaxopt_suite._recipe.config import REGISTRY

NAMES = vars(jos.transforms) | vars(jos.schedules) | vars(jos)
PARAMS = {"dense": {"bias": jnp.linspace(-0.5, 0.5, 3), "kernel": jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)}}
GRADS = jax.tree.map(lambda w: jnp.stack([w * (0.3 + i) - 0.1 for i in range(5)]), PARAMS)


def primitives():
    """Every primitive; those that need arguments, with some."""
    further = {"clip_by_value": [1.0], "clip_by_norm": [1.0], "clip_by_global_norm": [1.0], "accumulate": [2]}
    further |= {"unscale": [8.0], "aggregate_gradients": ["batch"], "add_decayed_weights": [0.1]}
    for make in REGISTRY.values():
        if getattr(jos.transforms, make.__name__, None) is make:
            yield make(*further.get(make.__name__, ()))


def forms(tx):
    """The value again, by every way there is."""
    yield jos.deserialize(json.loads(tx.to_json()))
    yield tx.recipe.factory.from_config(json.loads(json.dumps(tx.get_config())))
    yield pickle.loads(pickle.dumps(tx))
    yield cloudpickle.loads(cloudpickle.dumps(tx))
    yield copy.copy(tx)
    yield copy.deepcopy({"tx": tx})["tx"]
    yield eval(repr(tx), NAMES)
    yield tx.recipe.remake()


def run(tx):
    """Five steps, as one program."""

    def step(carry, g):
        w, state = tx.apply_gradients(g, carry[1], carry[0])
        return (w, state), w

    return quick(lambda p, g: jax.lax.scan(step, (p, tx.init(p)), g)[1])


@pytest.mark.parametrize(("row", "variant"), long_ones_marked(SETTINGS), ids=case_name)
def test_every_variant_comes_back(row, variant):
    tx = row.build(variant)
    for again in forms(tx):
        assert again == tx
        assert hash(again) == hash(tx)
        assert repr(again) == repr(tx)
        assert again.get_config() == tx.get_config()
    assert tx.to_json() == row.build(variant).to_json()
    again = jos.deserialize(json.loads(tx.to_json()))
    assert run(again).lower(PARAMS, GRADS).as_text() == run(tx).lower(PARAMS, GRADS).as_text()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_five_steps_are_the_same_to_the_bit(row):
    tx = row.build()
    again = jos.deserialize(json.loads(tx.to_json()))
    jax.tree.map(np.testing.assert_array_equal, run(again)(PARAMS, GRADS), run(tx)(PARAMS, GRADS))


@pytest.mark.parametrize("value", [*primitives(), *EXAMPLES], ids=repr)
def test_primitives_and_schedules_come_back(value):
    if any(callable(item) for item in value.recipe.arguments.values()):
        pytest.skip("a function goes to a config by name, see test_functions")
    for again in forms(value):
        assert again == value
        assert hash(again) == hash(value)


def test_every_primitive_is_tested():
    tested = {value.recipe.factory for value in primitives()}
    assert tested == {make for make in REGISTRY.values() if getattr(jos.transforms, make.__name__, None) is make}


def test_a_pickle_is_read_by_another_process():
    inner = jos.adam(jos.schedules.exponential_decay(0.1, 5, 0.5))
    tx = jos.by_path({"bias": inner, "": jos.from_optax("lion", learning_rate=1.0)})
    code = "import pickle, sys; print(repr(pickle.loads(bytes.fromhex(sys.argv[1]))))"
    command = [sys.executable, "-c", code, pickle.dumps(tx).hex()]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == repr(tx)


def test_what_is_equal():
    assert jos.adam(1e-3) == jos.adam(learning_rate=1e-3) == jos.adam(lr=1e-3) == jos.adam()
    assert jos.adam(np.float64(0.5)) == jos.adam(0.5)
    assert jos.sgd(1) == jos.sgd(1.0)
    assert jos.adam() != jos.adam(amsgrad=True)
    assert jos.adam() != jos.nadam()
    assert jos.adam(exclude_from_weight_decay="bias") == jos.adam(exclude_from_weight_decay=["bias"])
    assert len({jos.adam(), jos.adam(1e-3), jos.sgd()}) == 2
    assert jos.adam() != "adam"


def test_arrays_and_functions_are_equal_to_themselves_alone():
    rate = jnp.float32(0.1)
    assert jos.adam(rate) == jos.adam(rate)
    assert jos.adam(rate) != jos.adam(jnp.float32(0.1))

    def warm(step):
        return 0.1 * step

    assert jos.adam(warm) == jos.adam(warm)
    assert jos.adam(warm) != jos.adam(lambda step: 0.1 * step)
    with pytest.raises(TypeError, match="adam: learning_rate is an array, which a config cannot hold"):
        jos.adam(rate).get_config()


def test_functions_go_by_name():
    config = json.loads(jos.adam(halve).to_json())
    assert config["config"]["learning_rate"] == {"class_name": "function", "config": "halve"}
    assert jos.deserialize(config, {"halve": halve}) == jos.adam(halve)
    with pytest.raises(ValueError, match="names a function 'halve': pass it in custom_objects="):
        jos.deserialize(config)


def halve(step):
    return 0.5**step


def test_custom_objects():
    @jos.optimizer("OneOfMine")
    def one_of_mine(learning_rate=0.1, sharpness=2.0, **common):
        return jos.leafwise(None, None, lambda g, s, w, t: (jnp.tanh(sharpness * g), s))

    del REGISTRY["oneofmine"]
    tx = one_of_mine(0.5, sharpness=3.0)
    config = json.loads(tx.to_json())
    with pytest.raises(ValueError, match="unknown class name 'OneOfMine'"):
        jos.deserialize(config)
    assert jos.deserialize(config, custom_objects={"OneOfMine": one_of_mine}) == tx
    mine = {**config, "class_name": "mine>OneOfMine", "module": "mine", "registered_name": "mine>OneOfMine"}
    assert jos.deserialize(mine, custom_objects={"OneOfMine": one_of_mine}) == tx
    assert jos.get("OneOfMine", {"OneOfMine": one_of_mine}) == one_of_mine()
    with pytest.raises(TypeError, match=r"custom_objects\['OneOfMine'\] must be declared with @optimizer"):
        jos.deserialize(config, custom_objects={"OneOfMine": lambda **arguments: tx})


def test_get():
    assert jos.get("adam") == jos.get("Adam") == jos.get(jos.adam()) == jos.adam()
    assert jos.get("schedule_free_adamw") == jos.schedule_free_adamw()
    assert jos.get({"class_name": "SGD", "config": {"lr": 0.5}}) == jos.sgd(0.5)
    with pytest.raises(ValueError, match=r"get: unknown class name 'adamm'\. Did you mean 'adam'\?"):
        jos.get("adamm")
    with pytest.raises(TypeError, match="get: expected an optimizer, a name or a config, got 3"):
        jos.get(3)


def test_json_is_diffable():
    a, b = (jos.adam(beta_2=beta_2).to_json().splitlines() for beta_2 in (0.9, 0.99))
    assert [(x, y) for x, y in zip(a, b, strict=True) if x != y] == [('    "beta_2": 0.9,', '    "beta_2": 0.99,')]


def test_equal_optimizers_are_traced_once():
    """Three equal optimizers as static arguments: one trace, where Optax takes three."""
    params, grads = example()
    traces = []

    def step(tx, params, state, grads):
        traces.append(tx)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    jitted = jax.jit(step, static_argnums=0)
    for _ in range(3):
        tx = jos.adam(jos.schedules.cosine_decay(1e-3, 100), weight_decay=0.1, global_clipnorm=1.0)
        jitted(tx, params, tx.init(params), grads)
    assert len(traces) == 1
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(3):
            tx = optax.adam(1e-3)
            jitted(tx, params, tx.init(params), grads)
    assert len(traces) == 4


def test_a_cached_step_factory_makes_one_step():
    @functools.cache
    def make_step(tx):
        return jax.jit(tx.apply_gradients)

    assert make_step(jos.novograd(0.1, weight_decay=0.1)) is make_step(jos.novograd(0.1, weight_decay=0.1))
    assert make_step(jos.novograd(0.1)) is not make_step(jos.novograd(0.2))


def test_sixteen_rates_are_one_program():
    params, grads = example()
    tx, rates = jos.adam(global_clipnorm=1.0), jnp.logspace(-4, 0, 16)
    traces = []

    def step(rate):
        traces.append(rate)
        state = jos.state.set_learning_rate(tx.init(params), rate)
        return tx.apply_gradients(grads, state, params)[0]

    swept = jax.jit(jax.vmap(step))(rates)
    assert len(traces) == 1
    for i in (0, 7, 15):
        tx = jos.adam(float(rates[i]), global_clipnorm=1.0)
        moved = tx.apply_gradients(grads, tx.init(params), params)[0]
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-6, atol=1e-7), swept, moved)


DEPARTURES = {
    "use_ema": "an average starts at the initial weights, in Keras 3 at the first ones",
    "gradient_accumulation_steps": "schedules and averages see real updates, in Keras 3 micro-steps",
}
TOLERANCE = {variant.reference: variant.tolerance for _, variant in CASES}
WRITTEN = [
    (name, slug)
    for name in ("keras3", "tf_keras", "legacy", "tf_addons")
    for slug, case in library(name)[1]["cases"].items()
    if case["config"] is not None
]
FIRST = {(name, library(name)[1]["cases"][slug]["class"]): slug for name, slug in reversed(WRITTEN)}


def departs(case):
    """The departure from Keras that this case would show, if any."""
    given, keras3 = case["arguments"], "gradient_accumulation_steps" in case["config"]["config"]
    if keras3 and given.get("use_ema") and given.get("ema_overwrite_frequency"):
        return DEPARTURES["use_ema"]
    if given.get("gradient_accumulation_steps") and (given.get("use_ema") or isinstance(given["learning_rate"], dict)):
        return DEPARTURES["gradient_accumulation_steps"]
    return "its gradients are scaled: see test_loss_scale" if "loss_scale" in case["extras"] else None


READ = [
    pytest.param(*of, marks=[pytest.mark.slow] * (of[0] == "keras3" and of[1] not in FIRST.values())) for of in WRITTEN
]


@pytest.mark.parametrize(("name", "slug"), READ)
def test_what_the_real_library_wrote_gives_its_numbers(name, slug):
    """All that Keras 3 wrote is run; of the older libraries all is read, and one of each class is run."""
    record = recording(f"{name}/{slug}")
    tx = jos.deserialize(record.case["config"])
    excluded = record.case["extras"].get("exclude_var_names")
    tx = tx.exclude_from_weight_decay(var_names=excluded) if excluded else tx
    assert jos.deserialize(json.loads(tx.to_json())) == tx
    if reason := departs(record.case):
        pytest.skip(reason)
    if name == "keras3" or FIRST[name, record.case["class"]] == slug:
        got, _ = trajectory(tx, record.params, record.grads)
        errors = jax.tree.map(error, stacked(got), record.trajectory)
        assert max(jax.tree.leaves(errors)) <= TOLERANCE.get(f"{name}/{slug}", 2e-6), errors


def test_an_optimizer_does_not_change():
    tx = jos.sgd(0.1)
    with pytest.raises(AttributeError, match=re.escape("tx.replace(learning_rate=...) gives another one")):
        tx.learning_rate = 0.5


@pytest.mark.parametrize("name", ["torch.optim.AdamW", "keras.optimizers.AdamW", "optax.adamw"])
def test_names_of_others_are_answered_with_ours(name):
    with pytest.raises(ValueError, match=r"Did you mean 'adamw'\?"):
        jos.get(name)
