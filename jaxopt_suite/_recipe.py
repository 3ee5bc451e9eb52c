"""A recipe says how a value was made: which public function, with which arguments.

Optimizers, primitives, schedules and wrappers are made by declared functions. What such a function returns
carries its `Recipe`, by which it compares, hashes, prints, pickles and goes to a config and back.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxopt_suite._arguments import Word, check, is_array, nearest, word_for

class _Identity:
    """An array or a function in a recipe's key: equal to itself alone."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _freeze(value: Any) -> Any:
    """A hashable form of an argument; 1, 1.0 and True stay apart."""
    recipe = getattr(value, "recipe", None)
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(value, (list, tuple)):
        return tuple(map(_freeze, value))
    if isinstance(value, Mapping):
        return tuple((key, _freeze(item)) for key, item in value.items())
    if is_array(value) or callable(value):
        return _Identity(value)
    return type(value), value


class Recipe:
    """The declared function `factory` and all its `arguments`, defaults included."""

    __slots__ = ("factory", "arguments", "_key", "_hash")

    def __init__(self, factory: Callable, arguments: dict[str, Any]):
        self.factory = factory
        self.arguments = arguments
        self._key = (factory, _freeze(arguments))
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
        parts = []
        for name, parameter in self.factory.__signature__.parameters.items():
            value = self.arguments.get(name, parameter.default)
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                parts.extend(map(repr, value))
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                parts.extend(f"{key}={item!r}" for key, item in self.arguments[name].items())
            elif parameter.default is inspect.Parameter.empty:
                parts.append(repr(value))
            elif _freeze(value) != _freeze(parameter.default):
                parts.append(f"{name}={value!r}")
        return f"{self.factory.__name__}({', '.join(parts)})"

    def remake(self, **changes: Any) -> Any:
        """The value again, with some arguments changed."""
        return self.factory.remake({**self.arguments, **changes})

    def holds_tracer(self) -> bool:
        return any(isinstance(leaf, jax.core.Tracer) for leaf in _parts(self.arguments))


def _parts(value: Any) -> Any:
    """All values inside an argument, those of nested recipes included."""
    recipe = getattr(value, "recipe", None)
    if isinstance(recipe, Recipe):
        yield from _parts(recipe.arguments)
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
                    raise TypeError(f"{owner}: {alias} is the old name of {name}; give one of them, not both.")
                kwargs[name] = value
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()):
            for name in kwargs.keys() - signature.parameters.keys():
                raise TypeError(f"{owner}: there is no argument {name!r}.{nearest(name, signature.parameters)}")
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{owner}: {error}.") from None
        bound.apply_defaults()
        return _checked(owner, bound.arguments, words, signature)

    @functools.wraps(body)
    def make(*args: Any, **kwargs: Any) -> Any:
        return assemble(Recipe(make, bind(args, kwargs)))

    def remake(arguments: Mapping[str, Any]) -> Any:
        positional, keywords = [], dict(arguments)
        for name, parameter in signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                positional.extend(keywords.pop(name))
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                keywords.update(keywords.pop(name))
        return make(*positional, **keywords)

    make.class_name = class_name
    make.remake = remake
    make.aliases = aliases
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


def _checked(
    owner: str, arguments: Mapping[str, Any], words: Mapping[str, Word], signature: inspect.Signature
) -> dict[str, Any]:
    checked = {}
    for name, value in arguments.items():
        default = signature.parameters[name].default
        optional = value is None and default is None
        checked[name] = None if optional else check(owner, name, value, words[name])
    return checked


def _complete_docstring(make: Callable, words: Mapping[str, Word]) -> None:
    """Adds the arguments, in the vocabulary's words, to the docstring of a declared function."""
    lines = []
    for name, parameter in make.__signature__.parameters.items():
        word = words.get(name)
        if word is None or not word.says:
            continue
        default = "" if parameter.default is inspect.Parameter.empty else f" Default: `{parameter.default!r}`."
        kind = {"patterns": "regexes", "flag": "bool"}.get(word.kind, word.kind)
        bounds = f", {word.must}" if word.kind in ("number", "integer", "choice") else ""
        lines.append(f"    {name}: {kind}{bounds}: {word.says}{default}")
    if lines:
        doc = inspect.cleandoc(make.__doc__ or "")
        raises = "Raises:\n    ValueError, TypeError: naming the argument, what it must be, and what came."
        make.__doc__ = doc + "\n\nArguments:\n" + "\n".join(lines) + "\n\n" + raises + "\n"
