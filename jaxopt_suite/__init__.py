"""Optimizers for JAX with the numbers of Keras and TensorFlow Addons."""

from jaxopt_suite import schedules as schedules
from jaxopt_suite import state as state
from jaxopt_suite import transforms as transforms
from jaxopt_suite._config import deserialize as deserialize
from jaxopt_suite._config import get as get
from jaxopt_suite._config import serialize as serialize
from jaxopt_suite._frame import Optimizer as Optimizer
from jaxopt_suite._leafwise import leafwise as leafwise
from jaxopt_suite._optimizer import optimizer as optimizer
from jaxopt_suite.optimizers.adadelta import adadelta as adadelta
from jaxopt_suite.optimizers.adafactor import adafactor as adafactor
from jaxopt_suite.optimizers.adagrad import adagrad as adagrad
from jaxopt_suite.optimizers.adam import adam as adam
from jaxopt_suite.optimizers.adamax import adamax as adamax
from jaxopt_suite.optimizers.adamw import adamw as adamw
from jaxopt_suite.optimizers.ftrl import ftrl as ftrl
from jaxopt_suite.optimizers.lamb import lamb as lamb
from jaxopt_suite.optimizers.lion import lion as lion
from jaxopt_suite.optimizers.muon import muon as muon
from jaxopt_suite.optimizers.nadam import nadam as nadam
from jaxopt_suite.optimizers.novograd import novograd as novograd
from jaxopt_suite.optimizers.rmsprop import rmsprop as rmsprop
from jaxopt_suite.optimizers.schedule_free_adamw import schedule_free_adamw as schedule_free_adamw
from jaxopt_suite.optimizers.sgd import sgd as sgd
