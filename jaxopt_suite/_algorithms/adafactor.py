"""Adafactor."""

from __future__ import annotations

import warnings
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import transform
from jaxopt_suite._frame.leafwise import Moment, Rule, leafwise
from jaxopt_suite._frame.roots import quotient, root
from jaxopt_suite._optimizer import Common, optimizer
from jaxopt_suite._recipe.words import Negative, NonNegative, Positive, Rate, scalar
from jaxopt_suite.state._layout import state_class

SENTENCES = {
    "beta_2_decay": "`1 - step ** beta_2_decay` is the decay of the second moment.",
    "epsilon_1": "small number that is added to the squared gradient.",
    "epsilon_2": "least root mean square of the weights that a step is in proportion to.",
    "clip_threshold": "largest root mean square of the normalised gradient.",
    "relative_step": "changes nothing, as in Keras: see `cap_rate`.",
    "cap_rate": "let the rate be at most `1 / sqrt(step)`.",
}
RELATIVE_STEP = "adafactor: relative_step=False changes nothing, as in Keras; cap_rate=False takes the minimum away."


@state_class
class AdafactorState(NamedTuple):
    r: jax.Array  # (..., n) of a parameter (..., n, m); a lone zero for a vector
    c: jax.Array  # (..., m); a lone zero for a vector
    v: jax.Array  # of a vector; a lone zero for what is factored
    nonnegative = ("r", "c", "v")


@transform(sentences=SENTENCES)
def scale_by_adafactor(
    beta_2_decay: Negative = -0.8,
    epsilon_1: NonNegative = 1e-30,
    epsilon_2: NonNegative = 1e-3,
    clip_threshold: Positive = 1.0,
    *,
    cap_rate: bool = True,
) -> Rule:
    """The direction of Adafactor, as long as the weights ask for; used alone, it is that of a rate of 1.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx, w = jos.transforms.scale_by_adafactor(), jnp.full((2, 3), 2.0)
    >>> direction, state = tx.update(jnp.array([[0.5, 0.0, 0.0], [0.0, 0.0, 0.0]]), tx.init(w), w)
    >>> jnp.sign(direction), [slot.shape for slot in jos.state.variables(state).values()]
    (Array([[1., 0., 0.], [0., 0., 0.]], dtype=float32), [(), (2,), (3,), ()])
    """
    beta_2_decay, clip_threshold = scalar(beta_2_decay), scalar(clip_threshold)
    epsilon_1, epsilon_2 = scalar(epsilon_1), scalar(epsilon_2)

    def init(w: jax.Array) -> AdafactorState:
        none = jnp.zeros((), w.dtype)
        if w.ndim < 2:
            return AdafactorState(r=none, c=none, v=jnp.zeros_like(w))
        return AdafactorState(r=jnp.zeros_like(jnp.sum(w, axis=-1)), c=jnp.zeros_like(jnp.sum(w, axis=-2)), v=none)

    def normalised(g: jax.Array, s: AdafactorState, t: Moment) -> tuple[jax.Array, AdafactorState]:
        """`g / sqrt(v)`; the two factors are rooted one by one, because their product may underflow."""
        b = 1 - t.count**beta_2_decay
        q = g * g + epsilon_1
        if g.ndim < 2:
            v = b * s.v + (1 - b) * q
            return g / root(v), s._replace(v=v)
        r = b * s.r + (1 - b) * t.mean(q, axis=-1)
        c = b * s.c + (1 - b) * t.mean(q, axis=-2)
        rows, columns = root(quotient(r, t.mean(r[..., None], axis=-2))), root(c)
        return g / rows[..., None] / columns[..., None, :], s._replace(r=r, c=c)

    def update(g: jax.Array, s: AdafactorState, w: jax.Array, t: Moment) -> tuple[jax.Array, AdafactorState]:
        u, s = normalised(g, s, t)
        rho = jnp.minimum(t.learning_rate, 1 / root(t.count)) if cap_rate else t.learning_rate
        alpha = jnp.maximum(epsilon_2, root(t.mean(w * w))) * rho
        return -alpha / jnp.maximum(1.0, root(t.mean(u * u)) / clip_threshold) * u, s

    return leafwise(AdafactorState, init, update, returns_update=True, reads_weights=True)


@optimizer("Adafactor", sentences=SENTENCES)
def adafactor(
    learning_rate: Rate = 0.001,
    beta_2_decay: Negative = -0.8,
    epsilon_1: NonNegative = 1e-30,
    epsilon_2: NonNegative = 1e-3,
    clip_threshold: Positive = 1.0,
    relative_step: bool = True,
    cap_rate: bool = True,
    **common: Unpack[Common],
) -> Rule:
    """Adafactor: Adam's second moment kept as row means and column means, steps in proportion to the weights.

        b = 1 - t^beta_2_decay,    q = g^2 + epsilon_1
        r <- b r + (1 - b) mean_columns(q),    c <- b c + (1 - b) mean_rows(q),    v = r c^T / mean(r)
        u = g / sqrt(v),    u <- u / max(1, rms(u) / clip_threshold)
        w <- w - min(rate, 1 / sqrt(t)) * max(epsilon_2, rms(w)) * u

    The last two axes of all matrices are factored; vectors keep all of `v`. `cap_rate=False` takes the minimum away,
    `relative_step=False` changes nothing, as in Keras. Unlike there no factored `v` is stored, and a row and a column
    without gradients give no NaN. `optax.adafactor` factors the two largest axes from 128 on, and takes no minimum.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> for cap_rate in True, False:
    ...     tx, w = jos.adafactor(2.0, cap_rate=cap_rate), jnp.array([3.0])
    ...     print(tx.apply_gradients(jnp.array([0.1]), tx.init(w), w)[0])
    [0.]
    [-3.]

    Reference: Shazeer and Stern, Adafactor: adaptive learning rates with sublinear memory cost, ICML 2018.
    """
    if not relative_step:
        warnings.warn(RELATIVE_STEP, stacklevel=2)
    return scale_by_adafactor.rule(beta_2_decay, epsilon_1, epsilon_2, clip_threshold, cap_rate=cap_rate)
