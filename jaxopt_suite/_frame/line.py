"""The line of stages that a gradient passes, from the first to the last."""

import dataclasses
import functools
import warnings
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import optax

from jaxopt_suite import _trees as trees
from jaxopt_suite._frame.flow import Arrays, Flow, Result, among, spread
from jaxopt_suite._frame.members import Members, check_axes, check_kind
from jaxopt_suite._frame.rate import Rates
from jaxopt_suite._frame.split import ShardAxes
from jaxopt_suite._frame.stages import AnyStage, Gate, LeafStage, Meter, Place, TreeStage
from jaxopt_suite._frame.walk import Walk, evaluated
from jaxopt_suite._frame.writer import Writer
from jaxopt_suite._recipe.words import Number, Scalar
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._layout import MEMBERS, OptimizerState, Slots
from jaxopt_suite.state._names import numbered


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
      shard_axes: what is said of the parameters' parts inside `shard_map`; None where their types say it.
    """

    owner: str
    stages: tuple[AnyStage, ...] = ()
    members: Members | None = None
    learning_rate: Number | None = None
    decay: Number | None = None
    moves: bool = True
    compiles: bool = True
    shard_axes: ShardAxes | None = None

    def insert(self, *stages: AnyStage) -> "Line":
        """This line with further stages, each at its place, behind those that stand there already."""
        if stages and not self.moves:
            raise TypeError(f"{self.owner}: there is nothing to wrap in an optimizer that moves nothing.")
        between = next((stage.key for stage in stages if Place.SKIP <= stage.place < Place.WRITE), None)
        if self.meter and any(isinstance(stage, Meter) for stage in stages):
            raise ValueError(f"{self.owner}: {self.meter[0]} measures its steps already.")
        if self.writer and any(stage.place is Place.WRITE for stage in stages):
            raise ValueError(f"{self.owner}: {self.writer.key} writes its 16-bit parameters already.")
        if between and self.holds_some:
            raise ValueError(
                f"{self.owner}: {between} would act in steps too that a member holds back for its own parameters only: "
                f"give gradient_accumulation_steps to {self.owner} itself, or what else holds them back."
            )
        if stages and self.members and self.shard_axes is None:
            check_axes(self.owner, stages[0].key, self.members)
        ordered = tuple(sorted([*self.stages, *stages], key=lambda stage: stage.place))
        return dataclasses.replace(self, stages=ordered)

    @functools.cached_property
    def keyed(self) -> list[tuple[str, AnyStage]]:
        """The stages and what they are called in a state."""
        return list(zip(numbered([stage.key for stage in self.stages]), self.stages, strict=True))

    @functools.cached_property
    def front(self) -> list[tuple[str, TreeStage | Gate]]:
        """The stages on whole trees."""
        return [(key, stage) for key, stage in self.keyed if isinstance(stage, (TreeStage, Gate))]

    @functools.cached_property
    def meter(self) -> tuple[str, Meter] | None:
        """What measures the steps, and what it is called in a state."""
        return next(((key, stage) for key, stage in self.keyed if isinstance(stage, Meter)), None)

    @functools.cached_property
    def leafwise(self) -> list[tuple[str, LeafStage]]:
        """The stages on one array at a time, up to the one that writes."""
        return [(k, stage) for k, stage in self.keyed if isinstance(stage, LeafStage) and stage.place < Place.WRITE]

    @functools.cached_property
    def writer(self) -> Writer | None:
        """What writes 16-bit parameters; without it they are rounded as they come."""
        key, stage = self.keyed[-1] if self.stages else ("", None)
        return Writer(key, stage) if isinstance(stage, LeafStage) and stage.place is Place.WRITE else None

    @functools.cached_property
    def rates(self) -> Rates:
        return Rates(self.learning_rate, self.decay)

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
        return any(s.prototype.extra_args for _, s in self.leafwise) or getattr(self.members, "extra_args", False)

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
        exact = mine if self.writer is None else self.writer.at_first(self.owner, mine)
        seen = {key: mine if stage.place is Place.WRITE else exact for key, stage in self.keyed}
        stages = {key: stage.init(self.owner, seen[key], dtype) for key, stage in self.keyed if stage.layout.slots}
        if self.members is not None:
            stages[MEMBERS] = self.members.init(among(params, moving, exact))
        return OptimizerState(jnp.zeros((), jnp.int32), self.rates.first(dtype), stages)

    def unmatched(self, paths: Sequence[str], inside: bool = True) -> list[str]:
        """A sentence for each regex of the line, and `inside` of its members', that is found in none of the paths."""
        found = [sentence for _, stage in self.leafwise for sentence in stage.unmatched(paths)] if paths else []
        lines = () if self.members is None or not inside else self.members.lines
        return found + [sentence for line in lines for sentence in line.unmatched(paths)]

    def run(
        self, grads: Tree, state: Tree, params: Tree | None, apply: bool, extra: Mapping[str, Tree], shares: bool = True
    ) -> tuple[Tree, Tree]:
        """One step: the updates, or with `apply` the new parameters; and the new state.

        With `shares`, arrays that are alike share a trace, which outside of any trace would be compiled anew.
        """
        self.check_state(state)
        grads = trees.sound(self.owner, grads)
        xs, moving = trees.leaves(grads), self.moving(grads)
        if params is not None:
            trees.check_aligned(self.owner, grads, params)
        flow = Flow(self.owner, grads, params, extra, xs, list, lambda: [None] * len(xs), shares, bool(self.writer))
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
        flow, moving = flow.of(self.owner, self.shard_axes), self.moving(flow.grads)
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
        """The stages on one array at a time; where 16-bit parameters are written, all before it sees them exactly."""
        if self.writer is None:
            return self._measured(flow, state)
        key, stage = self.writer.key, self.writer.stage
        if flow.params is None:
            raise ValueError(f"{self.owner}: update needs the parameters: call update(grads, state, params).")

        def write(steps: Arrays) -> tuple[Result, Slots]:
            walk = Walk(flow.replace(xs=steps), self._counted(state), jnp.ones(()))
            slots = walk.through([(key, stage)], state)
            return flow.then(walk.xs), slots.get(key)

        params = self._exact(state, flow.params)
        grads = flow.grads if self.members is None else trees.widened(flow.grads)
        inner = flow.replace(grads=grads, params=params, then=write, hold=lambda: (flow.hold(), state.stages.get(key)))
        (result, slots), moved = self._measured(inner, state)
        return result, _with_slots(moved, {key: slots})

    def _measured(self, flow: Flow[Result], state: OptimizerState) -> tuple[Result, OptimizerState]:
        """The stages before parameters are written, with a look at what goes in and what comes out."""
        if self.meter is None:
            return self._move(flow, state)
        key, meter = self.meter

        def then(steps: Arrays) -> tuple[Result, Slots]:
            return flow.then(steps), trees.cast_like(meter.measure(flow, steps), state.stages[key])

        inner = flow.replace(then=then, hold=lambda: (flow.hold(), state.stages[key]))
        (result, slots), moved = self._move(inner, state)
        return result, _with_slots(moved, {key: slots})

    def _exact(self, state: OptimizerState, params: Tree) -> Tree:
        """The parameters as they stand, where what is written of them is rounded."""
        if self.writer is None:
            return params
        moving = self.moving(params)
        mine = params if moving is None else trees.masked(params, moving)
        return among(params, moving, self.writer.exact(self.owner, state, mine))

    def _counted(self, state: OptimizerState) -> jax.Array:
        return jnp.asarray(optax.safe_increment(state.count))

    def _move(self, flow: Flow[Result], state: OptimizerState) -> tuple[Result, OptimizerState]:
        """The stages before parameters are written, around the members where there are any."""
        rate, record = self.rates.at(state, flow.dtype())
        count = self._counted(state)
        walk = Walk(flow, count, rate)
        before = [stage for stage in self.leafwise if self.members is None or stage[1].place < Place.RULE]
        moved = _with_slots(OptimizerState(count, record, state.stages), walk.through(before, state))
        if self.members is None:
            return flow.then(walk.xs), moved

        def behind(steps: Arrays) -> tuple[Result, OptimizerState]:
            walk.xs = steps
            slots = walk.through(self.leafwise[len(before) :], state)
            return flow.then(walk.xs), _with_slots(moved, slots)

        inner = flow.replace(xs=walk.xs, then=behind, hold=lambda: (flow.hold(), moved._replace(count=state.count)))
        (result, moved), members = self.members.advance(inner, state.stages[MEMBERS])
        return result, _with_slots(moved, {MEMBERS: members})

    def check_state(self, state: Tree) -> None:
        """Refuses what init did not make, the state of another optimizer, and one whose rate is of another kind."""
        want = [key for key, stage in self.keyed if stage.layout.slots is not None]
        check_kind(self.owner, state, want, self.members)
        self.rates.check(self.owner, state)

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
        average = self._average(state, self._exact(state, params))
        return None if average is None else trees.cast_like(average, params)

    def _average(self, state: OptimizerState, params: Tree) -> Tree | None:
        moving = self.moving(params)
        mine = params if moving is None else trees.masked(params, moving)
        dtype = trees.compute_dtype(*trees.leaves(mine))
        for key, stage in reversed(self.leafwise):
            rule = stage.rule(state.count, dtype)
            if rule.evaluate is not None:
                return among(params, moving, evaluated(rule, state.stages[key], mine, self.owner))
        return None if self.members is None else self.members.average(state.stages[MEMBERS], params)


def _with_slots(state: OptimizerState, slots: Mapping[str, Slots]) -> OptimizerState:
    kept = {key: slot for key, slot in slots.items() if slot is not None}
    return state._replace(stages={**state.stages, **kept}) if kept else state
