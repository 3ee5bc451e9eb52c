"""The optimizers of torch."""

import re
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from jaxopt_suite._recipe.check import nearest, show
from jaxopt_suite._recipe.config import lookup
from jaxopt_suite._transformation import Optimizer
from jaxopt_suite._trees import Tree
from jaxopt_suite.groups import by_path, chain, from_optax
from jaxopt_suite.importers._imported import Imported, Transform, imported, ours_of, refuse_no_state, slot, steps_of
from jaxopt_suite.importers._torch_files import array, betas, load, number, scalar
from jaxopt_suite.state._match import Rename, Rules
from jaxopt_suite.state._names import group_keys
from jaxopt_suite.state._variables import COUNT, HELD, Variable, joined


class Known(NamedTuple):
    """One of torch's optimizers.

    Attributes:
      ours: the name of ours.
      kind: the class of its slots.
      slots: their names by torch's.
      settings: our names of its settings.
    """

    ours: str
    kind: str
    slots: Mapping[str, str]
    settings: Mapping[str, str]


_MOMENTS = {"exp_avg": "m", "exp_avg_sq": "v", "max_exp_avg_sq": "vhat"}
_KNOWN = {
    "SGD": Known("sgd", "TraceState", {"momentum_buffer": "trace"}, {"momentum": "momentum", "nesterov": "nesterov"}),
    "Adam": Known("adam", "AdamState", _MOMENTS, {"eps": "epsilon", "amsgrad": "amsgrad"}),
    "AdamW": Known("adamw", "AdamState", _MOMENTS, {"eps": "epsilon", "amsgrad": "amsgrad"}),
    "NAdam": Known("nadam", "NadamState", {**_MOMENTS, "mu_product": "product"},
                   {"eps": "epsilon", "momentum_decay": "schedule_decay",
                    "decoupled_weight_decay": "decoupled_weight_decay"}),
    "RAdam": Known("radam", "RectifiedAdamState", _MOMENTS,
                   {"eps": "epsilon", "decoupled_weight_decay": "decoupled_weight_decay"}),
    "RMSprop": Known("rmsprop", "RMSpropTraceState",
                     {"square_avg": "v", "momentum_buffer": "trace", "grad_avg": "a"},
                     {"alpha": "rho", "eps": "epsilon", "momentum": "momentum", "centered": "centered"}),
    "Adagrad": Known("adagrad", "AdagradState", {"sum": "a"},
                     {"eps": "epsilon", "lr_decay": "decay",
                      "initial_accumulator_value": "initial_accumulator_value"}),
    "Adadelta": Known("adadelta", "AdadeltaState", {"square_avg": "g2", "acc_delta": "dx2"},
                      {"rho": "rho", "eps": "epsilon"}),
    "Adamax": Known("adamax", "AdamaxState", {"exp_avg": "m", "exp_inf": "u"}, {"eps": "epsilon"}),
    "SparseAdam": Known("adam", "AdamState", _MOMENTS, {"eps": "epsilon"}),
}  # fmt: skip

# a setting that only this optimizer has, or that it has and those before have not
_MARKS = {
    "t0": "ASGD",
    "etas": "Rprop",
    "momentum_decay": "NAdam",
    "lr_decay": "Adagrad",
    "alpha": "RMSprop",
    "rho": "Adadelta",
    "dampening": "SGD",
    "amsgrad": "Adam",
    "decoupled_weight_decay": "RAdam",
    "betas": "Adamax",
}

_UPHILL = from_optax("scale", step_size=-1.0)  # the gradients of what is maximized

# settings of how torch computes, and what stands beside the settings
_SILENT = {"foreach", "fused", "capturable", "differentiable", "params", "param_names", "initial_lr"}


def torch(
    source: Mapping[str, Any] | str | PathLike,
    params: Tree,
    names: Sequence[str] | None = None,
    optimizer: Optimizer | str | None = None,
    rename: Rules = None,
    transform: Transform = None,
    strict: bool = True,
    iterations: int | None = None,
) -> Imported:
    """A run of torch's SGD, Adam, AdamW, NAdam, RAdam, RMSprop, Adagrad, Adadelta or Adamax.

    The optimizer is ours in the dialect `torch`; groups of parameters with other settings become groups of `by_path`,
    and with `maximize` it is a `chain` that turns the gradients around.
    The rate is held by the state. A scheduler's state is not in an optimizer's: give the schedule to
    `tx.replace(learning_rate=...)` and `migrate`.

    Arguments:
      source: `optimizer.state_dict()`, a checkpoint with one in it, or a file that `torch.save` wrote either to, which
        is read with `weights_only=True`.
      params: the parameters here.
      names: those of the parameters there, in the order in which the optimizer got them, group by group: with one
        group of all `[name for name, _ in model.named_parameters()]`. Torch writes them itself where the optimizer was
        made from `model.named_parameters()`.
      optimizer: the name of ours, which gets the settings of the groups; or one of ours in the place of the one that is
        read, with the same settings.
      rename: regexes and replacements, or a function, from a name there to a path here.
      transform: `transform(path, array)`, a slot's array as the parameter at `path` is laid out here.
      strict: refuse what would be lost.
      iterations: the steps so far of SGD, which does not count them; without it the count starts from 0.

    Raises:
      TypeError, ValueError: naming a setting that there is nothing like here, a slot that is unknown, or what does
        not fit.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> slots = {"step": jnp.array(3.0), "exp_avg": jnp.ones((1, 2)), "exp_avg_sq": jnp.ones((1, 2))}
    >>> settings = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.5, "amsgrad": False}
    >>> settings["decoupled_weight_decay"] = False
    >>> written = {"state": {0: slots}, "param_groups": [{**settings, "params": [0]}]}
    >>> params = {"fc": {"kernel": jnp.zeros((2, 1))}}
    >>> run = jos.importers.torch(
    ...     written, params, ["fc.weight"], rename={r"(.*)\\.weight": r"\\1/kernel"}, transform=lambda path, x: x.T)
    >>> run.optimizer, jos.state.get_slot(run.state, "fc/kernel", "m").shape
    (adam(learning_rate=0.1, beta_2=0.99, epsilon=1e-08, weight_decay=0.5, dialect='torch'), (2, 1))
    """
    refuse_no_state("torch", source)
    written = source if isinstance(source, Mapping) else load(source)
    groups = _groups(written, names)
    paths = Rename("torch", rename).all([name for group in groups for name in group.names])
    patterns = [f"^({'|'.join(re.escape(paths[name]) for name in group.names)})$" for group in groups]
    for group in groups:
        group.refuse_unknown()
    if iterations is not None:
        iterations = steps_of("torch", "iterations", iterations)
    if optimizer is None or isinstance(optimizer, str):
        made = [group.optimizer(optimizer) for group in groups]
        alike = all(tx == made[0] for tx in made) and len({max(group.steps, default=0) for group in groups}) == 1
        tx = made[0] if alike else by_path(dict(zip(patterns, made, strict=True)))
    else:
        tx, alike = ours_of("torch", optimizer), len(groups) == 1
        for group in groups if alike else ():
            group.refuse_others(tx)
    keys = [""] * len(groups) if alike else group_keys(patterns)
    variables = [v for key, group in zip(keys, groups, strict=True) for v in group.variables(key, iterations)]
    unique = list({(v.name, v.path): v for v in variables}.values())
    return imported("torch", unique, tx, params, rename, transform, strict, names=[*paths])


class _Group:
    """One group of parameters: its settings, and what torch keeps of each parameter."""

    def __init__(self, settings: Mapping[str, Any], names: Sequence[str], kept: Sequence[Mapping[str, Any]]):
        self.settings, self.names, self.kept = settings, names, kept
        self.name = next((name for mark, name in _MARKS.items() if mark in settings), None)
        if self.name == "Adamax" and "weight_decay" not in settings:
            self.name = "SparseAdam"
        if self.name is None:
            raise ValueError(f"torch: these are the settings of no optimizer that is known here: {show([*settings])}.")
        if self.name not in _KNOWN:
            raise ValueError(f"torch: the state_dict is of {self.name}, which is unknown here.")
        if self.name == "Adam" and settings.get("decoupled_weight_decay"):
            self.name = "AdamW"
        self.known = _KNOWN[self.name]
        self.steps = {steps_of("torch", "step", scalar("step", state["step"])) for state in kept if "step" in state}

    def refuse_unknown(self) -> None:
        """Refuses settings that there is nothing like here."""
        given, known = self.settings, self.known
        for name in given:
            if name not in _SILENT | {"lr", "betas", "weight_decay", "decoupled_weight_decay", "maximize", "dampening",
                                      *known.settings}:  # fmt: skip
                raise ValueError(f"torch: {self.name} has a setting {name!r}, which is unknown here.")
        if given.get("dampening") and given.get("momentum"):
            raise ValueError(
                f"torch: {self.name} with dampening={given['dampening']} has no counterpart here: from its second step "
                "on it is SGD without, of 1 - dampening times the rate."
            )

    def optimizer(self, name: str | None) -> Optimizer:
        """Ours, with the same settings, by its name or by what they are."""
        given, known = self.settings, self.known
        if name is None and self.name == "Adam" and given.get("weight_decay") and "decoupled_weight_decay" not in given:
            raise ValueError(
                "torch: this state_dict is of a torch that wrote Adam's and AdamW's alike, which decay otherwise: say "
                "which with optimizer='adam' or optimizer='adamw'."
            )
        tx = lookup(name or known.ours, {}, "torch")(**self.arguments(name or known.ours))
        return chain(_UPHILL, tx) if given.get("maximize") else tx

    def arguments(self, ours: str) -> dict[str, Any]:
        """What ours is given."""
        given, known = self.settings, self.known
        arguments: dict[str, Any] = {"learning_rate": number("lr", given["lr"]), "dialect": "torch"}
        arguments |= {ours: number(name, given[name]) for name, ours in known.settings.items() if name in given}
        if "betas" in given:
            arguments |= dict(zip(("beta_1", "beta_2"), betas(given["betas"]), strict=True))
        if given.get("weight_decay") or ours == "adamw":
            arguments["weight_decay"] = number("weight_decay", given.get("weight_decay"))
        if self.name == "SparseAdam":
            arguments["lazy"] = True
        return {name: x for name, x in arguments.items() if x or name not in ("decay", "decoupled_weight_decay")}

    def refuse_others(self, tx: Optimizer) -> None:
        """Refuses an optimizer of other settings than these, but for the rate and the dialect, which may be meant."""
        have = tx.get_config()
        for name, was in self.arguments(tx.recipe.factory.__name__).items():
            now = have.get(name, was)
            if name not in ("learning_rate", "dialect") and isinstance(now, (int, float)) and now != was:
                raise ValueError(
                    f"torch: {name} was {was}, here it is {now}: give the optimizer's name, or this value."
                )

    def variables(self, place: str, iterations: int | None) -> Iterator[Variable]:
        steps = self.steps
        if len(steps) > 1:
            raise ValueError(
                f"torch: the parameters of a group have taken {sorted(steps)} steps; here they go together."
            )
        count = min(steps) if steps else iterations
        around = [place]
        if self.settings.get("maximize"):  # the members of a chain
            place = joined(place, self.known.ours)
            around += [joined(around[0], "scale"), place]
        if count is not None:
            yield from (Variable(np.int32(count), each, COUNT) for each in around)
        yield Variable(np.float32(number("lr", self.settings["lr"])), place, HELD)
        products = []
        for name, kept in zip(self.names, self.kept, strict=True):
            for key, value in kept.items():
                if key == "step" or value is None:
                    continue
                if key not in self.known.slots:
                    near = nearest(key, self.known.slots)
                    raise ValueError(f"torch: {self.name} keeps {key!r} of {name!r}, which is unknown here.{near}")
                if key == "mu_product":
                    products.append(array(key, value))
                else:
                    yield slot(array(key, value), place, self.known.kind, self.known.slots[key], name)
        if products:
            yield slot(products[0], place, self.known.kind, "product")


def _is_state_dict(written: Any) -> bool:
    return isinstance(written, Mapping) and {"state", "param_groups"} <= {*written}


def _groups(written: Any, names: Sequence[str] | None) -> list[_Group]:
    """The groups of a state_dict, or of the one in a checkpoint, with the names of their parameters."""
    inside = [x for x in written.values() if _is_state_dict(x)] if isinstance(written, Mapping) else []
    if len(inside) == 1 and not _is_state_dict(written):
        return _groups(inside[0], names)
    if not _is_state_dict(written):
        raise ValueError(f"torch: expected a state_dict() with 'state' and 'param_groups', got {show(written)}.")
    settings, state = written["param_groups"], written["state"]
    if not settings:
        raise ValueError(f"torch: 'param_groups' must be a list of groups, got {show(settings)}.")
    for group in settings if isinstance(settings, (list, tuple)) else [settings]:
        if not isinstance(group, Mapping) or not {"params", "lr"} <= {*group}:
            raise ValueError(f"torch: a group of parameters must have 'params' and 'lr', got {show(group)}.")
        if not isinstance(group["params"], (list, tuple)):
            raise TypeError(f"torch: 'params' must be a list of numbers, got {show(group['params'])}.")
    if not isinstance(state, Mapping) or not all(isinstance(kept, Mapping) for kept in state.values()):
        raise ValueError(f"torch: 'state' must be a dict of dicts, got {show(state)}.")
    numbers = [number for group in settings for number in group["params"]]
    if names is None and all("param_names" in group for group in settings):
        names = [name for group in settings for name in group["param_names"]]
    if isinstance(names, str):
        raise TypeError(f"torch: names must be a list of names, got {show(names)}.")
    if names is None:
        raise ValueError(
            "torch: the state_dict does not name the parameters: give names= in the order in which the optimizer got "
            "them, group by group; for one group of all [name for name, _ in model.named_parameters()]."
        )
    if len(names) != len(numbers) or len({*names}) != len(names):
        raise ValueError(f"torch: names must be {len(numbers)} different names, one a parameter, got {show([*names])}.")
    unknown = [number for number in state if number not in numbers]
    if unknown:
        raise ValueError(f"torch: there is a state of parameter {unknown[0]}, which is in no group.")
    by_number = dict(zip(numbers, names, strict=True))
    return [
        _Group(group, [by_number[n] for n in group["params"]], [state.get(n, {}) for n in group["params"]])
        for group in settings
    ]
