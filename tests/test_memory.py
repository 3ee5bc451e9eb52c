"""Nothing as large as the parameters is stored beside them, and a donated step works in place."""

import jax
import jax.numpy as jnp
import pytest
from rows import SETTINGS, case_name, long_ones_marked

import jaxopt_suite as jos

SHAPES = {"kernel": (1024, 1024), "out": (1024, 1024), "bias": (1024,)}
LARGEST = 0.02  # temporaries, of the parameters' bytes
UNREAD = 16  # bytes of scalars that are only written, such as a recorded rate: they have no input to be written over

# common arguments that need room, and why
NEED_ROOM = {
    ("gradient_accumulation_steps", "global_clipnorm"): "XLA:CPU stores the mean, a quotient, between norm and use",
    ("ema_overwrite_frequency",): "the step is stored: the average and the new parameter are both made from it",
    ("clipvalue", "clipnorm"): "XLA:CPU stores what is clamped by constants before it sums it",
    ("clipvalue", "global_clipnorm"): "XLA:CPU stores what is clamped by constants before it sums it",
    ("weight_decay", "dialect torch"): "XLA:CPU may store a gradient with its penalty, which the step and a slot read",
}


def compiled(tx):
    """`apply_gradients` on large leaves, parameters and state donated; and the bytes of both."""
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in SHAPES.items()}
    state = jax.eval_shape(tx.init, params)
    step = jax.jit(lambda params, state, grads: tx.apply_gradients(grads, state, params), donate_argnums=(0, 1))
    return step.lower(params, state, params).compile(), nbytes(params), nbytes((params, state))


def nbytes(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def reason(row, variant):
    """Why a case needs temporaries: its row says so, for all or `of` one argument, or its common arguments do."""
    given = {name for name, value in variant.all_arguments().items() if value is not None and value is not False}
    given.add(f"dialect {variant.all_arguments().get('dialect', 'keras')}")
    own = [row.exempt.get(key) for key in ("temporaries", *(f"temporaries of {name}" for name in given))]
    common = [why for names, why in NEED_ROOM.items() if given.issuperset(names)]
    return next((why for why in (*own, *common) if why), None)


@pytest.mark.parametrize(("row", "variant"), long_ones_marked(SETTINGS), ids=case_name)
def test_step_works_in_place_and_stores_nothing_beside(row, variant):
    program, params, donated = compiled(row.build(variant))
    memory = program.memory_analysis()
    assert memory.alias_size_in_bytes >= donated - UNREAD
    assert memory.temp_size_in_bytes <= LARGEST * params or reason(row, variant)


def test_a_finite_check_that_needs_no_room_sees_one_nan_among_many():
    tx, params = jos.transforms.unscale_dynamically(8.0), jnp.zeros(100_000)
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        state = tx.update(params.at[77].set(bad), tx.init(params))[1]
        assert state.stages["unscale_dynamically"].scale == 4.0
