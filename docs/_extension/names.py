"""What other libraries call things: made from the recordings, the counterparts, and the words that are understood."""

import re
from collections.abc import Iterator

from agreement import LIBRARIES, recorded
from recorded import library
from rows import ROWS, Row

import jaxopt_suite as jos
from _extension.docstrings import table
from _extension.optimizers import counterparts
from jaxopt_suite._recipe.config import REGISTRY
from jaxopt_suite._recipe.others import OTHERS


def page() -> str:
    return f"""# Names in other libraries

Keras's methods and arguments, one by one, are in {{doc}}`/examples/from_keras`; states of other libraries are taken
over as in {{doc}}`/migrating`.

## Optimizers

What each is called there, where it was recorded from there, or computes the same numbers (of Optax).

{table(("here", *LIBRARIES.values(), "Optax"), _optimizers())}

## Schedules

{table(("here", "in Keras's configs"), _schedules())}

## Arguments

An argument by another library's name is refused with a sentence that says what to write:

```python
>>> jos.adam(betas=(0.9, 0.999))
Traceback (most recent call last):
TypeError: adam: there is no argument 'betas'. They come one by one, as beta_1 and beta_2.
```

{table(("there", "here"), _arguments())}
"""


def _optimizers() -> Iterator[tuple[str, ...]]:
    beside = counterparts()
    for row in ROWS:
        same = {_function(theirs): None for _, theirs, apart in beside.get(row.name, []) if apart.startswith("none")}
        theirs = (", ".join(f"`{name}`" for name in _classes(row, name)) for name in LIBRARIES)
        yield f"{{doc}}`{row.name} </optimizers/{row.name}>`", *theirs, ", ".join(f"`{name}`" for name in same)


def _function(code: str) -> str:
    """The transformations of Optax that an expression is made of."""
    found = re.findall(r"optax\.(?!chain\b)[\w.]+", code)
    return " + ".join(found)


def _classes(row: Row, name: str) -> list[str]:
    """The classes of a library that were recorded for an optimizer, most used first."""
    if not (variants := recorded(row, name)):
        return []
    cases = library(name)[1]["cases"]
    return [*{cases[v.reference.partition("/")[2]]["class"]: None for v in variants if v.reference}]


def _schedules() -> Iterator[tuple[str, str]]:
    for make in REGISTRY.values():
        if getattr(jos.schedules, make.__name__, None) is make:
            yield f"`jos.schedules.{make.__name__}`", f"`{make.class_name}`"


def _arguments() -> Iterator[tuple[str, str]]:
    for name, other in OTHERS.items():
        ours = " or ".join(f"`{word}`" for word in other.ours)
        yield f"`{name}`", " ".join(filter(None, (f"{ours}." if ours else "", other.advice)))
