"""What slots and groups are called in a state."""

import itertools
import re
from collections.abc import Mapping, Sequence


def numbered(names: Sequence[str]) -> list[str]:
    """Names that are used again are numbered: `ema`, `ema_2`; none gets a name that stands before it."""
    given: list[str] = []
    for i, name in enumerate(names):
        tries = (f"{name}_{n}" if n > 1 else name for n in itertools.count(names[: i + 1].count(name)))
        given.append(next(new for new in tries if new not in given))
    return given


def slot_names(fields: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], str]:
    """The name of each `(stage, field)`: the field's, numbered where two stages have one of that name."""
    pairs = [(key, field) for key in sorted(fields) for field in fields[key]]
    return dict(zip(pairs, numbered([field for _, field in pairs]), strict=True))


def group_key(pattern: str) -> str:
    """What a group is called in a state, from its regex: its letters and digits, `rest` where it has none."""
    return re.sub(r"\W+", "_", pattern, flags=re.ASCII).strip("_")[:60] or "rest"


def group_keys(patterns: Sequence[str]) -> list[str]:
    return numbered([group_key(pattern) for pattern in patterns])
