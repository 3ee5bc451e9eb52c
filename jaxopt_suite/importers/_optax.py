"""The states of Optax's transformations."""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxopt_suite import _trees as trees
from jaxopt_suite._recipe.check import show
from jaxopt_suite._transformation import Transformation
from jaxopt_suite._trees import Tree
from jaxopt_suite.importers._imported import Imported, Transform, imported, ours_of, refuse_no_state, slot
from jaxopt_suite.importers._optax_settings import other_settings
from jaxopt_suite.state._match import Rules
from jaxopt_suite.state._variables import COUNT, HELD, Variable, joined, listed, ours

# our slots by Optax's, for each class of ours that a class of Optax's may become
_SLOTS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "ScaleByAdamState": {
        "AdamState": {"mu": "m", "nu": "v"},
        "LambState": {"mu": "m", "nu": "v"},
        "AdamaxState": {"mu": "m", "nu": "u"},
    },
    "ScaleByRssState": {"AdagradState": {"sum_of_squares": "a"}},
    "ScaleByAdaDeltaState": {"AdadeltaState": {"e_g": "g2", "e_x": "dx2"}},
    "ScaleByLionState": {"LionState": {"mu": "m"}},
    "ScaleByRmsState": {"RMSpropState": {"nu": "v"}},
    "ScaleByRmsWithCountState": {"RMSpropState": {"nu": "v"}},
    "ScaleByRStdDevState": {"RMSpropState": {"mu": "a", "nu": "v"}},
    "ScaleByRStdDevWithCountState": {"RMSpropState": {"mu": "a", "nu": "v"}},
    "TraceState": {"TraceState": {"trace": "trace"}, "RMSpropState": {"trace": "m"}},
    "ScaleByScheduleState": {},
}


def optax(
    source: Tree,
    params: Tree,
    optimizer: Transformation | str,
    rename: Rules = None,
    transform: Transform = None,
    strict: bool = True,
    use_grad_mean: bool = True,
) -> Imported:
    """A run of Optax.

    With `from_optax` in it, `optimizer` goes on with Optax's own numbers, and takes any state that its transformation
    makes. One of ours takes the states of `adam`, `adamw`, `sgd`, `lamb`, `lion`, `rmsprop`, `adagrad`, `adadelta` and
    `adamax`, in chains and masked: `adam`, `adamw`, `sgd` and `adamax` are those of the dialect `torch`, `lamb` that of
    `legacy`. Around either, `MultiSteps` becomes `gradient_accumulation_steps`, and the rate of `inject_hyperparams`
    the rate that the state holds.

    Arguments:
      source: the state.
      params: the parameters here.
      optimizer: one of ours, or its name: Optax's states do not say their settings.
      rename: regexes and replacements, or a function, from a path there to a path here.
      transform: `transform(path, array)`, a slot's array as the parameter at `path` is laid out here.
      strict: refuse what would be lost.
      use_grad_mean: that of `MultiSteps`, of which its state does not tell. Where it is False, gradients are summed:
        here too with `loss_scale_factor=1 / gradient_accumulation_steps`.

    Raises:
      TypeError, ValueError: naming a state that nothing here knows, what does not fit, a slot or a count that one
        group has twice; with `strict`, a setting of `inject_hyperparams` that `optimizer` has not.

    >>> import jax.numpy as jnp, optax, jaxopt_suite as jos
    >>> params = {"w": jnp.ones(2)}
    >>> there = optax.chain(optax.clip(1.0), optax.sgd(0.1, momentum=0.9))
    >>> _, state = there.update({"w": jnp.full(2, 0.5)}, there.init(params), params)
    >>> tx = jos.sgd(0.1, momentum=0.9, clipvalue=1.0, dialect="torch")
    >>> run = jos.importers.optax(state, params, tx)
    >>> print(run.report.kept, float(jos.state.get_slot(run.state, "w", "trace")[0]))
    ('trace/w',) 0.5
    """
    refuse_no_state("optax", source)
    tx = ours_of("optax", optimizer)
    new = [*listed(jax.eval_shape(tx.init, params), ours)]
    summed = None if use_grad_mean else _steps_of_a_sum(tx)
    read = _Reader({v.stage.kind for v in new if v.stage is not None}, _foreign_places(tx, new), summed)
    variables = read(source)
    others = [*dict.fromkeys(other_settings(read.settings, tx))]
    if strict and others:
        said = "; ".join(others)
        raise ValueError(f"optax: in inject_hyperparams {said}: give optimizer the run's settings, or strict=False.")
    _refuse_guesses(variables, new)
    run = imported("optax", variables, tx, params, rename, transform, strict)
    return run._replace(report=dataclasses.replace(run.report, notes=(*run.report.notes, *others)))


def _steps_of_a_sum(optimizer: Any) -> int:
    """How many gradients are accumulated by an optimizer that sums them."""
    arguments = optimizer.recipe.arguments
    steps, factor = (arguments.get(name) for name in ("gradient_accumulation_steps", "loss_scale_factor"))
    if steps is None or factor is None or not np.isclose(steps * factor, 1):
        raise ValueError(
            "optax: with use_grad_mean=False optimizer must sum gradients too, by gradient_accumulation_steps and "
            f"loss_scale_factor=1 / gradient_accumulation_steps, got {steps} and {factor}."
        )
    return steps


def _foreign_places(optimizer: Any, new: Sequence[Variable]) -> dict[str, int]:
    """How many arrays of Optax's stand in each place of a state of ours; of a chain, in its order."""
    counts = Counter(re.sub(r"((?:^|/)optax)/.*", r"\1", v.path) for v in new if v.is_foreign)
    keys = [f"{key}/optax" for key in getattr(optimizer.update.line.members, "keys", ())]
    return {key: counts[key] for key in keys} if counts and {*counts} <= {*keys} else {**counts}


class _Reader:
    """Reads a state of Optax's, as it is for the `places` of Optax's, or into slots of the classes `kinds`.

    What is masked, or one of several partitions, is a place of its own: it counts by itself. Where `MultiSteps` sums
    gradients, ours is the mean of `summed` times as many.

    Attributes:
      settings: the hyperparameters that `inject_hyperparams` holds, but for rates that our states hold.
    """

    def __init__(self, kinds: set[str], places: Mapping[str, int], summed: int | None):
        self.kinds, self.places, self.summed = kinds, places, summed
        self.settings: list[tuple[str, Any]] = []

    def __call__(self, node: Any, place: str = "") -> list[Variable]:
        """The variables of a place and of those in it, each of which has the count and the rate around it."""
        known: dict[Any, Variable] = {}
        for v in self._read(node, place):
            key = (v.place, v.slot, v.path, v.stage)
            if key in known and (v.is_slot or not _equal(known[key].value, v.value)):
                raise ValueError(_twice(v, known[key]))
            known[key] = v
        variables = [*known.values()]
        return [*variables, *_inherited(variables)]

    def _read(self, node: Any, place: str) -> Iterator[Variable]:
        name = type(node).__name__
        special: dict[str, Callable[[Any, str], Iterator[Variable]]] = {
            "MultiStepsState": self._multi_steps,
            "InjectStatefulHyperparamsState": self._injected,
            "InjectHyperparamsState": self._injected,
        }
        if name in special:
            yield from special[name](node, place)
        elif self.places:
            yield from self._as_it_is(node)
        elif name == "MaskedState":
            yield from self._read(node.inner_state, place)
        elif name == "PartitionState":
            yield from self._each(node.inner_states, place)
        elif type(node) in (tuple, list) or isinstance(node, dict):
            yield from self._each(node if isinstance(node, dict) else dict(enumerate(node)), place)
        elif name in _SLOTS:
            yield from self._slots(node, place, _SLOTS[name])
        elif jax.tree.leaves(node) or node is None:
            raise _unknown(node)

    def _each(self, nodes: Mapping[Any, Any], place: str) -> Iterator[Variable]:
        for key, inner in nodes.items():
            yield from self._read(inner, joined(place, str(key)) if type(inner).__name__ == "MaskedState" else place)

    def _as_it_is(self, node: Any) -> Iterator[Variable]:
        """The state of one transformation, or of a chain of as many as ours has."""
        arrays = [len(jax.tree.leaves(part)) for part in node] if type(node) is tuple else []
        holding = [place for place in self.places if self.places[place]]
        counts = [x for path, x in zip(trees.paths(node), trees.leaves(node), strict=True) if _is_count(path)]
        yield from (Variable(count, "", COUNT) for count in counts[:1])
        if arrays == [*self.places.values()]:
            for place, part in zip(self.places, node, strict=True):
                yield from _foreign(part, place)
        elif len(holding) > 1:
            raise ValueError(
                f"optax: optimizer holds several states of Optax, at {holding}, of which source is not the chain: "
                "import them one by one."
            )
        else:
            yield from _foreign(node, holding[0])

    def _slots(self, node: Any, place: str, becomes: Mapping[str, Mapping[str, str]]) -> Iterator[Variable]:
        if "count" in node._fields:
            yield Variable(node.count, place, COUNT)
        kind = next((kind for kind in becomes if kind in self.kinds), next(iter(becomes), None))
        for field, ours_ in becomes.get(kind, {}).items() if kind else ():
            tree = getattr(node, field)
            for path, x in zip(trees.paths(tree), trees.leaves(tree), strict=True):
                if x is not None:  # Optax's momentum of RMSprop is of the updates, which go downhill
                    yield slot(-x if (kind, ours_) == ("RMSpropState", "m") else x, place, str(kind), ours_, path)

    def _inside(self, node: Any, place: str) -> Iterator[Variable]:
        """What is in a state that counts; what Optax counts in its own is its own affair."""
        return (v for v in self._read(node, place) if not (self.places and v.is_count and v.place == place))

    def _multi_steps(self, node: Any, place: str) -> Iterator[Variable]:
        """Optax keeps the mean of the gradients so far, or their sum; here it is the sum of those that are averaged."""
        yield slot(node.mini_step, place, "AccumulatorState", "micro_step", key="accumulate")
        for path, x in zip(trees.paths(node.acc_grads), trees.leaves(node.acc_grads), strict=True):
            total = x * jnp.asarray(self.summed or node.mini_step, x.dtype)
            yield slot(total, place, "AccumulatorState", "accumulator", path, key="accumulate")
        yield from self._inside(node.inner_opt_state, place)
        yield Variable(node.gradient_step, place, COUNT)

    def _injected(self, node: Any, place: str) -> Iterator[Variable]:
        yield from self._inside(node.inner_state, place)
        yield Variable(node.count, place, COUNT)
        held = {**node.hyperparams}
        if not self.places and "learning_rate" in held:
            yield Variable(held.pop("learning_rate"), place, HELD)
        self.settings += held.items()


def _foreign(node: Any, place: str) -> Iterator[Variable]:
    """A state of Optax's at its place in ours, and the count of ours around it."""
    around = place.rpartition("/")[0]
    counts = [x for path, x in zip(trees.paths(node), trees.leaves(node), strict=True) if _is_count(path)]
    yield from (Variable(count, around, COUNT) for count in counts[: 1 if around else 0])
    for v in listed(node, ours):
        yield dataclasses.replace(v, path=joined(place, v.path))


def _is_count(path: str) -> bool:
    return path.rpartition("/")[2] == "count"


def _unknown(node: Any) -> Exception:
    """What is wrong with a part of a state that nothing here reads."""
    if not isinstance(node, tuple):
        must = "source must be a state of Optax's: what init or update gave, or opt_state"
        return TypeError(f"optax: {must}, got {show(node)}.")
    fields = show(getattr(node, "_fields", ()))
    return ValueError(
        f"optax: ours has no slots of a {type(node).__name__}, of {fields}: from_optax goes on with any of Optax's "
        "transformations, and with their numbers."
    )


def _equal(a: Any, b: Any) -> bool:
    return isinstance(a, Tracer) or isinstance(b, Tracer) or bool(np.array_equal(a, b))


def _twice(v: Variable, other: Variable) -> str:
    """Why what a place holds twice is refused."""
    where = f" of {v.place!r}" if v.place else ""
    if v.is_slot:
        return f"optax: the state{where} holds two slots {v.name!r}: import the states of a chain one by one."
    what = "counts" if v.is_count else "rates"
    came = sorted([np.asarray(other.value).item(), np.asarray(v.value).item()])
    return f"optax: the state{where} holds two {what}, {came}; here its parts go together."


def _inherited(variables: Sequence[Variable]) -> Iterator[Variable]:
    """The counts and rates of places that have none of their own: those around them."""
    known = {(v.place, v.slot): v for v in variables if not v.is_slot}
    for place in dict.fromkeys(v.place for v in variables if v.is_slot and v.place):
        around = ["/".join(place.split("/")[:k]) for k in range(place.count("/"), -1, -1)]
        for name in (COUNT, HELD):
            found = [known[outer, name] for outer in around if (outer, name) in known]
            if (place, name) not in known and found:
                yield dataclasses.replace(found[0], place=place)


def _refuse_guesses(variables: Sequence[Variable], new: Sequence[Variable]) -> None:
    """Optax does not say whose the rate or the count of a group without slots is."""
    places = {v.place for v in variables}
    slotted = {v.place for v in new if v.is_slot and v.path}
    lone = [v.place for v in new if (v.is_rate or v.is_count) and v.place and v.place not in slotted | places]
    for name in (HELD, COUNT):
        values = {np.asarray(v.value).item() for v in variables if v.slot == name and not isinstance(v.value, Tracer)}
        mine = [v.place for v in new if v.slot == name and v.place in lone]
        if len(values) > 1 and mine:
            raise ValueError(
                f"optax: the state holds {sorted(values)} as {name}, and does not say which is that of {mine[0]!r}, "
                f"which keeps no slots: call it as it is called there, one of {sorted(places - {''})}."
            )
