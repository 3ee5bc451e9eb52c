"""What `inject_hyperparams` holds, held against the settings of an optimizer here."""

import importlib
import inspect
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from jaxopt_suite._recipe.check import show

_OURS = {"b1": "beta_1", "b2": "beta_2", "eps": "epsilon", "decay": "rho"}  # our settings by Optax's


def other_settings(held: Sequence[tuple[str, Any]], optimizer: Any) -> Iterator[str]:
    """Sentences about hyperparameters that the state held and the optimizer has not."""
    known = [*_settings(optimizer)]
    for name, value in held:
        if isinstance(value, Tracer) or np.ndim(value):
            continue
        value = np.float32(value)
        here = [x for other, x in known if other in (name, _OURS.get(name))]
        numbers = [np.float32(x or 0) for x in here if x is None or isinstance(x, (int, float, np.ndarray, jax.Array))]
        if not any(map(callable, here)) and not any(
            np.isclose(value, x, rtol=1e-6, atol=0) for x in numbers or [np.float32(0)]
        ):
            came = f"here it is {', '.join(dict.fromkeys(map(show, here)))}" if here else "here there is none"
            yield f"{name} was {value:g}, {came}"


def _settings(optimizer: Any) -> Iterator[tuple[str, Any]]:
    """The settings of an optimizer and of all that it is made of, by name."""
    recipe = getattr(optimizer, "recipe", None)
    arguments = optimizer if recipe is None else recipe.arguments
    if recipe is not None and recipe.class_name == "FromOptax":
        yield from _defaults(arguments)
    inner = arguments.items() if isinstance(arguments, Mapping) else enumerate(arguments)
    for name, value in inner:
        if hasattr(value, "recipe") or isinstance(value, (Mapping, tuple, list)):
            yield from _settings(value)
        yield str(name), value


def _defaults(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What one of Optax's transformations takes for what `from_optax` was not given."""
    make = operator.attrgetter(str(arguments["factory"]))(importlib.import_module("optax"))
    for name, parameter in inspect.signature(make).parameters.items():
        if name not in arguments["arguments"] and parameter.default is not parameter.empty:
            yield name, parameter.default
