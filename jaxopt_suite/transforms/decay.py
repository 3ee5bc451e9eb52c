"""Decoupled weight decay."""

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any

from jaxopt_suite._check import is_zero
from jaxopt_suite._frame import transform
from jaxopt_suite._leafwise import Rule, each, leafwise


@transform()
def add_decayed_weights(weight_decay: Any = 0.0, *, exclude_from_weight_decay: Iterable[str] = ()) -> Rule:
    """Adds `weight_decay * w` to what travels down the chain, as `optax.add_decayed_weights` does.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.add_decayed_weights(0.1, exclude_from_weight_decay="bias")
    >>> params = {"bias": jnp.ones(1), "kernel": jnp.ones(1)}
    >>> tx.update({"bias": jnp.zeros(1), "kernel": jnp.zeros(1)}, tx.init(params), params)[0]
    {'bias': Array([0.], dtype=float32), 'kernel': Array([0.1], dtype=float32)}
    """
    added = leafwise(None, None, lambda g, s, w, t: (g + weight_decay * w, s), reads_weights=True, decay=weight_decay)
    return except_for(added, leafwise(None, None, lambda g, s, w, t: (g, s)), excluded(exclude_from_weight_decay))


def decayed(
    rule: Rule, weight_decay: Any, exclude: Callable[[str], bool] | None = None, *, by_rate: bool = True
) -> Rule:
    """Keras's stage: `w <- w - w * weight_decay * rate` before the rule, which sees the decayed weights.

    Without `by_rate` it is that of TF Addons: `w <- w - w * weight_decay`.
    """
    if is_off(weight_decay):
        return rule

    def decay(rule: Rule) -> Rule:
        def update(g: Any, s: Any, w: Any, t: Any) -> tuple[Any, Any]:
            loss = w * (weight_decay * t.learning_rate if by_rate else weight_decay)
            step, s = rule.update(g, s, w - loss, t)
            return step - loss, s

        return dataclasses.replace(rule, update=update, reads_weights=True, decay=weight_decay)

    return except_for(each(decay, rule), rule, exclude)


def with_decay(u: Any, weight_decay: Any, w: Any) -> Any:
    """`u + weight_decay * w`, and `u` where the decay is off: for the sake of NaN, XLA would compute `0 * w`."""
    return u if is_off(weight_decay) else u + weight_decay * w


def is_off(weight_decay: Any) -> bool:
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

    def choose(path: str, w: Any) -> Rule:
        chosen = other if exclude(path) else rule
        return chosen.choose(path, w) if chosen.choose else chosen

    return dataclasses.replace(rule, choose=choose)
