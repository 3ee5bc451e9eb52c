"""One optimizer for some parameters, another for others."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Self, Unpack

import jax.numpy as jnp

from jaxopt_suite import _trees as trees
from jaxopt_suite._compositions.declare import check_member, compiles, composition
from jaxopt_suite._frame.flow import Arrays, Flow, Result, spread
from jaxopt_suite._frame.line import Line
from jaxopt_suite._frame.members import Account, States
from jaxopt_suite._optimizer import Stages
from jaxopt_suite._recipe.check import Word, show
from jaxopt_suite._recipe.words import Scalar
from jaxopt_suite._slices import on_values
from jaxopt_suite._transformation import Transformation
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._names import group_keys

Rules = Annotated[Mapping[str, Transformation], Word("rules", "a dict from regular expressions to optimizers")]


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """Each parameter belongs to the first pattern that is found in its path; the others are masked."""

    patterns: tuple[str, ...]
    lines: tuple[Line, ...]

    extra_args: bool
    holds_some: bool
    divides: bool = True
    holds: bool = False  # a group holds itself back alone
    scales_loss: bool = False

    @property
    def keys(self) -> list[str]:
        return group_keys(self.patterns)

    def route(self, paths: Sequence[str]) -> list[int]:
        """The group of each parameter; one without a group is an error."""
        compiled = [re.compile(pattern) for pattern in self.patterns]
        found = [next((i for i, regex in enumerate(compiled) if regex.search(path)), None) for path in paths]
        bare = [path for path, i in zip(paths, found, strict=True) if i is None]
        if bare:
            more = f" and {len(bare) - 8} more" if len(bare) > 8 else ""
            raise ValueError(f"by_path: no rule covers {', '.join(map(repr, bare[:8]))}{more}.")
        return [i for i in found if i is not None]

    def check(self, paths: Sequence[str]) -> list[int]:
        """The group of each parameter; a group without parameters is an error too."""
        found = self.route(paths)
        for i, pattern in enumerate(self.patterns):
            matched = [path for path in paths if re.search(pattern, path)]
            if not matched:
                near = difflib.get_close_matches(pattern, paths, n=3, cutoff=0.0)
                raise ValueError(f"by_path: the rule {show(pattern)} matches no parameter; the nearest are {near}.")
            if i not in found and len(matched) < len(paths):
                taken = ", ".join(map(repr, matched[:3]))
                raise ValueError(f"by_path: an earlier rule takes all that {show(pattern)} matches, such as {taken}.")
        return found

    def moving(self, paths: Sequence[str]) -> list[bool] | None:
        return [self.lines[i].moves_at(path) for i, path in zip(self.route(paths), paths, strict=True)]

    def parts(self, found: Sequence[int]) -> Iterator[tuple[str, Line, list[bool]]]:
        """Each member, what it is called, and which leaves are its own."""
        for i, (key, line) in enumerate(zip(self.keys, self.lines, strict=True)):
            yield key, line, [j == i for j in found]

    def each(self, change: Callable[[Line], Line]) -> Self:
        return dataclasses.replace(self, lines=tuple(map(change, self.lines)))

    def init(self, params: Tree) -> States:
        found = self.check(trees.paths(params)) if trees.leaves(params) else []
        for line in self.lines if trees.is_whole(params) else ():
            for sentence in line.unmatched(trees.paths(params)):
                warnings.warn(f"by_path: {line.owner}: {sentence}.", stacklevel=4)
        return {key: line.init(trees.masked(params, mine)) for key, line, mine in self.parts(found)}

    def advance(self, flow: Flow[Result], states: States) -> tuple[Result, States]:
        after, steps = dict(states), [None] * len(flow.xs)
        for key, line, mine in self.parts(self.route(trees.paths(flow.grads))):
            part = flow.part(mine)
            if line.holds or any(x is not None for x in part.xs):  # a gate counts, whatever comes
                moved, after[key] = line.advance(_both_ways(part) if line.holds else part, states[key])
                steps = spread(moved, mine, steps)
        return flow.then(steps), after

    def loss_scale(self, states: States | None) -> Scalar:
        return 1.0

    def average(self, states: States, params: Tree) -> Tree | None:
        out, averaged = trees.leaves(params), False
        for key, line, mine in self.parts(self.route(trees.paths(params))):
            average = line.average(states[key], trees.masked(params, mine))
            if average is not None:
                out, averaged = spread(trees.leaves(average), mine, out), True
        return trees.like(params, out) if averaged else None

    def stages(self) -> list[str]:
        return ["by_path"]

    def describe(self, account: Account, params: Tree) -> None:
        found = (self.check if trees.is_whole(params) else self.route)(trees.paths(params))
        for pattern, (_, line, mine) in zip(self.patterns, self.parts(found), strict=True):
            account.line(line, trees.masked(params, mine), group=pattern)


def _both_ways(part: Flow) -> Flow[Arrays]:
    """A flow whose updates are arrays on both sides of a gate: zero where nothing moves."""

    def full(moved: Arrays) -> Arrays:
        out = []
        for g, w, x in zip(trees.leaves(part.grads), part.weights(), moved, strict=True):
            base, dtype = w if g is None else g, trees.compute_dtype(g, w)
            still = functools.partial(jnp.zeros_like, dtype=dtype)
            out.append(None if base is None else on_values(still, base) if x is None else x.astype(dtype))
        return out

    return part.replace(then=full, hold=lambda: full([None] * len(part.xs)))


@composition("ByPath", rules="regexes (`re.search` on a path), in order.")
def by_path(rules: Rules, **common: Unpack[Stages]) -> Line:
    """Each parameter is moved by the first optimizer whose regex is found in its path.

    The common arguments act on all groups together, before the gradients are dealt out or behind: a global norm is
    that of all groups (of frozen parameters, which may be of any type, nothing is read). Unlike
    `optax.multi_transform` it takes no tree of labels, and it refuses a parameter that no rule covers and a rule
    that covers no parameter (one that matches every path may stay without).

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> params = {"embedding": jnp.zeros(2), "kernel": jnp.zeros(2), "bias": jnp.zeros(2)}
    >>> tx = jos.by_path({"embedding": jos.frozen(), "bias": jos.sgd(1.0), ".*": jos.sgd(0.5)}, global_clipnorm=2.5)
    >>> grads = {"embedding": jnp.array([4.0, 4.0]), "kernel": jnp.array([0.0, 3.0]), "bias": jnp.array([4.0, 0.0])}
    >>> for path, update in tx.update(grads, tx.init(params))[0].items():
    ...     print(path, update)
    bias [-2. -0.]
    embedding [0. 0.]
    kernel [-0.   -0.75]
    """
    for pattern, tx in rules.items():
        check_member("by_path", f"the rule {show(pattern)}", tx)
        if tx.line.scales_loss:
            raise ValueError(f"by_path: a loss scale is for all parameters: put it around by_path, not into {tx!r}.")
    lines = tuple(tx.line for tx in rules.values())
    uses, holds = any(line.extra_args for line in lines), any(line.holds or line.holds_some for line in lines)
    return Line("by_path", members=Groups(tuple(rules), lines, uses, holds), compiles=compiles(lines))
