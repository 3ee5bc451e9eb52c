"""A state that outlives the code that wrote it."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from jax.core import Tracer

from jaxopt_suite import _trees as trees
from jaxopt_suite._recipe.check import check, nearest, show
from jaxopt_suite._recipe.declare import word_of
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._arrays import placed_as_stored
from jaxopt_suite.state._flat import is_flat, read_flat
from jaxopt_suite.state._layout import STATE_CLASSES
from jaxopt_suite.state._match import Matched, Rename, Rules
from jaxopt_suite.state._report import Fate, Migration
from jaxopt_suite.state._variables import COUNT, HELD, Variable, filled, first_layout, holds, listed, ours, plain, unit

_RATES, _FLAG = word_of(Literal["state", "code"]), word_of(bool)


class Initializes(Protocol):
    """An optimizer: ours, or a chain of Optax around it."""

    @property
    def init(self) -> Any: ...


def migrate(
    state: Tree,
    tx: Initializes,
    params: Tree,
    rename: Rules = None,
    strict: bool = True,
    learning_rate: str = "state",
) -> tuple[Tree, Migration]:
    """A state of `tx` for `params`, from one that another optimizer, another tree or an older version left.

    What both know is kept: a slot is known by the stage it is of and by the path of its parameter. What is new
    starts fresh, what is gone is dropped, and the report says which. A count goes where the slots go that it
    belongs to: parameters that join in a group of their own start from 0.

    Arguments:
      state: a state in memory, what a checkpoint gives without a template (orbax's plain dicts), one that was
        written before stages had names, or what `to_dict`, `variables` or `load_dict` gave.
      params: the parameters of the new run, whose shapes and devices the state gets.
      rename: regexes and their replacements (`re.sub`), of which the first that is found in an old path gives the
        new one; or a function of the path.
      strict: refuse what would be lost: slots, and of groups that become one all rates but one, where they differ.
        Records, such as a gradient's norm, and an accumulator between two cycles are none.
      learning_rate: whose number a rate is that is one in both: that which the `"state"` holds, or that of the
        `"code"`. A schedule's rate is always that of the code.

    Raises:
      TypeError, ValueError: if there is no state of ours in it, a regex is found in no path, two parameters would
        become one, or with `strict` something would be lost: named, with what to do.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> old = jos.adam(0.1).init({"dense": jnp.zeros(2), "head": jnp.zeros(3)})
    >>> tx, params = jos.adam(0.1, use_ema=True), {"body": jnp.zeros(2), "head": jnp.zeros(3)}
    >>> state, report = jos.state.migrate(old, tx, params, rename={"^dense": "body"})
    >>> report
    adam(learning_rate=0.1, use_ema=True): 6 kept, 2 reset, 0 dropped
    parameter  was    kept                  reset
                      count, learning_rate
    body       dense  m, v                  average
    head              m, v                  average
    """
    check("migrate", "learning_rate", learning_rate, _RATES)
    fresh = first_state("migrate", tx, params)
    if is_transformation(state):
        raise TypeError(f"migrate: state must be a state, got the optimizer {show(state)} itself.")
    old = _read("migrate", state, fresh)
    return moved("migrate", old, fresh, tx, params, rename, strict, code_rate=learning_rate == "code")


def first_state(owner: str, tx: Any, params: Tree) -> Tree:
    """The first state of an optimizer; its name is refused, as the caller goes on with the optimizer itself."""
    if not is_transformation(tx):
        named = f": jos.get({tx!r}) makes one" if isinstance(tx, str) else ""
        raise TypeError(f"{owner}: tx must be an optimizer, got {show(tx)}{named}.")
    fresh = tx.init(params)
    if not holds(fresh, ours):
        raise TypeError(f"{owner}: tx must be or hold an optimizer of jaxopt_suite, got {show(tx)}: see from_optax.")
    return fresh


def is_transformation(x: Any) -> bool:
    return callable(getattr(x, "init", None)) and callable(getattr(x, "update", None))


def moved(
    owner: str,
    old: Sequence[Variable],
    fresh: Tree,
    tx: Any,
    params: Tree,
    rename: Rules,
    strict: bool,
    code_rate: bool = False,
    names: Sequence[str] = (),
) -> tuple[Tree, Migration]:
    """`fresh`, the first state of `tx`, with the values of old variables; and what became of each.

    `names` are the old parameters, where some have no variable.
    """
    check(owner, "strict", strict, _FLAG)
    _refuse_wrong_counts(owner, old)
    new = list(listed(fresh, ours))
    matched = Matched(old, new, Rename(owner, rename), code_rate, names)
    source, fates = matched.source, tuple(_fates(matched, trees.paths(params)))
    report = Migration(_called(tx), fates, tuple(_notes(matched)))
    if strict and report.lost:
        _refuse(owner, report)
    if any(v.is_slot for v in old) and new and not source:
        raise ValueError(
            f"{owner}: nothing of this state is known here: it is of another optimizer and other parameters."
        )
    values = (placed_as_stored(old[source[j]].value, v.value) if j in source else v.value for j, v in enumerate(new))
    return filled(fresh, values), report


def _refuse_wrong_counts(owner: str, old: Sequence[Variable]) -> None:
    """Refuses counts that no run can have come to; under a trace they are not known."""
    for v in old:
        if v.is_count and not isinstance(v.value, Tracer):
            steps = np.asarray(v.value)
            if steps.dtype.kind not in "iuf" or not np.all((steps >= 0) & (steps < 2**31) & (steps == np.floor(steps))):
                raise ValueError(f"{owner}: {v.name!r} must be a number of steps below 2**31, got {show(v.value)}.")


def _called(tx: Any) -> str:
    is_ours = hasattr(getattr(tx, "update", None), "recipe")
    return repr(tx) if is_ours else type(tx).__name__


def _read(owner: str, state: Tree, fresh: Tree) -> list[Variable]:
    """The variables of a state, whatever form it comes in."""
    if is_flat(state):
        return read_flat(owner, state)
    for tree, reader in ((state, ours), (state, plain), (first_layout(state, fresh), unit)):
        if holds(tree, reader):
            return list(listed(tree, reader))
    raise ValueError(
        f"{owner}: there is no state of a jaxopt_suite optimizer in this {type(state).__name__}: jos.importers reads "
        "those of Keras, torch and Optax."
    )


def _fates(matched: Matched, parameters: Sequence[str]) -> Iterator[Fate]:
    old, new = matched.old, matched.new
    for j, v in enumerate(new):
        was = old[matched.source[j]].path if j in matched.source else v.path
        fate = "kept" if j in matched.source else "reset"
        yield Fate(v.name, *_place(v), fate, was if v.is_slot and was != v.path else "")
    counts = [old[i].value for j, i in matched.source.items() if new[j].slot == COUNT]
    used, rated = {*matched.source.values()}, any(v.is_rate for v in new)
    for i, v in enumerate(old):
        unfit = matched.unfit.get(i)
        if i in used or i in matched.merged or (v.is_count and any(_equal(v.value, count) for count in counts)):
            continue
        if v.is_rate and rated and unfit is None:
            continue
        lost = unfit is not None if v.is_rate else not _is_idle(v, old)
        yield Fate(v.name, *_place(v), "dropped", why=unfit or _why(matched, v, parameters), lost=lost)


def _place(v: Variable) -> tuple[str, str]:
    """The row and the cell of a table that a variable is shown in."""
    if v.is_foreign:
        return v.path, "array"
    return v.path, v.slot if v.path else ""


def _why(matched: Matched, v: Variable, parameters: Sequence[str]) -> str:
    """Why nothing takes a variable."""
    path = matched.paths.get(v.path, v.path)
    if v.is_slot and path and path not in parameters:
        return f"there is no parameter {path!r} here.{nearest(path, parameters)}".rstrip(".")
    return "another state has another count" if v.is_count else "nothing here keeps it"


def _is_idle(v: Variable, old: Sequence[Variable]) -> bool:
    """Whether the stage of a slot says that a run goes on as well without it."""
    if v.stage is None:
        return False
    fields = v.stage.fields or (v.field,)
    kinds = [cls for name, cls in STATE_CLASSES.items() if name == v.stage.kind]
    kinds = kinds or [cls for cls in STATE_CLASSES.values() if {*getattr(cls, "_fields", ())} == {*fields}]
    if len(kinds) != 1 or not hasattr(kinds[0], "idle"):
        return False
    beside = {o.field: o.value for o in old if (o.place, o.stage) == (v.place, v.stage) and not o.path}
    if any(isinstance(x, Tracer) for x in beside.values()):
        return False
    return kinds[0](**{**dict.fromkeys(kinds[0]._fields), **beside}).idle()


def _equal(a: Any, b: Any) -> bool:
    return isinstance(a, Tracer) or isinstance(b, Tracer) or bool(np.array_equal(a, b))


def _notes(matched: Matched) -> Iterator[str]:
    """What is worth a sentence about counts and rates."""
    old, new = matched.old, matched.new
    for j, v in enumerate(new):
        if not (v.is_rate or v.is_count):
            continue
        before = [
            o.value
            for o in old
            if o.place in matched.origin[v.place] and (o.is_rate, o.is_count) == (v.is_rate, v.is_count)
        ]
        if any(isinstance(x, Tracer) for x in (v.value, *before)):
            continue
        now = old[matched.source[j]].value if j in matched.source else v.value
        others = sorted({_shown(x) for x in before if not np.array_equal(x, now)})
        if others:
            yield f"{v.name} is {_shown(now)}; in the old state it was {', '.join(others)}"
        elif v.slot == HELD and not np.array_equal(now, v.value):
            yield f"{v.name} is {_shown(now)}, as in the old state; in the code it is {_shown(v.value)}"


def _shown(x: Any) -> str:
    return f"{np.asarray(x).item():g}" if np.ndim(x) == 0 else show(np.asarray(x).tolist())


def _refuse(owner: str, report: Migration) -> None:
    lost = [f for f in report.fates if f.lost]
    named = "; ".join(f"{f.name!r} ({f.why})" for f in lost[:4])
    more = f"; and {len(lost) - 4} more" if len(lost) > 4 else ""
    rename = "Rename parameters by rename={regex: replacement}, or drop" if any(f.path for f in lost) else "Drop"
    raise ValueError(
        f"{owner}: {len(lost)} variable{'s' * (len(lost) > 1)} would be lost: {named}{more}. {rename} what has no "
        "place with strict=False."
    )
