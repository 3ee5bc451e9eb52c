"""Configs: what has a recipe goes to a JSON-able dict and back, in the form that Keras uses.

Nothing here imports or evaluates: a config can only name what is registered or given in `custom_objects`.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from jaxopt_suite._arguments import is_array, nearest, show
from jaxopt_suite._recipe import Recipe

REGISTRY: dict[str, Callable] = {}


def register(make: Callable) -> Callable:
    """Puts a declared function under its class name, so that configs can name it."""
    key = make.class_name.lower()
    known = REGISTRY.get(key)
    same = known is not None and (known.__module__, known.__qualname__) == (make.__module__, make.__qualname__)
    if known is not None and not same:
        raise ValueError(f"the class name {make.class_name!r} is taken by {known.__module__}.{known.__qualname__}.")

    def from_config(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
        return _from_config(make, config, custom_objects or {})

    make.from_config = from_config
    REGISTRY[key] = make
    return make


def _rebuild(factory: Callable, arguments: dict[str, Any]) -> Any:
    """What unpickling calls."""
    return factory.remake(arguments)


class Described:
    """What everything with a recipe can do; the class supplies `recipe`."""

    __slots__ = ()
    recipe: Recipe

    def __eq__(self, other: object) -> bool:
        return self is other or (type(other) is type(self) and self.recipe == other.recipe)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.recipe)

    def __repr__(self) -> str:
        return repr(self.recipe)

    def __reduce__(self) -> Any:
        return _rebuild, (self.recipe.factory, self.recipe.arguments)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def get_config(self) -> dict[str, Any]:
        """All arguments as a JSON-able dict, in the order of the signature."""
        owner = self.recipe.factory.__name__
        return {name: _encode(owner, name, value) for name, value in self.recipe.arguments.items()}

    def to_json(self, indent: int | None = 2) -> str:
        """The serialized form as JSON text: stable, one argument a line."""
        return json.dumps(serialize(self), indent=indent)


def _encode(owner: str, name: str, value: Any) -> Any:
    if isinstance(getattr(value, "recipe", None), Recipe):
        return serialize(value)
    if isinstance(value, (list, tuple)):
        return [_encode(owner, name, item) for item in value]
    if isinstance(value, Mapping):
        return {key: _encode(owner, f"{name}[{key!r}]", item) for key, item in value.items()}
    if is_array(value):
        raise TypeError(f"{owner}: {name} is an array, which a config cannot hold; give a number or a schedule.")
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if callable(value) and hasattr(value, "__name__"):
        return {"class_name": "function", "config": value.__name__}
    raise TypeError(f"{owner}: {name} cannot be written to a config: {show(value)}.")


def serialize(value: Any) -> dict[str, Any]:
    """`{"class_name", "config"}` of anything with a recipe."""
    if not isinstance(getattr(value, "recipe", None), Recipe):
        raise TypeError(f"serialize: expected an optimizer or a schedule of jaxopt_suite, got {show(value)}.")
    return {"class_name": value.recipe.class_name, "config": value.get_config()}


_WRITTEN_BY_KERAS = {"module", "registered_name", "build_config", "compile_config", "shared_object_id"}
_DEPTH = 64


def deserialize(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The value that `serialize`, or the real Keras, wrote.

    Nothing is imported or evaluated: a config can only name what is registered or in `custom_objects`.
    """
    return _decode("deserialize", config, custom_objects or {}, 0)


def _decode(owner: str, data: Any, custom: Mapping[str, Any], depth: int) -> Any:
    if depth > _DEPTH:
        raise ValueError(f"{owner}: the config is nested deeper than {_DEPTH} levels, or contains itself.")
    if isinstance(data, (list, tuple)):
        return [_decode(owner, item, custom, depth + 1) for item in data]
    if not isinstance(data, Mapping):
        if owner == "deserialize" and depth == 0:
            raise TypeError(f"deserialize: a config must be a dict, got {show(data)}.")
        return data
    if "class_name" not in data:
        if depth == 0:
            raise ValueError(f"{owner}: a config must have the keys 'class_name' and 'config', got {show(list(data))}.")
        return {key: _decode(owner, item, custom, depth + 1) for key, item in data.items()}
    for key in data.keys() - {"class_name", "config"} - _WRITTEN_BY_KERAS:
        raise ValueError(f"{owner}: unknown key {show(key)} beside 'class_name' and 'config'.")
    if data["class_name"] == "function":
        return _named_function(owner, data.get("config"), custom)
    make = lookup(data["class_name"], custom, owner)
    inner = data.get("config", {})
    if not isinstance(inner, Mapping):
        raise TypeError(f"{owner}: the 'config' of {show(data['class_name'])} must be a dict, got {show(inner)}.")
    return _from_config(make, inner, custom, depth)


def _named_function(owner: str, name: Any, custom: Mapping[str, Any]) -> Callable:
    if not isinstance(name, str) or not callable(custom.get(name)):
        raise ValueError(
            f"{owner}: the config names a function {show(name)}: pass it in custom_objects={{{show(name)}: ...}}."
        )
    return custom[name]


def lookup(name: Any, custom: Mapping[str, Any], owner: str) -> Callable:
    """The declared function of a class name."""
    if not isinstance(name, str):
        raise TypeError(f"{owner}: a class name must be a string, got {show(name)}.")
    plain = name.rpartition(">")[2]  # Keras writes its users' classes as "Package>Name"
    for key, make in custom.items():
        if key in (name, plain):
            if not hasattr(make, "remake"):
                raise TypeError(
                    f"{owner}: custom_objects[{key!r}] must be declared with @optimizer or @schedule, got {show(make)}."
                )
            return make
    make = REGISTRY.get(plain.lower()) or REGISTRY.get(plain.lower().replace("_", ""))
    if make is None:
        names = [f.class_name for f in REGISTRY.values()]
        raise ValueError(f"{owner}: unknown class name {show(name)}.{nearest(plain[:80], names)}")
    return make


def _from_config(make: Callable, config: Mapping[str, Any], custom: Mapping[str, Any], depth: int = 0) -> Any:
    owner = make.__name__
    if not isinstance(config, Mapping):
        raise TypeError(f"{owner}: a config must be a dict, got {show(config)}.")
    for key in config:
        if not isinstance(key, str):
            raise TypeError(f"{owner}: the keys of a config must be strings, got {show(key)}.")
    arguments = {key: _decode(owner, item, custom, depth + 1) for key, item in config.items()}
    return make.remake(arguments)


def get(identifier: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """An optimizer from its name, its serialized config, or itself, as `keras.optimizers.get`."""
    if isinstance(getattr(identifier, "recipe", None), Recipe):
        return identifier
    if isinstance(identifier, str):
        return lookup(identifier, custom_objects or {}, "get")()
    if isinstance(identifier, Mapping):
        return deserialize(identifier, custom_objects)
    raise ValueError(f"get: expected an optimizer, a name or a config, got {show(identifier)}.")
