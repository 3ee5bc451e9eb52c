"""Training over real processes on the loopback address: the trajectories of one device, the same on every process."""

import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from programs import same
from rows import ROWS
from test_data_parallel import REORDERED, alone, problem

SCRIPT = pathlib.Path(__file__).parent / "processes.py"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def together(n, folder, *names):
    """What each process holds in the end, by row."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(SCRIPT)]
    arguments = [str(n), str(free_port()), str(folder), *names]
    started = [
        subprocess.Popen([*command, str(i), *arguments], env=environment, stdout=subprocess.DEVNULL) for i in range(n)
    ]
    assert [process.wait(1200) for process in started] == [0] * n
    return {name: [[*np.load(folder / f"{name}.{i}.npz").values()] for i in range(n)] for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 4])
def test_every_process_holds_the_numbers_of_one_device(n, tmp_path):
    params, data = problem()
    held = together(n, tmp_path, *(row.name for row in ROWS))
    for row in ROWS:
        first, *others = held[row.name]
        for other in others:
            same(other, first, 0)
        same(first, jax.tree.leaves(alone(row, params, data)), 1e-5 if row.name in REORDERED else 1e-6)
