"""What a composition has in the place of a rule: other transformations, or one of Optax's."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from jaxopt_suite._frame.flow import Flow, Result
from jaxopt_suite._frame.split import ShardAxes
from jaxopt_suite._recipe.words import Number, Scalar
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._layout import MEMBERS, OptimizerState

States = dict[str, Tree]  # of the members, by what they are called


class Account(Protocol):
    """Where a composition says what it does to each parameter of a tree."""

    def line(self, line: Any, params: Tree, group: str | None = None) -> None:
        """A member's own line; `group` is the pattern that its parameters were picked by."""
        ...

    def rule(self, params: Tree, label: str, learning_rate: Number | None = None, decay: Number | None = None) -> None:
        """A rule without a line."""
        ...

    def state(self, state: Tree) -> None:
        """Arrays that are kept: those whose path ends with a parameter's are its slots."""
        ...


class MemberLine(Protocol):
    """A member's line."""

    @property
    def shard_axes(self) -> ShardAxes | None: ...

    @property
    def members(self) -> "Members | None": ...

    def unmatched(self, paths: Sequence[str], inside: bool = True) -> list[str]: ...


class Members(Protocol):
    """What a composition is made of: how it steps, what it averages, how it describes itself.

    Attributes:
      keys: what the members are called in a state.
      lines: the members' own.
      divides: whether each member has some of the parameters, and not all of them.
      holds: whether a member may hold back what stands behind the composition.
      holds_some: whether a member may hold back its own parameters only.
      scales_loss: whether a member scales the loss.
      extra_args: whether a member uses further keyword arguments of `update`.
    """

    @property
    def keys(self) -> Sequence[str]: ...

    @property
    def lines(self) -> Sequence[MemberLine]: ...

    @property
    def divides(self) -> bool: ...

    @property
    def holds(self) -> bool: ...

    @property
    def holds_some(self) -> bool: ...

    @property
    def scales_loss(self) -> bool: ...

    @property
    def extra_args(self) -> bool: ...

    def each(self, change: Callable[[Any], Any]) -> "Members":
        """The same of other lines, where it is made of lines."""
        ...

    def moving(self, paths: Sequence[str]) -> list[bool] | None:
        """Which parameters move at all; None where all do."""
        ...

    def init(self, params: Tree) -> States: ...

    def advance(self, flow: Flow[Result], states: States) -> tuple[Result, States]:
        """The result of what is behind the composition, and its members' new states; see `Line.advance`."""
        ...

    def loss_scale(self, states: States | None) -> Scalar: ...

    def average(self, states: States, params: Tree) -> Tree | None: ...

    def stages(self) -> list[str]:
        """The calls of its stages, in the order of the gradient's way."""
        ...

    def describe(self, account: Account, params: Tree) -> None: ...


def check_axes(owner: str, stage: str, members: Members) -> None:
    """Refuses a stage around members of which one alone knows how its parameters are split."""
    for line in members.lines:
        if line.shard_axes is not None:
            raise ValueError(f"{owner}: {stage} does not see the shard_axes of a member: give them to {owner} itself.")
        if line.members is not None:
            check_axes(owner, stage, line.members)


def check_kind(owner: str, state: Tree, stages: Sequence[str], members: Members | None) -> None:
    """Refuses what is no state of ours, and one of other stages or other members."""
    if not isinstance(state, OptimizerState):
        raise TypeError(
            f"{owner}: expected the state that init made, got a {type(state).__name__}: jos.state.migrate takes one "
            "that was saved."
        )
    want = [*stages] if members is None else [*stages, MEMBERS]
    if {*state.stages} != {*want}:
        raise ValueError(
            f"{owner}: the state is of another optimizer: it has the stages {sorted(state.stages)}, "
            f"they must be {sorted(want)}: jos.state.migrate moves it here."
        )
    keys = () if members is None else members.keys
    if keys and {*state.stages[MEMBERS]} != {*keys}:
        raise ValueError(
            f"{owner}: the state is of another composition: it has the members "
            f"{sorted(state.stages[MEMBERS])}, they must be {sorted(keys)}: jos.state.migrate moves it here."
        )
