"""AdamW."""

from typing import Any, Unpack

from jaxopt_suite._arguments import CommonBesidesDecay
from jaxopt_suite._frame import Transformation
from jaxopt_suite._optimizer import optimizer
from jaxopt_suite.optimizers.adam import scale_by_adam


@optimizer("AdamW")
def adamw(
    learning_rate: Any = 0.001,
    weight_decay: Any = 0.004,
    beta_1: Any = 0.9,
    beta_2: Any = 0.999,
    epsilon: Any = 1e-7,
    amsgrad: bool = False,
    **common: Unpack[CommonBesidesDecay],
) -> Transformation:
    """AdamW: Adam with decoupled weight decay.

        w <- w - rate * weight_decay * w,    then Adam's step

    The legacy dialect is TF Addons' AdamW: `w <- w - weight_decay * w`, which the rate does not scale. Unlike
    `optax.adamw` the default decay is 0.004, not 0.0001, and `epsilon` is the paper's "epsilon hat".

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> for dialect in "keras", "legacy":
    ...     tx = jos.adamw(0.1, weight_decay=0.5, dialect=dialect)
    ...     print(f"{tx.update(jnp.array(4.0), tx.init(jnp.array(2.0)), jnp.array(2.0))[0]:.4f}")
    -0.2000
    -1.1000

    Reference: Loshchilov and Hutter, Decoupled weight decay regularization, ICLR 2019.
    """
    if weight_decay is None:
        raise ValueError("adamw: weight_decay must be a number >= 0, got None. Adam without decay is `adam`.")
    return scale_by_adam(beta_1, beta_2, epsilon, amsgrad=amsgrad)
