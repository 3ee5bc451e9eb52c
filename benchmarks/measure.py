"""Measuring side by side: every round takes each contender once, and ratios are of one round."""

import gc
import os
import platform
import random
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

PAUSE = 0.02  # seconds


def rounds(
    run: Mapping[str, Callable[[], None]], at_most: int, seconds: float, at_least: int = 3
) -> dict[str, list[float]]:
    """Seconds of each contender in each round, as many rounds as fit into `seconds`.

    The order is drawn anew in each round, and there is a pause before each contender: the threads of the one
    before (torch's, above all) spin for a while after their work.
    """
    names, taken, draw = list(run), {name: [] for name in run}, random.Random(0)
    gc.collect()
    gc.disable()
    begin = time.perf_counter()
    for index in range(at_most):
        if index >= at_least and time.perf_counter() - begin > seconds:
            break
        for name in draw.sample(names, len(names)):
            time.sleep(PAUSE)
            start = time.perf_counter()
            run[name]()
            taken[name].append(time.perf_counter() - start)
    gc.enable()
    return taken


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    return [float(q) for q in np.quantile(np.asarray(values), (0.25, 0.5, 0.75))]


def against(taken: Mapping[str, Sequence[float]], ours: str = "ours") -> dict[str, list[float]]:
    """Quartiles of `ours / theirs`, round by round: below 1 where ours is faster."""
    mine = np.asarray(taken[ours])
    return {name: quartiles(mine / np.asarray(theirs)) for name, theirs in taken.items() if name != ours}


def machine() -> dict[str, Any]:
    """What the numbers depend on: processor, cores, load, versions."""
    versions = {}
    for package in ("jax", "jaxlib", "optax", "keras", "torch", "numpy", "libtpu", "jax-cuda12-plugin"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def described(where: Mapping[str, Any]) -> str:
    """The machine in one line of Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    return (
        f"{where['processor']}, {where['cores']} cores, load {where['load']} at the start, "
        f"Python {where['python']}, {versions}; {where['date']}."
    )
