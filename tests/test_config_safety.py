"""A config is data: whatever it holds, it is read as it says, or refused in a sentence of ours."""

import builtins
import copy
import importlib
import json
import pathlib
import sys
import time
import traceback

import jax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rows import CASES
from test_groups import compositions
from test_schedules import EXAMPLES

import jaxopt_suite as jos
from jaxopt_suite._recipe.config import REGISTRY

PACKAGE = str(pathlib.Path(jos.__file__).parent)
VALID = [row.build(variant) for row, variant in CASES[:: max(1, len(CASES) // 60)]]
VALID += [*compositions(), *(s for s in EXAMPLES if not any(map(callable, s.recipe.arguments.values())))]
CONFIGS = [jos.serialize(value) for value in VALID]
HYPOTHESIS = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True, "database": None}

HOSTILE_NAMES = [
    "os.system", "__class__", "contrib.__builtins__", "builtins.eval", "optax._src.base.identity", "jax.numpy.array",
    "../adam", "adam\x00", "Custom>Adam", "os>Adam", ">", "", " adam", "function", "lambda: 0", "__import__('os')",
    "a" * 10_000_000, "é" * 200, "contrib.contrib", "contrib.", ".adam", "optax.adam", "from_config", "register",
    "dict", "MultiOptimizer", "LossScaleOptimizerV3",
]  # fmt: skip


def deep(levels):
    value = {"class_name": "Adam", "config": {}}
    for _ in range(levels):
        value = {"class_name": "Lookahead", "config": {"optimizer": value}}
    return value


def itself():
    config = {"class_name": "Lookahead", "config": {}}
    config["config"]["optimizer"] = config
    return config


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.sampled_from(HOSTILE_NAMES[:16]),
    st.sampled_from([10**400, -(10**400), 2**63, 1e308, -0.0, float("nan"), float("inf"), "(" * 2000, "a{9999999999}"]),
    st.binary(max_size=4), st.complex_numbers(), st.sampled_from([object(), {1}, print, int, jos, 3 + 0j, ...]),
)  # fmt: skip
names = st.one_of(st.sampled_from([make.class_name for make in REGISTRY.values()]), st.sampled_from(HOSTILE_NAMES))
keys = st.one_of(st.sampled_from(["class_name", "config", "module", "registered_name"]), st.text(max_size=8), scalars)
hashable = keys.filter(lambda key: not isinstance(key, set))
junk = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(hashable, inner, max_size=4),
        st.fixed_dictionaries({"class_name": st.one_of(names, scalars), "config": inner}),
    ),
    max_leaves=12,
)


def fuzz(strategy):
    """A property of what is drawn, as a test of some examples, and as a slow one of many."""

    def declared(check):
        @pytest.mark.parametrize("examples", [150, pytest.param(1500, marks=pytest.mark.slow)])
        def test(examples):
            settings(max_examples=examples, **HYPOTHESIS)(given(strategy)(check))()

        test.__doc__ = check.__doc__
        return test

    return declared


def refused(read, *arguments):
    """What is read; or None, where it is refused as it should be: by us, in one short sentence."""
    try:
        return read(*arguments)
    except (ValueError, TypeError) as refusal:
        sentence = str(refusal)
        last = traceback.extract_tb(refusal.__traceback__)[-1]
        assert last.filename.startswith(PACKAGE), f"{last.filename}:{last.lineno}: {sentence[:200]}"
        assert len(sentence) < 400, sentence[:400]
        assert sentence.endswith((".", "?")), sentence
        assert ": " in sentence
        return None


def faithful(value):
    """What was read says itself what it is, and comes back from that."""
    if value is None:
        return
    config = json.loads(json.dumps(jos.serialize(value)))
    assert jos.deserialize(config) == value
    assert not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(config))


@fuzz(junk)
def test_junk(data):
    faithful(refused(jos.deserialize, data))


@fuzz(st.one_of(names, junk))
def test_get_of_junk(data):
    faithful(refused(jos.get, data))


def places(config, place=()):
    """Every place in a config: dict keys and list indices."""
    if isinstance(config, dict):
        for key, item in config.items():
            yield (*place, key)
            yield from places(item, (*place, key))
    elif isinstance(config, list):
        for i, item in enumerate(config):
            yield (*place, i)
            yield from places(item, (*place, i))


def changed(config, place, change):
    config = copy.deepcopy(config)
    node = config
    for key in place[:-1]:
        node = node[key]
    change(node, place[-1])
    return config


def at(config, place):
    for key in place:
        config = config[key]
    return config


@fuzz(st.data())
def test_a_config_with_something_else_in_one_place(data):
    """Refused; or taken, and then the value says what was written (an int as a float, a number by its alias)."""
    config = data.draw(st.sampled_from(CONFIGS))
    place = data.draw(st.sampled_from([*places(config)]))
    new = data.draw(junk)
    value = refused(jos.deserialize, changed(config, place, lambda node, key: node.__setitem__(key, new)))
    if value is None:
        return
    faithful(value)
    assert same(at_or_none(jos.serialize(value), place), new) or renamed(place, new, value), (place, new, value)


def at_or_none(config, place):
    try:
        return at(config, place)
    except (KeyError, IndexError, TypeError):
        return None


def same(got, written):
    """Whether a config says what was written: tuples are lists, whole numbers may be floats, defaults are added."""
    if isinstance(got, dict) and isinstance(written, dict):
        if "class_name" in written:
            return got == jos.serialize(jos.deserialize(written))
        return all(same(got.get(key), item) for key, item in written.items())
    if isinstance(got, list) and isinstance(written, str):
        return got == [written]
    if isinstance(got, list) and isinstance(written, (list, tuple)):
        return len(got) == len(written) and all(map(same, got, written))
    if isinstance(got, bool) or isinstance(written, bool):
        return got is written
    return got == written


def renamed(place, new, value):
    """A class name in other letters; nothing, for an optional list."""
    if place[-1] == "class_name":
        return str(new).replace("_", "").lower().endswith(value_class(value, place).lower())
    return new is None


def value_class(value, place):
    return at(jos.serialize(value), place)


@fuzz(st.data())
def test_a_config_with_something_missing_or_more(data):
    """Without an entry an argument has its default, as in Keras; without a class name or config it is refused."""
    config = data.draw(st.sampled_from(CONFIGS))
    place = data.draw(st.sampled_from([p for p in places(config) if isinstance(p[-1], str)]))
    if data.draw(st.booleans()):
        value = refused(jos.deserialize, changed(config, place, lambda node, key: node.pop(key)))
        assert value is None or place[-1] not in ("class_name", "config")
    else:
        extra = data.draw(st.text(min_size=1, max_size=12).filter(lambda key: key not in at(config, place[:-1])))
        value = refused(jos.deserialize, changed(config, place, lambda node, key: node.__setitem__(extra, 1.0)))
        assert value is None or extra in ("lr", "module") or "arguments" in place or "mask" in place
    faithful(value)


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=lambda name: repr(name[:20]))
def test_names_reach_nothing(name, monkeypatch):
    modules = {*sys.modules}

    def forbidden(*arguments, **keywords):
        raise AssertionError("something was evaluated or imported")

    for module, attribute in ((builtins, "eval"), (builtins, "exec"), (importlib, "import_module")):
        monkeypatch.setattr(module, attribute, forbidden)
    begin = time.perf_counter()
    for read, data in (
        (jos.deserialize, {"class_name": name, "config": {}}),
        (jos.deserialize, {"class_name": "Adam", "config": {}, "module": name or "os", "registered_name": name}),
        (jos.deserialize, {"class_name": "FromOptax", "config": {"factory": name, "arguments": {}}}),
        (jos.adam.from_config, {"learning_rate": {"class_name": name, "config": {}}}),
        (jos.adam.from_config, {"learning_rate": {"class_name": "function", "config": name}}),
        (jos.adam.from_config, {name: 1.0}),
        (jos.get, name),
    ):
        value = refused(read, data)
        assert value is None or name == " adam", value
    assert {*sys.modules} == modules
    assert time.perf_counter() - begin < 5.0


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, "deserialize: a config must be a dict, got None."),
        ([], "deserialize: a config must be a dict, got []."),
        ({}, "deserialize: a config must have the keys 'class_name' and 'config', got {}."),
        ({"class_name": "Adam"}, "deserialize: there is no 'config' beside the class name 'Adam'."),
        ({"class_name": ["Adam"], "config": {}}, "deserialize: a class name must be a string, got ['Adam']."),
        ({"class_name": "Adam", "config": None}, "the 'config' of 'Adam' must be a dict, got None."),
        ({"class_name": "Adam", "config": {}, "more": 1}, "unknown key 'more' beside 'class_name' and 'config'."),
        ({"class_name": "Adam", "config": {1: 2}}, "adam: the keys of a config must be strings, got 1."),
        ({"class_name": "Adam", "config": {"beta": 1}}, "adam: there is no argument 'beta'. Did you mean 'beta_"),
        ({"class_name": "Adam", "config": {"beta_1": {}}}, "adam: beta_1 must be a number in [0, 1), got {}."),
        ({"class_name": "Adam", "config": {"beta_1": 1 << 4000}}, "got an integer of 4001 bits. It must be finite."),
        ({"class_name": "Adan", "config": {}}, "deserialize: unknown class name 'Adan'. Did you mean 'adam'?"),
        ({"class_name": "ExponentialDecay", "config": {}}, "missing a required argument: 'initial_learning_rate'."),
        ({"class_name": "Adam", "config": {}, "module": "os"}, "the module 'os' is not Keras's: give its class"),
        ({"class_name": "Adam", "config": {}, "module": 3}, "deserialize: 'module' must be a string, got 3."),
        ({"class_name": "Chain", "config": {"members": 3}}, "chain: members must be a list, got 3."),
        ({"class_name": "FromOptax", "config": {"factory": "adam", "arguments": []}}, "must be a dict, got []."),
        ({"class_name": "ByPath", "config": {"rules": [["a"]]}}, "rules must be a dict from regular expressions"),
        ({"class_name": "Adam", "config": {"class_name": "Adam", "config": {}}}, "with a class name; use deserialize."),
        (itself(), "the config is nested deeper than 64 levels, or contains itself."),
        (deep(5000), "the config is nested deeper than 64 levels, or contains itself."),
    ],
)
def test_sentences(config, words):
    with pytest.raises((ValueError, TypeError)) as refusal:
        jos.deserialize(config)
    assert words in str(refusal.value)


def test_what_is_nested_as_deep_as_one_would_is_read():
    assert jos.deserialize(deep(15)).recipe.class_name == "Lookahead"
