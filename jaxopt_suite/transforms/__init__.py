"""The primitives, each usable alone in `optax.chain`."""

from jaxopt_suite.optimizers.adadelta import scale_by_adadelta as scale_by_adadelta
from jaxopt_suite.optimizers.adafactor import scale_by_adafactor as scale_by_adafactor
from jaxopt_suite.optimizers.adagrad import scale_by_adagrad as scale_by_adagrad
from jaxopt_suite.optimizers.adam import scale_by_adam as scale_by_adam
from jaxopt_suite.optimizers.adamax import scale_by_adamax as scale_by_adamax
from jaxopt_suite.optimizers.ftrl import scale_by_ftrl as scale_by_ftrl
from jaxopt_suite.optimizers.lamb import scale_by_lamb as scale_by_lamb
from jaxopt_suite.optimizers.lion import scale_by_lion as scale_by_lion
from jaxopt_suite.optimizers.muon import scale_by_muon as scale_by_muon
from jaxopt_suite.optimizers.nadam import scale_by_nadam as scale_by_nadam
from jaxopt_suite.optimizers.novograd import scale_by_novograd as scale_by_novograd
from jaxopt_suite.optimizers.rmsprop import scale_by_rmsprop as scale_by_rmsprop
from jaxopt_suite.optimizers.schedule_free_adamw import scale_by_schedule_free_adamw as scale_by_schedule_free_adamw
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
