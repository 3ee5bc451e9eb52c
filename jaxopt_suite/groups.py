"""Composition that keeps the recipe: one optimizer for some parameters, several in a row, one of Optax's."""

from jaxopt_suite._compositions.by_path import by_path as by_path
from jaxopt_suite._compositions.chain import chain as chain
from jaxopt_suite._compositions.from_optax import from_optax as from_optax
from jaxopt_suite._compositions.frozen import frozen as frozen
from jaxopt_suite._compositions.paths import paths as paths
