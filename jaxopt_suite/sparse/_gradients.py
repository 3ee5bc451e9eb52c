"""Gradients of which those of tables are slices."""

import difflib
import functools
import operator
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxopt_suite import _trees as trees
from jaxopt_suite._recipe.check import show
from jaxopt_suite._slices import IndexedSlices, gathered, varies, varying
from jaxopt_suite._trees import Tree
from jaxopt_suite.sparse._lookups import Inputs, LookUp, Notes, Table, Walk, is_loop

OWNER = "sparse.value_and_grad"


def value_and_grad(
    loss_fn: Callable[..., Any], tables: str | Sequence[str], *, has_aux: bool = False
) -> Callable[..., tuple[Any, Tree]]:
    """As `jax.value_and_grad` for the first argument, but the gradients of tables are `IndexedSlices`.

        g[table] = (the gradient of each row that the loss looks up, the row's id),    for the others as ever

    No array of a table's size is made. The loss may look rows up in any way that picks whole rows (`table[ids]`,
    `jnp.take(table, ids, axis=0)`, `nnx.Embed`, Linen's `Embed`), with ids of any rank, several times in one table,
    under `jit`, `vmap` and `jax.checkpoint`. Duplicate ids stay apart: the optimizer adds them up. Ids that are out of
    range get no gradient, as in JAX.

    It works by tracing the loss: in its program each look-up in a table takes a further input, by which the loss is
    differentiated in the place of the table. So it may be called in `jit`, `scan` and `vmap`, and in `shard_map`,
    where the slices of all replicas are gathered if their types say that the table is replicated. `pmap` has no such
    types: there, give the optimizer `axis_name`.

    Arguments:
      loss_fn: `loss_fn(params, *args, **kwargs)` gives the loss, a scalar; with `has_aux`, `(loss, aux)`. `params` is a
        tree of arrays, an `nnx.State`, or an `nnx.Module`, whose other variables are then updated.
      tables: regexes; `re.search` on a parameter's path.

    Returns:
      A function of `loss_fn`'s arguments that gives `(loss, gradients)`; with `has_aux`, `((loss, aux), gradients)`.

    Raises:
      ValueError: when it is called, if a regex finds no parameter, or a table is used for more than its rows, such as
        a tied output layer, or in a loop (`scan`, `while_loop`, `cond`).
      TypeError: if `tables` are no strings, or the loss is no scalar.

    >>> import jax, jax.numpy as jnp, jaxopt_suite as jos
    >>> params = {"table": jnp.ones((9, 1)), "w": jnp.array([2.0])}
    >>> loss_fn = lambda params, ids: jnp.sum(params["table"][ids] @ params["w"])
    >>> loss, grads = jos.sparse.value_and_grad(loss_fn, "table")(params, jnp.array([[3, 5], [3, 8]]))
    >>> grads["w"], grads["table"].indices, grads["table"].values.ravel()
    (Array([4.], dtype=float32), Array([3, 5, 3, 8], dtype=int32), Array([2., 2., 2., 2.], dtype=float32))
    """
    patterns = _patterns(tables)

    @functools.wraps(loss_fn)
    def differentiated(params: Tree, *args: Any, **kwargs: Any) -> tuple[Any, Tree]:
        if isinstance(params, _modules()):
            return _of_module(loss_fn, patterns, has_aux, params, args, kwargs)

        def paired(params: Tree) -> tuple[Any, Any]:
            out = loss_fn(params, *args, **kwargs)
            return out if has_aux else (out, None)

        loss, aux, grads = _differentiated(paired, patterns, params)
        return ((loss, aux) if has_aux else loss), grads

    return differentiated


def _differentiated(paired: Callable[[Tree], tuple[Any, Any]], patterns: Sequence[str], params: Tree) -> Any:
    """The loss, what comes beside it, and the gradients."""
    leaves, names = trees.leaves(params), trees.paths(params)
    chosen = _chosen(patterns, names, leaves)
    arrays = [x for x in leaves if x is not None]
    closed, out = jax.make_jaxpr(lambda *xs: paired(_filled(params, leaves, xs)), return_shape=True)(*arrays)
    if jax.tree.leaves(out[0]) != [out[0]] or out[0].shape != ():
        raise TypeError(f"{OWNER}: loss_fn must give a scalar, got {out[0]}.")
    which = [i for i, x in enumerate(leaves) if x is not None]
    numbers = {place: chosen.index(i) for place, i in enumerate(which) if i in chosen}
    found = [arrays[place] for place in numbers]
    others = [x for place, x in enumerate(arrays) if place not in numbers]

    def refuse(number: int, primitive: str) -> None:
        _refuse(names[chosen[number]], primitive)

    def run(taps: Any, others: Sequence[Any]) -> tuple[Any, tuple[Any, list[jax.Array]]]:
        rest, walk = iter(others), Walk(taps, refuse)
        given = [
            Table(numbers[place], lax.stop_gradient(x), x.dtype) if place in numbers else next(rest)
            for place, x in enumerate(arrays)
        ]
        made = walk.run(closed.jaxpr, closed.consts, given)
        made = [x.array.astype(x.dtype) if isinstance(x, Table) else x for x in made]
        return made[0], (jax.tree.unflatten(jax.tree.structure(out), made)[1], walk.ids)

    notes = Notes()
    jax.eval_shape(lambda others: run(notes, others)[0], others)
    types = [look_up.rows for look_up in notes.found]
    taps = [varying(jnp.zeros(t.shape, t.dtype), t.manual_axis_type.varying) for t in types]
    step = jax.value_and_grad(lambda taps, others: run(Inputs(taps), others), argnums=(0, 1), has_aux=True)
    (loss, (aux, ids)), (of_taps, of_others) = step(taps, others)
    slices = [_slices(i, table, notes.found, of_taps, ids) for i, table in enumerate(found)]
    rest = iter(of_others)
    flat = [slices[numbers[place]] if place in numbers else next(rest) for place in range(len(arrays))]
    return loss, aux, _filled(params, leaves, flat)


def _patterns(tables: str | Sequence[str]) -> tuple[str, ...]:
    patterns = (tables,) if isinstance(tables, str) else tables
    if not isinstance(patterns, (tuple, list)) or not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError(f"{OWNER}: tables must be a regex of paths, or several, got {tables!r}.")
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{OWNER}: tables: {show(pattern)} is no regular expression: {error}.") from None
    return tuple(patterns)


def _filled(params: Tree, leaves: Sequence[Any], xs: Sequence[Any]) -> Tree:
    """The tree with other leaves in the places where there are any."""
    rest = iter(xs)
    return trees.like(params, [None if x is None else next(rest) for x in leaves])


def _chosen(patterns: Sequence[str], names: Sequence[str], leaves: Sequence[Any]) -> list[int]:
    """The places of the tables."""
    for pattern in patterns:
        if not any(re.search(pattern, name) for name in names):
            near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.0)
            raise ValueError(f"{OWNER}: tables: {show(pattern)} matches no parameter; the nearest are {near}.")
    chosen = [i for i, name in enumerate(names) if any(re.search(pattern, name) for pattern in patterns)]
    for i in chosen:
        trees.check_leaf(OWNER, "table", names[i], leaves[i])
        if leaves[i] is None or not leaves[i].ndim:
            raise ValueError(f"{OWNER}: the parameter at {names[i]!r} is no table: it has no rows.")
    return chosen


def _refuse(path: str, primitive: str) -> None:
    if is_loop(primitive):
        raise ValueError(
            f"{OWNER}: the table at {path!r} is used inside a {primitive}: look up all its rows before the loop, or "
            "leave it out of tables, so that its gradient is dense."
        )
    raise ValueError(
        f"{OWNER}: the table at {path!r} is used for more than its rows, by {primitive}: leave it out of tables, so "
        "that its gradient is dense, give that use weights of its own, or stop its gradient (jax.lax.stop_gradient)."
    )


def _slices(
    number: int, table: jax.Array, found: Sequence[LookUp], of_taps: Sequence[jax.Array], ids: Sequence[jax.Array]
) -> IndexedSlices:
    """The slices of one table, from all look-ups in it; of replicas, those of all."""
    mine = [i for i, look_up in enumerate(found) if look_up.number == number]
    none = IndexedSlices._of(jnp.zeros((0, *table.shape[1:]), table.dtype), jnp.zeros(0, jnp.int32), table.shape)
    parts = [IndexedSlices._of(found[i].values(of_taps[i], table), ids[i], table.shape).in_range() for i in mine]
    slices = functools.reduce(operator.add, parts) if parts else none
    over = (varies(slices.values) | varies(slices.indices)) - varies(table)
    return gathered(slices, sorted(over)) if over else slices


def _modules() -> tuple[type[Any], ...]:
    """The class of nnx's modules; none where nnx is not imported."""
    found = getattr(sys.modules.get("flax.nnx"), "Module", None)
    return () if found is None else (found,)


def _of_module(
    loss_fn: Callable[..., Any], patterns: Sequence[str], has_aux: bool, module: Any, args: Any, kwargs: Any
) -> tuple[Any, Tree]:
    """Of an nnx module: the gradients are a State of its Params, and its other variables are updated."""
    from flax import nnx

    graph, params, others = nnx.split(module, nnx.Param, ...)

    def paired(params: Tree) -> tuple[Any, Any]:
        model = nnx.merge(graph, params, jax.tree.map(lambda x: x, others))  # anew, so that it may change in here
        out = loss_fn(model, *args, **kwargs)
        after = nnx.state(model, nnx.Not(nnx.Param))
        return (out[0], (out[1], after)) if has_aux else (out, (None, after))

    loss, (aux, after), grads = _differentiated(paired, patterns, params)
    nnx.update(module, after)
    return ((loss, aux) if has_aux else loss), grads
