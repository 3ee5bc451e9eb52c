"""A type checker sees every public signature: pyright flags the lines below that say so, and no others."""

import json
import re
import subprocess
import sys

USER = """
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxopt_suite as jos

adam: jos.Optimizer = jos.adam(1e-3, beta_1=0.9, amsgrad=True, weight_decay=0.1, clipnorm=1.0, name="mine")
jos.adam(jos.schedules.cosine_decay(1e-3, 100), beta_1=lambda step: 0.9)
jos.sgd(jnp.float32(0.1), momentum=jos.schedules.momentum_ramp(0.9))
jos.adam(exclude_from_weight_decay=["bias"], axis_name=("data", "model"), dialect="legacy", lr=0.1)
jos.novograd(weight_decay=0.1, grad_averaging=True).exclude_from_weight_decay(var_names=["bias"])
plain: optax.GradientTransformation = optax.chain(jos.transforms.clip_by_norm(1.0), adam)
average = jos.moving_average(jos.yogi(), average_decay=0.9, num_updates=None)
grouped = jos.by_path({"bias": jos.sgd(), ".*": jos.chain(jos.transforms.scale_by_adam(), adam)}, clipnorm=1.0)
rate: jax.Array = jos.state.learning_rate(average.init({}))
schedule: jos.schedules.Schedule = jos.schedules.polynomial_decay(0.1, 10, power=2.0)
config: dict = adam.replace(learning_rate=0.5).get_config()
jos.explain(adam, {}).totals()["state_bytes"] + 1


class MineState(NamedTuple):
    m: jax.Array


@jos.optimizer("Mine")
def mine(learning_rate: float = 0.1, strength: float = 2.0, **common) -> jos.Rule:
    def init(w: jax.Array) -> MineState:
        return MineState(w)

    def update(g: jax.Array, s: MineState, w: jax.Array, t: jos.Moment) -> tuple[jax.Array, MineState]:
        return g * strength / t.count, s

    return jos.leafwise(MineState, init, update, reads_weights=True)


made: jos.Optimizer = mine(0.5, strength=1.0, clipnorm=1.0)
jos.adam(learning_rat=1)  # wrong
jos.adam(beta_1="high")  # wrong
jos.adam(amsgrad="yes")  # wrong
jos.adam(clipnorm="1")  # wrong
jos.adam(dialect="modern")  # wrong
jos.adam(momentum=0.9)  # wrong
jos.adam(0.1, 0.9, 0.999, 1e-7, True, None)  # wrong
jos.novograd(weight_decay="0.1")  # wrong
jos.yogi(activation="relu")  # wrong
jos.lookahead(optax.adam(0.1))  # wrong
jos.lookahead(jos.adam(), sync_period=2.5)  # wrong
jos.transforms.scale_by_adam(beta_3=0.9)  # wrong
jos.transforms.accumulate("two")  # wrong
jos.schedules.exponential_decay(0.1, 10)  # wrong
jos.by_path({"bias": "sgd"})  # wrong
number: int = jos.adam()  # wrong
jos.state.set_learning_rate(1)  # wrong
mine(strength="much")  # wrong
"""


def test_pyright_reads_the_signatures(tmp_path):
    file = tmp_path / "user.py"
    file.write_text(USER)
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard"}')
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp_path)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=300).stdout)
    errors = {
        d["range"]["start"]["line"]: d["message"] for d in found["generalDiagnostics"] if d["severity"] == "error"
    }
    wrong = {number for number, line in enumerate(USER.splitlines()) if re.search("# wrong$", line)}
    assert {*errors} == wrong, {n: errors.get(n) for n in wrong ^ {*errors}}
