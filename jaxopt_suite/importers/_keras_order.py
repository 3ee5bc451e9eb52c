"""The order in which Keras lists the variables of an optimizer."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxopt_suite import _trees as trees
from jaxopt_suite._transformation import Optimizer
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._find import find
from jaxopt_suite.state._variables import Variable, listed, ours
from jaxopt_suite.state._weights import ordered

# what TF Addons alone has: always in the order of legacy optimizers
_ADDONS = {
    "NovoGrad",
    "RectifiedAdam",
    "AdaBelief",
    "Yogi",
    "LazyAdam",
    "ProximalAdagrad",
    "ConditionalGradient",
    "COCOB",
    "SGDW",
}


def listed_slots(tx: Optimizer, params: Tree, library: str) -> Iterator[Variable | None]:
    """The slots that one generation of Keras lists, in its order; None for what it keeps and never reads."""
    fresh, kind = tx.init(params), tx.recipe.class_name
    found = find("keras", fresh, None)
    known = {(v.slot, v.path): v for v in listed(fresh, ours) if v.stage is not None}
    ndims = {path: np.ndim(w) for path, w in zip(trees.paths(params), trees.leaves(params), strict=True)}
    order = ordered(found, "legacy" if is_legacy(tx) else "keras")
    for name, i, _ in order:
        v = known[name, trees.paths(found.slots[name])[i]]
        is_lone = v.value.ndim == 0 < ndims.get(v.path, 0)  # ours, in the place of what a rule has not of a shape
        if name in ("micro_step", "gradient_norm") or (is_lone and kind == "Muon"):
            continue
        if library == "tf.keras" and (name == "product" or (is_lone and kind == "Adafactor" and name in ("r", "c"))):
            continue
        yield None if is_lone and kind == "Adafactor" else v
    if kind == "ConditionalGradient" or (library == "tf.keras" and kind == "SGD" and not order and not is_legacy(tx)):
        yield from [None] * len(ndims)  # slots that it never reads


def is_legacy(tx: Optimizer) -> bool:
    """Whether Keras lists its variables slot by slot."""
    given = tx.recipe.arguments
    inner = given.get("optimizer")
    if inner is not None:
        return is_legacy(inner)
    return given.get("dialect") == "legacy" or tx.recipe.class_name in _ADDONS


def in_order(patterns: Sequence[str], config: Any) -> list[int]:
    """The groups in the order of the map, of which a config says it; `by_path` has exact paths first."""
    try:
        keys = [*config["config"]["optimizer_map"]["config"]["optimizer_map"]]
    except (TypeError, KeyError):
        return [*range(len(patterns))]
    order = {f"^(?:{key})$": i for i, key in enumerate(keys)}
    return sorted(range(len(patterns)), key=lambda i: order.get(patterns[i], len(order)))
