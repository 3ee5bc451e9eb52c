"""Muon."""

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple, Unpack

import jax.numpy as jnp

from jaxopt_suite._arguments import CommonBesidesDecay
from jaxopt_suite._frame import transform
from jaxopt_suite._leafwise import Rule, leafwise
from jaxopt_suite._optimizer import optimizer
from jaxopt_suite.optimizers.adam import AdamState, scale_by_adam
from jaxopt_suite.transforms.decay import decayed, excluded
from jaxopt_suite.transforms.orthogonal import orthogonalized


class MuonState(NamedTuple):
    m: Any
    v: Any  # of Adam's half; a lone zero for a matrix


@transform()
def scale_by_muon(
    muon_a: Any = 3.4445,
    muon_b: Any = -4.775,
    muon_c: Any = 2.0315,
    momentum: Any = 0.95,
    ns_steps: int = 5,
    *,
    nesterov: bool = True,
    rms_rate: Any = 0.2,
) -> Rule:
    """The momentum of a matrix made orthogonal; all parameters must be matrices.

    On a mesh with explicit axes its matrix products need `jax.sharding.auto_axes` around `update`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.scale_by_muon(1.5, -0.5, 0.0, ns_steps=20, rms_rate=None)
    >>> w = jnp.array([[3.0, 0.0], [0.0, 0.5]])
    >>> tx.update(w, tx.init(w))[0].round(3)
    Array([[1., 0.],
           [0., 1.]], dtype=float32)
    """

    def init(w: Any) -> MuonState:
        return MuonState(m=jnp.zeros_like(w), v=jnp.zeros((), w.dtype))

    def update(g: Any, s: MuonState, w: Any, t: Any) -> tuple[Any, MuonState]:
        if g.ndim != 2:
            raise ValueError(f"scale_by_muon: a parameter must be a matrix, got one of shape {g.shape}.")
        m = momentum * s.m + g
        x = orthogonalized(g + momentum * m if nesterov else m, ns_steps, muon_a, muon_b, muon_c)
        scale = 1.0 if rms_rate is None else max(g.shape) ** 0.5 * rms_rate
        return -t.learning_rate * scale * x, s._replace(m=m)

    return leafwise(MuonState, init, update, emits_step=True)


def _adam(beta_1: Any, beta_2: Any, epsilon: Any, ratio: Any) -> Rule:
    adam = scale_by_adam(beta_1, beta_2, epsilon).rule

    def update(g: Any, s: MuonState, w: Any, t: Any) -> tuple[Any, MuonState]:
        direction, adams = adam.update(g, AdamState(s.m, s.v, None), w, t)
        return -t.learning_rate * ratio * direction, MuonState(adams.m, adams.v)

    return leafwise(MuonState, lambda w: MuonState(jnp.zeros_like(w), jnp.zeros_like(w)), update, emits_step=True)


@optimizer("Muon", own_decay=("weight_decay", "adam_weight_decay"))
def muon(
    learning_rate: Any = 0.001,
    adam_beta_1: Any = 0.9,
    adam_beta_2: Any = 0.999,
    adam_weight_decay: Any = 0.004,
    epsilon: Any = 1e-7,
    weight_decay: Any = 0.004,
    exclude_layers: Iterable[str] | None = None,
    exclude_embeddings: bool = True,
    muon_a: Any = 3.4445,
    muon_b: Any = -4.775,
    muon_c: Any = 2.0315,
    adam_lr_ratio: Any = 1.0,
    momentum: Any = 0.95,
    ns_steps: int = 5,
    nesterov: bool = True,
    rms_rate: Any = 0.2,
    **common: Unpack[CommonBesidesDecay],
) -> Rule:
    """Muon: momentum made orthogonal for matrices, AdamW for everything else.

        m <- momentum * m + g,    x = g + momentum * m (nesterov) or m
        x <- x / ||x||, then ns_steps times:  x <- a x + (b x x^T + c (x x^T)^2) x
        w <- w - rate * (weight_decay * w + rms_rate * sqrt(max(rows, columns)) * x)

    Adam, at `adam_lr_ratio * rate` and with `adam_weight_decay`, takes what is no matrix, what has "embedding" in
    its path (unless `exclude_embeddings=False`) and what `exclude_layers` finds. Unlike `optax.contrib.muon`, whose
    scale is `consistent_rms`, the look-ahead is not corrected for its bias, and Adam has none.

    >>> import jax, jax.numpy as jnp, jaxopt_suite as jos
    >>> w = {"head": jnp.zeros((2, 2)), "kernel": jnp.zeros((2, 2))}
    >>> tx = jos.muon(1.0, rms_rate=None, exclude_layers="head")
    >>> steps, _ = tx.update(jax.tree.map(lambda w: w + jnp.diag(jnp.array([8.0, 0.1])), w), tx.init(w), w)
    >>> [f"{step[0, 0]:.4f} {step[1, 1]:.4f}" for step in steps.values()]
    ['-1.0000 -1.0000', '-0.6965 -0.8855']

    Reference: Jordan et al., Muon, 2024; Liu et al., Muon is scalable for LLM training, 2025 (`rms_rate`).
    """
    muon = scale_by_muon(muon_a, muon_b, muon_c, momentum, ns_steps, nesterov=nesterov, rms_rate=rms_rate).rule
    matrix = decayed(muon, weight_decay)
    rest = decayed(_adam(adam_beta_1, adam_beta_2, epsilon, adam_lr_ratio), adam_weight_decay)
    listed = excluded(exclude_layers or ()) or (lambda path: False)

    def choose(path: str, w: Any) -> Rule:
        embedding = exclude_embeddings and "embedding" in path.lower()
        return matrix if w.ndim == 2 and not embedding and not listed(path) else rest

    return dataclasses.replace(matrix, choose=choose, reads_weights=matrix.reads_weights or rest.reads_weights)
