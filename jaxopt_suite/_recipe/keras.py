"""What the configs that Keras, tf.keras and TF Addons wrote say otherwise than ours."""

import re
from collections.abc import Iterator, Mapping

from jaxopt_suite._recipe.check import Config, Value, show
from jaxopt_suite._recipe.recipe import Factory

# keys that Keras writes beside the class name and the config
WRITTEN = ("module", "registered_name", "build_config", "compile_config", "shared_object_id")

_PACKAGES = ("keras", "tf_keras", "tensorflow_addons")
_LEGACY = ("keras.optimizers.legacy", "keras.src.optimizers.legacy", "tensorflow_addons")


def written_by(owner: str, data: Config) -> str:
    """The module that wrote a config; empty where that is not said."""
    for key in ("module", "registered_name"):
        if not isinstance(data.get(key), (str, type(None))):
            raise TypeError(f"{owner}: {key!r} must be a string, got {show(data[key])}.")
    if any((data.get(key) or "").startswith("Addons>") for key in ("class_name", "registered_name")):
        return "tensorflow_addons"
    module = data.get("module") or ""
    if module not in ("", "builtins") and module.partition(".")[0] not in _PACKAGES:
        raise ValueError(f"{owner}: the module {show(module)} is not Keras's: give its class in custom_objects.")
    return module.removeprefix("tf_")


def translated(make: Factory[..., Value], arguments: dict[str, Value], module: str) -> dict[str, Value]:
    """The arguments of a config that a module of Keras wrote, in our words."""
    if "optimizer" in make.words:
        arguments = {name: value for name, value in arguments.items() if not _of_the_inner(make, name, arguments)}
    if not module and "is_legacy_optimizer" not in arguments:
        return arguments
    ours = {name: value for name, value in arguments.items() if not _says_nothing(make, name, value)}
    if ours.pop("is_legacy_optimizer", False) or module.startswith(_LEGACY):
        if "dialect" in make.words:
            ours.setdefault("dialect", "legacy")
        if make.class_name == "Nadam" and "decay" in ours:  # where the legacy Nadam keeps it
            ours["schedule_decay"] = ours.pop("decay")
    else:
        ours.pop("jit_compile", None)  # TensorFlow's choice, for its own compiler on the machine it ran on
    if not ours.get("use_ema"):
        ours.pop("ema_overwrite_frequency", None)  # RMSprop's is 100, on or off
    return ours


def _says_nothing(make: Factory[..., Value], name: str, value: Value) -> bool:
    """Whether an argument is None for "nothing", where ours is an empty list."""
    word = make.words.get(name)
    return value is None and word is not None and word.kind == "patterns"


# what the configs of Keras's wrappers hold of their base class, and what it is where it is off
_BASE = {
    "weight_decay": None,
    "clipnorm": None,
    "global_clipnorm": None,
    "clipvalue": None,
    "use_ema": False,
    "ema_momentum": None,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
    "dynamic": True,  # of tf.keras's LossScaleOptimizer
}


def _of_the_inner(make: Factory[..., Value], name: str, arguments: Config) -> bool:
    """Whether an argument of a wrapper is one of its base class that is off; one that is on is refused."""
    if name not in _BASE or name in make.words:
        return False
    if arguments[name] is _BASE[name] or (name == "ema_momentum" and not arguments.get("use_ema")):
        return True
    if name == "dynamic":
        raise ValueError(f"{make.__name__}: a scale that is not dynamic is loss_scale_factor of the inner optimizer.")
    came = f"{name}={show(arguments[name])}"
    raise ValueError(f"{make.__name__}: {came} has no effect in Keras's wrapper: it belongs to the inner optimizer.")


def renamed(name: Value, config: Config) -> tuple[Value, Config]:
    """The class name and the config by which we know what Keras has under another name."""
    plain = name.rpartition(">")[2].lower() if isinstance(name, str) else ""
    if plain == "lossscaleoptimizerv3":
        return "LossScaleOptimizer", config
    return ("ByPath", _by_path(config)) if plain == "multioptimizer" else (name, config)


def _by_path(config: Config) -> Config:
    """The `MultiOptimizer` of TF Addons, which lists weights, or of Keras 3, which has regexes and a default."""
    if "optimizer_specs" in config:
        return {"rules": [*_listed(config["optimizer_specs"])], "name": config.get("name")}
    if "optimizer_map" in config:
        factor = {"loss_scale_factor": config.get("loss_scale_factor")}
        return {"rules": [*_mapped(config["optimizer_map"])], "name": config.get("name"), **factor}
    raise ValueError("MultiOptimizer: its config must have optimizer_specs or optimizer_map.")


def _listed(specs: Value) -> Iterator[list[Value]]:
    """A rule for each optimizer, of its weights' names; what no optimizer has stays as it is."""
    seen = set()
    for spec in _need(specs, (list, tuple), "optimizer_specs must be a list"):
        spec = _need(spec, Mapping, "each of optimizer_specs must be a dict")
        weights = _need(spec.get("weights"), (list, tuple), "weights must be a list")
        paths = [_need(name, str, "weights must be names").partition(":")[0] for name in weights]
        if twice := seen & {*paths}:
            raise ValueError(f"MultiOptimizer: two optimizers move {show(min(twice))}, which by_path cannot do.")
        seen |= {*paths}
        if paths:
            yield [f"^({'|'.join(map(re.escape, paths))})$", spec.get("optimizer")]
    yield [".*", {"class_name": "Frozen", "config": {}}]


def _mapped(data: Value) -> Iterator[list[Value]]:
    """A rule for each key, first those that are a path, which Keras prefers; the rest has the default."""
    data = _need(data, Mapping, "optimizer_map must be a dict")
    if data.get("class_name") != "OptimizerMap":
        came = show(data.get("class_name"))
        raise ValueError(f"MultiOptimizer: optimizer_map must be an OptimizerMap, got a {came}: write by_path rules.")
    inner = _need(data.get("config"), Mapping, "the config of optimizer_map must be a dict")
    rules = _need(inner.get("optimizer_map"), Mapping, "the rules in optimizer_map must be a dict")
    for key in sorted(rules, key=lambda key: re.fullmatch(r"[\w/-]*", str(key)) is None):
        yield [f"^(?:{_need(key, str, 'the rules in optimizer_map must be regexes')})$", _unscaled(rules[key])]
    yield [".*", _unscaled(inner.get("default_optimizer"))]


def _unscaled(data: Value) -> Value:
    """An optimizer without the loss scale, which it has from the `MultiOptimizer` that it is in."""
    if not isinstance(data, Mapping) or not isinstance(data.get("config"), Mapping):
        return data
    return {**data, "config": {**data["config"], "loss_scale_factor": None}}


def _need(value: Value, kind: Value, must: str) -> Value:
    if not isinstance(value, kind):
        raise TypeError(f"MultiOptimizer: {must}, got {show(value)}.")
    return value
