"""The recorded cases, as plain data (nothing of TensorFlow or Keras is imported).

``CASES[library]`` is a list of dicts:

slug       unique within its library; names the arrays of the recording
class      name of the optimizer class in that library
arguments  keyword arguments of its constructor; a learning-rate schedule is
           written {"schedule": class name, "arguments": {...}}
kind, seed which gradients and parameters of ``inputs.py`` are used
extras     anything else:
  exclude_var_names  regexes given to ``exclude_from_weight_decay(var_names=)``
  average            True: the averaged weights are recorded as well
  gradient_factor    gradients are multiplied by it before they are applied
  loss_scale         the optimizer is wrapped in ``LossScaleOptimizer`` with
                     "arguments"; gradients are multiplied by the current scale,
                     and at "inf_steps" element 0 (C order) of the gradient of
                     "inf_path" is inf
  inner              for wrappers: class and arguments of the wrapped optimizer,
                     which is ``tf.keras.optimizers.legacy.<class>``
  paths              only these parameters take part
"""

LIBRARIES = ("keras3", "tf_keras", "legacy", "tf_addons", "torch")


def schedule(name, **arguments):
    return {"schedule": name, "arguments": arguments}


EXPONENTIAL = schedule("ExponentialDecay", initial_learning_rate=0.1, decay_steps=7, decay_rate=0.6)
PIECEWISE = schedule("PiecewiseConstantDecay", boundaries=[4, 15], values=[0.08, 0.02, 0.05])
SMALL = schedule(
    "PolynomialDecay",
    initial_learning_rate=0.03,
    decay_steps=20,
    end_learning_rate=0.005,
    power=2.0,
)

CASES = {library: [] for library in LIBRARIES}


def _case(libraries, slug, name, kind="plain", seed=0, extras=None, **arguments):
    for library in libraries.split():
        CASES[library].append(
            {
                "slug": slug,
                "class": name,
                "arguments": dict(arguments),
                "kind": kind,
                "seed": seed,
                "extras": dict(extras or {}),
            }
        )


NEW = "keras3 tf_keras"
NO_BIAS = {"exclude_var_names": ["bias"]}

# --- Keras 3 and tf.keras 2.15 ------------------------------------------------

_case(NEW, "sgd_plain", "SGD", learning_rate=0.05)
_case(NEW, "sgd_momentum", "SGD", learning_rate=0.05, momentum=0.8)
_case(NEW, "sgd_nesterov", "SGD", learning_rate=0.05, momentum=0.8, nesterov=True)
_case(NEW, "sgd_plain_piecewise", "SGD", seed=1, learning_rate=PIECEWISE)
_case(NEW, "sgd_momentum_exponential", "SGD", seed=1, learning_rate=EXPONENTIAL, momentum=0.9)
_case(NEW, "sgd_nesterov_piecewise", "SGD", seed=1, learning_rate=PIECEWISE, momentum=0.9, nesterov=True)

for _name, _extra in (
    ("plain", {}),
    ("momentum", {"momentum": 0.7}),
    ("centered", {"centered": True}),
    ("centered_momentum", {"centered": True, "momentum": 0.7}),
):
    _case(NEW, f"rmsprop_{_name}", "RMSprop", learning_rate=0.01, rho=0.8, **_extra)
    _case(NEW, f"rmsprop_{_name}_epsilon", "RMSprop", seed=1, learning_rate=0.02, rho=0.85, epsilon=0.03, **_extra)
_case(
    NEW,
    "rmsprop_centered_momentum_schedule",
    "RMSprop",
    seed=2,
    learning_rate=SMALL,
    rho=0.85,
    centered=True,
    momentum=0.7,
    epsilon=0.01,
)

_case(NEW, "adagrad_epsilon", "Adagrad", learning_rate=0.1, epsilon=0.03)
_case(NEW, "adagrad_accumulator_half", "Adagrad", seed=1, learning_rate=0.1, initial_accumulator_value=0.5)
_case(NEW, "adagrad_accumulator_zero", "Adagrad", seed=2, learning_rate=0.1, initial_accumulator_value=0.0)
_case(NEW, "adagrad_zeros", "Adagrad", kind="zeros", learning_rate=0.1, initial_accumulator_value=0.0, epsilon=1e-3)

_case(NEW, "adadelta", "Adadelta", learning_rate=1.0, rho=0.9)
_case(NEW, "adadelta_epsilon", "Adadelta", seed=1, learning_rate=0.7, rho=0.8, epsilon=0.001)

_case(NEW, "adam", "Adam", learning_rate=0.02)
_case(NEW, "adam_epsilon", "Adam", seed=1, learning_rate=0.02, epsilon=0.03)
_case(NEW, "adam_amsgrad", "Adam", kind="shrinking", learning_rate=0.02, beta_2=0.9, amsgrad=True)
_case(NEW, "adam_schedule", "Adam", seed=2, learning_rate=SMALL, beta_1=0.8)
_case(NEW, "adam_weight_decay", "Adam", seed=2, extras=NO_BIAS, learning_rate=0.02, weight_decay=0.3)
_case(NEW, "adam_zeros", "Adam", kind="zeros", learning_rate=0.02, beta_2=0.99)

_case(NEW, "adamw", "AdamW", learning_rate=0.02)
_case(NEW, "adamw_exclusion", "AdamW", seed=2, extras=NO_BIAS, learning_rate=0.02, weight_decay=0.3)
_case(
    NEW,
    "adamw_schedule_amsgrad",
    "AdamW",
    kind="shrinking",
    learning_rate=SMALL,
    weight_decay=0.3,
    beta_2=0.9,
    amsgrad=True,
)

_case(NEW, "adamax_epsilon", "Adamax", learning_rate=0.02, epsilon=0.03)
_case(NEW, "adamax_betas", "Adamax", kind="zeros", learning_rate=0.02, beta_1=0.8, beta_2=0.95)

_case(NEW, "nadam", "Nadam", learning_rate=0.02)
_case(NEW, "nadam_schedule", "Nadam", seed=1, learning_rate=SMALL, beta_1=0.8, beta_2=0.95, epsilon=0.01)

_case(NEW, "ftrl", "Ftrl", learning_rate=0.2)
_case(NEW, "ftrl_l1", "Ftrl", seed=1, learning_rate=0.2, l1_regularization_strength=0.5)
_case(NEW, "ftrl_l2", "Ftrl", learning_rate=0.2, l2_regularization_strength=0.3)
_case(NEW, "ftrl_shrinkage", "Ftrl", learning_rate=0.2, l2_shrinkage_regularization_strength=0.3)
_case(NEW, "ftrl_beta", "Ftrl", learning_rate=0.2, beta=0.5)
_case(
    NEW,
    "ftrl_all",
    "Ftrl",
    seed=2,
    learning_rate=0.2,
    learning_rate_power=-0.3,
    initial_accumulator_value=0.2,
    l1_regularization_strength=0.1,
    l2_regularization_strength=0.1,
    l2_shrinkage_regularization_strength=0.2,
    beta=0.5,
)
_case(NEW, "ftrl_zeros", "Ftrl", kind="zeros", learning_rate=0.2, l1_regularization_strength=0.05)

_case(NEW, "lion", "Lion", learning_rate=0.01, beta_1=0.8, beta_2=0.95)
_case(NEW, "lion_zeros_schedule", "Lion", kind="zeros", learning_rate=SMALL)

_case(NEW, "adafactor", "Adafactor", learning_rate=0.05)
_case(NEW, "adafactor_clip", "Adafactor", seed=1, learning_rate=0.05, clip_threshold=0.5, beta_2_decay=-0.6)
_case(NEW, "adafactor_large_rate", "Adafactor", seed=2, learning_rate=0.5, epsilon_2=0.1)
_case(NEW, "adafactor_weight_decay", "Adafactor", seed=1, extras=NO_BIAS, learning_rate=0.05, weight_decay=0.3)

for _seed, _name in ((0, "SGD"), (1, "Adam")):
    _low = _name.lower()
    _case(NEW, f"{_low}_clipnorm", _name, kind="large", seed=_seed, learning_rate=0.05, clipnorm=0.7)
    _case(NEW, f"{_low}_clipvalue", _name, kind="large", seed=_seed, learning_rate=0.05, clipvalue=0.3)
    _case(NEW, f"{_low}_global_clipnorm", _name, kind="large", seed=_seed, learning_rate=0.05, global_clipnorm=1.5)
    for _frequency in (1, 3, None):
        _case(
            NEW,
            f"{_low}_ema_{str(_frequency).lower()}",
            _name,
            seed=_seed,
            extras={"average": True},
            learning_rate=0.05,
            use_ema=True,
            ema_momentum=0.8,
            ema_overwrite_frequency=_frequency,
        )
_case(NEW, "sgd_weight_decay", "SGD", seed=2, extras=NO_BIAS, learning_rate=0.05, momentum=0.8, weight_decay=0.3)

# --- Keras 3 only ---------------------------------------------------------------

_case("keras3", "lamb", "Lamb", seed=1, learning_rate=0.05)
_case(
    "keras3",
    "lamb_weight_decay",
    "Lamb",
    seed=2,
    extras=NO_BIAS,
    learning_rate=0.05,
    beta_2=0.95,
    epsilon=0.01,
    weight_decay=0.3,
)
_case("keras3", "lamb_zeros", "Lamb", kind="zeros", learning_rate=0.05, beta_1=0.8)

_case("keras3", "muon", "Muon", learning_rate=0.02)
_case("keras3", "muon_no_nesterov", "Muon", seed=1, learning_rate=0.02, nesterov=False, momentum=0.8, adam_lr_ratio=0.5)
_case(
    "keras3",
    "muon_no_rms_rate",
    "Muon",
    seed=2,
    learning_rate=0.02,
    rms_rate=None,
    weight_decay=0.3,
    adam_weight_decay=0.1,
    ns_steps=3,
)
_case(
    "keras3",
    "muon_exclude_layers",
    "Muon",
    learning_rate=0.02,
    exclude_layers=["dense"],
    adam_beta_1=0.8,
    adam_beta_2=0.95,
    epsilon=0.01,
)
_case("keras3", "muon_embeddings", "Muon", kind="zeros", learning_rate=0.02, exclude_embeddings=False)
_case("keras3", "muon_schedule", "Muon", seed=1, learning_rate=SMALL, weight_decay=0.2, extras=NO_BIAS)

_case("keras3", "schedule_free_adamw", "ScheduleFreeAdamW", learning_rate=0.02)
_case(
    "keras3",
    "schedule_free_adamw_warmup",
    "ScheduleFreeAdamW",
    seed=1,
    learning_rate=0.02,
    warmup_steps=10,
    beta_1=0.8,
    beta_2=0.95,
)
_case(
    "keras3",
    "schedule_free_adamw_weight_decay",
    "ScheduleFreeAdamW",
    seed=2,
    extras=NO_BIAS,
    learning_rate=0.02,
    weight_decay=0.3,
    epsilon=0.01,
)

for _seed, _name in ((0, "SGD"), (1, "Adam")):
    _low = _name.lower()
    _case("keras3", f"{_low}_accumulation", _name, seed=_seed, learning_rate=0.05, gradient_accumulation_steps=3)
    _case(
        "keras3",
        f"{_low}_loss_scale_factor",
        _name,
        seed=_seed,
        extras={"gradient_factor": 128.0},
        learning_rate=0.05,
        loss_scale_factor=128.0,
    )
    _case(
        "keras3",
        f"{_low}_loss_scale_optimizer",
        _name,
        seed=_seed,
        learning_rate=0.05,
        extras={
            "loss_scale": {
                "arguments": {"initial_scale": 16.0, "dynamic_growth_steps": 4},
                "inf_steps": [2, 9, 10, 21],
                "inf_path": "dense/kernel",
            }
        },
    )
_case(
    "keras3",
    "sgd_accumulation_schedule",
    "SGD",
    seed=2,
    learning_rate=PIECEWISE,
    momentum=0.8,
    gradient_accumulation_steps=3,
)
_case(
    "keras3",
    "sgd_accumulation_clip",
    "SGD",
    kind="large",
    seed=1,
    learning_rate=0.05,
    gradient_accumulation_steps=3,
    global_clipnorm=1.5,
)
_case(
    "keras3",
    "sgd_accumulation_ema",
    "SGD",
    seed=2,
    extras={"average": True},
    learning_rate=0.05,
    gradient_accumulation_steps=3,
    use_ema=True,
    ema_momentum=0.8,
    ema_overwrite_frequency=2,
)

# --- tf.keras.optimizers.legacy ---------------------------------------------------

_case("legacy", "sgd_plain", "SGD", learning_rate=0.05)
_case("legacy", "sgd_momentum", "SGD", learning_rate=0.05, momentum=0.8)
_case("legacy", "sgd_nesterov", "SGD", learning_rate=0.05, momentum=0.8, nesterov=True)
_case("legacy", "sgd_decay", "SGD", seed=1, learning_rate=0.1, momentum=0.8, decay=0.1)
_case("legacy", "sgd_schedule", "SGD", seed=1, learning_rate=PIECEWISE, momentum=0.8)
_case("legacy", "sgd_decay_schedule", "SGD", seed=1, learning_rate=PIECEWISE, momentum=0.8, nesterov=True, decay=0.1)
for _name, _extra in (
    ("plain", {}),
    ("momentum", {"momentum": 0.7}),
    ("centered", {"centered": True}),
    ("centered_momentum", {"centered": True, "momentum": 0.7}),
):
    _case("legacy", f"rmsprop_{_name}_epsilon", "RMSprop", learning_rate=0.02, rho=0.85, epsilon=0.03, **_extra)
_case("legacy", "rmsprop_plain", "RMSprop", seed=1, learning_rate=0.02, rho=0.85)
_case("legacy", "adagrad_epsilon", "Adagrad", learning_rate=0.1, epsilon=0.03)
_case("legacy", "adagrad_accumulator_zero", "Adagrad", kind="zeros", learning_rate=0.1, initial_accumulator_value=0.0)
_case("legacy", "adadelta", "Adadelta", learning_rate=1.0, rho=0.9)
_case("legacy", "adadelta_epsilon", "Adadelta", seed=1, learning_rate=0.7, rho=0.8, epsilon=0.001)
_case("legacy", "adam", "Adam", learning_rate=0.02)
_case("legacy", "adam_amsgrad", "Adam", kind="shrinking", learning_rate=0.02, beta_2=0.9, amsgrad=True)
_case("legacy", "adam_epsilon", "Adam", seed=1, learning_rate=0.02, epsilon=0.03)
_case("legacy", "adam_epsilon_zero", "Adam", kind="zeros", learning_rate=0.02, epsilon=0.0)
_case("legacy", "adam_decay", "Adam", seed=2, learning_rate=0.02, beta_2=0.99, decay=0.1)
_case("legacy", "adamax_epsilon", "Adamax", learning_rate=0.02, epsilon=0.03)
_case("legacy", "nadam", "Nadam", learning_rate=0.02)
_case(
    "legacy",
    "nadam_schedule_decay",
    "Nadam",
    seed=1,
    learning_rate=0.02,
    beta_1=0.8,
    beta_2=0.95,
    epsilon=0.01,
    schedule_decay=0.1,
)
_case("legacy", "ftrl", "Ftrl", learning_rate=0.2)
_case(
    "legacy",
    "ftrl_all",
    "Ftrl",
    seed=2,
    learning_rate=0.2,
    learning_rate_power=-0.3,
    initial_accumulator_value=0.2,
    l1_regularization_strength=0.1,
    l2_regularization_strength=0.1,
    l2_shrinkage_regularization_strength=0.2,
    beta=0.5,
)
_case("legacy", "sgd_clipnorm", "SGD", kind="large", learning_rate=0.05, clipnorm=0.7)
_case("legacy", "sgd_clipvalue", "SGD", kind="large", learning_rate=0.05, clipvalue=0.3)
_case("legacy", "sgd_global_clipnorm", "SGD", kind="large", learning_rate=0.05, global_clipnorm=1.5)
_case("legacy", "sgd_clipnorm_clipvalue", "SGD", kind="large", learning_rate=0.05, clipnorm=0.7, clipvalue=0.3)
_case(
    "legacy",
    "adam_clipvalue_global_clipnorm",
    "Adam",
    kind="large",
    seed=1,
    learning_rate=0.02,
    clipvalue=0.3,
    global_clipnorm=1.5,
)

# --- PyTorch; its two betas are written as beta_1 and beta_2 ----------------------

_case("torch", "sgd_momentum", "SGD", lr=0.05, momentum=0.8, weight_decay=0.3)
_case("torch", "sgd_nesterov", "SGD", seed=1, lr=0.05, momentum=0.8, nesterov=True)
_case("torch", "adam", "Adam", lr=0.02)
_case("torch", "adam_epsilon_decay", "Adam", seed=1, lr=0.02, eps=0.03, weight_decay=0.3)
_case("torch", "adam_amsgrad", "Adam", kind="shrinking", lr=0.02, beta_1=0.9, beta_2=0.9, amsgrad=True)
_case("torch", "adamw", "AdamW", seed=2, lr=0.02, weight_decay=0.3)
_case("torch", "adamw_amsgrad", "AdamW", kind="shrinking", lr=0.02, beta_1=0.8, beta_2=0.9, amsgrad=True)
_case("torch", "nadam", "NAdam", lr=0.02)
_case("torch", "nadam_decay", "NAdam", seed=1, lr=0.02, momentum_decay=0.03, weight_decay=0.3)
_case("torch", "nadam_decoupled", "NAdam", seed=2, lr=0.02, eps=0.03, weight_decay=0.3, decoupled_weight_decay=True)
_case("torch", "radam", "RAdam", lr=0.02, eps=0.03)
_case("torch", "radam_decay", "RAdam", seed=1, lr=0.02, beta_1=0.9, beta_2=0.95, weight_decay=0.3)
_case("torch", "radam_decoupled", "RAdam", seed=2, lr=0.02, eps=0.03, weight_decay=0.3, decoupled_weight_decay=True)
_case("torch", "rmsprop", "RMSprop", lr=0.01, alpha=0.8, eps=0.03)
_case("torch", "rmsprop_momentum", "RMSprop", seed=1, lr=0.01, alpha=0.8, momentum=0.7, weight_decay=0.3)
_case("torch", "rmsprop_centered_momentum", "RMSprop", lr=0.01, alpha=0.8, centered=True, momentum=0.7, eps=0.03)
_case("torch", "adagrad", "Adagrad", lr=0.1, eps=0.03, initial_accumulator_value=0.5)
_case("torch", "adagrad_decay", "Adagrad", seed=1, lr=0.1, lr_decay=0.1, weight_decay=0.3)
_case("torch", "adadelta", "Adadelta", lr=1.0, rho=0.9, eps=1e-3, weight_decay=0.3)
_case("torch", "adamax", "Adamax", lr=0.02, eps=0.03)
_case("torch", "adamax_decay", "Adamax", seed=1, lr=0.02, weight_decay=0.3)

# --- TensorFlow Addons ----------------------------------------------------------------

ADDONS = "tf_addons"
for _decay in (0.0, 0.02):
    for _averaging in (False, True):
        for _amsgrad in (False, True):
            _slug = "novograd"
            _slug += "_weight_decay" * (_decay > 0) + "_averaging" * _averaging + "_amsgrad" * _amsgrad
            _case(
                ADDONS,
                _slug,
                "NovoGrad",
                kind="shrinking" if _amsgrad else "plain",
                learning_rate=0.05,
                beta_1=0.8,
                beta_2=0.5,
                weight_decay=_decay,
                grad_averaging=_averaging,
                amsgrad=_amsgrad,
            )
_case(ADDONS, "novograd_epsilon", "NovoGrad", seed=1, learning_rate=0.05, beta_2=0.5, epsilon=0.1)
_case(
    ADDONS,
    "novograd_schedule",
    "NovoGrad",
    seed=1,
    learning_rate=PIECEWISE,
    beta_2=0.6,
    weight_decay=0.02,
    grad_averaging=True,
)
_case(ADDONS, "novograd_decay", "NovoGrad", seed=2, learning_rate=0.1, beta_2=0.6, decay=0.1)
_case(
    ADDONS,
    "novograd_zeros",
    "NovoGrad",
    kind="zeros",
    learning_rate=0.05,
    beta_2=0.6,
    grad_averaging=True,
    weight_decay=0.02,
)
_case(
    ADDONS,
    "novograd_clip",
    "NovoGrad",
    kind="large",
    seed=1,
    learning_rate=0.05,
    beta_2=0.6,
    clipnorm=0.7,
    clipvalue=0.3,
)

_case(ADDONS, "radam", "RectifiedAdam", learning_rate=0.02)
_case(ADDONS, "radam_beta", "RectifiedAdam", seed=1, learning_rate=0.02, beta_1=0.8, beta_2=0.9)
_case(
    ADDONS,
    "radam_weight_decay",
    "RectifiedAdam",
    seed=2,
    learning_rate=0.02,
    beta_2=0.9,
    weight_decay=0.1,
    epsilon=0.01,
)
_case(ADDONS, "radam_amsgrad", "RectifiedAdam", kind="shrinking", learning_rate=0.02, beta_2=0.9, amsgrad=True)
_case(
    ADDONS,
    "radam_warmup",
    "RectifiedAdam",
    seed=1,
    learning_rate=0.05,
    beta_2=0.95,
    total_steps=20,
    warmup_proportion=0.25,
    min_lr=0.005,
)
_case(ADDONS, "radam_threshold", "RectifiedAdam", seed=2, learning_rate=0.02, beta_2=0.99, sma_threshold=4.0)
_case(ADDONS, "radam_schedule", "RectifiedAdam", seed=2, learning_rate=SMALL, beta_2=0.9, weight_decay=EXPONENTIAL)

_case(ADDONS, "adabelief", "AdaBelief", learning_rate=0.02)
_case(ADDONS, "adabelief_no_rectify", "AdaBelief", learning_rate=0.02, beta_2=0.95, rectify=False)
_case(ADDONS, "adabelief_weight_decay", "AdaBelief", seed=1, learning_rate=0.02, beta_2=0.9, weight_decay=0.1)
_case(
    ADDONS,
    "adabelief_warmup",
    "AdaBelief",
    seed=1,
    learning_rate=0.05,
    beta_2=0.95,
    rectify=False,
    total_steps=20,
    warmup_proportion=0.25,
    min_lr=0.005,
)
_case(
    ADDONS,
    "adabelief_amsgrad",
    "AdaBelief",
    kind="shrinking",
    learning_rate=0.02,
    beta_2=0.9,
    rectify=False,
    amsgrad=True,
)
_case(ADDONS, "adabelief_epsilon", "AdaBelief", seed=2, learning_rate=0.02, beta_2=0.9, epsilon=1e-3)
_case(
    ADDONS,
    "adabelief_no_rectify_epsilon",
    "AdaBelief",
    kind="zeros",
    learning_rate=0.02,
    beta_2=0.9,
    rectify=False,
    epsilon=1e-3,
)

_case(ADDONS, "yogi", "Yogi", learning_rate=0.02)
_case(ADDONS, "yogi_tanh", "Yogi", seed=1, learning_rate=0.02, beta1=0.8, beta2=0.9, activation="tanh")
_case(ADDONS, "yogi_beta1_zero", "Yogi", seed=2, learning_rate=0.02, beta1=0.0, beta2=0.9, epsilon=0.01)
_case(ADDONS, "yogi_l1", "Yogi", learning_rate=0.02, beta2=0.9, l1_regularization_strength=0.2)
_case(ADDONS, "yogi_l2", "Yogi", seed=1, learning_rate=0.02, beta2=0.9, l2_regularization_strength=0.3)
_case(
    ADDONS,
    "yogi_l1_l2",
    "Yogi",
    seed=2,
    learning_rate=0.02,
    beta2=0.9,
    l1_regularization_strength=0.2,
    l2_regularization_strength=0.3,
    initial_accumulator_value=0.1,
)

_case(ADDONS, "lazy_adam", "LazyAdam", learning_rate=0.02, beta_2=0.95)
_case(ADDONS, "lazy_adam_amsgrad", "LazyAdam", kind="shrinking", learning_rate=0.02, beta_2=0.9, amsgrad=True)

_case(ADDONS, "lamb", "LAMB", seed=1, learning_rate=0.05)
_case(ADDONS, "lamb_weight_decay", "LAMB", learning_rate=0.05, beta_2=0.95, epsilon=0.01, weight_decay=0.3)
_case(
    ADDONS,
    "lamb_no_decay_bias",
    "LAMB",
    seed=2,
    learning_rate=0.05,
    weight_decay=0.3,
    exclude_from_weight_decay=["bias"],
)
_case(
    ADDONS,
    "lamb_no_adaptation",
    "LAMB",
    seed=2,
    learning_rate=0.05,
    weight_decay=0.3,
    exclude_from_weight_decay=["bias"],
    exclude_from_layer_adaptation=["kernel", "scale"],
)
_case(ADDONS, "lamb_zeros", "LAMB", kind="zeros", learning_rate=0.05, beta_1=0.8)

_case(ADDONS, "sgdw", "SGDW", learning_rate=0.05, weight_decay=0.02)
_case(
    ADDONS,
    "sgdw_momentum",
    "SGDW",
    seed=1,
    learning_rate=0.05,
    momentum=0.8,
    weight_decay=0.02,
    exclude_from_weight_decay=["bias", "scale"],
)
_case(ADDONS, "sgdw_nesterov", "SGDW", learning_rate=0.05, momentum=0.8, nesterov=True, weight_decay=0.02)
_case(ADDONS, "sgdw_schedule", "SGDW", seed=2, learning_rate=PIECEWISE, momentum=0.8, weight_decay=EXPONENTIAL)
_case(ADDONS, "adamw", "AdamW", learning_rate=0.02, weight_decay=0.02, beta_2=0.95)
_case(
    ADDONS,
    "adamw_exclusion",
    "AdamW",
    kind="shrinking",
    learning_rate=SMALL,
    weight_decay=0.02,
    beta_2=0.9,
    amsgrad=True,
    exclude_from_weight_decay=["bias"],
)

_case(ADDONS, "proximal_adagrad", "ProximalAdagrad", learning_rate=0.1)
_case(ADDONS, "proximal_adagrad_l1", "ProximalAdagrad", learning_rate=0.1, l1_regularization_strength=0.1)
_case(ADDONS, "proximal_adagrad_l2", "ProximalAdagrad", seed=1, learning_rate=0.1, l2_regularization_strength=0.3)
_case(
    ADDONS,
    "proximal_adagrad_l1_l2",
    "ProximalAdagrad",
    seed=2,
    learning_rate=0.1,
    initial_accumulator_value=0.3,
    l1_regularization_strength=0.1,
    l2_regularization_strength=0.3,
)

# The nuclear norm fails for a kernel of rank 4.
_MATRICES = {"paths": ["dense/bias", "dense/kernel", "embedding", "scale"]}
_case(ADDONS, "conditional_gradient_fro", "ConditionalGradient", learning_rate=0.9, lambda_=0.2, epsilon=0.01)
_case(
    ADDONS,
    "conditional_gradient_nuclear",
    "ConditionalGradient",
    seed=1,
    extras=_MATRICES,
    learning_rate=0.9,
    lambda_=0.2,
    ord="nuclear",
)

_case(ADDONS, "cocob", "COCOB", kind="zeros")
_case(ADDONS, "cocob_alpha", "COCOB", kind="shrinking", alpha=2.0)

_INNER_SGD = {"class": "SGD", "arguments": {"learning_rate": 0.05, "momentum": 0.8}}
_INNER_ADAM = {"class": "Adam", "arguments": {"learning_rate": 0.02, "beta_2": 0.95}}
_case(ADDONS, "lookahead_sgd", "Lookahead", extras={"inner": _INNER_SGD}, sync_period=4, slow_step_size=0.3)
_case(ADDONS, "lookahead_adam", "Lookahead", seed=1, extras={"inner": _INNER_ADAM})
_AVERAGED = {"inner": _INNER_SGD, "average": True}
_case(ADDONS, "moving_average", "MovingAverage", extras=_AVERAGED, average_decay=0.8)
_case(
    ADDONS, "moving_average_dynamic", "MovingAverage", seed=1, extras=_AVERAGED, average_decay=0.6, dynamic_decay=True
)
_case(ADDONS, "moving_average_start", "MovingAverage", extras=_AVERAGED, average_decay=0.8, start_step=5)
_case(
    ADDONS,
    "moving_average_start_dynamic",
    "MovingAverage",
    seed=1,
    extras=_AVERAGED,
    average_decay=0.6,
    start_step=5,
    dynamic_decay=True,
)
_case(ADDONS, "moving_average_updates", "MovingAverage", extras=_AVERAGED, average_decay=0.8, num_updates=4)
_case(ADDONS, "swa", "SWA", extras=_AVERAGED, start_averaging=5, average_period=3)

for _library, _cases in CASES.items():
    _slugs = [case["slug"] for case in _cases]
    assert len(_slugs) == len(set(_slugs)), _library

# --- Learning-rate schedules ------------------------------------------------------------

# Evaluated at 0..60 (Keras: an integer step; TensorFlow Addons: a float32 step, as
# its optimizers give it, because an integer fails where `x` is the step) and at these steps as well.
SCHEDULE_STEPS = [*list(range(61)), 69, 70, 71, 99, 100, 101, 149, 150, 151, 1000]


def _rate(slug, name, **arguments):
    return {"slug": slug, "class": name, "arguments": arguments}


_LR = {"initial_learning_rate": 0.1}
KERAS_SCHEDULES = [
    _rate("exponential", "ExponentialDecay", decay_steps=7, decay_rate=0.6, **_LR),
    _rate("exponential_staircase", "ExponentialDecay", decay_steps=7, decay_rate=0.6, staircase=True, **_LR),
    _rate("piecewise", "PiecewiseConstantDecay", boundaries=[4, 15, 40], values=[0.08, 0.02, 0.05, 0.001]),
    _rate("polynomial", "PolynomialDecay", decay_steps=20, **_LR),
    _rate("polynomial_power", "PolynomialDecay", decay_steps=20, end_learning_rate=0.01, power=2.0, **_LR),
    _rate("polynomial_cycle", "PolynomialDecay", decay_steps=10, end_learning_rate=0.01, cycle=True, **_LR),
    _rate(
        "polynomial_cycle_power",
        "PolynomialDecay",
        decay_steps=10,
        end_learning_rate=0.01,
        power=2.0,
        cycle=True,
        **_LR,
    ),
    _rate("polynomial_root", "PolynomialDecay", decay_steps=20, end_learning_rate=0.0, power=0.5, **_LR),
    _rate("inverse_time", "InverseTimeDecay", decay_steps=7, decay_rate=0.5, **_LR),
    _rate("inverse_time_staircase", "InverseTimeDecay", decay_steps=7, decay_rate=0.5, staircase=True, **_LR),
    _rate("cosine", "CosineDecay", decay_steps=30, **_LR),
    _rate("cosine_alpha", "CosineDecay", decay_steps=30, alpha=0.2, **_LR),
    _rate("cosine_warmup", "CosineDecay", decay_steps=30, alpha=0.1, warmup_target=0.5, warmup_steps=10, **_LR),
    _rate(
        "cosine_warmup_zero",
        "CosineDecay",
        initial_learning_rate=0.0,
        decay_steps=30,
        warmup_target=0.5,
        warmup_steps=10,
    ),
    _rate("restarts_even", "CosineDecayRestarts", first_decay_steps=10, t_mul=1.0, **_LR),
    _rate("restarts", "CosineDecayRestarts", first_decay_steps=10, t_mul=2.0, **_LR),
    _rate("restarts_half", "CosineDecayRestarts", first_decay_steps=10, t_mul=2.0, m_mul=0.5, **_LR),
    _rate(
        "restarts_even_half_alpha", "CosineDecayRestarts", first_decay_steps=7, t_mul=1.0, m_mul=0.5, alpha=0.1, **_LR
    ),
    _rate("restarts_alpha", "CosineDecayRestarts", first_decay_steps=10, t_mul=1.5, m_mul=0.8, alpha=0.1, **_LR),
]

_RANGE = {"initial_learning_rate": 0.01, "maximal_learning_rate": 0.1}
# A scale function is written {"function": expression of x}.
ADDONS_SCHEDULES = [
    _rate("cyclical_one", "CyclicalLearningRate", step_size=7, scale_fn={"function": "1.0"}, **_RANGE),
    _rate(
        "cyclical_cycle",
        "CyclicalLearningRate",
        step_size=7,
        scale_fn={"function": "1.0 / x"},
        scale_mode="cycle",
        **_RANGE,
    ),
    _rate(
        "cyclical_iterations",
        "CyclicalLearningRate",
        step_size=7,
        scale_fn={"function": "0.95 ** x"},
        scale_mode="iterations",
        **_RANGE,
    ),
    _rate("triangular", "TriangularCyclicalLearningRate", step_size=7, **_RANGE),
    _rate("triangular_iterations", "TriangularCyclicalLearningRate", step_size=10, scale_mode="iterations", **_RANGE),
    _rate("triangular2", "Triangular2CyclicalLearningRate", step_size=7, **_RANGE),
    _rate("triangular2_iterations", "Triangular2CyclicalLearningRate", step_size=7, scale_mode="iterations", **_RANGE),
    _rate("cyclical_exponential", "ExponentialCyclicalLearningRate", step_size=7, gamma=0.95, **_RANGE),
    _rate(
        "cyclical_exponential_cycle",
        "ExponentialCyclicalLearningRate",
        step_size=7,
        gamma=0.8,
        scale_mode="cycle",
        **_RANGE,
    ),
]

# PyTorch raises behind the last step: these are evaluated at 0..60.
_CYCLE = {"max_lr": 0.1, "total_steps": 61}
TORCH_SCHEDULES = [
    _rate("one_cycle", "OneCycleLR", **_CYCLE),
    _rate("one_cycle_linear", "OneCycleLR", anneal_strategy="linear", pct_start=0.25, **_CYCLE),
    _rate("one_cycle_three", "OneCycleLR", three_phase=True, div_factor=10.0, final_div_factor=100.0, **_CYCLE),
    _rate("one_cycle_three_linear", "OneCycleLR", three_phase=True, pct_start=0.4, anneal_strategy="linear", **_CYCLE),
    _rate("one_cycle_late", "OneCycleLR", pct_start=0.9, **_CYCLE),
]
