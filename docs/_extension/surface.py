"""The path of an optimizer on a test surface beside that of SGD, drawn as SVG.

The surface is a bent valley, `f(x, y) = (1 - x)^2 + 10 (y - x^2)^2`, the start (-1.4, 1.8). Each optimizer takes 60
steps at each of 17 rates, and the one with the lowest end is drawn. The parameter is a matrix of one row.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure

import jaxopt_suite as jos

STEPS = 60
START = ((-1.4, 1.8),)
RATES = tuple(10.0 ** (k / 4) for k in range(-14, 3))  # from 0.0003 to 3
# what an optimizer needs on this surface, besides a rate
NEEDED: dict[str, dict[str, Any]] = {
    "conditional_gradient": {"lambda_": 2.0},
    "moving_average": {"average_decay": 0.9},
    "sgdw": {"weight_decay": 0.001},
    "swa": {"start_averaging": 20, "average_period": 2},
}
# whose rate is the share of the weights that stays
RATES_OF = {"conditional_gradient": tuple(1 - rate for rate in RATES if rate < 1)}


class Path(NamedTuple):
    """The points that an optimizer passes, and the rate it goes at; None where it has none."""

    points: np.ndarray
    rate: float | None

    @property
    def end(self) -> float:
        return float(surface(*self.points[-1]))


def surface(x: Any, y: Any) -> Any:
    return (1 - x) ** 2 + 10 * (y - x**2) ** 2


def loss(w: jax.Array) -> jax.Array:
    return surface(w[0, 0], w[0, 1])


def built(make: Callable[..., jos.Optimizer]) -> jos.Optimizer:
    """The optimizer, at a rate that is replaced; a wrapper is put around SGD."""
    words = getattr(make, "words", {})
    given: dict[str, Any] = {"optimizer": jos.sgd(1.0)} if "optimizer" in words else {}
    if "learning_rate" in words:
        given["learning_rate"] = 1.0
    return make(**given, **NEEDED.get(make.__name__, {}))


@functools.cache
def path(make: Callable[..., jos.Optimizer]) -> Path:
    """The path at the best of the rates."""
    tx, start = built(make), jnp.array(START)
    has_rate = "learning_rate" in getattr(make, "words", {}) or "optimizer" in getattr(make, "words", {})

    def run(rate: jax.Array) -> jax.Array:
        state = tx.init(start)
        state = jos.state.set_learning_rate(state, rate) if has_rate else state

        def step(carry: Any, _: None) -> tuple[Any, jax.Array]:
            w, state = carry
            g = jax.grad(lambda w: tx.scale_loss(loss(w), state))(w)
            w, state = tx.apply_gradients(g, state, w)
            return (w, state), tx.finalize_variable_values(state, w)

        return jnp.concatenate([start[None], jax.lax.scan(step, (start, state), None, STEPS)[1]])[:, 0]

    rates = jnp.array(RATES_OF.get(make.__name__, RATES)) if has_rate else jnp.ones(1)
    runs = jax.jit(jax.vmap(run))(rates)
    ends = surface(*runs[:, -1].T)
    best = int(jnp.nanargmin(jnp.where(jnp.isfinite(ends), ends, jnp.inf)))
    return Path(np.asarray(runs[best]), float(rates[best]) if has_rate else None)


def caption(make: Callable[..., jos.Optimizer], ours: Path, sgd: Path) -> str:
    """What the picture shows, with the numbers in it."""
    name = make.__name__
    around = " around `sgd`" if "optimizer" in getattr(make, "words", {}) else ""
    at = "" if ours.rate is None else f" at a rate of {ours.rate:.2g}"
    return (
        f"{STEPS} steps on `(1 - x)^2 + 10 (y - x^2)^2`: `{name}`{around}{at} ends at {ours.end:.2g}, "
        f"`sgd` at {sgd.rate:.2g} at {sgd.end:.2g}. Each has the best of {len(RATES)} rates for this surface and the "
        "defaults otherwise, so that the picture shows how it moves, not which is better."
    )


def draw(name: str, ours: Path, sgd: Path, file: pathlib.Path) -> None:
    """A picture for pages of either colour: nothing in it is white or black."""
    grey = "#8a8f98"
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(6, 3.1), layout="constrained")
        axes = figure.add_subplot()
        x, y = np.meshgrid(np.linspace(-1.9, 1.6, 240), np.linspace(-0.7, 2.3, 160))
        axes.contour(x, y, surface(x, y), np.geomspace(0.1, 90, 9), colors=grey, linewidths=0.6, alpha=0.6)
        axes.plot(*sgd.points.T, ".-", color=grey, linewidth=2.5, markersize=6, label="sgd", gid="path-of-sgd")
        axes.plot(*ours.points.T, ".-", color="#e8710a", linewidth=1.3, markersize=4, label=name, gid="path")
        axes.plot(1, 1, "+", color="#2a9d8f", markersize=12, markeredgewidth=2)
        axes.set(xlim=(-1.9, 1.6), ylim=(-0.7, 2.3))
        axes.tick_params(colors=grey)
        for spine in axes.spines.values():
            spine.set_color(grey)
        axes.legend(loc="lower left", frameon=False, labelcolor=[grey, "#e8710a"])
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
