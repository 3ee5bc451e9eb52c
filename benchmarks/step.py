"""The optimizer step beside Optax, Keras 3 (JAX) and torch, in one process.

    python benchmarks/step.py
    python benchmarks/step.py --tree ResNet-50 --optimizer adam lamb --rounds 20

Every library takes the same parameters and gradients. Rounds are interleaved; ratios are of one round, and are
given as median and quartiles. Writes results/step.json, README.md and step.png beside this file; `--report`
only writes the last two again, from the first.
"""

import argparse
import gc
import json
import math
import pathlib
import random
from typing import Any

import jax
import report
import trees
from contenders import OURS, Jitted, contenders
from measure import against, machine, quartiles, rounds

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "step.json"

# Newton and Schulz take minutes on a tree of convolutions' size and nothing on vectors: Muon is for matrices
SKIPPED = {("muon", tree) for tree in trees.TREES if tree != "BERT-base"}


def prepared(found: list[Any], repeats: int) -> dict[str, Any]:
    """Seconds of tracing and compiling, interleaved, for those that compile."""
    jitted = [contender for contender in found if isinstance(contender, Jitted)]
    taken: dict[str, dict[str, list[float]]] = {"trace": {}, "compile": {}}
    for _ in range(repeats):
        for contender in jitted:
            for what, seconds in contender.prepare().items():
                taken[what].setdefault(contender.library, []).append(seconds)
    return {what: _summary(by_library) for what, by_library in taken.items()}


def _summary(taken: dict[str, list[float]]) -> dict[str, Any]:
    return {
        "rounds": len(taken["ours"]),
        "seconds": {name: quartiles(seconds) for name, seconds in taken.items()},
        "ratio": against(taken),
    }


def placed_rounds(found: list[Any], options: argparse.Namespace) -> dict[str, list[float]]:
    """Rounds of steps; some times in between all arrays are moved to new memory, in an order that is drawn."""
    taken: dict[str, list[float]] = {contender.library: [] for contender in found}
    run, draw = {contender.library: contender.step for contender in found}, random.Random(0)
    for _ in range(options.placements):
        for contender in draw.sample(found, len(found)):
            contender.place()
        share = math.ceil(options.rounds / options.placements), options.seconds / options.placements
        for library, seconds in rounds(run, *share, at_least=1).items():
            taken[library] += seconds
    return taken


def measured(tree: str, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One optimizer on one tree."""
    params, grads = trees.filled(trees.shapes(tree), 0), trees.filled(trees.shapes(tree), 1)
    found = contenders(name, params, grads)
    del params, grads
    result = prepared(found, options.repeats)
    for contender in found:
        contender.first()
    taken = placed_rounds(found, options)
    memory = {c.library: c.memory() for c in found}
    return {"tree": tree, "optimizer": name, "step": _summary(taken), **result, "memory": memory}


def eager(options: argparse.Namespace) -> dict[str, Any]:
    """A step of 161 small leaves outside `jit`, beside the same step as a compiled program."""
    params, grads = trees.filled(trees.shapes("small"), 0), trees.filled(trees.shapes("small"), 1)
    found = [c for c in contenders("adamw + clip", params, grads) if c.library in ("ours", "optax")]
    run = {}
    for contender in found:
        run[f"{contender.library} compiled"] = contender.kept_step
        run[f"{contender.library} eager"] = contender.eager_step
    for step in run.values():
        step()
    taken = rounds(run, options.rounds, options.seconds)
    ratio = {c.library: against({n: taken[f"{c.library} {n}"] for n in ("eager", "compiled")}, "eager") for c in found}
    return {
        "seconds": {name: quartiles(seconds) for name, seconds in taken.items()},
        "ratio": {library: found["compiled"] for library, found in ratio.items()},
    }


def dispatch(options: argparse.Namespace) -> dict[str, Any]:
    """Our step of 1000 small leaves, beside a program with the same arguments and results.

    It changes one entry of each array in place, so nearly all of its time is JAX's handling of arguments and results.
    """
    tree = "1000 leaves of 1000"
    params, grads = trees.filled(trees.shapes(tree), 0), trees.filled(trees.shapes(tree), 1)
    ours = next(c for c in contenders("adamw + clip", params, grads) if c.library == "ours")
    empty = Jitted("empty", lambda: hand_back, ours.params, ours.state, ours.grads)
    for contender in (ours, empty):
        contender.first()
    taken = rounds({"ours": ours.step, "empty": empty.step}, options.rounds, options.seconds)
    return {"seconds": {name: quartiles(seconds) for name, seconds in taken.items()}}


def hand_back(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
    """The donated arrays, the first entry of each doubled in place."""

    def touch(x: Any) -> Any:
        return x.at[(0,) * x.ndim].multiply(2)

    return jax.tree.map(touch, (params, state))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tree", nargs="+", choices=list(trees.TREES), default=list(trees.TREES))
    parser.add_argument("--optimizer", nargs="+", choices=list(OURS), default=list(OURS))
    parser.add_argument("--rounds", type=int, default=30, help="rounds of steps, at most")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of rounds, for one optimizer and tree")
    parser.add_argument("--placements", type=int, default=3, help="how often the arrays are moved to new memory")
    parser.add_argument("--repeats", type=int, default=1, help="how often a step is traced and compiled")
    parser.add_argument("--report", action="store_true", help="only write the tables and the plot again")
    options = parser.parse_args()
    if not options.report:
        results = {"machine": machine(), "eager": eager(options), "dispatch": dispatch(options), "steps": []}
        for tree in options.tree:
            for name in options.optimizer:
                if (name, tree) in SKIPPED:
                    continue
                results["steps"].append(measured(tree, name, options))
                gc.collect()
                print(report.line(results["steps"][-1]), flush=True)
                RESULTS.parent.mkdir(exist_ok=True)
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    report.write(json.loads(RESULTS.read_text()), HERE)


if __name__ == "__main__":
    main()
