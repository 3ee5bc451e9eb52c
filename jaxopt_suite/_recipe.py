"""A recipe says how a value was made: which public function, with which arguments.

Optimizers, primitives, schedules and wrappers are made by declared functions. What such a function returns
carries its `Recipe`, by which it compares, hashes, prints, pickles and goes to a config and back.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxopt_suite._arguments import word_for
from jaxopt_suite._check import Word, check, is_array, nearest, show

DEPTH = 64  # levels that an argument or a config may be nested
LONGEST = 1000  # characters of a string in a config
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)


class _Identity:
    """An array or a function in a recipe's key: equal to itself alone."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def has_recipe(value: Any) -> bool:
    return isinstance(getattr(value, "recipe", None), Recipe)


def freeze(value: Any) -> Any:
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

    def __init__(self, factory: Callable, arguments: dict[str, Any]):
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

    def call(self, function: Callable) -> Any:
        """What another function makes of the arguments."""
        positional, keywords = _spread(self.factory.__name__, self.factory.__signature__, self.arguments)
        return function(*positional, **keywords)

    def remake(self, **changes: Any) -> Any:
        """The value again, with some arguments changed."""
        return self.factory.remake({**self.arguments, **changes})

    def holds_tracer(self) -> bool:
        return self._traced


def _parts(value: Any) -> Iterator[Any]:
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


def declare(
    class_name: str,
    body: Callable,
    assemble: Callable[[Recipe], Any],
    common: Mapping[str, Any] | None = None,
    aliases: Mapping[str, str] | None = None,
) -> Callable:
    """Turns `body`, whose signature is the config, into a public function whose results have a recipe."""
    signature = _flat_signature(body, common or {})
    owner, aliases = body.__name__, dict(aliases or {})
    if not aliases.keys() & signature.parameters.keys():
        shown = [inspect.Parameter(a, inspect.Parameter.KEYWORD_ONLY, default=None) for a in aliases]
    else:
        shown = []
    words = {name: word_for(name, p.default) for name, p in signature.parameters.items()}

    def bind(args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
        for alias, name in aliases.items():
            if (value := kwargs.pop(alias, None)) is not None:
                if name in kwargs or name in signature.bind_partial(*args).arguments:
                    raise TypeError(f"{owner}: {alias} is another name of {name}; give one of them, not both.")
                kwargs[name] = value
        _refuse_unknown(owner, kwargs, signature)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{owner}: {error}.") from None
        bound.apply_defaults()
        return _checked(owner, bound.arguments, words, signature)

    def call(*args: Any, **kwargs: Any) -> Any:
        return assemble(Recipe(make, bind(args, kwargs)))

    make: Any = functools.wraps(body)(call)

    def remake(arguments: Mapping[str, Any]) -> Any:
        positional, keywords = _spread(owner, signature, arguments)
        return make(*positional, **keywords)

    make.class_name = class_name
    make.remake = remake
    make.aliases = aliases
    make.words = words
    make.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *shown])
    make.__wrapped__ = body
    _complete_docstring(make, words)
    return make


def _flat_signature(body: Callable, common: Mapping[str, Any]) -> inspect.Signature:
    parameters = []
    for parameter in inspect.signature(body).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD and common:
            own = {p.name for p in parameters}
            parameters += [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
                for name, default in common.items()
                if name not in own
            ]
        else:
            parameters.append(parameter)
    return inspect.Signature(parameters)


def _refuse_unknown(owner: str, names: Mapping[str, Any], signature: inspect.Signature) -> None:
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()):
        return
    for name in names:
        if name not in signature.parameters:
            raise TypeError(f"{owner}: there is no argument {show(name)}.{nearest(name, signature.parameters)}")


def _spread(owner: str, signature: inspect.Signature, arguments: Mapping[str, Any]) -> tuple[list, dict[str, Any]]:
    """Arguments by name as a call's: `*args` and `**kwargs` are a list and a dict among them."""
    positional, keywords = [], dict(arguments)
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


def _all_of(kind: Any, called: str, owner: str, name: str, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{owner}: {name} must be {called}, got {show(value)}.")
    if kind is Mapping:
        check_keys(owner, name, value)
    return value


def check_keys(owner: str, what: str, mapping: Mapping[Any, Any]) -> None:
    for key in mapping:
        if not isinstance(key, str):
            raise TypeError(f"{owner}: the keys of {what} must be strings, got {show(key)}.")


def _checked(
    owner: str, arguments: Mapping[str, Any], words: Mapping[str, Word], signature: inspect.Signature
) -> dict[str, Any]:
    checked = {}
    for name, value in arguments.items():
        if words[name].kind == "any":
            checked[name] = _canonical(owner, name, value)
        elif value is None and signature.parameters[name].default is None:
            checked[name] = None
        else:
            checked[name] = check(owner, name, value, words[name])
    return checked


def _canonical(owner: str, name: str, value: Any, depth: int = 0) -> Any:
    """An argument that no word describes, in the one form that a config can hold: a dtype goes by its name."""
    if depth > DEPTH:
        raise ValueError(f"{owner}: {name} is nested deeper than {DEPTH} levels, or contains itself.")
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return tuple(_canonical(owner, name, item, depth + 1) for item in value)
    if isinstance(value, Mapping):
        return {key: _canonical(owner, name, item, depth + 1) for key, item in value.items()}
    if _is_dtype(value):
        return jnp.dtype(value).name
    if isinstance(value, (np.number, np.bool_)):
        value = value.item()
    if isinstance(value, float) and value != value:
        raise ValueError(f"{owner}: {name} must not be NaN.")
    if isinstance(value, str) and len(value) > LONGEST:
        raise ValueError(f"{owner}: {name} must be a string of at most {LONGEST} characters, got {show(value)}.")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"{owner}: {name} must fit into 64 bits, got {show(value)}.")
    return value


def _is_dtype(value: Any) -> bool:
    """Whether it is a dtype, or one of the types that numpy and jax.numpy have for each."""
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return True
    return callable(value) and isinstance(getattr(value, "dtype", None), np.dtype)


def _complete_docstring(make: Callable, words: Mapping[str, Word]) -> None:
    """Adds the arguments, in the vocabulary's words, to the docstring of a declared function."""
    lines = []
    for name, parameter in make.__signature__.parameters.items():
        word = words.get(name)
        if word is None or not word.says:
            continue
        default = "" if parameter.default is inspect.Parameter.empty else f" Default: `{parameter.default!r}`."
        must = f"a number {word.must}" if word.kind in ("number", "constant") else word.must
        lines.append(f"    {name}: {must}: {word.says}{default}")
    if lines:
        doc = inspect.cleandoc(make.__doc__ or "")
        raises = "Raises:\n    ValueError, TypeError: naming the argument, what it must be, and what came."
        make.__doc__ = doc + "\n\nArguments:\n" + "\n".join(lines) + "\n\n" + raises + "\n"
