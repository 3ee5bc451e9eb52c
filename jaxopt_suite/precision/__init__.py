"""Training in 16 bits: how parameters are written, and how the slots of an optimizer are stored."""

from jaxopt_suite._stages.store import state_dtype as state_dtype
from jaxopt_suite._stages.write import kahan_summation as kahan_summation
from jaxopt_suite._stages.write import master_weights as master_weights
from jaxopt_suite._stages.write import stochastic_rounding as stochastic_rounding
