"""Records checkpoints of layout 1: the states as they were before the stages of a state had names.

    PYTHONPATH=<a checkout of the old code> python record_checkpoints.py [--out layout_1]

It runs on the old code only; what it wrote is kept. Running it again gives the same bytes: see `steadied`.

    index.json              versions, the gradients' and parameters' paths, and of each case its config and content
    arrays.npz              "before/<path>", "gradients/<step>/<path>", and of each case
                            "<case>/state/<path>", "<case>/after/<path>" (the parameters that belong to the state),
                            "<case>/next/<path>" and "<case>/next_state/<path>" (both after one step more)
    orbax/<case>/           `ocp.save(path, state)`, without the files that no way of loading reads
    hdf5/<case>[.<i>].h5    `jos.state.save_weights(state, file, within)`; `within` is in the index
"""

import argparse
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
from orbax.checkpoint import v1 as ocp

import jaxopt_suite as jos

STEPS = 3
SHAPES = {"dense": {"bias": (3,), "kernel": (4, 3)}, "embedding": (5, 2), "scale": (1,)}

CASES = {
    "sgd_momentum": jos.sgd(0.05, momentum=0.9),
    "adam": jos.adam(0.01),
    "adam_amsgrad_clip_ema": jos.adam(0.01, amsgrad=True, global_clipnorm=1.0, use_ema=True, ema_momentum=0.9),
    "adam_accumulation": jos.adam(0.01, gradient_accumulation_steps=2),  # stops in the middle of a cycle
    "novograd_amsgrad": jos.novograd(0.01, amsgrad=True),
    "nadam_schedule": jos.nadam(jos.schedules.exponential_decay(0.01, 2, 0.5)),
    "adafactor": jos.adafactor(0.05),
    "muon": jos.muon(0.01),
    "loss_scale_adam": jos.loss_scale(jos.adam(0.01), initial_scale=16.0, dynamic_growth_steps=2),
    "lookahead_moving_average_sgd": jos.lookahead(
        jos.moving_average(jos.sgd(0.05), average_decay=0.9), sync_period=2, slow_step_size=0.5
    ),
    "swa_adamw": jos.swa(jos.adamw(0.01), start_averaging=1, average_period=2),
    "by_path": jos.by_path(
        {"bias|scale": jos.sgd(0.05, momentum=0.9), "embedding": jos.frozen(), "": jos.adamw(0.01)},
        global_clipnorm=1.0,
    ),
    "chain": jos.chain(
        jos.transforms.clip_by_value(0.5), jos.from_optax("adam", learning_rate=0.01), jos.transforms.ema(0.9)
    ),
    "schedule_free_adamw": jos.schedule_free_adamw(0.01, warmup_steps=2),
}


def drawn(rng, scale):
    def draw(shape):
        return jnp.asarray(scale * rng.standard_normal(shape), jnp.float32)

    return jax.tree.map(draw, SHAPES, is_leaf=lambda node: isinstance(node, tuple))


def flat(tree):
    """The leaves by their path, `jax.tree_util.keystr`."""
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def stepped(tx, grads, state, params):
    """One step; the gradients are those of the scaled loss, where there is a scale (a power of two)."""
    scale = float(tx.scale_loss(jnp.float32(1), state)) if isinstance(tx, jos.Optimizer) else 1.0
    return tx.apply_gradients(jax.tree.map(lambda g: g * np.float32(scale), grads), state, params)


def places(state):
    """What `within` may be: the old code's own list, from its error."""
    try:
        jos.state.variables(state, within="nowhere")
    except ValueError as error:
        return re.findall(r"'([^']*)'", str(error).partition("there are")[2])
    raise AssertionError("a place that is none was accepted")


def save_hdf5(folder, case, state):
    """One file for each state of ours that holds more than its count; `[[file, within]]`."""
    found, saved = places(state), []
    if found == [""]:
        jos.state.save_weights(state, folder / f"{case}.h5")
        (folder / f"{case}.h5").chmod(0o644)
        return [[f"hdf5/{case}.h5", None]]
    for within in found:
        if list(jos.state.variables(state, within=within)) != ["count"]:
            name = f"{case}.{len(saved)}.h5"
            jos.state.save_weights(state, folder / name, within=within)
            (folder / name).chmod(0o644)
            saved.append([f"hdf5/{name}", within])
    return saved


def save_orbax(folder, state):
    ocp.save(folder, state)
    for unread in ("orbax.checkpoint", "commit_success.txt", "state/ocdbt.process_0", "state/array_metadatas"):
        path = folder / unread
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    metadata = folder / "_CHECKPOINT_METADATA"
    text = re.sub(r'("(?:init|commit)_timestamp_nsecs": )\d+', r"\g<1>0", metadata.read_text())
    metadata.write_text(text)
    (data,) = (folder / "state" / "d").iterdir()
    name = f"{0:032x}"
    manifest = folder / "state" / "manifest.ocdbt"
    manifest.write_bytes(steadied(manifest.read_bytes(), data.name, name))
    data.rename(data.with_name(name))


def steadied(manifest, old_name, new_name):
    """A manifest of OCDBT without its date and its random numbers: an id, and the name of the data's file.

    It is a header (magic number, length, version, compression), a zstd frame of one block that is stored as it is
    (the id in its first 16 bytes, the date in bytes 9 to 2 from its end), and a checksum, which loading verifies.
    """
    body = bytearray(manifest)
    assert body[12:18] == b"\x00\x01\x28\xb5\x2f\xfd", "another version of OCDBT"
    assert int.from_bytes(body[20:23], "little") == len(body[23:-4]) << 3 | 1, "the block is compressed"
    body[23:39] = bytes(16)
    body[-13:-5] = bytes(8)
    assert body.count(old_name.encode()) == 1
    body = body.replace(old_name.encode(), new_name.encode())
    body[-4:] = crc32c(body[:-4]).to_bytes(4, "little")
    return bytes(body)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def same(a, b):
    a, b = flat(a), flat(b)
    assert a.keys() == b.keys()
    for path, x in a.items():
        assert (x.dtype, x.shape) == (b[path].dtype, b[path].shape), path
        np.testing.assert_array_equal(x, b[path], err_msg=path)


def check(out, case, tx, state, fresh, saved):
    """What was written can be read by the code that wrote it."""
    assert jos.deserialize(json.loads(json.dumps(jos.serialize(tx)))) == tx
    same(ocp.load((out / "orbax" / case).absolute(), fresh), state)
    assert len(jax.tree.leaves(ocp.load((out / "orbax" / case).absolute()))) == len(jax.tree.leaves(state))
    loaded = fresh
    for file, within in saved:
        loaded = jos.state.load_weights(loaded, out / file, within=within)
        again, want = (jos.state.variables(s, within=within) for s in (loaded, state))
        same(again, want)


def commit():
    package = pathlib.Path(jos.__file__).parent
    return subprocess.run(
        ["git", "-C", str(package), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()


def record(out):
    (out / "orbax").mkdir(parents=True)
    (out / "hdf5").mkdir()
    before = drawn(np.random.default_rng(1), 1.0)
    rng = np.random.default_rng(2)
    grads = [drawn(rng, 0.5) for _ in range(STEPS + 1)]
    arrays = {f"before/{path}": x for path, x in flat(before).items()}
    for i, g in enumerate(grads):
        arrays |= {f"gradients/{i}/{path}": x for path, x in flat(g).items()}
    index = {
        "layout": 1,
        "steps": STEPS,
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "optax": optax.__version__,
            "orbax": orbax.checkpoint.__version__,
            "jaxopt_suite": commit(),
        },
        "parameters": [[path, list(x.shape), x.dtype.name] for path, x in flat(before).items()],
        "cases": {},
    }
    for case, tx in CASES.items():
        params, state = before, tx.init(before)
        for g in grads[:STEPS]:
            params, state = stepped(tx, g, state, params)
        following, next_state = stepped(tx, grads[STEPS], state, params)
        save_orbax((out / "orbax" / case).absolute(), state)
        saved = save_hdf5(out / "hdf5", case, state)
        check(out, case, tx, state, tx.init(before), saved)
        held = {"state": state, "after": params, "next": following, "next_state": next_state}
        for name, tree in held.items():
            arrays |= {f"{case}/{name}/{path}": x for path, x in flat(tree).items()}
        index["cases"][case] = {
            "optimizer": jos.serialize(tx),
            "orbax": f"orbax/{case}",
            "hdf5": saved,
            "state": [[path, list(x.shape), x.dtype.name] for path, x in flat(state).items()],
        }
    np.savez_compressed(out / "arrays.npz", **arrays)
    (out / "index.json").write_text(pretty(index) + "\n")


def pretty(index):
    """JSON with each `[path, shape, dtype]` in one line."""
    triple = re.compile(r'\[\s+("(?:[^"\\]|\\.)*"),\s+\[([\d,\s]*)\],\s+("\w+")\s+\]')

    def joined(found):
        return f"[{found[1]}, [{', '.join(found[2].replace(',', ' ').split())}], {found[3]}]"

    text = triple.sub(joined, json.dumps(index, indent=1))
    return re.sub(r'\[\s+("hdf5/[^"]*"),\s+(null|"[^"]*")\s+\]', r"[\1, \2]", text)


def tree_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "layout_1")
    parser.add_argument("--check", action="store_true", help="compare with what is there, write nothing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        made = pathlib.Path(temporary) / "layout"
        record(made)
        new = tree_of(made)
        if arguments.check:
            old = tree_of(arguments.out)
            differing = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
            raise SystemExit(f"differ: {differing}" if differing else 0)
        shutil.rmtree(arguments.out, ignore_errors=True)
        shutil.copytree(made, arguments.out)
    print(f"{len(new)} files, {sum(map(len, new.values()))} bytes, {jos.__file__}")


if __name__ == "__main__":
    main()
