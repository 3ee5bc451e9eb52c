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
from jaxopt_suite import _trees as trees
from jaxopt_suite._arguments import VOCABULARY, check, nearest, show
from jaxopt_suite._pipeline import HeldRate, OptimizerState


def iterations(state: Any, within: str | None = None) -> jax.Array:
    """The number of steps taken, int32; micro-steps of an accumulation and skipped steps do not count.

    >>> import jax.numpy as jnp, optax, jaxopt_suite as jos
    >>> tx = optax.chain(optax.identity(), jos.sgd(0.1))
    >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    >>> int(jos.state.iterations(state))
    1
    """
    return _array(_find("iterations", state, within).count)


def learning_rate(state: Any, within: str | None = None) -> jax.Array:
    """The rate that the state holds, or where a schedule rules it, the rate that was used last."""
    rate = _find("learning_rate", state, within).learning_rate
    if rate is None:
        raise ValueError("learning_rate: this optimizer has no learning rate.")
    return _array(rate.value)


def set_learning_rate(state: Any, rate: Any, within: str | None = None) -> Any:
    """The state with another learning rate: no step is compiled again, and `rate` may be traced.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.sgd(0.1)
    >>> state = jos.state.set_learning_rate(tx.init(jnp.array(1.0)), 0.5)
    >>> tx.update(jnp.array(1.0), state)[0]
    Array(-0.5, dtype=float32)
    """
    ours = _find("set_learning_rate", state, within)
    if not isinstance(ours.learning_rate, HeldRate):
        why = "has none" if ours.learning_rate is None else "is ruled by a schedule or an array"
        raise TypeError(f"set_learning_rate: the rate of this optimizer {why}, so that setting it would not act.")
    rate = check("set_learning_rate", "rate", rate, VOCABULARY["learning_rate"])
    if callable(rate):
        raise TypeError(f"set_learning_rate: rate must be a number or an array, got {show(rate)}.")
    old = _array(ours.learning_rate.value)
    new = jnp.asarray(rate).astype(old.dtype)
    return _replace(state, ours, ours._replace(learning_rate=HeldRate(trees.like(ours.learning_rate.value, [new]))))


def gradient_norm(state: Any, within: str | None = None) -> jax.Array:
    """The norm of all gradients before the last step's clipping; there must be a `global_clipnorm`."""
    found = _fields(_find("gradient_norm", state, within)).get("gradient_norm")
    if found is None:
        raise ValueError("gradient_norm: the norm is only kept where global_clipnorm is set.")
    return _array(found)


def slot_names(state: Any, within: str | None = None) -> list[str]:
    """The names of the slots, in the order of the line: `["m", "v"]` for Adam."""
    return list(_fields(_find("slot_names", state, within)))


def variables(state: Any, within: str | None = None) -> dict[str, jax.Array]:
    """All arrays of the state by name: `count`, `learning_rate` where one is held, `"<slot>/<path>"`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> list(jos.state.variables(jos.adam().init({"dense": {"bias": jnp.zeros(3)}})))
    ['count', 'learning_rate', 'm/dense/bias', 'v/dense/bias']
    """
    return {name: array for name, array in _named(_find("variables", state, within))}


def get_slot(state: Any, path: str, name: str, within: str | None = None) -> jax.Array:
    """The slot `name` of the parameter at `path`, such as `get_slot(state, "dense/bias", "m")`."""
    tree = _slot("get_slot", state, name, within)
    return trees.leaves(tree)[_index("get_slot", tree, path)]


def set_slot(state: Any, path: str, name: str, value: Any, within: str | None = None) -> Any:
    """The state with another value in one slot; its shape must fit, its dtype is kept."""
    ours, tree = _find("set_slot", state, within), _slot("set_slot", state, name, within)
    arrays, i = trees.leaves(tree), _index("set_slot", tree, path)
    arrays[i] = _fitting("set_slot", f"{name}/{path}", value, arrays[i])
    return _replace(state, ours, _with_fields(ours, {name: trees.like(tree, arrays)}))


def get_weights(state: Any, dialect: str = "keras", within: str | None = None) -> list[np.ndarray]:
    """The iteration count, then the slots, as numpy arrays in Keras's order.

    Keras 2.11 and later list the slots parameter by parameter, averages of the parameters first;
    `dialect="legacy"` lists slot by slot, as TF <= 2.10 and TF Addons do. The learning rate is not among them.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> params = {"kernel": jnp.zeros((20, 10)), "bias": jnp.zeros(10)}
    >>> len(jos.state.get_weights(jos.rmsprop().init(params)))
    3
    """
    ours = _find("get_weights", state, within)
    return [np.asarray(_array(ours.count)), *(np.asarray(array) for *_, array in _ordered(ours, dialect))]


def set_weights(state: Any, weights: Sequence[Any], dialect: str = "keras", within: str | None = None) -> Any:
    """The state with the weights that `get_weights` gave for an optimizer of the same parameters."""
    ours = _find("set_weights", state, within)
    places = _ordered(ours, dialect)
    if len(weights) != len(places) + 1:
        raise ValueError(f"set_weights: expected {len(places) + 1} weights (the count first), got {len(weights)}.")
    fields = {name: trees.leaves(tree) for name, tree in _fields(ours).items()}
    for weight, (name, i, old) in zip(weights[1:], places, strict=True):
        fields[name][i] = _fitting("set_weights", _label(ours, name, i), weight, old)
    changed = {name: trees.like(_fields(ours)[name], arrays) for name, arrays in fields.items()}
    count = _fitting("set_weights", "count", weights[0], _array(ours.count))
    return _replace(state, ours, _with_fields(ours, changed)._replace(count=trees.like(ours.count, [count])))


def reset(state: Any, paths: str | Iterable[str], fresh: Any, within: str | None = None) -> Any:
    """The state with the slots of some parameters as they are in `fresh`, a state that `init` just made.

    Arguments:
      paths: a regex or several; `re.search` on a parameter's path.
      fresh: `tx.init(params)`: what a slot starts from is the optimizer's own (zeros, the parameter, ...).
    """
    ours, new = _find("reset", state, within), _find("reset", fresh, within)
    patterns = [paths] if isinstance(paths, str) else list(paths)
    all_paths = {path for tree in _fields(ours).values() for path in trees.paths(tree)}
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in all_paths):
            raise ValueError(f"reset: no parameter's path matches {pattern!r}.{nearest(pattern, all_paths)}")
    changed = {}
    for (name, tree), fresh_tree in zip(_fields(ours).items(), _fields(new).values(), strict=True):
        rows = zip(trees.paths(tree), trees.leaves(tree), trees.leaves(fresh_tree), strict=True)
        picked = [b if any(re.search(p, path) for p in patterns) else a for path, a, b in rows]
        changed[name] = trees.like(tree, picked)
    return _replace(state, ours, _with_fields(ours, changed))


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
    ours, held = _find("load_weights", state, within), _hdf5.read(file)
    names = [name for name, _ in _named(ours)]
    for name in [*names, *held]:
        if name not in held or name not in names:
            raise ValueError(f"load_weights: {name!r} is only in the {'state' if name in names else 'file'}.")
    new = {name: _fitting("load_weights", name, held[name], old) for name, old in _named(ours)}
    wrong = next((name for name, old in _named(ours) if held[name].dtype != old.dtype), None)
    if wrong is not None:
        raise TypeError(f"load_weights: {wrong!r} is {held[wrong].dtype} in the file, {new[wrong].dtype} in the state.")
    changed = {}
    for name, tree in _fields(ours).items():
        arrays = trees.leaves(tree)
        labels = [_label(ours, name, i) for i in range(len(arrays))]
        changed[name] = trees.like(tree, [new.get(label) for label in labels])
    loaded = _with_fields(ours, changed)._replace(count=trees.like(ours.count, [new["count"]]))
    if "learning_rate" in new:
        loaded = loaded._replace(learning_rate=HeldRate(trees.like(ours.learning_rate.value, [new["learning_rate"]])))
    return _replace(state, ours, loaded)


def _find(owner: str, state: Any, within: str | None) -> OptimizerState:
    """Our state inside `state`; a primitive's counts only where there is no optimizer's."""
    found = {
        trees.path_name(path): node
        for path, node in jax.tree_util.tree_flatten_with_path(state, is_leaf=_is_ours)[0]
        if _is_ours(node)
    }
    if not found:
        raise ValueError(f"{owner}: there is no state of a jaxopt_suite optimizer in a {type(state).__name__}.")
    if within is not None:
        if within not in found:
            raise ValueError(f"{owner}: no state of ours at {within!r}; there are {sorted(found)}.")
        return found[within]
    chosen = {place: node for place, node in found.items() if node.learning_rate is not None} or found
    if len(chosen) > 1:
        raise ValueError(f"{owner}: several optimizers are in this state; name one with within=, of {sorted(chosen)}.")
    return next(iter(chosen.values()))


def _is_ours(node: Any) -> bool:
    return isinstance(node, OptimizerState)


def _array(leaf: Any) -> Any:
    """A scalar of the state; nnx keeps it in a Variable."""
    return jax.tree.leaves(leaf)[0]


def _replace(state: Any, old: OptimizerState, new: OptimizerState) -> Any:
    return jax.tree.map(lambda node: new if node is old else node, state, is_leaf=_is_ours)


def _places(ours: OptimizerState) -> list[tuple[str, int, str]]:
    """`(unique name, stage, field)` of every slot; a name that two stages use is numbered from the second on."""
    places: list[tuple[str, int, str]] = []
    for i, stage in enumerate(ours.stages):
        for field in stage._fields if stage is not None else ():
            if getattr(stage, field) is not None:
                used = sum(field == other for _, _, other in places)
                places.append((f"{field}_{used}" if used else field, i, field))
    return places


def _fields(ours: OptimizerState) -> dict[str, Any]:
    return {name: getattr(ours.stages[i], field) for name, i, field in _places(ours)}


def _with_fields(ours: OptimizerState, changed: Mapping[str, Any]) -> OptimizerState:
    stages = list(ours.stages)
    for name, i, field in _places(ours):
        if name in changed:
            stages[i] = stages[i]._replace(**{field: changed[name]})
    return ours._replace(stages=tuple(stages))


def _named(ours: OptimizerState) -> Iterable[tuple[str, Any]]:
    yield "count", _array(ours.count)
    if isinstance(ours.learning_rate, HeldRate):
        yield "learning_rate", _array(ours.learning_rate.value)
    for name, tree in _fields(ours).items():
        for i, array in enumerate(trees.leaves(tree)):
            if array is not None:
                yield _label(ours, name, i), array


def _label(ours: OptimizerState, name: str, i: int) -> str:
    path = trees.paths(_fields(ours)[name])[i]
    return f"{name}/{path}" if path else name


def _ordered(ours: OptimizerState, dialect: str) -> list[tuple[str, int, Any]]:
    """`(slot, index, array)` in Keras's order: averages, accumulators, then the rule's groups of slots."""
    check("get_weights", "dialect", dialect, VOCABULARY["dialect"])
    fields, order = _fields(ours), []
    for i in sorted(range(len(ours.stages)), key=lambda i: _rank(ours.stages[i])):
        names = {field: name for name, stage, field in _places(ours) if stage == i}
        for group in _groups(ours.stages[i], names, dialect):
            columns = [(name, trees.leaves(fields[name])) for name in group]
            for row in range(max(len(column) for _, column in columns)):
                order += [(name, row, c[row]) for name, c in columns if row < len(c) and c[row] is not None]
    return order


def _rank(stage: Any) -> int:
    return getattr(stage, "weights_rank", 2)


def _groups(stage: Any, names: Mapping[str, str], dialect: str) -> list[list[str]]:
    if dialect == "legacy":
        groups = getattr(stage, "legacy_weights", tuple((field,) for field in names))
    else:
        groups = getattr(stage, "weights", (tuple(names),))
    present = [[names[field] for field in group if field in names] for group in groups]
    return [group for group in present if group]


def _slot(owner: str, state: Any, name: str, within: str | None) -> Any:
    fields = _fields(_find(owner, state, within))
    if name not in fields:
        raise ValueError(f"{owner}: there is no slot {name!r}; the slots are {list(fields)}.")
    return fields[name]


def _index(owner: str, tree: Any, path: str) -> int:
    paths = trees.paths(tree)
    if path not in paths:
        raise ValueError(f"{owner}: there is no parameter at {path!r}.{nearest(path, paths)}")
    return paths.index(path)


def _fitting(owner: str, name: str, value: Any, old: Any) -> Any:
    """`value` as an array like `old`, or a sentence."""
    if jnp.shape(value) != old.shape:
        raise ValueError(f"{owner}: {name!r} must have shape {old.shape}, got {jnp.shape(value)}.")
    array = jnp.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.floating) != jnp.issubdtype(old.dtype, jnp.floating) and name != "count":
        raise TypeError(f"{owner}: {name!r} must be {old.dtype}, got {array.dtype}.")
    array = array.astype(old.dtype)
    return array if isinstance(old, jax.core.Tracer) else jax.device_put(array, old.sharding)
