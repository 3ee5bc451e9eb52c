"""Read and edit the state of an optimizer, wherever it is nested: in `optax.chain`, `TrainState`, `nnx.Optimizer`.

Every function takes any tree that holds a state of ours, and those that edit return a new tree. Where a tree
holds several optimizers of ours, `within` names one by its place, such as `"inner_states/embedding"`; the error
lists the places. A slot's variable is called `"<slot>/<path of its parameter>"`.
"""

import re
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_suite import _hdf5
from jaxopt_suite import _slots as slots
from jaxopt_suite import _trees as trees
from jaxopt_suite._arguments import VOCABULARY
from jaxopt_suite._check import check, nearest, show
from jaxopt_suite._pipeline import HeldRate


def iterations(state: Any, within: str | None = None) -> jax.Array:
    """The number of steps taken, int32; micro-steps of an accumulation and skipped steps do not count.

    >>> import jax.numpy as jnp, optax, jaxopt_suite as jos
    >>> tx = optax.chain(optax.identity(), jos.sgd(0.1))
    >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    >>> int(jos.state.iterations(state))
    1
    """
    return slots.scalar(slots.find("iterations", state, within).count)


def learning_rate(state: Any, within: str | None = None) -> jax.Array:
    """The rate that the state holds, or where a schedule rules it, the rate that was used last."""
    rate = slots.find("learning_rate", state, within).learning_rate
    if rate is None:
        raise ValueError("learning_rate: this optimizer has no learning rate.")
    return slots.scalar(rate.value)


def set_learning_rate(state: Any, rate: Any, within: str | None = None) -> Any:
    """The state with another learning rate: no step is compiled again, and `rate` may be traced.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.sgd(0.1)
    >>> state = jos.state.set_learning_rate(tx.init(jnp.array(1.0)), 0.5)
    >>> tx.update(jnp.array(1.0), state)[0]
    Array(-0.5, dtype=float32)
    """
    ours = slots.find("set_learning_rate", state, within)
    if not isinstance(ours.learning_rate, HeldRate):
        why = "has none" if ours.learning_rate is None else "is ruled by a schedule or an array"
        raise TypeError(f"set_learning_rate: the rate of this optimizer {why}, so that setting it would not act.")
    rate = check("set_learning_rate", "rate", rate, VOCABULARY["learning_rate"])
    if callable(rate):
        raise TypeError(f"set_learning_rate: rate must be a number or an array, got {show(rate)}.")
    old = slots.scalar(ours.learning_rate.value)
    new = jnp.asarray(rate).astype(old.dtype)
    return slots.replace(
        state, ours, ours._replace(learning_rate=HeldRate(trees.like(ours.learning_rate.value, [new])))
    )


def gradient_norm(state: Any, within: str | None = None) -> jax.Array:
    """The norm of all gradients before the last step's clipping; there must be a `global_clipnorm`."""
    ours = slots.find("gradient_norm", state, within, lambda ours: "gradient_norm" in slots.fields(ours))
    found = slots.fields(ours).get("gradient_norm")
    if found is None:
        raise ValueError("gradient_norm: the norm is only kept where global_clipnorm is set.")
    return slots.scalar(found)


def slot_names(state: Any, within: str | None = None) -> list[str]:
    """The names of the slots, in the order of the line: `["m", "v"]` for Adam."""
    return list(slots.fields(slots.find("slot_names", state, within)))


def variables(state: Any, within: str | None = None) -> dict[str, jax.Array]:
    """All arrays of the state by name: `count`, `learning_rate` where one is held, `"<slot>/<path>"`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> list(jos.state.variables(jos.adam().init({"dense": {"bias": jnp.zeros(3)}})))
    ['count', 'learning_rate', 'm/dense/bias', 'v/dense/bias']
    """
    return {name: array for name, array in slots.named(slots.find("variables", state, within))}


def get_slot(state: Any, path: str, name: str, within: str | None = None) -> jax.Array:
    """The slot `name` of the parameter at `path`, such as `get_slot(state, "dense/bias", "m")`."""
    tree = slots.slot("get_slot", slots.find("get_slot", state, within), name)
    return trees.leaves(tree)[slots.index("get_slot", tree, path)]


def set_slot(state: Any, path: str, name: str, value: Any, within: str | None = None) -> Any:
    """The state with another value in one slot; its shape must fit, its dtype is kept."""
    ours = slots.find("set_slot", state, within)
    tree = slots.slot("set_slot", ours, name)
    arrays, i = trees.leaves(tree), slots.index("set_slot", tree, path)
    arrays[i] = slots.fitting("set_slot", f"{name}/{path}", value, arrays[i])
    return slots.replace(state, ours, slots.with_fields(ours, {name: trees.like(tree, arrays)}))


def get_weights(state: Any, dialect: str = "keras", within: str | None = None) -> list[np.ndarray]:
    """The iteration count, then the slots, as numpy arrays in Keras's order.

    Keras 2.11 and later list the slots parameter by parameter, averages of the parameters first;
    `dialect="legacy"` lists slot by slot, as TF <= 2.10 and TF Addons do. The learning rate is not among them.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> params = {"kernel": jnp.zeros((20, 10)), "bias": jnp.zeros(10)}
    >>> len(jos.state.get_weights(jos.rmsprop().init(params)))
    3
    """
    ours = slots.find("get_weights", state, within)
    return [np.asarray(slots.scalar(ours.count)), *(np.asarray(array) for *_, array in slots.ordered(ours, dialect))]


def set_weights(state: Any, weights: Sequence[Any], dialect: str = "keras", within: str | None = None) -> Any:
    """The state with the weights that `get_weights` gave for an optimizer of the same parameters."""
    ours = slots.find("set_weights", state, within)
    places = slots.ordered(ours, dialect)
    if len(weights) != len(places) + 1:
        raise ValueError(f"set_weights: expected {len(places) + 1} weights (the count first), got {len(weights)}.")
    fields = {name: trees.leaves(tree) for name, tree in slots.fields(ours).items()}
    named = {name: slots.labels(name, tree) for name, tree in slots.fields(ours).items()}
    for weight, (name, i, old) in zip(weights[1:], places, strict=True):
        fields[name][i] = slots.fitting("set_weights", named[name][i], weight, old)
    changed = {name: trees.like(slots.fields(ours)[name], arrays) for name, arrays in fields.items()}
    count = slots.fitting("set_weights", "count", weights[0], slots.scalar(ours.count))
    return slots.replace(state, ours, slots.with_fields(ours, changed)._replace(count=trees.like(ours.count, [count])))


def reset(state: Any, paths: str | Iterable[str], fresh: Any, within: str | None = None) -> Any:
    """The state with the slots of some parameters as they are in `fresh`, a state that `init` just made.

    Arguments:
      paths: a regex or several; `re.search` on a parameter's path.
      fresh: `tx.init(params)`: what a slot starts from is the optimizer's own (zeros, the parameter, ...).
    """
    ours, new = slots.find("reset", state, within), slots.find("reset", fresh, within)
    patterns = [paths] if isinstance(paths, str) else list(paths)
    all_paths = {path for tree in slots.fields(ours).values() for path in trees.paths(tree)}
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in all_paths):
            raise ValueError(f"reset: no parameter's path matches {pattern!r}.{nearest(pattern, all_paths)}")
    changed = {}
    for (name, tree), fresh_tree in zip(slots.fields(ours).items(), slots.fields(new).values(), strict=True):
        rows = zip(trees.paths(tree), trees.leaves(tree), trees.leaves(fresh_tree), strict=True)
        picked = [b if any(re.search(p, path) for p in patterns) else a for path, a, b in rows]
        changed[name] = trees.like(tree, picked)
    return slots.replace(state, ours, slots.with_fields(ours, changed))


def save_own_variables(state: Any, store: MutableMapping[str, Any], within: str | None = None) -> None:
    """Writes the weights into any mapping (a dict, an HDF5 group) under the keys "0", "1", ..., as Keras does."""
    for i, weight in enumerate(get_weights(state, within=within)):
        store[str(i)] = weight


def load_own_variables(state: Any, store: Mapping[str, Any], within: str | None = None) -> Any:
    """The state with the weights of a mapping that `save_own_variables` wrote."""
    missing = next((str(i) for i in range(len(store)) if str(i) not in store), None)
    if missing is not None:
        raise ValueError(f"load_own_variables: the store must have the keys '0' to '{len(store) - 1}', no {missing!r}.")
    return set_weights(state, [np.asarray(store[str(i)]) for i in range(len(store))], within=within)


def save_weights(state: Any, file: Any, overwrite: bool = True, within: str | None = None) -> None:
    """Writes all `variables` to an HDF5 file, whole or not at all. Needs h5py.

    Raises:
      FileExistsError: the file exists and `overwrite` is False.
    """
    _hdf5.write(file, variables(state, within), overwrite)


def load_weights(state: Any, file: Any, within: str | None = None) -> Any:
    """The state with the variables of a file that `save_weights` wrote; names, shapes and dtypes must agree.

    Raises:
      ValueError: naming the first variable that does not fit, or the file that cannot be read.
    """
    ours, held = slots.find("load_weights", state, within), _hdf5.read(file)
    names = [name for name, _ in slots.named(ours)]
    for name in [*names, *held]:
        if name not in held or name not in names:
            raise ValueError(f"load_weights: {name!r} is only in the {'state' if name in names else 'file'}.")
    new = {name: slots.fitting("load_weights", name, held[name], old) for name, old in slots.named(ours)}
    wrong = next((name for name, old in slots.named(ours) if held[name].dtype != old.dtype), None)
    if wrong is not None:
        raise TypeError(f"load_weights: {wrong!r} is {held[wrong].dtype} in the file, {new[wrong].dtype} in the state.")
    changed = {}
    for name, tree in slots.fields(ours).items():
        changed[name] = trees.like(tree, [new.get(label) for label in slots.labels(name, tree)])
    loaded = slots.with_fields(ours, changed)._replace(count=trees.like(ours.count, [new["count"]]))
    if "learning_rate" in new:
        loaded = loaded._replace(learning_rate=HeldRate(trees.like(ours.learning_rate.value, [new["learning_rate"]])))
    return slots.replace(state, ours, loaded)
