"""What an importer gives, and how it is put together."""

import dataclasses
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_suite import _trees as trees
from jaxopt_suite._recipe.check import show
from jaxopt_suite._recipe.config import named
from jaxopt_suite._transformation import Transformation
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._layout import STATE_CLASSES
from jaxopt_suite.state._match import Rename, Rules
from jaxopt_suite.state._migrate import first_state, is_transformation, moved
from jaxopt_suite.state._report import Migration
from jaxopt_suite.state._variables import Stage, Variable, holds, ours

Transform: TypeAlias = Callable[[str, np.ndarray], Any] | None


class Imported(NamedTuple):
    """A run of another library.

    Attributes:
      optimizer: one of ours that takes the same steps.
      state: its state in the middle of the run.
      report: what of the other library's state is in it.

    >>> import jax.numpy as jnp, optax, jaxopt_suite as jos
    >>> params = {"w": jnp.ones(2)}
    >>> run = jos.importers.optax(optax.adam(0.1).init(params), params, jos.adam(0.1, dialect="torch"))
    >>> run.optimizer, jos.state.slot_names(run.state), run.report.dropped
    (adam(learning_rate=0.1, dialect='torch'), ['m', 'v'], ())
    """

    optimizer: Any
    state: Tree
    report: Migration


def imported(
    owner: str,
    variables: Sequence[Variable],
    tx: Transformation,
    params: Tree,
    rename: Rules,
    transform: Transform,
    strict: bool,
    names: Sequence[str] = (),
) -> Imported:
    """The state of `tx` with the variables of another library's, of which `names` are all the parameters'."""
    rules, paths = Rename(owner, rename), {*trees.paths(params)}
    variables = [_transformed(owner, v, rules, transform, paths) for v in variables]
    fresh = first_state(owner, tx, params)
    state, report = moved(owner, variables, fresh, tx, params, rename, strict, names=names)
    return Imported(tx, state, report)


def ours_of(owner: str, optimizer: Any) -> Any:
    """One of our optimizers: itself, or by its name."""
    if isinstance(optimizer, str):
        return named(owner, optimizer)
    if not hasattr(optimizer, "recipe"):
        theirs = ": from_optax goes on with Optax's own" if is_transformation(optimizer) else ""
        raise TypeError(f"{owner}: optimizer must be one of jaxopt_suite, or its name, got {show(optimizer)}{theirs}.")
    return optimizer


def refuse_no_state(owner: str, source: Any) -> None:
    """Refuses what is easily given in the place of another library's state."""
    if isinstance(source, optax.GradientTransformation):
        raise TypeError(f"{owner}: source must be a state, got the transformation itself, {show(source)}.")
    if not isinstance(source, (str, PathLike)) and holds(source, ours):
        raise TypeError(f"{owner}: there is a state of jaxopt_suite in source: jos.state.migrate reads those.")


def steps_of(owner: str, name: str, value: Any) -> int:
    """A number of steps, as an int32 can count them."""
    number = np.asarray(value)
    if number.shape != () or not is_numeric(number.dtype) or not 0 <= number < 2**31 or number != int(number):
        raise ValueError(f"{owner}: {name} must be a whole number of steps below 2**31, got {show(value)}.")
    return int(number)


def is_numeric(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.number))


def _transformed(owner: str, v: Variable, rename: Rename, transform: Transform, paths: set[str]) -> Variable:
    """A slot laid out as its parameter here is; in a state of Optax's, the end of a path is that of a parameter."""
    words = v.path.split("/") if v.is_foreign else [v.path]
    here = (rename("/".join(words[k:])) for k in range(len(words)))
    path = next((path for path in here if path in paths), None)
    if transform is None or path is None or not (v.is_slot or v.is_foreign) or not v.path:
        return v
    made = transform(path, v.value)
    if not hasattr(made, "shape"):
        raise TypeError(f"{owner}: transform must return an array, got a {type(made).__name__} for {path!r}.")
    return dataclasses.replace(v, value=made)


def slot(value: Any, place: str, kind: str, field: str, path: str = "", key: str = "rule") -> Variable:
    """A slot of one of our classes of slots."""
    fields = getattr(STATE_CLASSES[kind], "_fields", ())
    return Variable(value, place, field, path, Stage(key, kind, fields), field)
