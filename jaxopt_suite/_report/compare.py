"""Where two optimizers part, and how their recipes differ."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax

from jaxopt_suite import _trees as trees
from jaxopt_suite._recipe.check import show
from jaxopt_suite._recipe.recipe import freeze, has_recipe
from jaxopt_suite._table import Rows, as_call, as_face, as_html, as_sentences, as_text


@dataclasses.dataclass(frozen=True)
class Parting:
    """Where two runs are apart: the entry of a parameter that differs most, after a step."""

    step: int
    path: str
    index: tuple[int, ...]
    a: float
    b: float
    error: float

    def cells(self) -> tuple[str, ...]:
        return self.path, str(self.step), str(self.index), f"{self.a:.8g}", f"{self.b:.8g}", f"{self.error:.2g}"


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
    """What `compare` found; it prints as sentences and tables, and shows so in a notebook.

    Attributes:
      a, b: the optimizers.
      steps: how many were run.
      tolerance: the error up to which two values agree.
      recipes: the entries of the recipes that differ, as `(name, a, b)`.
      first: where they part first, None where they agree.
      worst: the largest error of each parameter that parts.
    """

    a: str
    b: str
    steps: int
    tolerance: float
    recipes: tuple[tuple[str, str, str], ...]
    first: Parting | None
    worst: tuple[Parting, ...]

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def __repr__(self) -> str:
        tables = [as_text(*table) for table in self._tables()]
        return "\n".join([f"a = {self.a}", f"b = {self.b}", self._finding(), *tables])

    def _repr_html_(self) -> str:
        calls = [as_call(f"a = {self.a}"), as_call(f"b = {self.b}")]
        return as_face(*calls, as_sentences([self._finding()]), *(as_html(*table) for table in self._tables()))

    def _finding(self) -> str:
        if self.first is None:
            return f"They agree over {self.steps} steps, within {self.tolerance:g}."
        p = self.first
        place = f"{p.path!r}{list(p.index) if p.index else ''}"
        return f"They part at step {p.step} in {place}: {p.a:.8g} and {p.b:.8g}, an error of {p.error:.2g}."

    def _tables(self) -> list[tuple[Sequence[str], Rows]]:
        header = ("largest error of", "at step", "at index", "a", "b", "error")
        tables = [(header, [w.cells() for w in self.worst]), (("recipe", "a", "b"), self.recipes)]
        return [(header, rows) for header, rows in tables if rows]


def compare(
    tx_a: optax.GradientTransformation,
    tx_b: optax.GradientTransformation,
    params: Any,
    grads: Any,
    *,
    steps: int = 10,
    tolerance: float = 1e-6,
) -> Comparison:
    """Runs two optimizers beside each other, and says where and by how much they part, and how their recipes differ.

    The error of a parameter is `max |a - b| / (1e-3 + max |b|)`; with `tolerance=0` two values part when a bit
    differs. `grads` is a tree like `params` that is used in each of `steps` steps, or a list of such trees, one
    for each step, or a function of the parameters, which each optimizer calls with its own.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> w = {"bias": jnp.array([1.0, 2.0]), "kernel": jnp.ones(2)}
    >>> g = {"bias": jnp.array([3.0, 0.0]), "kernel": jnp.zeros(2)}
    >>> jos.compare(jos.sgd(0.5, momentum=0.5), jos.sgd(0.5, momentum=0.5, nesterov=True), w, g, steps=4)
    a = sgd(learning_rate=0.5, momentum=0.5)
    b = sgd(learning_rate=0.5, momentum=0.5, nesterov=True)
    They part at step 1 in 'bias'[0]: -0.5 and -1.25, an error of 0.37.
    largest error of  at step  at index  a     b      error
    bias              1        (0,)      -0.5  -1.25  0.37
    recipe    a      b
    nesterov  False  True
    """
    for name, tx in (("tx_a", tx_a), ("tx_b", tx_b)):
        if not isinstance(tx, optax.GradientTransformation):
            raise TypeError(f"compare: {name} must be an optimizer or a transformation of Optax, got {show(tx)}.")
    runs = [(params, tx_a.init(params)), (params, tx_b.init(params))]
    first, worst, step = None, {}, 0
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"compare: steps must be an integer >= 1, got {show(steps)}.")
    if not isinstance(tolerance, (int, float)) or not tolerance >= 0:
        raise ValueError(f"compare: tolerance must be a number >= 0, got {show(tolerance)}.")
    for step, given in enumerate(_gradients(grads, params, steps), 1):
        runs = [_step(tx, given(w), state, w) for tx, (w, state) in zip((tx_a, tx_b), runs, strict=True)]
        apart = [p for p in _partings(step, runs[0][0], runs[1][0]) if p.error > tolerance]
        first = first or max(apart, key=lambda p: p.error, default=None)
        for p in apart:
            worst[p.path] = max(worst.get(p.path, p), p, key=lambda p: p.error)
    recipes = tuple(_recipe_differences(tx_a, tx_b))
    return Comparison(_call(tx_a), _call(tx_b), step, tolerance, recipes, first, tuple(worst.values()))


def _gradients(grads: Any, params: Any, steps: int) -> Iterator[Callable[[Any], Any]]:
    """For each step, the gradients as a function of the parameters."""
    if callable(grads):
        return iter([grads] * steps)
    alike = isinstance(grads, (list, tuple)) and trees.paths(grads) != trees.paths(params)
    for tree in grads if alike else [grads]:
        trees.check_aligned("compare", tree, params)
        trees.check_trees("compare", tree, params)
    return iter([lambda w, tree=tree: tree for tree in (grads if alike else [grads] * steps)])


@functools.partial(jax.jit, static_argnums=0)
def _step(tx: Any, grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def _partings(step: int, a: Any, b: Any) -> Iterator[Parting]:
    """The largest difference in each parameter; NaN differs from everything but NaN."""
    for path, x, y in zip(trees.paths(a), trees.leaves(a), trees.leaves(b), strict=True):
        if x is None or x.size == 0:
            continue
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        with np.errstate(invalid="ignore"):
            apart = np.abs(x - y)
        apart = np.where(np.isnan(apart), np.inf, apart)
        apart[(x == y) | (np.isnan(x) & np.isnan(y))] = 0
        index = np.unravel_index(np.argmax(apart), x.shape)
        error = float(apart[index] / (1e-3 + np.abs(y[np.isfinite(y)]).max(initial=0)))
        yield Parting(step, path, tuple(map(int, index)), float(x[index]), float(y[index]), error)


def _recipe_differences(tx_a: Any, tx_b: Any) -> Iterator[tuple[str, str, str]]:
    a, b = dict(_entries("", tx_a)), dict(_entries("", tx_b))
    for name in {**a, **b}:
        if name not in a or name not in b or freeze(a[name]) != freeze(b[name]):
            first, second = (show(side[name]) if name in side else "" for side in (a, b))
            yield name, first, second


def _entries(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every argument of a recipe by its place, such as `learning_rate.decay_steps`."""
    inner = f"{name}." if name else ""
    if has_recipe(value):
        yield f"{inner}class_name", value.recipe.class_name
        for key, item in value.recipe.arguments.items():
            yield from _entries(f"{inner}{key}", item)
    elif isinstance(value, Mapping) or (isinstance(value, tuple) and any(map(has_recipe, value))):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _entries(f"{inner}{key}", item)
    else:
        yield (name, value) if name else ("class_name", "without a recipe")


def _call(tx: Any) -> str:
    return repr(tx) if has_recipe(tx) else "a transformation without a recipe"
