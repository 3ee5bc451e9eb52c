"""The benchmarks run, at a small size, and write what they say they write."""

import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def as_a_script(monkeypatch):
    """The folder on the path, and the peers' dtype promotion: not all of them work with a strict one."""
    monkeypatch.syspath_prepend(str(FOLDER))
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def tiny(monkeypatch):
    """A tree of three small leaves in the place of all others."""
    import trees

    shapes = {"word_embedding": (4, 3), "dense": {"kernel": (3, 2), "bias": (2,)}}
    monkeypatch.setattr(trees, "TREES", dict.fromkeys(trees.TREES, lambda: shapes))
    monkeypatch.setattr(trees, "small", lambda: shapes)


def test_trees_have_the_sizes_they_are_known_by():
    import trees

    found = {name: (len(jax.tree.leaves(trees.shapes(name))), trees.size(trees.shapes(name))) for name in trees.TREES}
    assert found == {
        "one leaf of 32 M": (1, 2**25),
        "ResNet-50": (161, 25_557_032),
        "BERT-base": (199, 109_482_240),
        "1000 leaves of 1000": (1000, 1_000_000),
    }


def test_rounds_take_every_contender_and_ratios_are_of_one_round():
    import measure

    calls = []
    taken = measure.rounds({"ours": lambda: calls.append("a"), "theirs": lambda: calls.append("b")}, 4, 60)
    assert sorted(calls[:2]) == sorted(calls[2:4]) == ["a", "b"]
    assert {name: len(seconds) for name, seconds in taken.items()} == {"ours": 4, "theirs": 4}
    assert measure.against({"ours": [1, 2, 3], "theirs": [2, 4, 6]}) == {"theirs": [0.5, 0.5, 0.5]}


@pytest.mark.slow
def test_every_contender_takes_the_same_step(tiny):
    import contenders
    import trees

    params, grads = trees.filled(trees.shapes("ResNet-50"), 0), trees.filled(trees.shapes("ResNet-50"), 1)
    for name in contenders.OURS:
        steps = {}
        for contender in contenders.contenders(name, params, grads):
            contender.prepare()
            moved = [w.detach() if hasattr(w, "detach") else w for w in jax.tree.leaves(contender.params)]
            steps[contender.library] = np.concatenate(
                [np.ravel(w) - np.ravel(old) for w, old in zip(moved, jax.tree.leaves(params), strict=True)]
            )
        size = np.abs(steps["ours"]).max()
        for library, step in steps.items():
            another_rule = library == "optax" and name in ("adafactor", "muon", "nadam", "yogi")
            assert np.abs(step - steps["ours"]).max() < (4 if another_rule else 0.01) * size, (name, library)


@pytest.mark.slow
def test_step_writes_its_tables_and_plot(tiny, tmp_path, monkeypatch):
    import step

    monkeypatch.setattr(step, "HERE", tmp_path)
    monkeypatch.setattr(step, "RESULTS", tmp_path / "results" / "step.json")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    arguments = ["--tree", "ResNet-50", "--optimizer", "adam", "--repeats", "1", "--seconds", "0"]
    monkeypatch.setattr(sys, "argv", ["step.py", *arguments])
    step.main()
    text = (tmp_path / "README.md").read_text()
    assert "| adam |" in text
    assert "| ours |" in text
    assert (tmp_path / "step.png").stat().st_size > 10_000


@pytest.mark.slow
def test_accumulate_writes_its_table(tiny, tmp_path, monkeypatch):
    import accumulate

    monkeypatch.setattr(accumulate, "HERE", tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["accumulate.py", "--tree", "ResNet-50", "--rounds", "2"])
    accumulate.main()
    assert "| ours, held |" in (tmp_path / "ACCUMULATE.md").read_text()


def test_importing_the_package_imports_nothing_that_it_may_not_need():
    found = "import sys, jax, optax; before = {*sys.modules}; import jaxopt_suite; print(*{*sys.modules} - before)"
    result = subprocess.run([sys.executable, "-c", found], check=True, capture_output=True, text=True)
    tops = {name.partition(".")[0] for name in result.stdout.split()}
    assert tops - {*sys.stdlib_module_names} == {"jaxopt_suite"}


def test_import_time_is_measured():
    import import_time

    assert import_time.seconds() > 0


@pytest.mark.slow
def test_steps_for_pods(tmp_path, monkeypatch):
    """Where libtpu is installed: each way, with no collective that Optax has not, and the memory of the guide."""
    pytest.importorskip("libtpu")
    command = [
        sys.executable,
        str(FOLDER / "pod.py"),
        "--pod",
        "v5e 4x4",
        "--model",
        "128 M",
        "--folder",
        str(tmp_path),
    ]
    subprocess.run(command, check=True, capture_output=True)
    rows = [line.strip("| ").split(" | ") for line in (tmp_path / "POD.md").read_text().splitlines() if "v5e" in line]
    found = {(way, name, library): (float(mib), sent) for _, _, way, name, library, _, mib, _, sent, _ in rows}
    guide = {(way, name): float(mib) for _, _, way, name, library, mib, *_ in rows if library == "ours"}
    assert {way for way, *_ in found} == {"jit", "shard_map", "pmap", "ZeRO-1", "FSDP"}
    for way, name in guide:
        assert found[way, name, "ours"][0] == pytest.approx(guide[way, name], abs=1), (way, name)
    for way, name, library in found:
        if library == "ours":
            (mib, sent), (theirs, sent_too) = found[way, name, "ours"], found[way, name, "optax"]
            assert abs(mib - theirs) < 1
            assert count(sent) <= count(sent_too), (way, name)
    assert guide["jit", "adamw, clip"] == pytest.approx(1536, abs=1)  # 128 M: 4 bytes and 8
    assert guide["ZeRO-1", "adamw, clip"] == pytest.approx(576, abs=1)  # 4 and 8 / 16


def count(sent):
    return sum(int(one.split()[0]) for one in sent.split(", ") if one != "none")


@pytest.mark.slow
def test_the_cost_of_metrics(tmp_path, monkeypatch):
    import metrics

    page = tmp_path / "METRICS.md"
    monkeypatch.setattr(sys, "argv", ["metrics.py", "--size=8", "--seconds=0", f"--out={page}"])
    metrics.main()
    rows = [line.split(" | ") for line in page.read_text().splitlines() if "| `" in line]
    assert [row[1].strip("`") for row in rows] == [*metrics.CONTENDERS] * 4
    assert all(float(row[2]) > 0 for row in rows)
