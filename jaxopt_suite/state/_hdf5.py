"""Named arrays in an HDF5 file, read with every fault named."""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxopt_suite.state._files import replaced

FORMAT = "jaxopt_suite weights"


def write(owner: str, file: Any, arrays: Mapping[str, Any], overwrite: bool) -> None:
    h5py = library(owner)
    with replaced(owner, file, overwrite) as temporary, h5py.File(temporary, "w") as h5:
        h5.attrs["format"] = FORMAT
        for i, (name, array) in enumerate(arrays.items()):
            _write_array(h5, str(i), name, np.asarray(array))


def _write_array(h5: Any, key: str, name: str, array: np.ndarray) -> None:
    """HDF5 does not know bfloat16 and its kin: their bytes go in, with the dtype's name beside them."""
    known = array.dtype.kind in "fiu" and array.dtype.isbuiltin == 1
    data = h5.create_dataset(key, data=array if known else array.view(f"u{array.dtype.itemsize}"))
    data.attrs["name"] = name
    data.attrs["dtype"] = array.dtype.name


def read(owner: str, file: Any) -> dict[str, np.ndarray]:
    target = pathlib.Path(file)
    with opened(owner, target) as h5:
        if h5.attrs.get("format") != FORMAT:
            raise ValueError(f"{owner}: {str(target)!r} was not written by save_weights or save_dict.")
        found = dict(_arrays(owner, h5))
        if len(found) < len(h5):
            raise ValueError(f"{owner}: two arrays in {str(target)!r} have the same name.")
        return found


def _arrays(owner: str, h5: Any) -> Iterator[tuple[str, np.ndarray]]:
    for i in range(len(h5)):
        data = dataset(owner, h5, str(i))
        dtype = jnp.dtype(data.attrs["dtype"])
        if dtype.itemsize != data.dtype.itemsize or not jnp.issubdtype(dtype, jnp.number):
            raise ValueError(f"{owner}: {data.name!r} says that it is {dtype}, the file holds {data.dtype}.")
        yield str(data.attrs["name"]), data[...].view(dtype)


@contextlib.contextmanager
def opened(owner: str, file: pathlib.Path) -> Iterator[Any]:
    """An HDF5 file to read; what is wrong with it is one sentence."""
    h5py = library(owner)
    if not file.exists():
        raise FileNotFoundError(f"{owner}: there is no file {str(file)!r}.")
    try:
        with h5py.File(file, "r") as h5:
            yield h5
    except (OSError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"{owner}: {str(file)!r} is no readable HDF5 file: {error}.") from None


def dataset(owner: str, group: Any, key: str) -> Any:
    """One array of numbers in a file, of no more bytes than the file holds of it: nothing is read yet."""
    h5py = library(owner)
    data = _inside(h5py, group, key)
    if not isinstance(data, h5py.Dataset) or data.dtype.kind not in "fiub" or data.is_virtual or data.external:
        raise ValueError(f"{owner}: {f'{group.name}/{key}'!r} must be an array of numbers in the file itself.")
    if data.id.get_storage_size() < data.nbytes or data.nbytes > group.file.id.get_filesize():
        raise ValueError(f"{owner}: {data.name!r} says that it has {data.nbytes} bytes, which the file does not hold.")
    return data


def _inside(h5py: Any, group: Any, key: str) -> Any:
    """What stands in the file itself; a link may lead out of it at any place."""
    for word in key.split("/"):
        if not isinstance(group, h5py.Group) or not isinstance(group.get(word, getlink=True), h5py.HardLink):
            return None
        group = group[word]
    return group


def library(owner: str) -> Any:
    try:
        import h5py
    except ImportError:
        raise ImportError(f"{owner}: HDF5 files need h5py: pip install 'jaxopt-suite[hdf5]'.") from None
    return h5py
