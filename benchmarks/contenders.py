"""The contenders: the same step in each library, each behind the same few methods.

A library that is not installed, or has no such optimizer, gives no contender.
"""

import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxopt_suite as jos

os.environ.setdefault("KERAS_BACKEND", "jax")

RATE, DECAY, NORM = 1e-3, 1e-2, 1.0

OURS: dict[str, Callable[[], Any]] = {
    "adamw + clip": lambda: jos.adamw(RATE, weight_decay=DECAY, global_clipnorm=NORM),
    "adam": lambda: jos.adam(RATE),
    "sgd momentum": lambda: jos.sgd(RATE, momentum=0.9),
    "novograd": lambda: jos.novograd(RATE, weight_decay=DECAY),
    "lamb": lambda: jos.lamb(RATE),
    "adafactor": lambda: jos.adafactor(RATE),
    "muon": lambda: jos.muon(RATE, weight_decay=DECAY, adam_weight_decay=DECAY),
    "rmsprop": lambda: jos.rmsprop(RATE),
    "adagrad": lambda: jos.adagrad(RATE),
    "adadelta": lambda: jos.adadelta(RATE),
    "adamax": lambda: jos.adamax(RATE),
    "nadam": lambda: jos.nadam(RATE),
    "ftrl": lambda: jos.ftrl(RATE),
    "lion": lambda: jos.lion(RATE),
    "schedule free": lambda: jos.schedule_free_adamw(RATE),
    "radam": lambda: jos.radam(RATE),
    "adabelief": lambda: jos.adabelief(RATE, rectify=False),
    "yogi": lambda: jos.yogi(RATE),
}

OPTAX: dict[str, Callable[[], Any]] = {
    "adamw + clip": lambda: optax.chain(optax.clip_by_global_norm(NORM), optax.adamw(RATE, weight_decay=DECAY)),
    "adam": lambda: optax.adam(RATE),
    "sgd momentum": lambda: optax.sgd(RATE, momentum=0.9),
    "novograd": lambda: optax.novograd(RATE, weight_decay=DECAY),
    "lamb": lambda: optax.lamb(RATE),
    "adafactor": lambda: optax.adafactor(RATE),
    "muon": lambda: optax.contrib.muon(
        RATE,
        weight_decay=DECAY,
        adam_weight_decay=DECAY,
        consistent_rms=0.2,
        muon_weight_dimension_numbers=_matrices,
    ),
    "rmsprop": lambda: optax.rmsprop(RATE, eps=1e-7),
    "adagrad": lambda: optax.adagrad(RATE),
    "adadelta": lambda: optax.adadelta(RATE, 0.95, 1e-7),
    "adamax": lambda: optax.adamax(RATE),
    "nadam": lambda: optax.nadam(RATE),
    "lion": lambda: optax.lion(RATE, weight_decay=0),
    "schedule free": lambda: optax.contrib.schedule_free_adamw(RATE),
    "radam": lambda: optax.radam(RATE),
    "adabelief": lambda: optax.adabelief(RATE),
    "yogi": lambda: optax.yogi(RATE),
}


def _matrices(params: Any) -> Any:
    """What Optax's Muon orthogonalises: as here and in Keras, the matrices that are no embeddings."""

    def choose(path: Any, w: Any) -> Any:
        matrix = w.ndim == 2 and "embedding" not in jax.tree_util.keystr(path)
        return optax.contrib.MuonDimensionNumbers() if matrix else None

    return jax.tree_util.tree_map_with_path(choose, params)


def _keras(name: str) -> Any:
    import keras

    make = {
        "adamw + clip": lambda: keras.optimizers.AdamW(RATE, weight_decay=DECAY, global_clipnorm=NORM),
        "adam": lambda: keras.optimizers.Adam(RATE),
        "sgd momentum": lambda: keras.optimizers.SGD(RATE, momentum=0.9),
        "lamb": lambda: keras.optimizers.Lamb(RATE),
        "adafactor": lambda: keras.optimizers.Adafactor(RATE),
        "muon": lambda: keras.optimizers.Muon(RATE, weight_decay=DECAY, adam_weight_decay=DECAY),
        "rmsprop": lambda: keras.optimizers.RMSprop(RATE),
        "adagrad": lambda: keras.optimizers.Adagrad(RATE),
        "adadelta": lambda: keras.optimizers.Adadelta(RATE),
        "adamax": lambda: keras.optimizers.Adamax(RATE),
        "nadam": lambda: keras.optimizers.Nadam(RATE),
        "ftrl": lambda: keras.optimizers.Ftrl(RATE),
        "lion": lambda: keras.optimizers.Lion(RATE),
        "schedule free": lambda: keras.optimizers.ScheduleFreeAdamW(RATE),
    }
    return make[name]() if name in make else None


class Jitted:
    """A contender that is one program `step(params, state, grads) -> (params, state)`, donating the first two.

    `make` gives the step as a new function each time, so that nothing of an earlier trace is found again.
    """

    def __init__(self, library: str, make: Callable[[], Callable], params: Any, state: Any, grads: Any):
        self.library, self.make, self.grads = library, make, grads
        self.params, self.state = jax.tree.map(jnp.array, (params, state))
        self.compiled: Any = None

    def prepare(self) -> dict[str, float]:
        """Moves all arrays to new memory, traces and compiles the step anew and takes one.

        Returns the seconds of tracing, JAX's own functions being traced before, and of compiling.
        """
        self.params, self.state = jax.tree.map(jnp.array, (self.params, self.state))
        self.lower()
        start = time.perf_counter()
        lowered = self.lower()
        traced = time.perf_counter()
        self.compiled = lowered.compile()
        compiled = time.perf_counter()
        self.step()
        return {"trace": traced - start, "compile": compiled - traced}

    def lower(self) -> Any:
        """A new program; `jit` finds what is compiled from it, and is called faster than that itself is."""
        self.program = jax.jit(self.make(), donate_argnums=(0, 1), keep_unused=True)
        return self.program.lower(self.params, self.state, self.grads)

    def step(self) -> None:
        self.params, self.state = self.program(self.params, self.state, self.grads)
        jax.block_until_ready((self.params, self.state))

    def memory(self) -> dict[str, float]:
        """Bytes of temporaries and of state, over those of the parameters."""
        params = _bytes(self.params)
        temporaries = self.compiled.memory_analysis().temp_size_in_bytes
        return {"temporaries": temporaries / params, "state": _bytes(self.state) / params}

    def kept_step(self) -> None:
        """The compiled step without donation, as an eager step has to be."""
        if not hasattr(self, "kept_program"):
            self.kept_program = jax.jit(self.make())
        jax.block_until_ready(self.kept_program(self.params, self.state, self.grads))

    def eager_step(self) -> None:
        jax.block_until_ready(self.make()(self.params, self.state, self.grads))


def _bytes(tree: Any) -> int:
    return sum(x.nbytes for x in jax.tree.leaves(tree))


def _ours(name: str, params: Any, grads: Any) -> Jitted:
    tx = OURS[name]()
    return Jitted("ours", lambda: lambda p, s, g: tx.apply_gradients(g, s, p), params, tx.init(params), grads)


def _optax(name: str, params: Any, grads: Any) -> Jitted | None:
    if name not in OPTAX:
        return None
    tx = OPTAX[name]()

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return Jitted("optax", lambda: lambda p, s, g: step(p, s, g), params, tx.init(params), grads)


def _keras_step(name: str, params: Any, grads: Any) -> Jitted | None:
    if (built := _keras(name)) is None:
        return None
    import keras

    paths = jax.tree_util.tree_flatten_with_path(params)[0]
    names = [jax.tree_util.keystr(path, simple=True, separator="_") for path, _ in paths]
    variables = [keras.Variable(w, name=n) for n, (_, w) in zip(names, paths, strict=True)]
    built.build(variables)
    state = [variable.value for variable in built.variables]

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        return built.stateless_apply(state, grads, params)

    values = [variable.value for variable in variables]
    return Jitted("keras", lambda: lambda p, s, g: step(p, s, g), values, state, jax.tree.leaves(grads))


class Torch:
    """torch's own step, with its gradients clipped before; it has no program to compile."""

    def __init__(self, library: str, tx: Any, params: Any, clip: bool):
        self.library, self.tx, self.params, self.clip = library, tx, params, clip

    def prepare(self) -> dict[str, float]:
        """Moves all arrays to new memory and takes a step."""
        for w in self.params:
            w.data = w.data.clone()
            slots = self.tx.state[w]
            slots.update({name: s.clone() for name, s in slots.items() if hasattr(s, "clone")})
        self.step()
        return {}

    def step(self) -> None:
        import torch

        if self.clip:
            torch.nn.utils.clip_grad_norm_(self.params, NORM, foreach=True)
        self.tx.step()

    def memory(self) -> dict[str, float]:
        state = sum(s.nbytes for slots in self.tx.state.values() for s in slots.values() if hasattr(s, "nbytes"))
        return {"state": state / sum(w.nbytes for w in self.params)}


def _torch(name: str, params: Any, grads: Any) -> Iterator[Torch]:
    import torch

    make = {
        "adamw + clip": lambda ws, **how: torch.optim.AdamW(ws, RATE, weight_decay=DECAY, **how),
        "adam": lambda ws, **how: torch.optim.Adam(ws, RATE, **how),
        "sgd momentum": lambda ws, **how: torch.optim.SGD(ws, RATE, momentum=0.9, **how),
        "adafactor": lambda ws, **how: torch.optim.Adafactor(ws, RATE, **how),
    }
    for how in ("fused", "foreach"):
        if name not in make or (how, name) == ("fused", "adafactor"):
            continue
        ws = [torch.nn.Parameter(torch.from_numpy(np.array(w))) for w in jax.tree.leaves(params)]
        for w, g in zip(ws, jax.tree.leaves(grads), strict=True):
            w.grad = torch.from_numpy(np.array(g))
        yield Torch(f"torch {how}", make[name](ws, **{how: True}), ws, clip="clip" in name)


def contenders(name: str, params: Any, grads: Any) -> list[Any]:
    """All installed libraries that have the optimizer `name`, ours first, on the same parameters and gradients."""
    on_device = jax.tree.map(jnp.array, grads)
    found = [_ours(name, params, on_device), _optax(name, params, on_device)]
    if importlib.util.find_spec("keras"):
        found.append(_keras_step(name, params, on_device))
    if importlib.util.find_spec("torch"):
        found.extend(_torch(name, params, grads))
    return [contender for contender in found if contender is not None]
