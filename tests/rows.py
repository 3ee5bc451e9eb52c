"""THE TABLE: one row per optimizer, with its variants. No test names an optimizer; all of them walk this table.

A row says how the optimizer is made, which recordings it must reproduce and how closely, which inputs it must
refuse and with which words, and what it cannot do and why.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from recorded import recording

import jaxopt_suite as jos


@dataclasses.dataclass(frozen=True)
class Variant:
    """One setting of an optimizer.

    Attributes:
      reference: the recording to reproduce, whose arguments are used; None where there is none.
      arguments: further arguments, or such that are named otherwise than in the recording.
      renamed: the recording's names of arguments, and ours; None drops the argument.
      tolerance: the largest error of an array over all steps.
      reason: why it is larger than 2e-6.
      average_from: the first step whose average is compared.
      weights: why `get_weights` differs from the library's, where it does.
      slow: whether what compiles its steps is left to CI.
    """

    reference: str | None = None
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    renamed: dict[str, str | None] = dataclasses.field(default_factory=dict)
    tolerance: float = 2e-6
    reason: str = ""
    average_from: int = 0
    weights: str = ""
    slow: bool = False

    def all_arguments(self) -> dict[str, Any]:
        if self.reference is None:
            return self.arguments
        given = recording(self.reference).arguments()
        ours = {self.renamed.get(name, name): value for name, value in given.items()}
        ours.pop(None, None)
        for dialect in ("legacy", "torch"):
            if self.reference.startswith(f"{dialect}/"):
                ours["dialect"] = dialect
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
      sparse: what a sparse gradient touches, in the dialect of its first variant; see `explain`.
      not_lazy: why `lazy=True` is refused, where it is.
      source: where the mathematics comes from, for the documentation.
    """

    make: Callable[..., jos.Optimizer]
    variants: tuple[Variant, ...]
    source: str
    bad: tuple[tuple[dict[str, Any], str], ...] = ()
    static: tuple[str, ...] = ()
    exempt: dict[str, str] = dataclasses.field(default_factory=dict)
    sparse: str = "everything"
    not_lazy: str = ""

    @property
    def name(self) -> str:
        return self.make.__name__

    def build(self, variant: Variant | None = None, **changes: Any) -> jos.Optimizer:
        return self.make(**{**(variant or self.variants[0]).all_arguments(), **changes})


def both(*slugs: str, **columns: Any) -> tuple[Variant, ...]:
    """Variants that Keras 3 and tf.keras 2.15 were both recorded with; the second is left to CI."""
    pairs = [(slug, library) for slug in slugs for library in ("keras3", "tf_keras")]
    return tuple(Variant(f"{library}/{slug}", slow=library == "tf_keras", **columns) for slug, library in pairs)


def of(library: str, *slugs: str, **columns: Any) -> tuple[Variant, ...]:
    """Variants recorded from one library."""
    return tuple(Variant(f"{library}/{slug}", **columns) for slug in slugs)


def of_torch(*slugs: str, **columns: Any) -> tuple[Variant, ...]:
    """Variants recorded from PyTorch, with its defaults and its words."""
    renamed = {"lr": "learning_rate", "eps": "epsilon", "alpha": "rho", "lr_decay": "decay"}
    renamed["momentum_decay"] = "schedule_decay"
    quick = ("adam", "sgd_nesterov", "rmsprop_centered_momentum")
    return tuple(Variant(f"torch/{slug}", renamed=renamed, slow=slug not in quick, **columns) for slug in slugs)


EPSILON = {"epsilon": 1e-8}  # PyTorch's default

FLOAT32_BETAS = {"tolerance": 2e-5, "reason": "the original rounds its betas to float32 before it computes 1 - beta"}

LONG_PRODUCT = {"tolerance": 1e-5, "reason": "a product over all steps, in float32"}
ITERATION = {
    "tolerance": 1e-4,
    "reason": "five matrix products after each other, in float32",
    "weights": "Keras keeps no second moment for a matrix, here it is a lone zero",
}
FACTORS = {"weights": "Keras stores the product of the factors beside them"}
RECONSTRUCTED = {"tolerance": 1e-5, "reason": "the average is reconstructed from the weights in float32, over and over"}
ADDONS_LAMB = {**FLOAT32_BETAS, "arguments": {"dialect": "legacy", "epsilon": 1e-6}}  # its default epsilon

BETAS = {"beta1": "beta_1", "beta2": "beta_2"}
WRAPPER = {"common arguments": "they are the wrapped optimizer's"}

# what moves at a rate of zero; later is after steps at another rate
STILL_MOVES = {"a rate of zero later": "the rate is inside the momentum, which goes on"}
WRAPPED_MOVES = {"a rate of zero later": "the momentum of the wrapped optimizer goes on"}
ALWAYS = ("a rate of zero at first", "a rate of zero later")

# what a sparse gradient touches, where it is not everything
ROWS_ONLY = {"sparse": "rows"}
ROWS_AND_SLOTS = {"sparse": "rows, all rows' slots"}
WHOLE = "it has a norm, a mean or a product of the whole parameter"

UNUSED_MOMENTUM = "tf.keras keeps a momentum for SGD without one, which is never used"

# why some rules need room beside the parameters; benchmarks/NOTES.md has the measurements
READ_TWICE = "the step and a slot both read the old slot, and XLA:CPU copies it before it is overwritten"
SHARED_ROOT = "XLA:CPU stores a root or a quotient that the step and a slot share"
NORM_OF_STEP = "XLA:CPU stores the step, or the squares, between their mean or norm and their use"

ROWS = (
    Row(
        jos.sgd,
        source="Keras",
        exempt=STILL_MOVES,
        variants=(
            *both("sgd_momentum", "sgd_nesterov", "sgd_weight_decay"),
            *of("keras3", "sgd_plain"),
            *of("tf_keras", "sgd_plain", weights=UNUSED_MOMENTUM),
            *both("sgd_plain_piecewise", "sgd_momentum_exponential", "sgd_nesterov_piecewise"),
            *both("sgd_clipnorm", "sgd_clipvalue", "sgd_global_clipnorm"),
            *of("tf_keras", "sgd_ema_1", "sgd_ema_3", "sgd_ema_none", weights=UNUSED_MOMENTUM),
            *of("keras3", "sgd_loss_scale_factor", "sgd_accumulation", "sgd_accumulation_clip"),
            *of("legacy", "sgd_plain", "sgd_momentum", "sgd_nesterov", "sgd_decay", "sgd_schedule"),
            *of("legacy", "sgd_decay_schedule", "sgd_clipnorm", "sgd_clipvalue", "sgd_global_clipnorm"),
            *of("legacy", "sgd_clipnorm_clipvalue"),
            *of_torch("sgd_momentum", "sgd_nesterov"),
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
            *of("keras3", "adam_loss_scale_factor", "adam_accumulation"),
            *of("legacy", "adam", "adam_amsgrad", "adam_epsilon", "adam_epsilon_zero", "adam_decay", **FLOAT32_BETAS),
            *of("legacy", "adam_clipvalue_global_clipnorm", **FLOAT32_BETAS),
            *of_torch("adam", "adam_amsgrad", arguments=EPSILON),
            *of_torch("adam_epsilon_decay"),
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
        **ROWS_ONLY,
        not_lazy=WHOLE,
        source="TF Addons",
        exempt={"temporaries of amsgrad": READ_TWICE, **STILL_MOVES},
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
    Row(
        jos.rmsprop,
        source="Keras",
        exempt=STILL_MOVES,
        variants=(
            *both("rmsprop_centered_momentum", "rmsprop_plain", "rmsprop_momentum", "rmsprop_centered"),
            *both("rmsprop_plain_epsilon", "rmsprop_momentum_epsilon", "rmsprop_centered_epsilon"),
            *both("rmsprop_centered_momentum_epsilon", "rmsprop_centered_momentum_schedule"),
            *of("legacy", "rmsprop_plain", "rmsprop_plain_epsilon", "rmsprop_momentum_epsilon"),
            *of("legacy", "rmsprop_centered_epsilon", "rmsprop_centered_momentum_epsilon"),
            *of_torch("rmsprop", "rmsprop_centered_momentum"),
            *of_torch("rmsprop_momentum", arguments=EPSILON),
        ),
        bad=(
            ({"rho": 1.0}, "rmsprop: rho must be in [0, 1), got 1.0."),
            ({"momentum": -0.5}, "rmsprop: momentum must be in [0, 1], got -0.5."),
            ({"centered": "no"}, "rmsprop: centered must be True or False, got 'no'."),
            ({"decay_rate": 0.9}, "rmsprop: there is no argument 'decay_rate'."),
        ),
    ),
    Row(
        jos.adagrad,
        **ROWS_ONLY,
        source="Keras",
        variants=(
            *both("adagrad_epsilon", "adagrad_accumulator_half", "adagrad_accumulator_zero", "adagrad_zeros"),
            *of("legacy", "adagrad_epsilon", "adagrad_accumulator_zero"),
            *of_torch("adagrad"),
            *of_torch("adagrad_decay", arguments={"epsilon": 1e-10, "initial_accumulator_value": 0.0}),
        ),
        bad=(
            ({"initial_accumulator_value": -0.1}, "adagrad: initial_accumulator_value must be >= 0, got -0.1."),
            ({"initial_acumulator_value": 0.1}, "Did you mean 'initial_accumulator_value'?"),
        ),
    ),
    Row(
        jos.adadelta,
        source="Keras",
        exempt={"temporaries": SHARED_ROOT},
        variants=(
            *both("adadelta", "adadelta_epsilon"),
            *of("legacy", "adadelta", "adadelta_epsilon"),
            *of_torch("adadelta"),
        ),
        bad=(({"rho": -0.1}, "adadelta: rho must be in [0, 1), got -0.1."),),
    ),
    Row(
        jos.adamw,
        source="Keras",
        variants=(
            *both("adamw", "adamw_exclusion", "adamw_schedule_amsgrad"),
            *of("tf_addons", "adamw", "adamw_exclusion", arguments={"dialect": "legacy"}),
            *of_torch("adamw", arguments=EPSILON),
            *of_torch("adamw_amsgrad", arguments={**EPSILON, "weight_decay": 0.01}),
        ),
        bad=(
            ({"weight_decay": None}, "adamw: weight_decay must be a number >= 0, got None."),
            ({"weight_decay": -0.01}, "adamw: weight_decay must be >= 0, got -0.01."),
            ({"wieght_decay": 0.01}, "Did you mean 'weight_decay'?"),
        ),
    ),
    Row(
        jos.adamax,
        source="Keras",
        variants=(
            *both("adamax_betas", "adamax_epsilon"),
            *of("legacy", "adamax_epsilon"),
            *of_torch("adamax"),
            *of_torch("adamax_decay", arguments=EPSILON),
        ),
        bad=(({"beta_2": 1.0}, "adamax: beta_2 must be in [0, 1), got 1.0."),),
    ),
    Row(
        jos.nadam,
        source="Keras",
        variants=(
            *of("keras3", "nadam", "nadam_schedule", **LONG_PRODUCT),
            *of("tf_keras", "nadam", "nadam_schedule", **LONG_PRODUCT, weights="tf.keras loses the product"),
            *of("legacy", "nadam", "nadam_schedule_decay", **LONG_PRODUCT),
            *of_torch("nadam", "nadam_decay", arguments=EPSILON),
            *of_torch("nadam_decoupled"),
        ),
        bad=(
            ({"schedule_decay": -0.004}, "nadam: schedule_decay must be >= 0, got -0.004."),
            ({"amsgrad": True}, "nadam: there is no argument 'amsgrad'."),
        ),
    ),
    Row(
        jos.ftrl,
        source="Keras",
        exempt={"temporaries": SHARED_ROOT},
        variants=(
            *both("ftrl_all", "ftrl", "ftrl_l1", "ftrl_l2", "ftrl_shrinkage", "ftrl_beta", "ftrl_zeros"),
            *of("legacy", "ftrl", "ftrl_all"),
        ),
        bad=(
            ({"learning_rate_power": 0.5}, "ftrl: learning_rate_power must be <= 0, got 0.5."),
            ({"initial_accumulator_value": -0.1}, "ftrl: initial_accumulator_value must be >= 0, got -0.1."),
            ({"l1_regularization_strength": -1.0}, "ftrl: l1_regularization_strength must be >= 0, got -1.0."),
            ({"l2_shrinkage_regularization": 0.1}, "Did you mean 'l2_shrinkage_regularization_strength'?"),
        ),
    ),
    Row(
        jos.lion,
        source="Keras",
        exempt={"temporaries": READ_TWICE},
        variants=both("lion", "lion_zeros_schedule"),
        bad=(
            ({"beta_1": 0.0}, "lion: beta_1 must be a number in (0, 1), got 0.0."),
            ({"beta_1": 1.5}, "lion: beta_1 must be in [0, 1), got 1.5."),
            ({"epsilon": 1e-7}, "lion: there is no argument 'epsilon'."),
        ),
    ),
    Row(
        jos.lamb,
        not_lazy=WHOLE,
        source="Keras, TF Addons",
        exempt={"temporaries": NORM_OF_STEP},
        variants=(
            *of("keras3", "lamb_weight_decay", "lamb", "lamb_zeros"),
            *of("tf_addons", "lamb_weight_decay", arguments={"dialect": "legacy"}),
            *of("tf_addons", "lamb", "lamb_zeros", "lamb_no_decay_bias", "lamb_no_adaptation", **ADDONS_LAMB),
        ),
        bad=(
            ({"weight_decay": -0.1}, "lamb: weight_decay must be >= 0, got -0.1."),
            ({"exclude_from_layer_adaptation": "["}, "'[' is no regular expression"),
            ({"weight_decay_rate": 0.1}, "there is no argument 'weight_decay_rate'. Did you mean 'weight_decay'?"),
        ),
    ),
    Row(
        jos.adafactor,
        not_lazy=WHOLE,
        source="Keras",
        exempt={"temporaries": NORM_OF_STEP},
        variants=(
            *both("adafactor", "adafactor_clip", "adafactor_large_rate", **FACTORS),
            *both("adafactor_weight_decay", **FACTORS),
            Variant(arguments={"learning_rate": 0.05, "cap_rate": False}),
        ),
        bad=(
            ({"beta_2_decay": 0.8}, "adafactor: beta_2_decay must be < 0, got 0.8."),
            ({"clip_threshold": 0.0}, "adafactor: clip_threshold must be > 0, got 0.0."),
            ({"epsilon_1": -1.0}, "adafactor: epsilon_1 must be >= 0, got -1.0."),
            ({"relative_step": None}, "adafactor: relative_step must be True or False, got None."),
            ({"cap_rate": None}, "adafactor: cap_rate must be True or False, got None."),
            ({"epsilon": 1e-7}, "adafactor: there is no argument 'epsilon'. Did you mean 'epsilon_"),
        ),
    ),
    Row(
        jos.muon,
        not_lazy=WHOLE,
        source="Keras",
        exempt={"temporaries": "the iterates of its matrices"},
        static=("ns_steps",),
        variants=(
            *of("keras3", "muon", "muon_no_nesterov", "muon_no_rms_rate", "muon_exclude_layers", **ITERATION),
            *of("keras3", "muon_embeddings", "muon_schedule", **ITERATION),
        ),
        bad=(
            ({"ns_steps": 2.5}, "muon: ns_steps must be an integer >= 0, got 2.5."),
            ({"rms_rate": -0.2}, "muon: rms_rate must be >= 0, got -0.2."),
            ({"muon_a": "steep"}, "muon: muon_a must be a number of any sign, got 'steep'."),
            ({"exclude_layers": 3}, "muon: exclude_layers must be a regular expression or a list of them, got 3."),
            ({"adam_beta_1": 1.0}, "muon: adam_beta_1 must be in [0, 1), got 1.0."),
            ({"exclude_layer": "head"}, "Did you mean 'exclude_layers'?"),
        ),
    ),
    Row(
        jos.schedule_free_adamw,
        source="Keras",
        exempt={"temporaries": READ_TWICE, "a rate of zero later": "`z` stays, and the average goes on towards it"},
        static=("warmup_steps",),
        variants=(
            *of("keras3", "schedule_free_adamw", "schedule_free_adamw_warmup", **RECONSTRUCTED),
            *of("keras3", "schedule_free_adamw_weight_decay", **RECONSTRUCTED),
        ),
        bad=(
            ({"beta_1": 0.0}, "schedule_free_adamw: beta_1 must be a number in (0, 1), got 0.0"),
            ({"warmup_steps": -1}, "schedule_free_adamw: warmup_steps must be an integer >= 0, got -1."),
            ({"warmup_steps": 10.0}, "schedule_free_adamw: warmup_steps must be an integer >= 0, got 10.0."),
            ({"warm_up_steps": 10}, "Did you mean 'warmup_steps'?"),
        ),
    ),
    Row(
        jos.radam,
        **ROWS_AND_SLOTS,
        source="TF Addons",
        static=("total_steps",),
        variants=(
            *of("tf_addons", "radam_beta", "radam_weight_decay", "radam_amsgrad", "radam_warmup", "radam_threshold"),
            *of("tf_addons", "radam_schedule"),
            *of("tf_addons", "radam", **FLOAT32_BETAS),
            *of_torch("radam", "radam_decoupled"),
            *of_torch("radam_decay", arguments=EPSILON),
        ),
        bad=(
            ({"sma_threshold": 3.0}, "radam: sma_threshold must be >= 4, got 3.0."),
            ({"total_steps": 10.0}, "radam: total_steps must be an integer >= 0, got 10.0."),
            ({"warmup_proportion": 1.5}, "radam: warmup_proportion must be in [0, 1], got 1.5."),
            ({"min_lr": 0.1}, "radam: min_lr acts only with total_steps, got 0.1 alone."),
            ({"weight_decay": -0.1}, "radam: weight_decay must be >= 0, got -0.1."),
            ({"warmup": 0.1}, "radam: there is no argument 'warmup'."),
        ),
    ),
    Row(
        jos.adabelief,
        **ROWS_AND_SLOTS,
        source="TF Addons",
        static=("total_steps",),
        variants=(
            *of("tf_addons", "adabelief_weight_decay", "adabelief_epsilon", "adabelief_no_rectify"),
            *of("tf_addons", "adabelief_warmup", "adabelief_amsgrad", "adabelief_no_rectify_epsilon"),
            *of("tf_addons", "adabelief", **FLOAT32_BETAS),
        ),
        bad=(
            ({"rectify": "yes"}, "adabelief: rectify must be True or False, got 'yes'."),
            ({"epsilon": -1e-14}, "adabelief: epsilon must be >= 0, got -1e-14."),
            ({"min_lr": 0.1}, "adabelief: min_lr acts only with total_steps, got 0.1 alone."),
            ({"rectified": True}, "Did you mean 'rectify'?"),
        ),
    ),
    Row(
        jos.yogi,
        **ROWS_AND_SLOTS,
        source="TF Addons",
        variants=(
            *of("tf_addons", "yogi_l1_l2", "yogi_l1", "yogi_l2", "yogi_tanh", "yogi_beta1_zero", renamed=BETAS),
            *of("tf_addons", "yogi", renamed=BETAS, **FLOAT32_BETAS),
        ),
        bad=(
            ({"activation": "relu"}, "yogi: activation must be one of 'sign', 'tanh', got 'relu'."),
            ({"initial_accumulator_value": -1e-6}, "yogi: initial_accumulator_value must be >= 0, got -1e-06."),
            ({"l1_regularization_strength": -0.1}, "yogi: l1_regularization_strength must be >= 0, got -0.1."),
            ({"beta1": 0.9, "beta_1": 0.9}, "yogi: beta1 is another name of beta_1; give one of them, not both."),
            ({"beta_2": 1.0}, "yogi: beta_2 must be in [0, 1), got 1.0."),
        ),
    ),
    Row(
        jos.lazy_adam,
        **ROWS_ONLY,
        source="TF Addons",
        variants=of("tf_addons", "lazy_adam", "lazy_adam_amsgrad"),
        bad=(
            ({"beta_1": 1.0}, "lazy_adam: beta_1 must be in [0, 1), got 1.0."),
            ({"amsgrad": 0}, "lazy_adam: amsgrad must be True or False, got 0."),
        ),
    ),
    Row(
        jos.proximal_adagrad,
        **ROWS_ONLY,
        source="TF Addons",
        variants=(
            *of("tf_addons", "proximal_adagrad_l1_l2", "proximal_adagrad_l1", "proximal_adagrad_l2"),
            *of("tf_addons", "proximal_adagrad"),
            Variant(arguments={"learning_rate": 0.1, "initial_accumulator_value": 0.0}),
        ),
        bad=(
            ({"initial_accumulator_value": -0.1}, "initial_accumulator_value must be >= 0, got -0.1."),
            ({"l2_regularization_strength": -1.0}, "l2_regularization_strength must be >= 0, got -1.0."),
            ({"epsilon": 1e-7}, "proximal_adagrad: there is no argument 'epsilon'."),
        ),
    ),
    Row(
        jos.conditional_gradient,
        **ROWS_ONLY,
        not_lazy=WHOLE,
        source="TF Addons",
        exempt={
            "temporaries of ord": "the matrix that the singular vectors are found from",
            "a rate of zero at first": "the rate is the share of the weights that stays; at 0 they are the vertex",
        },
        variants=of(
            "tf_addons",
            "conditional_gradient_fro",
            "conditional_gradient_nuclear",
            weights="TF Addons keeps a slot that is never used",
        ),
        bad=(
            ({"lambda_": -0.1}, "conditional_gradient: lambda_ must be >= 0, got -0.1."),
            ({"ord": "l1"}, "conditional_gradient: ord must be one of 'fro', 'nuclear', got 'l1'."),
            ({"lambda": 0.1}, "Did you mean 'lambda_'?"),
        ),
    ),
    Row(
        jos.cocob,
        source="TF Addons",
        exempt={"temporaries": READ_TWICE, **dict.fromkeys(ALWAYS, "there is no rate")},
        variants=of("tf_addons", "cocob", "cocob_alpha"),
        bad=(
            ({"alpha": 0.5}, "cocob: alpha must be >= 1, got 0.5."),
            ({"decay": 0.1}, "cocob: decay acts on a learning rate, and there is none."),
            ({"learning_rate": 0.1}, "cocob: there is no argument 'learning_rate'."),
        ),
    ),
    Row(
        jos.sgdw,
        **ROWS_ONLY,
        source="TF Addons",
        exempt=dict.fromkeys(ALWAYS, "its decay is not multiplied by the rate"),
        variants=of("tf_addons", "sgdw_momentum", "sgdw", "sgdw_nesterov", "sgdw_schedule"),
        bad=(
            ({"weight_decay": -0.1}, "sgdw: weight_decay must be >= 0, got -0.1."),
            ({"momentum": 2.0}, "sgdw: momentum must be in [0, 1], got 2.0."),
        ),
    ),
    Row(
        jos.lookahead,
        source="TF Addons",
        exempt={**WRAPPER, **WRAPPED_MOVES},
        variants=of("tf_addons", "lookahead_sgd", "lookahead_adam"),
        bad=(
            ({"optimizer": 3}, "lookahead: optimizer must be an optimizer of jaxopt_suite, got 3."),
            ({"sync_period": 0}, "lookahead: sync_period must be an integer >= 1, got 0."),
            ({"slow_step_size": 1.5}, "lookahead: slow_step_size must be in [0, 1], got 1.5."),
            ({"learning_rate": 0.1}, "lookahead: there is no argument 'learning_rate'."),
        ),
    ),
    Row(
        jos.moving_average,
        source="TF Addons",
        exempt={**WRAPPER, **WRAPPED_MOVES},
        variants=(
            *of("tf_addons", "moving_average", "moving_average_dynamic", "moving_average_start"),
            *of("tf_addons", "moving_average_start_dynamic", "moving_average_updates"),
        ),
        bad=(
            ({"average_decay": 1.5}, "moving_average: average_decay must be in [0, 1], got 1.5."),
            ({"num_updates": -1}, "moving_average: num_updates must be an integer >= 0, got -1."),
            ({"start_step": 0.5}, "moving_average: start_step must be an integer >= 0, got 0.5."),
            ({"optimizer": None}, "moving_average: optimizer must be an optimizer of jaxopt_suite, got None."),
        ),
    ),
    Row(
        jos.swa,
        source="TF Addons",
        exempt={**WRAPPER, **WRAPPED_MOVES},
        variants=of("tf_addons", "swa", average_from=5),  # the original's is zero before its first snapshot
        bad=(
            ({"average_period": 0}, "swa: average_period must be an integer >= 1, got 0."),
            ({"start_averaging": -1}, "swa: start_averaging must be an integer >= 0, got -1."),
        ),
    ),
    Row(
        jos.loss_scale,
        source="Keras",
        exempt={**WRAPPER, **WRAPPED_MOVES},
        variants=(Variant(arguments={"optimizer": jos.sgd(0.05, momentum=0.8), "initial_scale": 16.0}),),
        bad=(
            ({"initial_scale": 0.0}, "loss_scale: initial_scale must be > 0, got 0.0."),
            ({"initial_scale": lambda step: 2.0}, "loss_scale: initial_scale must be a number > 0, got <function"),
            ({"dynamic_growth_steps": 0}, "loss_scale: dynamic_growth_steps must be an integer >= 1, got 0."),
            ({"optimizer": jos.sgd(loss_scale_factor=2.0)}, "loss_scale: optimizer must not scale the loss itself"),
            ({"dynamic": False}, "loss_scale: there is no argument 'dynamic'."),
        ),
    ),
    Row(
        jos.with_metrics,
        source="here",
        exempt={**WRAPPER, **WRAPPED_MOVES, "temporaries": NORM_OF_STEP},
        variants=(Variant(arguments={"optimizer": jos.sgd(0.05, momentum=0.8)}),),
        bad=(
            ({"optimizer": 3}, "with_metrics: optimizer must be an optimizer of jaxopt_suite, got 3."),
            ({"groups": "bias"}, "with_metrics: there is no argument 'groups'."),
        ),
    ),
    Row(
        jos.skip_large_updates,
        source="here",
        exempt={**WRAPPER, **WRAPPED_MOVES},
        variants=(Variant(arguments={"optimizer": jos.sgd(0.05, momentum=0.8), "factor": 1000.0}),),
        bad=(
            ({"factor": 1.0}, "skip_large_updates: factor must be > 1, got 1.0."),
            ({"factor": lambda step: 2.0}, "skip_large_updates: factor must be a number > 1, got <function"),
            ({"warmup_steps": 2.5}, "skip_large_updates: warmup_steps must be an integer >= 0, got 2.5."),
            ({"mean_decay": 1.0}, "skip_large_updates: mean_decay must be in [0, 1), got 1.0."),
            ({"mean_decay": np.float16(0.5)}, "mean_decay must be a number in [0, 1) in more than 16 bits"),
            ({"max_norm": 1.0}, "skip_large_updates: there is no argument 'max_norm'."),
        ),
    ),
)

CASES = [(row, variant) for row in ROWS for variant in row.variants]


def long_ones_marked(pairs: Iterable[tuple[Row, Variant]]) -> list[Any]:
    """Rows and variants, for a test that compiles a program for each: those from the third of a library on are slow."""
    found: list[Any] = []
    seen = collections.Counter[tuple[str, str]]()
    for row, variant in pairs:
        group = row.name, (variant.reference or "").partition("/")[0]
        slow = variant.slow or seen[group] == 2
        seen[group] += not slow
        found.append(pytest.param(row, variant, marks=[pytest.mark.slow] * slow))
    return found


SETTINGS = [*{row.build(variant): (row, variant) for row, variant in CASES}.values()]  # equal optimizers once


def case_name(value: Any) -> str:
    """How pytest shows a row or a variant."""
    if isinstance(value, Row):
        return value.name
    shown = (value.reference or str(value.arguments)) if isinstance(value, Variant) else repr(value)
    return re.sub(r" at 0x\w+", "", shown)  # a function's address differs between the processes of pytest-xdist
