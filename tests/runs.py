"""The recorded runs that are imported in their middle."""

import dataclasses
import functools
import json
import sys
from typing import Any

import jax
import numpy as np
from programs import quick
from recorded import FOLDER, error, nested

sys.path.insert(0, str(FOLDER))
import inputs

RUNS = FOLDER / "runs"
BEFORE, AFTER = 50, (60, 75, 100)
PATHS = [*inputs.SHAPES]


@functools.cache
def library(name):
    """The arrays by name, and what is said of them."""
    with np.load(RUNS / f"{name}.npz") as file:
        data, meta = file["data"], json.loads(str(file["meta"]))
    arrays, start = {}, 0
    for key, (dtype, *shape) in meta["arrays"].items():
        size = int(np.prod(shape))
        arrays[key] = data[start : start + size].reshape(shape).astype(dtype)
        start += size
    return arrays, meta


@dataclasses.dataclass(frozen=True)
class Run:
    """One recorded run."""

    arrays: dict[str, np.ndarray]
    case: dict[str, Any]
    slug: str

    def params(self, at):
        return nested({path: self.arrays[f"{self.slug}/{at}/{path}"] for path in PATHS})

    @property
    def kept(self):
        """What the library keeps, by name."""
        start = f"{self.slug}/state/"
        return {key.removeprefix(start): x for key, x in self.arrays.items() if key.startswith(start)}


@functools.cache
def run(name, slug):
    arrays, meta = library(name)
    return Run(arrays, meta["cases"][slug], slug)


@functools.cache
def gradients():
    """Those of the steps after the import."""
    made = inputs.gradients("plain", 0, AFTER[-1])
    return nested({path: made[path][BEFORE:] for path in PATHS})


def continued(tx, state, params, grads):
    """The parameters after each of the recorded later steps, in one program."""

    def step(carry, g):
        params, state = tx.apply_gradients(g, carry[1], carry[0])
        return (params, state), params

    @quick
    def all_steps(params, state):
        return jax.lax.scan(step, (params, state), grads)[1]

    taken = all_steps(params, state)
    return {at: jax.tree.map(lambda x, at=at: x[at - BEFORE - 1], taken) for at in AFTER}


def worst(got, run):
    """The largest error at the steps that are recorded."""
    return measure(got, {at: run.params(at) for at in AFTER})


def measure(got, want):
    """The measure of the table, of some steps."""
    columns = [jax.tree.map(lambda *xs: np.stack(xs), *(tree[at] for at in AFTER)) for tree in (got, want)]
    return max(jax.tree.leaves(jax.tree.map(error, *columns)))
