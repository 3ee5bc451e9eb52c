"""Muon."""

from __future__ import annotations

import dataclasses
from typing import Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._algorithms import _orthogonal
from jaxopt_suite._algorithms._orthogonal import MuonState, scale_by_muon
from jaxopt_suite._algorithms.adam import AdamState, scale_by_adam
from jaxopt_suite._frame.leafwise import Moment, Rule, leafwise
from jaxopt_suite._optimizer import CommonBesidesDecay, optimizer
from jaxopt_suite._recipe.words import Beta, Count, Fraction, NonNegative, Number, Patterns, Rate, Real, scalar
from jaxopt_suite._stages.decay import decayed, excluded

SENTENCES = {
    **_orthogonal.SENTENCES,
    "adam_beta_1": "`beta_1` of the parameters that Adam takes.",
    "adam_beta_2": "`beta_2` of the parameters that Adam takes.",
    "adam_weight_decay": "`weight_decay` of the parameters that Adam takes.",
    "adam_lr_ratio": "rate of the parameters that Adam takes, over `learning_rate`.",
    "exclude_layers": "regexes (`re.search` on a parameter's path) that Adam takes.",
    "exclude_embeddings": 'let Adam take the parameters that have "embedding" in their path.',
}


def _adam(beta_1: Number, beta_2: Number, epsilon: Number, ratio: Number) -> Rule:
    ratio = scalar(ratio)
    adam = scale_by_adam.rule(beta_1, beta_2, epsilon)

    def update(g: jax.Array, s: MuonState, w: jax.Array, t: Moment) -> tuple[jax.Array, MuonState]:
        direction, adams = adam.update(g, AdamState(s.m, s.v, None), w, t)
        return -t.learning_rate * ratio * direction, MuonState(adams.m, adams.v)

    return leafwise(MuonState, lambda w: MuonState(jnp.zeros_like(w), jnp.zeros_like(w)), update, returns_update=True)


@optimizer("Muon", own_decay=("weight_decay", "adam_weight_decay"), sentences=SENTENCES)
def muon(
    learning_rate: Rate = 0.001,
    adam_beta_1: Beta = 0.9,
    adam_beta_2: Beta = 0.999,
    adam_weight_decay: NonNegative | None = 0.004,
    epsilon: NonNegative = 1e-7,
    weight_decay: NonNegative | None = 0.004,
    exclude_layers: Patterns | None = None,
    exclude_embeddings: bool = True,
    muon_a: Real = 3.4445,
    muon_b: Real = -4.775,
    muon_c: Real = 2.0315,
    adam_lr_ratio: NonNegative = 1.0,
    momentum: Fraction = 0.95,
    ns_steps: Count = 5,
    nesterov: bool = True,
    rms_rate: NonNegative | None = 0.2,
    **common: Unpack[CommonBesidesDecay],
) -> Rule:
    """Muon: momentum made orthogonal for matrices, AdamW for everything else.

        m <- momentum * m + g,    x = g + momentum * m (nesterov) or m
        x <- x / ||x||,    then ns_steps times:  x <- a x + (b x x^T + c (x x^T)^2) x
        w <- w - rate * (weight_decay * w + rms_rate * sqrt(max(rows, columns)) * x)

    Adam, at `adam_lr_ratio * rate` and with `adam_weight_decay`, takes what is no matrix, what has "embedding" in
    its path (unless `exclude_embeddings=False`) and what `exclude_layers` finds. Unlike `optax.contrib.muon`, whose
    scale is `consistent_rms`, the look-ahead is not corrected for its bias, and Adam has no look-ahead.

    >>> import jax, jax.numpy as jnp, jaxopt_suite as jos
    >>> w = {"head": jnp.zeros((2, 2)), "kernel": jnp.zeros((2, 2))}
    >>> tx = jos.muon(1.0, rms_rate=None, exclude_layers="head")
    >>> steps, _ = tx.update(jax.tree.map(lambda w: w + jnp.diag(jnp.array([8.0, 0.1])), w), tx.init(w), w)
    >>> [f"{step[0, 0]:.4f} {step[1, 1]:.4f}" for step in steps.values()]
    ['-1.0000 -1.0000', '-0.6965 -0.8855']

    Reference: Jordan et al., Muon, 2024; Liu et al., Muon is scalable for LLM training, 2025 (`rms_rate`).
    """
    rule = scale_by_muon.rule(muon_a, muon_b, muon_c, momentum, ns_steps, nesterov=nesterov, rms_rate=rms_rate)
    matrix = decayed(rule, weight_decay)
    rest = decayed(_adam(adam_beta_1, adam_beta_2, epsilon, adam_lr_ratio), adam_weight_decay)
    listed = excluded(exclude_layers or ()) or (lambda path: False)

    def choose(path: str, w: jax.Array) -> Rule:
        embedding = exclude_embeddings and "embedding" in path.lower()
        return matrix if w.ndim == 2 and not embedding and not listed(path) else rest

    return dataclasses.replace(matrix, choose=choose, reads_weights=matrix.reads_weights or rest.reads_weights)
