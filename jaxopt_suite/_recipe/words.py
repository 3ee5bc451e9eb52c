"""The words of signatures: a type says what an argument may be, and a shared name means one thing everywhere."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

import jax

from jaxopt_suite._recipe.check import AXIS, Value, Word

Schedule = Callable[[Value], Value]  # step -> value
Scalar = float | jax.Array
Number = Scalar | Schedule


def _number(must: str, test: Callable[[float], bool], kind: str = "number", fine: bool = False) -> Word:
    return Word(kind, must, test, fine=fine)


def _integer(least: int) -> Word:
    return Word("integer", f"an integer >= {least}", lambda x: x >= least)


# numbers, which may be schedules
NonNegative = Annotated[Number, _number(">= 0", lambda x: x >= 0)]
Positive = Annotated[Number, _number("> 0", lambda x: x > 0)]
NonPositive = Annotated[Number, _number("<= 0", lambda x: x <= 0)]
Negative = Annotated[Number, _number("< 0", lambda x: x < 0)]
Real = Annotated[Number, _number("of any sign", math.isfinite)]
Fraction = Annotated[Number, _number("in [0, 1]", lambda x: 0 <= x <= 1, fine=True)]
AtLeastOne = Annotated[Number, _number(">= 1", lambda x: x >= 1)]
AtLeastFour = Annotated[Number, _number(">= 4", lambda x: x >= 4)]
Beta = Annotated[Number, _number("in [0, 1)", lambda x: 0 <= x < 1, fine=True)]
Rate = NonNegative

# what shapes the program
PositiveConstant = Annotated[Scalar, _number("> 0", lambda x: x > 0, kind="constant")]
AboveOneConstant = Annotated[Scalar, _number("> 1", lambda x: x > 1, kind="constant")]
BetaConstant = Annotated[Scalar, _number("in [0, 1)", lambda x: 0 <= x < 1, kind="constant", fine=True)]
Count = Annotated[int, _integer(0)]
Period = Annotated[int, _integer(1)]
Several = Annotated[int, _integer(2)]

Axis = Annotated[str | Sequence[str], AXIS]
AxisDtype = Literal["bfloat16", "float16", "float32"]
Specs = Annotated[
    Mapping[str, Sequence[str | Sequence[str] | None]] | Sequence[tuple[str, Sequence[str | Sequence[str] | None]]],
    Word("specs", "a dict from regular expressions to an axis name, a tuple of them or None for each dimension"),
]
Patterns = Annotated[str | Sequence[str], Word("patterns", "a regular expression or a list of them")]
Floats = Annotated[Sequence[float], Word("numbers", "a list of finite numbers")]
Function = Annotated[Callable[[Value], Value], Word("function", "a function of one number")]
PowerOfTwo = Annotated[int, Word("integer", "a power of two >= 2", lambda x: x >= 2 and x & (x - 1) == 0)]
Integers = Annotated[Sequence[int], Word("integers", "a list of integers")]
OneSchedule = Annotated[Number, Word("schedule", "a schedule or a number")]
Schedules = Annotated[Sequence[Number], Word("schedules", "a list of schedules and numbers")]
Text = Annotated[str, Word("text", "a string of at most 1000 characters", lambda x: len(x) <= 1000)]

SENTENCES: Mapping[str, str] = {
    "learning_rate": "rate of the step: a number, a scalar array, or a schedule `step -> rate`.",
    "beta_1": "decay rate of the first moment, per step.",
    "beta_2": "decay rate of the second moment, per step.",
    "rho": "decay rate of the squared gradients' average, per step.",
    "momentum": "share of the last step that is kept.",
    "nesterov": "look ahead along the momentum (Nesterov).",
    "epsilon": "small number that keeps the denominator from zero, in the gradient's unit.",
    "epsilon_in_sqrt": "add epsilon to the mean square, under the root, and not to the root.",
    "amsgrad": "divide by the largest second moment seen so far.",
    "initial_accumulator_value": "value the accumulator starts from.",
    "l1_regularization_strength": "weight of the absolute values in the penalty.",
    "l2_regularization_strength": "weight of the squares in the penalty.",
    "weight_decay": "decoupled decay of the weights, times the rate (not if legacy).",
    "decoupled_weight_decay": "decay the weights themselves, not by a penalty in the gradient; None: as the dialect.",
    "exclude_from_weight_decay": "regexes (`re.search` on a parameter's path) that are not decayed.",
    "clipnorm": "largest norm of each parameter's gradient.",
    "clipvalue": "largest absolute value of a gradient's entry.",
    "global_clipnorm": "largest norm of all gradients together.",
    "ema_momentum": "share of the old average that is kept each step.",
    "ema_overwrite_frequency": "overwrite the parameters by their average every so many steps.",
    "loss_scale_factor": "factor the loss was multiplied by; gradients are divided by it.",
    "gradient_accumulation_steps": "average so many gradients into one step.",
    "axis_name": "aggregate over it what is not summed yet (the types of shard_map tell, those of pmap do not).",
    "axis_op": "how the gradients of the axis are aggregated; a sum is TensorFlow's habit.",
    "axis_dtype": "dtype that gradients are sent in over the axis; None is their own.",
    "shard_axes": "inside shard_map, over which mapped axes the dimensions of a parameter are split: by regexes of "
    "paths, as in a PartitionSpec. None: the types say it (those of pmap and check_vma=False do not).",
    "warmup_steps": "steps of the warm-up.",
    "optimizer": "the optimizer that is wrapped.",
    "name": "name to show.",
}


def scalar(value: Number) -> Scalar:
    """A hyperparameter inside a rule, where schedules are resolved: a number or a scalar array.

    Raises:
      TypeError: if a schedule comes, because a rule was built outside of a declared primitive or optimizer.
    """
    if callable(value):
        raise TypeError(f"a rule takes numbers and scalars, got the schedule {value!r}.")
    return value
