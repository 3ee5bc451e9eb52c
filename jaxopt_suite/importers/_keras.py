"""The optimizers of Keras 3 and tf.keras."""

import collections
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, cast

import numpy as np

from jaxopt_suite import _trees as trees
from jaxopt_suite._compositions.by_path import Groups
from jaxopt_suite._recipe.check import Value, nearest, show
from jaxopt_suite._recipe.config import deserialize
from jaxopt_suite._transformation import Optimizer
from jaxopt_suite._trees import Tree
from jaxopt_suite.importers._imported import (
    Imported,
    Transform,
    imported,
    is_numeric,
    ours_of,
    refuse_no_state,
    slot,
    steps_of,
)
from jaxopt_suite.importers._keras_files import Kept, read
from jaxopt_suite.importers._keras_order import in_order, is_legacy, listed_slots
from jaxopt_suite.state._match import Rename, Rules
from jaxopt_suite.state._variables import COUNT, HELD, Variable

# what Keras calls our slots
_WORDS = {
    "m": ("momentum", "m"),
    "v": ("velocity", "v", "rms"),
    "vhat": ("velocity_hat", "vhat"),
    "a": ("average_gradient", "mg", "accumulator"),
    "u": ("norm", "u", "v"),
    "g2": ("accumulated_grad", "accum_grad"),
    "dx2": ("accumulated_delta_var", "accum_var"),
    "n": ("accumulator",),
    "z": ("linear", "momentum"),
    "r": ("r",),
    "c": ("c",),
    "average": ("average",),
    "accumulator": ("gradient_accumulator", "accumulator"),
    "slow": ("slow",),
    "L": ("lr",),
    "G": ("grad_norm_sum",),
    "S": ("gradients_sum",),
    "bet": ("tilde_w",),
    "reward": ("reward",),
    "": ("conditional_gradient",),  # it is never read
}
_ALL = sorted({word for words in _WORDS.values() for word in words}, key=len, reverse=True)
_ITERATION, _RATE = ("iteration", "iter"), "learning_rate"


def keras(
    source: Any,
    params: Tree,
    names: Sequence[str] | None = None,
    optimizer: Optimizer | Mapping[str, Value] | str | None = None,
    rename: Rules = None,
    transform: Transform = None,
    strict: bool = True,
) -> Imported:
    """A run of Keras 3, of tf.keras 2.15 or of its legacy optimizers, those of TF Addons among them.

    Arguments:
      source: a Keras optimizer; its `variables` or its `get_weights()`; a `.keras` or `.weights.h5` file, or the
        `.h5` of a whole model. What `tf.train.Checkpoint` wrote is TensorFlow's own format: load it there.
      params: the parameters here.
      names: those of the parameters there, in Keras's order: `[v.path for v in model.trainable_variables]` (in
        tf.keras `v.name`). Needed where the source has no names: `.keras`, `.weights.h5` and plain arrays.
      optimizer: one of ours, its name, or Keras's config (`keras.optimizers.serialize`), where the source does not
        say it.
      rename: regexes and replacements, or a function, from a name there to a path here.
      transform: `transform(path, array)`, a slot's array as the parameter at `path` is laid out here.
      strict: refuse what would be lost.

    Variables that have names are known by them, others by their places in Keras's order. The numbers are those of
    Keras; `product`, which tf.keras's Nadam does not save, is computed from the count. What
    `exclude_from_weight_decay` was given is in none of Keras's configs: give it to `optimizer`.

    Raises:
      TypeError, ValueError: if the variables are not as many as this optimizer has of these parameters, or have
        other names or shapes.

    >>> import jax.numpy as jnp, numpy as np, jaxopt_suite as jos
    >>> kept = [np.int32(7), np.float32(0.5), np.ones((3, 2)), np.full((3, 2), 4.0)]
    >>> params = {"dense": {"kernel": jnp.zeros((3, 2))}}
    >>> run = jos.importers.keras(kept, params, ["dense/kernel"], jos.adam(0.1))
    >>> print({name: float(x.max()) for name, x in jos.state.variables(run.state).items()})
    {'count': 7.0, 'learning_rate': 0.5, 'm/dense/kernel': 1.0, 'v/dense/kernel': 4.0}
    """
    refuse_no_state("keras", source)
    kept = _kept(source)
    kept = kept._replace(config=optimizer) if isinstance(optimizer, Mapping) else kept
    tx = _optimizer(optimizer, kept)
    there = _names(kept, names, params, is_legacy(tx))
    known = dict(zip(trees.paths(params), trees.leaves(params), strict=True))
    paths = _paths(Rename("keras", rename).all(there), known)
    tree = collections.OrderedDict((paths[name], known[paths[name]]) for name in there)
    back = {path: name for name, path in paths.items()}
    variables = list(_variables(kept, tx, tree if there else params, back, transform is None))
    return imported("keras", variables, tx, params, lambda name: paths.get(name, name), transform, strict)


def _paths(renamed: Mapping[str, str], known: Mapping[str, Any]) -> dict[str, str]:
    """The path here of each parameter; of one that Keras 3 flattened, the one that gives this when it is flattened."""
    flat, paths = {_flat(path): path for path in known}, {}
    for name, path in renamed.items():
        paths[name] = path if path in known else flat.get(path, path)
        if paths[name] not in known:
            raise ValueError(f"keras: there is no parameter at {path!r} here.{nearest(path, known)} See rename.")
    return paths


def _kept(source: Any) -> Kept:
    """What Keras keeps, from whatever holds it."""
    if isinstance(source, (str, PathLike)):
        return read(source)
    config, held = None, source
    if hasattr(source, "get_config") and hasattr(source, "variables"):
        config = {"class_name": type(source).__name__, "config": source.get_config(), "module": _module(source)}
        held = source.weights if callable(source.variables) else source.variables
    if not isinstance(held, (list, tuple)):
        raise TypeError(f"keras: expected an optimizer of Keras, its variables, or a file, got {show(source)}.")
    names = [str(getattr(v, "path", getattr(v, "name", ""))) for v in held]
    arrays = [np.asarray(v) for v in held]
    wrong = next((x for x in arrays if not is_numeric(x.dtype)), None)
    if wrong is not None:
        raise TypeError(f"keras: variables must be arrays of numbers, got {show(wrong)}.")
    return Kept(arrays, names if all(names) and names else None, config)


def _module(source: Any) -> str:
    return "keras.optimizers.legacy" if ".legacy" in type(source).__module__ else "keras.optimizers"


def _optimizer(given: Optimizer | Mapping[str, Value] | str | None, kept: Kept) -> Optimizer:
    if given is not None and not isinstance(given, Mapping):
        return ours_of("keras", given)
    config = kept.config
    if config is None:
        raise ValueError("keras: the source does not say its optimizer's settings: give optimizer=, ours or a config.")
    plain = {**config, "class_name": str(config.get("class_name")).removeprefix("Custom>")}
    inner = plain.get("config")
    if isinstance(inner, Mapping) and "is_legacy_optimizer" not in inner and "decay" in inner and "module" not in plain:
        plain["module"] = "keras.optimizers.legacy"  # whole models of tf.keras do not say it
    return deserialize(plain)


def _names(kept: Kept, names: Sequence[str] | None, params: Tree, legacy: bool) -> list[str]:
    """The parameters' names there, in Keras's order."""
    spoken = [_spoken(name, legacy) for name in kept.names or ()]
    found = list(dict.fromkeys(path for path, _ in filter(None, spoken)))
    given = None if names is None else [name.partition(":")[0] for name in names]
    if given is None and not found and len(kept.arrays) > 2:
        raise ValueError("keras: the variables have no names: give names=[v.path for v in model.trainable_variables].")
    if given is None:
        here = {_flat(path): path for path in trees.paths(params)}
        return [here.get(name, name) if "/" not in name else name for name in found]
    if found and sorted(map(_flat, found)) != sorted(map(_flat, given)):
        raise ValueError(f"keras: names must be those of the variables, {show(found)}, got {show(given)}.")
    return given


def _flat(path: str) -> str:
    return path.replace("/", "_")


def _spoken(name: str, legacy: bool) -> tuple[str, str] | None:
    """The parameter and the slot that a variable's name speaks of; Keras 3 flattens the parameter's."""
    _, _, rest = name.partition(":")[0].partition("/")
    if rest in ("", *_ITERATION, _RATE, "momentum_cache"):
        return None
    if ":" not in name:
        word = next((word for word in _ALL if rest.endswith(f"_{word}")), None)
        return None if word is None else (rest.removesuffix(f"_{word}"), word)
    path, _, word = rest.rpartition("/") if legacy else rest.partition("/")[::-1]
    return (path, word) if word in _ALL else None


def _variables(
    kept: Kept, tx: Optimizer, params: Tree, back: Mapping[str, str], same_layout: bool
) -> Iterator[Variable]:
    """Keras's variables as ours: by their names, or else by their places in Keras's order."""
    if tx.recipe.class_name == "LossScaleOptimizer":
        scaled, kept = _scale(kept)
        yield from scaled
        tx = tx.recipe.arguments["optimizer"]
    if tx.recipe.class_name == "ByPath":
        yield from _of_groups(kept, tx, params, back, same_layout)
        return
    layouts = [list(listed_slots(tx, params, library)) for library in ("keras 3", "tf.keras")]
    rates = [_has_rate(kept, len(layout)) for layout in layouts]
    fits = [i for i in (0, 1) if 1 + rates[i] + len(layouts[i]) == len(kept.arrays)]
    if not fits:
        want = " or ".join(str(n) for n in sorted({len(layout) + 1 for layout in layouts}))
        raise ValueError(
            f"keras: {tx.name} keeps {want} variables of these parameters, besides the rate, got {len(kept.arrays)}."
        )
    steps_of("keras", "the iteration count, the first variable,", kept.arrays[0])
    layout, has_rate = layouts[fits[0]], rates[fits[0]]
    yield from _scalars(kept, tx, has_rate)
    spoken = [_spoken(name, is_legacy(tx)) for name in kept.names or [""] * len(kept.arrays)]
    named = {(_flat(key[0]), key[1]): x for key, x in zip(spoken, kept.arrays, strict=True) if key is not None}
    for v, at_place in zip(layout, kept.arrays[1 + has_rate :], strict=True):
        if v is None:
            continue
        path = back.get(v.path, v.path)
        words = ((_flat(path), word) for word in _WORDS.get(v.slot, ()))
        array = next((named[word] for word in words if word in named), at_place)
        array = array.reshape(()) if array.size == 1 and v.value.shape == () else array
        if same_layout and array.shape != v.value.shape:
            raise ValueError(f"keras: {v.slot!r} of {path!r} has shape {array.shape}, it must be {v.value.shape}.")
        yield dataclasses.replace(v, value=array, path=path, place="")
    if tx.recipe.class_name == "Nadam" and not any(v is not None and v.slot == "product" for v in layout):
        yield slot(_product(tx, int(kept.arrays[0])), "", "NadamState", "product")


def _scale(kept: Kept) -> tuple[list[Variable], Kept]:
    """The dynamic scale of Keras 3, and the variables of the optimizer inside; tf.keras does not list the scale."""
    if len(kept.arrays) < 5 or kept.arrays[2].shape != () or kept.arrays[2].dtype.kind not in "iu":
        return [], kept
    steps = np.int32(steps_of("keras", "the loss scale's step_counter", kept.arrays[2]))
    fields = {"finite_steps": steps, "scale": np.float32(kept.arrays[3])}
    scaled = [slot(x, "", "LossScaleState", name, key="unscale_dynamically") for name, x in fields.items()]
    return scaled, kept.part(4, len(kept.arrays))


def _of_groups(
    kept: Kept, tx: Optimizer, params: Tree, back: Mapping[str, str], same_layout: bool
) -> Iterator[Variable]:
    """The variables of Keras 3's `MultiOptimizer`: its own count and rate, then those of each optimizer inside.

    These follow each other as in its map, behind which is the default.
    """
    rules, members, paths = [*tx.recipe.arguments["rules"].values()], cast(Groups, tx.line.members), trees.paths(params)
    found, leaves, parts, start = members.route(paths), trees.leaves(params), [], 2
    order = in_order(members.patterns, kept.config)
    for i in (i for i in order if rules[i].recipe.class_name != "Frozen"):
        mine = collections.OrderedDict((paths[k], leaves[k]) for k, j in enumerate(found) if j == i)
        has_rate = not callable(rules[i].recipe.arguments.get("learning_rate"))
        stop = start + 1 + has_rate + len([*listed_slots(rules[i], mine, "keras 3")])
        parts.append((members.keys[i], kept.part(start, stop), rules[i], mine))
        start = stop
    if start != len(kept.arrays):
        raise ValueError(f"keras: {tx.name} keeps {start} variables of these parameters, got {len(kept.arrays)}.")
    yield Variable(np.int32(steps_of("keras", "the iteration count, the first variable,", kept.arrays[0])), "", COUNT)
    for key, part, inner, mine in parts:
        yield from (dataclasses.replace(v, place=key) for v in _variables(part, inner, mine, back, same_layout))


def _has_rate(kept: Kept, slots: int) -> bool:
    """Whether the rate is the second variable."""
    if kept.names is not None:
        return any(name.endswith(f"/{_RATE}") for name in kept.names[1:2])
    return len(kept.arrays) == slots + 2


def _scalars(kept: Kept, tx: Optimizer, has_rate: bool) -> Iterator[Variable]:
    steps, every = int(kept.arrays[0]), tx.recipe.arguments.get("gradient_accumulation_steps")
    yield Variable(np.int32(steps // (every or 1)), "", COUNT)
    if every:  # Keras counts micro-steps
        yield slot(np.int32(steps % every), "", "AccumulatorState", "micro_step", key="accumulate")
    if has_rate:
        yield Variable(np.float32(kept.arrays[1]), "", HELD)


def _product(tx: Optimizer, steps: int) -> np.float32:
    """Of Nadam's momenta so far."""
    beta, speed = tx.recipe.arguments["beta_1"], tx.recipe.arguments["schedule_decay"]
    speed = 1.0 if speed is None else speed
    return np.float32(math.prod(beta * (1 - 0.5 * 0.96 ** (speed * t)) for t in range(1, steps + 1)))
