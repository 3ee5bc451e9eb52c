"""Schedules with the formulas of Keras, TF Addons and PyTorch: functions of the step that have a recipe."""

from jaxopt_suite.schedules._cosine import cosine_decay as cosine_decay
from jaxopt_suite.schedules._cosine import cosine_decay_restarts as cosine_decay_restarts
from jaxopt_suite.schedules._cycle import one_cycle as one_cycle
from jaxopt_suite.schedules._cycle import warmup_stable_decay as warmup_stable_decay
from jaxopt_suite.schedules._cyclical import cyclical as cyclical
from jaxopt_suite.schedules._cyclical import exponential_cyclical as exponential_cyclical
from jaxopt_suite.schedules._cyclical import triangular2_cyclical as triangular2_cyclical
from jaxopt_suite.schedules._cyclical import triangular_cyclical as triangular_cyclical
from jaxopt_suite.schedules._decay import exponential_decay as exponential_decay
from jaxopt_suite.schedules._decay import inverse_time_decay as inverse_time_decay
from jaxopt_suite.schedules._decay import piecewise_constant_decay as piecewise_constant_decay
from jaxopt_suite.schedules._decay import polynomial_decay as polynomial_decay
from jaxopt_suite.schedules._joined import constant as constant
from jaxopt_suite.schedules._joined import join_schedules as join_schedules
from jaxopt_suite.schedules._joined import warmup as warmup
from jaxopt_suite.schedules._momentum import momentum_ramp as momentum_ramp
from jaxopt_suite.schedules._schedule import Schedule as Schedule
from jaxopt_suite.schedules._schedule import product as product
from jaxopt_suite.schedules._schedule import schedule as schedule
from jaxopt_suite.schedules._schedule import total as total
