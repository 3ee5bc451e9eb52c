"""Optimizers and their states from other libraries: a run goes on here where it stopped there.

Each gives an `Imported`: the optimizer, where its settings can be read, its state, and the report of `migrate`. What
arrays look like is the caller's: `rename` takes a parameter's path there to the one here, and `transform(path, array)`
lays out a slot's array as the parameter here is. Flax and Keras have a dense kernel as `(in, out)` and a convolution's
as `(height, width, in, out)`; torch has `(out, in)` and `(out, in, height, width)`.

Files are data: nothing of them is unpickled, imported or evaluated.
"""

from jaxopt_suite.importers._imported import Imported as Imported
from jaxopt_suite.importers._keras import keras as keras
from jaxopt_suite.importers._optax import optax as optax
from jaxopt_suite.importers._torch import torch as torch
