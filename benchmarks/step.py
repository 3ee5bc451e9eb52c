"""The optimizer step beside Optax, Keras 3 (JAX) and torch, in one process.

    python benchmarks/step.py
    python benchmarks/step.py --tree ResNet-50 --optimizer adam lamb --rounds 20

Every library takes the same parameters and gradients. Rounds are interleaved; ratios are of one round, and are
given as median and quartiles. Writes results/step.json, README.md and step.png beside this file; `--report`
only writes the last two again, from the first.
"""

import argparse
import gc
import itertools
import json
import pathlib
import random
import time
from typing import Any

import jax
import report
import trees
from contenders import OURS, Jitted, contenders
from measure import against, machine, quartiles, rounds

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "step.json"

# what is not named is measured on ResNet-50 alone, and Muon, which is for matrices, on BERT-base
EVERYWHERE = ("adamw + clip", "adam", "sgd momentum", "novograd", "lamb", "adafactor")
ONLY_ON = {name: "BERT-base" if name == "muon" else "ResNet-50" for name in OURS if name not in EVERYWHERE}


def taken_by(found: list[Any], options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Seconds of tracing, compiling and steps, by library.

    Before each run of rounds all contenders are prepared anew, in an order that is drawn: where its arrays lie and
    which program was compiled first is worth up to a tenth of a step.
    """
    taken = {what: {contender.library: [] for contender in found} for what in ("trace", "compile", "step")}
    run, draw, begin = {contender.library: contender.step for contender in found}, random.Random(0), time.perf_counter()
    for index in itertools.count():
        if index >= options.repeats and time.perf_counter() - begin > options.seconds:
            return taken
        jax.clear_caches()
        gc.collect()
        for contender in draw.sample(found, len(found)):
            for what, seconds in contender.prepare().items():
                taken[what][contender.library].append(seconds)
        for library, seconds in rounds(run, options.rounds, options.seconds / options.repeats, at_least=1).items():
            taken["step"][library] += seconds


def summary(taken: dict[str, list[float]]) -> dict[str, Any]:
    taken = {name: seconds for name, seconds in taken.items() if seconds}
    return {
        "rounds": len(taken["ours"]),
        "seconds": {name: quartiles(seconds) for name, seconds in taken.items()},
        "ratio": against(taken),
    }


def measured(tree: str, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One optimizer on one tree."""
    params, grads = trees.filled(trees.shapes(tree), 0), trees.filled(trees.shapes(tree), 1)
    found = contenders(name, params, grads)
    del params, grads
    taken = {what: summary(by_library) for what, by_library in taken_by(found, options).items()}
    return {"tree": tree, "optimizer": name, **taken, "memory": {c.library: c.memory() for c in found}}


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
    taken = rounds(run, 10 * options.rounds, options.seconds)
    ratio = {c.library: against({n: taken[f"{c.library} {n}"] for n in ("eager", "compiled")}, "eager") for c in found}
    return {
        "seconds": {name: quartiles(seconds) for name, seconds in taken.items()},
        "ratio": {library: found["compiled"] for library, found in ratio.items()},
    }


def dispatch(options: argparse.Namespace) -> dict[str, Any]:
    """A step of 1000 small leaves, beside a program that hands our donated arrays back and computes nothing."""
    tree = "1000 leaves of 1000"
    params, grads = trees.filled(trees.shapes(tree), 0), trees.filled(trees.shapes(tree), 1)
    found = [c for c in contenders("adamw + clip", params, grads) if c.library in ("ours", "optax")]
    ours = found[0]
    found.append(Jitted("nothing", lambda: lambda p, s, g: (p, s), ours.params, ours.state, ours.grads))
    taken = taken_by(found, options)["step"]
    ratio = {name: against({name: taken[name], "optax": taken["optax"]}, name)["optax"] for name in ("ours", "nothing")}
    return {"seconds": {name: quartiles(seconds) for name, seconds in taken.items()}, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tree", nargs="+", choices=list(trees.TREES), default=list(trees.TREES))
    parser.add_argument("--optimizer", nargs="+", choices=list(OURS), default=list(OURS))
    parser.add_argument("--repeats", type=int, default=3, help="how often all is prepared anew, at least")
    parser.add_argument("--seconds", type=float, default=20.0, help="no further repeat of an optimizer after that time")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of steps in a repeat, at most")
    parser.add_argument("--report", action="store_true", help="only write the tables and the plot again")
    options = parser.parse_args()
    if not options.report:
        results = {"machine": machine(), "eager": eager(options), "dispatch": dispatch(options), "steps": []}
        for tree in options.tree:
            for name in options.optimizer:
                if ONLY_ON.get(name, tree) != tree:
                    continue
                results["steps"].append(measured(tree, name, options))
                print(report.line(results["steps"][-1]), flush=True)
                RESULTS.parent.mkdir(exist_ok=True)
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    report.write(json.loads(RESULTS.read_text()), HERE)


if __name__ == "__main__":
    main()
