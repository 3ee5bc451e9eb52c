"""A state as a flat dict of arrays that says itself what it is."""

import dataclasses
import json
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from jaxopt_suite._recipe.check import Value, show
from jaxopt_suite._recipe.config import serialize
from jaxopt_suite._recipe.recipe import has_recipe
from jaxopt_suite.state._codec import Blocks, is_blocks
from jaxopt_suite.state._layout import scale_of
from jaxopt_suite.state._variables import COUNT, HELD, RECORD, Stage, Variable

ABOUT = "about"
FORMAT, LAYOUT = "jaxopt_suite state", 2
_TEXTS = ("state", "slot", "parameter", "stage", "kind", "field", "dtype")


def about(tx: Any, variables: Iterable[Variable]) -> np.ndarray:
    """What a reader needs to make sense of the arrays beside it: JSON, as the bytes of its text."""
    package = sys.modules[__name__.partition(".")[0]]
    said = {
        "format": FORMAT,
        "layout": LAYOUT,
        "versions": {"jaxopt_suite": package.__version__, "jax": jax.__version__},
        "optimizer": _config(tx),
        "variables": {v.name: _described(v) for v in variables},
    }
    return np.frombuffer(json.dumps(said).encode(), np.uint8)


def _config(tx: Any) -> dict[str, Value] | None:
    """The recipe, where all of it can be written down: an array in it, or a function, cannot."""
    try:
        return serialize(tx) if has_recipe(tx) else None
    except TypeError:
        return None


def _described(v: Variable) -> dict[str, Value]:
    stage = v.stage or Stage()
    array, scale = v.value if is_blocks(v.value) else (v.value, None)
    texts = (v.place, v.slot, v.path, stage.key, stage.kind, v.field, np.dtype(array.dtype).name)
    said = {**dict(zip(_TEXTS, texts, strict=True)), "shape": list(array.shape)}
    return said if scale is None else {**said, "scale": scale_name(v)}


def scale_name(v: Variable) -> str:
    return dataclasses.replace(v, slot=scale_of(v.slot)).name


def arrays_of(v: Variable) -> dict[str, Any]:
    """The arrays of a variable by name: two, where it is coded."""
    return {v.name: v.value.codes, scale_name(v): v.value.scale} if is_blocks(v.value) else {v.name: v.value}


def is_flat(state: Any) -> bool:
    """Whether it is a dict of arrays by name."""
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        return False
    names = {key.rpartition("/")[2] for key in state}
    return bool(names & {ABOUT, COUNT}) and all(hasattr(x, "shape") and hasattr(x, "dtype") for x in state.values())


def read_flat(owner: str, flat: Mapping[str, Any]) -> list[Variable]:
    """The variables of a flat dict; of one that says nothing about itself, by their names alone."""
    if ABOUT not in flat:
        return [_by_name(name, value) for name, value in flat.items()]
    known = _read_about(owner, flat[ABOUT])
    beside = [said.get("scale") for said in known.values() if isinstance(said, dict) and "scale" in said]
    for name in dict.fromkeys([*known, *map(str, beside), *flat]):
        if name != ABOUT and (name not in flat or name not in (*known, *beside)):
            where = "arrays" if name in flat else f"list in {ABOUT!r}"
            raise ValueError(f"{owner}: {show(name)} is only among the {where}: the dict is not whole.")
    return [_variable(owner, name, known[name], flat) for name in known]


def _by_name(name: str, value: Any) -> Variable:
    if name in (COUNT, HELD, RECORD):
        return Variable(value, "", name)
    slot, _, path = name.partition("/")
    return Variable(value, "", slot, path, Stage(), slot)


def _read_about(owner: str, text: Any) -> Mapping[str, Any]:
    if getattr(text, "dtype", None) != np.uint8 or np.ndim(text) != 1:
        raise TypeError(f"{owner}: {ABOUT!r} must be the bytes of a JSON text, as to_dict makes it, got {show(text)}.")
    try:
        said = json.loads(np.asarray(text).tobytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{owner}: {ABOUT!r} is no JSON text: {show(str(error))}.") from None
    if not isinstance(said, dict) or said.get("format") != FORMAT or not isinstance(said.get("variables"), dict):
        raise ValueError(f"{owner}: {ABOUT!r} does not say the format {FORMAT!r}: to_dict did not make this.")
    if said.get("layout") != LAYOUT:
        came = show(said.get("layout"))
        raise ValueError(f"{owner}: the dict has layout {came}, this version of the library reads {LAYOUT}.")
    return said["variables"]


def _variable(owner: str, name: str, said: Any, flat: Mapping[str, Any]) -> Variable:
    value = flat[name]
    if not isinstance(said, dict) or not all(isinstance(said.get(key), str) for key in _TEXTS):
        raise ValueError(f"{owner}: what {ABOUT!r} says of {show(name)} must be a dict with {', '.join(_TEXTS)}.")
    have = [list(value.shape), np.dtype(value.dtype).name]
    if have != [said.get("shape"), said["dtype"]]:
        want = f"{show(said.get('shape'))} of {show(said['dtype'])}"
        raise ValueError(f"{owner}: {show(name)} must have shape {want}, got {have[0]} of {have[1]!r}.")
    stage = Stage(said["stage"], said["kind"]) if said["stage"] else None
    found = Variable(value, said["state"], said["slot"], said["parameter"], stage, said["field"])
    if found.name != name:
        raise ValueError(f"{owner}: {show(name)} is {show(found.name)} by what {ABOUT!r} says of it.")
    if stage is not None and not re.fullmatch(r"(_\d+)?", found.slot.removeprefix(found.field)):
        raise ValueError(f"{owner}: {show(name)} is {show(found.field)} by what {ABOUT!r} says of its field.")
    if "scale" not in said:
        return found
    scale = flat[said["scale"]]
    blocks = scale.shape[-1] if scale.shape[:-1] == value.shape[:-1] and scale.ndim and value.ndim else 0
    if value.dtype not in (np.int8, np.uint8) or not 1 <= blocks <= max(value.shape[-1], 1):
        raise ValueError(f"{owner}: {show(name)} must be codes with a scale for each block of the last axis.")
    return dataclasses.replace(found, value=Blocks(value, scale))
