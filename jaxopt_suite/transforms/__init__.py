"""The primitives, each usable alone in `optax.chain`."""

from jaxopt_suite.optimizers.adam import scale_by_adam as scale_by_adam
from jaxopt_suite.optimizers.novograd import scale_by_novograd as scale_by_novograd
from jaxopt_suite.optimizers.sgd import scale_by_momentum as scale_by_momentum
from jaxopt_suite.transforms.accumulate import accumulate as accumulate
from jaxopt_suite.transforms.aggregate import aggregate_gradients as aggregate_gradients
from jaxopt_suite.transforms.clip import clip_by_global_norm as clip_by_global_norm
from jaxopt_suite.transforms.clip import clip_by_norm as clip_by_norm
from jaxopt_suite.transforms.clip import clip_by_value as clip_by_value
from jaxopt_suite.transforms.decay import add_decayed_weights as add_decayed_weights
from jaxopt_suite.transforms.ema import ema as ema
from jaxopt_suite.transforms.scale import unscale as unscale
from jaxopt_suite.transforms.scale import unscale_dynamically as unscale_dynamically
