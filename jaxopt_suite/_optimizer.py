"""`@optimizer`: a function whose signature is its config becomes a public optimizer."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from jaxopt_suite._arguments import COMMON_DEFAULTS
from jaxopt_suite._check import is_zero
from jaxopt_suite._config import register
from jaxopt_suite._frame import Optimizer, Transformation, assemble, numbers_of
from jaxopt_suite._leafwise import Rule, each
from jaxopt_suite._pipeline import RULE, Part, Pipeline
from jaxopt_suite._recipe import Recipe, declare
from jaxopt_suite.transforms.accumulate import accumulate
from jaxopt_suite.transforms.aggregate import aggregate_gradients
from jaxopt_suite.transforms.clip import clip_by_global_norm, clip_by_norm, clip_by_value
from jaxopt_suite.transforms.decay import decayed, except_for, excluded, is_off
from jaxopt_suite.transforms.ema import ema
from jaxopt_suite.transforms.scale import unscale

Body = Callable[..., Transformation | Rule]


@dataclasses.dataclass(frozen=True)
class Dialect:
    """The frame's choices where generations of Keras differ.

    Attributes:
      cumulative_clips: whether several clips act one after the other, or are an error.
      zero_epsilon: what `epsilon=0` stands for.
      decay_by_rate: whether weight decay is multiplied by the rate, or acts by itself as in TF Addons.
    """

    cumulative_clips: bool
    zero_epsilon: float
    decay_by_rate: bool


DIALECTS = {
    "keras": Dialect(cumulative_clips=False, zero_epsilon=0.0, decay_by_rate=True),
    "legacy": Dialect(cumulative_clips=True, zero_epsilon=1e-7, decay_by_rate=False),
}


# numbers that the rule's own stage does not use, and need not resolve
_OF_OTHER_STAGES = frozenset({"learning_rate", "decay", "clipnorm", "clipvalue", "global_clipnorm", "ema_momentum"})


def optimizer(
    class_name: str,
    *,
    own_decay: tuple[str, ...] | Mapping[str, tuple[str, ...]] = (),
    aliases: Mapping[str, str] | None = None,
) -> Callable[[Body], Callable[..., Optimizer]]:
    """Declares an optimizer.

    The decorated function takes its own arguments and `**common`, and returns its primitive: a `scale_by_*`, or
    what `leafwise` makes of a rule for one array. It becomes a public function with the common arguments,
    validation by the vocabulary, a recipe, a config, and a place in the registry.

    Arguments:
      class_name: the name in configs.
      own_decay: the arguments by which the rule itself decays the weights. They replace the frame's stage, and
        are zero for the parameters that `exclude_from_weight_decay` names. A dict gives them by dialect.
      aliases: other names of its arguments, such as those in the configs of the original.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> @jos.optimizer("SignDescent")
    ... def sign_descent(learning_rate=0.1, **common):
    ...     return jos.leafwise(None, None, lambda g, slots, w, t: (jnp.sign(g), slots))
    >>> tx = sign_descent(0.5, clipvalue=1.0)
    >>> tx, tx.update(jnp.array(3.0), tx.init(jnp.array(1.0)))[0]
    (sign_descent(learning_rate=0.5, clipvalue=1.0), Array(-0.5, dtype=float32))
    """

    def declared(body: Body) -> Callable[..., Optimizer]:
        def build(recipe: Recipe) -> Optimizer:
            own = own_decay.get(recipe.arguments["dialect"], ()) if isinstance(own_decay, Mapping) else own_decay
            return assemble(Optimizer, recipe, _line(body, recipe, own))

        names = {"lr": "learning_rate", **(aliases or {})}
        return register(declare(class_name, body, build, common=COMMON_DEFAULTS, aliases=names))

    return declared


def _line(body: Body, recipe: Recipe, own_decay: tuple[str, ...]) -> Pipeline:
    """The pipeline of an optimizer: its rule, and a stage for each common argument that is on."""
    arguments, owner = recipe.arguments, body.__name__
    dialect = DIALECTS[arguments["dialect"]]
    _check_together(owner, arguments, dialect)
    if is_zero(arguments.get("epsilon")):
        arguments = {**arguments, "epsilon": dialect.zero_epsilon}
    arguments = {**arguments, **{name: 0.0 for name in own_decay if arguments[name] is None}}

    def main(**at: Any) -> Rule:
        return _main_rule(body, at, own_decay)

    main(**arguments)  # a combination that the rule refuses is refused now, not in the first step
    part = Part(RULE, main, arguments, numbers_of(recipe.factory) - _OF_OTHER_STAGES)
    rate, compiles = arguments.get("learning_rate"), arguments["jit_compile"]
    line = Pipeline(owner, parts=(part,), rate=rate, decay=arguments["decay"], compiles=compiles)
    return line.insert(*(stage.pipeline for stage in _stages(arguments)))


def _stages(arguments: Mapping[str, Any]) -> list[Transformation]:
    """The common arguments that are on, as primitives; clips in the order in which legacy Keras applies them."""
    on = {name: value for name, value in arguments.items() if value is not None}
    stages = []
    if "loss_scale_factor" in on:
        stages.append(unscale(on["loss_scale_factor"]))
    if "axis_name" in on:
        stages.append(aggregate_gradients(on["axis_name"], axis_op=on["axis_op"]))
    if "gradient_accumulation_steps" in on:
        stages.append(accumulate(on["gradient_accumulation_steps"]))
    if "clipvalue" in on:
        stages.append(clip_by_value(on["clipvalue"]))
    if "clipnorm" in on:
        stages.append(clip_by_norm(on["clipnorm"]))
    if "global_clipnorm" in on:
        stages.append(clip_by_global_norm(on["global_clipnorm"]))
    if on["use_ema"]:
        stages.append(ema(on["ema_momentum"], ema_overwrite_frequency=on.get("ema_overwrite_frequency")))
    return stages


def _main_rule(body: Body, arguments: dict[str, Any], own_decay: tuple[str, ...]) -> Rule:
    """The rule with its rate and its decay: what it emits is the step to add."""
    exclude = excluded(arguments["exclude_from_weight_decay"])
    rule = each(_rated, _rule(body, arguments))
    if own_decay:
        free = each(_rated, _rule(body, {**arguments, **dict.fromkeys(own_decay, 0.0)}))
        return except_for(each(functools.partial(_decays, arguments[own_decay[0]]), rule), free, exclude)
    return decayed(rule, arguments["weight_decay"], exclude, by_rate=DIALECTS[arguments["dialect"]].decay_by_rate)


def _decays(weight_decay: Any, rule: Rule) -> Rule:
    """A rule that says by how much it decays, for `explain`."""
    return rule if is_off(weight_decay) or rule.decay is not None else dataclasses.replace(rule, decay=weight_decay)


def _rule(body: Body, arguments: Mapping[str, Any]) -> Rule:
    made = body(**arguments)
    if isinstance(made, Rule):
        return made
    if isinstance(made, Transformation) and len(made.pipeline.parts) == 1:
        return made.rule
    raise TypeError(f"{body.__name__}: an optimizer must return a primitive or what leafwise makes, got {made!r}.")


def _rated(rule: Rule) -> Rule:
    """A rule that emits the step to add: `-rate * direction` unless it has used the rate itself."""
    if rule.emits_step:
        return rule

    def update(g: Any, s: Any, w: Any, t: Any) -> tuple[Any, Any]:
        direction, s = rule.update(g, s, w, t)
        return -t.learning_rate * direction, s

    return dataclasses.replace(rule, update=update, emits_step=True)


def _check_together(owner: str, arguments: Mapping[str, Any], dialect: Dialect) -> None:
    """Arguments that exclude each other, or that act only beside another."""
    clips = [name for name in ("clipnorm", "clipvalue", "global_clipnorm") if arguments[name] is not None]
    if len(clips) > 1 and not dialect.cumulative_clips:
        raise ValueError(f"{owner}: only one of clipnorm, clipvalue and global_clipnorm can be set, got {clips}.")
    if {"clipnorm", "global_clipnorm"} <= {*clips}:
        raise ValueError(f"{owner}: clipnorm and global_clipnorm cannot both be set.")
    if arguments["decay"] is not None and "learning_rate" not in arguments:
        raise ValueError(f"{owner}: decay acts on a learning rate, and there is none.")
    if arguments["ema_overwrite_frequency"] is not None and not arguments["use_ema"]:
        raise ValueError(f"{owner}: ema_overwrite_frequency acts only with use_ema=True.")
