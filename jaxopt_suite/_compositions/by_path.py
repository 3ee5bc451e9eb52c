"""One optimizer for some parameters, another for others."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated

import jax.numpy as jnp
import optax

from jaxopt_suite import _trees as trees
from jaxopt_suite._compositions.declare import check_member, composition
from jaxopt_suite._frame.flow import Arrays, Flow, Result
from jaxopt_suite._frame.line import Line
from jaxopt_suite._frame.members import Account, States
from jaxopt_suite._recipe.check import Word, show
from jaxopt_suite._recipe.words import Positive, Scalar, Text
from jaxopt_suite._stages.clip import clip_by_global_norm, clip_by_norm, clip_by_value
from jaxopt_suite._transformation import Transformation
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._layout import group_keys

Rules = Annotated[Mapping[str, Transformation], Word("rules", "a dict from regular expressions to optimizers")]


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """Each parameter belongs to the first pattern that is found in its path; the others are masked."""

    patterns: tuple[str, ...]
    lines: tuple[Line, ...]

    extra_args: bool
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

    def init(self, params: Tree) -> States:
        found = self.check(trees.paths(params)) if trees.leaves(params) else []
        members = enumerate(zip(self.keys, self.lines, strict=True))
        return {key: line.init(_masked(params, found, i)) for i, (key, line) in members}

    def advance(self, flow: Flow[Result], states: States) -> tuple[Result, States]:
        found, after = self.route(trees.paths(flow.grads)), dict(states)
        steps: Arrays = [None] * len(flow.xs)
        for i, (key, line) in enumerate(zip(self.keys, self.lines, strict=True)):
            places = [place for place, j in enumerate(found) if j == i]
            part = self._part(flow, found, i)
            if all(x is None for x in part.xs):
                continue
            moved, after[key] = line.advance(part, states[key])
            for place, step in zip(places, moved, strict=True):
                steps[place] = step
        return flow.then(steps), after

    def _part(self, flow: Flow, found: Sequence[int], i: int) -> Flow[Arrays]:
        """The flow through one group; a further argument that is no tree like the gradients comes as it is."""
        paths = trees.paths(flow.grads)
        extra = {n: _masked(x, found, i) if trees.paths(x) == paths else x for n, x in flow.extra.items()}
        grads, params = _masked(flow.grads, found, i), _masked(flow.params, found, i)
        xs = [x for x, j in zip(flow.xs, found, strict=True) if j == i]
        part = flow.replace(grads=grads, params=params, extra=extra, xs=xs, then=lambda moved: moved)
        if not self.lines[i].holds:
            return part

        def full(moved: Arrays) -> Arrays:
            """Both branches of a gate give arrays: zero where nothing moves."""
            out = []
            for g, w, x in zip(trees.leaves(grads), part.weights(), moved, strict=True):
                dtype = trees.compute_dtype(g, w)
                out.append(None if g is None else jnp.zeros_like(g, dtype) if x is None else x.astype(dtype))
            return out

        return part.replace(then=full, hold=lambda: full([None] * len(xs)))

    def loss_scale(self, states: States | None) -> Scalar:
        return 1.0

    def average(self, states: States, params: Tree) -> Tree | None:
        found, out, averaged = self.route(trees.paths(params)), trees.leaves(params), False
        for i, (key, line) in enumerate(zip(self.keys, self.lines, strict=True)):
            average = line.average(states[key], _masked(params, found, i))
            if average is not None:
                averaged = True
                places = [place for place, j in enumerate(found) if j == i]
                for place, leaf in zip(places, trees.leaves(average), strict=True):
                    out[place] = leaf
        return trees.like(params, out) if averaged else None

    def stages(self) -> list[str]:
        return ["by_path"]

    def describe(self, account: Account, params: Tree) -> None:
        found = self.check(trees.paths(params)) if trees.leaves(params) else []
        for i, (pattern, line) in enumerate(zip(self.patterns, self.lines, strict=True)):
            account.line(line, _masked(params, found, i), group=pattern)


def _masked(tree: Tree, found: Sequence[int], i: int) -> Tree:
    """The tree with the leaves of group `i`; a masked node has no leaves, so that the paths stay as they are."""
    if tree is None:
        return None
    pairs = zip(trees.leaves(tree), found, strict=True)
    return trees.like(tree, [leaf if j == i else optax.MaskedNode() for leaf, j in pairs])


@composition("ByPath", rules="regexes (`re.search` on a path), in order.")
def by_path(
    rules: Rules,
    *,
    clipnorm: Positive | None = None,
    clipvalue: Positive | None = None,
    global_clipnorm: Positive | None = None,
    name: Text | None = None,
) -> Line:
    """Each parameter is moved by the first optimizer whose regex is found in its path.

    The clips act before the gradients are dealt out: a global norm is that of all groups together. Unlike
    `optax.multi_transform` it takes no tree of labels, and it refuses a parameter that no rule covers and a rule
    that covers no parameter (one that matches every path may stay without).

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> params = {"embedding": jnp.zeros(2), "kernel": jnp.zeros(2), "bias": jnp.zeros(2)}
    >>> tx = jos.by_path({"embedding": jos.frozen(), "bias": jos.sgd(1.0), ".*": jos.sgd(0.5)}, global_clipnorm=2.0)
    >>> grads = {"embedding": jnp.array([4.0, 4.0]), "kernel": jnp.array([0.0, 4.0]), "bias": jnp.array([4.0, 0.0])}
    >>> for path, update in tx.update(grads, tx.init(params))[0].items():
    ...     print(path, update)
    bias [-1. -0.]
    embedding [0. 0.]
    kernel [-0.  -0.5]
    """
    clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
    on = [key for key, value in clips.items() if value is not None]
    if len(on) > 1:
        raise ValueError(f"by_path: only one of clipnorm, clipvalue and global_clipnorm can be set, got {on}.")
    for pattern, tx in rules.items():
        check_member("by_path", f"the rule {show(pattern)}", tx)
        if tx.line.scales_loss:
            raise ValueError(f"by_path: a loss scale is for all parameters: put it around by_path, not into {tx!r}.")
    make = {"clipnorm": clip_by_norm, "clipvalue": clip_by_value, "global_clipnorm": clip_by_global_norm}
    lines = tuple(tx.line for tx in rules.values())
    line = Line("by_path", members=Groups(tuple(rules), lines, any(line.extra_args for line in lines)))
    return line.insert(*(make[key].stage(clips[key]) for key in on))
