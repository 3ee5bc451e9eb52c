"""One of several processes that train together: what test_processes.py starts.

    python tests/processes.py PROCESS PROCESSES PORT FOLDER [ROW ...]

Trains the rows of the table that are named, each process on its share of the data of test_data_parallel.py. It writes
what it holds in the end to `FOLDER/ROW.PROCESS.npz`.
"""

import functools
import os
import pathlib
import sys


def main(process, processes, port, folder, names):
    """The devices are shared out before the tests' own meshes are made of them."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={8 // processes}"
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.distributed.initialize(f"127.0.0.1:{port}", processes, process)

    import numpy as np
    from rows import ROWS

    for row in ROWS:
        if row.name in names:
            held = [np.asarray(x) for x in jax.tree.leaves(trained_with(row, process, processes))]
            np.savez(pathlib.Path(folder, f"{row.name}.{process}.npz"), *held)
    jax.distributed.shutdown()


def trained_with(row, process, processes):
    """As `by_jit` does on one process; this one's share of the data is that of its devices."""
    import jax
    import numpy as np
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P
    from programs import quick
    from test_data_parallel import MESH, loss_fn, problem, trained

    import jaxopt_suite as jos

    tx, everywhere, split = row.build(), NamedSharding(MESH, P()), NamedSharding(MESH, P(None, "data"))
    params, data = problem()
    mine = slice(process * 8 // processes, (process + 1) * 8 // processes)
    params = jax.tree.map(lambda w: jax.make_array_from_process_local_data(everywhere, np.asarray(w)), params)
    data = jax.tree.map(lambda g: jax.make_array_from_process_local_data(split, g[:, mine]), data)

    def step(params, state, shares):
        return tx.minimize(loss_fn, state, params, shares)[:2]

    program = quick(functools.partial(trained, step), out_shardings=everywhere)
    return program(params, jos.parallel.init(tx, params, MESH), data)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), sys.argv[4], sys.argv[5:])
