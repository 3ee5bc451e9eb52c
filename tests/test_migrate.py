"""States that move: a table of migrations with the report that each must give, and what is refused."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint import v1 as ocp
from programs import quick, same
from test_state import refuse

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
    Move("out of groups", jos.by_path(SPLIT), jos.adam(0.1), BOTH, dropped={"rest/learning_rate"}, notes=1),
    Move("out of groups, with the code's rate", jos.by_path(SPLIT), jos.adam(0.1), BOTH - {"learning_rate"},
         {"learning_rate"}, rate="code", notes=1),
    Move("out of groups, into a schedule", jos.by_path(SPLIT), jos.adam(SCHEDULE),
         {"count", "last_learning_rate", *ADAM}),
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


@pytest.mark.filterwarnings("ignore:Sharding info not provided")
@pytest.mark.parametrize("move", [m for m in MOVES if m.name in ("the same", "unfrozen", "Optax inside of a chain",
                                  "one of two averages", "a schedule to another", "a longer cycle")],
                         ids=lambda move: move.name)  # fmt: skip
def test_what_orbax_gives_without_a_template(move, tmp_path):
    """It moves as the state in memory does."""
    old = marked(move.old, move.before)
    ocp.save(tmp_path / "state", old)
    state, report = jos.state.migrate(ocp.load(tmp_path / "state"), move.new, move.after, strict=False)
    want, said = jos.state.migrate(old, move.new, move.after, strict=False)
    assert report.to_dict() == said.to_dict()
    same(state, want, 0)


def test_slots_of_names_alone():
    """What `variables` gives has no classes: the slots that a rule needs must all be there."""
    adam, params = jos.adam(0.1), TREE
    named = jos.state.variables(marked(adam, params))
    state, _ = jos.state.migrate(named, jos.adamw(0.2), params)
    same(jos.state.variables(state), named, 0)
    momentum = jos.state.variables(marked(jos.sgd(0.1, momentum=0.9), params))
    refuse(ValueError, "3 variables would be lost: 'm/body/bias'", jos.state.migrate, momentum, adam, params)
    wrong = {**named, "mm/head": named["m/head"]}
    refuse(ValueError, "1 variable would be lost: 'mm/head' (nothing here keeps it).", jos.state.migrate, wrong, adam,
           params)  # fmt: skip


def test_what_a_setting_switches_on_may_be_missing():
    """A plain dict does not say that there might have been a slot."""
    amsgrad, params = jos.adam(0.1, amsgrad=True), TREE
    old = marked(jos.adam(0.1), params)
    named = jos.state.variables(old)
    rule = {name: tree for name, tree in old.stages["rule"]._asdict().items() if tree is not None}
    plain = {"count": old.count, "rate": old.rate, "stages": {"rule": rule}}
    for source in (old, named, plain):
        state, report = jos.state.migrate(source, amsgrad, params)
        assert {*report.kept} == BOTH
        assert {*report.reset} == slots("vhat")
        same({name: jos.state.variables(state)[name] for name in named}, named, 0)
    del named["v/head"]
    refuse(ValueError, "'m/head' (nothing here keeps it)", jos.state.migrate, named, amsgrad, params)


def eight_bits(tx):
    return jos.precision.state_dtype(tx, m="blockwise8", v="blockwise8", min_size=4)


def test_another_storage():
    tx, params = jos.adam(0.1), {"w": jnp.ones((4, 96)), "b": jnp.ones(2)}
    _, exact = tx.update({"w": jnp.linspace(-1, 1, 384).reshape(4, 96), "b": jnp.ones(2)}, tx.init(params), params)
    small, report = jos.state.migrate(exact, eight_bits(tx), params)
    assert {*report.kept} == {*SCALARS, *slots("m v", "w", "b")}
    assert jax.tree.structure(small) == jax.tree.structure(eight_bits(tx).init(params))
    assert jos.state.get_slot(small, "b", "m").dtype == jnp.float32
    for name in ("m", "v"):
        was, now = (jos.state.get_slot(state, "w", name) for state in (exact, small))
        assert 0 < float(jnp.abs(was - now).max() / jnp.abs(was).max()) < 0.04
        assert small.stages["rule"].slots._asdict()[name]["w"].dtype in (jnp.int8, jnp.uint8)
    back, _ = jos.state.migrate(small, tx, params)
    same(jos.state.variables(back), jos.state.variables(small), 0)
    again, _ = jos.state.migrate(back, eight_bits(tx), params)
    same(jos.state.variables(again), jos.state.variables(small), 0)
    kept, _ = jos.state.migrate(small, eight_bits(jos.adam(0.1, use_ema=True)), params)
    same(jax.tree.leaves(kept.stages["rule"]), jax.tree.leaves(small.stages["rule"]), 0)
    jax.eval_shape(eight_bits(tx).update, params, small, params)


def test_another_way_to_write_parameters():
    params = jax.tree.map(lambda w: w.astype(jnp.bfloat16), TREE)
    old = marked(jos.adam(0.1), params)
    state, report = jos.state.migrate(old, jos.precision.master_weights(jos.adam(0.1)), params)
    assert {*report.kept} == BOTH
    assert {*report.reset} == slots("master")
    assert jos.state.migrate(state, jos.adam(0.1), params, strict=False)[1].lost == tuple(report.reset)


def test_where_counts_differ_the_longest_run_counts():
    tx, params = jos.by_path({"body": jos.adam(0.1), "": jos.adam(0.3)}), TREE
    state = tx.init(params)
    members = {**state.stages["members"]}
    members["rest"] = members["rest"]._replace(count=jnp.int32(5))
    members["body"] = members["body"]._replace(count=jnp.int32(3))
    state = state._replace(stages={"members": members})
    merged, report = jos.state.migrate(state, jos.adam(0.2), params, strict=False)
    assert int(merged.count) == 5
    assert {*report.lost} == {"count", "body/count", "rest/learning_rate"}
    assert "count is 5; in the old state it was 3" in report.notes
    assert any(note.startswith("learning_rate is ") and "0.1" in note and "0.3" in note for note in report.notes)
    refuse(ValueError, "'body/count' (another state has another count)", jos.state.migrate, state, jos.adam(), params)


def test_nothing_is_shared_and_everything_is_where_the_parameters_are():
    mesh = jax.make_mesh((8,), ("data",))
    sharding = NamedSharding(mesh, PartitionSpec(None, "data"))
    tx, new = jos.adam(0.1), jos.adam(0.1, use_ema=True)
    params = {"w": jnp.ones((2, 8)), "b": jnp.ones(2)}
    old = marked(tx, params)
    placed = {**params, "w": jax.device_put(params["w"], sharding)}
    state, _ = jos.state.migrate(old, new, placed)
    assert jos.state.get_slot(state, "w", "m").sharding == sharding
    grads, copied = jax.tree.map(jnp.copy, (placed, placed))
    quick(lambda params, state, grads: new.apply_gradients(grads, state, params), donate_argnums=(0, 1))(
        copied, state, grads
    )
    again, _ = jos.state.migrate(old, new, placed)
    jax.tree.map(lambda x: x.delete(), old)
    assert float(jos.state.get_slot(again, "b", "m")[0]) == 3


def test_states_move_in_programs_and_in_stacks():
    tx, new = jos.adam(0.1), jos.by_path({"head": jos.adam(0.1), "": jos.adam(0.2)})
    old = marked(tx, TREE)
    want, _ = jos.state.migrate(old, new, TREE)
    same(quick(lambda s: jos.state.migrate(s, new, TREE)[0])(old), want, 0)
    same(quick(lambda s: jos.state.migrate(s, tx, TREE)[0])(want).count, old.count)
    stack = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), (old, TREE))
    both = jax.vmap(lambda s, w: jos.state.migrate(s, new, w)[0])(*stack)
    same(jax.tree.map(lambda x: x[0], both), want, 0)


def test_containers():
    class Net(nnx.Module):
        def __init__(self):
            self.head = nnx.Param(jnp.ones((2, 4)))

    model, tx = Net(), jos.adam(0.1)
    held = nnx.Optimizer(model, tx, wrt=nnx.Param)
    held.update(model, nnx.state(model, nnx.Param))
    params = nnx.state(model, nnx.Param)
    for old in (held.opt_state, jos.state.migrate(held.opt_state, tx, {"head": jnp.ones((2, 4))})[0]):
        for new in (params, nnx.to_pure_dict(params)):
            state, report = jos.state.migrate(old, tx, new)
            assert {*report.kept} == {"count", "learning_rate", "m/head", "v/head"}
            assert int(jos.state.iterations(state)) == 1
    chained = optax.chain(optax.scale_by_schedule(lambda count: 1.0), tx)
    state, report = jos.state.migrate(chained.init(TREE), chained, TREE)
    assert "0/count" in report.kept
    refuse(ValueError, "1 variable would be lost: '0/count'", jos.state.migrate, state, tx, TREE)
    by_hand = jos.Optimizer(tx.init, lambda updates, state, params=None: (updates, state))
    assert str(jos.state.migrate(tx.init(TREE), by_hand, TREE)[1]).startswith("Optimizer: 8 kept")
    assert "about" in jos.state.to_dict(tx.init(TREE), by_hand, TREE)


def test_a_checkpoint_without_what_is_none():
    """nnx leaves it out of its pure dicts."""
    for tx in (jos.adam(0.1), jos.rmsprop(0.1), jos.adam(0.1, amsgrad=True), jos.adafactor(0.1)):
        old = marked(tx, TREE)
        stages = {key: {k: x for k, x in s._asdict().items() if x is not None} for key, s in old.stages.items()}
        state, report = jos.state.migrate({**old._asdict(), "stages": stages}, tx, TREE)
        assert not report.reset
        same(state, old, 0)


def test_what_is_wrong_is_named():
    tx, state, ask = jos.adam(0.1), jos.adam(0.1).init(TREE), jos.state.migrate
    refuse(TypeError, "migrate: tx must be an optimizer, got 3.", ask, state, 3, TREE)
    refuse(TypeError, "rename must be a dict from regexes to replacements, got ['a'].", ask, state, tx, TREE, ["a"])
    refuse(ValueError, "'(' is no regular expression", ask, state, tx, TREE, {"(": ""})
    refuse(ValueError, "is no replacement: invalid group reference 9 at", ask, state, tx, TREE, {"head": r"\9"})
    refuse(ValueError, "rename: 'haed' is found in no parameter's path. Did you mean 'head'?", ask, state, tx, TREE,
           {"haed": "x"})  # fmt: skip
    refuse(ValueError, "rename: 'body/bias' and 'body/kernel' would both become 'x'.", ask, state, tx, TREE,
           {"^body.*": "x"})  # fmt: skip
    refuse(TypeError, "migrate: rename must return a path, got None for 'body/bias'.", ask, state, tx, TREE,
           lambda path: None)  # fmt: skip
    many = jax.vmap(lambda _: jos.sgd(0.1).init(TREE))(jnp.ones(2))
    refuse(ValueError, "'count' (it has shape (2,), here it is ())", ask, many, jos.sgd(0.1), TREE)
    refuse(ValueError, "'m/head' (there is no parameter 'haed' here. Did you mean 'head'?)", ask, state, tx, TREE,
           {"head": "haed"})  # fmt: skip
    refuse(ValueError, "learning_rate must be one of 'state', 'code', got 'codes'.", ask, state, tx, TREE,
           learning_rate="codes")  # fmt: skip
    refuse(TypeError, "migrate: strict must be True or False, got 'no'.", ask, state, tx, TREE, strict="no")
    refuse(TypeError, "migrate: state must be a state, got the optimizer adam() itself.", ask,
           jos.adam(), tx, TREE)  # fmt: skip
    flat = jos.state.to_dict(state, tx, TREE)
    for name, call in {
        "migrate": lambda tx: ask(state, tx, TREE),
        "to_dict": lambda tx: jos.state.to_dict(state, tx, TREE),
        "from_dict": lambda tx: jos.state.from_dict(flat, tx, TREE),
    }.items():
        refuse(TypeError, f"{name}: tx must be an optimizer, got 'adam': jos.get('adam') makes one.", call, "adam")
        refuse(TypeError, f"{name}: tx must be or hold an optimizer of jaxopt_suite, got Gr", call, optax.adam(0.1))
    refuse(ValueError, "there is no state of a jaxopt_suite optimizer in this dict", ask, TREE, tx, TREE)
    other = {"other": jnp.ones(7)}
    refuse(ValueError, "nothing of this state is known here", ask, state, tx, other, strict=False)


def test_the_sentence_for_another_kind_of_rate_names_migrate():
    state = jos.adam(0.1).init(TREE)
    refuse(ValueError, "jos.state.migrate makes a state", jos.adam(SCHEDULE).update, TREE, state, TREE)
    moved, _ = jos.state.migrate(state, jos.adam(SCHEDULE), TREE)
    jos.adam(SCHEDULE).update(TREE, moved, TREE)


def test_the_report_shows_itself():
    many = {f"layer_{i}": {"kernel": jnp.ones(2), "<b>": jnp.ones(1)} for i in range(150)}
    _, report = jos.state.migrate(jos.adam(0.1).init(many), jos.adam(0.2, use_ema=True), many)
    assert len(str(report).splitlines()) == 6
    assert "layer_*/kernel  150  m, v" in str(report)
    page = report._repr_html_()
    assert page.count("<tr>") == 4
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert report.to_dict()["renamed"] == {}
