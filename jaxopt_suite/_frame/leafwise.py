"""A rule is written for one array, in the letters of its paper.

    init(w) -> slots
    update(x, slots, w, t) -> (x, slots)

`x` is what travels down the line: a gradient before the optimizer's rule, an update behind it. `slots` is the rule's
NamedTuple of arrays, `w` the parameter and `t` the `Moment`. All arrays come in at least float32; what the rule
stores keeps the dtype that it is stored in.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_suite._frame.split import WHOLE, Split
from jaxopt_suite._recipe.check import nearest, show
from jaxopt_suite._recipe.words import Number
from jaxopt_suite._slices import IndexedSlices
from jaxopt_suite.state._codec import Storage
from jaxopt_suite.state._layout import Layout, Slots
from jaxopt_suite.state._random import Part


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Moment:
    """What a rule may know of the step besides its arrays, as scalars of the arrays' own precision.

    Attributes:
      count: 1 in the first update, as a float: `beta ** t.count` is a power in this precision.
      learning_rate: the rate of this step; 1 in a primitive that is used alone.
      step: `count` as an exact int32.
      extra: the further arguments of `update` that the rule asks for by `extra_args`, each this array's part of a
        tree like the parameters, or a scalar.
      leaf: a number of the array's own, uint32, for a rule that is `random`; else None.
      rows: where the rule runs on some rows of a table alone, the slices that they belong to; else None.
      split: how the array is split over the axes of `shard_map`, where this device holds a part of it.
      splits: those of all arrays, in `update_shared`.

    What a rule reduces it reduces by `t.sum`, `t.mean` or `t.whole`, which know of the other parts.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> rule = jos.leafwise(None, None, lambda g, s, w, t: (g / t.count, s))
    >>> tx = jos.optimizer("Fading")(lambda learning_rate=1.0, **common: rule)()
    >>> state = tx.init(jnp.zeros(1))
    >>> for _ in range(2):
    ...     step, state = tx.update(jnp.ones(1), state)
    >>> step
    Array([-0.5], dtype=float32)
    """

    count: jax.Array
    learning_rate: jax.Array
    step: jax.Array
    extra: dict[str, jax.Array] = dataclasses.field(default_factory=dict)
    leaf: jax.Array | None = None
    rows: IndexedSlices | None = None
    split: Split = dataclasses.field(default=WHOLE, metadata={"static": True})
    splits: tuple[Split, ...] = dataclasses.field(default=(), metadata={"static": True})

    def part(self, shape: tuple[int, ...]) -> Part | None:
        """Where the array that `update` gets, of this shape, lies in the whole one; None where it is whole."""
        if self.rows is None:
            return self.split.part(shape)
        n, table = len(shape) - 1, self.rows.dense_shape
        first, whole = self.split.part(table) or Part((0,) * len(table), table)
        offsets = self.rows.indices - jnp.arange(shape[0], dtype=self.rows.indices.dtype)
        return Part((first[0] + offsets.reshape(-1, *[1] * n), *first[1:]), whole)

    def sum(self, x: jax.Array, axis: int | None = None) -> jax.Array:
        """`jnp.sum` of an array like the parameter, over all devices that hold a part of it."""
        return self.split.sum(x, axis)

    def mean(self, x: jax.Array, axis: int | None = None) -> jax.Array:
        """`jnp.mean` of an array like the parameter, over all devices that hold a part of it."""
        return self.split.mean(x, axis)

    def whole(self, function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
        """This device's part of a function of the whole array, such as a product of matrices."""
        return self.split.whole(function, x)


Shared = dict[str, jax.Array]
Update = Callable[[Any, Any, Any, Moment], tuple[jax.Array, Slots]]


@dataclasses.dataclass(frozen=True, eq=False)
class Rule:
    """A rule of one array, and what it declares of itself.

    Attributes:
      slots: the NamedTuple of its slots, or None for a rule without state.
      init: the slots of one array.
      update: one update of one array.
      returns_update: whether `update` returns the update to add (it has used the rate) or a positive direction.
      reads_weights: whether `update` needs `w`.
      extra_args: names of further arguments of the transformation's `update`, which come in `t.extra`.
      shared: names and first values of the slots that are one scalar for the whole tree.
      partial: names of the slots that only some parameters have, by `choose`.
      update_shared: their next values, `update_shared(scalars, xs, t) -> scalars`, before any array is updated.
      reads_all: whether `update_shared` reads the arrays `xs`, so that the rules before must have run.
      choose: the rule for one parameter, `choose(path, w)`, where it is not the same for all.
      exact: the parameter as it stands, `exact(slots, w)`, where what is written of it is rounded.
      evaluate: the parameter to evaluate with, `evaluate(slots, w)`, where it is not `w`.
      random: whether `update` draws random bits, and needs `t.leaf`.
      storage: how its slots are stored, where it is not as they are.
      label: what `explain` calls it; the function that it is written in, where nothing else is declared.
      decay: the weight decay that `explain` shows, where it decays.
      elementwise: whether it treats every entry alike, so that it may run on some rows of a table alone.
      rows: the rule, with the same slots, that takes slices of a table: it runs on the rows that they have, as one
        array with each row once (and some with a zero gradient, which are padding). Where it is None, a sparse gradient
        is made dense first.
      absent: what then becomes of the other rows, `absent(slots, w, t) -> (step, slots)` for the whole table; a step of
        None leaves them where they are. Where it is None, slots stay as well.
      on_values: whether it takes slices as they came, each for itself, with rows that come twice; it has no slots.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> rule = jos.leafwise(None, None, lambda g, s, w, t: (g - w, s), reads_weights=True)
    >>> rule.reads_weights, rule.returns_update, rule.elementwise
    (True, False, False)
    """

    slots: type | None
    init: Callable[[jax.Array], Slots]
    update: Update
    returns_update: bool = False
    reads_weights: bool = False
    extra_args: tuple[str, ...] = ()
    shared: Mapping[str, float] = dataclasses.field(default_factory=dict)
    partial: tuple[str, ...] = ()
    update_shared: Callable[[Shared, Sequence[jax.Array], Moment], Shared] | None = None
    reads_all: bool = False
    choose: Callable[[str, jax.Array], "Rule"] | None = None
    exact: Callable[[Slots, jax.Array], jax.Array] | None = None
    evaluate: Callable[[Slots, jax.Array], jax.Array] | None = None
    random: bool = False
    storage: Storage | None = None
    label: str = ""
    decay: Number | None = None
    elementwise: bool = False
    rows: "Rule | None" = None
    absent: Callable[[Slots, Any, Moment], tuple[jax.Array | None, Slots]] | None = None
    on_values: bool = False

    @property
    def layout(self) -> Layout:
        return Layout(self.slots, self.init, self.shared, self.partial, self.storage)

    @property
    def draws(self) -> bool:
        return self.random or self.storage is not None

    def of(self, path: str, w: jax.Array) -> "Rule":
        """The rule for one parameter."""
        return self if self.choose is None else self.choose(path, w)


DECLARED = tuple(field.name for field in dataclasses.fields(Rule))[3:]


def leafwise(slots: type | None, init: Callable[[jax.Array], Slots] | None, update: Update, **declared: Any) -> Rule:
    """A rule from its two functions of one array, in the letters of its paper.

        init(w) -> slots
        update(g, slots, w, t) -> (direction, slots)

    Arguments:
      slots: the NamedTuple of its slots; None for a rule without state.
      init: the slots of the array `w`: make them with `jnp.zeros_like(w)`, so that they are placed as `w` is. A slot
        that is None does not exist.
      update: from the gradient `g`, the positive direction, which the frame multiplies by `-learning_rate`. `w` is the
        parameter, and None where `update` was called without parameters. `t` is the `Moment`.
      declared: the further attributes of a `Rule` by name, such as `reads_weights=True` (the parameters must be
        given), `returns_update=True` (`update` returns the update to add, and has used `t.learning_rate` itself) or
        `extra_args=("hessian",)` (`tx.update` needs the argument `hessian`, a tree like the parameters or a scalar;
        the array's part of it is `t.extra["hessian"]`), or `elementwise=True` (it treats every entry alike, so that
        `lazy=True` may run it on some rows of a table alone).

    Raises:
      TypeError: if `slots` is no NamedTuple, or a name in `declared` is unknown.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> rule = jos.leafwise(None, None, lambda g, s, w, t: (g * t.extra["scale"], s), extra_args=("scale",))
    >>> @jos.optimizer("ScaledDescent")
    ... def scaled_descent(learning_rate=0.5, **common):
    ...     return rule
    >>> tx = scaled_descent()
    >>> tx.update({"a": jnp.ones(2)}, tx.init({"a": jnp.zeros(2)}), scale={"a": jnp.array([2.0, 4.0])})[0]
    {'a': Array([-1., -2.], dtype=float32)}
    """
    if slots is not None and not (isinstance(slots, type) and issubclass(slots, tuple) and hasattr(slots, "_fields")):
        raise TypeError(f"leafwise: slots must be a NamedTuple class, or None for a rule without state, got {slots!r}.")
    if slots is not None and init is None:
        raise TypeError(f"leafwise: a rule with the slots {slots.__name__} needs an init function, got None.")
    for name in declared:
        if name not in DECLARED:
            raise TypeError(f"leafwise: a rule has no attribute {show(name)}.{nearest(name, DECLARED)}")
    label = getattr(update, "__qualname__", "").partition(".")[0].lstrip("_")
    return Rule(slots, init or (lambda w: None), update, **{"label": label, **declared})


def map_rule(change: Callable[[Rule], Rule], rule: Rule) -> Rule:
    """`change` of a rule, of its `rows`, and of the rules it chooses; each once, so that it is traced once."""

    @functools.cache
    def changed(rule: Rule) -> Rule:
        new = change(rule)
        return new if rule.rows is None else dataclasses.replace(new, rows=change(rule.rows))

    return _chosen(changed, rule)


def by_rows(rule: Rule, **changes: Any) -> Rule:
    """A rule that takes a sparse gradient by the rows that it has."""
    return _chosen(functools.cache(lambda rule: dataclasses.replace(rule, rows=rule, **changes)), rule)


def _chosen(change: Callable[[Rule], Rule], rule: Rule) -> Rule:
    """`change` of a rule and of the rules it chooses."""
    choose = rule.choose
    if choose is None:
        return change(rule)
    return dataclasses.replace(change(rule), choose=lambda path, w: change(choose(path, w)))
