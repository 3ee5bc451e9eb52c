"""Records what the original optimizers do with sparse gradients, as data for the tests.

    python tests/references/record_sparse.py

needs the environment of TensorFlow (see README.md) and writes `sparse.npz` beside this file: for each case
`<slug>/<path>`, (steps, ...), the parameters after each step, and of those with an average `<slug>/average/<path>`;
the inputs as `inputs/<kind>/...`; and `meta`, as in the other recordings.

Two kinds of inputs. "short" is a table alone, with four steps on a few rows. "long" is a table of ten rows beside a
dense `bias`, with thirty steps on six indices each: drawn as words are, few of them often; row 7 comes for the first
time in step 12, row 8 never, row 9 only in the first step.
"""

import numpy as np
from record import TensorFlow, build_arguments, save

STEPS, DRAWN = 30, 6


def short():
    """The table, and for each step its indices and values."""
    rng = np.random.RandomState(0)
    params = {"table": rng.standard_normal((4, 2)).astype(np.float32)}
    steps = []
    for indices in ([0, 2, 0], [1], [2, 2, 3], [0]):
        values = rng.standard_normal((len(indices), 2)).astype(np.float32)
        steps.append({"table": (values, np.asarray(indices, np.int32))})
    return params, steps


def long():
    """The table and the bias, and for each step the table's indices and values, and the bias's gradient."""
    rng = np.random.RandomState(13)
    params = {"bias": 0.5 * rng.standard_normal(3), "table": 0.5 * rng.standard_normal((10, 3))}
    params = {path: value.astype(np.float32) for path, value in params.items()}
    often = 1 / np.arange(1, 8)
    drift = 0.4 * rng.standard_normal((10, 3))
    steps = []
    for step in range(STEPS):
        indices = rng.choice(7, size=DRAWN, p=often / often.sum()).astype(np.int32)
        if step >= 12 and step % 4 == 0:
            indices[2] = 7
        if step == 0:
            indices[1] = 9
        values = drift[indices] + 0.6 * rng.standard_normal((DRAWN, 3))
        bias = 0.6 * rng.standard_normal(3)
        steps.append({"bias": bias.astype(np.float32), "table": (values.astype(np.float32), indices)})
    return params, steps


INPUTS = {"short": short, "long": long}
CASES = []


def case(library, slug, name, kind="long", inner=None, average=False, paths=None, **arguments):
    extras = {"inner": inner} if inner else {}
    extras = {**extras, **({"average": True} if average else {}), **({"paths": paths} if paths else {})}
    CASES.append(
        {"slug": slug, "library": library, "class": name, "kind": kind, "arguments": arguments, "extras": extras}
    )


def every_kind(library, slug, name, **arguments):
    case(library, f"{library}_{slug}_short", name, "short", **arguments)
    case(library, f"{library}_{slug}", name, "long", **arguments)


# --- the base class: how clips, decay and averages see slices -------------------

for _library in ("legacy", "tf_keras"):
    for _clip, _c in (("clipnorm", 0.5), ("clipvalue", 0.2), ("global_clipnorm", 0.7)):
        case(_library, f"{_library}_sgd_{_clip}", "SGD", learning_rate=0.1, **{_clip: _c})
        case(_library, f"{_library}_adam_{_clip}", "Adam", learning_rate=0.02, **{_clip: _c})
case("legacy", "legacy_sgd_decay", "SGD", learning_rate=0.1, momentum=0.8, decay=0.2)
case("tf_keras", "tf_keras_sgd_ema", "SGD", average=True, learning_rate=0.1, use_ema=True, ema_momentum=0.7)
case("tf_keras", "tf_keras_sgd_weight_decay", "SGD", learning_rate=0.1, weight_decay=0.2)
case("tf_keras", "tf_keras_adagrad_weight_decay", "Adagrad", learning_rate=0.1, weight_decay=0.2)

# --- Keras ----------------------------------------------------------------------

EVERYWHERE = (
    ("sgd", "SGD", {}),
    ("sgd_momentum", "SGD", {"momentum": 0.9}),
    ("sgd_nesterov", "SGD", {"momentum": 0.9, "nesterov": True}),
    ("adam", "Adam", {}),
    ("adam_amsgrad", "Adam", {"amsgrad": True}),
    ("nadam", "Nadam", {}),
    ("rmsprop", "RMSprop", {}),
    ("rmsprop_momentum", "RMSprop", {"momentum": 0.9}),
    ("rmsprop_centered", "RMSprop", {"centered": True, "epsilon": 0.01}),
    ("rmsprop_momentum_centered", "RMSprop", {"momentum": 0.9, "centered": True, "epsilon": 0.01}),
    ("adagrad", "Adagrad", {}),
    ("adamax", "Adamax", {}),
    ("ftrl", "Ftrl", {"l1_regularization_strength": 0.01, "l2_shrinkage_regularization_strength": 0.1}),
)
for _library in ("legacy", "tf_keras"):
    for _slug, _name, _arguments in EVERYWHERE:
        every_kind(_library, _slug, _name, learning_rate=0.1, **_arguments)
    every_kind(_library, "adadelta", "Adadelta", learning_rate=1.0)
case(
    "legacy",
    "legacy_rmsprop_centered_momentum_short",
    "RMSprop",
    "short",
    learning_rate=0.1,
    momentum=0.9,
    centered=True,
)
every_kind("tf_keras", "lion", "Lion", learning_rate=0.02)
every_kind("tf_keras", "adamw", "AdamW", learning_rate=0.1, weight_decay=0.1)
every_kind("tf_keras", "adafactor", "Adafactor", learning_rate=0.1)

# --- TensorFlow Addons ----------------------------------------------------------

every_kind("tf_addons", "lazy_adam", "LazyAdam", learning_rate=0.1)
every_kind("tf_addons", "lazy_adam_amsgrad", "LazyAdam", learning_rate=0.1, amsgrad=True)
case("tf_addons", "tf_addons_radam_short", "RectifiedAdam", "short", learning_rate=0.1, beta_2=0.9, weight_decay=0.1)
case("tf_addons", "tf_addons_radam", "RectifiedAdam", learning_rate=0.1, beta_2=0.9, weight_decay=0.1)
case("tf_addons", "tf_addons_radam_amsgrad", "RectifiedAdam", learning_rate=0.1, beta_2=0.9, amsgrad=True)
case("tf_addons", "tf_addons_adabelief_short", "AdaBelief", "short", learning_rate=0.1, rectify=False, epsilon=1e-3)
case("tf_addons", "tf_addons_adabelief", "AdaBelief", learning_rate=0.1, rectify=False, epsilon=1e-3)
case("tf_addons", "tf_addons_adabelief_rectify", "AdaBelief", learning_rate=0.1, beta_2=0.9, weight_decay=0.1)
case(
    "tf_addons",
    "tf_addons_adabelief_amsgrad",
    "AdaBelief",
    learning_rate=0.1,
    beta_2=0.9,
    epsilon=1e-3,
    amsgrad=True,
)
every_kind("tf_addons", "yogi", "Yogi", learning_rate=0.1)
case(
    "tf_addons", "tf_addons_yogi_tanh_l1", "Yogi", learning_rate=0.1, activation="tanh", l1_regularization_strength=0.1
)
case("tf_addons", "tf_addons_yogi_l2", "Yogi", learning_rate=0.1, beta1=0.0, l2_regularization_strength=0.1)
every_kind("tf_addons", "lamb", "LAMB", learning_rate=0.1)
case("tf_addons", "tf_addons_lamb_weight_decay", "LAMB", learning_rate=0.1, weight_decay=0.1)
every_kind("tf_addons", "novograd", "NovoGrad", learning_rate=0.1, weight_decay=0.1, grad_averaging=True)
# NovoGrad with amsgrad fails there: its vhat has the table's shape, and is divided into the slices
case("tf_addons", "tf_addons_novograd_plain", "NovoGrad", learning_rate=0.1, beta_2=0.9)
every_kind("tf_addons", "proximal_adagrad", "ProximalAdagrad", learning_rate=0.1, l1_regularization_strength=0.1)
case("tf_addons", "tf_addons_proximal_adagrad_l2", "ProximalAdagrad", learning_rate=0.1, l2_regularization_strength=0.1)
every_kind("tf_addons", "sgdw_momentum", "SGDW", learning_rate=0.1, weight_decay=0.1, momentum=0.9)
case("tf_addons", "tf_addons_sgdw", "SGDW", learning_rate=0.1, weight_decay=0.1)
every_kind("tf_addons", "adamw", "AdamW", learning_rate=0.1, weight_decay=0.1)
case("tf_addons", "tf_addons_adamw_amsgrad", "AdamW", learning_rate=0.1, weight_decay=0.1, amsgrad=True)
every_kind("tf_addons", "conditional_gradient", "ConditionalGradient", learning_rate=0.9, lambda_=0.1)
case(
    "tf_addons",
    "tf_addons_conditional_gradient_nuclear",
    "ConditionalGradient",
    learning_rate=0.9,
    lambda_=0.1,
    ord="nuclear",
)
_ADAM = {"class": "Adam", "arguments": {"learning_rate": 0.02}}
case("tf_addons", "tf_addons_lookahead", "Lookahead", inner=_ADAM, sync_period=4)
case("tf_addons", "tf_addons_moving_average", "MovingAverage", inner=_ADAM, average=True, average_decay=0.8)


def gradient(backend, given, variable):
    """A dense gradient, or slices."""
    if not isinstance(given, tuple):
        return backend.gradient(given)
    values, indices = given
    return backend.tf.IndexedSlices(values, indices, dense_shape=variable.shape)


def run(backend, one):
    """One case: its arrays."""
    extras, arguments = one["extras"], build_arguments(backend, one["arguments"])
    if "inner" in extras:
        arguments["optimizer"] = backend.inner(extras["inner"]["class"])(**extras["inner"]["arguments"])
    optimizer = backend.namespace(one["class"])(**arguments)
    params, steps = INPUTS[one["kind"]]()
    paths = extras.get("paths", list(params))
    variables = [backend.variable(path, params[path]) for path in paths]
    history, averages = {path: [] for path in paths}, {path: [] for path in paths}
    for step in steps:
        given = [gradient(backend, step[path], v) for path, v in zip(paths, variables, strict=True)]
        backend.apply(optimizer, given, variables)
        for path, v in zip(paths, variables, strict=True):
            history[path].append(np.array(backend.value(v)))
        if extras.get("average"):
            for path, v in zip(paths, backend.averages(optimizer, variables), strict=True):
                averages[path].append(np.array(backend.value(v)))
    arrays = {f"{one['slug']}/{path}": np.stack(taken) for path, taken in history.items()}
    arrays.update({f"{one['slug']}/average/{path}": np.stack(taken) for path, taken in averages.items() if taken})
    for name, array in arrays.items():
        assert np.all(np.isfinite(array)), name
    return arrays


def main():
    arrays, described = {}, {}
    for kind, make in INPUTS.items():
        params, steps = make()
        for path, value in params.items():
            arrays[f"inputs/{kind}/params/{path}"] = value
        for i, step in enumerate(steps):
            for path, given in step.items():
                names = ("values", "indices") if isinstance(given, tuple) else ("values",)
                for name, array in zip(names, given if isinstance(given, tuple) else (given,), strict=True):
                    arrays[f"inputs/{kind}/{i}/{path}/{name}"] = array
    for one in CASES:
        backend = TensorFlow(one["library"])
        backend.reset()
        arrays.update(run(backend, one))
        described[one["slug"]] = {name: value for name, value in one.items() if name != "slug"}
    save("sparse", arrays, {"library": "sparse", "cases": described}, backend)
    print(f"{len(described)} cases recorded")


if __name__ == "__main__":
    main()
