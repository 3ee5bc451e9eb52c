"""One of Optax's transformations or schedules, with a recipe."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Protocol, Self, Union, get_args, get_origin, overload

import jax
import jax.numpy as jnp
import optax

from jaxopt_suite import _trees as trees
from jaxopt_suite._frame.flow import Flow, Result
from jaxopt_suite._frame.line import Line
from jaxopt_suite._frame.members import Account, States
from jaxopt_suite._recipe.check import Config, Value, Word, check, nearest, show
from jaxopt_suite._recipe.config import register
from jaxopt_suite._recipe.declare import declare
from jaxopt_suite._recipe.recipe import Factory, Recipe, has_recipe
from jaxopt_suite._recipe.words import Scalar, Text
from jaxopt_suite._slices import dense
from jaxopt_suite._transformation import Optimizer, assemble
from jaxopt_suite._trees import Tree
from jaxopt_suite.schedules._schedule import Schedule

ScheduleName = Literal[
    "constant_schedule",
    "cosine_decay_schedule",
    "cosine_onecycle_schedule",
    "exponential_decay",
    "join_schedules",
    "linear_onecycle_schedule",
    "linear_schedule",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "polynomial_schedule",
    "sgdr_schedule",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
]


@dataclasses.dataclass(frozen=True, eq=False)
class Foreign:
    """A transformation of Optax, as it is. Its code counts on JAX's standard promotion of dtypes."""

    name: str
    tx: optax.GradientTransformation
    arguments: Config

    extra_args: bool
    keys: tuple[str, ...] = ("optax",)
    lines: tuple[Line, ...] = ()
    divides: bool = False
    holds: bool = False
    holds_some: bool = False
    scales_loss: bool = False

    def moving(self, paths: Sequence[str]) -> None:
        return None

    def each(self, change: Callable[[Line], Line]) -> Self:
        raise TypeError(f"{self.name} of from_optax keeps its state as Optax does: nothing in it can be changed.")

    def init(self, params: Tree) -> States:
        with jax.numpy_dtype_promotion("standard"):
            return {"optax": trees.apart(self.tx.init(params), jax.tree.leaves(params))}

    def advance(self, flow: Flow[Result], states: States) -> tuple[Result, States]:
        """In the dtypes of the gradients that `update` was given: Optax's states keep those of their first step."""
        asked = flow.xs if flow.params is None else flow.weights()  # a parameter that is None needs no gradient
        rows = zip(trees.paths(flow.grads), flow.xs, asked, strict=True)
        missing = [path for path, x, w in rows if x is None and (flow.params is None or w is not None)]
        if missing:
            raise ValueError(f"from_optax: {self.name} needs all gradients, there is none at {missing[0]!r}.")
        gs = trees.leaves(flow.grads)
        arrived = [x if g is None else dense(x).astype(g.dtype) for x, g in zip(flow.xs, gs, strict=True)]
        tx = optax.with_extra_args_support(self.tx)
        with jax.numpy_dtype_promotion("standard"):
            given = trees.like(flow.grads, arrived)  # its code knows no slices
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


class FromOptax(Factory[..., Any], Protocol):
    """The name of a schedule gives a `Schedule`, that of anything else an optimizer."""

    @overload
    def __call__(self, factory: ScheduleName, /, **arguments: Value) -> Any: ...
    @overload
    def __call__(self, factory: Text, /, **arguments: Value) -> Optimizer: ...
    def __call__(self, factory: str, /, **arguments: Value) -> Optimizer | Schedule: ...


def _declared(body: Callable[..., Line | Callable]) -> FromOptax:
    sentences = {"factory": "name in `optax`.", "arguments": "arguments of the factory, by name."}

    def build(recipe: Recipe) -> Optimizer | Schedule:
        made = recipe.call(body)
        return assemble(Optimizer, recipe, made) if isinstance(made, Line) else _schedule(recipe, made)

    make = declare("FromOptax", body, build, sentences=sentences)
    make.all_arguments = lambda given: _all_arguments(_factory(given["factory"]), given["arguments"])
    return register(make)


@_declared
def from_optax(factory: Text, /, **arguments: Value) -> Line | Callable:
    """A transformation or a schedule of Optax with a recipe: `factory` is the name of a public function of `optax`.

    The numbers are Optax's. `"contrib.prodigy"` names one of `optax.contrib`; a dtype is kept by its name. The name of
    a schedule, such as `"warmup_cosine_decay_schedule"`, gives a `jos.schedules.Schedule`.

    >>> import jax.numpy as jnp, optax, jaxopt_suite as jos
    >>> tx = jos.from_optax("adamw", learning_rate=1e-3)
    >>> tx == jos.from_optax("adamw", learning_rate=1e-3), optax.adamw(1e-3) == optax.adamw(1e-3)
    (True, False)
    >>> jos.sgd(jos.from_optax("linear_schedule", init_value=0.1, end_value=0.0, transition_steps=9)).to_json(None)[:65]
    '{"class_name": "SGD", "config": {"learning_rate": {"class_name": '
    """
    found = _factory(factory)
    _check_arguments(f"from_optax: optax.{factory}", found, arguments)
    made = _made(factory, lambda: found(**arguments))
    if _makes_schedules(found):
        return made
    if not isinstance(made, optax.GradientTransformation):
        raise TypeError(f"from_optax: optax.{factory} makes no GradientTransformation, but {show(made)}.")
    extra_args = isinstance(made, optax.GradientTransformationExtraArgs)
    return Line("from_optax", members=Foreign(f"optax.{factory}", made, _all_arguments(found, arguments), extra_args))


def _made(factory: str, make: Callable[[], Value]) -> Value:
    """What Optax makes of arguments, or a sentence that says that it cannot."""
    try:
        return make()
    except Exception as error:
        raise ValueError(f"from_optax: optax.{factory} refuses its arguments: {show(error)}.") from None


def _all_arguments(found: Callable, given: Config) -> dict[str, Value]:
    """The arguments of a function of Optax, defaults included."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(found).parameters.items()}
    return {**defaults, **given}


def _schedule(recipe: Recipe, function: Callable) -> Schedule:
    """One of Optax's schedules, whose code counts on standard promotion; what gives no number is refused now."""

    def value(step: jax.Array) -> Value:
        with jax.numpy_dtype_promotion("standard"):
            return function(step)

    made, factory = Schedule(recipe, value, exact=True), recipe.arguments["factory"]
    shape = _made(factory, lambda: jax.eval_shape(made, jax.ShapeDtypeStruct((), jnp.int32))).shape
    if shape != ():
        raise ValueError(f"from_optax: optax.{factory} must give scalars, got the shape {shape}.")
    return made


def _factory(name: str) -> Callable[..., Any]:
    """The public function of that name in `optax` or `optax.contrib`; nothing else can be reached."""
    place, _, last = name.rpartition(".")
    module = {"": optax, "contrib": optax.contrib}.get(place)
    found: Any = vars(module).get(last) if module is not None and not last.startswith("_") else None
    if not _makes_transformations(found) and not _makes_schedules(found):
        public = {**vars(optax), **{f"contrib.{key}": value for key, value in vars(optax.contrib).items()}}
        made = {k: v for k, v in public.items() if _makes_transformations(v) or _makes_schedules(v)}
        names = [key for key in made if not key.startswith("_")]
        raise ValueError(f"from_optax: optax has no public factory {show(name)}.{nearest(name, names)}")
    return found


def _makes_transformations(found: Any) -> bool:
    """Whether it is a function of Optax that says, or does not exclude, that it makes a transformation."""
    made = _returns(found)
    return made is inspect.Signature.empty or (
        isinstance(made, type) and issubclass(made, optax.GradientTransformation)
    )


def _makes_schedules(found: Any) -> bool:
    return _returns(found) == optax.Schedule


def _returns(found: Any) -> Any:
    """What a function of Optax says that it returns; None for anything else."""
    function = found.func if isinstance(found, functools.partial) else found
    if not inspect.isfunction(function) or not function.__module__.startswith("optax."):
        return None
    return inspect.signature(function).return_annotation


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
            check(owner.partition(": ")[2], name, value, _word(parameters[name]))
    missing = [key for key, p in parameters.items() if p.default is p.empty and key not in arguments]
    if missing:
        raise TypeError(f"{owner} needs the argument {missing[0]!r}.")


def _word(parameter: inspect.Parameter) -> Word:
    """What an argument of Optax may be, judged by its default; by its type, where it has none."""
    default, hint = parameter.default, parameter.annotation
    types = {*get_args(hint)} if get_origin(hint) in (Union, UnionType) else {hint}
    if default is not parameter.empty:
        types = {type(default)}
    if bool in types and int not in types:
        return Word("flag", "True or False")
    if int in types and float not in types:
        return Word("integer", "an integer")
    if float in types or parameter.name == "learning_rate":
        schedules = default is not parameter.empty or any(get_origin(t) is Callable for t in types)
        return Word("number" if schedules else "constant", "of any sign")
    return Word("any", "", optional=True)
