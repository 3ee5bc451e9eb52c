"""A recipe says how a value was made: which public function, with which arguments.

Optimizers, primitives, schedules and wrappers are made by declared functions. What such a function returns
carries its `Recipe`, by which it compares, hashes, prints, pickles and goes to a config and back.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import ParamSpec, Protocol, TypeVar

from jax.core import Tracer

from jaxopt_suite._recipe.check import Config, Value, Word, check_keys, is_array, show

P = ParamSpec("P")
T = TypeVar("T", covariant=True)


class Factory(Protocol[P, T]):
    """A declared function. Type checkers see the signature of its body."""

    __name__: str
    __qualname__: str
    __signature__: inspect.Signature
    class_name: str
    aliases: Mapping[str, str]
    words: Mapping[str, Word]
    remake: Callable[[Mapping[str, object]], Value]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T: ...

    def from_config(self, config: Config, custom_objects: Config | None = None) -> T: ...


class _Identity:
    """An array or a function in a recipe's key: equal to itself alone."""

    __slots__ = ("value",)

    def __init__(self, value: object):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def has_recipe(value: object) -> bool:
    return isinstance(getattr(value, "recipe", None), Recipe)


def freeze(value: Value) -> Value:
    """A hashable form of an argument; 1, 1.0 and True stay apart."""
    if has_recipe(value):
        return value.recipe
    if isinstance(value, (list, tuple)):
        return tuple(map(freeze, value))
    if isinstance(value, Mapping):
        return tuple((key, freeze(item)) for key, item in value.items())
    if is_array(value) or callable(value):
        return _Identity(value)
    try:
        hash(value)
    except TypeError:
        return _Identity(value)
    return type(value), value


class Recipe:
    """The declared function `factory` and all its `arguments`, defaults included."""

    __slots__ = ("_hash", "_key", "_traced", "arguments", "factory")

    def __init__(self, factory: Factory[..., Value], arguments: dict[str, Value]):
        self.factory = factory
        self.arguments = arguments
        self._key = (factory, freeze(arguments))
        self._hash = hash(self._key)
        self._traced = any(isinstance(value, Tracer) for value in _parts(arguments))

    @property
    def class_name(self) -> str:
        return self.factory.class_name

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Recipe) and self._hash == other._hash and self._key == other._key

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        """The call that rebuilds the value, showing what differs from the defaults."""
        shown = []
        for name, parameter in self.factory.__signature__.parameters.items():
            value = self.arguments.get(name, parameter.default)
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                shown += map(repr, value)
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                shown += [f"{key}={item!r}" for key, item in value.items()]
            elif parameter.default is parameter.empty and parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
                shown.append(repr(value))
            elif freeze(value) != freeze(parameter.default):
                shown.append(f"{name}={value!r}")
        return f"{self.factory.__name__}({', '.join(shown)})"

    def call(self, function: Callable) -> Value:
        """What another function makes of the arguments."""
        positional, keywords = spread(self.factory.__name__, self.factory.__signature__, self.arguments)
        return function(*positional, **keywords)

    def remake(self, **changes: object) -> Value:
        """The value again, with some arguments changed."""
        return self.factory.remake({**self.arguments, **changes})

    def program(self) -> Value:
        """What shapes a compiled step: all but names, and rates that the state holds."""
        return _shaping(self)

    def holds_tracer(self) -> bool:
        return self._traced


def _shaping(value: Value) -> Value:
    """The frozen form of an argument, as far as it shapes a compiled step."""
    if isinstance(value, Recipe) or has_recipe(value):
        recipe = value if isinstance(value, Recipe) else value.recipe
        factory, arguments = recipe.factory, dict(recipe.arguments)
        arguments.pop("name", None)
        if isinstance(arguments.get("learning_rate"), float) and getattr(factory, "state_holds_rate", False):
            arguments["learning_rate"] = "held"
        return factory, _shaping(arguments)
    if isinstance(value, (list, tuple)):
        return tuple(map(_shaping, value))
    if isinstance(value, Mapping):
        return tuple((key, _shaping(item)) for key, item in value.items())
    return freeze(value)


def _parts(value: Value) -> Iterator[Value]:
    """All values inside an argument, those of nested recipes included."""
    if has_recipe(value):
        yield from _parts(value.recipe.arguments)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _parts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _parts(item)
    else:
        yield value


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)


def spread(
    owner: str, signature: inspect.Signature, arguments: Mapping[str, object]
) -> tuple[list[object], dict[str, object]]:
    """Arguments by name as a call's: `*args` and `**kwargs` are a list and a dict among them."""
    positional: list[object] = []
    keywords = dict(arguments)
    for name, parameter in signature.parameters.items():
        if name not in keywords:
            continue
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            keywords.update(_all_of(Mapping, "a dict", owner, name, keywords.pop(name)))
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            positional += _all_of((list, tuple), "a list", owner, name, keywords.pop(name))
        elif parameter.kind in _POSITIONAL:
            positional.append(keywords.pop(name))
    return positional, keywords


def _all_of(kind: Value, called: str, owner: str, name: str, value: Value) -> Value:
    if not isinstance(value, kind):
        raise TypeError(f"{owner}: {name} must be {called}, got {show(value)}.")
    if kind is Mapping:
        check_keys(owner, name, value)
    return value
