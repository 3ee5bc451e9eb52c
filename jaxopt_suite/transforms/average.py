"""Averages of the parameters, as TF Addons has them: moving, or of snapshots (SWA)."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxopt_suite._frame import Transformation, transform, wrapper
from jaxopt_suite._leafwise import Rule, leafwise
from jaxopt_suite._pipeline import AVERAGE


class AverageState(NamedTuple):
    """The averages of the parameters."""

    average: Any
    weights_rank = 0


@transform(place=AVERAGE)
def running_average(
    average_decay: Any = 0.99, num_updates: int | None = None, start_step: int = 0, *, dynamic_decay: bool = False
) -> Rule:
    """Keeps the average that `moving_average` describes; updates pass unchanged.

    It needs the parameters after the step, so it must come last in an `optax.chain`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.running_average(0.75)
    >>> updates, state = tx.update(jnp.array(-4.0), tx.init(jnp.array(2.0)), jnp.array(2.0))
    >>> updates, state.stages[0].average
    (Array(-4., dtype=float32), Array(1., dtype=float32))
    """
    highest = average_decay if num_updates is None else jnp.minimum(average_decay, _warming(num_updates))

    def init(w: Any) -> AverageState:
        return AverageState(average=w)

    def update(x: Any, s: AverageState, w: Any, t: Any) -> tuple[Any, AverageState]:
        since = t.count - 1 - start_step
        decay = jnp.minimum(highest, _warming(since)) if dynamic_decay else highest
        decay = jnp.where(since < 0, 0, decay)
        return x, AverageState(s.average - (s.average - (w + x)) * (1 - decay))

    return leafwise(AverageState, init, update, reads_weights=True, final=lambda s, w: s.average)


def _warming(n: Any) -> Any:
    return (1 + n) / (10 + n)


@wrapper("MovingAverage")
def moving_average(
    optimizer: Any,
    average_decay: Any = 0.99,
    num_updates: int | None = None,
    start_step: int = 0,
    dynamic_decay: bool = False,
    name: str | None = None,
) -> Transformation:
    """An exponential moving average of the parameters, for `finalize_variable_values`.

        average <- average - (1 - d) (average - w),    d = average_decay

    after each step, from the initial parameters on. Before `start_step`, `d` is 0: the average is the parameter.
    With `num_updates`, `d` is at most `(1 + n) / (10 + n)` of it, with `dynamic_decay` of the steps since the
    start. Unlike in TF Addons the wrapped optimizer's own clipping acts; `optax.ema` averages updates instead.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.moving_average(jos.sgd(1.0), average_decay=0.5)
    >>> w, state = jnp.array(10.0), tx.init(jnp.array(10.0))
    >>> for _ in range(3):
    ...     w, state = tx.apply_gradients(jnp.array(1.0), state, w)
    ...     print(w, tx.finalize_variable_values(state, w))
    9.0 9.5
    8.0 8.75
    7.0 7.875

    Reference: Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992.
    """
    return running_average(average_decay, num_updates, start_step, dynamic_decay=dynamic_decay)


@transform(place=AVERAGE)
def snapshot_average(start_averaging: int = 0, average_period: int = 10) -> Rule:
    """Keeps the average of snapshots that `swa` describes; updates pass unchanged.

    It needs the parameters after the step, so it must come last in an `optax.chain`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.snapshot_average(average_period=1)
    >>> w, state = jnp.array(2.0), tx.init(jnp.array(2.0))
    >>> for step in -1.0, -2.0:
    ...     w, state = w + step, tx.update(jnp.array(step), state, w)[1]
    >>> state.stages[0].average
    Array(0., dtype=float32)
    """

    def init(w: Any) -> AverageState:
        return AverageState(average=w)

    def update(x: Any, s: AverageState, w: Any, t: Any) -> tuple[Any, AverageState]:
        since = t.step - 1 - start_averaging
        k = (since // average_period).astype(w.dtype)  # snapshots so far
        mean = s.average + (w + x - s.average) / (k + 1)
        snapshot = (since >= 0) & (since % average_period == 0)
        return x, AverageState(jnp.where(snapshot, mean, s.average))

    return leafwise(AverageState, init, update, reads_weights=True, final=lambda s, w: s.average)


@wrapper("SWA")
def swa(optimizer: Any, start_averaging: int = 0, average_period: int = 10, name: str | None = None) -> Transformation:
    """Stochastic weight averaging: the mean of snapshots of the parameters, for `finalize_variable_values`.

        average <- (k * average + w) / (k + 1)

    where `k` is the number of snapshots before; one is taken after step `start_averaging` (the first step is 0)
    and every `average_period` steps from there. Unlike in TF Addons the average is that of the initial
    parameters, not zero, before the first snapshot; and the wrapped optimizer's own clipping acts.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.swa(jos.sgd(1.0), start_averaging=1, average_period=2)
    >>> w, state = jnp.array(9.0), tx.init(jnp.array(9.0))
    >>> for _ in range(4):
    ...     w, state = tx.apply_gradients(jnp.array(1.0), state, w)
    ...     print(w, tx.finalize_variable_values(state, w))
    8.0 9.0
    7.0 7.0
    6.0 7.0
    5.0 6.0

    Reference: Izmailov et al., Averaging weights leads to wider optima and better generalization, UAI 2018.
    """
    return snapshot_average(start_averaging, average_period)
