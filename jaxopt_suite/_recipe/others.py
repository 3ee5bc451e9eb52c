"""Words of other libraries: what they are called here, or what to do where there is nothing like them."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from jaxopt_suite._recipe.check import nearest


class Other(NamedTuple):
    """A word of another library.

    Attributes:
      ours: what may be meant: the first that is an argument. Where none is, nothing is known of the word.
      advice: what to do, where that is more than to take the other name.
    """

    ours: tuple[str, ...] = ()
    advice: str = ""


_RATE = Other(("learning_rate", "initial_learning_rate"))
_NORM = Other(("global_clipnorm", "clipnorm"))
_EXCLUDE = Other(("exclude_from_weight_decay",), "Name what is not decayed in exclude_from_weight_decay, by regexes.")
_STEPS = Other(("gradient_accumulation_steps",))
_DTYPE = Other(advice="Slots are float32 whatever the parameters are; jos.precision.state_dtype stores them otherwise.")
_TORCH = Other(advice="There is nothing like it, and nothing to set.")

# what Optax, PyTorch, TF Addons and training scripts say
OTHERS: Mapping[str, Other] = {
    "b1": Other(("beta_1", "adam_beta_1")),
    "b2": Other(("beta_2", "adam_beta_2")),
    "betas": Other(("beta_1",), "They come one by one, as beta_1 and beta_2."),
    "eps": Other(("epsilon", "epsilon_1")),
    "eps_root": Other(("epsilon",), "There is no second one, under the root: epsilon is all there is."),
    "alpha": Other(("rho", *_RATE.ours)),
    "step_size": Other((*_RATE.ours, "slow_step_size")),
    "eta": _RATE,
    "lr": _RATE,
    "learning_rate_fn": _RATE,
    "scheduler": _RATE,
    "init_value": _RATE,
    "end_value": Other(("end_learning_rate",)),
    "peak_value": Other(("warmup_target", "maximal_learning_rate")),
    "max_lr": Other(("maximal_learning_rate",)),
    "transition_steps": Other(("decay_steps", "total_steps")),
    "num_training_steps": Other(("total_steps", "decay_steps")),
    "num_warmup_steps": Other(("warmup_steps", "steps")),
    "num_stable_steps": Other(("stable_steps",)),
    "num_decay_steps": Other(("decay_steps",)),
    "momentum": Other(("beta_1",)),
    "use_nesterov": Other(("nesterov",)),
    "initial_accumulator": Other(("initial_accumulator_value",)),
    "wd": Other(("weight_decay",)),
    "weight_decay_rate": Other(("weight_decay",)),
    "mask": _EXCLUDE,
    "weight_decay_mask": _EXCLUDE,
    "decay_var_list": _EXCLUDE,
    "decay_mask_fn": _EXCLUDE,
    "no_decay": _EXCLUDE,
    "max_norm": _NORM,
    "max_grad_norm": _NORM,
    "clip_grad_norm": _NORM,
    "grad_clip": _NORM,
    "grad_clip_norm": _NORM,
    "gradient_clip_norm": _NORM,
    "max_delta": Other(("clipvalue",)),
    "grad_clip_value": Other(("clipvalue",)),
    "ema_decay": Other(("ema_momentum", "average_decay")),
    "loss_scale": Other(("loss_scale_factor", "initial_scale")),
    "every_k": _STEPS,
    "every_k_schedule": _STEPS,
    "accumulation_steps": _STEPS,
    "inner_optimizer": Other(("optimizer",)),
    "mu_dtype": _DTYPE,
    "momentum_dtype": _DTYPE,
    "accumulator_dtype": _DTYPE,
    "state_dtype": _DTYPE,
    "maximize": Other(advice="There is nothing like it: negate the loss."),
    "params": Other(advice="Parameters are given to init and to update."),
    "foreach": _TORCH,
    "fused": _TORCH,
    "capturable": _TORCH,
    "differentiable": _TORCH,
}


def hint(name: str, names: Collection[str]) -> str:
    """What to do about an argument that does not exist: what another library means by it, or the nearest one."""
    other = OTHERS.get(name)
    if other is None:
        return nearest(name, names)
    ours = next((word for word in other.ours if word in names), None)
    if ours is None and other.ours:
        return ""
    return f" {other.advice}" if other.advice else f" Did you mean {ours!r}?"
