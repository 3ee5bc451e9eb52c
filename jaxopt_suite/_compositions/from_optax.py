"""One of Optax's transformations, with a recipe."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from jaxopt_suite import _trees as trees
from jaxopt_suite._compositions.declare import composition
from jaxopt_suite._frame.flow import Flow, Result
from jaxopt_suite._frame.line import Line
from jaxopt_suite._frame.members import Account, States
from jaxopt_suite._recipe.check import Config, Value, Word, check, nearest, show
from jaxopt_suite._recipe.recipe import has_recipe
from jaxopt_suite._recipe.words import Scalar, Text
from jaxopt_suite._trees import Tree


@dataclasses.dataclass(frozen=True, eq=False)
class Foreign:
    """A transformation of Optax, as it is. Its code counts on JAX's standard promotion of dtypes."""

    name: str
    tx: optax.GradientTransformation
    arguments: Config

    extra_args: bool
    holds: bool = False
    scales_loss: bool = False

    def init(self, params: Tree) -> States:
        with jax.numpy_dtype_promotion("standard"):
            return {"optax": self.tx.init(params)}

    def advance(self, flow: Flow[Result], states: States) -> tuple[Result, States]:
        """In the dtypes of the gradients that `update` was given: Optax's states keep those of their first step."""
        missing = [path for path, x in zip(trees.paths(flow.grads), flow.xs, strict=True) if x is None]
        if missing:
            raise ValueError(f"from_optax: {self.name} needs all gradients, there is none at {missing[0]!r}.")
        arrived = [x.astype(g.dtype) for x, g in zip(flow.xs, trees.leaves(flow.grads), strict=True)]
        tx = optax.with_extra_args_support(self.tx)
        with jax.numpy_dtype_promotion("standard"):
            given = trees.like(flow.grads, arrived)
            steps, state = tx.update(given, states["optax"], flow.params, **flow.extra)
        return flow.then(trees.leaves(steps)), {"optax": state}

    def loss_scale(self, states: States | None) -> Scalar:
        return 1.0

    def average(self, states: States, params: Tree) -> None:
        return None

    def stages(self) -> list[str]:
        return [self.name]

    def describe(self, account: Account, params: Tree) -> None:
        rate, decay = self.arguments.get("learning_rate"), self.arguments.get("weight_decay")
        account.rule(params, self.name, learning_rate=rate, decay=decay)
        with jax.numpy_dtype_promotion("standard"):
            account.state(jax.eval_shape(self.tx.init, params))


@composition("FromOptax", factory="name in `optax`.", arguments="arguments of the factory, by name.")
def from_optax(factory: Text, /, **arguments: Value) -> Line:
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
    extra_args = isinstance(tx, optax.GradientTransformationExtraArgs)
    return Line("from_optax", members=Foreign(f"optax.{factory}", tx, {**defaults, **arguments}, extra_args))


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


def _check_arguments(owner: str, function: Callable, arguments: Config) -> None:
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
        return Word("flag", "True or False")
    if isinstance(default, int):
        return Word("integer", "an integer")
    if isinstance(default, float) or name == "learning_rate":
        return Word("number", "of any sign")
    return Word("any", "", optional=True)
