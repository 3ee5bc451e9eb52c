"""Patterns of the parameters that a function or a tree of booleans picks."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import jax
from jax.core import Tracer

from jaxopt_suite import _trees as trees
from jaxopt_suite._recipe.check import LONGEST_PATTERN, show, takes_arguments
from jaxopt_suite._trees import Tree

Predicate: TypeAlias = Any  # a function of path and leaf, one of all parameters, or a tree


def paths(params: Tree, predicate: Predicate) -> str:
    """One regular expression that is found in the paths of the picked parameters, and in no other path.

    It stands wherever patterns of paths do: as a rule of `by_path`, in `exclude_from_weight_decay`, in `shard_axes`.
    So a mask in Optax's manner becomes part of a recipe, which goes to JSON, where a function or a tree does not. It
    names the paths of this tree, each of them, and where several parameters are named alike below, at once:
    `^layers/(0|1|2)/bias$`. (By hand, `bias` is shorter, and picks those of other trees too.)

    Arguments:
      params: a tree of parameters, or of their shapes.
      predicate: a function `(path, leaf) -> bool`; or, as in `optax.masked`, a tree of booleans like `params` or
        like its upper part, or a function of `params` that gives one.

    Raises:
      TypeError: if something else than True or False says whether a parameter is picked.
      ValueError: if none is picked, or the tree is another.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> layer = {"bias": jnp.zeros(2), "kernel": jnp.zeros((2, 2))}
    >>> params = {"layers": [layer, layer], "scale": jnp.zeros(2)}
    >>> pattern = jos.paths(params, lambda path, w: w.ndim < 2)
    >>> jos.adamw(exclude_from_weight_decay=pattern)
    adamw(exclude_from_weight_decay=('^(layers/(0|1)/bias|scale)$',))
    >>> jos.paths(params, {"layers": True, "scale": False})
    '^layers/(0|1)/(bias|kernel)$'
    """
    names, leaves = trees.paths(params), trees.leaves(params)
    if callable(predicate) and takes_arguments(predicate, 2):
        chosen = [None if w is None else predicate(path, w) for path, w in zip(names, leaves, strict=True)]
    else:
        chosen = _spread(predicate(params) if callable(predicate) else predicate, params)
    rows = zip(names, leaves, chosen, strict=True)
    picked = [path for path, w, choice in rows if w is not None and _said(path, choice)]
    if not picked:
        raise ValueError(f"paths: predicate must pick a parameter, and picks none of {show(names)}.")
    pattern = f"^{_any_of([path.split('/') for path in picked])}$"
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(
            f"paths: the pattern of {len(picked)} parameters must have at most {LONGEST_PATTERN} characters, and has "
            f"{len(pattern)}: write one by hand."
        )
    return pattern


def _said(path: str, choice: Any) -> bool:
    if isinstance(choice, Tracer) or not (isinstance(choice, bool) or str(getattr(choice, "dtype", "")) == "bool"):
        raise TypeError(f"paths: predicate must say True or False of {path!r}, got {show(choice)}.")
    return bool(choice)


def _spread(mask: Tree, params: Tree) -> list[Any]:
    """A tree of booleans, of which one may stand for all below it, as one for each parameter."""
    try:
        return trees.leaves(jax.tree.map(lambda choice, below: jax.tree.map(lambda _: choice, below), mask, params))
    except (TypeError, ValueError) as error:
        raise ValueError(f"paths: predicate must be a tree like params: {error}.") from None


def _any_of(words: Iterable[Sequence[str]]) -> str:
    """A regex of paths, given by their words; where what follows is alike, words share it."""
    below: dict[str, list[Sequence[str]]] = {}
    for first, *rest in words:
        below.setdefault(first, []).append(rest)
    alike: dict[str, list[str]] = {}
    for first, rests in below.items():
        alike.setdefault(_rest(rests), []).append(re.escape(first))
    return _one_of([_one_of(firsts) + rest for rest, firsts in alike.items()])


def _rest(rests: Sequence[Sequence[str]]) -> str:
    longer = [rest for rest in rests if rest]
    inside = f"/{_any_of(longer)}" if longer else ""
    return f"({inside})?" if longer and len(longer) < len(rests) else inside


def _one_of(choices: Sequence[str]) -> str:
    return choices[0] if len(choices) == 1 else f"({'|'.join(choices)})"
