"""Rules of one's own: further arguments of `update`, in everything that surrounds an optimizer; the order of a line."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_suite as jos
from jaxopt_suite._frame.stages import Place
from jaxopt_suite._recipe.config import REGISTRY

PARAMS = {"a": jnp.ones(2), "b": {"c": jnp.ones(3)}}
GRADS = jax.tree.map(jnp.ones_like, PARAMS)
HESSIAN = {"a": jnp.full(2, 2.0), "b": {"c": jnp.arange(3.0)}}


@pytest.fixture(scope="module")
def curved():
    @jos.optimizer("CurvedDescent")
    def curved_descent(learning_rate: float = 1.0, **common):
        def update(g, s, w, t):
            return g * t.extra["hessian"] + t.extra["offset"], s

        return jos.leafwise(None, None, update, extra_args=("hessian", "offset"))

    yield curved_descent
    del REGISTRY["curveddescent"]


def surroundings(make):
    tx = make()
    yield tx
    yield jos.chain(tx)
    yield jos.chain(jos.transforms.clip_by_value(9.0), jos.by_path({"c": tx, "": make(name="other")}))
    yield jos.lookahead(make(use_ema=True), sync_period=5)
    yield optax.chain(optax.identity(), tx)
    yield make(jit_compile=False)


def test_further_arguments_reach_the_rule_everywhere(curved):
    want = jax.tree.map(lambda h: -(h + 0.5), HESSIAN)
    for tx in surroundings(curved):
        for call in (tx.update, jax.jit(tx.update)):
            updates, _ = call(GRADS, tx.init(PARAMS), PARAMS, hessian=HESSIAN, offset=0.5)
            jax.tree.map(np.testing.assert_allclose, updates, want)


def test_further_arguments_are_asked_for_and_checked(curved):
    tx = curved()
    state = tx.init(PARAMS)
    with pytest.raises(TypeError, match="curved_descent: update needs the argument 'offset'"):
        tx.update(GRADS, state, PARAMS, hessian=HESSIAN)
    with pytest.raises(ValueError, match="curved_descent: hessian must be a scalar or a tree like the gradients"):
        tx.update(GRADS, state, PARAMS, hessian={"a": jnp.ones(2)}, offset=0.0)
    with pytest.raises(ValueError, match="curved_descent: hessian must be a scalar or a tree like the gradients"):
        tx.update(GRADS, state, PARAMS, hessian={**HESSIAN, "a": jnp.ones((2, 2))}, offset=0.0)
    plain = jos.sgd(1.0)
    updates, _ = plain.update(GRADS, plain.init(PARAMS), PARAMS, hessian=HESSIAN)  # not asked for: not used
    np.testing.assert_array_equal(updates["a"], -1.0)


def test_further_arguments_inside_nnx_optimizer(curved):
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, curved(), wrt=nnx.Param)
    before = jnp.copy(model.bias[...])
    grads = nnx.grad(lambda m: m(jnp.ones((1, 2))).sum())(model)
    hessian = jax.tree.map(lambda g: jnp.full_like(g, 3.0), nnx.state(grads))
    optimizer.update(model, grads, hessian=hessian, offset=1.0)
    np.testing.assert_allclose(model.bias[...], before - 4.0)


def test_accumulation_uses_the_arguments_of_the_last_micro_step(curved):
    tx = curved(gradient_accumulation_steps=2)
    state = tx.init(PARAMS)
    for factor in (5.0, 1.0):
        scaled = jax.tree.map(lambda h, factor=factor: factor * h, HESSIAN)
        updates, state = tx.update(GRADS, state, PARAMS, hessian=scaled, offset=0.0)
    jax.tree.map(np.testing.assert_allclose, updates, jax.tree.map(jnp.negative, HESSIAN))


def test_the_line_is_drawn_as_it_is_enumerated():
    drawn = " ".join(Place.__doc__.split("\n\n")[1].split())
    words = {"FINITE_CHECK": "finite check", "RULE": "decay, rule, rate"}
    names = [words.get(place.name, place.name.lower()) for place in sorted(Place)]
    assert drawn == " -> ".join(["gradient", *names])
    everything = jos.loss_scale(
        jos.lookahead(
            jos.sgd(clipnorm=1.0, use_ema=True, gradient_accumulation_steps=2, axis_name="d", loss_scale_factor=None)
        )
    )
    places = [stage.place for stage in everything.line.stages]
    assert places == sorted(places)
    assert len({*places}) == 6


def test_an_update_of_another_shape_is_refused():
    @jos.optimizer("Summing")
    def summing(learning_rate: float = 1.0, **common):
        return jos.leafwise(None, None, lambda g, s, w, t: (g.sum(), s))

    del REGISTRY["summing"]
    with pytest.raises(
        ValueError, match=r"summing: a rule must return an update of its array's shape \(2,\), got \(\)"
    ):
        summing().update(GRADS, summing().init(PARAMS), PARAMS)


def test_the_rate_is_the_one_of_the_step():
    @jos.optimizer("Rated")
    def rated(learning_rate: float = 0.1, **common):
        return jos.leafwise(None, None, lambda g, s, w, t: (g / (1 + learning_rate), s))

    del REGISTRY["rated"]
    with pytest.raises(TypeError, match=r"the rate, which is t.learning_rate in a rule"):
        rated(1.0).update(GRADS, rated(1.0).init(PARAMS), PARAMS)
