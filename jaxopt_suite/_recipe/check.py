"""What an argument may be, and the sentence for one that is not.

Only Python numbers are checked for their range: the value of a traced array is not known when an optimizer is
built.
"""

import dataclasses
import difflib
import inspect
import math
import re
import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

Value: TypeAlias = Any  # what may come as an argument, or stand in a config
Config: TypeAlias = Mapping[str, Value]


@dataclasses.dataclass(frozen=True)
class Word:
    """What one argument may be.

    Attributes:
      kind: which check it gets.
      must: its range in words.
      test: its range as a test.
      optional: whether it may be None.
      fine: whether 16 bits are too coarse for it: in bfloat16, 0.999 is 1.
    """

    kind: str
    must: str
    test: Callable[[Value], bool] = lambda value: True
    optional: bool = False
    fine: bool = False

    @property
    def phrase(self) -> str:
        """The range, with its kind: `a number >= 0`."""
        return f"a number {self.must}" if self.kind in ("number", "constant") else self.must


Refuse = Callable[..., Exception]

DEPTH = 64  # levels that an argument or a config may be nested
LONGEST = 1000  # characters of a string in a config
LONGEST_PATTERN = 50_000  # of a regular expression: one may list the weights of a large model


def is_array(value: Value) -> bool:
    return isinstance(value, (jax.Array, np.ndarray))


def is_dtype(value: Value) -> bool:
    """Whether it is a dtype, or one of the types that numpy and jax.numpy have for each."""
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return True
    return callable(value) and isinstance(getattr(value, "dtype", None), np.dtype)


def plain(value: Value) -> Value:
    """Numpy's scalars as Python's: an array of numpy could be changed in place after it was checked."""
    return value.item() if isinstance(value, (np.generic, np.ndarray)) and value.shape == () else value


def _is_coarse(value: Value) -> bool:
    """Whether it is a number of 16 bits or less; its dtype is known of a traced one too."""
    if not isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return False
    return jnp.issubdtype(value.dtype, jnp.floating) and value.dtype.itemsize < 4


def is_zero(value: Value) -> bool:
    """Whether a checked argument is the number 0; an array or a schedule may turn out to be anything."""
    return isinstance(value, float) and value == 0


def takes_one_argument(function: Callable) -> bool:
    return takes_arguments(function, 1)


def takes_arguments(function: Callable, n: int) -> bool:
    try:
        inspect.signature(function).bind(*range(n))
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True


def nearest(name: str, names: Iterable[str]) -> str:
    """`" Did you mean 'x'?"`, or nothing where no name is near."""
    found = difflib.get_close_matches(name[:80], list(names), n=1, cutoff=0.5)
    return f" Did you mean {found[0]!r}?" if found else ""


class _Short(reprlib.Repr):
    """The beginning of a `repr`: a value from a config may be huge, deep, or contain itself."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxother = 4, 80
        self.maxlist = self.maxtuple = self.maxdict = 20

    def repr_str(self, x: str, level: int) -> str:
        return repr(x[:80])

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() <= 256 else f"an integer of {x.bit_length()} bits"


def show(value: Value) -> str:
    """What came, short enough for a sentence."""
    text = _Short().repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def check_keys(owner: str, what: str, mapping: Mapping[Value, object]) -> None:
    for key in mapping:
        if not isinstance(key, str):
            raise TypeError(f"{owner}: the keys of {what} must be strings, got {show(key)}.")


def check(owner: str, name: str, value: Value, word: Word) -> Value:
    """`value` in its canonical form, or a sentence that says what it must be."""
    came, value = value, plain(value)
    if value is None and word.optional:
        return None

    def refuse(kind: type[Exception], hint: str = "") -> Exception:
        must = word.phrase if kind is TypeError else word.must
        return kind(f"{owner}: {name} must be {must}, got {show(value)}.{hint}")

    if word.fine and _is_coarse(came):
        raise TypeError(
            f"{owner}: {name} must be {word.phrase} in more than 16 bits, which round 0.999 to 1, got {show(came)}. "
            "To optax.inject_hyperparams give hyperparam_dtype=jnp.float32."
        )
    value = _KINDS[word.kind](value, word, refuse)
    if isinstance(value, (int, float, str)) and not word.test(value):
        raise refuse(ValueError, nearest(value, re.findall(r"'(\w+)'", word.must)) if isinstance(value, str) else "")
    return value


def _any(value: Value, word: Word, refuse: Refuse) -> Value:
    return value


def _number(value: Value, word: Word, refuse: Refuse) -> Value:
    if is_array(value):
        if value.shape != ():
            raise refuse(ValueError, f" An array must be a scalar, this one has shape {value.shape}.")
        return value
    if callable(value) and word.kind != "constant":
        if not takes_one_argument(value):
            why = "It does not take one argument: pass"
            if takes_arguments(value, 0):
                why = "It is a callable without arguments, and JAX would freeze what it returned: pass"
            way = "a schedule `step -> value`, or set the rate with state.set_learning_rate."
            raise refuse(TypeError, f" {why} {way}")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise refuse(TypeError)
    if abs(value) > sys.float_info.max or not math.isfinite(value):
        raise refuse(ValueError, " It must be finite.")
    return float(value)


def _integer(value: Value, word: Word, refuse: Refuse) -> int:
    if is_array(value):
        raise refuse(TypeError, " It shapes the program, so it must be a Python value (see static_args).")
    if isinstance(value, bool) or not isinstance(value, int):
        raise refuse(TypeError)
    if abs(value) >= 2**31:
        raise refuse(ValueError, " It must fit into 32 bits.")
    return value


def _flag(value: Value, word: Word, refuse: Refuse) -> bool:
    if not isinstance(value, bool):
        raise refuse(TypeError)
    return value


def _text(value: Value, word: Word, refuse: Refuse) -> str:
    if not isinstance(value, str):
        raise refuse(TypeError)
    return value


def _choice(value: Value, word: Word, refuse: Refuse) -> str:
    return _text(jnp.dtype(value).name if is_dtype(value) else value, word, refuse)


def _function(value: Value, word: Word, refuse: Refuse) -> Callable:
    if not callable(value) or not takes_one_argument(value):
        raise refuse(TypeError)
    return value


def _axis(value: Value, word: Word, refuse: Refuse) -> Value:
    names = value if isinstance(value, (tuple, list)) else (value,)
    if not names or not all(isinstance(n, str) for n in names):
        raise refuse(TypeError)
    return tuple(names) if isinstance(value, list) else value


AXIS = Word("axis", "the name of a mapped axis, or a tuple of names")


def _patterns(value: Value, word: Word, refuse: Refuse) -> tuple[str, ...]:
    patterns = (value,) if isinstance(value, str) else value
    if not isinstance(patterns, (tuple, list)) or not all(isinstance(p, str) for p in patterns):
        raise refuse(TypeError)
    for pattern in patterns:
        if len(pattern) > LONGEST_PATTERN:
            raise refuse(
                ValueError, f" A regular expression has more than {LONGEST_PATTERN} characters: {len(pattern)}."
            )
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise refuse(ValueError, f" {show(pattern)} is no regular expression: {error}.") from None
    return tuple(patterns)


def _rules(value: Value, word: Word, refuse: Refuse) -> dict[str, Value]:
    """A dict by regex; pairs too, since a config keeps the order that way."""
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(pairs, (tuple, list)) or not pairs:
        raise refuse(TypeError)
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
        raise refuse(TypeError)
    _patterns([pattern for pattern, _ in pairs], word, refuse)
    if len(dict(pairs)) < len(pairs):
        raise refuse(ValueError, " The same regular expression stands in it twice.")
    return dict(pairs)


def _specs(value: Value, word: Word, refuse: Refuse) -> tuple[tuple[str, Value], ...]:
    """Pairs of a regex and a name, some names or None for each dimension."""
    return tuple((pattern, _spec(spec, refuse)) for pattern, spec in _rules(value, word, refuse).items())


def _spec(spec: Value, refuse: Refuse) -> tuple[Value, ...]:
    if not isinstance(spec, (tuple, list, PartitionSpec)):
        raise refuse(TypeError, f" For {show(spec)}, write ({show(spec)},).")
    return tuple(None if names is None else _axis(names, AXIS, refuse) for names in spec)


def _listed(value: Value, refuse: Refuse) -> list[Value]:
    values = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(values, (tuple, list)):
        raise refuse(TypeError)
    return [plain(v) for v in values]


def _numbers(value: Value, word: Word, refuse: Refuse) -> tuple[float, ...]:
    values = _listed(value, refuse)
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        raise refuse(TypeError)
    if not all(abs(v) <= sys.float_info.max for v in values):
        raise refuse(ValueError)
    return tuple(float(v) for v in values)


def _each(kind: Callable[[Value, Word, Refuse], Value]) -> Callable[[Value, Word, Refuse], Value]:
    return lambda value, word, refuse: tuple(kind(v, word, refuse) for v in _listed(value, refuse))


_KINDS: dict[str, Callable[[Value, Word, Refuse], Value]] = {
    "any": _any,
    "optimizer": _any,  # the wrapper that takes it checks it
    "number": _number,
    "schedule": _number,  # a schedule that is an argument of another, or a number that holds for all steps
    "schedules": _each(_number),
    "constant": _number,
    "integer": _integer,
    "flag": _flag,
    "choice": _choice,
    "text": _text,
    "function": _function,
    "axis": _axis,
    "patterns": _patterns,
    "rules": _rules,
    "specs": _specs,
    "numbers": _numbers,
    "integers": _each(_integer),
}
