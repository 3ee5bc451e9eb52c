"""What became of each variable of a state that moved."""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from jaxopt_suite._table import as_face, as_html, as_sentences, as_text

_MOST = 200  # rows of a printed table; where there are more parameters, those that are alike share one
_HEADER = ("parameter", "n", "was", "kept", "reset", "dropped")


@dataclasses.dataclass(frozen=True)
class Fate:
    """What became of one variable.

    Attributes:
      name: as in `variables`, behind the place of its state where that is a member; of one that was dropped, in
        the old state.
      path, slot: of its parameter, `""` for what is none's; of its slot.
      fate: `"kept"`, `"reset"` or `"dropped"`.
      was: the path that its parameter had, where it is another.
      why: why it was reset or dropped.
      lost: whether something is lost with it that the run would need.
    """

    name: str
    path: str
    slot: str
    fate: str
    was: str = ""
    why: str = ""
    lost: bool = False


@dataclasses.dataclass(frozen=True, repr=False)
class Migration:
    """What `migrate` did: it prints as a table, and shows as one in a notebook.

    Attributes:
      optimizer: the call that makes the new one.
      fates: what became of each variable.
      notes: sentences about counts and rates.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> w = {"w": jnp.zeros(2)}
    >>> _, report = jos.state.migrate(jos.sgd(0.1, momentum=0.9).init(w), jos.adam(0.1), w, strict=False)
    >>> report.kept, report.reset, report.dropped
    (('count', 'learning_rate'), ('m/w', 'v/w'), ('m/w',))
    """

    optimizer: str
    fates: tuple[Fate, ...]
    notes: tuple[str, ...] = ()

    def _named(self, fate: str) -> tuple[str, ...]:
        return tuple(f.name for f in self.fates if f.fate == fate)

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the new variables that go on from the old state."""
        return self._named("kept")

    @property
    def reset(self) -> tuple[str, ...]:
        """Names of the new variables that start fresh."""
        return self._named("reset")

    @property
    def dropped(self) -> tuple[str, ...]:
        """Names of the old variables that have no place in the new state."""
        return self._named("dropped")

    @property
    def lost(self) -> tuple[str, ...]:
        """Those of the dropped that `strict` refuses; others were records, or held nothing."""
        return tuple(f.name for f in self.fates if f.lost)

    @property
    def renamed(self) -> dict[str, str]:
        """The new paths of parameters by their old ones, where they are others."""
        return {f.was: f.path for f in self.fates if f.was}

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain data for tests and logs."""
        lists = {name: list(getattr(self, name)) for name in ("kept", "reset", "dropped", "lost", "notes")}
        return {"optimizer": self.optimizer, **lists, "renamed": self.renamed}

    def __repr__(self) -> str:
        return "\n".join([*self._head(), as_text(_HEADER, self._rows()), *self.notes])

    def _repr_html_(self) -> str:
        return as_face(as_sentences(self._head()), as_html(_HEADER, self._rows()), as_sentences(self.notes))

    def _head(self) -> list[str]:
        counts = ", ".join(f"{len(self._named(fate))} {fate}" for fate in ("kept", "reset", "dropped"))
        return [f"{self.optimizer}: {counts}"]

    def _rows(self) -> list[tuple[str, ...]]:
        by_path: dict[str, list[Fate]] = defaultdict(list)
        for f in self.fates:
            by_path[f.path].append(f)
        cells = {path: _cells(fates) for path, fates in by_path.items()}
        if len(cells) <= _MOST:
            return [(path, "", *cells[path]) for path in cells]
        alike: dict[Any, list[str]] = defaultdict(list)
        for path in cells:
            alike[re.sub(r"\d+", "*", path), *(re.sub(r"\d+", "*", cell) for cell in cells[path])].append(path)
        return [(key[0], str(len(paths)), *key[1:]) for key, paths in alike.items()]


def _cells(fates: Iterable[Fate]) -> tuple[str, ...]:
    by_fate: Mapping[str, dict[str, None]] = {fate: {} for fate in ("kept", "reset", "dropped")}
    was = {f.was: None for f in fates if f.was}
    for f in fates:
        by_fate[f.fate][f.slot or f.name] = None
    return ", ".join(was), *(", ".join(names) for names in by_fate.values())
