"""A state as a flat dict of arrays, and in one file."""

import pathlib
from collections import Counter
from collections.abc import Mapping
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_suite._recipe.check import nearest, show
from jaxopt_suite._trees import Tree
from jaxopt_suite.state import _hdf5, _safetensors
from jaxopt_suite.state._codec import is_blocks
from jaxopt_suite.state._flat import ABOUT, about, arrays_of, is_flat, read_flat
from jaxopt_suite.state._migrate import Initializes, first_state, moved
from jaxopt_suite.state._variables import listed, ours

_FORMATS = {".safetensors": _safetensors, ".h5": _hdf5, ".hdf5": _hdf5}


def to_dict(state: Tree, tx: Initializes, params: Tree) -> dict[str, Any]:
    """All arrays of a state by name, and under `"about"` what they are: a dict of arrays, for any file.

    The names are those of `variables`: `count`, `learning_rate` (`last_learning_rate` where a schedule rules it),
    `"<slot>/<path>"`; those of a member begin with its place, such as `"rest/m/dense/kernel"`. `"about"` holds the
    bytes of a JSON text: the recipe, the versions, and of each array its dtype, its shape, its slot and its
    parameter. So the file can be read without this library: `json.loads(arrays["about"].tobytes())`.

    Raises:
      ValueError: if the state is not one that `tx` makes for these parameters, or two arrays have one name.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx, params = jos.lion(0.1), {"w": jnp.zeros(3)}
    >>> for name, array in jos.state.to_dict(tx.init(params), tx, params).items():
    ...     print(name, array.dtype)
    count int32
    learning_rate float32
    m/w float32
    about uint8
    """
    first = jax.eval_shape(lambda params: first_state("to_dict", tx, params), params)
    variables, fresh = list(listed(state, ours)), list(listed(first, ours))
    arrays = [pair for v in variables for pair in arrays_of(v).items()]
    counts = Counter(name for name, _ in arrays)
    name = next((name for name in counts if counts[name] > 1 or name == ABOUT), None)
    if name is not None:
        raise ValueError(f"to_dict: two variables are called {name!r}: rename a parameter.")
    have, want = ({v.name: tuple(v.value.shape) for v in vs} for vs in (variables, fresh))
    for name in [*want, *have]:
        if have.get(name) != want.get(name):
            came = f"has shape {have[name]}" if name in have else "is not there"
            must = f"must have {want[name]}" if name in want else "must not be there"
            raise ValueError(
                f"to_dict: the state is not of this optimizer and these parameters: {name!r} {came}, {must}."
            )
    return {**dict(arrays), ABOUT: about(tx, variables)}


def from_dict(flat: Mapping[str, Any], tx: Initializes, params: Tree) -> Tree:
    """The state that `to_dict` made a dict of, for the same optimizer and the same parameters, to the bit.

    `migrate` takes the dict too, and moves it into another optimizer or other parameters.

    Raises:
      TypeError, ValueError: naming what is missing, is too much, or has another shape or dtype.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx, params = jos.adam(0.1), {"w": jnp.zeros(2)}
    >>> flat = jos.state.to_dict(tx.init(params), tx, params)
    >>> jos.state.slot_names(jos.state.from_dict(flat, tx, params))
    ['m', 'v']
    >>> jos.state.from_dict(flat, jos.sgd(0.1), params)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: from_dict: ...
    """
    if not is_flat(flat) or ABOUT not in flat:
        raise TypeError(f"from_dict: expected the dict that to_dict made, got {show(flat)}.")
    old, fresh = read_flat("from_dict", flat), first_state("from_dict", tx, params)
    new = list(listed(fresh, ours))
    names, values = [v.name for v in new], {v.name: v.value for v in old}
    for v in new:
        if v.name not in values:
            near = nearest(v.name, [*values])
            raise ValueError(f"from_dict: {v.name!r} is not in the dict.{near} migrate gives a state all the same.")
        have, want = _stored(values[v.name]), _stored(v.value)
        if have != want:
            raise TypeError(f"from_dict: {v.name!r} is {have}, in the state it is {want}.")
    state, report = moved("from_dict", old, fresh, tx, params, rename=None, strict=True)
    if {*report.kept} != {*names}:
        wrong = next(name for name in names if name not in report.kept)
        raise ValueError(f"from_dict: {wrong!r} does not fit this optimizer: see what migrate reports.")
    more = next((name for name in values if name not in names), None)
    if more is not None:
        raise ValueError(f"from_dict: {more!r} has no place in this optimizer's state: migrate drops it, and says so.")
    return state


def _stored(x: Any) -> str:
    """How an array is stored."""
    return f"{x.codes.dtype} codes in {x.scale.shape[-1]} blocks" if is_blocks(x) else str(x.dtype)


def save_dict(file: str | PathLike, flat: Mapping[str, Any], overwrite: bool = True) -> None:
    """Writes a dict of arrays to one file, `.safetensors` or `.h5` (`.hdf5`), whole or not at all.

    The files are those of the libraries safetensors and h5py (an extra of the same name each).

    Raises:
      FileExistsError: the file exists and `overwrite` is False.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> import tempfile
    >>> tx, params = jos.adam(0.1), {"w": jnp.zeros(2)}
    >>> flat = jos.state.to_dict(tx.init(params), tx, params)
    >>> jos.state.save_dict(file := tempfile.mkdtemp() + "/state.safetensors", flat)
    >>> jos.state.save_dict(file, flat, overwrite=False)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileExistsError: ...
    """
    if not is_flat(flat):
        raise TypeError(f"save_dict: expected the dict that to_dict made, got {show(flat)}.")
    for name, array in flat.items():
        if not jnp.issubdtype(array.dtype, np.number):
            raise TypeError(f"save_dict: {name!r} must be an array of numbers, got one of {array.dtype}.")
    _format("save_dict", file).write("save_dict", file, flat, overwrite)


def load_dict(file: str | PathLike) -> dict[str, np.ndarray]:
    """The arrays of a file that `save_dict` or `save_weights` wrote, for `from_dict` or `migrate`.

    Nothing of the file is run. What it says of shapes and sizes is held against what it holds, before it is read.

    Raises:
      FileNotFoundError, ValueError: a sentence that says what is wrong with the file.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> import tempfile
    >>> tx, params = jos.adam(0.1), {"w": jnp.zeros(2)}
    >>> flat = jos.state.to_dict(tx.init(params), tx, params)
    >>> jos.state.save_dict(file := tempfile.mkdtemp() + "/state.h5", flat)
    >>> jos.state.load_dict(file)["m/w"]
    array([0., 0.], dtype=float32)
    """
    return _format("load_dict", file).read("load_dict", file)


def _format(owner: str, file: str | PathLike) -> Any:
    suffix = pathlib.Path(file).suffix
    if suffix not in _FORMATS:
        raise ValueError(f"{owner}: the file must end with one of {[*_FORMATS]}, got {show(str(file))}.")
    return _FORMATS[suffix]
