"""Composition that keeps the recipe: one optimizer for some parameters, several in a row, one of Optax's."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import optax

from jaxopt_suite._check import Word, check, nearest, show
from jaxopt_suite._composite import Chain, Composite, Foreign, Frozen, Groups, takes_wide
from jaxopt_suite._config import register
from jaxopt_suite._frame import Optimizer, Transformation, assemble
from jaxopt_suite._pipeline import Pipeline
from jaxopt_suite._recipe import Recipe, declare, has_recipe
from jaxopt_suite.transforms.clip import clip_by_global_norm, clip_by_norm, clip_by_value


def _composition(class_name: str) -> Callable[[Callable[..., Pipeline]], Callable[..., Optimizer]]:
    """Declares a composition: the body's signature is its config, and it returns its line."""

    def declared(body: Callable[..., Pipeline]) -> Callable[..., Optimizer]:
        def build(recipe: Recipe) -> Optimizer:
            return assemble(Optimizer, recipe, recipe.call(body))

        return register(declare(class_name, body, build))

    return declared


@_composition("ByPath")
def by_path(
    rules: Mapping[str, Transformation],
    *,
    clipnorm: Any = None,
    clipvalue: Any = None,
    global_clipnorm: Any = None,
    name: str | None = None,
) -> Pipeline:
    """Each parameter is moved by the first optimizer whose regex is found in its path.

    The clips act before the gradients are dealt out: a global norm is that of all groups together. Unlike
    `optax.multi_transform` it takes no tree of labels, and it refuses a parameter that no rule covers and a rule
    that covers no parameter (one that matches every path may stay without).

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> params = {"embedding": jnp.zeros(2), "kernel": jnp.zeros(2), "bias": jnp.zeros(2)}
    >>> tx = jos.by_path({"embedding": jos.frozen(), "bias": jos.sgd(1.0), ".*": jos.sgd(0.5)}, global_clipnorm=2.0)
    >>> grads = {"embedding": jnp.array([4.0, 4.0]), "kernel": jnp.array([0.0, 4.0]), "bias": jnp.array([4.0, 0.0])}
    >>> for path, update in tx.update(grads, tx.init(params))[0].items():
    ...     print(path, update)
    bias [-1. -0.]
    embedding [0. 0.]
    kernel [-0.  -0.5]
    """
    clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
    on = [key for key, value in clips.items() if value is not None]
    if len(on) > 1:
        raise ValueError(f"by_path: only one of clipnorm, clipvalue and global_clipnorm can be set, got {on}.")
    for pattern, tx in rules.items():
        _check_member("by_path", f"the rule {show(pattern)}", tx)
        if any(gate.scale is not None for gate in tx.pipeline.gates):
            raise ValueError(f"by_path: a loss scale is for all parameters: put it around by_path, not into {tx!r}.")
    txs = tuple(rules.values())
    members = Groups(tuple(rules), txs, all(map(takes_wide, txs)))
    line = Composite("by_path", takes_extra=any(tx.pipeline.takes_extra for tx in txs), members=members)
    make = {"clipnorm": clip_by_norm, "clipvalue": clip_by_value, "global_clipnorm": clip_by_global_norm}
    return line.insert(*(make[key](clips[key]).pipeline for key in on))


@_composition("Chain")
def chain(*members: Transformation) -> Pipeline:
    """Transformations in a row, each given the updates of the one before, as `optax.chain`, with a recipe.

    Members are optimizers, primitives and compositions of this library; `from_optax` makes one of Optax's a member.
    Further keyword arguments of `update`, such as the `value_fn` of a line search, go to the members that use them.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.chain(jos.transforms.clip_by_value(1.0), jos.from_optax("scale", step_size=-0.5))
    >>> tx, tx.update(jnp.array(3.0), tx.init(jnp.array(0.0)))[0]
    (chain(clip_by_value(1.0), from_optax('scale', step_size=-0.5)), Array(-0.5, dtype=float32))
    """
    if not members:
        raise TypeError("chain: there must be at least one member.")
    for i, tx in enumerate(members):
        _check_member("chain", f"member {i}", tx)
    inner = Chain(members, all(map(takes_wide, members)))
    return Composite("chain", takes_extra=any(tx.pipeline.takes_extra for tx in members), members=inner)


@_composition("Frozen")
def frozen() -> Pipeline:
    """Keeps parameters as they are: zero updates, and no state.

    Raises:
      TypeError: if a wrapper is put around it.

    >>> import jax, jax.numpy as jnp, jaxopt_suite as jos
    >>> tx, w = jos.frozen(), jnp.ones(2)
    >>> tx.update(w, tx.init(w), w)[0], jax.tree.leaves(tx.init(w))
    (Array([0., 0.], dtype=float32), [])
    """
    return Frozen("frozen")


@_composition("FromOptax")
def from_optax(factory: str, /, **arguments: Any) -> Pipeline:
    """A transformation of Optax with a recipe: `factory` is the name of a public function of `optax`.

    The numbers are Optax's. `"contrib.prodigy"` names one of `optax.contrib`; a dtype is kept by its name.

    >>> import jax.numpy as jnp, optax, jaxopt_suite as jos
    >>> tx = jos.from_optax("adamw", learning_rate=1e-3)
    >>> tx == jos.from_optax("adamw", learning_rate=1e-3), optax.adamw(1e-3) == optax.adamw(1e-3)
    (True, False)
    """
    found = _factory(factory)
    _check_arguments(f"from_optax: optax.{factory}", found, arguments)
    defaults = {name: parameter.default for name, parameter in inspect.signature(found).parameters.items()}
    try:
        tx = found(**arguments)
    except Exception as error:
        raise ValueError(f"from_optax: optax.{factory} refuses its arguments: {show(error)}.") from None
    if not isinstance(tx, optax.GradientTransformation):
        raise TypeError(f"from_optax: optax.{factory} makes no GradientTransformation, but {show(tx)}.")
    member = Foreign(f"optax.{factory}", tx, {**defaults, **arguments})
    return Composite("from_optax", takes_extra=isinstance(tx, optax.GradientTransformationExtraArgs), members=member)


def _check_member(owner: str, place: str, tx: Any) -> None:
    if isinstance(tx, Transformation):
        return
    if isinstance(tx, optax.GradientTransformation):
        raise TypeError(f"{owner}: {place} is a plain transformation of Optax, without a recipe: use from_optax.")
    raise TypeError(f"{owner}: {place} must be an optimizer or a primitive of jaxopt_suite, got {show(tx)}.")


def _factory(name: str) -> Callable[..., Any]:
    """The public function of that name in `optax` or `optax.contrib`; nothing else can be reached."""
    place, _, last = name.rpartition(".")
    module = {"": optax, "contrib": optax.contrib}.get(place)
    found: Any = vars(module).get(last) if module is not None and not last.startswith("_") else None
    if not _makes_transformations(found):
        public = {**vars(optax), **{f"contrib.{key}": value for key, value in vars(optax.contrib).items()}}
        names = [key for key, value in public.items() if not key.startswith("_") and _makes_transformations(value)]
        raise ValueError(f"from_optax: optax has no public factory {show(name)}.{nearest(name, names)}")
    return found


def _makes_transformations(found: Any) -> bool:
    """Whether it is a function of Optax that says, or does not exclude, that it makes a transformation."""
    function = found.func if isinstance(found, functools.partial) else found
    if not inspect.isfunction(function) or not function.__module__.startswith("optax."):
        return False
    made = inspect.signature(function).return_annotation
    return made is inspect.Signature.empty or (
        isinstance(made, type) and issubclass(made, optax.GradientTransformation)
    )


def _check_arguments(owner: str, function: Callable, arguments: Mapping[str, Any]) -> None:
    """Optax takes whatever comes and fails in the first step; what can be known is refused now."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_POSITIONAL for p in parameters.values()):
        raise ValueError(f"{owner} takes transformations by position: use jos.chain.")
    for name, value in arguments.items():
        if name not in parameters:
            raise TypeError(f"{owner} has no argument {show(name)}.{nearest(name, parameters)}")
        inside = value.values() if isinstance(value, Mapping) else [value]
        if any(isinstance(tx, optax.GradientTransformation) and not has_recipe(tx) for tx in inside):
            raise TypeError(f"{owner}: {name} is a plain transformation of Optax, without a recipe: use from_optax.")
        if value is not parameters[name].default:
            check(owner.partition(": ")[2], name, value, _word(name, parameters[name].default))
    missing = [key for key, p in parameters.items() if p.default is p.empty and key not in arguments]
    if missing:
        raise TypeError(f"{owner} needs the argument {missing[0]!r}.")


def _word(name: str, default: Any) -> Word:
    """What an argument of Optax may be, judged by its default."""
    if isinstance(default, bool):
        return Word("flag", "True or False", "")
    if isinstance(default, int):
        return Word("integer", "an integer", "")
    if isinstance(default, float) or name == "learning_rate":
        return Word("number", "of any sign", "")
    return Word("any", "", "", optional=True)
