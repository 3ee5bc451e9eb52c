"""Checkpoints at scale: across numbers of devices, taken while training goes on, and of trainings that are killed."""

import itertools
import multiprocessing
import random
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp
from programs import same
from training import TX, placed, train

import jaxopt_suite as jos

# killed


@pytest.fixture(scope="module")
def starts():
    """Processes that have imported everything when they start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training"])
    return lambda folder, steps: context.Process(target=train, args=(folder, steps))


def log(folder, word):
    return [int(n) for n in re.findall(rf"^{word} (\d+)$", (folder / "log").read_text(), re.MULTILINE)]


def lines(folder):
    return len((folder / "log").read_text().splitlines())


def killed_often(starts, folder, times, steps):
    """A training that is killed so often, at random moments while it restores, compiles, steps and saves; then ends."""
    draw, killed = random.Random(0), 0
    folder.mkdir()
    (folder / "log").touch()
    while not (folder / "end").exists():
        begun, process = lines(folder), starts(str(folder), steps)
        process.start()
        news, more = draw.choice((0, 1, 2, 4)), draw.uniform(0, 0.1)
        while lines(folder) < begun + news and process.is_alive():
            process.join(0.01)
        process.join(more if killed < times else 600)
        killed += process.is_alive()
        process.kill()
        process.join()
    return killed


def check_nothing_is_lost(folder):
    """Each start goes on from the last step that was noted as saved, or one that was saved and not noted."""
    noted = 0
    for word, n in re.findall(r"^(from|saved) (\d+)$", (folder / "log").read_text(), re.MULTILINE):
        assert word == "saved" or int(n) >= noted, "a saved step was lost"
        noted = max(noted, int(n))


def compared(starts, folder, times, steps):
    """How often a training was killed that ended as one that was not, and which steps it began from."""
    train(folder, steps)
    often = folder / "often"
    killed = killed_often(starts, often, times, steps)
    check_nothing_is_lost(often)
    assert (often / "end").read_text() == (folder / "end").read_text()
    return killed, log(often, "from")


def test_killed_and_resumed_to_the_bit(starts, tmp_path):
    killed, begun = compared(starts, tmp_path, 3, 40)
    assert killed == 3
    assert begun == sorted(begun)
    assert begun[-1] > 0


@pytest.mark.slow
def test_killed_a_hundred_times(starts, tmp_path):
    killed, begun = compared(starts, tmp_path, 100, 500)
    assert killed == 100
    assert begun == sorted(begun)
    assert len({*begun}) > 30


# other devices


def at(devices, axis):
    params, state, step = placed(devices, axis)
    return {"params": params, "state": state}, step


def after(tree, step, numbers):
    for i in numbers:
        tree = dict(zip(("params", "state"), step(tree["params"], tree["state"], np.int32(i)), strict=True))
    return tree


def local(tree):
    return jax.tree.map(np.asarray, tree)


OTHERS = [*itertools.product((4, 2, 1), ("data", None))]


@pytest.mark.parametrize(
    ("axis", "others"),
    [("data", [(4, "data"), (1, None)]), *(pytest.param(a, OTHERS, marks=pytest.mark.slow) for a in ("data", None))],
)
def test_saved_on_eight_devices_and_restored_on_fewer(axis, others, tmp_path):
    tree, step = at(8, axis)
    tree = after(tree, step, range(4))
    ocp.save(tmp_path / "saved", tree)
    want = local(after(local(tree), jax.jit(step.__wrapped__), range(4, 6)))
    for devices, other in others:
        fresh, onward = at(devices, other)
        jos.parallel.check_saved(ocp.metadata(tmp_path / "saved").metadata, fresh)
        restored = ocp.load(tmp_path / "saved", fresh)
        assert jax.tree.map(lambda x: x.sharding, restored) == jax.tree.map(lambda x: x.sharding, fresh)
        same(local(after(restored, onward, range(4, 6))), want)


def test_what_is_saved_while_it_is_donated(tmp_path):
    """An asynchronous save copies before it returns: the next step may take over the buffers."""
    tree, step = at(8, "data")
    tree = after(tree, step, [0])
    want, old = local(jax.tree.map(jnp.copy, tree)), jax.tree.leaves(tree)
    saving = ocp.save_async(tmp_path / "saved", tree)
    after(tree, step, range(1, 4))
    saving.result()
    assert any(x.is_deleted() for x in old)  # what the save still reads is copied instead
    same(local(ocp.load(tmp_path / "saved", at(8, "data")[0])), want, 0)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (
            lambda s: {**s, "params": {"kernel": s["params"]["kernel"]}},
            ValueError,
            "the checkpoint has params/bias too",
        ),
        (lambda s: {**s, "more": s["params"]["bias"]}, ValueError, "the checkpoint has no more: it is of another"),
        (lambda s: {**s, "state": jos.sgd().init(s["params"])}, ValueError, "it is of another optimizer or model"),
        (
            lambda s: jax.tree.map(lambda x: x[:1] if x.ndim == 2 else x, s),
            ValueError,
            "must have shape (1, 2), in the ",
        ),
        (
            lambda s: jax.tree.map(lambda x: x.astype(jnp.bfloat16), s),
            TypeError,
            "must be bfloat16, in the checkpoint it",
        ),
    ],
)
def test_another_checkpoint_is_refused(change, kind, words, tmp_path):
    params = {"bias": jnp.ones(2), "kernel": jnp.ones((2, 2), jnp.bfloat16)}
    tree = {"params": params, "state": TX.init(params)}
    ocp.save(tmp_path / "saved", tree)
    saved = ocp.metadata(tmp_path / "saved").metadata
    jos.parallel.check_saved(saved, tree)
    with pytest.raises(TypeError, match="check_saved: saved must be a tree of what says its shape and dtype, such as"):
        jos.parallel.check_saved(ocp.metadata(tmp_path / "saved"), tree)
    with pytest.raises(kind, match=re.escape(words)):
        jos.parallel.check_saved(saved, change(tree))
