"""What metrics and a skip cost: the optimizer's step alone, and the step of a small network.

    python benchmarks/metrics.py [--size N] [--seconds S] [--out FILE]

writes METRICS.md: medians of rounds in which each contender runs once, and the room that XLA takes beside.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
from measure import described, machine, quartiles, rounds

import jaxopt_suite as jos

CONTENDERS = {
    "adam": jos.adam(),
    "with_metrics(adam)": jos.with_metrics(jos.adam()),
    "skip_large_updates(adam)": jos.skip_large_updates(jos.adam()),
}
BATCH = 256


def loss(params, x):
    for w in params.values():
        x = jnp.tanh(x @ w)
    return jnp.mean(jnp.square(x)).astype(jnp.float32)


def stepper(tx, params, trains):
    """A compiled step on its own arrays, to be called again and again; and its temporaries, in bytes."""

    def step(params, state, x):
        grads = jax.grad(loss)(params, x) if trains else jax.tree.map(lambda w: w * w.dtype.type(0.01), params)
        return tx.apply_gradients(grads, state, params)

    x = jnp.ones((BATCH, params["0"].shape[0]), params["0"].dtype)
    held = [jax.tree.map(jnp.copy, params), tx.init(params)]
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(*held, x).compile()

    def run():
        held[:] = jax.block_until_ready(compiled(*held, x))

    run()
    return run, compiled.memory_analysis().temp_size_in_bytes


def table(size, seconds, trains):
    lines = ["| dtype | optimizer | ms a step | of adam's | room beside, of the parameters |", "|---|---|---|---|---|"]
    for dtype in (jnp.float32, jnp.bfloat16):
        params = {str(i): jnp.full((size, size), 0.01, dtype) for i in range(4)}
        made = {name: stepper(tx, params, trains) for name, tx in CONTENDERS.items()}
        taken = rounds({name: run for name, (run, _) in made.items()}, 200, seconds)
        base = quartiles(taken["adam"])[1]
        for name, (_, temporary) in made.items():
            median = quartiles(taken[name])[1]
            share = temporary / sum(w.nbytes for w in params.values())
            cells = (jnp.dtype(dtype).name, f"`{name}`", f"{1e3 * median:.1f}", f"{median / base:.2f}", f"{share:.1f}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", default=str(pathlib.Path(__file__).with_name("METRICS.md")))
    given = parser.parse_args()
    told = described(machine())
    text = f"""# What metrics and a skip cost

Four matrices of {given.size} x {given.size}, parameters and state donated. Written by `benchmarks/metrics.py` on
{told}

## The optimizer's step alone

{table(given.size, given.seconds, trains=False)}

## The step of a network of these matrices, {BATCH} examples a batch

{table(given.size, given.seconds, trains=True)}
"""
    pathlib.Path(given.out).write_text(text)


if __name__ == "__main__":
    main()
