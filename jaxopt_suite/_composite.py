"""A line whose rule is made of other transformations: groups of parameters, a chain, one of Optax's.

Stages that are inserted into it (clips, gates, wrappers) act on all parameters together, as in any other line.
"""

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from jaxopt_suite import _trees as trees
from jaxopt_suite._check import show
from jaxopt_suite._leafwise import Pass
from jaxopt_suite._pipeline import RULE, OptimizerState, Pipeline


class CompositeState(NamedTuple):
    """What the stages of a composition keep, and the states of its members."""

    own: OptimizerState
    members: tuple[Any, ...]


class Members(Protocol):
    """What a composition is made of.

    Attributes:
      wide: whether 16-bit gradients may come in float32.
    """

    wide: bool

    def init(self, params: Any) -> tuple[Any, ...]: ...

    def update(self, grads: Any, states: Any, params: Any, extra: Mapping[str, Any]) -> tuple[Any, tuple[Any, ...]]:
        """The tree of steps, and the members' states; where there is no gradient, the step does not matter."""
        ...

    def loss_scale(self, states: Any) -> Any: ...

    def average(self, states: Any, params: Any) -> Any: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Composite(Pipeline):
    """The line of a composition: its stages, and between the clips and the averages its members."""

    members: Any = None

    def init(self, params: Any) -> Any:
        return CompositeState(super().init(params), self.members.init(params))

    def loss_scale(self, state: Any) -> Any:
        inner = None if state is None else self._split(state)[1]
        return super().loss_scale(state) * self.members.loss_scale(inner)

    def average(self, state: Any, params: Any) -> Any:
        average = super().average(state, params)
        return self.members.average(self._split(state)[1], params) if average is None else average

    def _split(self, state: Any) -> tuple[OptimizerState, Any]:
        if not isinstance(state, CompositeState):
            raise TypeError(f"{self.owner}: expected the state that init made, got a {type(state).__name__}.")
        return state.own, state.members

    def _joined(self, own: OptimizerState, inner: Any) -> CompositeState:
        return CompositeState(own, inner)

    def _step(self, grads: Any, state: OptimizerState, inner: Any, params: Any, extra: Any) -> tuple[Any, Any, Any]:
        count = optax.safe_increment(state.count)
        walk = Pass(self.owner, grads, params, count, jnp.ones(()))
        cut = sum(part.place < RULE for part in self.parts)
        slots = [*state.stages]
        if cut:
            slots[:cut] = walk.run(lambda c: self._checked_rules(state.count, c, params)[:cut], slots[:cut])
        dtypes = walk.dtypes if self.members.wide else [None if x is None else x.dtype for x in trees.leaves(grads)]
        arrived = [None if x is None else x.astype(c) for x, c in zip(walk.xs, dtypes, strict=True)]
        steps, inner = self.members.update(trees.like(grads, arrived), inner, params, extra)
        walk.xs = only_where(arrived, trees.leaves(steps))
        if cut < len(slots):
            slots[cut:] = walk.run(lambda c: self._checked_rules(state.count, c, params)[cut:], slots[cut:])
        return OptimizerState(count, None, tuple(slots)), inner, walk.xs


def only_where(gradients: Sequence[Any], steps: Sequence[Any]) -> list[Any]:
    """The steps of the parameters that have a gradient."""
    return [None if g is None else x for g, x in zip(gradients, steps, strict=True)]


@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """Members one after the other: each is given what the one before gives."""

    txs: tuple[Any, ...]
    wide: bool

    def init(self, params: Any) -> tuple[Any, ...]:
        return tuple(tx.init(params) for tx in self.txs)

    def update(self, grads: Any, states: Any, params: Any, extra: Mapping[str, Any]) -> tuple[Any, tuple[Any, ...]]:
        xs, kept = grads, []
        for tx, state in zip(self.txs, states, strict=True):
            moved, state = run(tx, xs, state, params, extra)
            xs = trees.like(grads, only_where(trees.leaves(grads), trees.leaves(moved)))
            kept.append(state)
        return xs, tuple(kept)

    def loss_scale(self, states: Any) -> Any:
        scale = 1.0
        for i, tx in enumerate(self.txs):
            scale = scale * tx.pipeline.loss_scale(None if states is None else states[i])
        return scale

    def average(self, states: Any, params: Any) -> Any:
        averages = [tx.pipeline.average(state, params) for tx, state in zip(self.txs, states, strict=True)]
        return next((average for average in reversed(averages) if average is not None), None)


def takes_wide(tx: Any) -> bool:
    """Whether a member may be given float32 for 16-bit gradients."""
    return not isinstance(tx.pipeline, Composite) or tx.pipeline.members.wide


def run(tx: Any, grads: Any, state: Any, params: Any, extra: Mapping[str, Any]) -> tuple[Any, Any]:
    """The updates of a member, and its state."""
    return tx.pipeline.run(grads, state, params, False, **(extra if tx.pipeline.takes_extra else {}))


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """Each parameter belongs to the first pattern that is found in its path; the others are masked."""

    patterns: tuple[str, ...]
    txs: tuple[Any, ...]
    wide: bool

    def route(self, paths: Sequence[str]) -> list[int]:
        """The group of each parameter; one without a group is an error."""
        compiled = [re.compile(pattern) for pattern in self.patterns]
        found = [next((i for i, regex in enumerate(compiled) if regex.search(path)), None) for path in paths]
        bare = [path for path, i in zip(paths, found, strict=True) if i is None]
        if bare:
            more = f" and {len(bare) - 8} more" if len(bare) > 8 else ""
            raise ValueError(f"by_path: no rule covers {', '.join(map(repr, bare[:8]))}{more}.")
        return [i for i in found if i is not None]

    def check(self, paths: Sequence[str]) -> list[int]:
        """The group of each parameter; a group without parameters is an error too."""
        found = self.route(paths)
        for i, pattern in enumerate(self.patterns):
            matched = [path for path in paths if re.search(pattern, path)]
            if not matched:
                near = difflib.get_close_matches(pattern, paths, n=3, cutoff=0.0)
                raise ValueError(f"by_path: the rule {show(pattern)} matches no parameter; the nearest are {near}.")
            if i not in found and len(matched) < len(paths):
                taken = ", ".join(map(repr, matched[:3]))
                raise ValueError(f"by_path: an earlier rule takes all that {show(pattern)} matches, such as {taken}.")
        return found

    def init(self, params: Any) -> tuple[Any, ...]:
        if not trees.leaves(params):  # an empty tree, or the placeholder of optax.tree_map_params
            return tuple(tx.init(params) for tx in self.txs)
        found = self.check(trees.paths(params))
        return tuple(tx.init(masked(params, found, i)) for i, tx in enumerate(self.txs))

    def update(self, grads: Any, states: Any, params: Any, extra: Mapping[str, Any]) -> tuple[Any, tuple[Any, ...]]:
        found = self.route(trees.paths(grads))
        steps, kept = [None] * len(found), []
        for i, (tx, state) in enumerate(zip(self.txs, states, strict=True)):
            mine = masked(grads, found, i)
            if jax.tree.leaves(mine):
                moved, state = run(tx, mine, state, masked(params, found, i), extra)
                _fill(steps, found, i, moved)
            kept.append(state)
        return trees.like(grads, steps), tuple(kept)

    def loss_scale(self, states: Any) -> Any:
        return 1.0

    def average(self, states: Any, params: Any) -> Any:
        found, out, averaged = self.route(trees.paths(params)), trees.leaves(params), False
        for i, (tx, state) in enumerate(zip(self.txs, states, strict=True)):
            average = tx.pipeline.average(state, masked(params, found, i))
            if average is not None:
                averaged = True
                _fill(out, found, i, average)
        return trees.like(params, out) if averaged else None


def masked(tree: Any, found: Sequence[int], i: int) -> Any:
    """The tree with the leaves of group `i`; a masked node has no leaves, so that the paths stay as they are."""
    if tree is None:
        return None
    pairs = zip(trees.leaves(tree), found, strict=True)
    return trees.like(tree, [leaf if j == i else optax.MaskedNode() for leaf, j in pairs])


def _fill(out: list[Any], found: Sequence[int], i: int, tree: Any) -> None:
    places = [place for place, j in enumerate(found) if j == i]
    for place, leaf in zip(places, trees.leaves(tree), strict=True):
        out[place] = leaf


@dataclasses.dataclass(frozen=True, eq=False)
class Foreign:
    """A transformation of Optax, as it is. Its code counts on JAX's standard promotion of dtypes."""

    name: str
    tx: optax.GradientTransformation
    arguments: dict[str, Any]
    wide: bool = False

    def init(self, params: Any) -> tuple[Any, ...]:
        with jax.numpy_dtype_promotion("standard"):
            return (self.tx.init(params),)

    def update(self, grads: Any, states: Any, params: Any, extra: Mapping[str, Any]) -> tuple[Any, tuple[Any, ...]]:
        missing = [path for path, g in zip(trees.paths(grads), trees.leaves(grads), strict=True) if g is None]
        if missing:
            raise ValueError(f"from_optax: {self.name} needs all gradients, there is none at {missing[0]!r}.")
        with jax.numpy_dtype_promotion("standard"):
            steps, state = optax.with_extra_args_support(self.tx).update(grads, states[0], params, **extra)
        return steps, (state,)

    def loss_scale(self, states: Any) -> Any:
        return 1.0

    def average(self, states: Any, params: Any) -> Any:
        return None


@dataclasses.dataclass(frozen=True, eq=False)
class Frozen(Pipeline):
    """The line of parameters that do not move: no state, and zero for every gradient."""

    def insert(self, *others: Pipeline) -> Pipeline:
        raise TypeError(f"{self.owner}: there is nothing to wrap in an optimizer that moves nothing.")

    def init(self, params: Any) -> Any:
        return optax.EmptyState()

    def _split(self, state: Any) -> tuple[OptimizerState, Any]:
        return OptimizerState(None, None, ()), state

    def _joined(self, own: OptimizerState, inner: Any) -> Any:
        return inner

    def _step(self, grads: Any, state: OptimizerState, inner: Any, params: Any, extra: Any) -> tuple[Any, Any, Any]:
        return state, inner, [None] * len(trees.leaves(grads))
