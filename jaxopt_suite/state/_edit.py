"""Read and edit one of our states."""

import re
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_suite import _trees as trees
from jaxopt_suite._recipe.check import check, nearest, show
from jaxopt_suite._recipe.declare import word_of
from jaxopt_suite._recipe.words import Rate
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._arrays import fitting, placed
from jaxopt_suite.state._find import everything, find, find_named, index, labels, scalar, slot
from jaxopt_suite.state._names import numbered

_RATE = word_of(Rate)


def iterations(state: Tree, within: str | None = None) -> jax.Array:
    """The number of steps taken, int32; micro-steps of an accumulation and skipped steps do not count.

    >>> import jax.numpy as jnp, optax, jaxopt_suite as jos
    >>> tx = optax.chain(optax.identity(), jos.sgd(0.1))
    >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    >>> int(jos.state.iterations(state))
    1
    """
    return find("iterations", state, within).count("iterations")


def learning_rate(state: Tree, within: str | None = None) -> jax.Array:
    """The rate that the state holds, or where a schedule rules it, the rate that was used last.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.sgd(jos.schedules.exponential_decay(1.0, decay_steps=1, decay_rate=0.5))
    >>> state = tx.init(jnp.zeros(1))
    >>> for _ in range(3):
    ...     _, state = tx.update(jnp.ones(1), state)
    >>> print(jos.state.learning_rate(state))
    0.25
    """
    rate = find("learning_rate", state, within).state.rate
    if not rate:
        raise ValueError("learning_rate: this optimizer has no learning rate.")
    return scalar(rate)


def set_learning_rate(state: Tree, rate: Any, within: str | None = None) -> Tree:
    """The state with another learning rate: no step is compiled again, and `rate` may be traced.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.sgd(0.1)
    >>> state = jos.state.set_learning_rate(tx.init(jnp.array(1.0)), 0.5)
    >>> tx.update(jnp.array(1.0), state)[0]
    Array(-0.5, dtype=float32)
    """
    found = find("set_learning_rate", state, within)
    held = found.state.rate.get("learning_rate")
    if held is None:
        why = "is ruled by a schedule or an array" if found.state.rate else "has none"
        raise TypeError(f"set_learning_rate: the rate of this optimizer {why}, so that setting it would not act.")
    rate = check("set_learning_rate", "rate", rate, _RATE)
    if callable(rate):
        raise TypeError(f"set_learning_rate: rate must be a number or an array, got {show(rate)}.")
    shape = scalar(held).shape  # that of a stack of states is no scalar
    new = placed(rate if shape == () else jnp.broadcast_to(rate, shape), scalar(held))
    return found.put(found.state._replace(rate={"learning_rate": trees.like(held, [new])}))


def gradient_norm(state: Tree, within: str | None = None) -> jax.Array:
    """The norm of all gradients before the last step's clipping; there must be a `global_clipnorm`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx, w = jos.sgd(0.1, global_clipnorm=1.0), jnp.zeros(2)
    >>> _, state = tx.update(jnp.array([3.0, 4.0]), tx.init(w))
    >>> print(jos.state.gradient_norm(state))
    5.0
    """
    found = find("gradient_norm", state, within, lambda ours: "clip_by_global_norm" in ours.stages)
    norm = found.slots.get("gradient_norm")
    if norm is None:
        raise ValueError("gradient_norm: the norm is only kept where global_clipnorm is set.")
    return scalar(norm)


def metrics(state: Tree) -> dict[str, jax.Array]:
    """What `with_metrics` and `skip_large_updates` measured of the last step, by name, as scalars on the device.

    Those of a group of `by_path`, or of an optimizer that is not the only one in the tree, have its place before
    them: `"head/gradient_norm"`. It is a flat dict, which a compiled step may return, for any logger.

    Raises:
      ValueError: if nothing in the state is measured.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.with_metrics(jos.by_path({"head": jos.sgd(1.0), ".*": jos.sgd(0.5)}))
    >>> w = {"body": jnp.array(4.0), "head": jnp.array(3.0)}
    >>> metrics = jos.state.metrics(tx.update({"body": jnp.array(0.0), "head": jnp.array(2.0)}, tx.init(w), w)[1])
    >>> metrics["head/update_norm"], metrics["rest/update_norm"], metrics["weight_norm"]
    (Array(2., dtype=float32), Array(0., dtype=float32), Array(5., dtype=float32))
    """
    found = everything("metrics", state)
    outermost = [one for one in found if one.outermost]
    root = outermost[0].place if len(outermost) == 1 else ""
    measured: list[tuple[str, jax.Array]] = []
    for one in found:
        place = one.place.removeprefix(root).strip("/")
        for slots, _ in one.stage_slots():
            values = {name: scalar(getattr(slots, name)) for name in getattr(slots, "reported", ())}
            if "weight_norm" in values:
                known = values["weight_norm"] > 0  # not before the first step, and not of zeros
                ratio = values["update_norm"] / jnp.where(known, values["weight_norm"], 1)
                values["update_to_weight_ratio"] = jnp.where(known, ratio, 0)
            measured += [(f"{place}/{name}" if place else name, value) for name, value in values.items()]
    if not measured:
        raise ValueError("metrics: nothing in this state is measured: wrap the optimizer in jos.with_metrics.")
    return dict(zip(numbered([name for name, _ in measured]), [value for _, value in measured], strict=True))


def slot_names(state: Tree, within: str | None = None) -> list[str]:
    """The names of the slots: `["m", "v"]` for Adam. One that two stages have is numbered from the second on.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> jos.state.slot_names(jos.lookahead(jos.adam(amsgrad=True)).init({"w": jnp.zeros(2)}))
    ['m', 'v', 'vhat', 'slow']
    """
    return list(find("slot_names", state, within).slots)


def variables(state: Tree, within: str | None = None) -> dict[str, jax.Array]:
    """All arrays of the state by name: `count`, `learning_rate` where one is held, `"<slot>/<path>"`.

    Raises:
      ValueError: the state of a `from_optax` is in it, whose arrays have no such names: `to_dict` has them all.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> list(jos.state.variables(jos.adam().init({"dense": {"bias": jnp.zeros(3)}})))
    ['count', 'learning_rate', 'm/dense/bias', 'v/dense/bias']
    """
    return find_named("variables", state, within).named("variables")


def get_slot(state: Tree, path: str, name: str, within: str | None = None) -> jax.Array:
    """The slot `name` of the parameter at `path`, such as `get_slot(state, "dense/bias", "m")`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> state = jos.adagrad(0.1, initial_accumulator_value=0.5).init({"dense": {"bias": jnp.zeros(2)}})
    >>> jos.state.get_slot(state, "dense/bias", "a")
    Array([0.5, 0.5], dtype=float32)
    """
    tree = slot("get_slot", find("get_slot", state, within), name)
    return trees.leaves(tree)[index("get_slot", tree, path)]


def set_slot(state: Tree, path: str, name: str, value: Any, within: str | None = None) -> Tree:
    """The state with another value in one slot; its shape must fit, its dtype is kept.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> state = jos.adam(0.1).init({"w": jnp.zeros(2)})
    >>> state = jos.state.set_slot(state, "w", "v", [1.0, 4.0])
    >>> jos.state.get_slot(state, "w", "v")
    Array([1., 4.], dtype=float32)
    """
    found = find("set_slot", state, within)
    tree = slot("set_slot", found, name)
    arrays, i = trees.leaves(tree), index("set_slot", tree, path)
    arrays[i] = fitting("set_slot", f"{name}/{path}", value, arrays[i])
    return found.put(found.with_slots({name: trees.like(tree, arrays)}))


def reset(state: Tree, paths: str | Iterable[str], fresh: Tree, within: str | None = None) -> Tree:
    """The state with the slots of some parameters as they are in `fresh`, a state that `init` just made.

    Arguments:
      paths: a regex or several; `re.search` on a parameter's path.
      fresh: `tx.init(params)`: what a slot starts from is the optimizer's own (zeros, the parameter, ...).

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx, params = jos.sgd(0.1, momentum=0.9), {"body": jnp.zeros(1), "head": jnp.zeros(1)}
    >>> _, state = tx.apply_gradients({"body": jnp.ones(1), "head": jnp.ones(1)}, tx.init(params), params)
    >>> state = jos.state.reset(state, "head", tx.init(params))
    >>> [float(jos.state.get_slot(state, path, "m")[0]) != 0 for path in ("body", "head")]
    [True, False]
    """
    ours, start = find("reset", state, within), find("reset", fresh, within).named("reset")
    patterns = [paths] if isinstance(paths, str) else list(paths)
    all_paths = {path for tree in ours.slots.values() for path in trees.paths(tree)}
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in all_paths):
            raise ValueError(f"reset: no parameter's path matches {pattern!r}.{nearest(pattern, all_paths)}")
    changed = {}
    for name, tree in ours.slots.items():
        arrays = trees.leaves(tree)
        for i, (path, label) in enumerate(zip(trees.paths(tree), labels(name, tree), strict=True)):
            if arrays[i] is not None and any(re.search(pattern, path) for pattern in patterns):
                if label not in start:
                    raise ValueError(f"reset: fresh must be a state of the same optimizer: it has no {label!r}.")
                arrays[i] = fitting("reset", label, start[label], arrays[i])
        changed[name] = trees.like(tree, arrays)
    return ours.put(ours.with_slots(changed))
