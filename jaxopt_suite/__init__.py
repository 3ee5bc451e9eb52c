"""Optimizers for JAX with the numbers of Keras and TensorFlow Addons."""

from jaxopt_suite import schedules as schedules
from jaxopt_suite import state as state
from jaxopt_suite import transforms as transforms
from jaxopt_suite._algorithms.adabelief import adabelief as adabelief
from jaxopt_suite._algorithms.adadelta import adadelta as adadelta
from jaxopt_suite._algorithms.adafactor import adafactor as adafactor
from jaxopt_suite._algorithms.adagrad import adagrad as adagrad
from jaxopt_suite._algorithms.adam import adam as adam
from jaxopt_suite._algorithms.adamax import adamax as adamax
from jaxopt_suite._algorithms.adamw import adamw as adamw
from jaxopt_suite._algorithms.cocob import cocob as cocob
from jaxopt_suite._algorithms.conditional_gradient import conditional_gradient as conditional_gradient
from jaxopt_suite._algorithms.ftrl import ftrl as ftrl
from jaxopt_suite._algorithms.lamb import lamb as lamb
from jaxopt_suite._algorithms.lazy_adam import lazy_adam as lazy_adam
from jaxopt_suite._algorithms.lion import lion as lion
from jaxopt_suite._algorithms.muon import muon as muon
from jaxopt_suite._algorithms.nadam import nadam as nadam
from jaxopt_suite._algorithms.novograd import novograd as novograd
from jaxopt_suite._algorithms.proximal_adagrad import proximal_adagrad as proximal_adagrad
from jaxopt_suite._algorithms.radam import radam as radam
from jaxopt_suite._algorithms.rmsprop import rmsprop as rmsprop
from jaxopt_suite._algorithms.schedule_free_adamw import schedule_free_adamw as schedule_free_adamw
from jaxopt_suite._algorithms.sgd import sgd as sgd
from jaxopt_suite._algorithms.sgdw import sgdw as sgdw
from jaxopt_suite._algorithms.yogi import yogi as yogi
from jaxopt_suite._frame.leafwise import Moment as Moment
from jaxopt_suite._frame.leafwise import Rule as Rule
from jaxopt_suite._frame.leafwise import leafwise as leafwise
from jaxopt_suite._optimizer import optimizer as optimizer
from jaxopt_suite._recipe.config import deserialize as deserialize
from jaxopt_suite._recipe.config import get as get
from jaxopt_suite._recipe.config import serialize as serialize
from jaxopt_suite._report.compare import compare as compare
from jaxopt_suite._report.explain import explain as explain
from jaxopt_suite._stages.average import moving_average as moving_average
from jaxopt_suite._stages.average import swa as swa
from jaxopt_suite._stages.lookahead import lookahead as lookahead
from jaxopt_suite._stages.scale import loss_scale as loss_scale
from jaxopt_suite._transformation import Optimizer as Optimizer
from jaxopt_suite.groups import by_path as by_path
from jaxopt_suite.groups import chain as chain
from jaxopt_suite.groups import from_optax as from_optax
from jaxopt_suite.groups import frozen as frozen

__version__ = "0.1.0"
