"""Named arrays in an HDF5 file: written whole or not at all, read with every fault named."""

import os
import pathlib
import secrets
import shutil
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

FORMAT = "jaxopt_suite weights"


def write(file: Any, arrays: Mapping[str, Any], overwrite: bool) -> None:
    """Writes to a temporary file beside `file`, which then takes its place, with the mode that `open` would give."""
    target = pathlib.Path(file)
    if target.exists() and not overwrite:
        raise FileExistsError(f"save_weights: {str(target)!r} exists and overwrite is False.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"save_weights: there is no folder {str(target.parent)!r}.")
    temporary = target.parent / f".{target.name[:200]}.{secrets.token_hex(8)}"
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        if target.exists():
            shutil.copymode(target, temporary)
        with _h5py("save_weights").File(temporary, "w") as h5:
            h5.attrs["format"] = FORMAT
            for i, (name, array) in enumerate(arrays.items()):
                _write_array(h5, str(i), name, np.asarray(array))
        os.replace(temporary, target)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def _write_array(h5: Any, key: str, name: str, array: np.ndarray) -> None:
    """HDF5 does not know bfloat16 and its kin: their bytes go in, with the dtype's name beside them."""
    known = array.dtype.kind in "fiu" and array.dtype.isbuiltin == 1
    data = h5.create_dataset(key, data=array if known else array.view(f"u{array.dtype.itemsize}"))
    data.attrs["name"] = name
    data.attrs["dtype"] = array.dtype.name


def read(file: Any) -> dict[str, np.ndarray]:
    target = pathlib.Path(file)
    if not target.exists():
        raise FileNotFoundError(f"load_weights: there is no file {str(target)!r}.")
    try:
        with _h5py("load_weights").File(target, "r") as h5:
            if h5.attrs.get("format") != FORMAT:
                raise ValueError(f"load_weights: {str(target)!r} was not written by save_weights.")
            found = [h5[str(i)] for i in range(len(h5))]
            return {data.attrs["name"]: data[...].view(jnp.dtype(data.attrs["dtype"])) for data in found}
    except (OSError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"load_weights: {str(target)!r} is no readable HDF5 file: {error}.") from None


def _h5py(owner: str) -> Any:
    try:
        import h5py
    except ImportError:
        raise ImportError(f"{owner}: HDF5 files need h5py: pip install 'jaxopt-suite[hdf5]'.") from None
    return h5py
