"""The line of stages that a gradient passes, from the first to the last."""

import dataclasses
import functools
import warnings
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import optax

from jaxopt_suite import _trees as trees
from jaxopt_suite._frame.flow import Arrays, Flow, Result, spread
from jaxopt_suite._frame.members import Members
from jaxopt_suite._frame.stages import AnyStage, Gate, LeafStage, Place, TreeStage, at_step
from jaxopt_suite._frame.walk import Walk, evaluated
from jaxopt_suite._recipe.words import Number, Scalar
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._layout import MEMBERS, OptimizerState, Slots, numbered

_KINDS = {
    "": "does not exist",
    "learning_rate": "is a number that the state holds",
    "schedule": "follows a schedule",
    "array": "is an array",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Line:
    """The stages of one transformation, in their order.

    Attributes:
      owner: the name that errors begin with.
      stages: the stages of its own, each at its place.
      members: what a composition has in the place of a rule.
      learning_rate: None where there is none.
      decay: inverse-time decay of the rate.
      moves: whether anything is ever moved; the state of what moves nothing is empty.
      compiles: whether a step that is called outside of a trace runs as one compiled program.
    """

    owner: str
    stages: tuple[AnyStage, ...] = ()
    members: Members | None = None
    learning_rate: Number | None = None
    decay: Number | None = None
    moves: bool = True
    compiles: bool = True

    def insert(self, *stages: AnyStage) -> "Line":
        """This line with further stages, each at its place, behind those that stand there already."""
        if stages and not self.moves:
            raise TypeError(f"{self.owner}: there is nothing to wrap in an optimizer that moves nothing.")
        between = next((stage.key for stage in stages if stage.place >= Place.CLIP), None)
        if between and self.holds_some:
            raise ValueError(
                f"{self.owner}: {between} would act in micro-steps too, since a member holds back its own parameters "
                f"only: give gradient_accumulation_steps to {self.owner} itself."
            )
        ordered = sorted([*self.stages, *stages], key=lambda stage: stage.place)
        return dataclasses.replace(self, stages=tuple(ordered))

    @functools.cached_property
    def keyed(self) -> list[tuple[str, AnyStage]]:
        """The stages and what they are called in a state."""
        return list(zip(numbered([stage.key for stage in self.stages]), self.stages, strict=True))

    @functools.cached_property
    def front(self) -> list[tuple[str, TreeStage | Gate]]:
        """The stages on whole trees."""
        return [(key, stage) for key, stage in self.keyed if not isinstance(stage, LeafStage)]

    @functools.cached_property
    def leafwise(self) -> list[tuple[str, LeafStage]]:
        """The stages on one array at a time."""
        return [(key, stage) for key, stage in self.keyed if isinstance(stage, LeafStage)]

    @functools.cached_property
    def holds(self) -> bool:
        """Whether a step may be held back."""
        return any(isinstance(stage, Gate) for stage in self.stages) or getattr(self.members, "holds", False)

    @functools.cached_property
    def scales_loss(self) -> bool:
        """Whether the loss has to be multiplied by a factor."""
        return any(stage.loss_scale for stage in self.stages) or getattr(self.members, "scales_loss", False)

    @functools.cached_property
    def extra_args(self) -> bool:
        """Whether `update` uses further keyword arguments."""
        asked = any(stage.prototype.extra_args for _, stage in self.leafwise)
        return asked or getattr(self.members, "extra_args", False)

    @property
    def holds_some(self) -> bool:
        """Whether a step may be held back for some of the parameters only."""
        return getattr(self.members, "holds_some", False)

    def moves_at(self, path: str) -> bool:
        """Whether the parameter at a path moves at all."""
        inside = None if self.members is None else self.members.moving([path])
        return self.moves and (inside is None or inside[0])

    def moving(self, tree: Tree) -> list[bool] | None:
        """Which leaves move at all; None where all do. No stage sees the others."""
        moving = None if self.members is None else self.members.moving(trees.paths(tree))
        return None if moving is None or all(moving) else moving

    def init(self, params: Tree) -> OptimizerState:
        if not self.moves:
            return OptimizerState(None, {}, {})
        if trees.is_whole(params):
            for sentence in self.unmatched(trees.paths(params), inside=False):
                warnings.warn(f"{self.owner}: {sentence}.", stacklevel=3)
        moving = self.moving(params)
        mine = params if moving is None else trees.masked(params, moving)
        if self.members is None:
            for path, w in zip(trees.paths(mine), trees.leaves(mine), strict=True):
                trees.check_leaf(self.owner, "parameter", path, w)
        dtype = trees.compute_dtype(*trees.leaves(mine))
        kept = [(key, stage) for key, stage in self.keyed if stage.layout.slots is not None]
        stages = {key: stage.init(self.owner, mine, dtype) for key, stage in kept}
        if self.members is not None:
            stages[MEMBERS] = self.members.init(params)
        return OptimizerState(jnp.zeros((), jnp.int32), self._first_rate(dtype), stages)

    def unmatched(self, paths: Sequence[str], inside: bool = True) -> list[str]:
        """A sentence for each regex of the line, and `inside` of its members', that is found in none of the paths."""
        found = [sentence for _, stage in self.leafwise for sentence in stage.unmatched(paths)] if paths else []
        lines = () if self.members is None or not inside else self.members.lines
        return found + [sentence for line in lines for sentence in line.unmatched(paths)]

    def _first_rate(self, dtype: jnp.dtype) -> dict[str, Tree]:
        first = None if self.learning_rate is None else at_step(self.learning_rate, jnp.int32(0)).astype(dtype)
        return self._record(first)

    def _record(self, rate: jax.Array | None) -> dict[str, Tree]:
        """What the state keeps of a rate: it rules where it was a Python number, and is a record elsewhere."""
        if self.learning_rate is None:
            return {}
        if isinstance(self.learning_rate, float):
            return {"learning_rate": rate}
        return {"schedule": {"learning_rate": rate}} if callable(self.learning_rate) else {"array": rate}

    def run(
        self, grads: Tree, state: Tree, params: Tree | None, apply: bool, extra: Mapping[str, Tree], shares: bool = True
    ) -> tuple[Tree, Tree]:
        """One step: the updates, or with `apply` the new parameters; and the new state.

        With `shares`, arrays that are alike share a trace, which outside of any trace would be compiled anew.
        """
        self.check_state(state)
        xs, moving = trees.leaves(grads), self.moving(grads)
        if params is not None:
            trees.check_aligned(self.owner, grads, params)
        flow = Flow(self.owner, grads, params, extra, xs, list, lambda: [None] * len(xs), shares)
        part = flow if moving is None else flow.part(moving)
        trees.check_trees(self.owner, part.grads, part.params)
        finish = flow.applied if apply else flow.updates
        if not jax.tree.leaves(part.grads):
            return finish([None] * len(xs)), state
        return self.advance(flow.replace(then=finish, hold=lambda: finish([None] * len(xs))), state)

    def advance(self, flow: Flow[Result], state: OptimizerState) -> tuple[Result, OptimizerState]:
        """Takes gradients through the line: the result of what is behind it, and the new state."""
        self.check_state(state)
        if not self.moves:
            return flow.then([None] * len(flow.xs)), state
        flow, moving = flow.replace(owner=self.owner), self.moving(flow.grads)
        if moving is None:
            return self._admit(self.front, flow, state)
        part = flow.part(moving).replace(then=lambda xs: flow.then(spread(xs, moving)), hold=flow.hold)
        return self._admit(self.front, part, state)

    def _admit(
        self, front: Sequence[tuple[str, TreeStage | Gate]], flow: Flow[Result], state: OptimizerState
    ) -> tuple[Result, OptimizerState]:
        """The stages on whole trees, one inside the other: a closed gate keeps everything behind it as it was."""
        if not front:
            return self._step(flow, state)
        key, stage = front[0]

        def onward(xs: Arrays, slots: Slots) -> tuple[Result, OptimizerState]:
            return self._admit(front[1:], flow.replace(xs=xs), _with_slots(state, {key: slots}))

        def held(slots: Slots) -> tuple[Result, OptimizerState]:
            return flow.hold(), _with_slots(state, {key: slots})

        return stage.admit(flow, state.stages.get(key), onward, held)

    def _step(self, flow: Flow[Result], state: OptimizerState) -> tuple[Result, OptimizerState]:
        """The stages on one array at a time, around the members where there are any."""
        rate, record = self._rate(state, flow.dtype())
        count = jnp.asarray(optax.safe_increment(state.count))
        walk = Walk(flow, count, rate)
        before = [stage for stage in self.leafwise if self.members is None or stage[1].place < Place.RULE]
        moved = _with_slots(OptimizerState(count, record, state.stages), _run(walk, before, state))
        if self.members is None:
            return flow.then(walk.xs), moved

        def behind(steps: Arrays) -> tuple[Result, OptimizerState]:
            walk.xs = steps
            slots = _run(walk, self.leafwise[len(before) :], state)
            return flow.then(walk.xs), _with_slots(moved, slots)

        def held() -> tuple[Result, OptimizerState]:
            return flow.hold(), moved._replace(count=state.count)

        inner = flow.replace(xs=walk.xs, then=behind, hold=held)
        (result, moved), members = self.members.advance(inner, state.stages[MEMBERS])
        return result, _with_slots(moved, {MEMBERS: members})

    def _rate(self, state: OptimizerState, dtype: jnp.dtype) -> tuple[jax.Array, dict[str, Tree]]:
        """The rate of this step, and what the state keeps of it."""
        if self.learning_rate is None:
            return jnp.ones((), dtype), state.rate
        held = state.rate.get("learning_rate")
        held = None if held is None else jnp.asarray(held)  # a number, where optax.tree.set put one
        rate = at_step(self.learning_rate, state.count).astype(dtype) if held is None else held
        if self.decay is not None:
            decay = at_step(self.decay, state.count).astype(dtype)
            rate = rate / (1 + decay * state.count.astype(dtype))
        if held is not None:
            return rate, state.rate
        return rate, self._record(rate.astype(jax.tree.leaves(state.rate)[0].dtype))

    def check_state(self, state: Tree) -> None:
        """Refuses what init did not make, the state of another optimizer, and one whose rate is of another kind."""
        if not isinstance(state, OptimizerState):
            raise TypeError(f"{self.owner}: expected the state that init made, got a {type(state).__name__}.")
        want = [key for key, stage in self.keyed if stage.layout.slots is not None]
        want += [] if self.members is None else [MEMBERS]
        if {*state.stages} != {*want}:
            raise ValueError(
                f"{self.owner}: the state is of another optimizer: it has the stages {sorted(state.stages)}, "
                f"they must be {sorted(want)}."
            )
        members = () if self.members is None else self.members.keys
        if members and {*state.stages[MEMBERS]} != {*members}:
            raise ValueError(
                f"{self.owner}: the state is of another composition: it has the members "
                f"{sorted(state.stages[MEMBERS])}, they must be {sorted(members)}."
            )
        if [*state.rate] != [*self._record(None)]:
            have, want = (_KINDS[next(iter(rate), "")] for rate in (state.rate, self._record(None)))
            raise ValueError(
                f"{self.owner}: the state is of an optimizer whose learning rate {have}; here it {want}. "
                "Make a new state with init."
            )

    def loss_scale(self, state: Tree) -> Scalar:
        """What the loss has to be multiplied by; a dynamic scale is in the state."""
        if state is not None:
            self.check_state(state)
        scale = 1.0
        for key, stage in self.keyed:
            if stage.loss_scale is not None:
                scale = scale * stage.loss_scale(None if state is None else state.stages.get(key))
        if self.members is not None:
            scale = scale * self.members.loss_scale(None if state is None else state.stages[MEMBERS])
        return scale

    def average(self, state: Tree, params: Tree) -> Tree | None:
        """The parameters to evaluate with: the last average of the line, None where there is none."""
        self.check_state(state)
        moving = self.moving(params)
        mine = params if moving is None else trees.masked(params, moving)
        dtype = trees.compute_dtype(*trees.leaves(mine))
        for key, stage in reversed(self.leafwise):
            rule = stage.rule(state.count, dtype)
            if rule.evaluate is not None:
                average = evaluated(rule, state.stages[key], mine, self.owner)
                keep = moving or [True] * len(trees.leaves(params))
                return trees.like(params, spread(trees.leaves(average), keep, trees.leaves(params)))
        return None if self.members is None else self.members.average(state.stages[MEMBERS], params)


def _with_slots(state: OptimizerState, slots: Mapping[str, Slots]) -> OptimizerState:
    kept = {key: slot for key, slot in slots.items() if slot is not None}
    return state._replace(stages={**state.stages, **kept}) if kept else state


def _run(walk: Walk, stages: Sequence[tuple[str, LeafStage]], state: OptimizerState) -> dict[str, Slots]:
    """Takes the arrays of a walk through some stages: their slots afterwards."""
    if not stages:
        return {}
    slots = walk.run(
        lambda dtype: [stage.rule(state.count, dtype) for _, stage in stages],
        [state.stages.get(key) for key, _ in stages],
    )
    return {key: slot for (key, _), slot in zip(stages, slots, strict=True)}
