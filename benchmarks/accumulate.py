"""Gradient accumulation: what a micro-step costs, beside `optax.MultiSteps` and Keras.

    python benchmarks/accumulate.py

Four micro-batches make one step of Adam. A micro-step that is not a boundary, the boundary, and a plain step are
timed in interleaved rounds, and the way around it: a scan over the micro-batches inside one compiled step, which
sums the gradients itself and calls a plain Adam once. Writes ACCUMULATE.md beside this file.
"""

import argparse
import importlib.util
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import report
import trees
from measure import described, machine, quartiles, rounds

import jaxopt_suite as jos

os.environ.setdefault("KERAS_BACKEND", "jax")

HERE = pathlib.Path(__file__).parent
STEPS, RATE = 4, 1e-3
ORDER = ("one pass over the gradients", "ours", "optax", "keras")  # of the table


class Accumulating:
    """One library's donated step, and where it is in its cycle of micro-steps."""

    def __init__(self, step: Callable, params: Any, state: Any, grads: Any):
        self.program = jax.jit(step, donate_argnums=(0, 1))
        self.params, self.state = jax.tree.map(jnp.array, (params, state))
        self.grads = grads

    def step(self) -> None:
        self.params, self.state = self.program(self.params, self.state, self.grads)
        jax.block_until_ready((self.params, self.state))


def ours(params: Any, grads: Any, **common: Any) -> Accumulating:
    tx = jos.adam(RATE, **common)
    return Accumulating(lambda p, s, g: tx.apply_gradients(g, s, p), params, tx.init(params), grads)


def plain_optax(params: Any, grads: Any, every: int = 1) -> Accumulating:
    tx = optax.MultiSteps(optax.adam(RATE), every) if every > 1 else optax.adam(RATE)

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return Accumulating(step, params, tx.init(params), grads)


def keras(params: Any, grads: Any, every: int | None = None) -> Accumulating:
    import keras

    tx = keras.optimizers.Adam(RATE, gradient_accumulation_steps=every)
    variables = [keras.Variable(w) for w in jax.tree.leaves(params)]
    tx.build(variables)
    state = [variable.value for variable in tx.variables]

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        return tx.stateless_apply(state, grads, params)

    return Accumulating(step, [variable.value for variable in variables], state, jax.tree.leaves(grads))


def scanned(params: Any, grads: Any) -> Accumulating:
    """One program for the whole cycle, in which a micro-batch's gradients are the same ones times its weight."""
    tx = jos.adam(RATE)

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        def add(total: Any, micro_batch: Any) -> tuple[Any, None]:
            return jax.tree.map(lambda a, g: a + micro_batch * g, total, grads), None

        zeros = jax.tree.map(jnp.zeros_like, params)
        total, _ = jax.lax.scan(add, zeros, jnp.ones(STEPS) / STEPS)
        return tx.apply_gradients(total, state, params)

    return Accumulating(step, params, tx.init(params), grads)


def one_pass(params: Any, grads: Any) -> Accumulating:
    """The floor of a micro-step: the gradients are added to a sum, in place, and nothing else."""
    add = lambda p, s, g: (p, jax.tree.map(jnp.add, s, g))  # noqa: E731
    return Accumulating(add, jnp.zeros(()), jax.tree.map(jnp.zeros_like, params), grads)


def cycles(found: dict[str, Accumulating], options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each kind of step; a cycle is `STEPS - 1` held micro-steps and a boundary."""
    taken: dict[str, list[float]] = {}
    plain = {name: c.step for name, c in found.items() if "micro" not in name}
    micro = {name: c.step for name, c in found.items() if "micro" in name}
    for step in (*plain.values(), *(step for step in micro.values() for _ in range(STEPS))):
        step()
    for _ in range(options.rounds):
        for index in range(STEPS):
            once = rounds(micro | (plain if index == 0 else {}), 1, 0)
            for name, seconds in once.items():
                kind = "boundary" if index == STEPS - 1 else "held"
                taken.setdefault(name.replace("micro", kind), []).extend(seconds)
    return taken


def contenders(params: Any, grads: Any) -> dict[str, Accumulating]:
    found = {
        "one pass over the gradients": one_pass(params, grads),
        "ours, plain": ours(params, grads),
        "ours, micro": ours(params, grads, gradient_accumulation_steps=STEPS),
        "ours, scan": scanned(params, grads),
        "optax, plain": plain_optax(params, grads),
        "optax, micro": plain_optax(params, grads, STEPS),
    }
    if importlib.util.find_spec("keras"):
        found |= {"keras, plain": keras(params, grads), "keras, micro": keras(params, grads, STEPS)}
    return found


TEXT = """# Gradient accumulation, measured

Written by `python benchmarks/accumulate.py`; do not edit.

{machine}

Adam with `gradient_accumulation_steps={steps}` through `apply_gradients`, beside `optax.MultiSteps` and Keras 3
(JAX), each a donated compiled step; medians (quartiles) over interleaved rounds. "Held" is a micro-step that is not
a boundary, "boundary" the one that updates, "plain" the same optimizer without accumulation, and "scan" all {steps}
micro-batches in one program: `lax.scan` sums their gradients and a plain optimizer is called once. "One pass" adds
the gradients to a sum in place and does nothing else.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tree", nargs="+", choices=list(trees.TREES), default=["one leaf of 32 M", "ResNet-50"])
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    parts = [TEXT.format(machine=described(machine()), steps=STEPS)]
    for tree in options.tree:
        params = trees.filled(trees.shapes(tree), 0)
        grads = jax.tree.map(jnp.array, trees.filled(trees.shapes(tree), 1))
        taken = cycles(contenders(params, grads), options)
        floor = quartiles(taken["one pass over the gradients"])[1]
        rows = []
        for name, seconds in sorted(taken.items(), key=lambda item: ORDER.index(item[0].partition(",")[0])):
            low, middle, high = (1e3 * q for q in quartiles(seconds))
            rows.append([name, f"**{middle:.1f}** ({low:.1f} to {high:.1f})", f"{middle / 1e3 / floor:.1f}"])
        parts += [f"## {tree}\n", report.table(["step", "ms", "passes over the gradients"], rows), ""]
    (HERE / "ACCUMULATE.md").write_text("\n".join(parts))


if __name__ == "__main__":
    main()
