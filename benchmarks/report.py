"""From measurements to Markdown tables and a plot."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from measure import described

PEERS = ("optax", "keras", "torch fused", "torch foreach")


def line(result: Mapping[str, Any]) -> str:
    """One measurement, for the terminal."""
    mine = result["step"]["seconds"]["ours"][1]
    ratios = ", ".join(f"{name} {ratio[1]:.2f}" for name, ratio in result["step"]["ratio"].items())
    return f"{result['tree']:20} {result['optimizer']:13} {1e3 * mine:8.2f} ms; ours / theirs: {ratios}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def spread(found: Sequence[float] | None, digits: int = 2) -> str:
    """Median and quartiles, `0.51 (0.49 to 0.55)`."""
    if found is None:
        return "-"
    low, middle, high = (f"{x:.{digits}f}" for x in found)
    return f"**{middle}** ({low} to {high})"


def _steps(results: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for result in results:
        step = result["step"]
        mine = step["seconds"]["ours"][1]
        ratios = [spread(step["ratio"].get(peer)) for peer in PEERS]
        rows.append([result["optimizer"], f"{1e3 * mine:.2f}", *ratios, str(step["rounds"])])
    return table(["optimizer", "ours, ms", *(f"/ {peer}" for peer in PEERS), "rounds"], rows)


def _programs(results: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for result in results:
        row = [result["optimizer"]]
        for what in ("trace", "compile"):
            found = result[what]
            ratios = [f"{found['ratio'][peer][1]:.2f}" if peer in found["ratio"] else "-" for peer in PEERS[:2]]
            row += [f"{found['seconds']['ours'][1]:.2f}", *ratios]
        rows.append([*row, str(found["rounds"])])
    head = ["optimizer", "trace, s", "/ optax", "/ keras", "compile, s", "/ optax", "/ keras", "runs"]
    return table(head, rows)


def _memory(results: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for result in results:
        row = [result["optimizer"]]
        for what, libraries in (("temporaries", ("ours", *PEERS[:2])), ("state", ("ours", *PEERS[:3]))):
            for library in libraries:
                found = result["memory"].get(library, {}).get(what)
                row.append("-" if found is None else f"{100 * found:.1f}" if what == "temporaries" else f"{found:.3f}")
        rows.append(row)
    head = ["optimizer", "temporaries, %: ours", "optax", "keras", "state: ours", "optax", "keras", "torch"]
    return table(head, rows)


def _eager(found: Mapping[str, Any]) -> str:
    rows = []
    for library, ratio in found["ratio"].items():
        times = [f"{1e3 * found['seconds'][f'{library} {how}'][1]:.2f}" for how in ("compiled", "eager")]
        rows.append([library, *times, spread(ratio)])
    return table(["library", "compiled, ms", "eager, ms", "eager / compiled"], rows)


def _dispatch(found: Mapping[str, Any]) -> str:
    rows = [
        [name, f"{1e3 * seconds[1]:.1f}", spread(found["ratio"].get(name))]
        for name, seconds in found["seconds"].items()
    ]
    return table(["program", "ms", "/ optax"], rows)


HEAD = """# The optimizer step, measured

Written by `python benchmarks/step.py`; do not edit. What the numbers mean, and why they are what they are, is in
[NOTES.md](NOTES.md).

{machine}

One process; parameters and state are donated; a step is timed until its results are there. Each round takes every
library once, in an order of its own, after a pause; every few rounds all arrays are moved to new memory, and all
steps traced and compiled anew, again in an order that is drawn. A ratio is ours over theirs in the same
round, **median** (quartiles): below 1 ours is faster. torch's step includes `clip_grad_norm_` where the others clip.

![steps](step.png)
"""


def write(results: Mapping[str, Any], folder: pathlib.Path) -> None:
    """README.md and step.png."""
    parts = [HEAD.format(machine=described(results["machine"]))]
    names = list(dict.fromkeys(result["tree"] for result in results["steps"]))
    by_tree = {name: [r for r in results["steps"] if r["tree"] == name] for name in names}
    for name, found in by_tree.items():
        parts += [f"## {name}\n", "Step:\n", _steps(found)]
        parts += ["\nTracing (Python) and compiling (XLA):\n", _programs(found)]
        parts += ["\nMemory over that of the parameters:\n", _memory(found), ""]
    parts += ["## A step outside jit\n", "AdamW with clipping, 161 leaves of at most 1000 entries, nothing donated.\n"]
    parts += [_eager(results["eager"]), "\n## What dispatch alone costs\n"]
    parts += ["AdamW with clipping, 1000 leaves of 1000: 4000 arrays go in, 3000 come out. `nothing` is a program that"]
    parts += ["computes nothing: it hands back our donated parameters and state.\n"]
    parts += [_dispatch(results["dispatch"]), ""]
    (folder / "README.md").write_text("\n".join(parts))
    plot(by_tree, folder / "step.png")


COLORS = {"optax": "#d95f02", "keras": "#7570b3", "torch fused": "#1b9e77", "torch foreach": "#66c2a5"}


def plot(by_tree: Mapping[str, Sequence[Mapping[str, Any]]], path: pathlib.Path) -> None:
    """Ours over theirs, one panel per tree, on a logarithmic axis; bars reach from quartile to quartile."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(by_tree), figsize=(3.4 * len(by_tree) + 1, 4.2), sharey=True, squeeze=False, layout="constrained"
    )
    optimizers = list(dict.fromkeys(r["optimizer"] for found in by_tree.values() for r in found))
    for panel, (name, found) in zip(panels[0], by_tree.items(), strict=True):
        _panel(panel, found, optimizers)
        panel.set_title(name)
    panels[0, 0].set_yticks(range(len(optimizers)), optimizers)
    panels[0, 0].invert_yaxis()
    handles = [pyplot.Line2D([], [], color=color, marker="o", label=peer) for peer, color in COLORS.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(COLORS), frameon=False)
    figure.supxlabel("time of our step over theirs: left of 1 ours is faster", fontsize=10)
    figure.savefig(path, dpi=150)


def _panel(panel: Any, found: Sequence[Mapping[str, Any]], optimizers: Sequence[str]) -> None:
    panel.axvline(1, color="black", linewidth=0.8)
    panel.set_xscale("log")
    ticks = (0.25, 0.5, 1, 2)
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.set_xlim(0.25, 2.5)
    panel.grid(axis="x", alpha=0.3)
    for result in found:
        for index, peer in enumerate(PEERS):
            if peer in result["step"]["ratio"]:
                low, middle, high = result["step"]["ratio"][peer]
                y = optimizers.index(result["optimizer"]) + 0.18 * (index - 1.5)
                panel.plot([low, high], [y, y], color=COLORS[peer], linewidth=2.5, alpha=0.6)
                panel.plot(middle, y, "o", color=COLORS[peer], markersize=5)
