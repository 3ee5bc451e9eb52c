"""The states of Optax's transformations."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_suite import _trees as trees
from jaxopt_suite._recipe.check import nearest, show
from jaxopt_suite._transformation import Transformation
from jaxopt_suite._trees import Tree
from jaxopt_suite.importers._imported import Imported, Transform, imported, slot
from jaxopt_suite.state._match import Rules
from jaxopt_suite.state._variables import COUNT, HELD, Variable, listed, ours

# our slots by Optax's, for each class of ours that a class of Optax's may become
_SLOTS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "ScaleByAdamState": {"AdamState": {"mu": "m", "nu": "v"}, "LambState": {"mu": "m", "nu": "v"}},
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
    optimizer: Transformation,
    rename: Rules = None,
    transform: Transform = None,
    strict: bool = True,
) -> Imported:
    """A run of Optax.

    With `from_optax` in it, `optimizer` goes on with Optax's own numbers, and takes any state that its transformation
    makes. One of ours takes the states of `adam`, `adamw`, `sgd`, `lamb`, `lion` and `rmsprop`, in chains and masked:
    `adam`, `adamw` and `sgd` are those of the dialect `torch`. Around either, `MultiSteps` becomes
    `gradient_accumulation_steps`, and the rate of `inject_hyperparams` the rate that the state holds.

    Arguments:
      source: the state.
      params: the parameters here.
      optimizer: ours: Optax's states do not say their settings.
      rename: regexes and replacements, or a function, from a path there to a path here.
      transform: `transform(path, array)`, a slot's array as the parameter at `path` is laid out here.
      strict: refuse what would be lost.

    Raises:
      ValueError: naming a state that nothing here knows, or what does not fit.

    >>> import jax.numpy as jnp, optax, jaxopt_suite as jos
    >>> params = {"w": jnp.ones(2)}
    >>> there = optax.chain(optax.clip(1.0), optax.sgd(0.1, momentum=0.9))
    >>> _, state = there.update({"w": jnp.full(2, 0.5)}, there.init(params), params)
    >>> tx = jos.sgd(0.1, momentum=0.9, clipvalue=1.0, dialect="torch")
    >>> run = jos.importers.optax(state, params, tx)
    >>> print(run.report.kept, float(jos.state.get_slot(run.state, "w", "trace")[0]))
    ('trace/w',) 0.5
    """
    kinds = {v.stage.kind for v in listed(jax.eval_shape(optimizer.init, params), ours) if v.stage is not None}
    prefix = _foreign_place(optimizer, params)
    read = _Reader(kinds, prefix)
    variables = list({v.name: v for v in read(source)}.values())
    return imported("optax", variables, optimizer, params, rename, transform, strict)


def _foreign_place(optimizer: Transformation, params: Tree) -> str | None:
    """Where a state of Optax's stands in that of `optimizer`."""
    fresh = listed(jax.eval_shape(optimizer.init, params), ours)
    places = {re.sub(r"((?:^|/)optax)/.*", r"\1", v.path) for v in fresh if v.is_foreign}
    if len(places) > 1:
        raise ValueError(
            f"optax: optimizer holds several states of Optax, at {sorted(places)}: import them one by one."
        )
    return next(iter(places), None)


class _Reader:
    """Reads a state of Optax's, as it is for the place `prefix`, or into slots of the classes `kinds`."""

    def __init__(self, kinds: set[str], prefix: str | None):
        self.kinds, self.prefix = kinds, prefix

    def __call__(self, node: Any) -> Iterator[Variable]:
        name = type(node).__name__
        special: dict[str, Callable[[Any], Iterator[Variable]]] = {
            "MultiStepsState": self._multi_steps,
            "InjectStatefulHyperparamsState": self._injected,
            "InjectHyperparamsState": self._injected,
        }
        if name in special:
            yield from special[name](node)
        elif self.prefix is not None:
            yield from self._as_it_is(node)
        elif name in ("MaskedState", "PartitionState") or type(node) in (tuple, list, dict):
            for inner in node.values() if isinstance(node, dict) else node:
                yield from self(inner)
        elif name in _SLOTS:
            yield from self._slots(node, _SLOTS[name])
        elif jax.tree.leaves(node):
            near = nearest(name, _SLOTS)
            raise ValueError(
                f"optax: nothing here knows a {name}, of {show(getattr(node, '_fields', ()))}.{near} from_optax goes "
                "on with any of Optax's transformations."
            )

    def _as_it_is(self, node: Any) -> Iterator[Variable]:
        counts = [x for path, x in zip(trees.paths(node), trees.leaves(node), strict=True) if _is_count(path)]
        yield from (Variable(count, "", COUNT) for count in counts[:1])
        for v in listed(node, ours):
            yield dataclasses.replace(v, path=f"{self.prefix}/{v.path}" if v.path else str(self.prefix))

    def _slots(self, node: Any, becomes: Mapping[str, Mapping[str, str]]) -> Iterator[Variable]:
        if "count" in node._fields:
            yield Variable(node.count, "", COUNT)
        kind = next((kind for kind in becomes if kind in self.kinds), next(iter(becomes), None))
        for field, ours_ in becomes.get(kind, {}).items() if kind else ():
            tree = getattr(node, field)
            for path, x in zip(trees.paths(tree), trees.leaves(tree), strict=True):
                if x is not None:  # Optax's momentum of RMSprop is of the updates, which go downhill
                    yield slot(-x if (kind, ours_) == ("RMSpropState", "m") else x, "", str(kind), ours_, path)

    def _multi_steps(self, node: Any) -> Iterator[Variable]:
        """Optax keeps the mean of the gradients so far, here it is their sum."""
        yield slot(node.mini_step, "", "AccumulatorState", "micro_step", key="accumulate")
        for path, x in zip(trees.paths(node.acc_grads), trees.leaves(node.acc_grads), strict=True):
            total = x * jnp.asarray(node.mini_step, x.dtype)
            yield slot(total, "", "AccumulatorState", "accumulator", path, key="accumulate")
        yield from self(node.inner_opt_state)
        yield Variable(node.gradient_step, "", COUNT)

    def _injected(self, node: Any) -> Iterator[Variable]:
        yield from self(node.inner_state)
        yield Variable(node.count, "", COUNT)
        if "learning_rate" in node.hyperparams:
            yield Variable(node.hyperparams["learning_rate"], "", HELD)


def _is_count(path: str) -> bool:
    return path.rpartition("/")[2] == "count"
