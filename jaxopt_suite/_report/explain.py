"""What an optimizer will do to each parameter, before anything is compiled."""

import dataclasses
import functools
import re
import textwrap
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from jaxopt_suite import _trees as trees
from jaxopt_suite._frame.line import Line
from jaxopt_suite._report.accounts import Accounts, Parameter, stage_calls
from jaxopt_suite._table import WIDTH, as_call, as_face, as_html, as_sentences, as_text, in_units
from jaxopt_suite._trees import Tree

_MOST = 200  # rows of a printed table; where there are more parameters, those that are alike share one
_HEADER = (
    "parameter",
    "n",
    "shape",
    "dtype",
    "sharding",
    "group",
    "rule",
    "rate",
    "decay",
    "clip",
    "sparse",
    "slots",
    "state",
)


@dataclasses.dataclass(frozen=True, repr=False)
class Explanation:
    """What `explain` found: it prints as a table, and shows as one in a notebook.

    Attributes:
      optimizer: the call that makes it.
      stages: the calls of its line, in the order of the gradient's way.
      parameters: what happens to each parameter.
      shared_bytes: what the state holds besides slots: counts, rates, norms.
      unmatched: a sentence for each regex that is found in no path.
    """

    optimizer: str
    stages: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    shared_bytes: int
    unmatched: tuple[str, ...] = ()

    def totals(self) -> dict[str, int]:
        return {
            "parameters": len(self.parameters),
            "elements": sum(p.size for p in self.parameters),
            "parameter_bytes": sum(p.bytes for p in self.parameters),
            "state_bytes": sum(p.state_bytes for p in self.parameters) + self.shared_bytes,
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain data for tests and logs."""
        return {**dataclasses.asdict(self), "totals": self.totals()}

    def __repr__(self) -> str:
        head = [textwrap.fill(line, WIDTH, subsequent_indent="    ") for line in self._head()]
        return "\n".join([*head, as_text(_HEADER, self._rows()), self._foot(), *self.unmatched])

    def _repr_html_(self) -> str:
        head, *way = self._head()
        foot = as_sentences([self._foot(), *self.unmatched])
        return as_face(as_call(head), as_sentences(way), as_html(_HEADER, self._rows()), foot)

    def _head(self) -> list[str]:
        line = " -> ".join(("gradient", *self.stages, "update"))
        return [self.optimizer, line] if len(self.stages) > 1 else [self.optimizer]

    def _foot(self) -> str:
        totals = self.totals()
        held, kept = in_units(totals["parameter_bytes"]), in_units(totals["state_bytes"])
        return f"{totals['parameters']} parameters of {totals['elements']} elements: {held}, state {kept}"

    def _rows(self) -> list[tuple[str, ...]]:
        def by_number(p: Parameter) -> Any:
            return re.sub(r"\d+", "*", p.path), p.shape, _cells(p)

        groups: dict[Any, list[Parameter]] = {}
        for key in (lambda p: p.path, by_number, _cells):
            groups.clear()
            for p in self.parameters:
                groups.setdefault(key(p), []).append(p)
            if len(groups) <= _MOST:
                break
        return [_row(members) for members in groups.values()]


def _row(members: Sequence[Parameter]) -> tuple[str, ...]:
    """A row of the table, for one parameter or for several that are alike."""
    first, last = members[0], members[-1]
    alike = {re.sub(r"\d+", "*", p.path) for p in members}
    name = first.path if len(members) == 1 else alike.pop() if len(alike) == 1 else f"{first.path} ... {last.path}"
    shape = str(first.shape) if len({p.shape for p in members}) == 1 else "..."
    n = "" if len(members) == 1 else str(len(members))
    return name, n, shape, *_cells(first), in_units(sum(p.state_bytes for p in members))


def _cells(p: Parameter) -> tuple[str, ...]:
    by_dtype: dict[str, list[str]] = {}
    for slot in p.slots:
        by_dtype.setdefault(slot.dtype, []).append(slot.name)
    slots = "; ".join(", ".join(names) + ("" if dtype == p.dtype else f" {dtype}") for dtype, names in by_dtype.items())
    return (
        p.dtype,
        p.sharding,
        ", ".join(p.group),
        ", ".join(rule.removeprefix("scale_by_") for rule in p.rule),
        ", ".join(re.sub(r"\b(\w+)\(.*?\)(?= / |$)", r"\1", rate) for rate in p.learning_rate),  # said in the head
        ", ".join(decay.replace("excluded by", "off by") for decay in p.decay),
        ", ".join(clip.removeprefix("clip_by_") for clip in p.clip),
        p.sparse if len(p.shape) > 1 and p.sparse != "everything" else "",
        slots,
    )


class HasLine(Protocol):
    """An optimizer, a primitive or a composition."""

    @property
    def line(self) -> Line: ...


def explain(tx: HasLine, params: Tree) -> Explanation:
    """What `tx`, an optimizer, a primitive or a composition, will do to each parameter; see `Optimizer.explain`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> jos.explain(jos.rmsprop(0.1, centered=True), {"w": jnp.zeros((2, 3))}).totals()["state_bytes"]
    56
    """
    rows, structs, called = {}, [], functools.cache(str)
    for path, w in zip(trees.paths(params), trees.leaves(params), strict=True):
        structs.append(None if w is None else jax.ShapeDtypeStruct(jnp.shape(w), w.dtype))
        if w is not None:
            rows[path] = Parameter(path, tuple(w.shape), called(w.dtype), _sharding(w), trees.nbytes(w))
    accounts = Accounts(rows)
    accounts.line(tx.line, trees.like(params, [optax.MaskedNode() if w is None else w for w in structs]))
    for row in rows.values():
        row.decay = row.decay or ["off"]
    unmatched = tx.line.unmatched([*rows]) if trees.is_whole(params) else ()
    calls = tuple(stage_calls(tx.line))
    return Explanation(repr(tx), calls, tuple(rows.values()), accounts.shared_bytes, tuple(unmatched))


def _sharding(w: Any) -> str:
    sharding = None if isinstance(w, Tracer) else getattr(w, "sharding", None)
    return str(sharding.spec) if isinstance(sharding, jax.sharding.NamedSharding) else ""
