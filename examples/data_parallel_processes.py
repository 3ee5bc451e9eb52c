"""Data parallelism over processes with `jax.distributed`, killed in the middle and started again from the checkpoint.

    python examples/data_parallel_processes.py --processes 2 --steps 40

Each process has a share of eight devices and of the batch, as each host of a cluster has; here all of them are on this
machine, and talk over its loopback address. The state is split over all devices (ZeRO-1).
"""

import argparse
import functools
import hashlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

DEVICES, EVERY = 8, 10


def worker(options):
    """One process: trains on its share, and saves every few steps."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES // options.processes}"
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{options.port}", options.processes, options.worker)

    import jax.numpy as jnp
    import numpy as np
    import optax
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P
    from orbax.checkpoint import v1 as ocp
    from sklearn.datasets import load_digits

    import jaxopt_suite as jos

    assert jax.device_count() == DEVICES
    mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    tx = jos.adamw(1e-3, global_clipnorm=0.5, use_ema=True)

    images, labels = load_digits(return_X_y=True)
    mine = slice(options.worker, 1792, options.processes)
    batch = np.float32(images[mine] / 16), labels[mine]
    batch = [jax.make_array_from_process_local_data(split, x) for x in batch]

    def loss_fn(params, images, labels):
        hidden = jnp.tanh(images @ params["hidden"])
        return optax.softmax_cross_entropy_with_integer_labels(hidden @ params["head"], labels).mean()

    def initial():
        first = jax.random.normal(jax.random.key(0), (64, 256)) * 0.1
        return {"hidden": first, "head": jnp.zeros((256, 10))}

    params = jax.jit(initial, out_shardings=everywhere)()
    state = jos.parallel.init(tx, params, mesh, axis="data")
    places = jax.tree.map(lambda x: x.sharding, (params, state))

    @functools.partial(jax.jit, donate_argnums=(0, 1), out_shardings=(*places, everywhere))
    def step(params, state, images, labels):
        return tx.minimize(loss_fn, state, params, images, labels)

    with ocp.training.Checkpointer(options.folder) as checkpoints:
        start = 0 if checkpoints.latest is None else checkpoints.latest.step
        if start:
            fresh = {"params": params, "state": state}
            jos.parallel.check_saved(checkpoints.metadata(start).metadata, fresh)
            saved = checkpoints.load(start, fresh)
            params, state = saved["params"], saved["state"]
        for i in range(start, options.steps):
            params, state, loss = step(params, state, *batch)
            if (i + 1) % EVERY == 0:
                checkpoints.save(i + 1, {"params": params, "state": state}, overwrite=True)

    whole = jax.jit(lambda tree: tree, out_shardings=everywhere)((params, state))
    digest = hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(whole))).hexdigest()
    print(f"process {options.worker} from step {start}: loss {loss:.6f}, state {digest[:16]}", flush=True)
    jax.distributed.shutdown()


def start(options, folder):
    """All processes, on a port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, __file__, "--processes", str(options.processes), "--steps", str(options.steps)]
    command += ["--folder", str(folder), "--port", str(port), "--worker"]
    return [subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, text=True) for i in range(options.processes)]


def finished(processes):
    """What they print at the end, between what the transport prints."""
    lines = [line for process in processes for line in process.communicate(timeout=300)[0].splitlines()]
    assert not any(process.returncode for process in processes), "a process failed"
    return [line for line in lines if line.startswith("process ")]


def kill_after_a_checkpoint(processes, folder):
    while not (folder / str(EVERY)).exists():
        assert all(process.poll() is None for process in processes), "a process failed"
        time.sleep(0.02)
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=40, help="default: %(default)s")
    parser.add_argument("--processes", type=int, default=2, choices=(1, 2, 4, 8), help="default: %(default)s")
    for name, kind in (("folder", str), ("port", int), ("worker", int)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        return worker(options)

    with tempfile.TemporaryDirectory() as folder:
        once, twice = pathlib.Path(folder, "once"), pathlib.Path(folder, "twice")
        uninterrupted = finished(start(options, once))
        kill_after_a_checkpoint(start(options, twice), twice)
        resumed = finished(start(options, twice))
    print(*uninterrupted, *resumed, sep="\n")
    ends = {line.partition(": ")[2] for line in (*uninterrupted, *resumed)}
    assert len(ends) == 1, "the processes part"
    assert len(resumed) == options.processes
    assert all(" from step 0:" not in line for line in resumed), "nothing was resumed"
    print(f"{options.processes} processes agree, killed or not: {ends.pop()}")


if __name__ == "__main__":
    main()
