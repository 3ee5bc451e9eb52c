"""Averages of the parameters: exponential as in Keras, moving and of snapshots (SWA) as in TF Addons."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_suite._declare import Inner, transform, wrapper
from jaxopt_suite._frame.leafwise import Moment, Rule, leafwise
from jaxopt_suite._frame.stages import AnyStage, Place
from jaxopt_suite._recipe.words import Count, Fraction, Period, Scalar, Text, scalar
from jaxopt_suite.state._layout import state_class

SENTENCES = {
    "average_decay": "share of the old average that is kept each step.",
    "num_updates": "updates `n` so far: the decay is at most `(1 + n) / (10 + n)`.",
    "start_step": "step to start from; until then the average is the parameter.",
    "dynamic_decay": "let the decay grow with the steps `n` since the start, as `(1 + n) / (10 + n)`.",
    "start_averaging": "step of the first snapshot.",
    "average_period": "steps between two snapshots.",
}


@state_class
class EmaState(NamedTuple):
    """The averages of the parameters."""

    average: jax.Array
    weights_rank = 0
    holds_weights = ("average",)


@transform(Place.AVERAGE)
def ema(ema_momentum: Fraction = 0.99, *, ema_overwrite_frequency: Period | None = None) -> Rule:
    """Averages the parameters, `a <- m * a + (1 - m) * w`, from their initial values on.

    `w` is the parameter after the step, so this must come last in an `optax.chain`. Every
    `ema_overwrite_frequency` steps the parameters become their average. Unlike `optax.ema` this averages
    parameters, not updates, and does not debias.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.ema(0.5, ema_overwrite_frequency=1)
    >>> tx.update(jnp.array(-1.0), tx.init(jnp.array(2.0)), jnp.array(2.0))[0]
    Array(-0.5, dtype=float32)
    """
    momentum = scalar(ema_momentum)

    def init(w: jax.Array) -> EmaState:
        return EmaState(average=w)

    def update(x: jax.Array, s: EmaState, w: jax.Array, t: Moment) -> tuple[jax.Array, EmaState]:
        a = momentum * s.average + (1 - momentum) * (w + x)
        if ema_overwrite_frequency is not None:
            x = jnp.where(t.step % ema_overwrite_frequency == 0, a - w, x)
        return x, EmaState(a)

    return leafwise(EmaState, init, update, reads_weights=True, evaluate=lambda s, w: s.average)


@state_class
class AverageState(NamedTuple):
    """The averages of the parameters."""

    average: jax.Array
    weights_rank = 0
    holds_weights = ("average",)


@transform(Place.AVERAGE, sentences=SENTENCES)
def running_average(
    average_decay: Fraction = 0.99,
    num_updates: Count | None = None,
    start_step: Count = 0,
    *,
    dynamic_decay: bool = False,
) -> Rule:
    """Keeps the average that `moving_average` describes; updates pass unchanged.

    It needs the parameters after the step, so it must come last in an `optax.chain`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.running_average(0.75)
    >>> updates, state = tx.update(jnp.array(-4.0), tx.init(jnp.array(2.0)), jnp.array(2.0))
    >>> updates, jos.state.get_slot(state, '', 'average')
    (Array(-4., dtype=float32), Array(1., dtype=float32))
    """
    asked = scalar(average_decay)

    def init(w: jax.Array) -> AverageState:
        return AverageState(average=w)

    def update(x: jax.Array, s: AverageState, w: jax.Array, t: Moment) -> tuple[jax.Array, AverageState]:
        highest = asked if num_updates is None else jnp.minimum(asked, _warming(num_updates))
        since = t.count - 1 - start_step
        decay = jnp.minimum(highest, _warming(since)) if dynamic_decay else highest
        decay = jnp.where(since < 0, 0, decay)
        return x, AverageState(s.average - (s.average - (w + x)) * (1 - decay))

    return leafwise(AverageState, init, update, reads_weights=True, evaluate=lambda s, w: s.average)


def _warming(n: Scalar) -> Scalar:
    return (1 + n) / (10 + n)


@wrapper("MovingAverage", sentences=SENTENCES)
def moving_average(
    optimizer: Inner,
    average_decay: Fraction = 0.99,
    num_updates: Count | None = None,
    start_step: Count = 0,
    dynamic_decay: bool = False,
    name: Text | None = None,
) -> AnyStage:
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
    return running_average.stage(average_decay, num_updates, start_step, dynamic_decay=dynamic_decay)


@transform(Place.AVERAGE, sentences=SENTENCES)
def snapshot_average(start_averaging: Count = 0, average_period: Period = 10) -> Rule:
    """Keeps the average of snapshots that `swa` describes; updates pass unchanged.

    It needs the parameters after the step, so it must come last in an `optax.chain`.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.transforms.snapshot_average(average_period=1)
    >>> w, state = jnp.array(2.0), tx.init(jnp.array(2.0))
    >>> for step in -1.0, -2.0:
    ...     w, state = w + step, tx.update(jnp.array(step), state, w)[1]
    >>> jos.state.get_slot(state, '', 'average')
    Array(0., dtype=float32)
    """

    def init(w: jax.Array) -> AverageState:
        return AverageState(average=w)

    def update(x: jax.Array, s: AverageState, w: jax.Array, t: Moment) -> tuple[jax.Array, AverageState]:
        since = t.step - 1 - start_averaging
        k = jnp.maximum(since // average_period, 0).astype(w.dtype)  # snapshots so far
        mean = s.average + (w + x - s.average) / (k + 1)
        snapshot = (since >= 0) & (since % average_period == 0)
        return x, AverageState(jnp.where(snapshot, mean, s.average))

    return leafwise(AverageState, init, update, reads_weights=True, evaluate=lambda s, w: s.average)


@wrapper("SWA", sentences=SENTENCES)
def swa(
    optimizer: Inner, start_averaging: Count = 0, average_period: Period = 10, name: Text | None = None
) -> AnyStage:
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
    return snapshot_average.stage(start_averaging, average_period)
