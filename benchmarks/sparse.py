"""Sparse gradients of embedding tables, beside dense ones in Optax and Keras and sparse ones in torch.

    pip install keras torch libtpu
    python benchmarks/sparse.py

A donated step on a table of 32 columns, of which 4,096 ids are looked up, drawn as words are (Zipf, seed 0), in
interleaved rounds; how much the process's memory grows in a step; and what the compiler for TPU v5e makes of a lazy
step. A library that is not installed is left out. Writes SPARSE.md beside this file.
"""

import argparse
import gc
import importlib.util
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("KERAS_BACKEND", "jax")

import aot
import jax
import jax.numpy as jnp
import numpy as np
import optax
import report
from jax.sharding import NamedSharding, PartitionSpec
from measure import described, machine, quartiles, rounds

import jaxopt_suite as jos

HERE = pathlib.Path(__file__).parent
ROWS, LOOKED_UP, WIDTH, RATE = (200_000, 5_000_000), 4096, 32, 1e-3
TPU = "TPU v5e, 1 chip"


def batch(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The ids of a batch, few of them often, spread over the table; and a gradient for each."""
    rng = np.random.RandomState(0)
    rank = np.minimum(rng.zipf(1.2, LOOKED_UP), rows) - 1
    ids = rng.permutation(rows)[rank].astype(np.int32)
    return ids, rng.standard_normal((LOOKED_UP, WIDTH)).astype(np.float32)


class Stepping:
    """A donated step of JAX on `(params, state, gradient)`."""

    def __init__(self, program: Callable, params: Any, state: Any, grads: Any):
        self.program, self.held, self.grads = jax.jit(program, donate_argnums=(0, 1)), (params, state), grads
        self.step()

    def step(self) -> None:
        self.held = self.program(*self.held, self.grads)
        jax.block_until_ready(self.held)


def ours(tx: jos.Optimizer, rows: int) -> Stepping:
    ids, values = batch(rows)
    params = {"table": jnp.zeros((rows, WIDTH))}
    grads = {"table": jos.sparse.IndexedSlices(values, ids, (rows, WIDTH))}
    return Stepping(lambda p, s, g: tx.apply_gradients(g, s, p), params, tx.init(params), grads)


def dense_gradient(rows: int) -> jax.Array:
    ids, values = batch(rows)
    return jos.sparse.IndexedSlices(values, ids, (rows, WIDTH)).to_dense()


def plain_optax(tx: optax.GradientTransformation, rows: int) -> Stepping:
    params = {"table": jnp.zeros((rows, WIDTH))}

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return Stepping(step, params, tx.init(params), {"table": dense_gradient(rows)})


def keras(make: str, rows: int) -> Stepping:
    import keras

    tx = getattr(keras.optimizers, make)(RATE)
    variable = keras.Variable(jnp.zeros((rows, WIDTH)))
    tx.build([variable])
    params, state = [jnp.array(variable.value)], [jnp.array(v.value) for v in tx.variables]
    del variable

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        return tx.stateless_apply(state, grads, params)

    return Stepping(step, params, state, [dense_gradient(rows)])


class Torch:
    """torch's optimizers for the sparse gradients of `Embedding(sparse=True)`."""

    def __init__(self, make: str, rows: int):
        import torch

        ids, values = batch(rows)
        self.table = torch.nn.Parameter(torch.zeros(rows, WIDTH))
        indices = torch.from_numpy(ids.astype(np.int64))[None]
        self.table.grad = torch.sparse_coo_tensor(indices, torch.from_numpy(values), (rows, WIDTH))
        self.optimizer = getattr(torch.optim, make)([self.table], lr=RATE)
        self.step()

    def step(self) -> None:
        self.optimizer.step()


GROUPS: dict[str, dict[str, Callable[[int], Any]]] = {
    "Adam": {
        "ours, lazy": lambda rows: ours(jos.lazy_adam(RATE), rows),
        "ours, lazy with catch_up": lambda rows: ours(jos.lazy_adam(RATE, catch_up=True), rows),
        "optax, dense": lambda rows: plain_optax(optax.adam(RATE), rows),
        "keras, dense": lambda rows: keras("Adam", rows),
        "torch SparseAdam": lambda rows: Torch("SparseAdam", rows),
    },
    "SGD": {
        "ours": lambda rows: ours(jos.sgd(RATE), rows),
        "optax, dense": lambda rows: plain_optax(optax.sgd(RATE), rows),
        "keras, dense": lambda rows: keras("SGD", rows),
        "torch, sparse": lambda rows: Torch("SGD", rows),
    },
    "Adagrad": {
        "ours": lambda rows: ours(jos.adagrad(RATE), rows),
        "optax, dense": lambda rows: plain_optax(optax.adagrad(RATE), rows),
        "keras, dense": lambda rows: keras("Adagrad", rows),
        "torch, sparse": lambda rows: Torch("Adagrad", rows),
    },
}


def is_here(name: str) -> bool:
    package = name.partition(" ")[0].strip(",")
    return package in ("ours", "optax") or importlib.util.find_spec(package) is not None


def resident(what: str) -> float:
    """MiB of this process: `VmRSS` now, `VmHWM` at its highest since it was last reset."""
    status = pathlib.Path("/proc/self/status").read_text()
    found = re.search(rf"{what}:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else float("nan")


def grows_by(step: Callable[[], None]) -> float:
    """MiB that the process holds at the highest in two steps, above what it holds before."""
    gc.collect()
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the highest starts anew
    before = resident("VmRSS")
    step()
    step()
    return resident("VmHWM") - before


def measured(group: str, rows: int, seconds: float) -> list[list[str]]:
    made = {name: make(rows) for name, make in GROUPS[group].items() if is_here(name)}
    grown = {name: grows_by(one.step) for name, one in made.items()}
    taken = rounds({name: one.step for name, one in made.items()}, 60, seconds, at_least=5)
    mine = np.asarray(next(iter(taken.values())))
    found = []
    for name, times in taken.items():
        ms = report.spread([1e3 * t for t in quartiles(times)])
        ratio = report.spread(quartiles(np.asarray(times) / mine), 1)
        found.append([group, f"{rows:,}", name, ms, ratio, f"{grown[name]:.1f}"])
        print(*found[-1], sep="  ", flush=True)
    return found


def for_tpu(name: str, tx: jos.Optimizer, rows: int, chips: Any) -> list[str]:
    """What the compiler for a TPU makes of a lazy step: its temporaries, and copies of a whole table."""
    table, ids = jax.ShapeDtypeStruct((rows, WIDTH), jnp.float32), jax.ShapeDtypeStruct((LOOKED_UP,), jnp.int32)
    slices = jax.eval_shape(
        lambda values, ids: jos.sparse.IndexedSlices(values, ids, table.shape),
        jax.ShapeDtypeStruct((LOOKED_UP, WIDTH), jnp.float32),
        ids,
    )
    whole = NamedSharding(chips, PartitionSpec())
    state = jax.eval_shape(tx.init, table)
    given = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), (table, state, slices))
    outs = jax.tree.map(lambda x: whole, (table, state))
    program = jax.jit(lambda p, s, g: tx.apply_gradients(g, s, p), donate_argnums=(0, 1), out_shardings=outs)
    compiled = program.lower(*given).compile()
    memory, copies = compiled.memory_analysis(), 0
    for line in aot.entry(compiled.as_text()).splitlines():
        copies += bool(re.search(rf"= f32\[{rows},{WIDTH}\]\S* copy\(", line))
    donated = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((table, state)))
    room = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes - donated
    return [name, f"{rows:,}", *(f"{x / 2**20:.2f}" for x in (memory.temp_size_in_bytes, room)), str(copies)]


TEXT = """# Sparse gradients, measured

Written by `python benchmarks/sparse.py`; do not edit.

{machine}

A donated step on a table of {width} float32 columns, whose gradient has {looked_up:,} rows: ids are drawn by Zipf's law
(exponent 1.2, seed 0), {unique:,} of them differ in the larger table. Medians (quartiles) of interleaved rounds; the
ratio is to the first line of its group, round by round. "Grows by" is the highest that the process's resident memory
rises above what it holds before, in two steps. Optax and Keras take the dense gradient, which is made before. Other
programs run on this machine: compare within a group.

{table}

## Compiled for a TPU v5e, without one

What the compiler says of a donated lazy step: its temporaries, what it takes and gives besides table and slots (the
gradient), and how many copies of a table its program has. Nothing here was run. Into its vector memory the compiler may
move a table that fits there: that is what the copies of the smaller one are.

{tpu}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", nargs="+", type=int, default=list(ROWS))
    parser.add_argument("--seconds", type=float, default=20.0, help="of each group")
    options = parser.parse_args()
    where, found = machine(), []
    for group in GROUPS:
        for rows in options.rows:
            found += measured(group, rows, options.seconds)
    chips, tpu = aot.mesh(TPU), []
    for rows in options.rows if chips is not None else ():
        for name, tx in (("lazy_adam", jos.lazy_adam()), ("catch_up", jos.lazy_adam(catch_up=True))):
            tpu.append(for_tpu(name, tx, rows, chips))
            print(*tpu[-1], sep="  ", flush=True)
    head = ["rule", "rows", "step", "ms", "ratio", "grows by, MiB"]
    text = TEXT.format(
        machine=described(where),
        width=WIDTH,
        looked_up=LOOKED_UP,
        unique=len(np.unique(batch(max(options.rows))[0])),
        table=report.table(head, found),
        tpu=report.table(["step", "rows", "temporaries, MiB", "gradient, MiB", "copies of a table"], tpu),
    )
    (HERE / "SPARSE.md").write_text(text)


if __name__ == "__main__":
    main()
