"""Transformations in a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Self, Unpack

from jaxopt_suite._compositions.declare import check_member, compiles, composition
from jaxopt_suite._frame.flow import Arrays, Flow, Result
from jaxopt_suite._frame.line import Line
from jaxopt_suite._frame.members import Account, States
from jaxopt_suite._optimizer import Stages
from jaxopt_suite._recipe.recipe import Recipe
from jaxopt_suite._recipe.words import Scalar
from jaxopt_suite._report.accounts import stage_calls
from jaxopt_suite._transformation import Transformation
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._names import numbered


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """Members one after the other: each is given what the one before gives, and a gate holds all behind it.

    Attributes:
      keys: what the members are called in a state.
      lines: theirs.
      holds, holds_some, scales_loss, extra_args: whether any of them does.
    """

    keys: tuple[str, ...]
    lines: tuple[Line, ...]
    holds: bool
    holds_some: bool
    scales_loss: bool
    extra_args: bool
    divides: bool = False

    def moving(self, paths: Sequence[str]) -> None:
        return None

    def each(self, change: Callable[[Line], Line]) -> Self:
        return dataclasses.replace(self, lines=tuple(map(change, self.lines)))

    def init(self, params: Tree) -> States:
        return {key: line.init(params) for key, line in zip(self.keys, self.lines, strict=True)}

    def advance(self, flow: Flow[Result], states: States) -> tuple[Result, States]:
        return self._advance(list(zip(self.keys, self.lines, strict=True)), flow, states)

    def _advance(
        self, members: Sequence[tuple[str, Line]], flow: Flow[Result], states: States
    ) -> tuple[Result, States]:
        if not members:
            return flow.then(flow.xs), {}
        (key, line), *later = members
        waiting = {key: states[key] for key, _ in later}

        def onward(steps: Arrays) -> tuple[Result, States]:
            return self._advance(later, flow.replace(xs=steps), waiting)

        inner = flow.replace(then=onward, hold=lambda: (flow.hold(), waiting))
        (result, after), state = line.advance(inner, states[key])
        return result, {key: state, **after}

    def loss_scale(self, states: States | None) -> Scalar:
        scale = 1.0
        for key, line in zip(self.keys, self.lines, strict=True):
            scale = scale * line.loss_scale(None if states is None else states[key])
        return scale

    def average(self, states: States, params: Tree) -> Tree | None:
        averages = (
            line.average(states[key], params) for key, line in reversed([*zip(self.keys, self.lines, strict=True)])
        )
        return next((average for average in averages if average is not None), None)

    def stages(self) -> list[str]:
        return [call for line in self.lines for call in stage_calls(line)]

    def describe(self, account: Account, params: Tree) -> None:
        for line in self.lines:
            account.line(line, params)


TRAITS = ("holds", "holds_some", "scales_loss", "extra_args")


@composition("Chain", members="optimizers, primitives and compositions of this library.")
def chain(*members: Transformation, **common: Unpack[Stages]) -> Line:
    """Transformations in a row, each given the updates of the one before, as `optax.chain`, with a recipe.

    Members are optimizers, primitives and compositions of this library; `from_optax` makes one of Optax's a member.
    What holds a step back (accumulation, a check for finite values) holds back everything behind it, which
    `optax.chain` cannot do. An optimizer gives the update to add, against the gradient: two of them in a row turn
    around twice, so put primitives before one optimizer. Further keyword arguments of `update`, such as the `value_fn`
    of a line search, go to the members that use them.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.chain(jos.transforms.clip_by_value(1.0), jos.from_optax("scale", step_size=-0.5))
    >>> tx, tx.update(jnp.array(3.0), tx.init(jnp.array(0.0)))[0]
    (chain(clip_by_value(1.0), from_optax('scale', step_size=-0.5)), Array(-0.5, dtype=float32))
    """
    if not members:
        raise TypeError("chain: there must be at least one member.")
    for i, tx in enumerate(members):
        check_member("chain", f"member {i}", tx)
    lines = tuple(tx.line for tx in members)
    held = next((i for i, line in enumerate(lines[:-1]) if line.holds_some), None)
    if held is not None:
        raise ValueError(
            f"chain: member {held} holds back some parameters only, so that what stands behind it would act in "
            "micro-steps too: give gradient_accumulation_steps to by_path or to the chain itself."
        )
    traits = {name: any(getattr(line, name) for line in lines) for name in TRAITS}
    row = Row(tuple(numbered([_called(tx.recipe) for tx in members])), lines, **traits)
    return Line("chain", members=row, compiles=compiles(lines))


def _called(recipe: Recipe) -> str:
    """What a member is called in a state: its function, or that of Optax."""
    name = recipe.arguments.get("factory", recipe.factory.__name__)
    return name.rpartition(".")[2]
