"""What torch writes: files, tensors and numbers, read as data."""

import importlib
import pathlib
from os import PathLike
from typing import Any

import jax
import numpy as np

from jaxopt_suite._recipe.check import show
from jaxopt_suite.importers._imported import is_numeric


def load(file: str | PathLike) -> Any:
    if not isinstance(file, (str, PathLike)):
        raise TypeError(f"torch: expected a state_dict() or a file, got {show(file)}.")
    target = pathlib.Path(file)
    if not target.exists():
        raise FileNotFoundError(f"torch: there is no file {str(target)!r}.")
    try:
        library = importlib.import_module("torch")
    except ImportError:
        raise ImportError("torch: files of torch need it: pip install torch. A state_dict() does not.") from None
    try:
        return library.load(target, map_location="cpu", weights_only=True)
    except Exception as error:  # a file that is cut or hostile may raise anything
        raise ValueError(f"torch: {str(target)!r} is no file of plain arrays of torch: {show(str(error))}.") from None


def number(name: str, value: Any) -> Any:
    """A setting, which torch may keep as a tensor."""
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    return float(scalar(name, value))


def betas(value: Any) -> list[float]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"torch: betas must be a pair of numbers, got {show(value)}.")
    return [number("betas", beta) for beta in value]


def array(name: str, value: Any) -> np.ndarray:
    """A tensor as an array; numpy does not know all of torch's dtypes."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(value.dtype) else value
    made = value if isinstance(value, jax.Array) else np.asarray(value)
    if (not hasattr(value, "shape") and not isinstance(value, (int, float))) or not is_numeric(made.dtype):
        raise TypeError(f"torch: {name!r} must be an array of numbers, got {show(value)}.")
    return np.asarray(made)


def scalar(name: str, value: Any) -> np.ndarray:
    made = array(name, value)
    if made.size != 1:
        raise ValueError(f"torch: {name!r} must be one number, got {show(value)}.")
    return made.reshape(())
