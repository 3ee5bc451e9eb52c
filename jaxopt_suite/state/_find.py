"""Where our states are in a tree, and which slots they hold."""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax

from jaxopt_suite import _trees as trees
from jaxopt_suite._recipe.check import nearest
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._layout import MEMBERS, OptimizerState, opened, values, with_values
from jaxopt_suite.state._names import group_key, slot_names
from jaxopt_suite.state._variables import listed, ours


class Found:
    """One of our states inside a tree, and the way back.

    Attributes:
      tree: what it was found in.
      number: how many of our states come before it in the tree.
      place: the path to it.
      outermost: whether it is in no other state of ours.
    """

    def __init__(self, tree: Tree, number: int, place: str, outermost: bool, state: OptimizerState):
        self.tree, self.number, self.place, self.outermost, self.state = tree, number, place, outermost, state

    def put(self, state: OptimizerState) -> Tree:
        """The tree with another state in this place."""
        numbers = itertools.count()
        return _changed(self.tree, lambda place, outermost, old: state if next(numbers) == self.number else old)

    @property
    def slots(self) -> dict[str, Tree]:
        """The tree of each slot, by the slot's name: its numbers, however they are stored."""
        numbers = {key: values(stage) for key, stage in self.state.stages.items() if key != MEMBERS}
        return {name: getattr(numbers[key], field) for name, (key, field) in self._places().items()}

    def with_slots(self, changed: Mapping[str, Tree]) -> OptimizerState:
        stages = dict(self.state.stages)
        for name, (key, field) in self._places().items():
            if name in changed:
                stages[key] = with_values(stages[key], {field: changed[name]})
        return self.state._replace(stages=stages)

    def stage_slots(self) -> Iterator[tuple[Any, dict[str, str]]]:
        """Each stage, and the names of its slots by field."""
        places = self._places()
        for key in sorted(self.state.stages.keys() - {MEMBERS}):
            yield opened(self.state.stages[key])[0], {field: name for name, (at, field) in places.items() if at == key}

    def _places(self) -> dict[str, tuple[str, str]]:
        stages = {key: opened(stage)[0] for key, stage in self.state.stages.items() if key != MEMBERS}
        names = slot_names({key: stage._fields for key, stage in stages.items()})
        return {name: (key, f) for (key, f), name in names.items() if getattr(stages[key], f) is not None}

    def count(self, owner: str) -> jax.Array:
        if self.state.count is None:
            raise ValueError(f"{owner}: this optimizer moves nothing, and counts no steps.")
        return scalar(self.state.count)

    def named(self, owner: str) -> dict[str, jax.Array]:
        """All variables by name; two of one name are refused."""
        named = {} if self.state.count is None else {"count": scalar(self.state.count)}
        if "learning_rate" in self.state.rate:
            named["learning_rate"] = scalar(self.state.rate["learning_rate"])
        for name, tree in self.slots.items():
            for label, array in zip(labels(name, tree), trees.leaves(tree), strict=True):
                if array is not None and label in named:
                    raise ValueError(f"{owner}: two variables are called {label!r}: rename a parameter.")
                if array is not None:
                    named[label] = array
        return named


def find(owner: str, tree: Tree, within: str | None, which: Callable[[OptimizerState], bool] | None = None) -> Found:
    """Our state inside a tree: by default that of an optimizer with a rate, any other where there is none."""
    found = everything(owner, tree)
    if within is not None:
        chosen = _addressed(found, within)
        if not chosen:
            raise ValueError(f"{owner}: no state of ours at {within!r}; there are {_listed(found)}.")
    else:
        which = which or (lambda state: bool(state.rate))
        chosen = [one for one in found if which(one.state)] or found
    if len(chosen) > 1:
        raise ValueError(f"{owner}: several optimizers are in this state; name one with within=, of {_listed(chosen)}.")
    return chosen[0]


def find_all(owner: str, tree: Tree, within: str | None) -> Found:
    """Our state inside a tree, if it is all that there is to keep; else a sentence, so that nothing is lost."""
    chosen = find_named(owner, tree, within)
    others = [one for one in everything(owner, tree) if one.place != chosen.place and {*one.state.stages} - {MEMBERS}]
    if within is None and others:
        kept = sorted({key for one in others for key in one.state.stages} - {MEMBERS})
        raise ValueError(
            f"{owner}: around the optimizer at {chosen.place!r} this state keeps {kept} too, which would be lost: save "
            f"the whole tree with orbax, or each of {_listed([chosen, *others])} with within=."
        )
    return chosen


def find_named(owner: str, tree: Tree, within: str | None) -> Found:
    """Our state inside a tree, if its arrays have names: those that a state of Optax's keeps have none."""
    chosen = find(owner, tree, within)
    kept = [chosen] if within is not None else [one for one in everything(owner, tree) if one.outermost]
    if any(v.is_foreign for one in kept for v in listed(one.state, ours)):
        raise ValueError(f"{owner}: this state keeps Optax's state too, which would be lost: use jos.state.to_dict.")
    return chosen


def everything(owner: str, tree: Tree) -> list[Found]:
    """All our states inside a tree."""
    found: list[Found] = []

    def note(place: str, outermost: bool, state: OptimizerState) -> OptimizerState:
        found.append(Found(tree, len(found), place, outermost, state))
        return state

    _changed(tree, note)
    if not found:
        raise ValueError(f"{owner}: there is no state of a jaxopt_suite optimizer in a {type(tree).__name__}.")
    return found


class Maker(Protocol):
    """What makes a state."""

    @property
    def owner(self) -> str: ...

    @property
    def members(self) -> Any: ...

    def init(self, params: Tree) -> OptimizerState: ...

    def check_state(self, state: Tree) -> None: ...


def own(maker: Maker, tree: Tree, params: Tree) -> Tree:
    """The state inside a tree that `maker` made for some parameters; of several, that whose stages and arrays fit."""
    if isinstance(tree, OptimizerState) and _fits(maker, tree):
        return tree
    found = everything(maker.owner, tree)
    chosen = [one for one in found if _fits(maker, one.state)] if len(found) > 1 else found
    if len(chosen) > 1:
        want = _arrays(jax.eval_shape(maker.init, params))
        chosen = [one for one in chosen if _arrays(one.state) == want] or chosen
    if len(chosen) != 1:
        which = f"the states at {_listed(chosen)} are all" if chosen else f"no state, of those at {_listed(found)}, is"
        raise ValueError(f"{maker.owner}: {which} of this optimizer and these parameters: pass the one to use.")
    return trees.bare(chosen[0].state)


def _fits(maker: Maker, state: OptimizerState) -> bool:
    try:
        maker.check_state(state)
    except ValueError:
        return False
    members = getattr(maker.members, "keys", None)
    return members is None or {*members} == {*state.stages[MEMBERS]}


def _arrays(state: OptimizerState) -> list[tuple[str, Any]]:
    return [(path, getattr(x, "shape", None)) for path, x in zip(trees.paths(state), trees.leaves(state), strict=True)]


def _listed(found: Sequence[Found]) -> list[str]:
    return sorted(one.place for one in found)


def _addressed(found: Sequence[Found], within: str) -> list[Found]:
    """The states at an address: a whole place, or its last words, where the regex of a group stands for its word.

    `""` is the outermost one.
    """
    if within == "":
        return [one for one in found if one.outermost]
    exact = [one for one in found if one.place == within]
    literal = exact or [one for one in found if f"/{one.place}".endswith(f"/{within}")]
    return literal or [one for one in found if any(_alike(one, other) for other in found if _ends(other, within))]


def _ends(one: Found, within: str) -> bool:
    """Whether a place ends so; a regex may hold slashes itself."""

    def ends(words: Sequence[str], within: str) -> bool:
        if not words:
            return False
        starts = [0, *(i + 1 for i, letter in enumerate(within) if letter == "/")]
        rests = [within[: i - 1] if i else None for i in starts if words[-1] in (within[i:], group_key(within[i:]))]
        return any(rest is None or ends(words[:-1], rest) for rest in rests)

    return ends(one.place.split("/"), within)


def _alike(one: Found, other: Found) -> bool:
    """Whether a place is another, but for the numbers that regexes of the same letters are told apart by."""
    numbered = "/".join(re.escape(word) + r"(_\d+)?" for word in other.place.split("/"))
    return re.fullmatch(numbered, one.place) is not None


def _changed(
    tree: Tree, change: Callable[[str, bool, OptimizerState], OptimizerState], inside: str | None = None
) -> Tree:
    """The tree with our states changed, in their order; those of members are inside those of compositions."""

    def visit(path: Any, node: Any) -> Any:
        if not _is_ours(node):
            return node
        place = "/".join(filter(None, (inside, trees.path_name(path))))
        state = change(place, inside is None, node)
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
    """Which leaf of a slot is that of the parameter at `path`."""
    paths = trees.paths(tree)
    places = [i for i, other in enumerate(paths) if other == path]
    if not places:
        raise ValueError(f"{owner}: there is no parameter at {path!r}.{nearest(path, paths)}")
    if len(places) > 1:
        raise ValueError(f"{owner}: two parameters are called {path!r}: rename one.")
    if trees.leaves(tree)[places[0]] is None:
        raise ValueError(f"{owner}: the parameter at {path!r} has no such slot.")
    return places[0]
