# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # An optimizer is a value
#
# An optimizer of `jaxopt_suite` has a *recipe*: the function that made it, and the arguments. By it the optimizer
# compares, hashes, prints, pickles, goes to JSON and back, and says what it will do before anything is compiled.

# %%
import json
import pickle

import jax
import jax.numpy as jnp
import optax

import jaxopt_suite as jos

tx = jos.adam(jos.schedules.cosine_decay(1e-3, 10_000), weight_decay=0.1, exclude_from_weight_decay=["bias"])
tx

# %% [markdown]
# What is printed is the call that makes it again, without what is a default anyway.

# %%
same = jos.adam(jos.schedules.cosine_decay(1e-3, 10_000), weight_decay=0.1, exclude_from_weight_decay="bias")
assert tx == same
assert hash(tx) == hash(same)
assert pickle.loads(pickle.dumps(tx)) == tx
print(tx == same, optax.adam(1e-3) == optax.adam(1e-3))

# %% [markdown]
# ## Compile once
#
# Equal optimizers are one static argument, so that a step is traced once, however often the optimizer is built.

# %%
params = {
    "embedding": jnp.ones((1000, 8)),
    "layers": [{"bias": jnp.zeros(8), "kernel": jnp.eye(8)} for _ in range(2)],
}
grads = jax.tree.map(lambda w: 0.1 * jnp.ones_like(w), params)
traces = []


def step(tx, params, state, grads):
    traces.append(tx)
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state


jitted = jax.jit(step, static_argnums=0)
for make in (lambda: jos.adam(1e-3), lambda: optax.adam(1e-3)):
    traces.clear()
    for _ in range(3):
        tx = make()
        jitted(tx, params, tx.init(params), grads)
    print(len(traces), "trace of" if len(traces) == 1 else "traces of", type(tx).__module__.partition(".")[0])

# %% [markdown]
# ## To JSON and back
#
# The form is Keras's, and what the real Keras wrote is read too. A config is data: nothing in it is imported or
# evaluated, it can only name what is registered, what is given in `custom_objects`, and public factories of Optax.

# %%
tx = jos.novograd(1e-2, weight_decay=1e-3, global_clipnorm=1.0)
assert jos.deserialize(json.loads(tx.to_json())) == tx

written_by_keras = {
    "module": "keras.optimizers",
    "class_name": "RMSprop",
    "config": {"learning_rate": 0.0010000000474974513, "rho": 0.9, "momentum": 0.5, "use_ema": False},
    "registered_name": None,
}
print(jos.deserialize(written_by_keras))
for config in ({"class_name": "NovaGrad", "config": {}}, {"class_name": "Adam", "config": {"beta_2": 1.5}}):
    try:
        jos.deserialize(config)
    except ValueError as error:
        print(error)

# %% [markdown]
# ## One optimizer for some parameters, another for the rest
#
# The first regex that is found in a parameter's path decides. The clip is that of all gradients together.

# %%
tx = jos.by_path(
    {
        "embedding": jos.frozen(),
        "bias": jos.from_optax("sgd", learning_rate=0.1, momentum=0.9),
        ".*": jos.muon(0.01, exclude_from_weight_decay="layers/0"),
    },
    global_clipnorm=1.0,
)
explanation = tx.explain(params)
explanation

# %% [markdown]
# That is what will be done to each parameter: nothing was compiled, and shapes would have been enough. It is data too.

# %%
print(explanation.totals())
try:
    jos.by_path({"embeding": jos.frozen(), ".*": jos.adam()}).explain(params)
except ValueError as error:
    print(error)

# %% [markdown]
# `by_path` is an optimizer like any other: it has a recipe, it can be wrapped, and be a member of a `chain`.

# %%
tx = jos.lookahead(jos.chain(jos.transforms.clip_by_value(1.0), tx), sync_period=5)
assert jos.deserialize(json.loads(tx.to_json())) == tx
w, state = params, tx.init(params)
for _ in range(3):
    w, state = tx.apply_gradients(grads, state, w)
assert (w["embedding"] == params["embedding"]).all()
print(" -> ".join(tx.explain(params).stages))

# %% [markdown]
# ## Where do two optimizers part?
#
# `compare` runs both and names the first step and parameter at which they differ, and what differs in their recipes.

# %%
a = jos.adam(0.1, epsilon=1e-7)
b = jos.adam(0.1, epsilon=1e-3)
found = jos.compare(a, b, params, grads)
assert found.first.step == 1
found

# %% [markdown]
# ## Sixteen learning rates, one program
#
# A rate that was given as a number lives in the state, so `vmap` can run over it. `learning_rate_sweep.py` beside
# this notebook trains a network this way, and plots it.

# %%
tx = jos.adam()


def run(rate):
    state = jos.state.set_learning_rate(tx.init(params), rate)
    return tx.apply_gradients(grads, state, params)[0]


moved = jax.jit(jax.vmap(run))(jnp.logspace(-4, 0, 16))
print(moved["embedding"].shape, moved["embedding"][::5, 0, 0])
