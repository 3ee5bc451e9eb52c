"""Rules that must find again what they wrote, where it is rounded to 16 bits."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxopt_suite._frame.leafwise import Moment, Rule
from jaxopt_suite.state._layout import Slots


def compensated(rule: Rule) -> Rule:
    """The rule, which for a 16-bit parameter keeps in the slot `lost` what rounding took from it."""
    for_dtype = functools.cache(functools.partial(_compensated, rule))
    return dataclasses.replace(rule, choose=lambda path, w: for_dtype(w.dtype) if w.dtype.itemsize < 4 else rule)


def _compensated(rule: Rule, dtype: jnp.dtype) -> Rule:
    info, evaluate = jnp.finfo(dtype), rule.evaluate or (lambda s, w: w)

    def exact(s: Slots, w: jax.Array) -> jax.Array:
        return w if s.lost is None else w + s.lost

    def init(w: jax.Array) -> Slots:
        return rule.init(w)._replace(lost=jnp.zeros_like(w))

    def update(g: jax.Array, s: Slots, w: jax.Array, t: Moment) -> tuple[jax.Array, Slots]:
        step, s = rule.update(g, s, exact(s, w), t)
        new = exact(s, w) + step
        stored = lax.reduce_precision(new, info.nexp, info.nmant)
        return stored - w, s._replace(lost=None if s.lost is None else new - stored)

    return dataclasses.replace(rule, init=init, update=update, evaluate=lambda s, w: evaluate(s, exact(s, w)))
