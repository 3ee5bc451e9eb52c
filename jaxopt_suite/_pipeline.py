"""The way of a gradient, one direction, no way back.

    gradient -> unscale -> aggregate -> finite check -> accumulate -> clip -> decay, rule, rate -> average -> update

The stages up to `accumulate` see whole trees and may hold the rest back: they are gates. Those behind are rules
of one array and run in one walk over the leaves. A stage that is off is absent.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxopt_suite import _trees as trees
from jaxopt_suite._leafwise import Pass, Rule, each, evaluate, init_slots

UNSCALE, AGGREGATE, FINITE, ACCUMULATE = range(4)
CLIP, RULE, AVERAGE = range(3)


class HeldRate(NamedTuple):
    """A learning rate that the state holds: it can be read and set."""

    value: Any


class RecordedRate(NamedTuple):
    """The rate that was used last, where a schedule or an array rules it."""

    value: Any


class OptimizerState(NamedTuple):
    """The state of an optimizer or a primitive.

    Attributes:
      count: the number of real updates so far, int32.
      learning_rate: a `HeldRate`, a `RecordedRate`, or None where there is no rate.
      stages: one entry per stage in the order of the line, None for a stage without state.
    """

    count: Any
    learning_rate: Any
    stages: tuple[Any, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Gate:
    """A stage on whole trees, which may hold back everything behind it.

    Attributes:
      place: where it stands in the line.
      init: its state from the parameters.
      update: `(grads, state) -> (go, passed, held)`. Where `go`, `passed()` gives the gradients that go on and
        the new state; elsewhere `held()` gives the new state. `go` is None where nothing is ever held.
      scale: of a gate that unscales, the factor that the loss has to be multiplied by, from its state.
      recipe: the primitive that made it.
    """

    place: int
    init: Callable[[Any], Any]
    update: Callable[[Any, Any], tuple[Any, Callable[[], Any], Any]]
    scale: Callable[[Any], Any] | None = None
    recipe: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """A rule that is given its hyperparameters anew each step: `build(**arguments)` makes the `Rule`.

    `recipe` is the primitive that made it; an optimizer's own rule has none.
    """

    place: int
    build: Callable[..., Rule]
    arguments: dict[str, Any]
    numbers: frozenset[str]
    recipe: Any = None

    def rule(self, count: Any, dtype: Any) -> Rule:
        """The rule at step `count`: schedules are resolved, arrays have the precision `dtype`."""

        def at(name: str, value: Any) -> Any:
            if name not in self.numbers or value is None or isinstance(value, (int, float)):
                return value
            return at_step(value, count).astype(dtype)

        return self.build(**{name: at(name, value) for name, value in self.arguments.items()})


def at_step(value: Any, count: Any) -> jax.Array:
    """A number, an array or a schedule, at step `count`."""
    return jnp.asarray(value(count) if callable(value) else value)


@dataclasses.dataclass(frozen=True, eq=False)
class Pipeline:
    """The stages of one transformation, in the order of the line.

    Attributes:
      owner: the name that errors begin with.
      gates, parts: the stages on trees, the rules of one array.
      rate: the learning rate, None where there is none.
      decay: inverse-time decay of the rate.
      alone: whether this is a primitive, which emits a positive direction.
      compiles: whether a step that is called outside of a trace runs as one compiled program.
      takes_extra: whether `update` uses further keyword arguments; those that nothing uses are dropped.
    """

    owner: str
    gates: tuple[Gate, ...] = ()
    parts: tuple[Part, ...] = ()
    rate: Any = None
    decay: Any = None
    alone: bool = False
    compiles: bool = True
    takes_extra: bool = False

    def insert(self, *others: "Pipeline") -> "Pipeline":
        """This line with the stages of others, each at its place."""
        gates = sorted([*self.gates, *(g for o in others for g in o.gates)], key=lambda gate: gate.place)
        parts = sorted([*self.parts, *(p for o in others for p in o.parts)], key=lambda part: part.place)
        return dataclasses.replace(self, gates=tuple(gates), parts=tuple(parts))

    def rules(self, count: Any, dtype: Any) -> list[Rule]:
        rules = [part.rule(count, dtype) for part in self.parts]
        return [each(_as_direction, rule) for rule in rules] if self.alone else rules

    def init(self, params: Any) -> OptimizerState:
        for path, w in zip(trees.paths(params), trees.leaves(params), strict=True):
            trees.check_leaf(self.owner, "parameter", path, w)
        dtype = trees.compute_dtype(*trees.leaves(params))
        gates = [gate.init(params) for gate in self.gates]
        slots = [init_slots(rule, params, dtype) for rule in self.rules(jnp.int32(0), dtype)]
        return OptimizerState(jnp.zeros((), jnp.int32), self._first_rate(dtype), (*gates, *slots))

    def _first_rate(self, dtype: Any) -> HeldRate | RecordedRate | None:
        if self.rate is None:
            return None
        value = at_step(self.rate, jnp.int32(0)).astype(dtype)
        return HeldRate(value) if isinstance(self.rate, float) else RecordedRate(value)

    def run(self, grads: Any, state: Any, params: Any, apply: bool, **extra: Any) -> tuple[Any, Any]:
        """One step: the updates, or with `apply` the new parameters; and the new state."""
        own, inner = self._split(state)
        trees.check_trees(self.owner, grads, params)
        if not jax.tree.leaves(grads):
            return (params if apply else grads), state
        if len(own.stages) != len(self.gates) + len(self.parts):
            raise ValueError(f"{self.owner}: the state is of another optimizer: {_names(own)}.")
        gates, slots = own.stages[: len(self.gates)], own.stages[len(self.gates) :]
        own = own._replace(stages=slots)
        finish = _applied if apply else _updates

        def proceed(arrived: Any) -> tuple[Any, Any]:
            moved, kept, xs = self._step(arrived, own, inner, params, extra)
            return finish(grads, params, xs), (moved, kept)

        def hold() -> tuple[Any, Any]:
            return finish(grads, params, [None] * len(trees.leaves(grads))), (own, inner)

        (out, (moved, inner)), gates = _through(self.gates, grads, gates, proceed, hold)
        return out, self._joined(moved._replace(stages=(*gates, *moved.stages)), inner)

    def _split(self, state: Any) -> tuple[OptimizerState, Any]:
        """The state of the line's own stages, and what else a composition keeps."""
        if not isinstance(state, OptimizerState):
            raise TypeError(f"{self.owner}: expected the state that init made, got a {type(state).__name__}.")
        return state, None

    def _joined(self, own: OptimizerState, inner: Any) -> Any:
        return own

    def _step(self, grads: Any, state: OptimizerState, inner: Any, params: Any, extra: Any) -> tuple[Any, Any, Any]:
        """The walk over the leaves: the states behind it, and the step of each array."""
        dtype = trees.compute_dtype(*trees.leaves(params), *trees.leaves(grads))
        rate, recorded = self._rate(state, dtype)
        count = optax.safe_increment(state.count)
        walk = Pass(self.owner, grads, params, count, rate)
        slots = walk.run(lambda c: self._checked_rules(state.count, c, params), state.stages)
        return OptimizerState(count, recorded, tuple(slots)), inner, walk.xs

    def _checked_rules(self, count: Any, dtype: Any, params: Any) -> list[Rule]:
        rules = self.rules(count, dtype)
        if params is None and any(rule.reads_weights for rule in rules):
            raise ValueError(f"{self.owner}: update needs the parameters: call update(grads, state, params).")
        return rules

    def _rate(self, state: OptimizerState, dtype: Any) -> tuple[Any, Any]:
        """The rate of this step, and what the state keeps of it."""
        kept = state.learning_rate
        if kept is None:
            return jnp.ones((), dtype), None
        rate = kept.value if isinstance(kept, HeldRate) else at_step(self.rate, state.count).astype(dtype)
        if self.decay is not None:
            decay = at_step(self.decay, state.count).astype(dtype)
            rate = rate / (1 + decay * state.count.astype(dtype))
        return rate, kept if isinstance(kept, HeldRate) else RecordedRate(rate.astype(kept.value.dtype))

    def loss_scale(self, state: Any) -> Any:
        """What the loss has to be multiplied by; a dynamic scale is in the state."""
        own = None if state is None else self._split(state)[0]
        scale = 1.0
        for i, gate in enumerate(self.gates):
            if gate.scale is not None:
                scale = gate.scale(None if own is None else own.stages[i])
        return scale

    def average(self, state: Any, params: Any) -> Any:
        """The parameters to evaluate with: the last average of the line, None where there is none."""
        state, _ = self._split(state)
        rules = self.rules(state.count, trees.compute_dtype(*trees.leaves(params)))
        for rule, slots in reversed(list(zip(rules, state.stages[len(self.gates) :], strict=True))):
            if rule.final is not None:
                return evaluate(rule, slots, params)
        return None


def _as_direction(rule: Rule) -> Rule:
    """A rule with the rate inside, as a primitive: the positive direction at rate 1."""
    if not rule.emits_step:
        return rule

    def update(g: Any, s: Any, w: Any, t: Any) -> tuple[Any, Any]:
        step, s = rule.update(g, s, w, t)
        return -step, s

    return dataclasses.replace(rule, update=update)


def _names(state: OptimizerState) -> str:
    return "it holds " + (", ".join(type(s).__name__ for s in state.stages if s is not None) or "no slots")


def _through(
    gates: Sequence[Gate], grads: Any, states: Sequence[Any], proceed: Callable, hold: Callable
) -> tuple[Any, tuple[Any, ...]]:
    """Passes the gradients through the gates; a closed gate keeps everything behind it as it was."""
    if not gates:
        return proceed(grads), ()
    go, passed, held = gates[0].update(grads, states[0])

    def onward() -> Any:
        arrived, new = passed()
        out, others = _through(gates[1:], arrived, states[1:], proceed, hold)
        return out, (new, *others)

    if go is None:
        return onward()
    return lax.cond(go, onward, lambda: (hold(), (held(), *states[1:])))


def _updates(grads: Any, params: Any, xs: Sequence[Any]) -> Any:
    """The tree of updates, each in its gradient's dtype; zero where nothing moves."""
    out = []
    ws = trees.leaves(params) if params is not None else [None] * len(xs)
    for g, w, x in zip(trees.leaves(grads), ws, xs, strict=True):
        if g is None:
            out.append(None if w is None else jnp.zeros_like(w))
        else:
            out.append(jnp.zeros_like(g, jnp.result_type(g)) if x is None else x.astype(jnp.result_type(g)))
    return trees.like(grads, out)


def _applied(grads: Any, params: Any, xs: Sequence[Any]) -> Any:
    """The tree of new parameters."""
    out = []
    for w, x in zip(trees.leaves(params), xs, strict=True):
        out.append(w if x is None or w is None else (w.astype(x.dtype) + x).astype(w.dtype))
    return trees.like(params, out)
