"""Sparse gradients for embedding tables: the rows that were looked up, and nothing else."""

from jaxopt_suite._slices import IndexedSlices as IndexedSlices
from jaxopt_suite.sparse._gradients import value_and_grad as value_and_grad

IndexedSlices.__module__ = value_and_grad.__module__ = __name__
