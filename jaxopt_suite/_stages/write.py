"""How 16-bit parameters are written: what rounding would lose is kept beside them, or left to chance."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import Inner, transform, wrapper
from jaxopt_suite._frame.leafwise import Moment, Rule, by_rows, leafwise
from jaxopt_suite._frame.stages import AnyStage, Place
from jaxopt_suite._recipe.words import Count, Text
from jaxopt_suite._trees import is_half
from jaxopt_suite.state._layout import state_class
from jaxopt_suite.state._random import nearest, random_bits, rounded, stream_number

PRECISION = "jaxopt_suite.precision"
SENTENCES = {"seed": "of the rounding: two that differ round independently of each other."}


def _writing(slots: type | None, for_dtype: Callable[[jnp.dtype], Rule]) -> Rule:
    """A rule that writes each 16-bit parameter by the rule of its dtype, and takes steps of others as they are."""
    made = functools.cache(lambda dtype: by_rows(for_dtype(dtype)))
    fields = getattr(slots, "_fields", ())
    plain = by_rows(
        leafwise(slots, lambda w: slots and slots(*[jnp.zeros(())] * len(fields)), lambda x, s, w, t: (x, s))
    )
    first = made(jnp.dtype("bfloat16"))
    return dataclasses.replace(
        plain,
        choose=lambda path, w: made(w.dtype) if is_half(w) else plain,
        random=first.random,
        label=first.label,
    )


@state_class
class MasterState(NamedTuple):
    """The parameters in float32; a lone zero beside one that has it anyway."""

    master: jax.Array
    holds_weights = ("master",)


@transform(Place.WRITE)
def master_copy() -> Rule:
    """Writes 16-bit parameters as `master_weights` does; it must come last in an `optax.chain`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.master_copy()
    >>> state, w = tx.init(jnp.bfloat16(1)), jnp.bfloat16(1)
    >>> for _ in range(3):
    ...     update, state = tx.update(jnp.float32(0.002), state, w)
    ...     print(update, jos.state.get_slot(state, "", "master"))
    0.0 1.002
    0.0078125 1.004
    0.0078125 1.0059999
    """

    def for_dtype(dtype: jnp.dtype) -> Rule:
        def update(x: jax.Array, s: MasterState, w: jax.Array, t: Moment) -> tuple[jax.Array, MasterState]:
            master = s.master + x
            return nearest(master, dtype), MasterState(master)

        return leafwise(MasterState, lambda w: MasterState(w), update, exact=lambda s, w: s.master)

    return _writing(MasterState, for_dtype)


@transform(Place.WRITE, sentences=SENTENCES)
def round_stochastically(seed: Count = 0) -> Rule:
    """Writes 16-bit parameters as `stochastic_rounding` does; it must come last in an `optax.chain`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx, w = jos.transforms.round_stochastically(), jnp.ones(10_000, jnp.bfloat16)
    >>> update, _ = tx.update(jnp.full(10_000, 0.002), tx.init(w), w)
    >>> sorted({*update.tolist()}), f"{update.mean():.4f}"
    ([0.0, 0.0078125], '0.0020')
    """

    def for_dtype(dtype: jnp.dtype) -> Rule:
        def update(x: jax.Array, s: None, w: jax.Array, t: Moment) -> tuple[jax.Array, None]:
            assert t.leaf is not None
            stream, part = stream_number(seed, "round_stochastically"), t.part(w.shape)
            bits = random_bits(stream, t.leaf, t.step, w.shape, part)
            return rounded(w + x, dtype, bits), None

        return leafwise(None, None, update, random=True, exact=lambda s, w: w)

    return _writing(None, for_dtype)


@state_class
class KahanState(NamedTuple):
    """What rounding took from the parameters, bfloat16; a lone zero beside one in float32."""

    lost: jax.Array
    holds_weights = ("lost",)


@transform(Place.WRITE)
def compensate_rounding() -> Rule:
    """Writes 16-bit parameters as `kahan_summation` does; it must come last in an `optax.chain`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx, w = jos.transforms.compensate_rounding(), jnp.bfloat16(1)
    >>> update, state = tx.update(jnp.float32(0.002), tx.init(w), w)
    >>> update, jos.state.get_slot(state, "", "lost")
    (Array(0., dtype=float32), Array(0.0019989, dtype=bfloat16))
    """

    def exact(s: KahanState, w: jax.Array) -> jax.Array:
        return w + s.lost

    def for_dtype(dtype: jnp.dtype) -> Rule:
        def update(x: jax.Array, s: KahanState, w: jax.Array, t: Moment) -> tuple[jax.Array, KahanState]:
            new = exact(s, w) + x
            written = nearest(new, dtype)
            return written, KahanState(jnp.where(jnp.isfinite(written), new - written.astype(new.dtype), 0.0))

        return leafwise(KahanState, lambda w: KahanState(jnp.zeros_like(w, jnp.bfloat16)), update, exact=exact)

    return _writing(KahanState, for_dtype)


@wrapper("MasterWeights", home=PRECISION)
def master_weights(optimizer: Inner, name: Text | None = None) -> AnyStage:
    """Keeps 16-bit parameters in float32 too: the optimizer moves that copy, and the parameter is the copy, rounded.

        master <- master + step(master),    w <- round(master)

    So steps that are smaller than what 16 bits resolve are not lost: the parameters are those of training in
    float32, rounded once. It costs 4 bytes a parameter. All else of the optimizer (decay, averages, slow weights)
    sees the copy; float32 parameters are written as always.

    `update` gives float32 updates, by which `optax.apply_updates` reaches the rounded copy but for one weight in
    some 100,000; `apply_gradients` writes it to the bit.

    Raises:
      ValueError, TypeError: from `init`, if no parameter has 16 bits, or one has fewer.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> def trained(tx, w, steps=100):
    ...     state = tx.init(w)
    ...     for _ in range(steps):
    ...         w, state = tx.apply_gradients(jnp.ones_like(w), state, w)
    ...     return w
    >>> w = jnp.bfloat16(1)
    >>> trained(jos.adam(1e-3), w), trained(jos.precision.master_weights(jos.adam(1e-3)), w)
    (Array(1, dtype=bfloat16), Array(0.898438, dtype=bfloat16))

    Reference: Micikevicius et al., Mixed precision training, ICLR 2018.
    """
    return master_copy.stage()


@wrapper("StochasticRounding", home=PRECISION, sentences=SENTENCES)
def stochastic_rounding(optimizer: Inner, seed: Count = 0, name: Text | None = None) -> AnyStage:
    """Writes 16-bit parameters rounded up or down by chance, such that their mean is right: it keeps nothing.

        w <- one of the two 16-bit neighbours of w + step, each with the odds of the other's distance

    The chance is a hash of `seed`, the parameter's path, the step and the entry's index in the whole array: the same
    on every replica, however arrays are sharded by `jit`, or inside `shard_map` where `shard_axes` says how, and for a
    row of a sparse gradient whatever other rows there are. (Where only the types tell that an array is sharded, each
    part draws for itself.)

    Raises:
      ValueError, TypeError: from `init`, if no parameter has 16 bits, or one has fewer.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx, w = jos.precision.stochastic_rounding(jos.sgd(1e-3)), jnp.ones(10_000, jnp.bfloat16)
    >>> state = tx.init(w)
    >>> for _ in range(10):
    ...     w, state = tx.apply_gradients(jnp.ones_like(w), state, w)
    >>> f"{jnp.mean(w, dtype=jnp.float32):.4f}", sorted({*w.tolist()})[-3:]
    ('0.9899', [0.9921875, 0.99609375, 1.0])

    Reference: Gupta et al., Deep learning with limited numerical precision, ICML 2015.
    """
    return round_stochastically.stage(seed)


@wrapper("KahanSummation", home=PRECISION)
def kahan_summation(optimizer: Inner, name: Text | None = None) -> AnyStage:
    """Keeps what rounding took from 16-bit parameters in 16 more bits, and adds it to the next step.

        s = w + lost + step,    w <- round(s),    lost <- s - w

    A bfloat16 parameter is known to 16 bits so, at half the cost of a copy in float32: 2 bytes a parameter.

    Raises:
      ValueError, TypeError: from `init`, if no parameter has 16 bits, or one has fewer.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx, w = jos.precision.kahan_summation(jos.sgd(1e-3)), jnp.bfloat16(1)
    >>> state = tx.init(w)
    >>> for _ in range(100):
    ...     w, state = tx.apply_gradients(jnp.bfloat16(1), state, w)
    >>> w
    Array(0.898438, dtype=bfloat16)

    Reference: Kahan, Further remarks on reducing truncation errors, Communications of the ACM, 1965.
    """
    return compensate_rounding.stage()
