"""Runs of other libraries go on here: imported at step 50, as the library itself went on from there."""

import pathlib
import zipfile

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from programs import quick
from recorded import nested
from runs import AFTER, BEFORE, PATHS, RUNS, continued, gradients, inputs, library, measure, run, worst
from test_state import refuse

import jaxopt_suite as jos

# what is walked by default; the others, of which each compiles a program too, in CI
QUICK = {"adam", "sgd_nesterov", "nadam", "rmsprop_centered_momentum", "groups", "accumulation"}
QUICK |= {"tf_keras/nadam", "legacy/adam_amsgrad", "MultiSteps", "lion"}


def walked(*cases):
    """The cases of a table, by their last word."""
    marked = [(case if isinstance(case, tuple) else (case,)) for case in cases]
    return [pytest.param(*case, marks=[pytest.mark.slow] * (case[-1] not in QUICK)) for case in marked]


TORCH = walked(*library("torch")[1]["cases"])


def state_dict(slug):
    """As `optimizer.state_dict()` gives it, with arrays for tensors."""
    recorded, state = run("torch", slug), {}
    for key, x in recorded.kept.items():
        number, _, name = key.partition("/")
        state.setdefault(int(number), {})[name] = x
    return {"state": state, "param_groups": recorded.case["param_groups"]}


@pytest.mark.parametrize("slug", TORCH)
def test_torch_goes_on(slug):
    recorded = run("torch", slug)
    tx, state, report = jos.importers.torch(state_dict(slug), recorded.params(BEFORE), iterations=BEFORE)
    assert not report.dropped
    assert not [name for name in report.reset if name != "count"]
    assert worst(continued(tx, state, recorded.params(BEFORE), gradients()), recorded) <= 2e-6


KERAS = walked(
    *(
        (lib, slug)
        for lib in ("keras3", "tf", "tf_addons")
        for slug in library(lib)[1]["cases"]
        if not slug.endswith("model")
    )
)


class Of:
    """A variable of Keras."""

    def __init__(self, name, value):
        self.name, self.value = name, value

    def __array__(self, dtype=None, copy=None):
        return self.value


def variables(recorded):
    names = recorded.case["names"]
    return [Of(name, recorded.kept[str(i)]) for i, name in enumerate(names)]


@pytest.mark.parametrize(("lib", "slug"), KERAS)
def test_keras_goes_on(lib, slug):
    recorded = run(lib, slug)
    params = recorded.params(BEFORE)
    tx, state, report = jos.importers.keras(variables(recorded), params, optimizer=recorded.case["config"])
    assert not report.dropped
    arrays = [v.value for v in variables(recorded)]
    unnamed = jos.importers.keras(arrays, params, PATHS, recorded.case["config"]).state
    jax.tree.map(np.testing.assert_array_equal, unnamed, state)
    assert worst(continued(tx, state, params, gradients()), recorded) <= 2e-6


@pytest.mark.parametrize("slug", [pytest.param("loss_scale", marks=pytest.mark.slow), "multi"])
def test_optimizers_around_others_go_on(slug):
    recorded = run("keras3_wrapped", slug)
    params, config = recorded.params(BEFORE), recorded.case["config"]
    tx, state, report = jos.importers.keras(variables(recorded), params, optimizer=config)
    assert not report.dropped + report.reset
    arrays = [v.value for v in variables(recorded)]
    unnamed = jos.importers.keras(arrays, params, PATHS, config)
    jax.tree.map(np.testing.assert_array_equal, unnamed.state, state)

    def step(carry, g):
        params, state = carry
        factor = tx.scale_loss(jnp.float32(1), state)
        params, state = tx.apply_gradients(jax.tree.map(lambda g: g * factor, g), state, params)
        return (params, state), params

    taken = quick(lambda carry: jax.lax.scan(step, carry, gradients())[1])((params, state))
    got = {at: jax.tree.map(lambda x, at=at: x[at - BEFORE - 1], taken) for at in AFTER}
    assert worst(got, recorded) <= 2e-6
    refuse(ValueError, "variables of these parameters", jos.importers.keras, arrays[:-2], params, PATHS, config)


RATE = 0.02


# Optax's, and ours with the same numbers
OPTAX = {
    "adam": (lambda: optax.adam(RATE, b2=0.95), jos.adam(RATE, beta_2=0.95, epsilon=1e-8, dialect="torch")),
    "adamw": (
        lambda: optax.adamw(RATE, b2=0.95, weight_decay=0.3),
        jos.adamw(RATE, 0.3, beta_2=0.95, epsilon=1e-8, dialect="torch"),
    ),
    "sgd": (lambda: optax.sgd(RATE), jos.sgd(RATE)),
    "sgd momentum": (lambda: optax.sgd(RATE, momentum=0.8), jos.sgd(RATE, momentum=0.8, dialect="torch")),
    "sgd nesterov": (
        lambda: optax.sgd(RATE, momentum=0.8, nesterov=True),
        jos.sgd(RATE, momentum=0.8, nesterov=True, dialect="torch"),
    ),
    "lion": (lambda: optax.lion(RATE, weight_decay=0.3), jos.lion(RATE, weight_decay=0.3)),
    "lamb": (
        lambda: optax.lamb(RATE, b2=0.95, eps=1e-6),
        jos.lamb(RATE, beta_2=0.95, epsilon=1e-6, dialect="legacy"),
    ),
    "rmsprop": (lambda: optax.rmsprop(RATE, decay=0.8), jos.rmsprop(RATE, rho=0.8, epsilon=1e-8)),
    "rmsprop centered momentum": (
        lambda: optax.rmsprop(RATE, decay=0.8, centered=True, momentum=0.7),
        jos.rmsprop(RATE, rho=0.8, centered=True, momentum=0.7, epsilon=1e-8),
    ),
    "a chain": (
        lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(RATE, momentum=0.8)),
        jos.sgd(RATE, momentum=0.8, dialect="torch", global_clipnorm=1.0),
    ),
    "MultiSteps": (
        lambda: optax.MultiSteps(optax.sgd(RATE, momentum=0.8), 4).gradient_transformation(),
        jos.sgd(RATE, momentum=0.8, dialect="torch", gradient_accumulation_steps=4),
    ),
    "MultiSteps of a sum": (
        lambda: optax.MultiSteps(optax.adam(RATE, eps=0.1), 4, use_grad_mean=False).gradient_transformation(),
        jos.adam(RATE, epsilon=0.1, dialect="torch", gradient_accumulation_steps=4, loss_scale_factor=1 / 4),
    ),
    "adagrad": (lambda: optax.adagrad(RATE), jos.adagrad(RATE)),
    "adadelta": (lambda: optax.adadelta(1.0, rho=0.8), jos.adadelta(1.0, rho=0.8, epsilon=1e-6)),
    "adamax": (lambda: optax.adamax(RATE), jos.adamax(RATE, epsilon=1e-8, dialect="torch")),
    "inject_hyperparams": (
        lambda: optax.inject_hyperparams(optax.sgd)(RATE, momentum=0.8),
        jos.sgd(1.0, momentum=0.8, dialect="torch"),
    ),
    "masked": (
        lambda: optax.multi_transform(
            {"a": optax.sgd(RATE, momentum=0.8), "b": optax.lion(RATE, weight_decay=0.0)},
            lambda params: {name: "b" if name == "conv" else "a" for name in params},
        ),
        jos.by_path({"conv": jos.lion(RATE), "": jos.sgd(RATE, momentum=0.8, dialect="torch")}),
    ),
    "from_optax": (
        lambda: optax.adamw(RATE, eps_root=0.1),
        jos.from_optax("adamw", learning_rate=RATE, eps_root=0.1),
    ),
    "from_optax in MultiSteps": (
        lambda: optax.MultiSteps(optax.adam(RATE), 4).gradient_transformation(),
        jos.chain(jos.from_optax("adam", learning_rate=RATE), gradient_accumulation_steps=4),
    ),
}


def run_of_optax(tx):
    """Parameters and state at step 50, and the parameters at later ones, in Optax itself."""
    grads = nested({path: inputs.gradients("plain", 0, AFTER[-1])[path] for path in PATHS})
    start = nested(inputs.params(0))

    def step(carry, g):
        params, state = carry
        updates, state = tx.update(g, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    with jax.numpy_dtype_promotion("standard"):
        scan = quick(lambda carry, gs: jax.lax.scan(step, carry, gs))
        middle, _ = scan((start, tx.init(start)), jax.tree.map(lambda g: g[:BEFORE], grads))
        _, later = scan(middle, gradients())
    return middle, {at: jax.tree.map(lambda x, at=at: x[at - BEFORE - 1], later) for at in AFTER}


@pytest.mark.parametrize("name", walked(*OPTAX))
def test_optax_goes_on(name):
    make, tx = OPTAX[name]
    (params, state), later = run_of_optax(make())
    tx, state, report = jos.importers.optax(state, params, tx, use_grad_mean=name != "MultiSteps of a sum")
    assert not report.dropped
    assert measure(continued(tx, state, params, gradients()), later) <= 2e-6


MODELS = [
    ("keras3", "model", "keras3_model.keras"),
    ("keras3", "model", "keras3_model.weights.h5"),
    ("tf", "tf_keras/model", "tf_keras_model.keras"),
    ("tf", "tf_keras/model", "tf_keras_model.h5"),
    ("tf", "legacy/model", "legacy_model.h5"),
]


@pytest.mark.parametrize(("lib", "slug", "file"), MODELS, ids=lambda x: x)
def test_a_model_goes_on_from_its_file(lib, slug, file):
    """Its layers in another order of names than JAX's, and some of them transposed here."""
    arrays, meta = library(lib)
    names = meta["cases"][slug]["names"]
    here = [name.partition(":")[0].removeprefix("sequential/") for name in names]

    def tree(prefix):
        """As the parameters are here: kernels are transposed."""
        return nested({path: arrays[f"{prefix}/{i}"].T for i, path in enumerate(here)})

    kernels = {path: path.endswith("kernel") for path in here}
    whole = file.endswith("model.h5")
    run = jos.importers.keras(
        RUNS / file,
        tree(f"{slug}/{BEFORE}"),
        None if whole else names,
        jos.adam(RATE) if "weights" in file else None,
        rename={"^sequential/": ""} if lib == "keras3" else None,
        transform=lambda path, x: x.T if kernels[path] else x,
    )
    assert type(run.optimizer) is jos.Optimizer
    assert int(jos.state.iterations(run.state)) == BEFORE
    assert not run.report.dropped
    steps = range(BEFORE, AFTER[-1])
    grads = jax.tree.map(lambda *gs: np.stack(gs), *(tree(f"{slug}/gradients/{i}") for i in steps))
    got = continued(run.optimizer, run.state, tree(f"{slug}/{BEFORE}"), grads)
    assert measure(got, {at: tree(f"{slug}/{at}") for at in AFTER}) <= 2e-6


def test_keras_refuses_what_does_not_fit():
    ask, recorded = jos.importers.keras, run("keras3", "adam")
    params, config = recorded.params(BEFORE), recorded.case["config"]
    kept = variables(recorded)
    arrays = [v.value for v in kept]
    names = [path for path in PATHS]
    refuse(ValueError, "keras: the source does not say its optimizer's settings", ask, kept, params)
    refuse(ValueError, "the variables have no names: give names=[v.path for v in", ask, arrays, params, None, config)
    refuse(ValueError, "keras: adam keeps 11 variables of these parameters, besides the rate, got 10.", ask,
           arrays[:-2], params, names, config)  # fmt: skip
    refuse(ValueError, "keras: the iteration count, the first variable, must be a whole number of steps", ask,
           [arrays[2], *arrays[1:]], params, names, config)  # fmt: skip
    swapped = [names[1], names[0], *names[2:]]
    refuse(ValueError, "keras: 'm' of 'dense/bias' has shape (2, 2, 3, 4), it must be (3,).", ask, arrays, params,
           swapped, config)  # fmt: skip
    refuse(ValueError, "keras: names must be those of the variables", ask, kept, params, names[1:], config)
    refuse(ValueError, "there is no parameter at 'head' here. See rename.", ask, arrays, params, ["head", *names[1:]],
           config)  # fmt: skip
    refuse(ValueError, "'conv/kernel' and 'dense/kernel' would both become 'kernel'", ask, kept, params, None, config,
           {".*kernel": "kernel"})  # fmt: skip
    refuse(ValueError, "rename: '^layer' is found in no parameter's path", ask, kept, params, None, config,
           {"^layer": ""})  # fmt: skip
    refuse(TypeError, "transform must return an array, got a NoneType for 'conv/kernel'", ask, kept, params, None,
           config, None, lambda path, x: None)  # fmt: skip
    refuse(ValueError, "keras: the file must end with '.keras', '.weights.h5' or '.h5', got 'runs/ckpt-1.index'. What "
           "tf.train.Checkpoint wrote only TensorFlow reads", ask, "runs/ckpt-1.index", params)  # fmt: skip
    refuse(TypeError, "keras: expected an optimizer of Keras, its variables, or a file, got 3.", ask, 3, params)
    refuse(ValueError, "unknown class name 'Adamm'. Did you mean 'adam'?", ask, kept, params, None,
           {**config, "class_name": "Adamm"})  # fmt: skip


def test_keras_variables_are_known_by_their_names():
    for lib, slug in (
        ("keras3", "adam_amsgrad"),
        ("tf", "tf_keras/rmsprop_centered_momentum"),
        ("tf", "legacy/adamax"),
    ):
        recorded = run(lib, slug)
        params, kept, config = recorded.params(BEFORE), variables(recorded), recorded.case["config"]
        first = 2 if lib == "keras3" else 1
        shuffled = [*kept[:first], *kept[: first - 1 : -1]]
        want = jos.importers.keras(kept, params, optimizer=config)
        got = jos.importers.keras(shuffled, params, optimizer=config)
        jax.tree.map(np.testing.assert_array_equal, got.state, want.state)


def test_keras_goes_on_in_a_chain():
    params, kept = {"w": jnp.ones(2)}, [np.int32(5), np.float32(0.5), np.ones(2), np.ones(2)]
    tx = jos.chain(jos.transforms.clip_by_value(1.0), jos.adam())
    run = jos.importers.keras(kept, params, ["w"], tx)
    assert not run.report.dropped + run.report.reset
    assert int(jos.state.iterations(run.state, "adam")) == 5


def test_what_keras_keeps_of_a_scale_is_checked():
    params, ask = {"w": jnp.ones(2), "v": jnp.ones(2)}, jos.importers.keras
    kept = [
        np.int32(0),
        np.float32(0),
        np.int32(3),
        np.float32(8),
        np.int32(5),
        np.float32(0.5),
        np.ones(2),
        np.ones(2),
    ]
    tx = jos.loss_scale("adam")
    wrong = {2: (np.int32(-3), ValueError, "keras: the loss scale's step_counter must be a whole number of steps"),
             3: (np.ones(2), ValueError, "'scale' (it has shape (2,), here it is ())"),
             5: (np.array("x"), TypeError, "keras: variables must be arrays of numbers, got array('x'")}  # fmt: skip
    for i, (value, kind, words) in wrong.items():
        refuse(kind, words, ask, [*kept[:i], value, *kept[i + 1 :]], {"w": jnp.ones(2)}, ["w"], tx)
    groups = jos.by_path({"v": jos.frozen(), "": jos.adam()})
    run = ask([np.int32(5), np.float32(0), *kept[4:]], params, ["w"], groups)
    assert int(jos.state.iterations(run.state, "rest")) == 5
    names = ["w", "v"]  # of what is frozen here, Keras's optimizer has no variables either
    assert not ask([np.int32(5), np.float32(0), *kept[4:]], params, names, groups).report.dropped


def test_keras_optimizers_themselves():
    class Adam:
        """As Keras's: variables, and a config without a class."""

        variables = variables(run("keras3", "adam"))

        def get_config(self):
            return run("keras3", "adam").case["config"]["config"]

    tx, state, report = jos.importers.keras(Adam(), run("keras3", "adam").params(BEFORE))
    assert tx == jos.adam(float(np.float32(0.02)), name="adam")
    assert not report.reset + report.dropped
    assert int(jos.state.iterations(state)) == BEFORE


@pytest.mark.parametrize("file", [file for _, _, file in MODELS])
def test_a_cut_keras_file_is_a_sentence(file, tmp_path):
    content = (RUNS / file).read_bytes()
    for i, cut in enumerate((b"", content[:100], content[: len(content) // 2], content[:-1], b"\xff" * 500)):
        bad = tmp_path / f"{i}_{file}"
        bad.write_bytes(cut)
        with pytest.raises(ValueError, match=r"^keras: .* (no readable|holds? no)"):
            jos.importers.keras(bad, {"w": jnp.ones(2)}, ["w"], jos.adam())
    refuse(FileNotFoundError, "keras: there is no file", jos.importers.keras, tmp_path / "none.keras", {})


def test_a_bomb_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * 10_000_000)
        archive.writestr("model.weights.h5", b"")
    words = "'config.json' in the archive says that it has 10000000 bytes: it is not read."
    refuse(ValueError, words, jos.importers.keras, tmp_path / "bomb.keras", {"w": jnp.ones(2)})


def test_a_link_out_of_the_file_is_not_followed(tmp_path):
    with h5py.File(RUNS / "legacy_model.h5") as whole, h5py.File(tmp_path / "link.h5", "w") as bad:
        bad.attrs["training_config"] = whole.attrs["training_config"]
        held = bad.create_group("optimizer_weights")
        held.attrs["weight_names"] = whole["optimizer_weights"].attrs["weight_names"]
        held["Adam"] = h5py.ExternalLink(str(RUNS / "legacy_model.h5"), "/optimizer_weights/Adam")
    words = "keras: '/optimizer_weights/Adam/iter:0' must be an array of numbers in the file itself."
    refuse(ValueError, words, jos.importers.keras, tmp_path / "link.h5", {"w": jnp.ones(2)}, ["w"])


def test_torch_refuses_what_does_not_fit():
    ask, params = jos.importers.torch, run("torch", "adam").params(BEFORE)

    def changed(slug="adam", state=None, **settings):
        written = state_dict(slug)
        group = {**written["param_groups"][0], **settings}
        return {"state": {**written["state"], **(state or {})}, "param_groups": [group]}

    refuse(ValueError, "torch: expected a state_dict() with 'state' and 'param_groups', got {", ask, {"a": 1}, params)
    refuse(ValueError, "SGD with dampening=0.5 has no counterpart here: from its second step on it is SGD without", ask,
           changed("sgd_momentum", dampening=0.5), params)  # fmt: skip
    assert ask(changed("sgd", dampening=0.5), params).optimizer == ask(changed("sgd"), params).optimizer
    refuse(ValueError, "torch: Adam has a setting 'eta', which is unknown here.", ask, changed(eta=0.5), params)
    refuse(ValueError, "torch: there is a state of parameter 9, which is in no group.", ask, changed(state={9: {}}),
           params)  # fmt: skip
    refuse(ValueError, "torch: Adam keeps 'exp_av' of 'scale', which is unknown here. Did you mean 'exp_avg'?", ask,
           changed(state={4: {"exp_av": np.ones(1)}}), params)  # fmt: skip
    refuse(ValueError, "the parameters of a group have taken [3, 50] steps", ask,
           changed(state={4: {"step": np.float32(3)}}), params)  # fmt: skip
    refuse(ValueError, "a group of parameters must have 'params' and 'lr', got {}", ask,
           {"state": {}, "param_groups": [{}]}, params)  # fmt: skip
    refuse(ValueError, "a group of parameters must have 'params' and 'lr', got 3", ask,
           {"state": {}, "param_groups": 3}, params)  # fmt: skip
    refuse(ValueError, "'state' must be a dict of dicts, got {0: 1}", ask, changed(state={0: 1}) | {"state": {0: 1}},
           params)  # fmt: skip
    without = changed()
    without["param_groups"][0].pop("param_names")
    refuse(ValueError, "torch: the state_dict does not name the parameters: give names=", ask, without, params)
    refuse(ValueError, "names must be 5 different names, one a parameter, got ['a']", ask, without, params, ["a"])
    refuse(ValueError, "'m/other' (there is no parameter 'other' here", ask, without, params, [*PATHS[:-1], "other"])
    wrong = changed(state={4: {"step": np.float32(50), "exp_avg": np.ones(2), "exp_avg_sq": np.ones(1)}})
    refuse(ValueError, "'m/scale' (it has shape (2,), here it is (1,))", ask, wrong, params)
    refuse(ValueError, "torch: these are the settings of no optimizer that is known here", ask,
           {"state": {}, "param_groups": [{"lr": 0.1, "params": [0], "param_names": ["w"]}]}, params)  # fmt: skip
    refuse(
        ValueError,
        "torch: amsgrad was True, here it is False: give the optimizer's name",
        into_ours,
        changed("adam_amsgrad"),
        params,
    )


def into_ours(source, params):
    return jos.importers.torch(source, params, optimizer=jos.adam(epsilon=1e-8))


def test_torch_files_are_read_as_data(tmp_path):
    torch = pytest.importorskip("torch")
    for slug in ("adamw", "groups"):
        recorded = run("torch", slug)
        got = jos.importers.torch(RUNS / f"torch_{slug}.pt", recorded.params(BEFORE))
        want = jos.importers.torch(state_dict(slug), recorded.params(BEFORE))
        assert got.optimizer == want.optimizer
        jax.tree.map(np.testing.assert_array_equal, got.state, want.state)
    for content in (b"", b"\xff" * 100, (RUNS / "torch_adamw.pt").read_bytes()[:-100]):
        (tmp_path / "bad.pt").write_bytes(content)
        refuse(ValueError, "is no file of plain arrays of torch", jos.importers.torch, tmp_path / "bad.pt", {})
    torch.save({"state": pathlib.Path("x")}, tmp_path / "object.pt")
    refuse(ValueError, "is no file of plain arrays of torch", jos.importers.torch, tmp_path / "object.pt", {})


def test_optax_refuses_what_it_does_not_know():
    params = {"w": jnp.ones(2)}
    ask = jos.importers.optax
    unknown = optax.adafactor(RATE).init(params)
    refuse(ValueError, "optax: ours has no slots of a FactoredState, of (", ask, unknown, params, jos.adam())
    for source in (params, None, 3, {"opt_state": optax.adam(RATE).init(params), "params": params}):
        refuse(TypeError, "optax: source must be a state of Optax's: what init or update gave, or opt_state, got", ask,
               source, params, jos.adam())  # fmt: skip
    refuse(TypeError, "optax: source must be a state, got the transformation itself, Gr", ask, optax.adam(RATE), params,
           jos.adam())  # fmt: skip
    refuse(TypeError, "optax: optimizer must be one of jaxopt_suite, or its name, got Gr", ask,
           optax.adam(RATE).init(params), params, optax.adam(RATE))  # fmt: skip
    refuse(ValueError, "optax: with use_grad_mean=False optimizer must sum gradients too, by "
           "gradient_accumulation_steps and loss_scale_factor=1 / gradient_accumulation_steps, got 4 and None.", ask,
           optax.MultiSteps(optax.adam(RATE), 4, use_grad_mean=False).init(params), params,
           jos.adam(gradient_accumulation_steps=4), use_grad_mean=False)  # fmt: skip
    adam = optax.adam(RATE).init(params)
    refuse(ValueError, "optax: 2 variables would be lost: 'm/w' (nothing here keeps it)", ask, adam, params, jos.lion())
    refuse(ValueError, "would be lost", ask, adam, params, jos.from_optax("sgd", learning_rate=RATE, momentum=0.5))
    two = jos.chain(jos.from_optax("scale", step_size=1.0), jos.from_optax("adam", learning_rate=RATE),
                    jos.from_optax("lion", learning_rate=RATE))  # fmt: skip
    refuse(
        ValueError,
        "optax: optimizer holds several states of Optax, at ['adam/optax', 'lion/optax'], of which",
        ask,
        adam,
        params,
        two,
    )


def test_a_chain_of_optax_may_name_its_members():
    params = {"w": jnp.ones(2)}
    there = optax.named_chain(("clip", optax.clip(1.0)), ("adam", optax.adam(RATE)))
    with jax.numpy_dtype_promotion("standard"):
        _, state = there.update(params, there.init(params))
    report = jos.importers.optax(state, params, jos.adam(RATE, epsilon=1e-8, dialect="torch", clipvalue=1.0)).report
    assert {*report.kept} == {"count", "m/w", "v/w"}


def test_optax_parameters_have_other_names_and_layouts_here():
    there = {"dense": {"kernel": jnp.ones((2, 3))}}
    state = optax.trace(0.9).init(there)._replace(trace={"dense": {"kernel": jnp.arange(6.0).reshape(2, 3)}})
    for tx in (jos.sgd(RATE, momentum=0.9, dialect="torch"), jos.from_optax("trace", decay=0.9)):
        run = jos.importers.optax(state, {"fc": {"w": jnp.ones((3, 2))}}, tx, {"dense/kernel$": "fc/w"},
                                  lambda path, x: x.T)  # fmt: skip
        (kept,) = [x for x in jax.tree.leaves(run.state) if x.ndim == 2]
        np.testing.assert_array_equal(kept, np.arange(6.0).reshape(2, 3).T)


def test_a_state_of_ours_is_for_migrate():
    params = {"w": jnp.ones(2)}
    state = jos.adam().init(params)
    for ask in (jos.importers.keras, jos.importers.torch, jos.importers.optax):
        for source in (state, (optax.EmptyState(), state), {"opt_state": state}):
            refuse(TypeError, f"{ask.__name__}: there is a state of jaxopt_suite in source: jos.state.migrate reads",
                   ask, source, params, optimizer="adam")  # fmt: skip


def test_migrate_names_the_importers():
    adam = optax.adam(RATE).init({"w": jnp.ones(2)})
    refuse(ValueError, "migrate: there is no state of a jaxopt_suite optimizer in this tuple: jos.importers reads "
           "those of Keras, torch and Optax.", jos.state.migrate, adam, jos.adam(), {"w": jnp.ones(2)})  # fmt: skip


def of_two(make, *labels):
    return optax.multi_transform(dict(zip(labels, make, strict=True)), dict(zip(("x", "y"), labels, strict=True)))


TWO = {"x": jnp.ones(2), "y": jnp.ones(3)}


def test_groups_of_optax_keep_their_own_counts_and_rates():
    inject = optax.inject_hyperparams(optax.adam)
    there = of_two((inject(0.1), optax.MultiSteps(optax.adam(0.5), 4).gradient_transformation()), "a", "b")
    state = there.init(TWO)
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(6):
            _, state = there.update(TWO, state, TWO)
    adam = jos.adam(0.3, epsilon=1e-8, dialect="torch")
    tx = jos.by_path({"x": adam, "y": adam.replace(gradient_accumulation_steps=4)})
    run = jos.importers.optax(state, TWO, tx).state
    assert [int(jos.state.iterations(run, within)) for within in ("x", "y")] == [6, 1]
    assert float(jos.state.learning_rate(run, "x")) == float(np.float32(0.1))
    assert int(jos.state.variables(run, "y")["micro_step"]) == 2
    both = of_two((inject(0.1), inject(0.5)), "a", "b").init(TWO)
    run = jos.importers.optax(both, TWO, jos.by_path({"x": adam, "y": adam})).state
    np.testing.assert_allclose([jos.state.learning_rate(run, within) for within in ("x", "y")], [0.1, 0.5], rtol=1e-6)
    words = "'b/learning_rate' (the rate of another group goes on)"
    refuse(ValueError, words, jos.importers.optax, both, TWO, adam)
    assert "in the old state it was 0.5" in str(jos.importers.optax(both, TWO, adam, strict=False).report)


def test_groups_of_optax_without_slots_are_known_by_their_names_alone():
    inject = optax.inject_hyperparams(optax.sgd)
    tx = jos.by_path({"x": jos.sgd(0.3), "y": jos.sgd(0.3)})
    run = jos.importers.optax(of_two((inject(0.5), inject(0.25)), "y", "x").init(TWO), TWO, tx).state
    assert [float(jos.state.learning_rate(run, within)) for within in ("x", "y")] == [0.25, 0.5]
    refuse(ValueError, "optax: the state holds [0.25, 0.5] as learning_rate, and does not say which is that of 'x', "
           "which keeps no slots: call it as it is called there, one of ['a', 'b'].", jos.importers.optax,
           of_two((inject(0.5), inject(0.25)), "a", "b").init(TWO), TWO, tx)  # fmt: skip


def test_what_optax_keeps_twice_is_refused():
    params, ask = {"w": jnp.ones(2)}, jos.importers.optax
    adams = optax.chain(optax.scale_by_adam(), optax.scale_by_adam()).init(params)
    refuse(ValueError, "the state holds two slots 'm/w': import the states of a chain one by one", ask, adams, params,
           jos.adam())  # fmt: skip
    adam, schedule = optax.adam(lambda count: 0.1).init(params)
    late = adam._replace(count=jnp.int32(7)), schedule
    refuse(ValueError, "the state holds two counts, [0, 7]; here its parts go together.", ask, late, params, jos.adam())


def test_what_optax_was_injected_is_held_against_the_settings_here():
    params, ask = {"w": jnp.ones(2)}, jos.importers.optax
    state = optax.inject_hyperparams(optax.adamw)(0.125, b1=0.5, weight_decay=0.25).init(params)
    tx = jos.adamw(0.1, 0.25, beta_1=0.5, epsilon=1e-8, dialect="torch")
    assert float(jos.state.learning_rate(ask(state, params, tx).state)) == 0.125
    other = tx.replace(beta_1=0.9)
    refuse(ValueError, "optax: in inject_hyperparams b1 was 0.5, here it is 0.9: give", ask, state, params, other)
    assert "b1 was 0.5, here it is 0.9" in ask(state, params, other, strict=False).report.notes
    alike = {"learning_rate": 0.125, "b1": 0.5, "weight_decay": 0.25}
    assert not ask(state, params, jos.from_optax("adamw", **alike)).report.notes
    for name in alike:
        lacking = jos.from_optax("adamw", **{**alike, name: 0.75})
        refuse(ValueError, f"optax: in inject_hyperparams {name} was {alike[name]:g}, here it is 0.75", ask, state,
               params, lacking)  # fmt: skip


def test_a_chain_of_optax_becomes_a_chain_of_from_optax():
    params = {"w": jnp.ones(2)}
    there = optax.chain(optax.trace(0.5), optax.clip(1.0), optax.adam(0.1))
    with jax.numpy_dtype_promotion("standard"):
        _, state = there.update(params, there.init(params), params)
        want, _ = there.update(params, state, params)
    members = [jos.from_optax("trace", decay=0.5), jos.from_optax("clip", max_delta=1.0),
               jos.from_optax("adam", learning_rate=0.1)]  # fmt: skip
    run = jos.importers.optax(state, params, jos.chain(*members))
    assert not run.report.dropped
    got, _ = run.optimizer.update(params, run.state, params)
    np.testing.assert_array_equal(got["w"], want["w"])


def written(*groups, **settings):
    """A state_dict of Adam: of each group, the steps its one parameter has taken (None: it has no state)."""
    moments = {"exp_avg": np.ones(2), "exp_avg_sq": np.ones(2)}
    adam = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False, **settings}
    return {
        "state": {i: {"step": np.float32(n), **moments} for i, n in enumerate(groups) if n is not None},
        "param_groups": [{**adam, "params": [i], "param_names": ["xy"[i]]} for i in range(len(groups))],
    }


PAIR = {"x": jnp.ones(2), "y": jnp.ones(2)}


def test_a_checkpoint_of_torch_may_hold_more_than_the_optimizer():
    ask, model = jos.importers.torch, {"x": np.ones(2)}
    checkpoint = {"epoch": 5, "model_state_dict": model, "optimizer_state_dict": written(3, 3), "loss": 0.5}
    jax.tree.map(np.testing.assert_array_equal, ask(checkpoint, PAIR).state, ask(written(3, 3), PAIR).state)
    for unclear in ({**checkpoint, "other": written(3, 3)}, {"model_state_dict": model}):
        refuse(ValueError, "torch: expected a state_dict() with 'state' and 'param_groups', got", ask, unclear, PAIR)


def test_torch_of_old_does_not_say_which_adam_it_was():
    ask, one = jos.importers.torch, {"x": jnp.ones(2)}
    refuse(ValueError, "wrote Adam's and AdamW's alike, which decay otherwise: say which with optimizer=", ask,
           written(3, weight_decay=0.5), one)  # fmt: skip
    adamw = jos.adamw(0.1, 0.5, beta_2=0.99, epsilon=1e-8, dialect="torch")
    assert ask(written(3, weight_decay=0.5), one, optimizer=adamw).optimizer == adamw
    assert ask(written(3), one).optimizer == jos.adam(0.1, beta_2=0.99, epsilon=1e-8, dialect="torch")
    assert ask(written(3, weight_decay=0.5), one, optimizer="adamw").optimizer == adamw
    assert ask(written(3), one, optimizer="adam").optimizer == ask(written(3), one).optimizer
    refuse(ValueError, "torch: epsilon was 1e-08, here it is 1e-07: give the optimizer's name, or this value.", ask,
           written(3), one, optimizer=jos.adam(beta_2=0.99, dialect="torch"))  # fmt: skip


def test_sparse_adam_of_torch():
    settings = {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-8, "maximize": False, "params": [0]}
    kept = {0: {"step": 3, "exp_avg": np.full((4, 2), 0.5), "exp_avg_sq": np.ones((4, 2))}}
    tx, state, _ = jos.importers.torch({"state": kept, "param_groups": [settings]}, {"w": jnp.zeros((4, 2))}, ["w"])
    assert tx == jos.adam(epsilon=1e-8, dialect="torch", lazy=True)
    assert float(jos.state.get_slot(state, "w", "m")[0, 0]) == 0.5


@pytest.mark.parametrize("steps", [(8, 2), (8, None)])
def test_groups_of_torch_of_other_ages_stay_groups(steps):
    tx, state, report = jos.importers.torch(written(*steps), PAIR)
    counts = [int(jos.state.iterations(state, within)) for within in ("^(x)$", "^(y)$")]
    assert counts == [8, steps[1] or 0]
    assert not report.dropped
    assert "8, 2" not in str(tx)
    assert jos.importers.torch(written(8, 8), PAIR).optimizer == jos.adam(
        0.1, beta_2=0.99, epsilon=1e-8, dialect="torch"
    )


@pytest.mark.parametrize("step", [float("nan"), float("inf"), -3.0, 2.0**40, 2.5])
def test_steps_of_torch_are_whole_numbers(step):
    sentence = "torch: step must be a whole number of steps below 2**31, got"
    refuse(ValueError, sentence, jos.importers.torch, written(step), {"x": jnp.ones(2)})


def test_numbers_of_torch_are_checked():
    ask, one = jos.importers.torch, {"x": jnp.ones(2)}
    for betas in (0.9, (0.9,), "ab"):
        refuse(ValueError, "torch: betas must be a pair of numbers, got", ask, written(3, betas=betas), one)
    refuse(TypeError, "torch: 'lr' must be an array of numbers, got 'x'", ask, written(3, lr="x"), one)
    refuse(TypeError, "'params' must be a list of numbers, got 0", ask,
           {"state": {}, "param_groups": [{**written(3)["param_groups"][0], "params": 0}]}, one)  # fmt: skip
    refuse(TypeError, "names must be a list of names, got 'x'", ask, written(3), one, "x")
    refuse(ValueError, "'param_groups' must be a list of groups, got []", ask, {"state": {}, "param_groups": []}, one)
    bad = written(3)
    bad["state"][0]["exp_avg"] = "x"
    refuse(TypeError, "torch: 'exp_avg' must be an array of numbers, got 'x'", ask, bad, one)
    bad["state"][0] = {"step": np.ones(2)}
    refuse(ValueError, "torch: 'step' must be one number, got", ask, bad, one)
    refuse(ValueError, "torch: iterations must be a whole number of steps", ask, written(None), one, iterations=-1)
    averaged = {"lr": 0.1, "lambd": 1e-4, "alpha": 0.75, "t0": 1e6, "weight_decay": 0.0}
    group = {**averaged, "params": [0], "param_names": ["x"]}
    refuse(
        ValueError,
        "torch: the state_dict is of ASGD, which is unknown here.",
        ask,
        {"state": {}, "param_groups": [group]},
        one,
    )
    refuse(TypeError, "torch: expected a state_dict() or a file, got 3.", ask, 3, one)
    refuse(
        TypeError, "torch: optimizer must be one of jaxopt_suite, or its name, got 3", ask, written(3), one, optimizer=3
    )


def test_optimizers_of_torch_without_a_step_start():
    for settings in ({"nesterov": False, "momentum": 0.0, "dampening": 0}, {"betas": (0.9, 0.99), "amsgrad": False}):
        group = {"lr": 0.125, "weight_decay": 0.0, "eps": 1e-8, **settings, "params": [0], "param_names": ["x"]}
        group = {key: x for key, x in group.items() if key != "eps" or "betas" in settings}
        source = {"state": {}, "param_groups": [group]}
        run = jos.importers.torch(source, {"x": jnp.ones(2)}, rename={r"^(.)$": r"\1"})
        assert float(jos.state.learning_rate(run.state)) == 0.125
        assert int(jos.state.iterations(run.state)) == 0
        later = jos.importers.torch(source, {"x": jnp.ones(2)}, iterations=7)
        assert int(jos.state.iterations(later.state)) == 7
    sgd = jos.importers.torch(
        {"state": {}, "param_groups": [{"lr": 0.125, "dampening": 0, "params": [0]}]},
        {"x": jnp.ones(2)},
        ["x"],
        optimizer=jos.sgd(0.5),
    )
    assert float(jos.state.learning_rate(sgd.state)) == 0.125


def test_groups_of_nadam_become_one():
    source = written(5, 5)
    for group in source["param_groups"]:
        group["momentum_decay"] = 0.004
        del group["amsgrad"]
    for kept in source["state"].values():
        kept["mu_product"] = np.float32(0.5)
    run = jos.importers.torch(source, PAIR, optimizer=jos.nadam(0.1, dialect="torch"))
    assert not run.report.dropped
    assert float(jos.state.variables(run.state)["product"]) == 0.5
    source["state"][1]["mu_product"] = np.float32(0.25)
    refuse(ValueError, "would be lost", jos.importers.torch, source, PAIR, optimizer=jos.nadam(0.1, dialect="torch"))


def test_optimizers_may_be_named():
    params = {"w": jnp.ones(2)}
    state = optax.adam(0.1).init(params)
    assert jos.importers.optax(state, params, "adam").optimizer == jos.adam()
    refuse(ValueError, "optax: unknown class name 'adamm'. Did you mean 'adam'?", jos.importers.optax, state, params,
           "adamm")  # fmt: skip
    kept = [np.int32(7), np.float32(0.5), np.ones(2), np.ones(2)]
    assert jos.importers.keras(kept, params, ["w"], "adam").optimizer == jos.adam()
