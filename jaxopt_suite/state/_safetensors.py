"""Named arrays in a file of safetensors."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxopt_suite.state._files import replaced


def write(owner: str, file: Any, arrays: Mapping[str, Any], overwrite: bool) -> None:
    packed = {name: np.array(array, order="C") for name, array in arrays.items()}
    numpy = _library(owner)
    with replaced(owner, file, overwrite) as temporary:
        numpy.save_file(packed, temporary)


def read(owner: str, file: Any) -> dict[str, np.ndarray]:
    target, numpy = pathlib.Path(file), _library(owner)
    if not target.exists():
        raise FileNotFoundError(f"{owner}: there is no file {str(target)!r}.")
    try:
        return numpy.load_file(target)
    except Exception as error:  # its class of errors is its own, and is raised for what the file says
        raise ValueError(f"{owner}: {str(target)!r} is no readable file of safetensors: {error}.") from None


def _library(owner: str) -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError(f"{owner}: files of safetensors need it: pip install 'jaxopt-suite[safetensors]'.") from None
    return safetensors.numpy
