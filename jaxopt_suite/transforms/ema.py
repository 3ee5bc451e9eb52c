"""The exponential moving average of the parameters."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxopt_suite._frame import transform
from jaxopt_suite._leafwise import Rule, leafwise
from jaxopt_suite._pipeline import AVERAGE


class EmaState(NamedTuple):
    """The averages of the parameters."""

    average: Any
    weights_rank = 0


@transform(place=AVERAGE)
def ema(ema_momentum: Any = 0.99, *, ema_overwrite_frequency: int | None = None) -> Rule:
    """Averages the parameters, `a <- m * a + (1 - m) * w`, from their initial values on.

    `w` is the parameter after the step, so this must come last in an `optax.chain`. Every
    `ema_overwrite_frequency` steps the parameters become their average. Unlike `optax.ema` this averages
    parameters, not updates, and does not debias.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.ema(0.5, ema_overwrite_frequency=1)
    >>> tx.update(jnp.array(-1.0), tx.init(jnp.array(2.0)), jnp.array(2.0))[0]
    Array(-0.5, dtype=float32)
    """

    def init(w: Any) -> EmaState:
        return EmaState(average=w)

    def update(x: Any, s: EmaState, w: Any, t: Any) -> tuple[Any, EmaState]:
        a = ema_momentum * s.average + (1 - ema_momentum) * (w + x)
        if ema_overwrite_frequency is not None:
            x = jnp.where(t.step % ema_overwrite_frequency == 0, a - w, x)
        return x, EmaState(a)

    return leafwise(EmaState, init, update, reads_weights=True, final=lambda s, w: s.average)
