"""What recipes are worth: traces of equal optimizers, a sweep over learning rates, `explain` on a large tree.

    python benchmarks/recipes.py

Writes RECIPES.md beside this file. What compiles is timed from empty caches, compiling included.
"""

import argparse
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measure import described, machine, quartiles
from report import spread, table

import jaxopt_suite as jos

RATES = [float(rate) for rate in np.logspace(-4, 0, 16)]
KEYS = jax.random.split(jax.random.key(0), 3)
PARAMS = {
    "hidden": {"bias": jnp.zeros(64), "kernel": jax.random.normal(KEYS[0], (32, 64)) / 6},
    "out": {"bias": jnp.zeros(1), "kernel": jax.random.normal(KEYS[1], (64, 1)) / 8},
}
INPUTS = jax.random.normal(KEYS[2], (256, 32))
STEPS = 100


def loss_fn(params: Any) -> Any:
    hidden = jnp.tanh(INPUTS @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    out = hidden @ params["out"]["kernel"] + params["out"]["bias"]
    return jnp.mean((out[:, 0] - jnp.sin(INPUTS[:, 0])) ** 2)


def trained(tx: Any, state: Any) -> Any:
    """The loss after some steps from the same parameters."""

    def step(carry: Any, _: None) -> tuple[Any, None]:
        params, state = carry
        updates, state = tx.update(jax.grad(loss_fn)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (PARAMS, state), None, STEPS)
    return loss_fn(params)


def separately(make: Callable[[float], Any]) -> list[float]:
    """Each rate by itself: an optimizer is built, and its training is compiled and run."""
    losses = []
    for rate in RATES:
        tx = make(rate)
        losses.append(float(jax.jit(lambda tx=tx: trained(tx, tx.init(PARAMS)))()))
    return losses


def one_after_the_other() -> list[float]:
    """One compiled program, which is given a state with another rate each time."""
    tx = jos.adam()
    program = jax.jit(lambda state: trained(tx, state))
    return [float(program(jos.state.set_learning_rate(tx.init(PARAMS), rate))) for rate in RATES]


def all_at_once() -> list[float]:
    """One compiled program for all rates."""
    tx = jos.adam()
    program = jax.vmap(lambda rate: trained(tx, jos.state.set_learning_rate(tx.init(PARAMS), rate)))
    return np.asarray(jax.jit(program)(jnp.asarray(RATES))).tolist()


SWEEPS = {
    "16 separate runs, `jos.adam(rate)`": lambda: separately(jos.adam),
    "16 separate runs, `optax.adam(rate)`": lambda: separately(lambda rate: optax.adam(rate, eps=1e-7)),
    "one program, 16 states": one_after_the_other,
    "one program, `vmap` over the rate": all_at_once,
}


def from_empty_caches(run: Callable[[], Any]) -> tuple[float, Any]:
    jax.clear_caches()
    begin = time.perf_counter()
    found = run()
    return time.perf_counter() - begin, found


def sweeps(rounds: int) -> str:
    taken: dict[str, list[float]] = {name: [] for name in SWEEPS}
    losses = {}
    for _ in range(rounds):
        for name, run in SWEEPS.items():
            seconds, losses[name] = from_empty_caches(run)
            taken[name].append(seconds)
    best = {name: int(np.nanargmin(found)) for name, found in losses.items()}
    assert len({*best.values()}) == 1, best
    alone = np.asarray(next(iter(taken.values())))
    rows = [[name, spread(quartiles(t)), spread(quartiles(np.asarray(t) / alone))] for name, t in taken.items()]
    return table(["16 rates, 100 steps each", "s", "/ separate runs"], rows)


def traces(make: Callable[[], Any]) -> tuple[int, float]:
    """How often a step is traced that is given an optimizer, built anew each time, as a static argument."""
    seen = []

    def step(tx: Any, params: Any, state: Any, grads: Any) -> Any:
        seen.append(tx)
        return tx.update(grads, state, params)

    jitted = jax.jit(step, static_argnums=0)

    def thrice() -> None:
        for _ in range(3):
            tx = make()
            jax.block_until_ready(jitted(tx, PARAMS, tx.init(PARAMS), PARAMS))

    return from_empty_caches(thrice)[0], len(seen)


def traced() -> str:
    rows = []
    for name, make in (("jos", jos.adamw), ("optax", optax.adamw)):
        seconds, count = traces(lambda make=make: make(1e-3))
        rows.append([f"`{name}.adamw(1e-3)`", str(count), f"{seconds:.2f}"])
    return table(["built three times, passed as a static argument", "traces", "s"], rows)


def explained(rounds: int) -> str:
    leaves = {"kernel": jax.ShapeDtypeStruct((64, 64), jnp.float32), "bias": jax.ShapeDtypeStruct((64,), jnp.float32)}
    params = {f"layer{i}": leaves for i in range(5000)}
    groups = {"bias": jos.frozen(), "": jos.muon()}
    rows = []
    for tx in (
        jos.adamw(global_clipnorm=1.0, exclude_from_weight_decay="bias"),
        jos.by_path(groups, global_clipnorm=1.0),
        jos.from_optax("adamw", learning_rate=1e-3),
    ):
        taken = []
        for _ in range(rounds):
            begin = time.perf_counter()
            repr(tx.explain(params))
            taken.append(time.perf_counter() - begin)
        rows.append([f"`{tx!r}`", spread(quartiles(taken))])
    return table(["`print(tx.explain(params))`, 10 000 parameters", "s"], rows)


TEXT = """# What recipes are worth, measured

Written by `python benchmarks/recipes.py`; do not edit.

{machine}

What compiles is timed from empty caches, tracing and compiling included; **median** (quartiles) of {rounds} rounds
that take each in turn.

{traced}

{sweeps}

{explained}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    rounds = parser.parse_args().rounds
    where = described(machine())
    text = TEXT.format(
        machine=where, rounds=rounds, traced=traced(), sweeps=sweeps(rounds), explained=explained(rounds)
    )
    (pathlib.Path(__file__).parent / "RECIPES.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
