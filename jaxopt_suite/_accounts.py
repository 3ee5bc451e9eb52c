"""What each stage of a line does to each parameter: the accounts that `explain` lays open.

Nothing is compiled, and a rule is asked for its slots once per shape and dtype.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_suite import _trees as trees
from jaxopt_suite._composite import Chain, Composite, Foreign, Frozen, Groups, masked
from jaxopt_suite._leafwise import Rule
from jaxopt_suite._pipeline import CLIP, RULE, Part, Pipeline
from jaxopt_suite._recipe import has_recipe


@dataclasses.dataclass(frozen=True)
class Slot:
    """An array that is kept for a parameter."""

    name: str
    dtype: str
    bytes: int


@dataclasses.dataclass
class Parameter:
    """What happens to one parameter.

    Attributes:
      path, shape, dtype, sharding: what it is.
      group: the rules of `by_path` that it belongs to.
      rule, learning_rate, clip: what acts on it, in the order of the line.
      decay: by how much its weights decay, or why they do not.
      slots: what is kept for it.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    sharding: str
    group: list[str] = dataclasses.field(default_factory=list)
    rule: list[str] = dataclasses.field(default_factory=list)
    learning_rate: list[str] = dataclasses.field(default_factory=list)
    decay: list[str] = dataclasses.field(default_factory=list)
    clip: list[str] = dataclasses.field(default_factory=list)
    slots: list[Slot] = dataclasses.field(default_factory=list)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.size * jnp.dtype(self.dtype).itemsize

    @property
    def state_bytes(self) -> int:
        return sum(slot.bytes for slot in self.slots)


Rows = Mapping[str, Parameter]


def stages(line: Pipeline) -> list[str]:
    """The calls of a line, in the order of the gradient's way."""
    before = [repr(gate.recipe) for gate in line.gates] + [repr(p.recipe) for p in line.parts if p.place < RULE]
    after = [repr(part.recipe) for part in line.parts if part.place > RULE]
    members = line.members if isinstance(line, Composite) else None
    if isinstance(members, Chain):
        return [*before, *(stage for tx in members.txs for stage in stages(tx.pipeline)), *after]
    main = [] if line.alone and not any(p.place == RULE for p in line.parts) else [line.owner]
    return [*before, *([members.name] if isinstance(members, Foreign) else main), *after]


def account(line: Pipeline, tree: Any, rows: Rows, within: str | None = None) -> int:
    """Enters what a line does to the parameters of a tree; the bytes that it keeps besides their slots.

    `within` is the rule of `by_path` that the tree is cut out by.
    """
    if isinstance(line, Frozen):
        for path in trees.paths(tree):
            rows[path].rule.append(line.owner)
        return 0
    leaves = list(zip([rows[path] for path in trees.paths(tree)], trees.leaves(tree), strict=True))
    dtype = trees.compute_dtype(*{w.dtype: w for _, w in leaves}.values())
    kept = jnp.dtype("int32").itemsize + (0 if line.rate is None else dtype.itemsize)
    for gate in line.gates:
        kept += _gate(gate, leaves)
    for part, rule in zip(line.parts, line.rules(jnp.int32(0), dtype), strict=True):
        _part(line, part, rule, leaves, within)
        kept += len(rule.shared) * dtype.itemsize
    return kept + (_members(line.members, tree, rows, within) if isinstance(line, Composite) else 0)


def _members(members: Any, tree: Any, rows: Rows, within: str | None) -> int:
    if isinstance(members, Chain):
        return sum(account(tx.pipeline, tree, rows, within) for tx in members.txs)
    if isinstance(members, Foreign):
        return _foreign(members, tree, rows)
    return _groups(members, tree, rows)


def _groups(members: Groups, tree: Any, rows: Rows) -> int:
    found, kept = members.check(trees.paths(tree)) if trees.leaves(tree) else [], 0
    for i, (pattern, tx) in enumerate(zip(members.patterns, members.txs, strict=True)):
        mine = masked(tree, found, i)
        for path in trees.paths(mine):
            rows[path].group.append(pattern)
        kept += account(tx.pipeline, mine, rows, pattern)
    return kept


def _gate(gate: Any, leaves: Any) -> int:
    """The slots of a gate are its fields that follow the tree; the bytes of the others."""
    made: dict[Any, list[Slot]] = {}
    for row, w in leaves:
        key = (w.shape, w.dtype)
        if key not in made:
            state = jax.eval_shape(gate.init, {"w": w})
            fields = {} if state is None else state._asdict()
            made[key] = [_slot(name, x) for name, x in fields.items() if isinstance(x, dict)]
        row.slots += made[key]
    return _bytes(jax.eval_shape(gate.init, {}))


def _part(line: Pipeline, part: Part, rule: Rule, leaves: Any, within: str | None) -> None:
    clip = f"{part.recipe!r}" + ("" if within is None or not rule.measures else f" within {within!r}")
    made: dict[Any, list[Slot]] = {}
    for row, w in leaves:
        chosen = rule.choose(row.path, w) if rule.choose else rule
        key = (chosen, w.shape, w.dtype)
        if key not in made:
            made[key] = _slots(chosen, w)
        row.slots += made[key]
        if part.place == CLIP:
            row.clip.append(clip)
        elif part.place == RULE:
            row.rule.append(chosen.label or line.owner)
            row.learning_rate += [] if line.rate is None else [_rate(line)]
            row.decay += _decay(part, rule, chosen, row.path)


def _slots(rule: Rule, w: Any) -> list[Slot]:
    if rule.slots is None:
        return []
    made = jax.eval_shape(rule.init, jax.ShapeDtypeStruct(w.shape, trees.compute_dtype(w)))._asdict()
    return [_slot(name, x) for name, x in made.items() if x is not None and name not in rule.shared]


def _slot(name: str, arrays: Any) -> Slot:
    dtypes = dict.fromkeys(str(x.dtype) for x in jax.tree.leaves(arrays))
    return Slot(name, "+".join(dtypes), _bytes(arrays))


def _bytes(arrays: Any) -> int:
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(arrays))


def _rate(line: Pipeline) -> str:
    return shown(line.rate) + ("" if line.decay is None else f" / (1 + {shown(line.decay)} * step)")


def _decay(part: Part, rule: Rule, chosen: Rule, path: str) -> list[str]:
    if chosen.decay is not None:
        return [shown(chosen.decay)]
    patterns = part.arguments.get("exclude_from_weight_decay") or () if rule.decay is not None else ()
    return [f"excluded by {pattern!r}" for pattern in patterns if re.search(pattern, path)][:1]


def shown(value: Any) -> str:
    """A number, or what stands for it."""
    if isinstance(value, (int, float)):
        return f"{value:g}"
    return repr(value) if has_recipe(value) else getattr(value, "__name__", "an array")


def _foreign(member: Foreign, tree: Any, rows: Rows) -> int:
    """Of one of Optax's: the arrays of its state whose path ends with a parameter's are its slots."""
    for path in trees.paths(tree):
        rows[path].rule.append(member.name)
        for name, column in (("learning_rate", rows[path].learning_rate), ("weight_decay", rows[path].decay)):
            if member.arguments.get(name):
                column.append(shown(member.arguments[name]))
    kept = 0
    with jax.numpy_dtype_promotion("standard"):
        state = jax.eval_shape(member.tx.init, tree)
    for path, x in zip(trees.paths(state), trees.leaves(state), strict=True):
        words = path.split("/")
        names = ("/".join(words[i:]) for i in range(len(words)))
        found = next((name for name in names if name in rows), None)
        if found is None:
            kept += _bytes(x)
        else:
            rows[found].slots.append(_slot(path.removesuffix(f"/{found}").rpartition("/")[2], x))
    return kept
