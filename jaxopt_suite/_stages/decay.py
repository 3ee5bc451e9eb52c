"""Decoupled weight decay."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, leafwise, map_rule
from jaxopt_suite._recipe.check import is_zero
from jaxopt_suite._recipe.words import NonNegative, Number, Patterns, scalar

DecayKind: TypeAlias = Literal["by rate", "alone", "penalty"]


@transform()
def add_decayed_weights(weight_decay: NonNegative = 0.0, *, exclude_from_weight_decay: Patterns = ()) -> Rule:
    """Adds `weight_decay * w` to what travels down the chain, as `optax.add_decayed_weights` does.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.add_decayed_weights(0.1, exclude_from_weight_decay="bias")
    >>> params = {"bias": jnp.ones(1), "kernel": jnp.ones(1)}
    >>> tx.update({"bias": jnp.zeros(1), "kernel": jnp.zeros(1)}, tx.init(params), params)[0]
    {'bias': Array([0.], dtype=float32), 'kernel': Array([0.1], dtype=float32)}
    """
    weight_decay = scalar(weight_decay)
    added = leafwise(None, None, lambda g, s, w, t: (g + weight_decay * w, s), reads_weights=True, decay=weight_decay)
    return except_for(added, leafwise(None, None, lambda g, s, w, t: (g, s)), excluded(exclude_from_weight_decay))


def decayed(
    rule: Rule,
    weight_decay: Number | None,
    exclude: Callable[[str], bool] | None = None,
    kind: DecayKind = "by rate",
) -> Rule:
    """Keras's stage: `w <- w - w * weight_decay * rate` before the rule, which sees the decayed weights.

    `"alone"` is that of TF Addons, `w <- w - w * weight_decay`; a `"penalty"` is PyTorch's, in the gradient that the
    rule sees: `g + weight_decay * w`.
    """
    if weight_decay is None or is_zero(weight_decay):
        return rule
    strength = scalar(weight_decay)

    def decay(rule: Rule) -> Rule:
        def update(g: jax.Array, s: object, w: jax.Array, t: Moment) -> tuple[jax.Array, object]:
            if kind == "penalty":
                return rule.update(g + strength * w, s, w, t)
            loss = w * (strength * t.learning_rate if kind == "by rate" else strength)
            step, s = rule.update(g, s, w - loss, t)
            return step - loss, s

        decays = dataclasses.replace(rule, update=update, reads_weights=True, decay=weight_decay)
        if kind != "alone" or rule.rows is not None or not rule.elementwise:
            return decays
        # the decay of TF Addons touches the rows of a sparse gradient alone, whatever the rule behind it does
        return dataclasses.replace(decays, rows=decays, absent=lambda s, w, t: rule.update(jnp.zeros_like(w), s, w, t))

    return except_for(map_rule(decay, rule), rule, exclude)


def with_decay(u: jax.Array, weight_decay: Number | None, w: jax.Array) -> jax.Array:
    """`u + weight_decay * w`, and `u` where the decay is off: for the sake of NaN, XLA would compute `0 * w`."""
    return u if weight_decay is None or is_zero(weight_decay) else u + scalar(weight_decay) * w


def is_off(weight_decay: Number | None) -> bool:
    return weight_decay is None or is_zero(weight_decay)


def excluded(patterns: Iterable[str]) -> Callable[[str], bool] | None:
    """Whether any of the regexes is found in a path; None where there are none."""
    compiled = [re.compile(pattern) for pattern in patterns]
    if not compiled:
        return None
    return lambda path: any(pattern.search(path) for pattern in compiled)


def except_for(rule: Rule, other: Rule, exclude: Callable[[str], bool] | None) -> Rule:
    """`rule`, but `other` for the parameters that `exclude` names."""
    if exclude is None:
        return rule

    def choose(path: str, w: jax.Array) -> Rule:
        chosen = other if exclude(path) else rule
        return chosen.of(path, w)

    return dataclasses.replace(rule, choose=choose)
