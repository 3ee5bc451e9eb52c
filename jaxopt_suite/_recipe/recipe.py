"""A recipe says how a value was made: which public function, with which arguments.

Optimizers, primitives, schedules and wrappers are made by declared functions. What such a function returns
carries its `Recipe`, by which it compares, hashes, prints, pickles and goes to a config and back.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import ParamSpec, Protocol, TypeVar

import jax

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


class ShapingDefault:
    """A default that shapes the state, as momentum 0 does: it prints as its number, but is none to inject."""

    def __init__(self, value: float):
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


def as_number(value: Value) -> Value:
    return value.value if isinstance(value, ShapingDefault) else value


class Recipe:
    """The declared function `factory` and all its `arguments`, defaults included."""

    __slots__ = ("_hash", "_key", "arguments", "factory")

    def __init__(self, factory: Factory[..., Value], arguments: dict[str, Value]):
        self.factory = factory
        self.arguments = arguments
        self._key = (factory, freeze(arguments))
        self._hash = hash(self._key)

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
            elif freeze(value) != freeze(as_number(parameter.default)):
                shown.append(f"{name}={value!r}")
        return f"{self.factory.__name__}({', '.join(shown)})"

    def call(self, function: Callable) -> Value:
        """What another function makes of the arguments."""
        positional, keywords = spread(self.factory.__name__, self.factory.__signature__, self.arguments)
        return function(*positional, **keywords)

    def remake(self, **changes: object) -> Value:
        """The value again, with some arguments changed."""
        return self.factory.remake({**self.arguments, **changes})


class Skeleton:
    """A recipe without its scalar arrays, which a compiled step takes as operands.

    Equal to the skeletons that compile to the same steps: names, and rates that the state holds, make no difference.
    """

    __slots__ = ("_arguments", "_factory", "_hash", "_key", "holes")

    def __init__(self, recipe: Recipe, arrays: list[jax.Array]):
        before = len(arrays)
        self._factory, self._arguments = recipe.factory, _hollow(recipe.arguments, arrays)
        self.holes = len(arrays) - before
        shaping = {name: value for name, value in self._arguments.items() if name != "name"}
        if isinstance(shaping.get("learning_rate"), float) and getattr(recipe.factory, "state_holds_rate", False):
            shaping["learning_rate"] = "held"
        self._key = (recipe.factory, freeze(shaping))
        self._hash = hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Skeleton) and self._hash == other._hash and self._key == other._key

    def __hash__(self) -> int:
        return self._hash

    def filled(self, arrays: Iterator[jax.Array]) -> Value:
        """What the recipe makes with these arrays."""
        return self._factory.remake(_filled(self._arguments, arrays))


def _hollow(value: Value, arrays: list[jax.Array]) -> Value:
    if has_recipe(value):
        return Skeleton(value.recipe, arrays)
    if isinstance(value, jax.Array) and value.shape == ():
        arrays.append(value)
        return _HOLE
    if isinstance(value, Mapping):
        return {key: _hollow(item, arrays) for key, item in value.items()}
    return tuple(_hollow(item, arrays) for item in value) if isinstance(value, (list, tuple)) else value


def _filled(value: Value, arrays: Iterator[jax.Array]) -> Value:
    if isinstance(value, Skeleton):
        return value.filled(arrays)
    if value is _HOLE:
        return next(arrays)
    if isinstance(value, Mapping):
        return {key: _filled(item, arrays) for key, item in value.items()}
    return tuple(_filled(item, arrays) for item in value) if isinstance(value, tuple) else value


_HOLE = type("Hole", (), {})()

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
