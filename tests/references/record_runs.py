"""Records runs of PyTorch, Keras 3 and tf.keras that are imported in their middle.

    python tests/references/record_runs.py torch|keras3|keras3_wrapped|tf|tf_addons

writes `runs/<library>.npz`: of each case the optimizer's state and the parameters after 50 steps, and the parameters
after 60, 75 and 100. The gradients are those of `inputs.py`. Beside them are files as the libraries write them.

All arrays follow each other in `data`, as float32; their names, dtypes and shapes are in `meta`.
"""

import json
import os
import platform
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import inputs  # noqa: E402
import numpy as np  # noqa: E402

BEFORE, AFTER = 50, (60, 75, 100)
OUT = HERE / "runs"
PATHS = list(inputs.SHAPES)


def gradients():
    return inputs.gradients("plain", 0, AFTER[-1])


def run(step, value):
    """Takes a run through all steps; the parameters at those that are recorded."""
    g, taken = gradients(), {}
    for i in range(AFTER[-1]):
        step({path: g[path][i] for path in PATHS})
        if i + 1 in (BEFORE, *AFTER):
            taken[i + 1] = {path: np.array(value(path)) for path in PATHS}
            yield i + 1, taken[i + 1]


# --- PyTorch ------------------------------------------------------------------

TORCH = {
    "sgd": ("SGD", {"lr": 0.05}),
    "sgd_momentum": ("SGD", {"lr": 0.05, "momentum": 0.8}),
    "sgd_nesterov": ("SGD", {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    "adam": ("Adam", {"lr": 0.02, "eps": 0.01}),
    "adam_amsgrad": ("Adam", {"lr": 0.02, "amsgrad": True, "betas": (0.8, 0.95)}),
    "adam_weight_decay": ("Adam", {"lr": 0.02, "weight_decay": 0.3}),
    "adamw": ("AdamW", {"lr": 0.02, "weight_decay": 0.3}),
    "adamw_amsgrad": ("AdamW", {"lr": 0.02, "amsgrad": True, "betas": (0.8, 0.95)}),
    "nadam": ("NAdam", {"lr": 0.02, "momentum_decay": 0.01}),
    "nadam_weight_decay": ("NAdam", {"lr": 0.02, "weight_decay": 0.3}),
    "nadam_decoupled": ("NAdam", {"lr": 0.02, "weight_decay": 0.3, "decoupled_weight_decay": True}),
    "radam": ("RAdam", {"lr": 0.02, "eps": 0.01, "betas": (0.9, 0.99)}),
    "radam_weight_decay": ("RAdam", {"lr": 0.02, "weight_decay": 0.3, "betas": (0.9, 0.99)}),
    "radam_decoupled": ("RAdam", {"lr": 0.02, "weight_decay": 0.3, "decoupled_weight_decay": True}),
    "radam_decoupled_epsilon": (
        "RAdam",
        {"lr": 0.02, "weight_decay": 0.3, "decoupled_weight_decay": True, "eps": 0.01, "betas": (0.9, 0.99)},
    ),
    "rmsprop": ("RMSprop", {"lr": 0.01, "alpha": 0.9, "eps": 0.01}),
    "rmsprop_momentum": ("RMSprop", {"lr": 0.01, "alpha": 0.9, "momentum": 0.7, "weight_decay": 0.3}),
    "rmsprop_centered": ("RMSprop", {"lr": 0.01, "alpha": 0.9, "centered": True, "eps": 0.01}),
    "rmsprop_centered_momentum": ("RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.7}),
    "adagrad": ("Adagrad", {"lr": 0.1, "eps": 0.01}),
    "adagrad_decay": (
        "Adagrad",
        {"lr": 0.1, "lr_decay": 0.05, "initial_accumulator_value": 0.5, "weight_decay": 0.3},
    ),
    "adadelta": ("Adadelta", {"lr": 1.0, "rho": 0.9, "eps": 0.001}),
    "adadelta_weight_decay": ("Adadelta", {"lr": 0.7, "weight_decay": 0.3}),
    "adamax": ("Adamax", {"lr": 0.02, "eps": 0.01}),
    "adamax_weight_decay": ("Adamax", {"lr": 0.02, "weight_decay": 0.3}),
    "groups": ("AdamW", {"lr": 0.02, "weight_decay": 0.3, "no_decay": ["dense/bias", "scale"]}),
    "sgd_maximize": ("SGD", {"lr": 0.02, "weight_decay": 0.3, "maximize": True}),
    "adam_maximize": ("Adam", {"lr": 0.02, "weight_decay": 0.3, "maximize": True}),
    "groups_maximize": ("RMSprop", {"lr": 0.02, "weight_decay": 0.3, "maximize": True, "no_decay": ["scale"]}),
    "groups_sgd": ("SGD", {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.3, "no_decay": ["dense/bias", "scale"]}),
}


def torch_groups(parameters, settings):
    """One group of parameters, or a second one that is not decayed and has half the rate."""
    settings = dict(settings)
    free = settings.pop("no_decay", [])
    named = [(name, w) for name, w in parameters.items() if name not in free]
    if not free:
        return named, settings
    others = {"params": [(name, parameters[name]) for name in free], "weight_decay": 0.0, "lr": settings["lr"] / 2}
    return [{"params": named}, others], settings


def record_torch():
    import torch

    arrays, cases = {}, {}
    for slug, (name, settings) in TORCH.items():
        start = inputs.params(0)
        parameters = {path: torch.nn.Parameter(torch.tensor(start[path])) for path in PATHS}
        groups, rest = torch_groups(parameters, settings)
        optimizer = getattr(torch.optim, name)(groups, foreach=False, **rest)

        def step(g, parameters=parameters, optimizer=optimizer):
            for path, w in parameters.items():
                w.grad = torch.tensor(g[path])
            optimizer.step()

        for at, values in run(step, lambda path, parameters=parameters: parameters[path].detach().numpy()):
            arrays |= {f"{slug}/{at}/{path}": x for path, x in values.items()}
            if at == BEFORE:
                state = optimizer.state_dict()
                for i, slots in state["state"].items():
                    arrays |= {f"{slug}/state/{i}/{key}": np.array(x) for key, x in slots.items()}
                if slug in ("adamw", "groups"):
                    torch.save(state, OUT / f"torch_{slug}.pt")
                cases[slug] = {"class": name, "param_groups": state["param_groups"], "settings": settings}
    return arrays, cases, {"torch": torch.__version__}


# --- Keras --------------------------------------------------------------------

KERAS = {
    "sgd": ("SGD", {"learning_rate": 0.05}),
    "sgd_momentum": ("SGD", {"learning_rate": 0.05, "momentum": 0.8, "nesterov": True}),
    "adam": ("Adam", {"learning_rate": 0.02}),
    "adam_amsgrad": ("Adam", {"learning_rate": 0.02, "amsgrad": True, "global_clipnorm": 1.0}),
    "adam_ema": ("Adam", {"learning_rate": 0.02, "use_ema": True, "ema_momentum": 0.9}),
    "adamw": ("AdamW", {"learning_rate": 0.02, "weight_decay": 0.3}),
    "nadam": ("Nadam", {"learning_rate": 0.02}),
    "rmsprop": ("RMSprop", {"learning_rate": 0.01, "rho": 0.8}),
    "rmsprop_centered_momentum": ("RMSprop", {"learning_rate": 0.01, "centered": True, "momentum": 0.7}),
    "adagrad": ("Adagrad", {"learning_rate": 0.1}),
    "adadelta": ("Adadelta", {"learning_rate": 1.0, "rho": 0.9}),
    "adamax": ("Adamax", {"learning_rate": 0.02}),
    "ftrl": ("Ftrl", {"learning_rate": 0.2, "l1_regularization_strength": 0.1}),
    "lion": ("Lion", {"learning_rate": 0.01}),
    "adafactor": ("Adafactor", {"learning_rate": 0.05}),
    "schedule": (
        "Adam",
        {
            "learning_rate": {
                "schedule": "ExponentialDecay",
                "arguments": {"initial_learning_rate": 0.05, "decay_steps": 20, "decay_rate": 0.5},
            }
        },
    ),
}
KERAS3 = {**KERAS, "lamb": ("Lamb", {"learning_rate": 0.02}), "muon": ("Muon", {"learning_rate": 0.02}),
          "accumulation": ("Adam", {"learning_rate": 0.02, "gradient_accumulation_steps": 4})}  # fmt: skip
LEGACY = {
    slug: KERAS[slug]
    for slug in (
        "sgd",
        "sgd_momentum",
        "adam",
        "adam_amsgrad",
        "nadam",
        "rmsprop",
        "adagrad",
        "adadelta",
        "adamax",
        "ftrl",
    )
} | {"rmsprop_centered_momentum": KERAS["rmsprop_centered_momentum"], "schedule": KERAS["schedule"]}


def record_keras(backend, optimizers, table, prefix, listed, config):
    """All cases of one namespace of optimizers; `listed` gives names and values of the optimizer's variables."""
    import record

    arrays, cases = {}, {}
    for slug, (name, settings) in table.items():
        backend.reset()
        start = inputs.params(0)
        optimizer = getattr(optimizers, name)(**record.build_arguments(backend, settings))
        variables = {path: backend.variable(path, start[path]) for path in PATHS}

        def step(g, variables=variables, optimizer=optimizer):
            backend.apply(optimizer, [backend.gradient(g[path]) for path in PATHS], list(variables.values()))

        key = f"{prefix}{slug}"
        for at, values in run(step, lambda path, variables=variables: backend.value(variables[path])):
            arrays |= {f"{key}/{at}/{path}": x for path, x in values.items()}
            if at == BEFORE:
                named = listed(optimizer)
                arrays |= {f"{key}/state/{i}": np.array(x) for i, (_, x) in enumerate(named)}
                cases[key] = {"class": name, "names": [n for n, _ in named], "config": config(optimizer)}
    return arrays, cases


def record_keras3():
    import record

    backend = record.Keras3()
    keras = backend.keras
    arrays, cases = record_keras(
        backend,
        keras.optimizers,
        KERAS3,
        "",
        lambda optimizer: [(v.path, v) for v in optimizer.variables],
        keras.optimizers.serialize,
    )
    more, case = keras_model(keras, lambda model, folder: (
        model.save(folder / "keras3_model.keras"), model.save_weights(folder / "keras3_model.weights.h5")
    ))  # fmt: skip
    return {**arrays, **more}, {**cases, "model": case}, backend.versions


def wrapped(optimizers):
    """Optimizers around others, whose gradients are those of a loss that the first scales."""
    groups = optimizers.OptimizerMap(optimizers.Adam(0.02))
    groups[".*bias"] = optimizers.SGD(0.1, momentum=0.8)
    groups["scale"] = optimizers.RMSprop(0.01)
    inner = optimizers.Adam(0.02, amsgrad=True)
    return {
        "loss_scale": optimizers.LossScaleOptimizer(inner, initial_scale=16.0, dynamic_growth_steps=7),
        "multi": optimizers.MultiOptimizer(groups),
    }


def record_keras3_wrapped():
    import jax
    import record

    backend = record.Keras3()
    arrays, cases = {}, {}
    for slug, optimizer in wrapped(backend.keras.optimizers).items():
        start = inputs.params(0)
        variables = [backend.variable(path, start[path]) for path in PATHS]
        optimizer.build(variables)
        kept = {"params": [v.value for v in variables], "optimizer": [v.value for v in optimizer.variables]}
        update = jax.jit(optimizer.stateless_apply)
        case = {"class": type(optimizer).__name__, "names": [v.path for v in optimizer.variables]}
        cases[slug] = {**case, "config": backend.keras.optimizers.serialize(optimizer)}

        def step(g, kept=kept, update=update, slug=slug):
            scale = np.float32(kept["optimizer"][3]) if slug == "loss_scale" else np.float32(1)
            scaled = [g[path] * scale for path in PATHS]
            kept["params"], kept["optimizer"] = update(kept["optimizer"], scaled, kept["params"])

        for at, values in run(step, lambda path, kept=kept: kept["params"][PATHS.index(path)]):
            arrays |= {f"{slug}/{at}/{path}": x for path, x in values.items()}
            if at == BEFORE:
                arrays |= {f"{slug}/state/{i}": np.array(x) for i, x in enumerate(kept["optimizer"])}
    return arrays, cases, backend.versions


def record_tf():
    import record
    import tensorflow as tf

    backend = record.TensorFlow("tf_keras")
    arrays, cases = record_keras(
        backend,
        tf.keras.optimizers,
        KERAS,
        "tf_keras/",
        lambda optimizer: [(v.name, v) for v in optimizer.variables],
        tf.keras.optimizers.serialize,
    )
    more, further = record_keras(
        backend,
        tf.keras.optimizers.legacy,
        LEGACY,
        "legacy/",
        lambda optimizer: list(zip([v.name for v in optimizer.weights], optimizer.get_weights(), strict=True)),
        tf.keras.optimizers.serialize,
    )
    arrays, cases = {**arrays, **more}, {**cases, **further}
    for name, namespace in {"tf_keras": tf.keras.optimizers, "legacy": tf.keras.optimizers.legacy}.items():
        tf.keras.backend.clear_session()
        more, case = keras_model(tf.keras, lambda model, folder, name=name: (
            model.save(folder / f"{name}_model.h5"),
            *([model.save(folder / f"{name}_model.keras")] if name == "tf_keras" else []),
        ), namespace, f"{name}/")  # fmt: skip
        arrays, cases = {**arrays, **more}, {**cases, f"{name}/model": case}
    return arrays, cases, backend.versions


ADDONS = {
    "novograd": ("NovoGrad", {"learning_rate": 0.02, "weight_decay": 0.01}),
    "lamb": ("LAMB", {"learning_rate": 0.02}),
    "radam": ("RectifiedAdam", {"learning_rate": 0.02, "beta_2": 0.99}),
    "adabelief": ("AdaBelief", {"learning_rate": 0.02, "rectify": False}),
    "yogi": ("Yogi", {"learning_rate": 0.02}),
    "cocob": ("COCOB", {}),
    "sgdw": ("SGDW", {"weight_decay": 0.01, "learning_rate": 0.02, "momentum": 0.9}),
    "adamw": ("AdamW", {"weight_decay": 0.01, "learning_rate": 0.02}),
    "proximal_adagrad": ("ProximalAdagrad", {"learning_rate": 0.1}),
    "lazy_adam": ("LazyAdam", {"learning_rate": 0.02}),
    "conditional_gradient": ("ConditionalGradient", {"learning_rate": 0.99}),
    "lookahead": ("Lookahead", {"inner": ("Adam", {"learning_rate": 0.02})}),
    "swa": ("SWA", {"inner": ("SGD", {"learning_rate": 0.02, "momentum": 0.9}), "start_averaging": 5}),
    "moving_average": ("MovingAverage", {"inner": ("SGD", {"learning_rate": 0.02})}),
}


def record_tf_addons():
    import record
    import tensorflow as tf
    import tensorflow_addons

    class Optimizers:
        """Those of TF Addons; `inner` is the legacy optimizer that one is around."""

        def __getattr__(self, name):
            def make(inner=None, **settings):
                if inner is not None:
                    settings["optimizer"] = getattr(tf.keras.optimizers.legacy, inner[0])(**inner[1])
                return getattr(tensorflow_addons.optimizers, name)(**settings)

            return make

    def config(optimizer):
        return json.loads(json.dumps(tf.keras.optimizers.serialize(optimizer), default=float))

    backend = record.TensorFlow("tf_addons")
    arrays, cases = record_keras(
        backend,
        Optimizers(),
        ADDONS,
        "",
        lambda optimizer: list(zip([v.name for v in optimizer.weights], optimizer.get_weights(), strict=True)),
        config,
    )
    return arrays, cases, backend.versions


def keras_model(keras, save, optimizers=None, prefix=""):
    """A small model that was trained by AdamW or Adam, as it saves itself, and its parameters in later steps."""
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, name="hidden"), layers.BatchNormalization(name="norm"),
         layers.Dense(2, name="logits")]
    )  # fmt: skip
    optimizers = optimizers or keras.optimizers
    model.compile(optimizer=optimizers.Adam(learning_rate=0.02), loss="mse")
    rng = np.random.RandomState(7)
    weights = model.trainable_variables
    values = [(0.5 * rng.standard_normal(w.shape)).astype(np.float32) for w in weights]
    drift = [0.4 * rng.standard_normal(w.shape) for w in weights]
    grads = [[(d + 0.6 * rng.standard_normal(d.shape)).astype(np.float32) for d in drift] for _ in range(AFTER[-1])]
    for w, value in zip(weights, values, strict=True):
        w.assign(value)
    names = [getattr(w, "path", w.name) for w in weights]
    arrays = {}
    for i, g in enumerate(grads):
        model.optimizer.apply_gradients(
            [
                (keras.backend.constant(x) if hasattr(keras.backend, "constant") else x, w)
                for x, w in zip(g, weights, strict=True)
            ]
        )
        if i + 1 in (BEFORE, *AFTER):
            arrays |= {f"{prefix}model/{i + 1}/{j}": np.array(w) for j, w in enumerate(weights)}
        if i >= BEFORE:
            arrays |= {f"{prefix}model/gradients/{i}/{j}": x for j, x in enumerate(g)}
        if i + 1 == BEFORE:
            save(model, OUT)
    return arrays, {"names": names, "shapes": [list(w.shape) for w in weights]}


def main():
    record = {
        "torch": record_torch,
        "keras3": record_keras3,
        "keras3_wrapped": record_keras3_wrapped,
        "tf": record_tf,
        "tf_addons": record_tf_addons,
    }[sys.argv[1]]
    OUT.mkdir(exist_ok=True)
    arrays, cases, versions = record()
    versions = {"python": platform.python_version(), "numpy": np.__version__, **versions}
    meta = {"versions": versions, "cases": cases, "arrays": {}}
    for name, x in arrays.items():  # thousands of small arrays, in one
        assert np.array_equal(x, x.astype(np.float32)), name
        meta["arrays"][name] = [x.dtype.name, *x.shape]
    data = np.concatenate([np.ravel(x).astype(np.float32) for x in arrays.values()])
    target = OUT / f"{sys.argv[1]}.npz"
    np.savez_compressed(target, data=data, meta=np.array(json.dumps(meta)))
    print(f"{target}: {target.stat().st_size} bytes, {len(cases)} cases")


if __name__ == "__main__":
    main()
