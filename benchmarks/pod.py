"""Training steps compiled ahead of time for TPU pods: memory on each chip, and what is sent between the chips.

    pip install "jax[tpu]"
    python benchmarks/pod.py

A step is the loss, its gradient and the update of a stack of MLP layers, in each way to split it over the chips, by
this library and by Optax on the same shardings. Nothing is run, and no accelerator is needed. Writes POD.md beside this
file.
"""

import argparse
import collections
import math
import os
import pathlib
import re
import time
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")

import jax
import jax.numpy as jnp
import numpy as np
import report
from jax.experimental import topologies
from jax.sharding import Mesh
from measure import described, machine
from pod_steps import MODELS, PAIRS, WAYS, Tx, shapes

HERE = pathlib.Path(__file__).parent

# the mesh of each pod: the axes that the batch is split over, outermost first
PODS: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "v5e 2x2": ({"topology_name": "v5e:2x2"}, {"data": 4}),
    "v5e 4x4": ({"topology_name": "v5e:4x4"}, {"data": 16}),
    "v5e 8x8": ({"topology_name": "v5e:8x8"}, {"data": 64}),
    "v5e 16x16": ({"topology_name": "v5e:16x16"}, {"data": 256}),
    "v5p 4x4x4": ({"topology_name": "v5p:4x4x4"}, {"data": 64}),
    "2 slices of v5e 4x4": ({"topology_name": "v5e:4x4", "num_slices": 2}, {"slice": 2, "data": 16}),
}

ROWS_PER_CHIP = 16


def mesh_of(pod: str) -> Mesh | None:
    """The pod's chips, or None where libtpu is not installed."""
    options, axes = PODS[pod]
    try:
        found = topologies.get_topology_desc(platform="tpu", **options)
    except (RuntimeError, ValueError, jax.errors.JaxRuntimeError) as error:
        print(f"{pod} is left out: {str(error).splitlines()[0]}")
        return None
    return Mesh(np.array(found.devices).reshape([*axes.values()]), [*axes])


FITTING = {"1 B": "v5e 4x4", "7 B": "v5e 8x8", "70 B": "v5e 16x16"}  # pods that hold a model with FSDP
TOO_LONG = {("70 B", "adamw, 8-bit slots")}  # left out: not compiled after four minutes on a busy machine

CASES = (
    *(("v5e 4x4", "128 M", way, "adamw, clip") for way in WAYS),
    *((pod, "1 B", "ZeRO-1", "adamw, clip") for pod in PODS if pod.startswith("v5e")),
    *(("v5e 16x16", "1 B", "ZeRO-1", name) for name in PAIRS if name != "adamw, clip"),
    ("v5e 16x16", "1 B", "jit", "adamw, clip"),
    *((pod, model, "FSDP", name) for model, pod in FITTING.items() for name in PAIRS if (model, name) not in TOO_LONG),
    *((pod, "128 M", "ZeRO-1", "adamw, clip") for pod in ("v5p 4x4x4", "2 slices of v5e 4x4")),
)


# what the compiler says

WIDTHS = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4}
KINDS = "all-reduce|reduce-scatter|all-gather|all-to-all|collective-permute"


def collectives(text: str, layers: int) -> dict[str, tuple[int, int]]:
    """How many collectives of each kind a program has, and the bytes of their results on one chip.

    The loops of these programs are those over the layers: what is inside of one counts for each layer.
    """
    found: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    loops = {*re.findall(r" while\(.*body=%?([\w.\-]+)", text)}
    for name, body in computations(text).items():
        times = layers if name in loops else 1
        for shape, kind in re.findall(rf"= (.*?) ({KINDS})(?:-start)?\(", body):
            found[kind][0] += times
            found[kind][1] += times * nbytes(shape)
    return {kind: (n, size) for kind, (n, size) in sorted(found.items())}


def computations(text: str) -> dict[str, str]:
    """The computations of a program by name."""
    heads = [*re.finditer(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$", text, re.MULTILINE)]
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return {head[1]: text[head.start() : end] for head, end in zip(heads, ends, strict=True)}


def nbytes(shape: str) -> int:
    arrays = re.findall(r"(\w+)\[([\d,]*)\]", shape)
    return sum(WIDTHS.get(kind, 4) * math.prod(int(n) for n in dims.split(",") if n) for kind, dims in arrays)


def compiled(way: str, tx: Tx, model: str, dtype: Any, chips: Mesh) -> dict[str, Any]:
    batch = jax.ShapeDtypeStruct((ROWS_PER_CHIP * chips.size, MODELS[model][1]), dtype)
    step, arguments = WAYS[way](tx, shapes(model, dtype), batch, chips)
    start = time.perf_counter()
    try:
        executable = step.lower(*arguments).compile()
    except jax.errors.JaxRuntimeError as error:
        if (short := re.search(r"memory required for .*", str(error))) is None:
            raise
        return {"short": short[0]}
    memory = executable.memory_analysis()
    return {
        "arguments": memory.argument_size_in_bytes / 2**20,
        "temporaries": memory.temp_size_in_bytes / 2**20,
        "collectives": collectives(executable.as_text(), MODELS[model][0]),
        "seconds": time.perf_counter() - start,
    }


# what a step takes on paper


def held(way: str, model: str, dtype: Any, slots: int, chips: int) -> float:
    """MiB on each chip of parameters and slots, as the guide counts them: `p + s`, `p + s / N` or `(p + s) / N`."""
    entries, p = sum(math.prod(x.shape) for x in shapes(model, dtype).values()), jnp.dtype(dtype).itemsize
    share = {"ZeRO-1": p + slots / chips, "FSDP": (p + slots) / chips}.get(way, p + slots)
    return entries * share / 2**20


FLOPS, LINKS = 197e12, 200e9  # of a v5e chip, as Google gives them: bfloat16, a second; bytes between chips, a second
TOKENS = 8192  # of the batch on each chip


def on_paper(chips: int, model: str, sent: dict[str, tuple[int, int]]) -> list[str]:
    """Milliseconds of arithmetic, of communication in rings that nothing hides, and the share of the arithmetic."""
    parameters, share = sum(math.prod(x.shape) for x in shapes(model, jnp.float32).values()), (chips - 1) / chips
    passes = {"all-reduce": 2 * share, "all-gather": share, "reduce-scatter": chips * share}
    moved = 1e3 * sum(passes.get(kind, 1) * size for kind, (_, size) in sent.items()) / LINKS
    worked = 1e3 * 8 * parameters * TOKENS / FLOPS  # 6, and 2 of the forward pass that is computed again
    return [str(chips), f"{worked:.0f}", f"{moved:.1f}", f"{worked / (worked + moved):.3f}"]


def cells(found: dict[str, Any]) -> list[str]:
    if "short" in found:
        return ["", "", f"does not fit: {found['short']}", ""]
    sizes = [f"{found[key]:.1f}" for key in ("arguments", "temporaries")]
    return [*sizes, listed(found["collectives"]), f"{found['seconds']:.1f}"]


def listed(found: dict[str, tuple[int, int]]) -> str:
    return ", ".join(f"{n} {kind} {size / 2**20:.1f} MiB" for kind, (n, size) in found.items()) or "none"


TEXT = """# Steps for pods, compiled ahead of time

Written by `python benchmarks/pod.py`; do not edit. Nothing here was run: it is what the TPU compiler says.

{machine}

A step is the loss, its gradient and the update of a stack of MLP layers
({models}),
with {rows} rows of the batch on each chip. Arguments are parameters, state and batch, donated, in MiB on each chip;
"guide" is what docs/parallel.md counts for the parameters and our slots (FSDP splits all but the biases). Collectives
are counted as often as their loop runs; their bytes are those of the results on one chip.
"""

PAPER = """
## Weak scaling, on paper

ZeRO-1 with AdamW and a clip, 1 B parameters, 8192 tokens on each chip. Arithmetic is 8 operations for each parameter
and token (the forward pass is computed twice) at 197 Tflop/s. Communication is that of the program above in rings, at
200 GB/s for each chip, as if nothing were hidden behind the arithmetic; in truth much is. Efficiency is the share of
the arithmetic. The program's batch is 16 rows on each chip: on 4 chips the compiler passes so few activations on
(collective-permute) where it would reduce the gradients of 8192.
"""

HEAD = ["pod", "model", "way", "optimizer", "library", "guide", "arguments", "temporaries", "collectives", "compile, s"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pod", nargs="+", choices=list(PODS), default=list(PODS))
    parser.add_argument("--model", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--way", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--optimizer", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    parser.add_argument("--folder", type=pathlib.Path, default=HERE, help="where POD.md is written")
    options = parser.parse_args()
    chips, rows = {pod: mesh_of(pod) for pod in options.pod}, []
    paper = [on_paper(1, "1 B", {})]
    for pod, model, way, name in CASES:
        wanted = model in options.model and way in options.way and name in options.optimizer
        mesh = chips.get(pod)
        if mesh is None or not wanted:
            continue
        ours, theirs, dtype, slots = PAIRS[name]
        guide = f"{held(way, model, dtype, slots, mesh.size):.1f}"
        for library, make in (("ours", ours), ("optax", theirs)):
            if make is not None:
                found = compiled(way, make(), model, dtype, mesh)
                if (model, way, name, library) == ("1 B", "ZeRO-1", "adamw, clip", "ours"):
                    paper.append(on_paper(mesh.size, model, found["collectives"]))
                rows.append([pod, model, way, name, library, guide if library == "ours" else "", *cells(found)])
                print(*rows[-1], sep="  ", flush=True)
    models = "; ".join(f"{model}: {layers} of width {width}" for model, (layers, width) in MODELS.items())
    text = TEXT.format(machine=described(machine()), rows=ROWS_PER_CHIP, models=models)
    text += f"\n{report.table(HEAD, rows)}\n{PAPER}\n"
    text += report.table(["chips", "arithmetic, ms", "communication, ms", "efficiency"], paper)
    (options.folder / "POD.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
