"""The four trees of parameters that are measured, as nested dicts of shapes, and arrays to fill them with."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

Shape = tuple[int, ...]


def one_leaf() -> dict[str, Shape]:
    """One leaf of 32 M: the memory limit and nothing else."""
    return {"w": (2**25,)}


def resnet50() -> dict[str, Any]:
    """ResNet-50: 161 leaves, 25.6 M parameters, from a few dozen to 2.4 M in one leaf."""
    tree: dict[str, Any] = {"stem": _convolution(7, 3, 64)}
    width = 64
    for stage, (blocks, inner) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for index in range(blocks):
            block = {
                "conv_1": _convolution(1, width, inner),
                "conv_2": _convolution(3, inner, inner),
                "conv_3": _convolution(1, inner, 4 * inner),
            }
            if index == 0:
                block["shortcut"] = _convolution(1, width, 4 * inner)
            tree[f"stage_{stage}_block_{index}"] = block
            width = 4 * inner
    tree["head"] = {"kernel": (width, 1000), "bias": (1000,)}
    return tree


def _convolution(size: int, width: int, to: int) -> dict[str, Shape]:
    """A convolution without bias and its batch normalisation."""
    return {"kernel": (size, size, width, to), "scale": (to,), "offset": (to,)}


def bert_base() -> dict[str, Any]:
    """BERT-base: 199 leaves, 109 M parameters."""
    d = 768
    norm = {"scale": (d,), "offset": (d,)}
    tree: dict[str, Any] = {
        "word_embedding": (30_522, d),
        "position_embedding": (512, d),
        "type_embedding": (2, d),
        "norm": norm,
        "pooler": {"kernel": (d, d), "bias": (d,)},
    }
    for layer in range(12):
        square = {name: {"kernel": (d, d), "bias": (d,)} for name in ("query", "key", "value", "out")}
        wide = {"up": {"kernel": (d, 4 * d), "bias": (4 * d,)}, "down": {"kernel": (4 * d, d), "bias": (d,)}}
        tree[f"layer_{layer:02}"] = {**square, **wide, "norm_1": norm, "norm_2": norm}
    return tree


def thousand() -> list[Shape]:
    """1000 leaves of 1000: dispatch and compilation, and hardly any arithmetic. A list, since Keras takes no dict."""
    return [(1000,)] * 1000


def small() -> dict[str, Any]:
    """The 161 leaves of ResNet-50 with at most 1000 entries each: what a step outside `jit` costs by itself."""
    return jax.tree.map(lambda shape: (min(int(np.prod(shape)), 1000),), resnet50(), is_leaf=_is_shape)


TREES: dict[str, Callable[[], Any]] = {
    "one leaf of 32 M": one_leaf,
    "ResNet-50": resnet50,
    "BERT-base": bert_base,
    "1000 leaves of 1000": thousand,
}


def _is_shape(x: Any) -> bool:
    return isinstance(x, tuple)


def shapes(name: str) -> Any:
    """A tree's leaves as `jax.ShapeDtypeStruct`."""
    structs = TREES.get(name, small)()
    return jax.tree.map(lambda shape: jax.ShapeDtypeStruct(shape, np.float32), structs, is_leaf=_is_shape)


def filled(tree: Any, seed: int, scale: float = 0.02) -> Any:
    """Arrays of a normal distribution in a tree's shapes; long ones repeat one block, which is quick to make."""
    block = np.random.default_rng(seed).normal(0, scale, 2**20 + 7).astype(np.float32)
    return jax.tree.map(lambda leaf: np.resize(block, leaf.shape), tree)


def size(tree: Any) -> int:
    """The number of parameters."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
