"""THE TABLE: one row per optimizer, with its variants. No test names an optimizer; all of them walk this table.

A row says how the optimizer is made, which recordings it must reproduce and how closely, which inputs it must
refuse and with which words, and what it cannot do and why.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jaxopt_suite as jos
from recorded import recording


@dataclasses.dataclass(frozen=True)
class Variant:
    """One setting of an optimizer.

    Attributes:
      reference: the recording to reproduce, whose arguments are used; None where there is none.
      arguments: further arguments, or such that are named otherwise than in the recording.
      renamed: the recording's names of arguments, and ours; None drops the argument.
      tolerance: the largest error of an array over all steps.
      reason: why it is larger than 2e-6.
      weights: why `get_weights` differs from the library's, where it does.
    """

    reference: str | None = None
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    renamed: dict[str, str | None] = dataclasses.field(default_factory=dict)
    tolerance: float = 2e-6
    reason: str = ""
    weights: str = ""

    def all_arguments(self) -> dict[str, Any]:
        if self.reference is None:
            return self.arguments
        given = recording(self.reference).arguments()
        ours = {self.renamed.get(name, name): value for name, value in given.items()}
        ours.pop(None, None)
        if self.reference.startswith("legacy/"):
            ours["dialect"] = "legacy"
        return {**ours, **self.arguments}


@dataclasses.dataclass(frozen=True)
class Row:
    """One optimizer.

    Attributes:
      make: the public function.
      variants: its settings; the first one stands for the optimizer where a test is slow.
      bad: arguments that are refused, and words of the sentence.
      static: what `inject_hyperparams` must leave alone, because it shapes the program.
      exempt: properties that do not hold, and why.
      source: where the mathematics comes from, for the README.
    """

    make: Callable[..., jos.Optimizer]
    variants: tuple[Variant, ...]
    source: str
    bad: tuple[tuple[dict[str, Any], str], ...] = ()
    static: tuple[str, ...] = ()
    exempt: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.make.__name__

    def build(self, variant: Variant | None = None, **changes: Any) -> jos.Optimizer:
        return self.make(**{**(variant or self.variants[0]).all_arguments(), **changes})


def both(*slugs: str, **columns: Any) -> tuple[Variant, ...]:
    """Variants that Keras 3 and tf.keras 2.15 were both recorded with."""
    return tuple(Variant(f"{library}/{slug}", **columns) for slug in slugs for library in ("keras3", "tf_keras"))


def of(library: str, *slugs: str, **columns: Any) -> tuple[Variant, ...]:
    """Variants recorded from one library."""
    return tuple(Variant(f"{library}/{slug}", **columns) for slug in slugs)


FLOAT32_BETAS = {"tolerance": 2e-5, "reason": "the original rounds its betas to float32 before it computes 1 - beta"}

UNUSED_MOMENTUM = "tf.keras keeps a momentum for SGD without one, which is never used"

ROWS = (
    Row(
        jos.sgd,
        source="Keras",
        variants=(
            *both("sgd_momentum", "sgd_nesterov", "sgd_weight_decay"),
            *of("keras3", "sgd_plain"),
            *of("tf_keras", "sgd_plain", weights=UNUSED_MOMENTUM),
            *both("sgd_plain_piecewise", "sgd_momentum_exponential", "sgd_nesterov_piecewise"),
            *both("sgd_clipnorm", "sgd_clipvalue", "sgd_global_clipnorm"),
            *of("tf_keras", "sgd_ema_1", "sgd_ema_3", "sgd_ema_none", weights=UNUSED_MOMENTUM),
            *of("keras3", "sgd_loss_scale_factor"),
            *of("legacy", "sgd_plain", "sgd_momentum", "sgd_nesterov", "sgd_decay", "sgd_schedule"),
            *of("legacy", "sgd_decay_schedule", "sgd_clipnorm", "sgd_clipvalue", "sgd_global_clipnorm"),
            *of("legacy", "sgd_clipnorm_clipvalue"),
        ),
        bad=(
            ({"momentum": 1.5}, "sgd: momentum must be in [0, 1], got 1.5."),
            ({"nesterov": "yes"}, "sgd: nesterov must be True or False, got 'yes'."),
            ({"momentun": 0.9}, "sgd: there is no argument 'momentun'. Did you mean 'momentum'?"),
        ),
    ),
    Row(
        jos.adam,
        source="Keras",
        variants=(
            *both("adam", "adam_epsilon", "adam_amsgrad", "adam_schedule", "adam_weight_decay", "adam_zeros"),
            *both("adam_clipnorm", "adam_clipvalue", "adam_global_clipnorm"),
            *of("tf_keras", "adam_ema_1", "adam_ema_3", "adam_ema_none"),
            *of("keras3", "adam_loss_scale_factor"),
            *of("legacy", "adam", "adam_amsgrad", "adam_epsilon", "adam_epsilon_zero", "adam_decay", **FLOAT32_BETAS),
            *of("legacy", "adam_clipvalue_global_clipnorm", **FLOAT32_BETAS),
        ),
        bad=(
            ({"beta_1": 1.0}, "adam: beta_1 must be in [0, 1), got 1.0."),
            ({"beta_2": -0.1}, "adam: beta_2 must be in [0, 1), got -0.1."),
            ({"epsilon": -1e-7}, "adam: epsilon must be >= 0, got -1e-07."),
            ({"amsgrad": 1}, "adam: amsgrad must be True or False, got 1."),
            ({"beta2": 0.9}, "adam: there is no argument 'beta2'. Did you mean 'beta_2'?"),
        ),
    ),
    Row(
        jos.novograd,
        source="TF Addons",
        variants=(
            *of("tf_addons", "novograd", "novograd_weight_decay", "novograd_averaging", **FLOAT32_BETAS),
            *of("tf_addons", "novograd_weight_decay_averaging", "novograd_amsgrad", **FLOAT32_BETAS),
            *of("tf_addons", "novograd_weight_decay_amsgrad", "novograd_averaging_amsgrad", **FLOAT32_BETAS),
            *of("tf_addons", "novograd_weight_decay_averaging_amsgrad", "novograd_epsilon", **FLOAT32_BETAS),
            *of("tf_addons", "novograd_schedule", "novograd_decay", "novograd_zeros", **FLOAT32_BETAS),
            *of("tf_addons", "novograd_clip", arguments={"dialect": "legacy"}, **FLOAT32_BETAS),
        ),
        bad=(
            ({"weight_decay": -0.1}, "novograd: weight_decay must be >= 0, got -0.1."),
            ({"grad_averaging": None}, "novograd: grad_averaging must be True or False, got None."),
            ({"grad_average": True}, "Did you mean 'grad_averaging'?"),
        ),
    ),
)

CASES = [(row, variant) for row in ROWS for variant in row.variants]


def case_name(value: Any) -> str:
    """How pytest shows a row or a variant."""
    if isinstance(value, Row):
        return value.name
    return (value.reference or str(value.arguments)) if isinstance(value, Variant) else repr(value)
