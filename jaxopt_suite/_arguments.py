"""The vocabulary: an argument's name means one thing everywhere in the library."""

import math
from collections.abc import Callable, Iterable
from typing import Any, TypedDict

from jaxopt_suite._check import Word


def _number(must: str, test: Callable[[float], bool], says: str, *, optional: bool = False) -> Word:
    return Word("number", must, says, test, optional)


def _unit(says: str) -> Word:
    return _number("in [0, 1)", lambda x: 0 <= x < 1, says)


def _positive(says: str, *, optional: bool = False) -> Word:
    return _number("> 0", lambda x: x > 0, says, optional=optional)


def _natural(says: str, *, optional: bool = False) -> Word:
    return _number(">= 0", lambda x: x >= 0, says, optional=optional)


def _integer(least: int, says: str, *, optional: bool = False) -> Word:
    return Word("integer", f"an integer >= {least}", says, lambda x: x >= least, optional)


def _flag(says: str) -> Word:
    return Word("flag", "True or False", says)


def _choice(*values: str, says: str) -> Word:
    return Word("choice", "one of " + ", ".join(repr(v) for v in values), says, lambda x: x in values)


def _constant(says: str, *, optional: bool = False) -> Word:
    return Word("constant", "> 0", says, lambda x: x > 0, optional)


def _patterns(says: str) -> Word:
    return Word("patterns", "a regular expression or a list of them", says)


def _numbers(says: str) -> Word:
    return Word("numbers", "a list of finite numbers", says)


VOCABULARY: dict[str, Word] = {
    "learning_rate": _natural("rate of the step: a number, a scalar array, or a schedule `step -> rate`."),
    "beta_1": _unit("decay rate of the first moment, per step."),
    "beta_2": _unit("decay rate of the second moment, per step."),
    "rho": _unit("decay rate of the squared gradients' average, per step."),
    "momentum": _number("in [0, 1]", lambda x: 0 <= x <= 1, "share of the last step that is kept."),
    "nesterov": _flag("look ahead along the momentum (Nesterov)."),
    "epsilon": _natural("small number that keeps the denominator from zero, in the gradient's unit."),
    "amsgrad": _flag("divide by the largest second moment seen so far."),
    "centered": _flag("subtract the squared mean of the gradient from its mean square."),
    "grad_averaging": _flag("weigh the normalised gradient by `1 - beta_1`, as Adam does."),
    "initial_accumulator_value": _natural("value the accumulator starts from."),
    "epsilon_in_sqrt": _flag("add epsilon to the mean square, under the root, and not to the root."),
    "learning_rate_power": _number("<= 0", lambda x: x <= 0, "power of the accumulator that divides the rate."),
    "l2_shrinkage_regularization_strength": _natural("weight of the squares in a penalty on the gradient."),
    "beta": _natural("smoothing of the rate, as a further l2 penalty."),
    "beta_2_decay": _number("< 0", lambda x: x < 0, "`1 - step ** beta_2_decay` is the decay of the second moment."),
    "epsilon_1": _natural("small number that is added to the squared gradient."),
    "epsilon_2": _natural("least root mean square of the weights that a step is in proportion to."),
    "clip_threshold": _positive("largest root mean square of the normalised gradient."),
    "relative_step": _flag("let the rate be at most `1 / sqrt(step)`."),
    "adam_beta_1": _unit("`beta_1` of the parameters that Adam takes."),
    "adam_beta_2": _unit("`beta_2` of the parameters that Adam takes."),
    "adam_weight_decay": _natural("`weight_decay` of the parameters that Adam takes.", optional=True),
    "adam_lr_ratio": _natural("rate of the parameters that Adam takes, over `learning_rate`."),
    "exclude_layers": _patterns("regexes (`re.search` on a parameter's path) that Adam takes."),
    "exclude_embeddings": _flag('let Adam take the parameters that have "embedding" in their path.'),
    "muon_a": _number("of any sign", math.isfinite, "first coefficient of the iteration, of `x`."),
    "muon_b": _number("of any sign", math.isfinite, "second coefficient, of `x x^T x`."),
    "muon_c": _number("of any sign", math.isfinite, "third coefficient, of `(x x^T)^2 x`."),
    "ns_steps": _integer(0, "iterations of Newton and Schulz."),
    "rms_rate": _natural("root mean square of a full-rank step at a rate of 1; None leaves it alone.", optional=True),
    "exclude_from_layer_adaptation": _patterns("regexes (`re.search` on a path) whose steps are not scaled."),
    "weight_decay": _natural("decoupled decay of the weights, times the rate (not if legacy).", optional=True),
    "exclude_from_weight_decay": _patterns("regexes (`re.search` on a parameter's path) that are not decayed."),
    "clipnorm": _positive("largest norm of each parameter's gradient.", optional=True),
    "clipvalue": _positive("largest absolute value of a gradient's entry.", optional=True),
    "global_clipnorm": _positive("largest norm of all gradients together.", optional=True),
    "use_ema": _flag("keep an exponential moving average of the parameters."),
    "ema_momentum": _number("in [0, 1]", lambda x: 0 <= x <= 1, "share of the old average that is kept each step."),
    "ema_overwrite_frequency": _integer(
        1, "overwrite the parameters by their average every so many steps.", optional=True
    ),
    "loss_scale_factor": _constant("factor the loss was multiplied by; gradients are divided by it.", optional=True),
    "gradient_accumulation_steps": _integer(2, "average so many gradients into one step.", optional=True),
    "axis_name": Word("axis", "the name of a mapped axis, or a tuple of names", "aggregate over it.", optional=True),
    "axis_op": _choice("sum", "mean", says="how the gradients of the axis are aggregated."),
    "initial_learning_rate": _natural("rate that the schedule starts from."),
    "end_learning_rate": _natural("rate that the schedule ends with."),
    "maximal_learning_rate": _natural("highest rate of a cycle."),
    "decay_steps": _positive("steps after which the schedule has decayed once."),
    "first_decay_steps": _positive("steps of the first period."),
    "decay_rate": _natural("factor of the decay, per `decay_steps`."),
    "staircase": _flag("decay at the end of each period only."),
    "boundaries": _numbers("increasing steps: the next value holds after each of them."),
    "values": _numbers("value of each interval, one more than `boundaries`."),
    "power": _natural("exponent of the polynomial."),
    "cycle": _flag("begin again after `decay_steps`."),
    "alpha": _natural("factor in the formula above."),
    "warmup_target": _natural("rate that the warm-up rises to.", optional=True),
    "warmup_steps": _integer(0, "steps of the warm-up."),
    "t_mul": _number(">= 1", lambda x: x >= 1, "length of each period over that of the one before."),
    "m_mul": _natural("height of each period over that of the one before."),
    "step_size": _positive("steps of half a cycle."),
    "scale_fn": Word("function", "a function of one number", "factor of the height, from `scale_mode`."),
    "scale_mode": _choice("cycle", "iterations", says="whether the height depends on the cycle or on the step."),
    "gamma": _natural("factor of the height, per cycle or step."),
    "schedule_decay": _natural("speed of the momentum's rise: `0.96 ** (schedule_decay * step)`."),
    "mom_iter_max": _positive("step at which the momentum is back at half of its goal."),
    "l1_regularization_strength": _natural("weight of the absolute values in the penalty."),
    "l2_regularization_strength": _natural("weight of the squares in the penalty."),
    "sma_threshold": _number(">= 4", lambda x: x >= 4, "length of the average of squares from which on it is used."),
    "rectify": _flag("rectify the variance of the first steps, as RAdam does."),
    "total_steps": _integer(0, "steps of warm-up and decay together; 0 for neither."),
    "warmup_proportion": _number("in [0, 1]", lambda x: 0 <= x <= 1, "share of `total_steps` in which the rate rises."),
    "min_lr": _natural("rate after `total_steps`."),
    "activation": _choice("sign", "tanh", says="how the second moment follows the squared gradient."),
    "lambda_": _natural("radius of the ball that the weights stay in."),
    "ord": _choice("fro", "nuclear", says="norm of the ball: Frobenius, or nuclear (for matrices and vectors)."),
    "optimizer": Word("optimizer", "an optimizer of jaxopt_suite", "the optimizer that is wrapped."),
    "sync_period": _integer(1, "steps between two updates of the slow weights."),
    "slow_step_size": _number("in [0, 1]", lambda x: 0 <= x <= 1, "step of the slow weights towards the fast ones."),
    "average_decay": _number("in [0, 1]", lambda x: 0 <= x <= 1, "share of the old average that is kept each step."),
    "num_updates": _integer(0, "updates `n` so far: the decay is at most `(1 + n) / (10 + n)`.", optional=True),
    "start_step": _integer(0, "step to start from; until then the average is the parameter."),
    "dynamic_decay": _flag("let the decay grow with the steps `n` since the start, as `(1 + n) / (10 + n)`."),
    "start_averaging": _integer(0, "step of the first snapshot."),
    "average_period": _integer(1, "steps between two snapshots."),
    "initial_scale": _constant("factor of the loss in the first step."),
    "dynamic_growth_steps": _integer(1, "finite steps in a row after which the scale doubles."),
    "decay": _natural("divide the rate by `1 + decay * step`.", optional=True),
    "jit_compile": _flag("run a step that is called outside `jit` as one compiled program."),
    "dialect": _choice("keras", "legacy", says="whose numbers: Keras 3 and tf.keras 2.11+, or TF <= 2.10."),
    "rules": Word(
        "rules", "a dict from regular expressions to optimizers", "regexes (`re.search` on a path), in order."
    ),
    "members": Word("any", "", "optimizers, primitives and compositions of this library."),
    "arguments": Word("any", "", "arguments of the factory, by name."),
    "factory": Word("text", "a string of at most 1000 characters", "name in `optax`.", lambda x: len(x) <= 1000),
    "name": Word("text", "a string of at most 1000 characters", "name to show.", lambda x: len(x) <= 1000, True),
}


class CommonBesidesDecay(TypedDict, total=False):
    """`Common`, for an optimizer that has `weight_decay` in its own signature."""

    exclude_from_weight_decay: str | Iterable[str]
    clipnorm: Any
    clipvalue: Any
    global_clipnorm: Any
    use_ema: bool
    ema_momentum: Any
    ema_overwrite_frequency: int | None
    loss_scale_factor: float | None
    gradient_accumulation_steps: int | None
    axis_name: str | tuple[str, ...] | None
    axis_op: str
    decay: Any
    jit_compile: bool
    dialect: str
    name: str | None
    lr: Any


class Common(CommonBesidesDecay, total=False):
    """The keyword arguments that every optimizer takes besides its own."""

    weight_decay: Any


COMMON_DEFAULTS: dict[str, Any] = {
    "weight_decay": None,
    "exclude_from_weight_decay": (),
    "clipnorm": None,
    "clipvalue": None,
    "global_clipnorm": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
    "axis_name": None,
    "axis_op": "sum",
    "decay": None,
    "jit_compile": True,
    "dialect": "keras",
    "name": None,
}


def word_for(name: str, default: Any) -> Word:
    """The word of an argument; one that the library does not know is judged by the type of its default."""
    if name in VOCABULARY:
        return VOCABULARY[name]
    if isinstance(default, bool):
        return _flag("")
    if isinstance(default, int):
        return Word("integer", "an integer", "")
    if isinstance(default, float):
        return Word("number", "a finite number", "")
    return Word("any", "", "", optional=True)
