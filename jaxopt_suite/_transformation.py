"""What the library hands out: transformations that are values, and the decorators that declare them."""

import copy
import functools
import re
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, cast

import jax
import jax.numpy as jnp
import optax

from jaxopt_suite._frame.explicit import automatic
from jaxopt_suite._frame.line import Line
from jaxopt_suite._frame.split import SplitError
from jaxopt_suite._recipe.config import Described
from jaxopt_suite._recipe.exclude import exclude
from jaxopt_suite._recipe.recipe import Recipe, Skeleton
from jaxopt_suite._report.explain import Explanation, explain
from jaxopt_suite._report.face import face
from jaxopt_suite._trees import Tree
from jaxopt_suite.state._find import own

P = ParamSpec("P")


class Transformation(Described, optax.GradientTransformationExtraArgs):
    """A pair `(init, update)` with a recipe, by which it compares, hashes, prints and pickles."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if _is_declared(self) and _is_declared(other):
            return super().__eq__(other)
        return not _is_declared(self) and not _is_declared(other) and tuple.__eq__(self, other)

    def __hash__(self) -> int:
        return super().__hash__() if _is_declared(self) else tuple.__hash__(self)

    def __repr__(self) -> str:
        return super().__repr__() if _is_declared(self) else super(Described, self).__repr__()

    def _repr_html_(self) -> str | None:
        return face(self) if _is_declared(self) else None

    def __setattr__(self, name: str, value: object) -> None:
        rate = " and jos.state.set_learning_rate the rate of a state" if name == "learning_rate" else ""
        raise AttributeError(f"an optimizer does not change: tx.replace({name}=...) gives another one{rate}.")

    def __reduce__(self) -> Any:
        return super().__reduce__() if _is_declared(self) else (type(self), tuple(self))

    @property
    def recipe(self) -> Recipe:
        return self._own("recipe")

    @property
    def line(self) -> Line:
        return self._own("line")

    def _own(self, name: str) -> Any:
        found = getattr(self.update, name, None)
        if found is None:
            raise TypeError(
                f"{type(self).__name__}: this one was built by hand from init and update and has no {name}. "
                "Declare it with @jos.optimizer, or use it as a plain optax.GradientTransformation."
            )
        return found

    def explain(self, params: Tree) -> Explanation:
        """What will be done to each parameter, before anything is compiled: its rule, rate, decay, clip and slots.

        `params` holds arrays or `jax.ShapeDtypeStruct`s. The result prints as a table, shows as one in a notebook,
        and gives `to_dict()` and `totals()`; where there are hundreds of parameters, those that are alike share a
        row.

        >>> import jax.numpy as jnp, jaxopt_suite as jos
        >>> params = {"dense": {"bias": jnp.zeros(3), "kernel": jnp.zeros((2, 3))}}
        >>> jos.adam(weight_decay=0.1, exclude_from_weight_decay="bias").explain(params)
        adam(weight_decay=0.1, exclude_from_weight_decay=('bias',))
        parameter     shape   dtype    rule  rate   decay          slots  state
        dense/bias    (3,)    float32  adam  0.001  off by 'bias'  m, v   24 B
        dense/kernel  (2, 3)  float32  adam  0.001  0.1            m, v   48 B
        2 parameters of 9 elements: 36 B, state 80 B
        """
        return explain(self, params)


class Optimizer(Transformation):
    """An optimizer: a transformation with Keras's methods, the state passed in and handed back.

    >>> import jax.numpy as jnp, jaxopt_suite as jos
    >>> tx = jos.sgd(0.5)
    >>> isinstance(tx, jos.Optimizer), isinstance(tx, tuple), tx == jos.sgd(0.5), tx.name
    (True, True, True, 'sgd')
    """

    __slots__ = ()

    @property
    def name(self) -> str:
        return self.recipe.arguments.get("name") or self.recipe.factory.__name__

    def apply_gradients(self, grads: Tree, state: Tree, params: Tree, **extra: Any) -> tuple[Tree, Tree]:
        """One step: the new parameters and the new state.

        The same as `update` and `optax.apply_updates`, without the tree of updates between them.
        """
        return _dispatch(self, True, grads, state, params, extra)

    def scale_loss(self, loss: jax.Array, state: Tree = None) -> jax.Array:
        """The loss times `loss_scale_factor`, or times the dynamic scale in `state`."""
        scale = self.line.loss_scale(state)
        return loss * (scale.astype(jnp.result_type(loss)) if isinstance(scale, jax.Array) else scale)

    def compute_gradients(
        self,
        loss_fn: Callable[..., Any],
        params: Tree,
        *args: Any,
        has_aux: bool = False,
        grad_loss: jax.Array | None = None,
        state: Tree = None,
    ) -> tuple[Any, Tree]:
        """`(loss, gradients)` of `loss_fn(params, *args)`, the gradients as `apply_gradients` wants them.

        With `has_aux`, `((loss, aux), gradients)`. `grad_loss` is the gradient that arrives at a loss which is not
        a scalar. With a loss scale the gradients are those of the scaled loss (a dynamic scale is read from
        `state`); the loss that is returned is not scaled. Gradients of tables are dense: `jos.sparse.value_and_grad`
        gives their rows alone.
        """
        self.line.loss_scale(state)  # what is no state of ours is refused before anything is differentiated

        def scaled(params: Tree) -> tuple[jax.Array, Any]:
            out = loss_fn(params, *args)
            loss = out[0] if has_aux else out
            loss = loss if grad_loss is None else jnp.sum(loss * grad_loss)
            return self.scale_loss(loss, state), out

        (_, out), grads = jax.value_and_grad(scaled, has_aux=True)(params)
        return out, grads

    def minimize(
        self,
        loss_fn: Callable[..., Any],
        state: Tree,
        params: Tree,
        *args: Any,
        has_aux: bool = False,
        grad_loss: jax.Array | None = None,
    ) -> tuple[Tree, Tree, Any]:
        """`(params, state, loss)` after one step on `loss_fn(params, *args)`; with `has_aux`, `(loss, aux)`."""
        out, grads = self.compute_gradients(loss_fn, params, *args, has_aux=has_aux, grad_loss=grad_loss, state=state)
        params, state = self.apply_gradients(grads, state, params)
        return params, state, out

    def finalize_variable_values(self, state: Tree, params: Tree) -> Tree:
        """The parameters to evaluate with: their average where one is kept, else `params`.

        `state` is this optimizer's, or holds it somewhere, as a `TrainState` or the state of an `optax.chain` does.
        """
        average = self.line.average(own(self.line, state, params), params)
        return params if average is None else average

    def exclude_from_weight_decay(self, var_list: Iterable[str] = (), var_names: Iterable[str] = ()) -> "Optimizer":
        """A new optimizer that does not decay some parameters, in place of those it excluded before.

        Of a composition or a wrapper, all members that can decay exclude them.

        Arguments:
          var_list: exact paths of parameters, such as `"dense/bias"`.
          var_names: regexes; `re.search` on a parameter's path.

        Raises:
          TypeError: if there is nothing in it that decays weights, or something that cannot exclude any.
        """
        patterns = (*(f"^{re.escape(path)}$" for path in var_list), *var_names)
        changed = []
        new = exclude(self.name, self, patterns, changed)
        if not changed:
            raise TypeError(f"{self.name}: there is no weight decay here that parameters could be excluded from.")
        return new


def _is_declared(value: object) -> bool:
    """Whether it has a recipe; a transformation that was built by hand is a tuple of two functions, and no more."""
    return hasattr(getattr(value, "update", None), "recipe")


def assemble(cls: type[Transformation], recipe: Recipe, line: Line) -> Any:
    """The transformation of a line. What it is hangs on the update function, so that it survives `_replace`."""

    def update(updates: Tree, state: Tree, params: Tree = None, **extra: Any) -> tuple[Tree, Tree]:
        """The updates and the new state; further arguments go to the members of a chain that use them."""
        return _dispatch(made, False, updates, state, params, extra)

    carrier = cast(Any, update)
    carrier.recipe, carrier.line, carrier.program = recipe, line, _Program(recipe, line)
    made = cls(line.init, update)
    return made


class _Program:
    """What makes a compiled step, equal to what makes the same one; arrays in a recipe are operands of it."""

    def __init__(self, recipe: Recipe, line: Line):
        self.arrays: list[jax.Array] = []
        self._skeleton = Skeleton(recipe, self.arrays)
        self._line = None if self.arrays else line

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Program) and self._skeleton == other._skeleton

    def __hash__(self) -> int:
        return hash(self._skeleton)

    def shared(self) -> "_Program":
        """Without the arrays of this one, which may be tracers."""
        shared = copy.copy(self)
        shared.arrays = []
        return shared

    def line(self, arrays: list[jax.Array]) -> Line:
        return self._skeleton.filled(iter(arrays)).line if self._line is None else self._line


@functools.lru_cache(maxsize=256)
def _compiled(program: _Program, apply: bool) -> Callable[..., tuple[Tree, Tree]]:
    """The step of a line as one program, inlined where it is called inside another."""

    def step(
        arrays: list[jax.Array], grads: Tree, state: Tree, params: Tree, extra: dict[str, Tree]
    ) -> tuple[Tree, Tree]:
        return _run(program.line, arrays, apply, grads, state, params, extra)

    return jax.jit(step, inline=True)


def _run(
    line_of: Callable[[list[jax.Array]], Line],
    arrays: list[jax.Array],
    apply: bool,
    grads: Tree,
    state: Tree,
    params: Tree,
    extra: dict[str, Tree],
    shares: bool = True,
) -> tuple[Tree, Tree]:
    def step(grads: Tree, state: Tree, params: Tree, further: tuple[list[jax.Array], dict]) -> tuple[Tree, Tree]:
        arrays, extra = further
        line = line_of(arrays)
        try:
            return line.run(grads, state, params, apply, extra, shares)
        except SplitError as error:
            raise ValueError(f"{line.owner}: {error}") from None

    return automatic(step, apply, grads, state, params, (arrays, extra))


def _dispatch(
    tx: Transformation, apply: bool, grads: Tree, state: Tree, params: Tree, extra: dict[str, Tree]
) -> tuple[Tree, Tree]:
    """A step runs as one compiled program, which equal optimizers share, whatever their rates and names.

    With a callable among the extra arguments, such as the loss of a line search, it runs as it is.
    """
    line, program = tx.line, cast(Any, tx.update).program
    extra = extra if line.extra_args else {}
    if not line.compiles or any(map(callable, jax.tree.leaves(extra))):
        return _run(program.line, program.arrays, apply, grads, state, params, extra, shares=False)
    try:
        return _compiled(program.shared(), apply)(program.arrays, grads, state, params, extra)
    except ValueError as error:
        if not str(error).startswith("Received incompatible devices"):
            raise
        raise ValueError(
            f"{line.owner}: gradients, state and parameters must be on the same devices: make the state with "
            f"jos.parallel.init, or move it with jax.device_put. {error}"
        ) from None
