"""What parameters, slots and states are called, in `jos.state`, `explain` and checkpoints; where a state is found."""

import collections
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from orbax.checkpoint import v1 as ocp
from programs import same
from test_state import HOLDERS, refuse
from test_state_places import Net

import jaxopt_suite as jos
from jaxopt_suite import _trees as trees


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Scaled:
    value: object
    scale: object


def test_only_the_value_of_a_variable_goes():
    tree = {
        "a": Scaled(jnp.ones(2), Scaled(jnp.ones(1), None)),
        "b": collections.namedtuple("Box", "value")(jnp.ones(3)),
    }
    assert trees.paths(tree) == ["a/value", "a/scale/value", "a/scale/scale", "b/value"]
    names = [name for name in jos.state.variables(jos.sgd(momentum=0.5).init(tree)) if "/" in name]
    assert [name.partition("/")[2] for name in names] == ["a/value", "a/scale/value", "b/value"]
    state = nnx.state(Net(), nnx.Param)
    want = ["layers/0/bias", "layers/0/kernel", "value"]
    for same_tree in (state, nnx.as_pure(state), nnx.to_pure_dict(state), Net()):
        assert [*sorted(trees.paths(same_tree))] == want
        assert len(trees.leaves(same_tree)) == 3
    mixed = Scaled(nnx.Param(None), {"box": nnx.Param({"x": jnp.ones(1), "value": jnp.ones(2)}), "none": None})
    assert trees.paths(mixed) == ["value", "scale/box/value", "scale/box/x", "scale/none"]
    assert len(trees.leaves(mixed)) == 4


def test_two_parameters_of_one_name_are_refused(tmp_path):
    w = {"a/b": jnp.ones(2), "a": {"b": jnp.zeros(2)}, "c": jnp.ones(1)}
    state = jos.adam().init(w)
    for name, ask in {
        "variables": lambda: jos.state.variables(state),
        "save_weights": lambda: jos.state.save_weights(state, tmp_path / "w.h5"),
    }.items():
        refuse(ValueError, f"{name}: two variables are called 'm/a/b': rename a parameter.", ask)
    assert not [*tmp_path.iterdir()]
    refuse(ValueError, "get_slot: two parameters are called 'a/b'", jos.state.get_slot, state, "a/b", "m")
    refuse(ValueError, "set_slot: two parameters are called 'a/b'", jos.state.set_slot, state, "a/b", "m", np.ones(2))
    assert jos.state.get_slot(state, "c", "m").shape == (1,)
    same(jos.state.set_weights(state, jos.state.get_weights(state)), state, 0)


def test_one_place_is_changed_where_a_state_stands_twice():
    state = jos.sgd(0.1).init({"w": jnp.ones(2)})
    tree = {"a": state, "b": [state, {"a": state}]}
    changed = jos.state.set_learning_rate(tree, 0.5, within="a")
    rates = [float(s.rate["learning_rate"]) for s in (changed["a"], changed["b"][0], changed["b"][1]["a"])]
    assert rates == pytest.approx([0.5, 0.1, 0.1])
    changed = jos.state.set_learning_rate(tree, 0.5, within="b/1/a")
    assert float(changed["b"][1]["a"].rate["learning_rate"]) == 0.5
    assert float(changed["a"].rate["learning_rate"]) == pytest.approx(0.1)
    twice = {"a/b": state, "a": {"b": state}}
    refuse(ValueError, "of ['a/b', 'a/b']", jos.state.set_learning_rate, twice, 0.5, within="a/b")


def composed():
    inner = jos.chain(jos.transforms.clip_by_value(1.0), jos.adam(0.3))
    return jos.by_path({"bias|scale": jos.sgd(0.1), "dense/kernel": jos.sgd(0.2), ".*": inner})


NESTED = {"dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}, "embedding": jnp.ones(3), "scale": jnp.ones(1)}


@pytest.mark.parametrize("holder", HOLDERS)
def test_addresses_inside_every_holder(holder):
    put, get = HOLDERS[holder]
    held = put(composed(), NESTED)
    places = {
        **{"bias|scale": 0.1, "bias_scale": 0.1, "dense/kernel": 0.2, "dense_kernel": 0.2},
        **{"rest/adam": 0.3, "adam": 0.3, ".*/adam": 0.3},
    }
    for within, rate in places.items():
        assert float(jos.state.learning_rate(held, within=within)) == pytest.approx(rate), within
        changed = jos.state.set_learning_rate(held, 0.5, within=within)
        rates = [float(x) for x in rates_of(get(changed))]
        assert sorted(rates) == pytest.approx(sorted([0.5, *({0.1, 0.2, 0.3} - {rate})]))
    assert int(jos.state.iterations(held, within="")) == 0
    assert jos.state.slot_names(held, within="") == []
    refuse(ValueError, "name one with within=, of [", jos.state.learning_rate, held)
    with pytest.raises(ValueError, match="no state of ours at 'kernels'") as refusal:
        jos.state.learning_rate(held, within="kernels")
    listed = str(refusal.value).partition("there are ")[2]
    for word in ("bias_scale", "dense_kernel", "rest", "rest/adam", "rest/clip_by_value"):
        assert f"{word}'" in listed
    for place in eval(listed.removesuffix(".")):
        assert int(jos.state.iterations(held, within=place)) == 0


def rates_of(state):
    """All rates of a composition."""
    members = state.stages.get("members", {}).values()
    return [*state.rate.values(), *(rate for member in members for rate in rates_of(member))]


def test_the_outermost_of_several_has_to_be_named():
    held = optax.chain(composed(), jos.sgd(0.7)).init(NESTED)
    refuse(ValueError, "name one with within=, of ['0', '1']", jos.state.iterations, held, within="")
    assert jos.state.slot_names(held, within="0") == []
    assert float(jos.state.learning_rate(held, within="0/bias|scale")) == pytest.approx(0.1)
    assert float(jos.state.learning_rate(held, within="0/.*/adam")) == pytest.approx(0.3)


def test_regexes_of_the_same_letters_are_told_apart_by_a_number():
    rules = {"dense.kernel": jos.sgd(0.1), "dense/(kernel|bias)$": jos.sgd(0.2), "dense|kernel|bias|": jos.sgd(0.3)}
    state = jos.by_path(rules).init(NESTED)
    listed = ["dense_kernel", "dense_kernel_bias", "dense_kernel_bias_2"]
    assert sorted(state.stages["members"]) == listed
    refuse(ValueError, f"of {listed[1:]}", jos.state.learning_rate, state, within="dense/(kernel|bias)$")
    for within, rate in zip(listed, (0.1, 0.2, 0.3), strict=True):
        assert float(jos.state.learning_rate(state, within=within)) == pytest.approx(rate)
    tx = jos.by_path({"a.b": jos.sgd(0.1), "b|a": jos.sgd(0.2), "a/b": jos.sgd(0.3), "a_b_2": jos.sgd(0.4)})
    keys = ["a_b", "b_a", "a_b_2", "a_b_2_2"]
    assert [*tx.line.members.keys] == keys


def test_the_optimizer_that_moves_nothing_has_no_count():
    state = jos.frozen().init({"w": jnp.ones(2)})
    assert jos.state.variables(state) == {}
    refuse(ValueError, "iterations: this optimizer moves nothing", jos.state.iterations, state)
    refuse(ValueError, "get_weights: this optimizer moves nothing", jos.state.get_weights, state)


def paths(tree):
    """The paths of all arrays."""
    return {path for path, x in zip(trees.paths(tree), trees.leaves(tree), strict=True) if x is not None}


def averaged():
    """Two groups; one with two averages of one name, and slow weights around them."""
    inner = jos.lookahead(jos.moving_average(jos.adam(0.1, use_ema=True)))
    return jos.by_path({"kernel": inner, "bias": jos.sgd(0.1, momentum=0.9)})


@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_all_that_names_a_slot_calls_it_the_same(tmp_path):
    tx, w = averaged(), {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}
    state = tx.init(w)
    names = {key: jos.state.slot_names(state, within=key) for key in ("kernel", "bias")}
    assert names == {"kernel": ["average", "m", "v", "average_2", "slow"], "bias": ["m"]}
    for key, slots in names.items():
        variables = jos.state.variables(state, within=key)
        assert [*variables] == ["count", "learning_rate", *(f"{name}/dense/{key}" for name in slots)]
        for name in slots:
            value = np.full(w["dense"][key].shape, 7.0)
            changed = jos.state.set_slot(state, f"dense/{key}", name, value, within=key)
            arrays = zip(trees.paths(state), trees.leaves(changed), strict=True)
            apart = [path for path, x in arrays if x is not None and float(x.max()) == 7]
            assert len(apart) == 1
            assert apart[0].startswith(f"stages/members/{key}/stages/")
            assert apart[0].endswith(f"/{name.removesuffix('_2')}/dense/{key}")
    said = {p["path"]: [slot["name"] for slot in p["slots"]] for p in tx.explain(w).to_dict()["parameters"]}
    assert {path: sorted(said[path]) for path in said} == {
        f"dense/{key}": sorted(slots) for key, slots in names.items()
    }
    mapped = optax.tree_map_params(tx, lambda _: "slot", state, transform_non_params=lambda _: "other")
    marks = {path: mark for path, mark in zip(trees.paths(state), trees.leaves(mapped), strict=True) if mark}
    assert marks == {path: "slot" if "/dense/" in path else "other" for path in marks}
    ocp.save(tmp_path / "state", state)
    stored = ocp.load(tmp_path / "state")  # without a template: what the checkpoint calls them
    assert paths(stored) == paths(state)


def ema(**arguments):
    return jos.sgd(1.0, use_ema=True, ema_momentum=0.5, **arguments)


def test_the_average_is_found_wherever_the_state_is():
    w, g = {"w": jnp.full(2, 4.0)}, {"w": jnp.ones(2)}
    want = {"w": jnp.full(2, 3.5)}
    for holder in ("bare", "chain", "apply_if_finite", "MultiSteps"):
        wrap = {"bare": lambda tx: tx, "chain": lambda tx: optax.chain(optax.identity(), tx),
                "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 2),
                "MultiSteps": lambda tx: optax.MultiSteps(tx, 1).gradient_transformation()}[holder]  # fmt: skip
        tx = wrap(ema())
        with jax.numpy_dtype_promotion("standard"):
            updates, state = tx.update(g, tx.init(w), w)
        same(ema().finalize_variable_values(state, optax.apply_updates(w, updates)), want)
    train = TrainState.create(apply_fn=None, params=w, tx=ema()).apply_gradients(grads=g)
    same(ema().finalize_variable_values(train, train.params), want)
    same(jax.jit(lambda t: ema().finalize_variable_values(t, t.params))(train), want)
    chain = jos.chain(jos.transforms.clip_by_value(1.0), ema())
    _, state = chain.update(g, chain.init(w), w)
    same(ema().finalize_variable_values(state, w), want)
    same(chain.finalize_variable_values((state,), w), want)


def test_the_average_inside_nnx():
    model = Net()
    tx = jos.by_path({"layers": ema(), "": jos.sgd(jos.schedules.exponential_decay(1.0, 1, 0.5))})
    optimizer = nnx.Optimizer(model, optax.chain(optax.identity(), tx), wrt=nnx.Param)
    before = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    optimizer.update(model, jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param)))
    now = nnx.state(model, nnx.Param)
    final = tx.finalize_variable_values(optimizer, now)
    assert jax.tree.structure(final) == jax.tree.structure(now)
    got, moved = nnx.to_pure_dict(final), nnx.to_pure_dict(now)
    same(got["value"], moved["value"])
    same(got["layers"], jax.tree.map(lambda a, b: (a + b) / 2, before, moved)["layers"])


def test_of_several_states_the_one_that_fits_is_used():
    w, other = {"w": jnp.full(2, 4.0)}, {"w": jnp.full(3, 1.0)}
    tree = {"plain": jos.sgd(1.0).init(w), "other": ema().init(other), "mine": ema().init(w)}
    same(ema().finalize_variable_values(tree, {"w": jnp.zeros(2)}), w)
    same(ema().finalize_variable_values(tree, {"w": jnp.zeros(3)}), other)
    tree["again"] = tree["mine"]
    refuse(ValueError, "sgd: the states at ['again', 'mine'] are all of this", ema().finalize_variable_values, tree, w)
    words = "sgd: no state, of those at ['a', 'b'], is of this optimizer"
    two = {"a": jos.adam().init(w), "b": jos.adam().init(w)}
    refuse(ValueError, words, ema().finalize_variable_values, two, w)
    refuse(ValueError, "the state is of another optimizer", ema().finalize_variable_values, two["a"], w)
    refuse(ValueError, "no state of a jaxopt_suite optimizer in a dict", ema().finalize_variable_values, {}, w)
