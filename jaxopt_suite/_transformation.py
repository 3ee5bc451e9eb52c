"""What the library hands out: transformations that are values, and the decorators that declare them."""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ParamSpec, Protocol, cast

import jax
import jax.numpy as jnp
import optax

from jaxopt_suite._frame.leafwise import Rule
from jaxopt_suite._frame.line import Line
from jaxopt_suite._frame.stages import AnyStage, Gate, LeafStage, Place, TreeStage
from jaxopt_suite._recipe.check import Word, show
from jaxopt_suite._recipe.config import Described, register
from jaxopt_suite._recipe.declare import LIBRARY, Factory, declare, numbers_of
from jaxopt_suite._recipe.recipe import Recipe
from jaxopt_suite._report.explain import Explanation, explain
from jaxopt_suite._trees import Tree

P = ParamSpec("P")


class Transformation(Described, optax.GradientTransformationExtraArgs):
    """A pair `(init, update)` with a recipe, by which it compares, hashes, prints and pickles."""

    __slots__ = ()

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
        parameter     shape   dtype    rule           rate   decay               slots         state
        dense/bias    (3,)    float32  scale_by_adam  0.001  excluded by 'bias'  m, v float32  24 B
        dense/kernel  (2, 3)  float32  scale_by_adam  0.001  0.1                 m, v float32  48 B
        2 parameters of 9 elements: 36 B, state 80 B
        """
        return explain(self, params)


class Optimizer(Transformation):
    """An optimizer: a transformation with Keras's methods, the state passed in and handed back."""

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
        `state`); the loss that is returned is not scaled.
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
        """The parameters to evaluate with: their average where one is kept, else `params`."""
        average = self.line.average(state, params)
        return params if average is None else average

    def exclude_from_weight_decay(self, var_list: Iterable[str] = (), var_names: Iterable[str] = ()) -> "Optimizer":
        """A new optimizer that does not decay some parameters, in place of those it excluded before.

        Of a composition or a wrapper, all members that can decay exclude them.

        Arguments:
          var_list: exact paths of parameters, such as `"dense/bias"`.
          var_names: regexes; `re.search` on a parameter's path.

        Raises:
          TypeError: if there is nothing in it that decays weights.
        """
        patterns = (*(f"^{re.escape(path)}$" for path in var_list), *var_names)
        changed = []

        def excluding(tx: Transformation) -> Any:
            arguments = tx.recipe.arguments
            if "exclude_from_weight_decay" in arguments:
                changed.append(tx)
                return tx.recipe.remake(exclude_from_weight_decay=patterns)
            return tx.recipe.remake(**{name: _each_member(excluding, value) for name, value in arguments.items()})

        new = excluding(self)
        if not changed:
            raise TypeError(f"{self.name}: there is no weight decay here that parameters could be excluded from.")
        return new


def _each_member(change: Callable[[Transformation], Any], value: Any) -> Any:
    """An argument, with the transformations in it changed."""
    if isinstance(value, Transformation):
        return change(value)
    if isinstance(value, dict):
        return {key: _each_member(change, item) for key, item in value.items()}
    return tuple(_each_member(change, item) for item in value) if type(value) is tuple else value


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
    """A line, equal to those that compile to the same steps."""

    def __init__(self, recipe: Recipe, line: Line):
        self.line = line
        self._key = recipe.program()
        self._hash = hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Program) and self._hash == other._hash and self._key == other._key

    def __hash__(self) -> int:
        return self._hash


@functools.lru_cache(maxsize=256)
def _compiled(program: _Program, apply: bool) -> Callable[..., tuple[Tree, Tree]]:
    """The step of a line as one program, inlined where it is called inside another."""

    def step(grads: Tree, state: Tree, params: Tree, extra: dict[str, Any]) -> tuple[Tree, Tree]:
        return program.line.run(grads, state, params, apply, extra)

    return jax.jit(step, inline=True)


def _dispatch(
    tx: Transformation, apply: bool, grads: Tree, state: Tree, params: Tree, extra: dict[str, Any]
) -> tuple[Tree, Tree]:
    """A step runs as one compiled program, which equal optimizers share, whatever their rates and names.

    With a callable among the extra arguments, such as the loss of a line search, it runs as it is.
    """
    line = tx.line
    extra = extra if line.extra_args else {}
    if not line.compiles or tx.recipe.holds_tracer() or any(map(callable, jax.tree.leaves(extra))):
        return line.run(grads, state, params, apply, extra)
    return _compiled(cast(Any, tx.update).program, apply)(grads, state, params, extra)


class Primitive(Protocol[P]):
    """A declared primitive. Called, it makes a transformation; `rule` makes the bare rule, for optimizers."""

    __name__: str
    words: Mapping[str, Word]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Transformation: ...

    def rule(self, *args: P.args, **kwargs: P.kwargs) -> Rule: ...

    def stage(self, *args: P.args, **kwargs: P.kwargs) -> AnyStage: ...

    def from_config(self, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any: ...


def transform(
    place: Place = Place.RULE, *, sentences: Mapping[str, str] | None = None
) -> Callable[[Callable[P, Rule | Gate | TreeStage]], Primitive[P]]:
    """Declares a primitive: the body's signature is its config, and it returns its rule, or its stage on trees.

    `place` is where it stands in an optimizer's line, and `sentences` say what its own arguments mean.
    """

    def declared(body: Callable[P, Rule | Gate | TreeStage]) -> Primitive[P]:
        key = "rule" if place is Place.RULE else body.__name__

        def build(recipe: Recipe) -> Transformation:
            stage = staged(recipe, alone=True)
            return assemble(Transformation, recipe, Line(body.__name__, (stage,)))

        def staged(recipe: Recipe, alone: bool) -> AnyStage:
            if place < Place.CLIP:
                made = cast(Any, body)(**recipe.arguments)
                return dataclasses.replace(made, place=place, key=key, recipe=recipe)
            given, numbers = recipe.arguments, numbers_of(make)
            build = cast(Any, body)
            return LeafStage(
                place=place, key=key, recipe=recipe, build=build, arguments=given, numbers=numbers, alone=alone
            )

        def stage(*args: P.args, **kwargs: P.kwargs) -> AnyStage:
            bound = make.__signature__.bind(*args, **kwargs)
            bound.apply_defaults()
            return staged(Recipe(make, bound.arguments), alone=False)

        home = f"{LIBRARY}.transforms"
        make: Any = register(declare(body.__name__, body, build, home=home, sentences=sentences))
        make.rule, make.stage = body, stage
        return make

    return declared


Inner = Annotated[Optimizer, Word("optimizer", "an optimizer of jaxopt_suite")]


def wrapper(
    class_name: str, *, aliases: Mapping[str, str] | None = None, sentences: Mapping[str, str] | None = None
) -> Callable[[Callable[P, AnyStage]], Factory[P, Optimizer]]:
    """Declares a wrapper: the body takes an optimizer first, and returns the stage to insert into its line."""

    def declared(body: Callable[P, AnyStage]) -> Factory[P, Optimizer]:
        def build(recipe: Recipe) -> Optimizer:
            inner = recipe.arguments["optimizer"]
            if not isinstance(inner, Optimizer):
                raise TypeError(
                    f"{body.__name__}: optimizer must be an optimizer of jaxopt_suite, got {show(inner)}. "
                    "from_optax gives one of Optax's a recipe."
                )
            return assemble(Optimizer, recipe, inner.line.insert(cast(Any, body)(**recipe.arguments)))

        return register(declare(class_name, body, build, aliases=aliases, sentences=sentences))

    return declared
