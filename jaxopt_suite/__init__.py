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
from jaxopt_suite.optimizers.adam import adam as adam
from jaxopt_suite.optimizers.novograd import novograd as novograd
from jaxopt_suite.optimizers.sgd import sgd as sgd
