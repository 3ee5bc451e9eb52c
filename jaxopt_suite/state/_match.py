"""Which variable of an old state goes to which place of a new one."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxopt_suite._recipe.check import check, nearest, show
from jaxopt_suite._recipe.declare import word_of
from jaxopt_suite._recipe.words import Patterns
from jaxopt_suite.state._codec import is_blocks
from jaxopt_suite.state._variables import HELD, RECORD, Stage, Variable, joined

_PATTERNS = word_of(Patterns)


Rules = Mapping[str, str] | Callable[[str], str] | None


class Rename:
    """New paths of parameters: what the first regex that is found in a path makes of it, or what a function does."""

    def __init__(self, owner: str, rules: Rules):
        rules = {} if rules is None else rules
        if not callable(rules) and not (isinstance(rules, Mapping) and all(isinstance(x, str) for x in rules.values())):
            raise TypeError(f"{owner}: rename must be a dict from regexes to replacements, got {show(rules)}.")
        check(owner, "rename", [] if callable(rules) else list(rules), _PATTERNS)
        self.owner, self.rules = owner, rules

    def __call__(self, path: str) -> str:
        if callable(self.rules):
            new = self.rules(path)
            if not isinstance(new, str):
                raise TypeError(f"{self.owner}: rename must return a path, got {show(new)} for {path!r}.")
            return new
        pattern = next((pattern for pattern in self.rules if re.search(pattern, path)), None)
        if pattern is None:
            return path
        try:
            return re.sub(pattern, self.rules[pattern], path)
        except (re.error, IndexError) as error:
            came = show(self.rules[pattern])
            raise ValueError(f"{self.owner}: rename: {came} is no replacement: {error}.") from None

    def all(self, paths: Sequence[str], ends: Sequence[str] = ()) -> dict[str, str]:
        """The new path of each; a regex that is found in no path, and two paths that become one, are refused.

        `ends` are of other paths, in which a parameter's may be.
        """
        for pattern in () if callable(self.rules) else self.rules:
            if not any(re.search(pattern, path) for path in (*paths, *ends)):
                near = nearest(pattern, paths)
                raise ValueError(f"{self.owner}: rename: {show(pattern)} is found in no parameter's path.{near}")
        new = {path: self(path) for path in paths}
        counts = Counter(new.values())
        twice = [path for path in paths if counts[new[path]] > 1]
        if twice:
            one, other = [path for path in twice if new[path] == new[twice[0]]][:2]
            raise ValueError(f"{self.owner}: rename: {one!r} and {other!r} would both become {new[one]!r}.")
        return new


class Matched:
    """What of an old state goes where in a new one.

    Attributes:
      paths: the new path of each old parameter.
      source: the number of the old variable that each new one takes its value from, by its own; others start fresh.
      merged: the numbers of old variables that are one for all parameters, and become one with others like them.
      unfit: why an old variable does not fit where it belongs, by its number.
      origin: the old states that the count and the rate of each new state come from, by their places.
    """

    def __init__(
        self,
        old: Sequence[Variable],
        new: Sequence[Variable],
        rename: Rename,
        code_rate: bool = False,
        names: Sequence[str] = (),
    ):
        self.old, self.new, self.rename = old, new, rename
        self.paths = rename.all(list(dict.fromkeys(v.path for v in old if v.path and v.is_slot)), [*_ends(old), *names])
        self.slots_at: dict[Any, set[str]] = defaultdict(set)
        for v in (*old, *new):
            self.slots_at[v.place, v.stage, v.path].add(v.slot)
        self.source: dict[int, int] = {}
        self.unfit: dict[int, str] = {}
        self.merged: set[int] = set()
        self._match_slots()
        self._match_foreign()
        self.origin = {place: self._origin(place) for place in dict.fromkeys(v.place for v in new if not v.is_foreign)}
        self._match_counts()
        if not code_rate:
            self._match_rates()
        self._match_shared()

    def _take(self, j: int, i: int) -> None:
        """Lets a new variable have the value of an old one, if its shape and type fit."""
        have, want = self.old[i].value, self.new[j].value
        if have.shape != want.shape:
            self.unfit[i] = f"it has shape {have.shape}, here it is {want.shape}"
        elif _is_floating(have) != _is_floating(want) and not self.new[j].is_count:
            self.unfit[i] = f"it is {have.dtype}, here it is {want.dtype}"
        else:
            self.source[j] = i

    def _match_slots(self) -> None:
        """Slots of parameters: those of one path, of one kind of stage."""
        by_path: dict[str, list[int]] = defaultdict(list)
        for i, v in enumerate(self.old):
            if v.stage is not None and v.path:
                by_path[self.paths[v.path]].append(i)
        claims: dict[Any, list[int]] = defaultdict(list)
        for j, v in enumerate(self.new):
            if v.stage is not None and v.path:
                claims[v.path, v.stage.kind, _root(v.stage.key), v.field].append(j)
        for (path, *_), places in claims.items():
            fitting = [i for i in by_path[path] if self._is_of(self.old[i], self.new[places[0]])]
            for j, i in self._pairs(places, fitting):
                self._take(j, i)

    def _pairs(self, places: list[int], values: list[int]) -> list[tuple[int, int]]:
        """Values for places: first those of the same state and stage, then what is left, if it is as many."""
        pairs = []
        for same in (_same_stage, _same_place):
            for j in [j for j in places if not any(j == k for k, _ in pairs)]:
                left = [i for i in values if not any(i == k for _, k in pairs)]
                pairs += [(j, i) for i in left if same(self.old[i], self.new[j])][:1]
        left = [i for i in values if not any(i == k for _, k in pairs)]
        empty = [j for j in places if not any(j == k for k, _ in pairs)]
        return pairs + list(zip(empty, left, strict=True)) if len(empty) == len(left) else pairs

    def _is_of(self, old: Variable, new: Variable) -> bool:
        """Whether an old slot is the new one, by all that is known of it."""
        have, want = old.stage or Stage(), new.stage or Stage()
        if have == Stage():  # of a list of names alone: all that the stage needs must be there
            needed, held = (self.slots_at[v.place, v.stage, v.path] for v in (new, old))
            return old.slot == new.slot and needed - {*want.later} <= held
        as_named = {*want.fields} - {*want.later} <= {*have.fields} <= {*want.fields}
        if not (have.kind == want.kind if have.kind else as_named):
            return False
        return old.field == new.field and (not have.key or _root(have.key) == _root(want.key))

    def _match_foreign(self) -> None:
        """What stands in states of Optax's: by the whole path, in which the end is that of a parameter."""
        names = {v.path: j for j, v in enumerate(self.new) if v.is_foreign}
        for i, v in enumerate(self.old):
            if v.is_foreign:
                words = v.path.split("/")
                tries = (joined(*words[:k], self.rename("/".join(words[k:]))) for k in range(len(words)))
                found = next((name for name in tries if name in names), None)
                if found is not None:
                    self._take(names[found], i)

    def _origin(self, place: str) -> list[str]:
        """Where the slots of a state come from; else who had its parameters; else who stood there, or anybody."""
        mine = [j for j, v in enumerate(self.new) if v.place == place and v.is_slot and v.path]
        kept = Counter(self.old[self.source[j]].place for j in mine if j in self.source)
        if kept:
            return sorted(kept, key=lambda name: (-kept[name], name != place))
        paths = {self.new[j].path for j in mine}
        old = [v for i, v in enumerate(self.old) if i not in self.unfit]  # of another shape it is another parameter
        held = Counter(v.place for v in old if v.is_slot and self.paths.get(v.path) in paths)
        if held:
            return sorted(held, key=lambda name: (-held[name], name != place))
        counted = [*dict.fromkeys(v.place for v in self.old if v.is_count or v.is_rate)]
        of_others = paths and any(v.is_slot and v.path and v.place == place for v in self.old)
        if place in counted and not of_others:
            return [place]
        return counted if not paths or not self.paths else []

    def _match_counts(self) -> None:
        """Where states of different counts become one, the longest run counts."""
        counts = {v.place: i for i, v in enumerate(self.old) if v.is_count}
        for j, v in enumerate(self.new):
            known = [counts[place] for place in self.origin.get(v.place, ()) if place in counts]
            if v.is_count and known:
                known = sorted(known, key=self._steps, reverse=True)
                self._take(j, known[0])

    def _steps(self, i: int) -> int:
        """A count, as far as it is known: under a trace it is not. Of several runs, that of the longest."""
        count = self.old[i].value
        return 0 if isinstance(count, Tracer) else int(np.max(count))

    def _match_rates(self) -> None:
        """A held rate goes on being held; a record of a schedule's is none to hold."""
        rates = {v.place: i for i, v in enumerate(self.old) if v.is_rate}
        for j, v in enumerate(self.new):
            if not v.is_rate or not self.origin[v.place]:
                continue
            known = [rates[place] for place in self.origin[v.place] if place in rates]
            known = known or [*rates.values()] * (len(rates) == 1)
            if known and (v.slot, self.old[known[0]].slot) != (HELD, RECORD):
                self._take(j, known[0])
                self._refuse_other_rates(v, known)

    def _refuse_other_rates(self, new: Variable, known: Sequence[int]) -> None:
        """Where states of different rates become one that holds a rate, all but one of them have no place."""
        taken, *others = known
        for i in others if new.slot == HELD else ():
            if self.old[i].slot == HELD and not _alike(self.old[i].value, self.old[taken].value):
                self.unfit[i] = "the rate of another group goes on"

    def _match_shared(self) -> None:
        """Slots that are one for all parameters, with the state they belong to; where it was divided, each has it."""
        for j, v in enumerate(self.new):
            if v.stage is None or v.path:
                continue
            found = [i for i, o in enumerate(self.old) if o.stage is not None and not o.path and self._is_of(o, v)]
            near = [i for i in found if _same_stage(self.old[i], v)]
            near = near or [i for i in found if self.old[i].place in self.origin[v.place]]
            if near:
                self._take(j, near[0])
            if j in self.source:
                self.merged |= {i for i in near if _alike(self.old[i].value, self.old[near[0]].value)}


def _is_floating(x: Any) -> bool:
    return is_blocks(x) or bool(jnp.issubdtype(x.dtype, jnp.floating))


def _alike(a: Any, b: Any) -> bool:
    if is_blocks(a) or is_blocks(b):
        return a is b
    return isinstance(a, Tracer) or isinstance(b, Tracer) or bool(np.array_equal(a, b))


def _root(key: str) -> str:
    """What a stage is, without the number that tells it from others of its kind."""
    return re.sub(r"_\d+$", "", key)


def _same_stage(old: Variable, new: Variable) -> bool:
    return old.place == new.place and old.stage is not None and new.stage is not None and old.stage.key == new.stage.key


def _same_place(old: Variable, new: Variable) -> bool:
    return old.place == new.place


def _ends(old: Sequence[Variable]) -> list[str]:
    """The ends of foreign paths, one of which is a parameter's."""
    words = [v.path.split("/") for v in old if v.is_foreign]
    return ["/".join(w[k:]) for w in words for k in range(len(w))]
