"""Where our states are in a tree, and which slots they hold: what `jos.state` is made of."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxopt_suite import _trees as trees
from jaxopt_suite._arguments import VOCABULARY
from jaxopt_suite._check import check, nearest
from jaxopt_suite._pipeline import HeldRate, OptimizerState


def has_rate(ours: OptimizerState) -> bool:
    return ours.learning_rate is not None


def find(
    owner: str, state: Any, within: str | None, which: Callable[[OptimizerState], bool] = has_rate
) -> OptimizerState:
    """Our state inside `state`, by default an optimizer's; any other counts only where there is none."""
    found = {
        trees.path_name(path): node
        for path, node in jax.tree_util.tree_flatten_with_path(state, is_leaf=_is_ours)[0]
        if _is_ours(node)
    }
    if not found:
        raise ValueError(f"{owner}: there is no state of a jaxopt_suite optimizer in a {type(state).__name__}.")
    if within is not None:
        if within not in found:
            raise ValueError(f"{owner}: no state of ours at {within!r}; there are {sorted(found)}.")
        return found[within]
    chosen = {place: node for place, node in found.items() if which(node)} or found
    if len(chosen) > 1:
        raise ValueError(f"{owner}: several optimizers are in this state; name one with within=, of {sorted(chosen)}.")
    return next(iter(chosen.values()))


def _is_ours(node: Any) -> bool:
    return isinstance(node, OptimizerState)


def scalar(leaf: Any) -> Any:
    """A scalar of the state; nnx keeps it in a Variable."""
    return jax.tree.leaves(leaf)[0]


def replace(state: Any, old: OptimizerState, new: OptimizerState) -> Any:
    return jax.tree.map(lambda node: new if node is old else node, state, is_leaf=_is_ours)


def _places(ours: OptimizerState) -> list[tuple[str, int, str]]:
    """`(unique name, stage, field)` of every slot; a name that two stages use is numbered from the second on."""
    places: list[tuple[str, int, str]] = []
    for i, stage in enumerate(ours.stages):
        for field in stage._fields if stage is not None else ():
            if getattr(stage, field) is not None:
                used = sum(field == other for _, _, other in places)
                places.append((f"{field}_{used}" if used else field, i, field))
    return places


def fields(ours: OptimizerState) -> dict[str, Any]:
    """The tree of each slot, by the slot's name."""
    return {name: getattr(ours.stages[i], field) for name, i, field in _places(ours)}


def with_fields(ours: OptimizerState, changed: Mapping[str, Any]) -> OptimizerState:
    stages = list(ours.stages)
    for name, i, field in _places(ours):
        if name in changed:
            stages[i] = stages[i]._replace(**{field: changed[name]})
    return ours._replace(stages=tuple(stages))


def labels(name: str, tree: Any) -> list[str]:
    """The names of a slot's variables."""
    return [f"{name}/{path}" if path else name for path in trees.paths(tree)]


def named(ours: OptimizerState) -> Iterable[tuple[str, Any]]:
    """All variables and their names."""
    yield "count", scalar(ours.count)
    if isinstance(ours.learning_rate, HeldRate):
        yield "learning_rate", scalar(ours.learning_rate.value)
    for name, tree in fields(ours).items():
        for label, array in zip(labels(name, tree), trees.leaves(tree), strict=True):
            if array is not None:
                yield label, array


def ordered(ours: OptimizerState, dialect: str) -> list[tuple[str, int, Any]]:
    """`(slot, index, array)` in Keras's order: averages, accumulators, then the rule's groups of slots.

    A stage's NamedTuple declares its order: `weights` (groups follow each other, the slots of one group alternate
    by parameter), `legacy_weights` where that of TF <= 2.10 is not slot by slot, `weights_rank` of a stage.
    """
    check("get_weights", "dialect", dialect, VOCABULARY["dialect"])
    held, order = fields(ours), []
    for i in sorted(range(len(ours.stages)), key=lambda i: getattr(ours.stages[i], "weights_rank", 2)):
        names = {field: name for name, stage, field in _places(ours) if stage == i}
        for group in _groups(ours.stages[i], names, dialect):
            columns = [(name, trees.leaves(held[name])) for name in group]
            for row in range(max(len(column) for _, column in columns)):
                order += [(name, row, c[row]) for name, c in columns if row < len(c) and c[row] is not None]
    return order


def _groups(stage: Any, names: Mapping[str, str], dialect: str) -> list[list[str]]:
    if dialect == "legacy":
        groups = getattr(stage, "legacy_weights", tuple((field,) for field in names))
    else:
        groups = getattr(stage, "weights", (tuple(names),))
    present = [[names[field] for field in group if field in names] for group in groups]
    return [group for group in present if group]


def slot(owner: str, ours: OptimizerState, name: str) -> Any:
    held = fields(ours)
    if name not in held:
        raise ValueError(f"{owner}: there is no slot {name!r}; the slots are {list(held)}.")
    return held[name]


def index(owner: str, tree: Any, path: str) -> int:
    paths = trees.paths(tree)
    if path not in paths:
        raise ValueError(f"{owner}: there is no parameter at {path!r}.{nearest(path, paths)}")
    return paths.index(path)


def fitting(owner: str, name: str, value: Any, old: Any) -> Any:
    """`value` as an array like `old`, or a sentence."""
    if jnp.shape(value) != old.shape:
        raise ValueError(f"{owner}: {name!r} must have shape {old.shape}, got {jnp.shape(value)}.")
    array = jnp.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.floating) != jnp.issubdtype(old.dtype, jnp.floating) and name != "count":
        raise TypeError(f"{owner}: {name!r} must be {old.dtype}, got {array.dtype}.")
    array = array.astype(old.dtype)
    concrete = isinstance(old, jax.Array) and not isinstance(old, Tracer)
    return jax.device_put(array, old.sharding) if concrete else array
