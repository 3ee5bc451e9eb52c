"""A file that is written whole or not at all."""

import contextlib
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def replaced(owner: str, file: Any, overwrite: bool) -> Iterator[pathlib.Path]:
    """A temporary file beside `file`, which then takes its place, with the mode that `open` would give."""
    target = pathlib.Path(file)
    if target.exists() and not overwrite:
        raise FileExistsError(f"{owner}: {str(target)!r} exists and overwrite is False.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{owner}: there is no folder {str(target.parent)!r}.")
    temporary = target.parent / f".{target.name[:200]}.{secrets.token_hex(8)}"
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        if target.exists():
            shutil.copymode(target, temporary)
        yield temporary
        os.replace(temporary, target)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
