"""States that move: a table of migrations with the report that each must give, and what is refused."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_suite as jos

TREE = {"body": {"bias": jnp.ones(2), "kernel": jnp.ones((3, 2))}, "head": jnp.ones((2, 4))}
PATHS = ("body/bias", "body/kernel", "head")
SCHEDULE = jos.schedules.exponential_decay(0.5, 10, 0.5)
SCALARS = ("count", "learning_rate")


def slots(names, *paths, within=""):
    """`m/head`, ... of several slots and parameters."""
    return {f"{within}{name}/{path}" for name in names.split() for path in paths or PATHS}


@dataclasses.dataclass(frozen=True)
class Move:
    """One migration: from an optimizer and its parameters to another, and the names that the report lists."""

    name: str
    old: Any
    new: Any
    kept: set[str]
    reset: set[str] = dataclasses.field(default_factory=set)
    dropped: set[str] = dataclasses.field(default_factory=set)
    lost: bool | None = None  # whether strict refuses; where anything is dropped, unless said otherwise
    before: Any = dataclasses.field(default_factory=lambda: TREE)
    after: Any = dataclasses.field(default_factory=lambda: TREE)
    rename: dict[str, str] = dataclasses.field(default_factory=dict)
    rate: str = "state"
    notes: int = 0

    @property
    def refused(self):
        return bool(self.dropped) if self.lost is None else self.lost


ADAM = slots("m v")
BOTH = {*SCALARS, *ADAM}
MOMENTUM = {*SCALARS, *slots("m")}
SPLIT = {"body": jos.adam(0.1), "": jos.adam(0.1)}
IN_BODY = {"body/count", "body/learning_rate", *slots("m v", *PATHS[:2], within="body/")}
IN_REST = {"rest/count", "rest/learning_rate", *slots("m v", "head", within="rest/")}
HEAD = {"head": jos.adam(0.1), "": jos.frozen()}
IN_HEAD = {"head/count", "head/learning_rate", *slots("m v", "head", within="head/")}
DECAYED = jos.adamw(0.1, exclude_from_weight_decay="bias")
SMALLER = {"body": TREE["body"]}
OTHER_NAMES = {"encoder": TREE["body"], "head": TREE["head"]}
LONGER = {**TREE, "head": jnp.ones((2, 5))}
INNER = {"adam/count", "adam/learning_rate", *slots("m v", within="adam/")}
FOREIGN = jos.chain(jos.from_optax("scale_by_adam"), jos.from_optax("scale", step_size=-0.1))
IN_OPTAX = {f"scale_by_adam/optax/{slot}/{path}" for slot in ("mu", "nu") for path in PATHS}
IN_OPTAX |= {"scale_by_adam/optax/count", "scale_by_adam/count", "scale/count", "count"}

MOVES = (
    # the chain
    Move("the same", jos.adam(0.1), jos.adam(0.1), BOTH),
    Move("a clip on", jos.adam(0.1), jos.adam(0.1, global_clipnorm=1.0), BOTH, {"gradient_norm"}),
    Move("a clip off", jos.adam(0.1, global_clipnorm=1.0), jos.adam(0.1), BOTH, dropped={"gradient_norm"}, lost=False),
    Move("another clip", jos.adam(0.1, clipnorm=1.0), jos.adam(0.1, clipvalue=1.0), BOTH),
    Move("an average on", jos.adam(0.1), jos.adam(0.1, use_ema=True), BOTH, slots("average")),
    Move("an average off", jos.adam(0.1, use_ema=True), jos.adam(0.1), BOTH, dropped=slots("average")),
    Move("one average for another", jos.adam(0.1, use_ema=True), jos.swa(jos.adam(0.1)), BOTH, slots("average"),
         slots("average")),
    Move("one of two averages", jos.moving_average(jos.adam(0.1, use_ema=True)), jos.adam(0.1, use_ema=True),
         {*BOTH, *slots("average")}, dropped=slots("average_2")),
    Move("slow weights on", jos.sgd(0.1, momentum=0.9), jos.lookahead(jos.sgd(0.1, momentum=0.9)), MOMENTUM,
         slots("slow")),
    Move("accumulation on", jos.adam(0.1), jos.adam(0.1, gradient_accumulation_steps=4), BOTH,
         {"micro_step", *slots("accumulator")}),
    Move("accumulation off in a cycle", jos.adam(0.1, gradient_accumulation_steps=4), jos.adam(0.1), BOTH,
         dropped={"micro_step", *slots("accumulator")}),
    Move("a longer cycle", jos.adam(0.1, gradient_accumulation_steps=4), jos.adam(0.1, gradient_accumulation_steps=8),
         {*BOTH, "micro_step", *slots("accumulator")}),
    Move("a loss scale on", jos.adam(0.1), jos.loss_scale(jos.adam(0.1)), BOTH, {"scale", "finite_steps"}),
    Move("a loss scale off", jos.loss_scale(jos.adam(0.1)), jos.adam(0.1), BOTH, dropped={"scale", "finite_steps"}),
    Move("into a chain", jos.adam(0.1), jos.chain(jos.transforms.clip_by_value(1.0), jos.adam(0.1)),
         {"count", "clip_by_value/count", *INNER}),
    Move("out of a chain", jos.chain(jos.transforms.clip_by_value(1.0), jos.adam(0.1)), jos.adam(0.1), BOTH),
    Move("another place in a chain", jos.chain(jos.transforms.clip_by_norm(1.0), jos.adam(0.1)),
         jos.chain(jos.transforms.clip_by_value(1.0), jos.adam(0.1)), {"count", "clip_by_value/count", *INNER}),
    Move("Optax inside of a chain", FOREIGN, FOREIGN, IN_OPTAX),
    # hyperparameters and slots
    Move("other hyperparameters", jos.adam(0.1), jos.adam(0.2, beta_1=0.5, weight_decay=0.1), BOTH, notes=1),
    Move("a decay", jos.adam(0.1), jos.adamw(0.1), BOTH),
    Move("a slot on", jos.adam(0.1), jos.adam(0.1, amsgrad=True), BOTH, slots("vhat")),
    Move("a slot off", jos.adam(0.1, amsgrad=True), jos.adam(0.1), BOTH, dropped=slots("vhat")),
    Move("a momentum on", jos.sgd(0.1), jos.sgd(0.1, momentum=0.9), {*SCALARS}, slots("m")),
    Move("a momentum off", jos.rmsprop(0.1, momentum=0.9), jos.rmsprop(0.1), {*SCALARS, *slots("v")},
         dropped=slots("m")),
    Move("another rule", jos.adam(0.1), jos.lion(0.1), {*SCALARS}, slots("m"), ADAM),
    Move("another dialect", jos.adam(0.1), jos.adam(0.1, dialect="legacy"), BOTH),
    # the rate
    Move("a number of the code", jos.adam(0.1), jos.adam(0.2), {"count", *ADAM}, {"learning_rate"}, rate="code",
         notes=1),
    Move("a number to a schedule", jos.adam(0.1), jos.adam(SCHEDULE), {"count", "last_learning_rate", *ADAM}),
    Move("a schedule to a number", jos.adam(SCHEDULE), jos.adam(0.1), {"count", *ADAM}, {"learning_rate"}, notes=1),
    Move("a schedule to another", jos.adam(SCHEDULE), jos.adam(jos.schedules.cosine_decay(0.1, 10)),
         {"count", "last_learning_rate", *ADAM}),
    Move("a number to an array", jos.adam(0.1), jos.adam(jnp.float32(0.2)), {"count", "last_learning_rate", *ADAM}),
    # parameters
    Move("a parameter more", jos.adam(0.1), jos.adam(0.1), {*SCALARS, *slots("m v", *PATHS[:2])}, slots("m v", "head"),
         before=SMALLER),
    Move("a parameter less", jos.adam(0.1), jos.adam(0.1), {*SCALARS, *slots("m v", *PATHS[:2])},
         dropped=slots("m v", "head"), after=SMALLER),
    Move("a parameter of another shape", jos.adam(0.1), jos.adam(0.1), {*SCALARS, *slots("m v", *PATHS[:2])},
         slots("m v", "head"), slots("m v", "head"), after=LONGER),
    Move("other names", jos.adam(0.1), jos.adam(0.1), BOTH, before=OTHER_NAMES, rename={"^encoder/": "body/"}),
    Move("other names, one for each", jos.adam(0.1), jos.adam(0.1), BOTH,
         before={"l0": TREE["body"], "l1": TREE["head"]}, rename={r"^l0/(\w+)$": r"body/\1", "^l1$": "head"}),
    # groups
    Move("into groups", jos.adam(0.1), jos.by_path(SPLIT), {"count", *IN_BODY, *IN_REST}),
    Move("out of groups", jos.by_path(SPLIT), jos.adam(0.1), BOTH, notes=1),
    Move("into other groups", jos.by_path(SPLIT), jos.by_path({"bias": jos.adam(0.1), "": DECAYED}),
         {"count", "bias/count", "bias/learning_rate", *slots("m v", PATHS[0], within="bias/"), "rest/count",
          "rest/learning_rate", *slots("m v", *PATHS[1:], within="rest/")}, notes=1),
    Move("unfrozen", jos.by_path(HEAD), jos.by_path({"head": jos.adam(0.1), "": jos.adam(0.01)}),
         {"count", *IN_HEAD},
         {"rest/count", "rest/learning_rate", *slots("m v", *PATHS[:2], within="rest/")}),
    Move("unfrozen in one group", jos.by_path(HEAD), jos.adam(0.1), {*SCALARS, *slots("m v", "head")},
         slots("m v", *PATHS[:2])),
    Move("frozen", jos.adam(0.1), jos.by_path(HEAD), {"count", *IN_HEAD}, dropped=slots("m v", *PATHS[:2])),
    Move("one group of another rule", jos.adam(0.1), jos.by_path({"body": jos.adam(0.1), "": jos.sgd(0.2)}),
         {"count", *IN_BODY, "rest/count", "rest/learning_rate"}, dropped=slots("m v", "head"), notes=1),
)  # fmt: skip


def marked(tx, params):
    """A state in which no two arrays are alike: they are numbered, from 1 on; but for counts, which are 7."""
    leaves, structure = jax.tree.flatten(tx.init(params))
    numbers = [7 if x.dtype == jnp.int32 else i for i, x in enumerate(leaves, 1)]
    return jax.tree.unflatten(structure, [jnp.full_like(x, i) for x, i in zip(leaves, numbers, strict=True)])


def flat(state, tx, params):
    named = jos.state.to_dict(state, tx, params)
    return {name: np.asarray(x) for name, x in named.items() if name != "about"}


@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.name)
def test_move(move):
    old = marked(move.old, move.before)
    if move.refused:
        with pytest.raises(ValueError, match="would be lost") as refusal:
            jos.state.migrate(old, move.new, move.after, rename=move.rename)
        assert any(repr(name) in str(refusal.value) for name in move.dropped)
    state, report = jos.state.migrate(
        old, move.new, move.after, rename=move.rename, strict=move.refused is False, learning_rate=move.rate
    )
    assert {*report.kept} == move.kept
    assert {*report.reset} == move.reset
    assert {*report.dropped} == move.dropped
    assert len(report.kept + report.reset + report.dropped) == len(move.kept) + len(move.reset) + len(move.dropped)
    fresh = move.new.init(move.after)
    assert jax.tree.structure(state) == jax.tree.structure(fresh)
    jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype) or pytest.fail(f"{a} {b}"), state, fresh)
    jax.eval_shape(move.new.update, move.after, state, move.after)
    before, now = flat(old, move.old, move.before), flat(state, move.new, move.after)
    start = flat(fresh, move.new, move.after)
    for name in move.reset:
        np.testing.assert_array_equal(now[name], start[name], err_msg=name)
    values = {float(x.flat[0]) for x in before.values()}
    for name in move.kept:
        assert float(now[name].flat[0]) in values, name
        if name in before and not move.rename and "/" in name.replace("count", ""):
            np.testing.assert_array_equal(now[name], before[name], err_msg=name)
    assert len(report.notes) >= move.notes
