"""Parameters and gradients that every recorded trajectory uses.

Everything comes from ``numpy.random.RandomState``, whose stream does not
change between numpy versions.  A tree is a flat dict from a '/'-separated path
to a float32 array; the paths are given in sorted order, which is also the
order in which JAX flattens the nested dict.
"""

import numpy as np

STEPS = 30

SHAPES = {
    "conv/kernel": (2, 2, 3, 4),
    "dense/bias": (3,),
    "dense/kernel": (4, 3),
    "embedding": (6, 3),
    "scale": (1,),
}

KINDS = ("plain", "shrinking", "zeros", "large")

# Steps at which the gradient of `embedding` is zero everywhere (kind "zeros").
ZERO_STEPS = (0, 5, 6, 17)

# Factors of kind "large", repeated: with the thresholds used in the cases the
# gradient is below them on the small ones and above them on the big ones.
LARGE_FACTORS = (8.0, 0.05, 1.0, 0.3, 0.02)

SHRINK = 0.8


def params(seed):
    """The initial parameters; an odd seed starts `dense/bias` at zero."""
    rng = np.random.RandomState(1000 + seed)
    tree = {}
    for path, shape in SHAPES.items():
        value = 0.5 * rng.standard_normal(shape)
        if path == "scale":
            value = value + 1.0
        if path == "dense/bias" and seed % 2 == 1:
            value = np.zeros(shape)
        tree[path] = value.astype(np.float32)
    return tree


def gradients(kind, seed, steps=STEPS):
    """Gradients for `steps` steps: path -> array of shape (steps, ...)."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind of gradient: {kind!r}")
    rng = np.random.RandomState(2000 + 10 * seed + KINDS.index(kind))
    time = np.arange(steps)
    tree = {}
    for path, shape in SHAPES.items():
        drift = 0.4 * rng.standard_normal(shape)
        value = drift + 0.6 * rng.standard_normal((steps, *shape))
        column = (slice(None),) + (None,) * len(shape)
        if kind == "shrinking":
            value = value * (SHRINK**time)[column]
        elif kind == "large":
            factors = np.array(LARGE_FACTORS)[time % len(LARGE_FACTORS)]
            value = value * factors[column]
        elif kind == "zeros" and path == "embedding":
            for step in range(steps):
                value[step, step % shape[0]] = 0.0
                if step < 10:
                    value[step, -1] = 0.0
                if step in ZERO_STEPS:
                    value[step] = 0.0
        tree[path] = value.astype(np.float32)
    return tree
