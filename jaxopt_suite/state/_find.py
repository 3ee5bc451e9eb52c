"""Where our states are in a tree, and which slots they hold."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxopt_suite import _trees as trees
from jaxopt_suite._recipe.check import nearest
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._layout import MEMBERS, OptimizerState, group_key, slot_names


class Found:
    """One of our states inside a tree, and the way back."""

    def __init__(self, tree: Tree, place: str, state: OptimizerState):
        self.tree, self.place, self.state = tree, place, state

    def put(self, state: OptimizerState) -> Tree:
        """The tree with another state in this place."""
        return _changed(self.tree, lambda place, old: state if place == self.place else old)

    @property
    def slots(self) -> dict[str, Tree]:
        """The tree of each slot, by the slot's name."""
        return {name: getattr(self.state.stages[key], field) for name, (key, field) in self._places().items()}

    def with_slots(self, changed: Mapping[str, Tree]) -> OptimizerState:
        stages = dict(self.state.stages)
        for name, (key, field) in self._places().items():
            if name in changed:
                stages[key] = stages[key]._replace(**{field: changed[name]})
        return self.state._replace(stages=stages)

    def stage_slots(self) -> Iterator[tuple[Any, dict[str, str]]]:
        """Each stage, and the names of its slots by field."""
        places = self._places()
        for key in sorted(self.state.stages.keys() - {MEMBERS}):
            yield self.state.stages[key], {field: name for name, (at, field) in places.items() if at == key}

    def _places(self) -> dict[str, tuple[str, str]]:
        stages = {key: stage for key, stage in self.state.stages.items() if key != MEMBERS}
        names = slot_names({key: stage._fields for key, stage in stages.items()})
        return {name: (key, f) for (key, f), name in names.items() if getattr(stages[key], f) is not None}

    def named(self) -> Iterator[tuple[str, Any]]:
        """All variables and their names."""
        yield "count", scalar(self.state.count)
        if "learning_rate" in self.state.rate:
            yield "learning_rate", scalar(self.state.rate["learning_rate"])
        for name, tree in self.slots.items():
            for label, array in zip(labels(name, tree), trees.leaves(tree), strict=True):
                if array is not None:
                    yield label, array


def find(owner: str, tree: Tree, within: str | None, which: Callable[[OptimizerState], bool] | None = None) -> Found:
    """Our state inside a tree: by default that of an optimizer with a rate, any other where there is none."""
    found: dict[str, OptimizerState] = {}
    _changed(tree, lambda place, state: found.setdefault(place, state))
    if not found:
        raise ValueError(f"{owner}: there is no state of a jaxopt_suite optimizer in a {type(tree).__name__}.")
    if within is not None:
        chosen = _addressed(found, within)
        if not chosen:
            raise ValueError(f"{owner}: no state of ours at {within!r}; there are {sorted(found)}.")
    else:
        which = which or (lambda state: bool(state.rate))
        chosen = {place: state for place, state in found.items() if which(state)} or found
    if len(chosen) > 1:
        raise ValueError(f"{owner}: several optimizers are in this state; name one with within=, of {sorted(chosen)}.")
    place, state = next(iter(chosen.items()))
    return Found(tree, place, state)


def _addressed(found: Mapping[str, OptimizerState], within: str) -> dict[str, OptimizerState]:
    """The states at a place, whose beginning may be left out, or in the group of a regex."""
    if within in found:
        return {within: found[within]}
    ends = (f"/{within}", f"/{group_key(within)}")
    return {place: state for place, state in found.items() if f"/{place}".endswith(ends)}


def _changed(tree: Tree, change: Callable[[str, OptimizerState], OptimizerState], inside: str = "") -> Tree:
    """The tree with our states changed by their places; those of members are inside those of compositions."""

    def visit(path: Any, node: Any) -> Any:
        if not _is_ours(node):
            return node
        place = "/".join(filter(None, (inside, trees.path_name(path))))
        state = change(place, node)
        members = state.stages.get(MEMBERS)
        if members is None:
            return state
        return state._replace(stages={**state.stages, MEMBERS: _changed(members, change, place)})

    return jax.tree_util.tree_map_with_path(visit, tree, is_leaf=_is_ours)


def _is_ours(node: object) -> bool:
    return isinstance(node, OptimizerState)


def scalar(leaf: Any) -> jax.Array:
    """A scalar of the state; nnx keeps it in a Variable."""
    return jax.tree.leaves(leaf)[0]


def labels(name: str, tree: Tree) -> list[str]:
    """The names of a slot's variables."""
    return [f"{name}/{path}" if path else name for path in trees.paths(tree)]


def slot(owner: str, found: Found, name: str) -> Tree:
    held = found.slots
    if name not in held:
        raise ValueError(f"{owner}: there is no slot {name!r}; the slots are {list(held)}.")
    return held[name]


def index(owner: str, tree: Tree, path: str) -> int:
    paths = trees.paths(tree)
    if path not in paths:
        raise ValueError(f"{owner}: there is no parameter at {path!r}.{nearest(path, paths)}")
    return paths.index(path)


def fitting(owner: str, name: str, value: Any, old: jax.Array) -> jax.Array:
    """`value` as an array in the place of `old`, or a sentence."""
    if jnp.shape(value) != old.shape:
        raise ValueError(f"{owner}: {name!r} must have shape {old.shape}, got {jnp.shape(value)}.")
    array = jnp.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.floating) != jnp.issubdtype(old.dtype, jnp.floating) and name != "count":
        raise TypeError(f"{owner}: {name!r} must be {old.dtype}, got {array.dtype}.")
    array = array.astype(old.dtype)
    concrete = isinstance(old, jax.Array) and not isinstance(old, Tracer)
    return jax.device_put(array, old.sharding) if concrete else array
