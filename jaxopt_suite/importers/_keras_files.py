"""What Keras's files say of an optimizer: read as data, every claim held against the file first."""

import contextlib
import io
import json
import pathlib
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxopt_suite._recipe.check import Value, show
from jaxopt_suite.state import _hdf5

_LARGEST_TEXT = 1 << 26  # bytes of a config
_INFLATED = 100  # times its bytes in the archive: more is no array, but an attack


class Kept(NamedTuple):
    """What Keras keeps of an optimizer.

    Attributes:
      arrays: its variables, in its order.
      names: theirs; None where they are not written.
      config: the optimizer's own, where it is written.
    """

    arrays: list[np.ndarray]
    names: list[str] | None
    config: Mapping[str, Value] | None

    def part(self, start: int, stop: int) -> "Kept":
        """Those of one optimizer among several."""
        return self._replace(arrays=self.arrays[start:stop], names=self.names and self.names[start:stop])


def read(file: Any) -> Kept:
    """From `.keras`, `.weights.h5` or the `.h5` of a whole model."""
    target = pathlib.Path(file)
    if target.suffix not in (".keras", ".h5", ".hdf5"):
        raise ValueError(
            f"keras: the file must end with '.keras', '.weights.h5' or '.h5', got {show(str(target))}. What "
            "tf.train.Checkpoint wrote only TensorFlow reads: give optimizer.variables, or its get_weights()."
        )
    if not target.exists():
        raise FileNotFoundError(f"keras: there is no file {str(target)!r}.")
    if target.suffix == ".keras":
        return _archive(target)
    with _hdf5.opened("keras", target) as h5:
        return _whole_model(h5) if "optimizer_weights" in h5 else _weights(h5, None)


def _archive(target: pathlib.Path) -> Kept:
    """A `.keras` file: the configuration of the model, and its weights."""
    try:
        with zipfile.ZipFile(target) as archive:
            config, weights = (_member(archive, name) for name in ("config.json", "model.weights.h5"))
    except (zipfile.BadZipFile, KeyError, EOFError, OSError, NotImplementedError) as error:
        raise ValueError(f"keras: {str(target)!r} is no readable .keras file: {error}.") from None
    compiled = _json(config[:_LARGEST_TEXT]).get("compile_config")
    found = compiled.get("optimizer") if isinstance(compiled, dict) else None
    with _hdf5_in_memory(target, weights) as h5:
        return _weights(h5, found if isinstance(found, dict) else None)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    said = archive.getinfo(name)
    if said.file_size > _INFLATED * max(said.compress_size, 1):
        raise ValueError(f"keras: {name!r} in the archive says that it has {said.file_size} bytes: it is not read.")
    return archive.read(said)


@contextlib.contextmanager
def _hdf5_in_memory(target: pathlib.Path, content: bytes) -> Iterator[Any]:
    h5py = _hdf5.library("keras")
    try:
        with h5py.File(io.BytesIO(content), "r") as h5:
            yield h5
    except (OSError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"keras: the weights in {str(target)!r} are no readable HDF5 file: {error}.") from None


def _weights(h5: Any, config: Mapping[str, Value] | None) -> Kept:
    """The variables by number, without names."""
    held = h5.get("optimizer/vars")
    if held is None:
        raise ValueError("keras: there is no optimizer in the file: it was saved without one, or not compiled.")
    return Kept([_hdf5.dataset("keras", held, str(i))[...] for i in range(len(held))], None, config)


def _whole_model(h5: Any) -> Kept:
    """A model's `.h5`: the names of the variables are an attribute, the settings a JSON text."""
    held = h5["optimizer_weights"]
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in held.attrs["weight_names"]]
    text = h5.attrs.get("training_config", "{}")
    config = _json(text if isinstance(text, bytes) else str(text).encode()).get("optimizer_config")
    arrays = [_hdf5.dataset("keras", held, name)[...] for name in names]
    return Kept(arrays, names, config if isinstance(config, dict) else None)


def _json(text: bytes) -> Mapping[str, Value]:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"keras: the config is no JSON text: {show(str(error))}.") from None
    return said if isinstance(said, dict) else {}
