"""Every example runs here; and slowly as its reader runs it: a script in a process of its own, a notebook executed.

After a change to a notebook's script, `python tests/test_examples.py --write` executes it and stores the outputs.
"""

import os
import pathlib
import re
import runpy
import subprocess
import sys

import jax
import jupytext
import nbclient
import pytest

import jaxopt_suite as jos
from jaxopt_suite._recipe.config import REGISTRY

FOLDER = pathlib.Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
ARGUMENTS = {
    "char_language_model": ("--steps", "20"),
    "classify_linen": ("--epochs", "1"),
    "classify_nnx": ("--epochs", "1"),
    "compose_with_optax": ("--steps", "50"),
    "data_parallel_jit": ("--steps", "10"),
    "equinox_mlp": ("--steps", "20"),
    "fine_tune": ("--steps", "5"),
    "keras_in_jax": ("--steps", "20"),
    "lora": ("--steps", "5"),
    "mixed_precision": ("--steps", "10"),
    "data_parallel_pmap": ("--steps", "10"),
    "data_parallel_processes": ("--steps", "20"),
    "data_parallel_shard_map": ("--steps", "10"),
    "save_and_resume": ("--steps", "20"),
    "two_tower": ("--users", "2000", "--items", "1000", "--steps", "20"),
}
LONG = ("train_digits", "data_parallel_processes", "two_tower")  # these run slowly, or in tests of their own
LONG += ("learning_rate_sweep", "learn_the_rates", "compose_with_optax", "recipes")  # several seconds each: in CI alone
LONG += ("data_parallel_jit", "data_parallel_pmap", "data_parallel_shard_map")  # beside tests/test_data_parallel.py
LONG += ("char_language_model", "classify_linen", "classify_nnx", "equinox_mlp", "lora", "mixed_precision")  # as long


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Runs an example in this process, in an empty folder; what it declares or sets is forgotten."""
    declared = dict(REGISTRY)
    monkeypatch.chdir(tmp_path)
    for name in ("XLA_FLAGS", "JAX_PLATFORMS"):
        monkeypatch.setenv(name, os.environ[name])

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")

    with jax.numpy_dtype_promotion("standard"):
        yield run
    REGISTRY.clear()
    REGISTRY.update(declared)


def environment():
    """Without the eight devices of the tests: an example sees the machine that its reader has."""
    return {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}


def run(name, *arguments, folder):
    command = [sys.executable, "-W", "error", str(FOLDER / f"{name}.py"), *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300)


def execute(notebook):
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute(env=environment())
    return notebook


def printed(notebook):
    return [out.get("text") or out["data"]["text/plain"] for cell in code(notebook) for out in cell.outputs]


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in LONG])
def test_script_here(name, here):
    here(name, *ARGUMENTS.get(name, ()))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in (*NOTEBOOKS, "train_digits")])
def test_script(name, tmp_path):
    done = run(name, *ARGUMENTS.get(name, ()), folder=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_is_its_script(name):
    stored = jupytext.read(FOLDER / f"{name}.ipynb")
    assert [c.source for c in stored.cells] == [c.source for c in jupytext.read(FOLDER / f"{name}.py").cells]


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook(name):
    stored = jupytext.read(FOLDER / f"{name}.ipynb")
    before = printed(stored)
    assert printed(execute(stored)) == before, "python tests/test_examples.py --write stores what it prints now"


@pytest.mark.slow
def test_train_digits_here(here, tmp_path, capsys):
    """A few steps, of an optimizer from a config."""
    tx = jos.sgd(0.1, momentum=0.9)
    (tmp_path / "config.json").write_text(tx.to_json())
    here("train_digits", "--config", "config.json", "--steps", "2", "--seeds", "1", "--out", "out")
    printed = capsys.readouterr().out
    assert repr(tx) in printed
    assert "stopped after 1 steps" in printed
    here("train_digits", "--resume", "--steps", "4", "--seeds", "1", "--out", "out")
    printed = capsys.readouterr().out
    assert "stopped after 2 steps" in printed
    assert "bit for bit" in printed
    assert (tmp_path / "out" / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_train_digits_learns_and_resumes(tmp_path):
    first = run("train_digits", "--steps", "50", "--out", "out", folder=tmp_path)
    assert "stopped after 25 steps" in first.stdout, first.stderr
    assert (tmp_path / "out" / "learning_curves.png").read_bytes().startswith(b"\x89PNG")

    second = run("train_digits", "--resume", "--steps", "100", "--out", "out", folder=tmp_path)
    assert "stopped after 50 steps" in second.stdout, second.stderr
    assert "bit for bit" in second.stdout
    assert float(re.search(r"novograd: ([\d.]+)%", second.stdout)[1]) >= 90


@pytest.mark.slow
def test_train_digits_reads_a_config(tmp_path):
    tx = jos.sgd(0.1, momentum=0.9)
    (tmp_path / "config.json").write_text(tx.to_json())
    done = run("train_digits", "--config", "config.json", "--steps", "2", "--seeds", "1", folder=tmp_path)
    assert repr(tx) in done.stdout, done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--optimizer", "novogard"), "unknown class name 'novogard'. Did you mean 'novograd'?"),
        (("--optimizer", "scale_by_adam"), "scale_by_adam() is not an optimizer"),
        (("--config", "missing.json"), "No such file or directory: 'missing.json'"),
        (("--resume", "--out", "missing"), "there is no checkpoint in missing"),
        (("--steps", "1"), "--steps must be at least 2, got 1"),
    ],
)
def test_train_digits_refuses(arguments, words, here, capsys):
    with pytest.raises(SystemExit, match="2"):
        here("train_digits", *arguments)
    assert words in capsys.readouterr().err


def write():
    for path in sorted(FOLDER.glob("*.ipynb")):
        notebook = execute(jupytext.read(path.with_suffix(".py")))
        for number, cell in enumerate(notebook.cells):
            cell["id"] = f"cell-{number}"  # random otherwise
            cell.metadata.pop("execution", None)  # when it ran
        jupytext.write(notebook, path)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    write()
