"""`@optimizer`: a function whose signature is its config becomes a public optimizer."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, ParamSpec, TypedDict, cast, get_type_hints

from jaxopt_suite._declare import Primitive
from jaxopt_suite._frame.leafwise import Rule, by_rows, map_rule
from jaxopt_suite._frame.line import Line
from jaxopt_suite._frame.stages import AnyStage, LeafStage
from jaxopt_suite._recipe.check import Word, is_zero
from jaxopt_suite._recipe.config import register
from jaxopt_suite._recipe.declare import LIBRARY, Argument, Factory, declare, numbers_of, word_of
from jaxopt_suite._recipe.recipe import Recipe
from jaxopt_suite._recipe.words import (
    Axis,
    AxisDtype,
    Fraction,
    NonNegative,
    Patterns,
    Period,
    Positive,
    PositiveConstant,
    Rate,
    Several,
    Specs,
    Text,
)
from jaxopt_suite._stages.accumulate import accumulate
from jaxopt_suite._stages.aggregate import aggregate_gradients
from jaxopt_suite._stages.average import ema
from jaxopt_suite._stages.clip import clip_by_global_norm, clip_by_norm, clip_by_value
from jaxopt_suite._stages.decay import DecayKind, decayed, except_for, excluded, is_off
from jaxopt_suite._stages.scale import unscale
from jaxopt_suite._transformation import Optimizer, assemble

P = ParamSpec("P")
Dialects = Literal["keras", "legacy", "torch"]


@dataclasses.dataclass(frozen=True)
class Entry(Argument):
    """A common argument: where it is given, it switches on `stage`, which takes the arguments of its own names."""

    stage: Primitive[...] | None = None


class Stages(TypedDict, total=False):
    """The common arguments that compositions take too: stages that act on all parameters together."""

    clipvalue: Annotated[Positive | None, Entry(None, stage=clip_by_value)]
    clipnorm: Annotated[Positive | None, Entry(None, stage=clip_by_norm)]
    global_clipnorm: Annotated[Positive | None, Entry(None, stage=clip_by_global_norm)]
    use_ema: Annotated[bool, Entry(False, "keep an exponential moving average of the parameters.", ema)]
    ema_momentum: Annotated[Fraction, Entry(0.99)]
    ema_overwrite_frequency: Annotated[Period | None, Entry(None)]
    loss_scale_factor: Annotated[PositiveConstant | None, Entry(None, stage=unscale)]
    gradient_accumulation_steps: Annotated[Several | None, Entry(None, stage=accumulate)]
    axis_name: Annotated[Axis | None, Entry(None, stage=aggregate_gradients)]
    axis_op: Annotated[Literal["sum", "mean"], Entry("sum")]
    axis_dtype: Annotated[AxisDtype | None, Entry(None)]
    shard_axes: Annotated[Specs | None, Entry(None)]
    jit_compile: Annotated[bool, Entry(True, "run a step that is called outside `jit` as one compiled program.")]
    name: Annotated[Text | None, Entry(None)]


class CommonBesidesDecay(Stages, total=False):
    """`Common`, for an optimizer that has `weight_decay` in its own signature."""

    exclude_from_weight_decay: Annotated[Patterns, Entry(())]
    decay: Annotated[NonNegative | None, Entry(None, "divide the rate by `1 + decay * step`.")]
    lazy: Annotated[bool, Entry(False, "of a sparse gradient, touch only the rows that it has.")]
    dialect: Annotated[Dialects, Entry("keras", "whose numbers: Keras 3 and tf.keras 2.11+, TF <= 2.10, or PyTorch.")]
    lr: Rate | None  # the old name of learning_rate


class Decay(TypedDict, total=False):
    weight_decay: Annotated[NonNegative | None, Entry(None)]


class Common(Decay, CommonBesidesDecay, total=False):
    """The keyword arguments that every optimizer takes besides its own: each is one entry."""


def _entries(table: type) -> dict[str, tuple[Word, Entry]]:
    hints = get_type_hints(table, include_extras=True)
    found = {
        name: [x for x in getattr(hint, "__metadata__", ()) if isinstance(x, Entry)] for name, hint in hints.items()
    }
    return {name: (word_of(hints[name]), entries[0]) for name, entries in found.items() if entries}


COMMON, STAGES = _entries(Common), _entries(Stages)


def stages(given: Mapping[str, Any]) -> list[AnyStage]:
    """The stages that common arguments switch on."""
    on = [entry.stage for name, (_, entry) in STAGES.items() if entry.stage and given[name]]
    return [primitive.stage(**{name: given[name] for name in primitive.words}) for primitive in on]


@dataclasses.dataclass(frozen=True)
class Dialect:
    """The frame's choices where generations of Keras, and PyTorch, differ.

    Attributes:
      cumulative_clips: whether several clips act one after the other, or are an error.
      zero_epsilon: what `epsilon=0` stands for.
      decay: whether weight decay is multiplied by the rate, acts by itself as in TF Addons, or is a penalty, whose
        gradient is added to the loss's, as in PyTorch.
    """

    cumulative_clips: bool
    zero_epsilon: float
    decay: DecayKind


DIALECTS = {
    "keras": Dialect(cumulative_clips=False, zero_epsilon=0.0, decay="by rate"),
    "legacy": Dialect(cumulative_clips=True, zero_epsilon=1e-7, decay="alone"),
    "torch": Dialect(cumulative_clips=False, zero_epsilon=0.0, decay="penalty"),
}


def optimizer(
    class_name: str,
    *,
    own_decay: tuple[str, ...] | Mapping[str, tuple[str, ...]] = (),
    decoupled: bool = False,
    dialects: tuple[str, ...] = ("keras", "legacy"),
    aliases: Mapping[str, str] | None = None,
    sentences: Mapping[str, str] | None = None,
    shaping: tuple[str, ...] = (),
) -> Callable[[Callable[P, Rule]], Factory[P, Optimizer]]:
    """Declares an optimizer.

    The decorated function takes its own arguments and `**common`, and returns its rule: what `leafwise` makes of a
    rule for one array, or a primitive's, `scale_by_adam.rule(...)`. It becomes a public function with the common
    arguments, validation, a recipe, a config, and a place in the registry. An argument that may be a schedule comes
    as its value at the step; its type, such as `strength: float = 0.1`, or its default says what it may be. The rate
    itself is `t.learning_rate` in the rule: the state may hold another than was given.

    Arguments:
      class_name: the name in configs.
      own_decay: the arguments by which the rule itself decays the weights. They replace the frame's stage, and
        are zero for the parameters that `exclude_from_weight_decay` names, and where the decay is a penalty. A dict
        gives them by dialect.
      decoupled: whether the frame's weight decay is no penalty in any dialect. An argument `decoupled_weight_decay`
        of its own, where it is not None, says whether it is one.
      dialects: those that it has.
      aliases: other names of its arguments, such as those in the configs of the original.
      sentences: what its own arguments mean, for its documentation.
      shaping: arguments whose default of 0 takes a slot away, so that `optax.inject_hyperparams` leaves it alone.

    Raises:
      TypeError: if the function does not take `**common`, or returns no rule.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> @jos.optimizer("SignDescent")
    ... def sign_descent(learning_rate: float = 0.1, **common):
    ...     return jos.leafwise(None, None, lambda g, slots, w, t: (jnp.sign(g), slots))
    >>> tx = sign_descent(0.5, clipvalue=1.0)
    >>> tx, tx.update(jnp.array(3.0), tx.init(jnp.array(1.0)))[0]
    (sign_descent(learning_rate=0.5, clipvalue=1.0), Array(-0.5, dtype=float32))
    """

    def declared(body: Callable[P, Rule]) -> Factory[P, Optimizer]:
        def build(recipe: Recipe) -> Optimizer:
            dialect = recipe.arguments["dialect"]
            if dialect not in dialects:
                raise ValueError(
                    f"{body.__name__}: dialect must be {' or '.join(map(repr, dialects))} here, got {dialect!r}."
                )
            own = own_decay.get(dialect, ()) if isinstance(own_decay, Mapping) else own_decay
            return assemble(Optimizer, recipe, _line(body, recipe, own, decoupled))

        names = {"lr": "learning_rate", **(aliases or {})}
        make = declare(class_name, body, build, common=COMMON, aliases=names, sentences=sentences, shaping=shaping)
        make.state_holds_rate = True
        return register(make)

    return declared


# what stands for the rate in the body of a user's optimizer, where arithmetic on it would miss what the state holds
_RATE_OF_THE_STEP = type("the rate, which is t.learning_rate in a rule", (), {})()


def _line(body: Callable[..., Rule], recipe: Recipe, own_decay: tuple[str, ...], decoupled: bool) -> Line:
    """The line of an optimizer: its rule, and a stage for each common argument that is on."""
    arguments, owner = recipe.arguments, body.__name__
    dialect = DIALECTS[arguments["dialect"]]
    _check_together(owner, arguments, dialect)
    if is_zero(arguments.get("epsilon")):
        arguments = {**arguments, "epsilon": dialect.zero_epsilon}
    arguments = {**arguments, **{name: 0.0 for name in own_decay if arguments[name] is None}}
    if body.__module__.partition(".")[0] != LIBRARY and "learning_rate" in arguments:
        arguments = {**arguments, "learning_rate": _RATE_OF_THE_STEP}
    kind = _decay_kind(dialect, arguments.get("decoupled_weight_decay", decoupled or None))
    build = functools.partial(_main_rule, body, own_decay, kind)
    numbers = numbers_of(recipe.factory) - _OF_OTHER_STAGES
    patterns = frozenset(name for name, word in recipe.factory.words.items() if word.kind == "patterns")
    main = LeafStage(build=build, arguments=arguments, numbers=numbers, patterns=patterns)
    rate, compiles = recipe.arguments.get("learning_rate"), arguments["jit_compile"]
    said = arguments["shard_axes"]
    line = Line(owner, (main,), learning_rate=rate, decay=arguments["decay"], compiles=compiles, shard_axes=said)
    return line.insert(*stages(arguments))


def _decay_kind(dialect: Dialect, decoupled: bool | None) -> DecayKind:
    """How weights decay: as the dialect has it, unless something else is said."""
    if decoupled is None or decoupled == (dialect.decay != "penalty"):
        return dialect.decay
    return "by rate" if decoupled else "penalty"


# numbers that the rule's own stage does not use, and need not resolve
_OF_OTHER_STAGES = frozenset(COMMON) - {"weight_decay"} | {"learning_rate"}


def _main_rule(body: Callable[..., Rule], own_decay: tuple[str, ...], kind: DecayKind, /, **arguments: Any) -> Rule:
    """The rule with its rate and its decay: what it returns is the update to add."""
    exclude = excluded(arguments["exclude_from_weight_decay"])
    without = {**arguments, **dict.fromkeys(own_decay, 0.0)}
    if own_decay and kind != "penalty":
        rule = map_rule(_rated, _rule(body, arguments))
        free = map_rule(_rated, _rule(body, without)) if exclude else rule
        rule = except_for(map_rule(functools.partial(_decays, arguments[own_decay[0]]), rule), free, exclude)
    else:
        rule = decayed(map_rule(_rated, _rule(body, without)), arguments["weight_decay"], exclude, kind)
    return _lazy(body.__name__, rule) if arguments["lazy"] else rule


def _lazy(owner: str, rule: Rule) -> Rule:
    """A rule that touches nothing but the rows that a sparse gradient has."""
    if rule.elementwise:
        return rule if rule.rows is not None and rule.absent is None else by_rows(rule, absent=None)
    raise ValueError(
        f"{owner}: lazy must be False: its rule reads a parameter as a whole, and may not run on some rows alone. (A "
        "rule that treats every entry alike is declared with leafwise(..., elementwise=True).)"
    )


def _decays(weight_decay: Any, rule: Rule) -> Rule:
    """A rule that says by how much it decays, for `explain`."""
    return rule if is_off(weight_decay) or rule.decay is not None else dataclasses.replace(rule, decay=weight_decay)


def _rule(body: Callable[..., Rule], arguments: Mapping[str, Any]) -> Rule:
    made = cast(Any, body)(**arguments)
    if isinstance(made, Rule):
        return made
    raise TypeError(
        f"{body.__name__}: an optimizer must return a rule, such as what leafwise makes or a primitive's "
        f"scale_by_adam.rule(...), got {made!r}."
    )


def _rated(rule: Rule) -> Rule:
    """A rule that returns the update to add: `-rate * direction` unless it has used the rate itself."""
    if rule.returns_update:
        return rule

    def update(g: Any, s: Any, w: Any, t: Any) -> tuple[Any, Any]:
        direction, s = rule.update(g, s, w, t)
        return -t.learning_rate * direction, s

    return dataclasses.replace(rule, update=update, returns_update=True)


def _check_together(owner: str, arguments: Mapping[str, Any], dialect: Dialect) -> None:
    """Arguments that exclude each other, or that act only beside another."""
    check_stages(owner, arguments, dialect.cumulative_clips)
    if arguments["lazy"] and arguments["gradient_accumulation_steps"] is not None:
        raise ValueError(f"{owner}: lazy=True has no effect with gradient_accumulation_steps: sums are dense.")
    if arguments["decay"] is not None and "learning_rate" not in arguments:
        raise ValueError(f"{owner}: decay acts on a learning rate, and there is none.")


def check_stages(owner: str, arguments: Mapping[str, Any], cumulative: bool = False) -> None:
    """Stages that exclude each other, or that act only beside another."""
    clips = [name for name in ("clipnorm", "clipvalue", "global_clipnorm") if arguments[name] is not None]
    if len(clips) > 1 and not cumulative:
        raise ValueError(f"{owner}: only one of clipnorm, clipvalue and global_clipnorm can be set, got {clips}.")
    if {"clipnorm", "global_clipnorm"} <= {*clips}:
        raise ValueError(f"{owner}: clipnorm and global_clipnorm cannot both be set.")
    if arguments["axis_dtype"] is not None and arguments["axis_name"] is None:
        raise ValueError(f"{owner}: axis_dtype acts only with axis_name.")
    if arguments["ema_overwrite_frequency"] is not None and not arguments["use_ema"]:
        raise ValueError(f"{owner}: ema_overwrite_frequency acts only with use_ema=True.")
