"""The recorded trajectories, and their arguments in our words."""

import dataclasses
import functools
import json
import pathlib
from typing import Any

import numpy as np

import jaxopt_suite as jos

FOLDER = pathlib.Path(__file__).parent / "references"


@functools.cache
def library(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files if key != "meta"}
        return arrays, json.loads(str(file["meta"]))


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """`{"dense/kernel": x}` as `{"dense": {"kernel": x}}`."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


@dataclasses.dataclass(frozen=True)
class Recording:
    """One case: parameters, 30 steps of gradients, and the parameters (and averages) after each step."""

    case: dict[str, Any]
    params: dict[str, Any]
    grads: Any
    trajectory: dict[str, Any]
    average: dict[str, Any]

    def arguments(self) -> dict[str, Any]:
        """The arguments that the real library was given, schedules as ours."""
        given = {name: _translated(value) for name, value in self.case["arguments"].items()}
        extras = self.case["extras"]
        if "exclude_var_names" in extras:
            given["exclude_from_weight_decay"] = extras["exclude_var_names"]
        if "inner" in extras:
            given["optimizer"] = _made(extras["inner"]["class"], extras["inner"]["arguments"], dialect="legacy")
        return given


def _translated(value: Any) -> Any:
    if isinstance(value, dict):
        return _made(value["schedule"], value["arguments"])
    return value


def _made(class_name: str, arguments: dict[str, Any], **further: Any) -> Any:
    return jos.deserialize({"class_name": class_name, "config": {**arguments, **further}})


@functools.cache
def recording(reference: str) -> Recording:
    """`"keras3/adam"`: the case `adam` of `keras3.npz`."""
    name, slug = reference.split("/")
    arrays, meta = library(name)
    case = meta["cases"][slug]
    paths = case["extras"].get("paths", meta["paths"])
    seed, kind = case["seed"], case["kind"]
    factor = np.float32(case["extras"].get("gradient_factor", 1.0))
    return Recording(
        case,
        nested({p: arrays[f"inputs/{seed}/params/{p}"] for p in paths}),
        nested({p: arrays[f"inputs/{seed}/{kind}/{p}"] * factor for p in paths}),
        nested({p: arrays[f"{slug}/{p}"] for p in paths}),
        nested({p: arrays[f"{slug}/average/{p}"] for p in paths if f"{slug}/average/{p}" in arrays}),
    )


@functools.cache
def sparse_recording(slug: str) -> Recording:
    """A case of `sparse.npz`: its gradients are a list of trees, one for each step."""
    arrays, meta = library("sparse")
    case = meta["cases"][slug]
    given = f"inputs/{case['kind']}"
    params = _below(f"{given}/params/", arrays)
    trajectory = {path: arrays[f"{slug}/{path}"] for path in params}
    steps = [
        {path: _gradient(arrays, f"{given}/{i}/{path}", w.shape) for path, w in params.items()}
        for i in range(len(trajectory["table"]))
    ]
    return Recording(case, params, steps, trajectory, _below(f"{slug}/average/", arrays))


def _below(place: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(place): x for name, x in arrays.items() if name.startswith(place)}


def _gradient(arrays: dict[str, np.ndarray], place: str, shape: tuple[int, ...]) -> Any:
    values, indices = arrays[f"{place}/values"], arrays.get(f"{place}/indices")
    return values if indices is None else jos.sparse.IndexedSlices(values, indices, shape)


def error(a: Any, b: Any) -> float:
    """`max |a - b| / (1e-3 + the largest |b| so far)` over all steps of one array."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    steps = b.reshape(len(b), -1)
    largest = np.maximum.accumulate(np.abs(steps).max(axis=1))
    return float((np.abs(a - b).reshape(len(b), -1).max(axis=1) / (1e-3 + largest)).max())


EXAMPLE = f"keras3/{next(iter(library('keras3')[1]['cases']))}"  # one of them, for its tree alone
