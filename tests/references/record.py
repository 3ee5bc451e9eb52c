"""Records what the original optimizer libraries do, as data for the tests.

    python tests/references/record.py keras3|tf_keras|legacy|tf_addons|torch|schedules|schedules_torch

runs the cases of that library (which must be installed) and writes
``<library>.npz`` beside this file.  README.md says which environments are
needed and what the arrays are.
"""

import functools
import json
import os
import platform
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
warnings.filterwarnings("ignore")

import cases as cases_module  # noqa: E402
import inputs  # noqa: E402
import numpy as np  # noqa: E402


def jsonable(value):
    """`value` as JSON data: numbers as Python numbers, callables by name."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if callable(value) and hasattr(value, "__name__"):
        return f"<function {value.__name__}>"
    array = np.asarray(value)
    if array.dtype == object:
        raise TypeError(f"not JSON data: {value!r}")
    return array.tolist()


def first_that_works(*attempts):
    for attempt in attempts:
        try:
            result = jsonable(attempt())
            json.dumps(result)
            return result
        except Exception:  # a library may be unable to describe an optimizer
            continue
    return None


class Keras3:
    """Keras 3 with its JAX backend, used statefully and without jit.

    LossScaleOptimizer works on this backend through ``stateless_apply`` only,
    so that is what is used for it; its values are assigned back.
    """

    def __init__(self):
        os.environ["KERAS_BACKEND"] = "jax"
        import jax
        import keras

        self.keras = keras
        self.versions = {"keras": keras.__version__, "jax": jax.__version__}

    def reset(self):
        self.keras.utils.clear_session()

    def namespace(self, name):
        return getattr(self.keras.optimizers, name)

    def schedule(self, name):
        return getattr(self.keras.optimizers.schedules, name)

    def variable(self, path, value):
        *scopes, name = path.split("/")
        if scopes:
            with self.keras.name_scope("/".join(scopes)):
                return self.keras.Variable(value, name=name)
        return self.keras.Variable(value, name=name)

    def gradient(self, value):
        return self.keras.ops.convert_to_tensor(value)

    def apply(self, optimizer, gradients, variables):
        if isinstance(optimizer, self.keras.optimizers.LossScaleOptimizer):
            new = optimizer.stateless_apply(
                [v.value for v in optimizer.variables],
                gradients,
                [v.value for v in variables],
            )
            for variable, value in zip(variables, new[0], strict=True):
                variable.assign(value)
            for variable, value in zip(optimizer.variables, new[1], strict=True):
                variable.assign(value)
        else:
            optimizer.apply_gradients(list(zip(gradients, variables, strict=True)))

    def value(self, variable):
        return np.asarray(variable)

    def averages(self, optimizer, variables):
        return optimizer._model_variables_moving_average

    def state(self, optimizer):
        return [(v.path, v) for v in optimizer.variables]

    def describe(self, optimizer):
        return first_that_works(lambda: self.keras.optimizers.serialize(optimizer), optimizer.get_config)

    def describe_schedule(self, schedule):
        return first_that_works(lambda: self.keras.optimizers.schedules.serialize(schedule))

    def evaluate(self, schedule, step):
        return np.asarray(schedule(self.keras.ops.convert_to_tensor(step, "int32")))


class TensorFlow:
    """tf.keras, its legacy optimizers and TensorFlow Addons, run eagerly."""

    def __init__(self, library):
        import keras
        import tensorflow as tf

        self.tf = tf
        self.library = library
        self.versions = {
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        }
        self.optimizers = {
            "tf_keras": tf.keras.optimizers,
            "legacy": tf.keras.optimizers.legacy,
        }.get(library)
        if library == "tf_addons":
            import tensorflow_addons as tfa

            self.optimizers = tfa.optimizers
            self.versions["tensorflow_addons"] = tfa.__version__

    def reset(self):
        self.tf.keras.backend.clear_session()

    def namespace(self, name):
        return getattr(self.optimizers, name)

    def inner(self, name):
        return getattr(self.tf.keras.optimizers.legacy, name)

    def schedule(self, name):
        if hasattr(self.tf.keras.optimizers.schedules, name):
            return getattr(self.tf.keras.optimizers.schedules, name)
        return getattr(self.optimizers, name)

    def variable(self, path, value):
        return self.tf.Variable(value, name=path)

    def gradient(self, value):
        return self.tf.constant(value)

    def apply(self, optimizer, gradients, variables):
        optimizer.apply_gradients(list(zip(gradients, variables, strict=True)))

    def value(self, variable):
        return variable.numpy()

    def averages(self, optimizer, variables):
        if self.library == "tf_keras":
            return optimizer._model_variables_moving_average
        return [optimizer.get_slot(v, "average") for v in variables]

    def state(self, optimizer):
        listed = optimizer.variables if self.library == "tf_keras" else optimizer.weights
        return [(v.name, v) for v in listed]

    def describe(self, optimizer):
        return first_that_works(lambda: self.tf.keras.optimizers.serialize(optimizer), optimizer.get_config)

    def describe_schedule(self, schedule):
        return first_that_works(
            lambda: self.tf.keras.optimizers.schedules.serialize(schedule),
            schedule.get_config,
        )

    def evaluate(self, schedule, step):
        addons = type(schedule).__module__.startswith("tensorflow_addons")
        dtype = self.tf.float32 if addons else self.tf.int64
        return np.asarray(schedule(self.tf.constant(step, dtype)))


class Torch:
    """PyTorch, one parameter at a time."""

    def __init__(self):
        import torch

        self.torch = torch
        self.versions = {"torch": torch.__version__}

    def reset(self):
        pass

    def namespace(self, name):
        """What makes an optimizer; torch's wants its parameters at once, which come with the first gradients."""

        def make(**arguments):
            betas = [arguments.pop(key) for key in ("beta_1", "beta_2") if key in arguments]
            given = {**arguments, **({"betas": tuple(betas)} if betas else {})}
            return functools.cache(
                lambda *variables: getattr(self.torch.optim, name)(variables, foreach=False, **given)
            )

        return make

    def variable(self, path, value):
        return self.torch.nn.Parameter(self.torch.tensor(value))

    def gradient(self, value):
        return self.torch.tensor(value)

    def apply(self, optimizer, gradients, variables):
        for gradient, variable in zip(gradients, variables, strict=True):
            variable.grad = gradient
        optimizer(*variables).step()

    def value(self, variable):
        return variable.detach().numpy()

    def state(self, optimizer):
        return []  # runs/torch.npz holds states

    def describe(self, optimizer):
        return None

    def schedules(self, name, arguments, steps):
        """The rate and the momentum at each step; its schedules know no step, and are taken there one by one."""
        parameter = self.torch.nn.Parameter(self.torch.zeros(1))
        optimizer = self.torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
        schedule = getattr(self.torch.optim.lr_scheduler, name)(optimizer, **arguments)
        group, taken = optimizer.param_groups[0], []
        for step in range(steps):
            taken.append((group["lr"], group["momentum"]))
            if step < steps - 1:
                optimizer.step()
                schedule.step()
        return np.asarray(taken).T.astype(np.float32)


def build_arguments(backend, arguments):
    built = {}
    for key, value in arguments.items():
        if isinstance(value, dict) and "schedule" in value:
            value = backend.schedule(value["schedule"])(**value["arguments"])
        elif isinstance(value, dict) and "function" in value:
            value = eval(f"lambda x: {value['function']}")
        elif isinstance(value, list):
            value = list(value)
        built[key] = value
    return built


def run(backend, case):
    """One case: (dict of arrays, description)."""
    extras = case["extras"]
    arguments = build_arguments(backend, case["arguments"])
    if "inner" in extras:
        inner = extras["inner"]
        arguments["optimizer"] = backend.inner(inner["class"])(**inner["arguments"])
    optimizer = backend.namespace(case["class"])(**arguments)
    core = optimizer
    loss_scale = extras.get("loss_scale")
    if loss_scale:
        wrapper = backend.namespace("LossScaleOptimizer")
        optimizer = wrapper(core, **loss_scale["arguments"])
    if "exclude_var_names" in extras:
        core.exclude_from_weight_decay(var_names=list(extras["exclude_var_names"]))

    start = inputs.params(case["seed"])
    paths = extras.get("paths", list(start))
    gradients = inputs.gradients(case["kind"], case["seed"])
    variables = [backend.variable(path, start[path]) for path in paths]
    history = {path: [] for path in paths}
    averages = {path: [] for path in paths}
    scales, counts = [], []

    if loss_scale:
        optimizer.build(variables)
    for step in range(inputs.STEPS):
        given = []
        for path in paths:
            gradient = gradients[path][step]
            if "gradient_factor" in extras:
                gradient = gradient * np.float32(extras["gradient_factor"])
            if loss_scale:
                gradient = gradient * backend.value(optimizer.dynamic_scale)
                if path == loss_scale["inf_path"] and step in loss_scale["inf_steps"]:
                    gradient.flat[0] = np.inf
            given.append(backend.gradient(gradient))
        backend.apply(optimizer, given, variables)
        for path, variable in zip(paths, variables, strict=True):
            history[path].append(np.array(backend.value(variable)))
        if loss_scale:
            scales.append(np.array(backend.value(optimizer.dynamic_scale)))
            counts.append(int(backend.value(core.iterations)))
        if extras.get("average"):
            for path, variable in zip(paths, backend.averages(optimizer, variables), strict=True):
                averages[path].append(np.array(backend.value(variable)))

    slug = case["slug"]
    arrays = {f"{slug}/{path}": np.stack(history[path]) for path in paths}
    if extras.get("average"):
        for path in paths:
            arrays[f"{slug}/average/{path}"] = np.stack(averages[path])
    if loss_scale:
        arrays[f"{slug}/extra/loss_scale"] = np.stack(scales)
        arrays[f"{slug}/extra/iterations"] = np.asarray(counts, np.int32)
    state = [(name, np.asarray(backend.value(v))) for name, v in backend.state(optimizer)]
    if state:
        arrays[f"{slug}/state"] = np.concatenate([np.ravel(value).astype(np.float32) for _, value in state])
    for name, array in arrays.items():
        assert np.all(np.isfinite(array)), name
    description = {
        "class": case["class"],
        "arguments": case["arguments"],
        "kind": case["kind"],
        "seed": case["seed"],
        "steps": inputs.STEPS,
        "extras": extras,
        "config": backend.describe(optimizer),
        "variables": [[name, list(value.shape)] for name, value in state],
    }
    return arrays, description


def save(name, arrays, meta, backend):
    meta["versions"] = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        **backend.versions,
    }
    arrays["meta"] = np.array(json.dumps(meta, sort_keys=True))
    target = HERE / f"{name}.npz"
    np.savez_compressed(target, **arrays)
    print(f"{target.name}: {target.stat().st_size} bytes")


def record_library(library):
    backend = Keras3() if library == "keras3" else Torch() if library == "torch" else TensorFlow(library)
    arrays, described, failed = {}, {}, []
    used, structures = set(), set()
    for case in cases_module.CASES[library]:
        backend.reset()
        try:
            new, description = run(backend, case)
        except Exception as error:
            failed.append(case["slug"])
            print(f"FAILED {case['slug']}: {type(error).__name__}: {str(error)[:300]}")
            continue
        structure = (case["class"], len(description["variables"]))
        if structure in structures:  # its state is no different from the first one's
            new.pop(f"{case['slug']}/state", None)
        structures.add(structure)
        arrays.update(new)
        described[case["slug"]] = description
        used.add((case["seed"], case["kind"]))
    for seed, kind in sorted(used):
        for path, value in inputs.params(seed).items():
            arrays[f"inputs/{seed}/params/{path}"] = value
        for path, value in inputs.gradients(kind, seed).items():
            arrays[f"inputs/{seed}/{kind}/{path}"] = value
    meta = {"library": library, "paths": list(inputs.SHAPES), "cases": described}
    save(library, arrays, meta, backend)
    print(f"{len(described)} cases recorded, {len(failed)} failed")
    return not failed


def record_torch_schedules():
    backend, steps = Torch(), 61
    arrays, described = {"steps": np.arange(steps, dtype=np.int32)}, {}
    for row in cases_module.TORCH_SCHEDULES:
        slug = row["slug"]
        arrays[slug], arrays[f"{slug}/momentum"] = backend.schedules(row["class"], row["arguments"], steps)
        described[slug] = {"library": "torch", "class": row["class"], "arguments": row["arguments"]}
    save("schedules_torch", arrays, {"library": "schedules_torch", "cases": described}, backend)
    return True


def record_schedules():
    """Keras 3's schedules where it is installed, else those of TensorFlow."""
    try:
        import tensorflow_addons  # noqa: F401

        backend = TensorFlow("tf_addons")
        name = "schedules_tfa"
        rows = [("tf_keras", row) for row in cases_module.KERAS_SCHEDULES]
        rows += [("tf_addons", row) for row in cases_module.ADDONS_SCHEDULES]
    except ImportError:
        backend = Keras3()
        name = "schedules_keras"
        rows = [("keras3", row) for row in cases_module.KERAS_SCHEDULES]
    steps = cases_module.SCHEDULE_STEPS
    arrays = {"steps": np.asarray(steps, np.int32)}
    described = {}
    for library, row in rows:
        arguments = build_arguments(backend, row["arguments"])
        schedule = backend.schedule(row["class"])(**arguments)
        values = np.asarray([backend.evaluate(schedule, step) for step in steps])
        assert values.dtype == np.float32, row["slug"]
        assert np.all(np.isfinite(values)), row["slug"]
        arrays[row["slug"]] = values
        described[row["slug"]] = {
            "library": library,
            "class": row["class"],
            "arguments": row["arguments"],
            "config": backend.describe_schedule(schedule),
        }
    save(name, arrays, {"library": name, "cases": described}, backend)
    return True


def main():
    schedules = {"schedules": record_schedules, "schedules_torch": record_torch_schedules}
    names = (*cases_module.LIBRARIES, *schedules)
    if len(sys.argv) != 2 or sys.argv[1] not in names:
        sys.exit(f"usage: python tests/references/record.py {'|'.join(names)}")
    name = sys.argv[1]
    done = schedules[name]() if name in schedules else record_library(name)
    sys.exit(0 if done else 1)


if __name__ == "__main__":
    main()
