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
# # Quick start
#
# An optimizer of `jaxopt_suite` is an Optax transformation: `init` and `update`, and it works wherever Optax's
# optimizers do. Its arguments have Keras's names, and its numbers are Keras's numbers.

# %%
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxopt_suite as jos

images, labels = load_digits(return_X_y=True)
images = jnp.asarray(images / 16, jnp.float32)
print(images.shape)

# %% [markdown]
# ## A training step
#
# Logistic regression on 1797 handwritten digits. The weights are decayed, the bias is not.

# %%
params = {"dense": {"bias": jnp.zeros(10), "kernel": jnp.zeros((64, 10))}}


def loss_fn(params):
    logits = images @ params["dense"]["kernel"] + params["dense"]["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


tx = jos.novograd(0.1, weight_decay=1e-3, exclude_from_weight_decay=["bias"], global_clipnorm=1.0)
print(tx.explain(params))


# %%
@jax.jit
def step(params, state):
    loss, grads = jax.value_and_grad(loss_fn)(params)
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state, loss


w, state = params, tx.init(params)
for _ in range(100):
    w, state, loss = step(w, state)
assert loss < 0.2
print(f"loss {loss_fn(params):.2f} -> {loss:.2f}")

# %% [markdown]
# In Keras's words the same step is one line, `params, state, loss = tx.minimize(loss_fn, state, params)`.
#
# ## The state can be read and set
#
# The learning rate lives in the state: setting it compiles nothing again.

# %%
state = jos.state.set_learning_rate(state, 0.01)
w, state, loss = step(w, state)
assert step._cache_size() == 1
print(jos.state.iterations(state), jos.state.learning_rate(state))
print({name: value.shape for name, value in jos.state.variables(state).items()})

# %% [markdown]
# ## An optimizer is a value
#
# It compares, hashes, prints and pickles by the arguments that it was made with, and goes to JSON and back. So two
# equal optimizers share one compiled step, where `optax.adam(1e-3) == optax.adam(1e-3)` is `False`.

# %%
text = tx.to_json()
again = jos.deserialize(json.loads(text))
assert again == tx
assert hash(again) == hash(tx)
print(text[:120], "...")

# %% [markdown]
# ## 16-bit parameters
#
# Slots and arithmetic are float32 whatever the parameters are, so `beta_2 = 0.999` is not rounded to 1.

# %%
half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
trained, state = half, jos.adam(0.01).init(half)
for _ in range(100):
    trained, state, loss = jos.adam(0.01).minimize(loss_fn, state, trained)
assert loss < 0.5
print(trained["dense"]["kernel"].dtype, {str(v.dtype) for v in jax.tree.leaves(state.stages)}, f"loss {loss:.2f}")

# %% [markdown]
# ## Errors are sentences

# %%
try:
    jos.adam(beta_2=1.5)
except ValueError as error:
    print(error)
try:
    tx.update({"dense": {"kernel": np.zeros((64, 10))}}, tx.init(params), params)
except ValueError as error:
    print(error)
