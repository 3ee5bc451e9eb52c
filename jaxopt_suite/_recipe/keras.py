"""What the configs that Keras, tf.keras and TF Addons wrote say otherwise than ours."""

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
