"""What each stage of a line does to each parameter: the accounts that `explain` lays open.

Nothing is compiled, and a rule is asked for its slots once per shape and dtype.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from jaxopt_suite import _trees as trees
from jaxopt_suite._frame.leafwise import Rule
from jaxopt_suite._frame.line import Line
from jaxopt_suite._frame.stages import LeafStage, Place
from jaxopt_suite._recipe.recipe import has_recipe
from jaxopt_suite._recipe.words import Number
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._codec import kind_of
from jaxopt_suite.state._layout import Layout, described
from jaxopt_suite.state._names import slot_names


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
      path, shape, dtype, sharding, bytes: what it is.
      group: the rules of `by_path` that it belongs to.
      rule, learning_rate, clip: what acts on it, in the order of the line.
      decay: by how much its weights decay, or why they do not.
      sparse: what a sparse gradient touches: `"rows"` that it has, those and `"all rows' slots"`, or, where it is made
        dense first, `"everything"`.
      slots: what is kept for it.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    sharding: str
    bytes: int
    group: list[str] = dataclasses.field(default_factory=list)
    rule: list[str] = dataclasses.field(default_factory=list)
    learning_rate: list[str] = dataclasses.field(default_factory=list)
    decay: list[str] = dataclasses.field(default_factory=list)
    clip: list[str] = dataclasses.field(default_factory=list)
    sparse: str = "everything"
    slots: list[Slot] = dataclasses.field(default_factory=list)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def state_bytes(self) -> int:
        return sum(slot.bytes for slot in self.slots)


def stage_calls(line: Line) -> list[str]:
    """The calls of a line's stages, in the order of the gradient's way; its rule goes by the line's owner."""
    before = [repr(stage.recipe) for stage in line.stages if stage.place < Place.RULE]
    after = [repr(stage.recipe) for stage in line.stages if stage.place > Place.RULE]
    if line.members is not None:
        return [*before, *line.members.stages(), *after]
    alone = any(stage.recipe for stage in line.stages if stage.place is not Place.RULE)
    main = any(stage.place is Place.RULE for stage in line.stages) or not alone
    return [*before, *([line.owner] if main else []), *after]


class Accounts:
    """What is done to each parameter, entered line by line.

    Attributes:
      rows: the parameters by path.
      shared_bytes: what is kept besides slots: counts, rates, norms.
    """

    def __init__(self, rows: Mapping[str, Parameter]):
        self.rows, self.shared_bytes = rows, 0
        self._group: str | None = None
        self._summed: set[str] = set()  # whose gradients are added up over steps, and are dense from there on

    def line(self, line: Line, params: Tree, group: str | None = None) -> None:
        """Enters what a line does to the parameters of a tree, which `by_path` picked by the pattern `group`."""
        outer, self._group = self._group, self._group if group is None else group
        for path in trees.paths(params) if group is not None else ():
            self.rows[path].group.append(group or "")
        if line.moves:
            self._stages(line, params)
        else:
            self.rule(params, line.owner)
        self._group = outer

    def _stages(self, line: Line, params: Tree) -> None:
        moving = line.moving(params)
        mine = params if moving is None else trees.masked(params, moving)
        paths, leaves = trees.paths(mine), trees.leaves(mine)
        for path, w in zip(paths, leaves, strict=True) if line.members is None else ():
            trees.check_leaf(line.owner, "parameter", path, w)
        dtype = trees.compute_dtype(*{w.dtype: w for w in leaves}.values())
        if line.writer is not None:
            line.writer.at_first(line.owner, mine)  # refuses what init refuses
        self.shared_bytes += jnp.dtype("int32").itemsize + (0 if line.learning_rate is None else dtype.itemsize)
        names = slot_names({key: stage.layout.fields for key, stage in line.keyed})
        for key, stage in [*line.front, *([] if line.meter is None else [line.meter])]:
            self._summed.update(paths if stage.place is Place.ACCUMULATE else ())
            self._slots(key, names, stage.layout, [stage.layout] * len(paths), paths, leaves, dtype)
        written = [] if line.writer is None else [(line.writer.key, line.writer.stage)]
        for key, stage in [*line.leafwise, *written]:
            rule = stage.rule(jnp.int32(0), dtype)
            chosen = [rule.of(path, w) for path, w in zip(paths, leaves, strict=True)]
            self._slots(key, names, rule.layout, [one.layout for one in chosen], paths, leaves, dtype)
            self._rules(line, stage, rule, chosen, paths)
        if line.members is not None:
            line.members.describe(self, params)

    def rule(self, params: Tree, label: str, learning_rate: Number | None = None, decay: Number | None = None) -> None:
        """Enters a rule without a line."""
        for path in trees.paths(params):
            row = self.rows[path]
            row.rule.append(label)
            row.learning_rate += [shown(learning_rate)] if learning_rate else []
            row.decay += [shown(decay)] if decay else []

    def state(self, state: Tree) -> None:
        """Enters arrays that are kept: those whose path ends with a parameter's are its slots."""
        for path, x in zip(trees.paths(state), trees.leaves(state), strict=True):
            words = path.split("/")
            found = next((name for i in range(len(words)) if (name := "/".join(words[i:])) in self.rows), None)
            if found is None:
                self.shared_bytes += trees.nbytes(x)
            else:
                name = path.removesuffix(f"/{found}").rpartition("/")[2]
                self.rows[found].slots.append(Slot(name, str(x.dtype), trees.nbytes(x)))

    def _slots(
        self,
        key: str,
        names: Mapping[tuple[str, str], str],
        layout: Layout,
        layouts: Sequence[Layout],
        paths: Sequence[str],
        leaves: Sequence[Any],
        dtype: jnp.dtype,
    ) -> None:
        """Enters what the stage `key` keeps, by the names of the slots; it is asked once for each shape and rule."""
        self.shared_bytes += sum(4 if isinstance(value, int) else dtype.itemsize for value in layout.shared.values())
        asked: dict[Any, list[Slot]] = {}
        for path, w, own in zip(paths, leaves, layouts, strict=True):
            excluded = own.storage is not None and own.storage.excludes(path)
            alike = (own.init, w.shape, w.dtype, excluded)
            if alike not in asked:
                slots = described(own, path, w).items()
                asked[alike] = [Slot(names[key, field], kind_of(x), trees.nbytes(x)) for field, x in slots]
            self.rows[path].slots += asked[alike]

    def _rules(self, line: Line, stage: LeafStage, rule: Rule, chosen: Sequence[Rule], paths: Sequence[str]) -> None:
        within = "" if self._group is None or not rule.reads_all else f" within {self._group!r}"
        clip = f"{stage.recipe!r}{within}"
        for path, one in zip(paths, chosen, strict=True):
            row = self.rows[path]
            if stage.place is Place.CLIP:
                row.clip.append(clip)
            elif stage.place is Place.RULE:
                row.rule.append(one.label or line.owner)
                row.learning_rate += [] if line.learning_rate is None else [_rate(line)]
                row.decay += _decay(stage, rule, one, path)
                row.sparse = "everything" if path in self._summed else _touched(one)


def _touched(rule: Rule) -> str:
    """What a sparse gradient touches."""
    if rule.rows is None and not rule.on_values:
        return "everything"
    return "rows" if rule.absent is None else "rows, all rows' slots"


def _rate(line: Line) -> str:
    return shown(line.learning_rate) + ("" if line.decay is None else f" / (1 + {shown(line.decay)} * step)")


def _decay(stage: LeafStage, rule: Rule, chosen: Rule, path: str) -> list[str]:
    if chosen.decay is not None:
        return [shown(chosen.decay)]
    patterns = stage.arguments.get("exclude_from_weight_decay") or () if rule.decay is not None else ()
    return [f"excluded by {pattern!r}" for pattern in patterns if re.search(pattern, path)][:1]


def shown(value: object) -> str:
    """A number, or what stands for it."""
    if isinstance(value, (int, float)):
        return f"{value:g}"
    return repr(value) if has_recipe(value) else getattr(value, "__name__", "an array")
