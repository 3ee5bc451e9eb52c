"""Turns a function whose signature is the config into a public one whose results have a recipe."""

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal, Union, get_args, get_origin, get_type_hints

import jax.numpy as jnp

from jaxopt_suite._recipe.check import DEPTH, LONGEST, Config, Value, Word, check, is_dtype, plain, show
from jaxopt_suite._recipe.others import hint
from jaxopt_suite._recipe.recipe import Factory as Factory
from jaxopt_suite._recipe.recipe import Recipe, ShapingDefault, as_number, spread
from jaxopt_suite._recipe.words import SENTENCES

LIBRARY = __name__.partition(".")[0]


@dataclasses.dataclass(frozen=True)
class Argument:
    """An argument that many functions share: its default, and its sentence where the vocabulary has none."""

    default: object
    sentence: str = ""


def declare(
    class_name: str,
    body: Callable[..., object],
    assemble: Callable[[Recipe], object],
    *,
    home: str = LIBRARY,
    common: Mapping[str, tuple[Word, Argument]] | None = None,
    aliases: Mapping[str, str] | None = None,
    sentences: Mapping[str, str] | None = None,
    shaping: Sequence[str] = (),
) -> Value:
    """The public function of `body`.

    Arguments:
      class_name: the name in configs.
      assemble: what the public function returns, from the recipe.
      home: the public module of the library that exports it, by which it is pickled and listed.
      common: arguments in the place of `**common`.
      aliases: other names of arguments.
      sentences: what the arguments mean that this function does not share with others.
      shaping: arguments whose default shapes the state, so that `optax.inject_hyperparams` must not make it an array.
    """
    common, aliases = common or {}, dict(aliases or {})
    signature = _flat_signature(body, common)
    owner = body.__name__
    words = {**_words(body, signature), **{name: word for name, (word, _) in common.items()}}
    words = {name: words[name] for name in signature.parameters}

    def bind(args: tuple, kwargs: dict[str, Value]) -> dict[str, Value]:
        _unalias(owner, signature, aliases, args, kwargs)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{owner}: {error}.") from None
        bound.apply_defaults()
        return _checked(owner, {name: as_number(value) for name, value in bound.arguments.items()}, words, signature)

    def call(*args: Value, **kwargs: Value) -> object:
        return assemble(Recipe(make, bind(args, kwargs)))

    make: Value = functools.wraps(body)(call)

    def remake(arguments: Mapping[str, object]) -> object:
        positional, keywords = spread(owner, signature, arguments)
        return make(*positional, **keywords)

    ours = body.__module__.partition(".")[0] == LIBRARY
    make.__module__ = home if ours else body.__module__
    make.class_name = class_name
    make.remake = remake
    make.aliases = aliases
    make.words = words
    hidden = aliases.keys() & signature.parameters.keys()  # what is an alias elsewhere is an argument here
    shown = [inspect.Parameter(a, inspect.Parameter.KEYWORD_ONLY, default=None) for a in aliases if not hidden]
    listed = [
        p.replace(default=ShapingDefault(p.default)) if p.name in shaping else p for p in signature.parameters.values()
    ]
    make.__signature__ = signature.replace(parameters=[*listed, *shown])
    made_common = {name: argument.sentence for name, (_, argument) in common.items() if argument.sentence}
    own = () if ours else inspect.signature(body).parameters  # a user's words mean what the user says
    shared = {name: sentence for name, sentence in SENTENCES.items() if name not in own}
    _complete_docstring(make, {**shared, **made_common, **(sentences or {})})
    return make


def numbers_of(factory: Value) -> frozenset[str]:
    """The arguments that may be schedules: those that are numbers."""
    return frozenset(name for name, word in factory.words.items() if word.kind == "number")


def word_of(hint: Value, default: object = inspect.Parameter.empty) -> Word:
    """The word of a type; a type that says nothing of a range is judged by itself, or by the default."""
    if get_origin(hint) in (Union, types.UnionType):
        others = [arm for arm in get_args(hint) if arm is not type(None)]
        if len(others) < len(get_args(hint)) and len(others) == 1:
            return dataclasses.replace(word_of(others[0], default), optional=True)
    if get_origin(hint) is Annotated:
        words = [item for item in hint.__metadata__ if isinstance(item, Word)]
        return words[0] if words else word_of(hint.__origin__, default)
    if get_origin(hint) is Literal:
        values = get_args(hint)
        return Word("choice", "one of " + ", ".join(map(repr, values)), lambda x: x in values)
    return _PLAIN.get(hint, _PLAIN.get(type(default), Word("any", "", optional=True)))


_PLAIN = {
    bool: Word("flag", "True or False"),
    int: Word("integer", "an integer"),
    float: Word("number", "of any sign"),
}


def _words(body: Callable, signature: inspect.Signature) -> dict[str, Word]:
    try:
        hints = get_type_hints(body, include_extras=True)
    except NameError:  # a type that is only known to type checkers, or inside of a function
        hints = {}
    return {name: word_of(hints.get(name), parameter.default) for name, parameter in signature.parameters.items()}


def _flat_signature(body: Callable, common: Mapping[str, tuple[Word, Argument]]) -> inspect.Signature:
    """The signature of the body, with the common arguments in the place of `**common`."""
    parameters: list[inspect.Parameter] = []
    signature = inspect.signature(body)
    own = signature.parameters.keys()
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD and common:
            parameters += [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=argument.default)
                for name, (_, argument) in common.items()
                if name not in own
            ]
        else:
            parameters.append(parameter)
    if common and not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()):
        raise TypeError(f"{body.__name__}: an optimizer must take **common, the arguments that all have in common.")
    return inspect.Signature(parameters)


def _unalias(owner: str, signature: inspect.Signature, aliases: Mapping[str, str], args: tuple, kwargs: dict) -> None:
    """Puts what was given by another name under its own, and refuses names that are unknown."""
    for alias, name in aliases.items():
        if (value := kwargs.pop(alias, None)) is not None:
            if name in kwargs or name in signature.bind_partial(*args).arguments:
                raise TypeError(f"{owner}: {alias} is another name of {name}; give one of them, not both.")
            kwargs[name] = value
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()):
        return
    for name in kwargs:
        if name not in signature.parameters:
            raise TypeError(f"{owner}: there is no argument {show(name)}.{hint(name, signature.parameters)}")


def _checked(
    owner: str, arguments: Config, words: Mapping[str, Word], signature: inspect.Signature
) -> dict[str, Value]:
    checked = {}
    for name, value in arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:  # keywords have no order
            value = {key: value[key] for key in sorted(value)}
            if words[name].kind != "any":
                checked[name] = {key: check(owner, key, item, words[name]) for key, item in value.items()}
                continue
        if words[name].kind == "any":
            checked[name] = _canonical(owner, name, value)
        elif value is None and signature.parameters[name].default is None:
            checked[name] = None
        else:
            checked[name] = check(owner, name, value, words[name])
    return checked


def _canonical(owner: str, name: str, value: Value, depth: int = 0) -> Value:
    """An argument that no word describes, in the one form that a config can hold: a dtype goes by its name."""
    if depth > DEPTH:
        raise ValueError(f"{owner}: {name} is nested deeper than {DEPTH} levels, or contains itself.")
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return tuple(_canonical(owner, name, item, depth + 1) for item in value)
    if isinstance(value, Mapping):
        canonical = functools.partial(_canonical, owner, name, depth=depth + 1)
        return {canonical(key): canonical(item) for key, item in value.items()}
    if is_dtype(value):
        return jnp.dtype(value).name
    value = plain(value)
    if isinstance(value, float) and value != value:
        raise ValueError(f"{owner}: {name} must not be NaN.")
    if isinstance(value, str) and len(value) > LONGEST:
        raise ValueError(f"{owner}: {name} must be a string of at most {LONGEST} characters, got {show(value)}.")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"{owner}: {name} must fit into 64 bits, got {show(value)}.")
    return value


def _complete_docstring(make: Value, sentences: Mapping[str, str]) -> None:
    """Adds the arguments, with their ranges and sentences, to the docstring of a declared function."""
    lines = []
    for name, parameter in make.__signature__.parameters.items():
        if name not in sentences or name not in make.words:
            continue
        default = "" if parameter.default is inspect.Parameter.empty else f" Default: `{parameter.default!r}`."
        lines.append(f"    {name}: {make.words[name].phrase}: {sentences[name]}{default}")
    if lines:
        doc = inspect.cleandoc(make.__doc__ or "")
        raises = "Raises:\n    ValueError, TypeError: naming the argument, what it must be, and what came."
        make.__doc__ = doc + "\n\nArguments:\n" + "\n".join(lines) + "\n\n" + raises + "\n"
