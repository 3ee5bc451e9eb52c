"""The step compiled ahead of time for TPU v5e and for CUDA, beside Optax; no accelerator is needed.

    pip install "jax[tpu]" jax-cuda12-plugin jax-cuda12-pjrt
    python benchmarks/aot.py

The compilers are asked what they made of the step: the bytes it moves, its temporaries, its kernels. A target whose
compiler is not installed is left out. On several chips every array is split over all of them (as in FSDP). Writes
AOT.md beside this file.
"""

import argparse
import os
import pathlib
import re
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")

import jax
import numpy as np
import optax
import report
import trees
from contenders import OPTAX, OURS
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from measure import described, machine

HERE = pathlib.Path(__file__).parent

H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  clock_rate_ghz: 1.98 device_memory_size: 84929347584 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 } registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 7 }
runtime_version { major: 12 minor: 9 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""

TARGETS: dict[str, dict[str, Any]] = {
    "TPU v5e, 1 chip": {"platform": "tpu", "topology_name": "v5e:1x1", "chips_per_host_bounds": (1, 1, 1)},
    "TPU v5e, 16 chips": {"platform": "tpu", "topology_name": "v5e:4x4"},
    "TPU v5e, 256 chips": {"platform": "tpu", "topology_name": "v5e:16x16"},
    "H100": {"platform": "cuda", "target_config": H100, "topology": "1x1x1"},
}

CASES = (
    *(("TPU v5e, 1 chip", "ResNet-50", name) for name in OURS),
    *(("TPU v5e, 1 chip", "1000 leaves of 1000", name) for name in ("adamw + clip", "adam")),
    *((target, "BERT-base", "adamw + clip") for target in TARGETS),
    *(("H100", "ResNet-50", name) for name in OURS),
    *(("H100", "1000 leaves of 1000", name) for name in ("adamw + clip", "adam")),
)


def mesh(target: str) -> Mesh | None:
    """The target's chips in one row, or None where its compiler is not installed."""
    options = dict(TARGETS[target])
    try:
        found = topologies.get_topology_desc(**options)
    except (RuntimeError, ValueError, jax.errors.JaxRuntimeError) as error:
        print(f"{target} is left out: {str(error).splitlines()[0]}")
        return None
    return Mesh(np.array(found.devices), ("chips",))


def placed(tree: Any, chips: Mesh) -> Any:
    """Each array split along its first axis that the number of chips divides, or whole on every chip."""

    def place(leaf: Any) -> Any:
        axis = next((i for i, n in enumerate(leaf.shape) if n % chips.size == 0), None)
        spec = PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, "chips")
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(chips, spec))

    return jax.tree.map(place, tree)


def ours(name: str) -> tuple[Callable, Callable]:
    tx = OURS[name]()
    return tx.init, lambda params, state, grads: tx.apply_gradients(grads, state, params)


def theirs(name: str) -> tuple[Callable, Callable]:
    tx = OPTAX[name]()

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return tx.init, step


def compiled(init: Callable, step: Callable, tree: str, chips: Mesh) -> dict[str, float]:
    """What the target's compiler says of a step, and how long it took."""
    params = trees.shapes(tree)
    placed_params, placed_state = placed((params, jax.eval_shape(init, params)), chips)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, (placed_params, placed_state))
    program = jax.jit(step, donate_argnums=(0, 1), out_shardings=shardings)
    lowered = program.lower(placed_params, placed_state, placed_params)
    start = time.perf_counter()
    executable = lowered.compile()
    seconds = time.perf_counter() - start
    memory, text = executable.memory_analysis(), executable.as_text()
    own = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    cost = executable.cost_analysis()
    moved = cost["bytes accessed"] if cost else traffic(entry(text))
    share = trees.size(params) / chips.size
    return {
        "bytes": moved / share,
        "temporaries": memory.temp_size_in_bytes / (4 * share),
        "fusions": entry(text).count(" fusion(") / len(jax.tree.leaves(params)),
        "memory": (own + memory.temp_size_in_bytes) / 2**20,
        "compile": seconds,
    }


def entry(text: str) -> str:
    """The main computation of a compiled program."""
    return text[text.index("\nENTRY") :]


def traffic(main: str) -> int:
    """Bytes that the kernels of a program read and write, where the compiler does not say."""
    sizes: dict[str, int] = {}
    total = 0
    for line in re.sub(r"/\*.*?\*/", "", main).splitlines():
        if (found := re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\(([^)]*)\)", line)) is None:
            continue
        name, shape, operation, operands = found.groups()
        sizes[name] = sum(
            int(np.prod([int(n) for n in dims.split(",") if n])) * int(bits) // 8
            for bits, dims in re.findall(r"[fsu](\d+)\[([\d,]*)\]", shape)
        )
        if operation in ("fusion", "copy"):
            read = sum(sizes.get(operand.strip().lstrip("%"), 0) for operand in operands.split(","))
            total += sizes[name] + read
    return total


TEXT = """# The step compiled ahead of time

Written by `python benchmarks/aot.py`; do not edit. Nothing here was run: it is what the compilers say.

{machine}

Parameters and state are donated. Bytes accessed and temporaries are per chip, of its share of the parameters (a
float32 AdamW step cannot access less than 28 bytes; the TPU compiler counts a copy into its vector memory too, and
takes temporaries there). Memory is that of a chip, arguments and temporaries together.
"""

HEAD = ["target", "tree", "optimizer", "library"]
HEAD += ["bytes / parameter", "temporaries", "fusions / leaf", "MiB", "compile, s"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--target", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--tree", nargs="+", choices=list(trees.TREES), default=list(trees.TREES))
    parser.add_argument("--optimizer", nargs="+", choices=list(OURS), default=list(OURS))
    options = parser.parse_args()
    chips = {target: mesh(target) for target in options.target}
    rows = []
    for target, tree, name in CASES:
        if chips.get(target) is None or tree not in options.tree or name not in options.optimizer:
            continue
        for library, make in (("ours", ours), ("optax", theirs)):
            if make is theirs and name not in OPTAX:
                continue
            found = compiled(*make(name), tree, chips[target])
            formats = zip(found.values(), (".2f", ".4f", ".2f", ".1f", ".1f"), strict=True)
            rows.append([target, tree, name, library, *(f"{value:{form}}" for value, form in formats)])
            print(*rows[-1], sep="  ", flush=True)
    (HERE / "AOT.md").write_text(f"{TEXT.format(machine=described(machine()))}\n{report.table(HEAD, rows)}\n")


if __name__ == "__main__":
    main()
