"""Training in 16 bits and with 8-bit state, beside float32: losses, bytes, time, and the error of the codes.

    python benchmarks/precision.py            # everything
    python benchmarks/precision.py losses     # one part: losses, stall, bytes, time, peers, codes or ahead

Keras, bitsandbytes and torchao (with torch) are measured where they are installed.

Each part writes its results into results/precision.json; PRECISION.md and precision.png are drawn from that.
"""

import argparse
import functools
import importlib.util
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measure import machine, quartiles, rounds
from precision_report import draw, report
from small_models import TASKS, Task
from trees import TREES

import jaxopt_suite as jos
from jaxopt_suite import precision
from jaxopt_suite.state._codec import Storage, decode

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "precision.json"
SEEDS, STEPS, RATE = 5, {"text": 600, "digits": 600}, {"text": 2e-3, "digits": 1e-3}
EIGHT = {"m": "blockwise8", "v": "blockwise8"}


def settings(rate: Any) -> dict[str, tuple[Any, Any]]:
    """What is compared: the dtype of the parameters, and the optimizer."""
    adam, half, single = jos.adam(rate), jnp.bfloat16, jnp.float32
    eight = precision.state_dtype(adam, **EIGHT)
    return {
        "float32": (single, adam),
        "bfloat16, plain": (half, adam),
        "bfloat16, master weights": (half, precision.master_weights(adam)),
        "bfloat16, stochastic rounding": (half, precision.stochastic_rounding(adam)),
        "bfloat16, Kahan summation": (half, precision.kahan_summation(adam)),
        "float32, 8-bit state": (single, eight),
        "float32, bfloat16 state": (single, precision.state_dtype(adam, "bfloat16")),
        "bfloat16, stochastic rounding, 8-bit state": (half, precision.stochastic_rounding(eight)),
        "bfloat16, optax.adamw(mu_dtype=bfloat16)": (half, optax.adamw(rate, weight_decay=0.0, mu_dtype=half)),
    }


@functools.partial(jax.jit, static_argnums=(0, 1))
def trained(tx: Any, loss: Any, params: Any, batches: Any) -> tuple[Any, Any, jax.Array]:
    """Parameters, state and the losses of the steps; the arithmetic of the model is float32 throughout."""

    def step(carry: Any, batch: Any) -> Any:
        wide = functools.partial(jax.tree.map, lambda x: x.astype(jnp.float32))
        value, grads = jax.value_and_grad(lambda w: loss(wide(w), batch))(carry[0])
        return _step(tx, *carry, grads), value

    (params, state), losses = jax.lax.scan(step, (params, tx.init(params)), batches)
    return params, state, losses


def _step(tx: Any, params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
    """One step as each library takes it."""
    if hasattr(tx, "apply_gradients"):
        return tx.apply_gradients(grads, state, params)
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def losses() -> dict[str, Any]:
    """The loss curve and the held-out loss of each setting, for each seed."""
    found: dict[str, Any] = {}
    for name, make in TASKS.items():
        task: Task = make()
        steps = STEPS[name]
        rate = jos.schedules.cosine_decay(RATE[name], decay_steps=steps)
        for setting, (dtype, tx) in settings(rate).items():
            runs = []
            for seed in range(SEEDS):
                params = jax.tree.map(lambda x, d=dtype: x.astype(d), task.init(jax.random.key(seed)))
                params, _, curve = trained(tx, task.loss, params, task.batches(seed, steps))
                final = task.loss(jax.tree.map(lambda x: x.astype(jnp.float32), params), task.test)
                smooth = np.asarray(curve).reshape(20, -1).mean(1)
                runs.append({"final": float(final), "curve": [float(x) for x in smooth]})
            found.setdefault(name, {})[setting] = runs
            print(name, setting, [round(run["final"], 4) for run in runs], flush=True)
    return found


def stall() -> dict[str, Any]:
    """A weight of 1 in bfloat16 after 100 steps of Adam at 1e-3 against a gradient of 1; in float32 it is at 0.9."""
    contenders = {name: tx for name, (dtype, tx) in settings(1e-3).items() if dtype == jnp.bfloat16}
    contenders["bfloat16, optax.adam"] = optax.adam(1e-3)
    found = {name: _walked(tx) for name, tx in contenders.items()}
    try:
        import keras
    except ImportError:
        return found
    variable = keras.Variable(np.ones(1000), dtype="bfloat16")
    optimizer = keras.optimizers.Adam(1e-3)
    for _ in range(100):
        optimizer.apply([jnp.ones(1000, jnp.bfloat16)], [variable])
    return {**found, "bfloat16, keras.optimizers.Adam": float(np.mean(np.asarray(variable.value, np.float32)))}


def _walked(tx: Any) -> float:
    w = jnp.ones(1000, jnp.bfloat16)
    step, state = jax.jit(tx.update), tx.init(w)
    for _ in range(100):
        updates, state = step(jnp.ones_like(w), state, w)
        w = optax.apply_updates(w, updates)
    return float(jnp.mean(w.astype(jnp.float32)))


def storages(dtype: Any) -> dict[str, Any]:
    adam = jos.adam()
    found = {
        "float32": adam,
        "bfloat16": precision.state_dtype(adam, "bfloat16"),
        "blockwise8": precision.state_dtype(adam, **EIGHT),
    }
    writers = {"plain": lambda tx: tx, "master_weights": precision.master_weights}
    writers |= {"stochastic_rounding": precision.stochastic_rounding, "kahan_summation": precision.kahan_summation}
    return (
        {f"{name} / {key}": write(tx) for name, write in writers.items() for key, tx in found.items()}
        if dtype == jnp.bfloat16
        else found
    )


def shapes() -> dict[str, Any]:
    wide = {f"layer_{i}": (4096, width) for i, width in enumerate((64, 64, 128, 128))}
    return {
        "BERT-base": TREES["BERT-base"](),
        "64 wide": {"w": (2**16, 64)},
        "128 wide": {"w": (2**16, 128)},
        "64 and 128 wide": wide,
    }


def bytes_held() -> dict[str, Any]:
    """Bytes of state a parameter, counted from the arrays that `init` makes."""
    found: dict[str, Any] = {}
    for tree, of in shapes().items():
        for dtype in (jnp.float32, jnp.bfloat16):
            params = jax.tree.map(
                lambda s, d=dtype: jax.ShapeDtypeStruct(s, d), of, is_leaf=lambda x: isinstance(x, tuple)
            )
            size = sum(leaf.size for leaf in jax.tree.leaves(params))
            for name, tx in storages(dtype).items():
                zeros = functools.partial(jax.tree.map, lambda s: jnp.zeros(s.shape, s.dtype), params)
                state = jax.eval_shape(lambda tx=tx, zeros=zeros: tx.init(zeros()))
                held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
                found.setdefault(tree, {})[f"{jnp.dtype(dtype).name}: {name}"] = held / size
    return found


def time(tree: str = "ResNet-50", seconds: float = 20.0) -> dict[str, Any]:
    """The donated step of each storage as a ratio to the step all in float32, in the same rounds."""
    found: dict[str, Any] = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        name = jnp.dtype(dtype).name
        run = {"all float32": _Stepper(jos.adam(), TREES[tree](), jnp.float32)}
        for storage, tx in storages(dtype).items():
            if storage != "float32" and not storage.endswith(" bfloat16"):
                run[storage] = _Stepper(tx, TREES[tree](), dtype)
        first, temporaries = next(iter(run)), {storage: one.temporaries for storage, one in run.items()}
        taken = rounds(run, 40, seconds)
        found[name] = {
            "milliseconds": {key: [1e3 * q for q in quartiles(values)] for key, values in taken.items()},
            "ratio": {key: quartiles(np.asarray(values) / np.asarray(taken[first])) for key, values in taken.items()},
            "temporaries": temporaries,
        }
        del run
        print(name, {key: round(q[1], 2) for key, q in found[name]["ratio"].items()}, flush=True)
    return {"tree": tree, **found}


class _Stepper:
    """A donated step that is taken again and again."""

    def __init__(self, tx: Any, tree: Any, dtype: Any):
        draw = np.random.default_rng(0)
        make = lambda s: jnp.asarray(1e-2 * draw.standard_normal(s, np.float32), dtype)  # noqa: E731
        self.params = jax.tree.map(make, tree, is_leaf=lambda x: isinstance(x, tuple))
        self.grads = jax.tree.map(jnp.copy, self.params)
        self.state = jax.jit(tx.init)(self.params)
        step = jax.jit(lambda params, state, grads: tx.apply_gradients(grads, state, params), donate_argnums=(0, 1))
        self.step = step.lower(self.params, self.state, self.grads).compile()
        analysis = self.step.memory_analysis()
        self.temporaries = analysis.temp_size_in_bytes / sum(4 * x.size for x in jax.tree.leaves(self.params))

    def __call__(self) -> None:
        self.params, self.state = self.step(self.params, self.state, self.grads)
        jax.block_until_ready(self.params)


def peers(seconds: float = 60.0) -> dict[str, Any]:
    """The step of 8-bit Adam in bitsandbytes and torchao, as a ratio to torch's fused step in float32."""
    import torch
    from bitsandbytes.optim import Adam8bit as BitsAndBytes
    from torchao.optim import Adam8bit as TorchAO

    torch.set_num_threads(machine()["cores"])
    tree = TREES["ResNet-50"]()
    run: dict[str, Any] = {
        "torch.optim.Adam(fused=True)": _torch_step(functools.partial(torch.optim.Adam, fused=True), tree)
    }
    run |= {"bitsandbytes.optim.Adam8bit": _torch_step(BitsAndBytes, tree)}
    run |= {"torchao.optim.Adam8bit": _torch_step(TorchAO, tree)}
    run |= {
        f"adam, {name}": _Stepper(storages(jnp.float32)[name], tree, jnp.float32) for name in ("float32", "blockwise8")
    }
    first = {name: "adam, float32" if name.startswith("adam") else next(iter(run)) for name in run}
    taken = {name: np.asarray(values) for name, values in rounds(run, 10, seconds).items()}
    return {
        name: {"milliseconds": quartiles(1e3 * values), "ratio": quartiles(values / taken[first[name]])}
        for name, values in taken.items()
    }


def _torch_step(make: Any, tree: Any) -> Any:
    """The step of an optimizer of torch's, ready to be taken again and again."""
    import torch

    shapes = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, tuple))
    params = [torch.nn.Parameter(1e-2 * torch.randn(shape)) for shape in shapes]
    for w in params:
        w.grad = w.detach().clone()
    step = make(params).step
    step()
    return step


def peer_codes() -> dict[str, Any]:
    """There and back through the codes of the libraries that are installed, in blocks of 256."""
    found: dict[str, Any] = {}
    try:
        import torch
        from bitsandbytes import functional as bnb

        def bitsandbytes(x: np.ndarray, signed: bool) -> np.ndarray:
            levels = bnb.create_dynamic_map(signed=signed)
            coded, state = bnb.quantize_blockwise(torch.tensor(x), code=levels, blocksize=256)
            return bnb.dequantize_blockwise(coded, state).numpy()

        found["bitsandbytes"] = bitsandbytes
    except ImportError:
        pass
    try:
        import torch
        from torchao.optim import quant_utils

        def torchao(x: np.ndarray, signed: bool) -> np.ndarray:
            levels = torch.tensor(quant_utils.create_dynamic_map(signed))
            flat = torch.nn.functional.pad(torch.tensor(x).ravel(), (0, -x.size % 256))
            scaled, scale = quant_utils.scale_tensor(flat, 256)
            coded = quant_utils.quantize_8bit_with_qmap(scaled.view(flat.shape), levels)
            back = quant_utils.dequant_with_qmap(coded, levels, scale)
            return back.ravel()[: x.size].reshape(x.shape).numpy()

        found["torchao"] = torchao
    except ImportError:
        pass
    return found


def codes() -> dict[str, Any]:
    """The error of the codes, and of the published dynamic map, on the moments that training the text model left."""
    task, rate = TASKS["text"](), jos.schedules.cosine_decay(RATE["text"], decay_steps=STEPS["text"])
    params = task.init(jax.random.key(0))
    _, state, _ = trained(jos.adam(rate), task.loss, params, task.batches(0, STEPS["text"]))
    named = {name: np.asarray(x) for name, x in jos.state.variables(state).items() if x.size >= 4096}
    sums: dict[str, list[np.ndarray]] = {}
    for path in [name[2:] for name in named if name.startswith("m/")]:
        m, v = named[f"m/{path}"], named[f"v/{path}"]
        for way, quantized in {"ours": _ours, "dynamic map": _dynamic, **peer_codes()}.items():
            qm, qv = quantized(m, True), quantized(v, False)
            exact, coded = m / (np.sqrt(v) + 1e-7), qm / (np.sqrt(qv) + 1e-7)
            rows = np.abs(qm - m).sum(), np.abs(m).sum(), np.abs(qv - v).sum(), np.abs(v).sum()
            more = np.abs(coded - exact).sum(), np.abs(exact).sum(), ((qv == 0) & (v > 0)).sum(), v.size
            sums.setdefault(way, []).append(np.array([*rows, *more], np.float64))
    found = {}
    for way, rows in sums.items():
        total = np.sum(rows, 0)
        names = ("m", "v", "step m / sqrt(v)", "share of v decoded to zero")
        found[way] = {name: float(total[2 * i] / total[2 * i + 1]) for i, name in enumerate(names)}
    return found


def _ours(x: np.ndarray, signed: bool) -> np.ndarray:
    storage = Storage({"x": "blockwise8"}, 0, (), 256, 0)
    return np.asarray(decode(storage.first("x", "", jnp.asarray(x), signed)))


def _dynamic(x: np.ndarray, signed: bool) -> np.ndarray:
    """The block-wise dynamic map of Dettmers et al. (2022), appendix: blocks of the flat array, nearest code."""
    flat = np.pad(x.ravel(), (0, -x.size % 256)).reshape(-1, 256)
    scale = np.maximum(np.abs(flat).max(1, keepdims=True), 1e-38)
    levels = _dynamic_levels(signed)
    nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, flat / scale)
    return (levels[nearest] * scale).ravel()[: x.size].reshape(x.shape)


def _dynamic_levels(signed: bool) -> np.ndarray:
    """Seven decades, of which each has twice the levels of the one below, at the middles of equal pieces."""
    found = [0.0, 1.0]
    for decade in range(7):
        pieces = np.linspace(0.1, 1, 2 ** (decade + (0 if signed else 1)) + 1)
        middles = 10.0 ** (decade - 6) * (pieces[1:] + pieces[:-1]) / 2
        found += [*middles, *(-middles if signed else ())]
    return np.sort(np.array(found, np.float32))


def ahead() -> dict[str, Any]:
    """What the compilers for TPU v5e and H100 make of the donated step: bytes of arguments and temporaries a parameter.

    The compilers need `pip install "jax[tpu]"` and `jax-cuda12-plugin jax-cuda12-pjrt`; what is not there is left out.
    """
    from aot import mesh, placed

    found: dict[str, Any] = {}
    for target in ("TPU v5e, 1 chip", "H100"):
        chips = mesh(target)
        for setting, (dtype, tx) in settings(1e-3).items() if chips is not None else ():
            make = lambda s, d=dtype: jax.ShapeDtypeStruct(s, d)  # noqa: E731
            params = jax.tree.map(make, TREES["BERT-base"](), is_leaf=lambda x: isinstance(x, tuple))
            zeros = functools.partial(jax.tree.map, lambda s: jnp.zeros(s.shape, s.dtype), params)
            state = jax.eval_shape(lambda tx=tx, zeros=zeros: tx.init(zeros()))
            params, state = placed((params, state), chips)
            step = jax.jit(functools.partial(_step, tx), donate_argnums=(0, 1))
            compiled = step.lower(params, state, params).compile()
            memory, size = compiled.memory_analysis(), sum(leaf.size for leaf in jax.tree.leaves(params))
            found.setdefault(target, {})[setting] = {
                "arguments": memory.argument_size_in_bytes / size,
                "temporaries": memory.temp_size_in_bytes / size,
                "rounded": compiled.as_text().count(" reduce-precision("),
            }
            print(target, setting, found[target][setting], flush=True)
    return found


PARTS = {
    "losses": losses,
    "stall": stall,
    "bytes": bytes_held,
    "time": time,
    "peers": peers,
    "codes": codes,
    "ahead": ahead,
}


def importable(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which parts to measure; all without any")
    for part in parser.parse_args().parts or [part for part in PARTS if part != "peers" or importable("torchao")]:
        where = machine()
        result = PARTS[part]()
        held = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        if part == "ahead":  # each compiler may be installed beside another version of jax
            result = {**held.get(part, {"found": {}})["found"], **result}
        RESULTS.write_text(json.dumps({**held, part: {"machine": where, "found": result}}, indent=1) + "\n")
    results = json.loads(RESULTS.read_text())
    (HERE / "PRECISION.md").write_text(report(results))
    draw(results, HERE / "precision.png")


if __name__ == "__main__":
    main()
