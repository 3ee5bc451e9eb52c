"""Configs: what has a recipe goes to a JSON-able dict and back, in the form that Keras uses.

Nothing here imports or evaluates: a config can only name what is registered, what is given in `custom_objects`,
and, through `from_optax`, a public factory of Optax.
"""

import functools
import json
import operator
from collections.abc import Callable, Mapping
from typing import Self

import numpy as np

from jaxopt_suite._recipe import keras
from jaxopt_suite._recipe.check import DEPTH, Config, Value, check_keys, is_array, nearest, show
from jaxopt_suite._recipe.recipe import Factory, Recipe, has_recipe, spread

REGISTRY: dict[str, Value] = {}  # declared functions by class name, in lower case


def register(make: Value) -> Value:
    """Puts a declared function under its class name, so that configs can name it."""
    key = make.class_name.lower()
    known = REGISTRY.get(key)
    same = known is not None and (known.__module__, known.__qualname__) == (make.__module__, make.__qualname__)
    if known is not None and not same:
        raise ValueError(f"the class name {make.class_name!r} is taken by {known.__module__}.{known.__qualname__}.")

    def from_config(config: Config, custom_objects: Config | None = None) -> Value:
        return _from_config(make, config, custom_objects or {})

    make.from_config = from_config
    REGISTRY[key] = make
    return make


class Described:
    """What everything with a recipe can do; the class supplies `recipe`."""

    __slots__ = ()

    @property
    def recipe(self) -> Recipe:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return self is other or (type(other) is type(self) and self.recipe == other.recipe)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.recipe)

    def __repr__(self) -> str:
        return repr(self.recipe)

    def __reduce__(self) -> Value:
        """Pickled as the call of its public function: nothing else of the library is named."""
        factory = self.recipe.factory
        positional, keywords = spread(factory.__name__, factory.__signature__, self.recipe.arguments)
        return operator.call, (functools.partial(factory, *positional, **keywords),)

    def __copy__(self) -> Value:
        return self

    def __deepcopy__(self, memo: Value) -> Value:
        return self

    def get_config(self) -> dict[str, Value]:
        """All arguments as a JSON-able dict, in the order of the signature.

        >>> import jaxopt_suite as jos
        >>> jos.schedules.exponential_decay(0.5, decay_steps=10, decay_rate=0.9).get_config()["decay_steps"]
        10.0
        """
        factory, config = self.recipe.factory, {}
        for name, value in self.recipe.arguments.items():
            if factory.words[name].kind == "rules":  # as pairs: their order matters, and JSON tools sort keys
                value = list(value.items())
            config[name] = _encode(factory.__name__, name, value)
        return config

    def replace(self, **changes: Value) -> Self:
        """The same with some arguments changed, checked as in the call that made it.

        >>> import jaxopt_suite as jos
        >>> jos.adam(amsgrad=True).replace(learning_rate=0.5)
        adam(learning_rate=0.5, amsgrad=True)
        """
        names = self.recipe.factory.aliases
        return self.recipe.remake(**{names.get(name, name): value for name, value in changes.items()})

    def to_json(self, indent: int | None = 2) -> str:
        """The serialized form as JSON text: stable, one argument a line."""
        return json.dumps(serialize(self), indent=indent)


def _encode(owner: str, name: str, value: Value) -> Value:
    if has_recipe(value):
        return serialize(value)
    if isinstance(value, (list, tuple)):
        return [_encode(owner, name, item) for item in value]
    if isinstance(value, Mapping):
        items = {key: _encode(owner, f"{name}[{show(key)}]", item) for key, item in value.items()}
        if "class_name" not in items and all(isinstance(key, str) for key in items):
            return items
        return {"class_name": "dict", "config": [[key, item] for key, item in items.items()]}
    if is_array(value):
        raise TypeError(f"{owner}: {name} is an array, which a config cannot hold; give a number or a schedule.")
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if not callable(value):
        raise TypeError(f"{owner}: {name} cannot be written to a config: {show(value)}.")
    if not hasattr(value, "__name__") or "<" in getattr(value, "__qualname__", "<"):
        raise TypeError(
            f"{owner}: {name} cannot be written to a config, which holds a function by its name, got {show(value)}. "
            "Define it at the top of a module, or take a schedule of jos.schedules or from_optax."
        )
    return {"class_name": "function", "config": value.__name__}


def serialize(value: Value) -> dict[str, Value]:
    """`{"class_name", "config"}` of anything with a recipe, as `keras.optimizers.serialize`.

    >>> import jaxopt_suite as jos
    >>> config = jos.serialize(jos.adam(jos.schedules.exponential_decay(0.5, 10, 0.9)))
    >>> config["class_name"], config["config"]["learning_rate"]["class_name"]
    ('Adam', 'ExponentialDecay')
    """
    if not has_recipe(value):
        raise TypeError(f"serialize: expected an optimizer or a schedule of jaxopt_suite, got {show(value)}.")
    return {"class_name": value.recipe.class_name, "config": value.get_config()}


def deserialize(config: Config, custom_objects: Config | None = None) -> Value:
    """The value that `serialize`, or the real Keras, wrote; an argument that is not in the config has its default.

    Nothing is imported or evaluated: a config can only name what is registered or in `custom_objects`, a dict from
    class names to functions declared with `@optimizer` or `@schedule`, and from names to plain functions; and,
    through `from_optax`, a public factory of Optax.
    What `keras.optimizers.legacy` or TF Addons wrote gets `dialect="legacy"`.

    >>> import jaxopt_suite as jos
    >>> jos.deserialize({"class_name": "SGD", "config": {"learning_rate": 0.5}, "module": "keras.optimizers.legacy"})
    sgd(learning_rate=0.5, dialect='legacy')
    """
    return _read("deserialize", config, custom_objects)


def _read(owner: str, config: Value, custom_objects: Value) -> Value:
    if not isinstance(config, Mapping):
        raise TypeError(f"{owner}: a config must be a dict, got {show(config)}.")
    if "class_name" not in config:
        raise ValueError(f"{owner}: a config must have the keys 'class_name' and 'config', got {show(config)}.")
    value = _decode(owner, config, _custom(owner, custom_objects), 0)
    if isinstance(value, dict):
        raise TypeError(f"{owner}: a config must be of an optimizer or a schedule, got that of a dict.")
    return value


def _custom(owner: str, objects: Value) -> Config:
    if objects is not None and not isinstance(objects, Mapping):
        raise TypeError(f"{owner}: custom_objects must be a dict, got {show(objects)}.")
    return objects or {}


def _decode(owner: str, data: Value, custom: Config, depth: int) -> Value:
    if depth > DEPTH:
        raise ValueError(f"{owner}: the config is nested deeper than {DEPTH} levels, or contains itself.")
    if isinstance(data, (list, tuple)) and not has_recipe(data):
        return [_decode(owner, item, custom, depth + 1) for item in data]
    if isinstance(data, Mapping):
        check_keys(owner, "a config", data)
        if "class_name" in data:
            return _object(owner, data, custom, depth)
        return {key: _decode(owner, item, custom, depth + 1) for key, item in data.items()}
    if data is None or has_recipe(data) or isinstance(data, (str, int, float, np.generic)):
        return data
    raise TypeError(f"{owner}: a config holds numbers, strings, lists and dicts, got {show(data)}.")


def _object(owner: str, data: Config, custom: Config, depth: int) -> Value:
    """What a dict with a class name stands for."""
    name = data["class_name"]
    if "config" not in data:
        raise ValueError(f"{owner}: there is no 'config' beside the class name {show(name)}.")
    for key in data:
        if key not in ("class_name", "config", *keras.WRITTEN):
            raise ValueError(f"{owner}: unknown key {show(key)} beside 'class_name' and 'config'.")
    if name == "function":
        return _named_function(owner, data["config"], custom)
    if name == "dict":
        return _pairs(owner, data["config"], custom, depth)
    if not isinstance(data["config"], Mapping):
        raise TypeError(f"{owner}: the 'config' of {show(name)} must be a dict, got {show(data['config'])}.")
    inner = data["config"]
    if not isinstance(name, str) or name not in custom:
        name, inner = keras.renamed(name, inner)
    make = lookup(name, custom, owner)
    custom_made = any(make is known for known in custom.values())
    return _from_config(make, inner, custom, depth, "" if custom_made else keras.written_by(owner, data))


def _pairs(owner: str, pairs: Value, custom: Config, depth: int) -> dict[Value, Value]:
    """A dict with keys that JSON has not, as it is written: by pairs."""
    if not isinstance(pairs, (list, tuple)) or not all(isinstance(p, (list, tuple)) and len(p) == 2 for p in pairs):
        raise TypeError(f"{owner}: the 'config' of 'dict' must be a list of pairs, got {show(pairs)}.")
    if not all(isinstance(key, (str, int, float, type(None))) for key, _ in pairs):
        raise TypeError(f"{owner}: the keys of a 'dict' must be strings or numbers, got {show(pairs)}.")
    return {key: _decode(owner, item, custom, depth + 1) for key, item in pairs}


def _named_function(owner: str, name: Value, custom: Config) -> Callable:
    if not isinstance(name, str) or not callable(custom.get(name)):
        raise ValueError(
            f"{owner}: the config names a function {show(name)}: pass it in custom_objects={{{show(name)}: ...}}."
        )
    return custom[name]


def lookup(name: Value, custom: Config, owner: str) -> Factory[..., Value]:
    """The declared function of a class name."""
    if not isinstance(name, str):
        raise TypeError(f"{owner}: a class name must be a string, got {show(name)}.")
    package, _, plain = name.rpartition(">")  # Keras writes its users' classes as "Package>Name"
    for key in (name, plain):
        if key in custom:
            if not hasattr(custom[key], "remake"):
                came = show(custom[key])
                raise TypeError(
                    f"{owner}: custom_objects[{key!r}] must be declared with @optimizer or @schedule, got {came}."
                )
            return custom[key]
    by_name = {make.__name__: make for make in REGISTRY.values()}
    key = plain.lower()
    make = REGISTRY.get(key) or by_name.get(key) or REGISTRY.get(key.replace("_", ""))
    if make is None:
        last = key.rpartition(".")[2]  # of torch.optim.AdamW
        raise ValueError(f"{owner}: unknown class name {show(name)}.{nearest(last, [*by_name, *REGISTRY])}")
    if package not in ("", "Addons"):
        raise ValueError(f"{owner}: {show(name)} is of another package: pass it in custom_objects.")
    return make


def _from_config(make: Factory[..., Value], config: Value, custom: Value, depth: int = 0, module: str = "") -> Value:
    owner = make.__name__
    if not isinstance(config, Mapping):
        raise TypeError(f"{owner}: a config must be a dict, got {show(config)}.")
    arguments = _decode(owner, dict(config), _custom(owner, custom), depth + 1)
    if "class_name" in config or not isinstance(arguments, dict):
        raise ValueError(f"{owner}: expected the arguments alone, got a config with a class name; use deserialize.")
    return make.remake(keras.translated(make, arguments, module))


def get(identifier: Value, custom_objects: Config | None = None) -> Value:
    """An optimizer from its name, its serialized config, or itself, as `keras.optimizers.get`.

    >>> import jaxopt_suite as jos
    >>> jos.get("rmsprop"), jos.get({"class_name": "Adam", "config": {"learning_rate": 0.5}})
    (rmsprop(), adam(learning_rate=0.5))
    """
    if has_recipe(identifier):
        return identifier
    if isinstance(identifier, (str, Mapping)):
        return named("get", identifier, custom_objects)
    raise TypeError(f"get: expected an optimizer, a name or a config, got {show(identifier)}.")


def named(owner: str, identifier: str | Config, custom_objects: Config | None = None) -> Value:
    """What a name or a config stands for."""
    if isinstance(identifier, str):
        return lookup(identifier, _custom(owner, custom_objects), owner)()
    return _read(owner, identifier, custom_objects)
