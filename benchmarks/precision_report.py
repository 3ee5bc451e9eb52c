"""The tables and the picture of precision.py."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from measure import described
from report import spread, table

TITLES = {"text": "next character of Python's documentation, transformer", "digits": "digits, convnet"}


def report(results: Mapping[str, Any]) -> str:
    """The whole of PRECISION.md."""
    parts = {
        "losses": ("Losses", _losses),
        "stall": ("A weight that does not move", _stall),
        "bytes": ("Bytes of state a parameter", _bytes),
        "time": ("Time of a step", _time),
        "peers": ("Beside other libraries", _peers),
        "codes": ("Error of the codes", _codes),
        "ahead": ("Compiled ahead of time", _ahead),
    }
    text = ["# Training in 16 bits, and with 8-bit state", "", "Written by `python benchmarks/precision.py`.", ""]
    for key, (title, write) in parts.items():
        if key in results:
            text += [f"## {title}", "", described(results[key]["machine"]), "", write(results[key]["found"]), ""]
    return "\n".join(text)


def _losses(found: Mapping[str, Any]) -> str:
    lines = [
        "Held-out loss after training with Adam and a cosine schedule; mean and standard deviation of the seeds, and",
        "how many of float32's standard deviations the mean is from float32's. The model's arithmetic is float32",
        "throughout: what differs is how parameters and state are kept.",
        "",
        "![Loss curves](precision.png)",
        "",
    ]
    for task, runs in found.items():
        first, rows = _finals(runs["float32"]), []
        for setting, of in runs.items():
            final = _finals(of)
            apart = (final.mean() - first.mean()) / first.std(ddof=1)
            rows.append([setting, f"{final.mean():.4f}", f"{final.std(ddof=1):.4f}", f"{apart:+.2f}"])
        lines += [f"### {TITLES[task]}", "", table(["setting", "loss", "of seeds", "from float32"], rows), ""]
    return "\n".join(lines)


def _finals(runs: Any) -> np.ndarray:
    return np.array([run["final"] for run in runs])


def _stall(found: Mapping[str, float]) -> str:
    rows = [[name, f"{value:.4f}"] for name, value in found.items()]
    text = "1,000 weights of 1 after 100 steps of Adam at 1e-3 against gradients of 1; in float32 they are at 0.9000."
    return f"{text}\n\n{table(['written by', 'mean weight'], rows)}"


def _bytes(found: Mapping[str, Mapping[str, float]]) -> str:
    names = list(next(iter(found.values())))
    rows = [[name, *(f"{held[name]:.3f}" for held in found.values())] for name in names]
    return table(["parameters: written by / slots of Adam", *found], rows)


def _time(found: Mapping[str, Any]) -> str:
    lines = [
        f"The donated step of Adam on {found['tree']}: the ratio to the first row's step of the same round, and the"
    ]
    lines += ["temporaries of the compiled step as a share of the parameters in float32.", ""]
    for dtype in ("float32", "bfloat16"):
        of = found[dtype]
        rows = [
            [name, f"{of['milliseconds'][name][1]:.1f}", spread(ratio), f"{of['temporaries'][name]:.3f}"]
            for name, ratio in of["ratio"].items()
        ]
        lines += [table([f"{dtype} parameters", "ms", "ratio", "temporaries"], rows), ""]
    return "\n".join(lines).rstrip()


def _peers(found: Mapping[str, Any]) -> str:
    text = (
        "The step of Adam with 8-bit state on ResNet-50 in float32, and its ratio to the library's own step in float32."
    )
    rows = [[name, f"{of['milliseconds'][1]:.1f}", spread(of["ratio"])] for name, of in found.items()]
    return f"{text}\n\n{table(['step', 'ms', 'ratio'], rows)}"


def _codes(found: Mapping[str, Mapping[str, float]]) -> str:
    text = (
        "Mean absolute error over mean absolute value, on the moments that training the text model left, rounded to\n"
    )
    text += "the nearest code; beside the dynamic map of Dettmers et al. (2022) in blocks of 256, written here anew."
    names = list(next(iter(found.values())))
    rows = [[name, *(f"{of[name]:.2%}" for of in found.values())] for name in names]
    return f"{text}\n\n{table(['of', *found], rows)}"


def _ahead(found: Mapping[str, Any]) -> str:
    text = "Bytes a parameter of BERT-base, of the donated step: what it is given (parameters, gradients, state), and\n"
    text += "temporaries; and the roundings (`reduce-precision`) that are left in the compiled program."
    rows = []
    for target, of in found.items():
        for setting, row in of.items():
            rows.append([target, setting, f"{row['arguments']:.3f}", f"{row['temporaries']:.3f}", str(row["rounded"])])
    return f"{text}\n\n{table(['target', 'setting', 'given', 'temporaries', 'roundings'], rows)}"


def draw(results: Mapping[str, Any], file: pathlib.Path) -> None:
    """The loss curves as their distance from float32's mean, with the spread of the seeds."""
    if "losses" not in results:
        return
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = results["losses"]["found"]
    figure, axes = plt.subplots(1, len(found), figsize=(11, 4.2), layout="constrained")
    for ax, (task, runs) in zip(np.atleast_1d(axes), found.items(), strict=True):
        for setting, of in runs.items():
            curves = np.array([run["curve"] for run in of])
            at = (np.arange(curves.shape[1]) + 1) / curves.shape[1]
            style = "--" if "plain" in setting or "optax" in setting else "-"
            (line,) = ax.plot(at, curves.mean(0), style, label=setting, linewidth=1.2)
            ax.fill_between(at, curves.min(0), curves.max(0), alpha=0.08, color=line.get_color())
        last = np.array([[run["curve"][-1] for run in of] for of in runs.values()])
        ax.set(title=TITLES[task], xlabel="share of the training", ylabel="training loss")
        ax.set_ylim(0.9 * last.min(), last.min() + 4 * (last.max() - last.min()) + 0.02)
    axes[-1].legend(fontsize=7)
    figure.savefig(file, dpi=110)
    plt.close(figure)
