"""Optax's counterparts: the table of what is the same there, and of what differs by how much."""

import dataclasses
from collections.abc import Callable

import optax

import jaxopt_suite as jos


@dataclasses.dataclass(frozen=True)
class Counterpart:
    """An optimizer of ours and the nearest one of Optax, with the same settings.

    Attributes:
      ours, theirs: functions that make them.
      apart: the largest difference of any entry in seven steps; 0 where they are the same.
      within: how close the same ones are, in float64.
    """

    ours: Callable[[], optax.GradientTransformation]
    theirs: Callable[[], optax.GradientTransformation]
    apart: float = 0.0
    within: float = 1e-14


FALLING = jos.schedules.exponential_decay(0.1, decay_steps=2, decay_rate=0.5)
TINY = 1e-30  # an epsilon whose place does not matter

COUNTERPARTS: dict[str, tuple[Counterpart, ...]] = {
    "sgd": (
        Counterpart(lambda: jos.sgd(0.1, 0.9, nesterov=True), lambda: optax.sgd(0.1, 0.9, nesterov=True)),
        Counterpart(lambda: jos.sgd(FALLING, 0.9, dialect="torch"), lambda: optax.sgd(FALLING, 0.9)),
        # with the rate outside of the momentum, as optax.sgd has it, a schedule acts otherwise
        Counterpart(lambda: jos.sgd(FALLING, 0.9), lambda: optax.sgd(FALLING, 0.9), apart=0.148),
        Counterpart(
            lambda: jos.sgd(FALLING, 0.9), lambda: optax.chain(optax.scale_by_learning_rate(FALLING), optax.trace(0.9))
        ),
    ),
    "adam": (
        Counterpart(lambda: jos.adam(0.05, epsilon=TINY), lambda: optax.adam(0.05, eps=TINY)),
        Counterpart(lambda: jos.adam(0.05, epsilon=0.1), lambda: optax.adam(0.05, eps=0.1), apart=0.124),
        Counterpart(lambda: jos.adam(0.05, epsilon=0.1, dialect="torch"), lambda: optax.adam(0.05, eps=0.1)),
        Counterpart(lambda: jos.adam(0.05), lambda: optax.adam(0.05, eps=1e-7), apart=5.55e-6),
        Counterpart(
            lambda: jos.adam(0.05, beta_2=0.5, amsgrad=True),
            lambda: optax.amsgrad(0.05, b2=0.5, eps=1e-7),
            apart=7.22e-3,
        ),
    ),
    "adamw": (
        Counterpart(lambda: jos.adamw(0.05, 0.1, epsilon=TINY), lambda: optax.adamw(0.05, eps=TINY, weight_decay=0.1)),
        Counterpart(
            lambda: jos.adamw(0.05, 0.1, epsilon=TINY, dialect="legacy"),
            lambda: optax.adamw(0.05, eps=TINY, weight_decay=0.1 / 0.05),
        ),
    ),
    "novograd": (
        Counterpart(
            lambda: jos.novograd(0.05, beta_2=0.5, weight_decay=0.02),
            lambda: optax.novograd(0.05, b2=0.5, eps=1e-7, weight_decay=0.02),
        ),
        Counterpart(
            lambda: jos.novograd(0.05, beta_2=0.5, grad_averaging=True),
            lambda: optax.novograd(0.05, b2=0.5, eps=1e-7),
            apart=0.245,
        ),
    ),
    "nadam": (Counterpart(lambda: jos.nadam(0.05), lambda: optax.nadam(0.05, eps=1e-7), apart=0.116),),
    "rmsprop": (
        Counterpart(
            lambda: jos.rmsprop(0.05, 0.9, 0.7, 0.01, centered=True),
            lambda: optax.rmsprop(0.05, 0.9, 0.01, centered=True, momentum=0.7),
        ),
        Counterpart(
            lambda: jos.rmsprop(0.05, epsilon=0.01, dialect="legacy"),
            lambda: optax.rmsprop(0.05, 0.9, 0.01, eps_in_sqrt=False),
        ),
    ),
    "adagrad": (
        Counterpart(lambda: jos.adagrad(0.05, 0.0, 1e-3), lambda: optax.adagrad(0.05, 0.0, 1e-3)),
        Counterpart(
            lambda: jos.adagrad(0.05, epsilon=0.1, dialect="legacy"),
            lambda: optax.adagrad(0.05, 0.1, 0.1),
            apart=1.95e-3,
        ),
    ),
    "adadelta": (Counterpart(lambda: jos.adadelta(1.0, 0.9, 1e-3), lambda: optax.adadelta(1.0, 0.9, 1e-3)),),
    "adamax": (
        Counterpart(lambda: jos.adamax(0.05, epsilon=0.01), lambda: optax.adamax(0.05, eps=0.01), apart=4.47e-6),
        Counterpart(lambda: jos.adamax(0.05, epsilon=0.01, dialect="torch"), lambda: optax.adamax(0.05, eps=0.01)),
    ),
    "lion": (Counterpart(lambda: jos.lion(0.01), lambda: optax.lion(0.01, weight_decay=0.0)),),
    "lamb": (
        Counterpart(lambda: jos.lamb(0.05), lambda: optax.lamb(0.05, eps=1e-7)),
        Counterpart(
            lambda: jos.lamb(0.05, weight_decay=0.1, dialect="legacy"),
            lambda: optax.lamb(0.05, eps=1e-7, weight_decay=0.1),
        ),
        Counterpart(
            lambda: jos.lamb(0.05, weight_decay=0.1),
            lambda: optax.lamb(0.05, eps=1e-7, weight_decay=0.1),
            apart=0.205,
        ),
    ),
    "adafactor": (
        Counterpart(lambda: jos.adafactor(0.05), lambda: optax.adafactor(0.05, min_dim_size_to_factor=1), within=1e-8),
        Counterpart(
            lambda: jos.adafactor(0.5, cap_rate=False),
            lambda: optax.adafactor(0.5, min_dim_size_to_factor=1),
            within=1e-7,
        ),
        Counterpart(lambda: jos.adafactor(0.5), lambda: optax.adafactor(0.5, min_dim_size_to_factor=1), apart=0.34),
        Counterpart(lambda: jos.adafactor(0.05), lambda: optax.adafactor(0.05), apart=0.121),
    ),
    "muon": (
        Counterpart(
            lambda: jos.muon(0.05, weight_decay=0.0, adam_weight_decay=0.0, nesterov=False),
            lambda: optax.contrib.muon(0.05, nesterov=False, consistent_rms=0.2),
            within=1e-5,  # the epsilons stand elsewhere
        ),
        Counterpart(
            lambda: jos.muon(0.05, weight_decay=0.0, adam_weight_decay=0.0),
            lambda: optax.contrib.muon(0.05, consistent_rms=0.2),
            apart=0.0464,
        ),
    ),
    "schedule_free_adamw": (
        Counterpart(lambda: jos.schedule_free_adamw(0.05), lambda: optax.contrib.schedule_free_adamw(0.05, eps=1e-8)),
        Counterpart(
            lambda: jos.schedule_free_adamw(0.05, warmup_steps=3),
            lambda: optax.contrib.schedule_free_adamw(0.05, warmup_steps=3),
            apart=0.0512,
        ),
    ),
    "radam": (
        Counterpart(lambda: jos.radam(0.05, beta_2=0.9), lambda: optax.radam(0.05, b2=0.9, eps=1e-7), within=1e-11),
    ),
    "adabelief": (
        Counterpart(
            lambda: jos.adabelief(0.05, beta_2=0.9, epsilon=1e-3, rectify=False),
            lambda: optax.adabelief(0.05, b2=0.9, eps=1e-3, eps_root=1e-3),
        ),
        Counterpart(
            lambda: jos.adabelief(0.05, beta_2=0.9, epsilon=1e-3),
            lambda: optax.adabelief(0.05, b2=0.9, eps=1e-3, eps_root=1e-3),
            apart=0.157,
        ),
    ),
    "yogi": (Counterpart(lambda: jos.yogi(0.01), lambda: optax.yogi(0.01), apart=5.16e-3),),
    "cocob": (Counterpart(lambda: jos.cocob(), lambda: optax.contrib.cocob()),),
}
