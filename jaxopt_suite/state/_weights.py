"""A state as the list of arrays that Keras knows, and as a file of its variables."""

from collections.abc import Mapping, MutableMapping, Sequence
from os import PathLike
from typing import Any, Literal

import numpy as np

from jaxopt_suite import _trees as trees
from jaxopt_suite._recipe.check import check
from jaxopt_suite._recipe.declare import word_of
from jaxopt_suite._trees import Tree
from jaxopt_suite.state import _hdf5
from jaxopt_suite.state._arrays import fitting
from jaxopt_suite.state._find import Found, find_all, labels

_DIALECT = word_of(Literal["keras", "legacy"])


def get_weights(state: Tree, dialect: str = "keras", within: str | None = None) -> list[np.ndarray]:
    """The iteration count, then the slots, as numpy arrays in Keras's order.

    Keras 2.11 and later list the slots parameter by parameter, averages of the parameters first;
    `dialect="legacy"` lists slot by slot, as TF <= 2.10 and TF Addons do. The learning rate is not among them.

    Raises:
      ValueError: the state keeps more, in other states or as a `from_optax` does: `to_dict` has it all.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> params = {"kernel": jnp.zeros((20, 10)), "bias": jnp.zeros(10)}
    >>> len(jos.state.get_weights(jos.rmsprop().init(params)))
    3
    """
    found = find_all("get_weights", state, within)
    return [np.asarray(found.count("get_weights")), *(np.asarray(array) for *_, array in ordered(found, dialect))]


def set_weights(state: Tree, weights: Sequence[Any], dialect: str = "keras", within: str | None = None) -> Tree:
    """The state with the weights that `get_weights` gave for an optimizer of the same parameters.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> state = jos.adam(0.1).init({"w": jnp.zeros(2)})
    >>> weights = jos.state.get_weights(state)
    >>> int(jos.state.iterations(jos.state.set_weights(state, [weights[0] + 7, *weights[1:]])))
    7
    """
    found = find_all("set_weights", state, within)
    places, held = ordered(found, dialect), found.slots
    if len(weights) != len(places) + 1:
        raise ValueError(f"set_weights: expected {len(places) + 1} weights (the count first), got {len(weights)}.")
    columns = {name: trees.leaves(tree) for name, tree in held.items()}
    for weight, (name, i, old) in zip(weights[1:], places, strict=True):
        columns[name][i] = fitting("set_weights", labels(name, held[name])[i], weight, old)
    state = found.with_slots({name: trees.like(held[name], arrays) for name, arrays in columns.items()})
    count = fitting("set_weights", "count", weights[0], found.count("set_weights"))
    return found.put(state._replace(count=trees.like(found.state.count, [count])))


def save_own_variables(state: Tree, store: MutableMapping[str, Any], within: str | None = None) -> None:
    """Writes the weights into any mapping (a dict, an HDF5 group) under the keys "0", "1", ..., as Keras does.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> state = jos.adam(0.1).init({"w": jnp.zeros(2)})
    >>> jos.state.save_own_variables(state, store := {})
    >>> {key: value.shape for key, value in store.items()}
    {'0': (), '1': (2,), '2': (2,)}
    """
    for i, weight in enumerate(get_weights(state, within=within)):
        store[str(i)] = weight


def load_own_variables(state: Tree, store: Mapping[str, Any], within: str | None = None) -> Tree:
    """The state with the weights of a mapping that `save_own_variables` wrote.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> state = jos.adam(0.1).init({"w": jnp.zeros(2)})
    >>> jos.state.save_own_variables(jos.state.set_slot(state, "w", "m", [1.0, 2.0]), store := {})
    >>> jos.state.get_slot(jos.state.load_own_variables(state, store), "w", "m")
    Array([1., 2.], dtype=float32)
    """
    missing = next((str(i) for i in range(len(store)) if str(i) not in store), None)
    if missing is not None:
        raise ValueError(f"load_own_variables: the store must have the keys '0' to '{len(store) - 1}', no {missing!r}.")
    return set_weights(state, [np.asarray(store[str(i)]) for i in range(len(store))], within=within)


def save_weights(state: Tree, file: str | PathLike, overwrite: bool = True, within: str | None = None) -> None:
    """Writes all `variables` to an HDF5 file, whole or not at all. Needs h5py.

    Raises:
      FileExistsError: the file exists and `overwrite` is False.
      ValueError: the state keeps more, in other states or as a `from_optax` does: `to_dict` has it all.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> state = jos.adam(0.1).init({"w": jnp.zeros(2)})
    >>> import h5py, tempfile
    >>> jos.state.save_weights(state, file := tempfile.mkdtemp() + "/weights.h5")
    >>> sorted(h5py.File(file))
    ['0', '1', '2', '3']
    """
    _hdf5.write("save_weights", file, find_all("save_weights", state, within).named("save_weights"), overwrite)


def load_weights(state: Tree, file: str | PathLike, within: str | None = None) -> Tree:
    """The state with the variables of a file that `save_weights` wrote; names, shapes and dtypes must agree.

    Raises:
      ValueError: naming the first variable that does not fit, or the file that cannot be read.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> state = jos.adam(0.1).init({"w": jnp.zeros(2)})
    >>> import tempfile
    >>> jos.state.save_weights(jos.state.set_learning_rate(state, 0.5), file := tempfile.mkdtemp() + "/weights.h5")
    >>> print(jos.state.learning_rate(jos.state.load_weights(state, file)))
    0.5
    """
    found, held = find_all("load_weights", state, within), _hdf5.read("load_weights", file)
    old = found.named("load_weights")
    for name in [*old, *held]:
        if name not in held or name not in old:
            raise ValueError(f"load_weights: {name!r} is only in the {'state' if name in old else 'file'}.")
    new = {name: fitting("load_weights", name, held[name], array) for name, array in old.items()}
    wrong = next((name for name, array in old.items() if held[name].dtype != array.dtype), None)
    if wrong is not None:
        raise TypeError(f"load_weights: {wrong!r} is {held[wrong].dtype} in the file, {new[wrong].dtype} in the state.")
    changed = {}
    for name, tree in found.slots.items():
        changed[name] = trees.like(tree, [new.get(label) for label in labels(name, tree)])
    loaded = found.with_slots(changed)
    if "count" in new:
        loaded = loaded._replace(count=trees.like(loaded.count, [new["count"]]))
    if "learning_rate" in new:
        loaded = loaded._replace(rate=trees.like(loaded.rate, [new["learning_rate"]]))
    return found.put(loaded)


def ordered(found: Found, dialect: str) -> list[tuple[str, int, Any]]:
    """`(slot, index, array)` in Keras's order: averages, accumulators, then the rule's groups of slots.

    A stage's NamedTuple declares its order: `weights` (groups follow each other, the slots of one group alternate
    by parameter), `legacy_weights` where that of TF <= 2.10 is not slot by slot, `weights_rank` of a stage.
    """
    check("get_weights", "dialect", dialect, _DIALECT)
    held, order = found.slots, []
    for stage, names in sorted(found.stage_slots(), key=lambda pair: getattr(pair[0], "weights_rank", 2)):
        for group in _groups(stage, names, dialect):
            columns = [(name, trees.leaves(held[name])) for name in group]
            for row in range(max(len(column) for _, column in columns)):
                order += [(name, row, c[row]) for name, c in columns if row < len(c) and c[row] is not None]
    return order


def _groups(stage: Any, names: Mapping[str, str], dialect: str) -> list[list[str]]:
    if dialect == "legacy":
        groups = getattr(stage, "legacy_weights", tuple((field,) for field in names))
    else:
        groups = getattr(stage, "weights", (tuple(names),))
    present = [[names[field] for field in group if field in names] for group in groups]
    return [group for group in present if group]
