"""The curve of a schedule: its points, and a small picture of them that needs no other library."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_suite._recipe.check import Value, show
from jaxopt_suite._recipe.recipe import Recipe, has_recipe

POINTS = 400
MOST = 2**31 - 1  # the last step that there is
WIDTH, HEIGHT, LEFT, BOTTOM = 360, 120, 60, 18  # of the picture, and of what is left to its labels

# how many times an argument's own steps are shown: a decay and a little of what comes behind it, some of the cycles
SPANS = {
    "steps": 1.25,
    "warmup_steps": 1.0,
    "stable_steps": 1.0,
    "total_steps": 1.1,
    "decay_steps": 1.25,
    "transition_begin": 1.0,
    "transition_steps": 1.25,
    "mom_iter_max": 1.1,
    "first_decay_steps": 4.0,
    "step_size": 6.0,
}


def span(recipe: Recipe) -> float:
    """As many steps as a schedule's arguments speak of; 0 where they do not."""
    arguments = {**recipe.arguments, **recipe.arguments.get("arguments", {})}  # those of one of Optax's
    own = sum(times * arguments[name] for name, times in SPANS.items() if isinstance(arguments.get(name), (int, float)))
    boundaries = arguments.get("boundaries")
    if isinstance(boundaries, tuple) and boundaries:
        own += max(boundaries) * (1.0 if "schedules" in arguments else 1.25)
    return own + max((span(value.recipe) for value in _inside(arguments.values()) if has_recipe(value)), default=0.0)


def _inside(values: Any) -> list[Value]:
    return [x for value in values for x in (value if isinstance(value, tuple) else (value,))]


def points(schedule: Callable[[jax.Array], jax.Array], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps from 0 to `steps`, all of them where they are few, and the values there, found by one program."""
    xs = np.unique(np.linspace(0, steps, POINTS + 1).round().astype(np.int32))
    return xs, np.asarray(jax.jit(jax.vmap(schedule))(jnp.asarray(xs)))


def check_steps(owner: str, steps: Value) -> int:
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or not 0 < steps <= MOST:
        raise ValueError(f"{owner}: steps must be an integer from 1 to 2147483647, got {show(steps)}.")
    return int(steps)


def as_svg(xs: np.ndarray, ys: np.ndarray) -> str:
    """A line in the colour of the text around it, with its lowest and highest value and its last step."""
    known = ys[np.isfinite(ys)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    right, height = WIDTH - LEFT - 8, HEIGHT - BOTTOM - 8
    x = LEFT + right * xs / xs[-1]
    y = 4 + height * (high - ys) / (high - low) if high > low else np.full(len(xs), 4 + height / 2)
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True) if np.isfinite(b))
    ends = [(high, 12.0), (low, 4.0 + height)] if high > low else [(high, 8 + height / 2)]
    labels = "".join(f'<text x="{LEFT - 6}" y="{at:.1f}" text-anchor="end">{value:.3g}</text>' for value, at in ends)
    bottom = HEIGHT - 4
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'style="max-width: 100%" fill="currentColor" font-size="11" role="img">'
        f'<polyline points="{line}" fill="none" stroke="currentColor" stroke-width="1.5"/>{labels}'
        f'<text x="{LEFT}" y="{bottom}">0</text><text x="{WIDTH - 8}" y="{bottom}" text-anchor="end">step {xs[-1]}'
        "</text></svg>"
    )
