"""What the library hands out: transformations that are values, and the decorator that declares primitives."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from jaxopt_suite._arguments import word_for
from jaxopt_suite._check import show
from jaxopt_suite._config import Described, register
from jaxopt_suite._leafwise import Rule
from jaxopt_suite._pipeline import RULE, Gate, Part, Pipeline
from jaxopt_suite._recipe import Recipe, declare

if TYPE_CHECKING:
    from jaxopt_suite.explain import Explanation


class Transformation(Described, optax.GradientTransformationExtraArgs):
    """A pair `(init, update)` with a recipe, by which it compares, hashes, prints and pickles."""

    __slots__ = ()

    @property
    def recipe(self) -> Recipe:
        return cast(Any, self.update).recipe

    @property
    def pipeline(self) -> Pipeline:
        return cast(Any, self.update).pipeline

    @property
    def rule(self) -> Rule:
        """The rule of a primitive, for those that are built from it."""
        (part,) = self.pipeline.parts
        return part.build(**part.arguments)

    def explain(self, params: Any) -> "Explanation":
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
        from jaxopt_suite.explain import explain  # it knows about everything that has a line

        return explain(self, params)


class Optimizer(Transformation):
    """An optimizer: a transformation with Keras's methods, the state passed in and handed back."""

    __slots__ = ()

    @property
    def name(self) -> str:
        return self.recipe.arguments.get("name") or self.recipe.factory.__name__

    def apply_gradients(self, grads: Any, state: Any, params: Any, **extra: Any) -> tuple[Any, Any]:
        """One step: the new parameters and the new state.

        The same as `update` and `optax.apply_updates`, without the tree of updates between them.
        """
        return _dispatch(self, True, grads, state, params, extra)

    def scale_loss(self, loss: Any, state: Any = None) -> Any:
        """The loss times `loss_scale_factor`, or times the dynamic scale in `state`."""
        scale = self.pipeline.loss_scale(state)
        return loss * (scale if isinstance(scale, float) else scale.astype(jnp.result_type(loss)))

    def compute_gradients(
        self,
        loss_fn: Callable,
        params: Any,
        *args: Any,
        has_aux: bool = False,
        grad_loss: Any = None,
        state: Any = None,
    ) -> tuple[Any, Any]:
        """`(loss, gradients)` of `loss_fn(params, *args)`, the gradients as `apply_gradients` wants them.

        With `has_aux`, `((loss, aux), gradients)`. `grad_loss` is the gradient that arrives at a loss which is not
        a scalar. With a loss scale the gradients are those of the scaled loss (a dynamic scale is read from
        `state`); the loss that is returned is not scaled.
        """
        self.pipeline.loss_scale(state)  # what is no state of ours is refused before anything is differentiated

        def scaled(params: Any) -> tuple[Any, Any]:
            out = loss_fn(params, *args)
            loss = out[0] if has_aux else out
            loss = loss if grad_loss is None else jnp.sum(loss * grad_loss)
            return self.scale_loss(loss, state), out

        (_, out), grads = jax.value_and_grad(scaled, has_aux=True)(params)
        return out, grads

    def minimize(
        self, loss_fn: Callable, state: Any, params: Any, *args: Any, has_aux: bool = False, grad_loss: Any = None
    ) -> tuple[Any, Any, Any]:
        """`(params, state, loss)` after one step on `loss_fn(params, *args)`; with `has_aux`, `(loss, aux)`."""
        out, grads = self.compute_gradients(loss_fn, params, *args, has_aux=has_aux, grad_loss=grad_loss, state=state)
        params, state = self.apply_gradients(grads, state, params)
        return params, state, out

    def finalize_variable_values(self, state: Any, params: Any) -> Any:
        """The parameters to evaluate with: their average where one is kept, else `params`."""
        average = self.pipeline.average(state, params)
        return params if average is None else average

    def exclude_from_weight_decay(self, var_list: Iterable[str] = (), var_names: Iterable[str] = ()) -> "Optimizer":
        """A new optimizer that does not decay some parameters, in place of those it excluded before.

        Of a composition or a wrapper, all members that can decay exclude them.

        Arguments:
          var_list: exact paths of parameters, such as `"dense/bias"`.
          var_names: regexes; `re.search` on a parameter's path.
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


def assemble(cls: type, recipe: Recipe, pipeline: Pipeline) -> Any:
    """A transformation from its recipe and its line of stages."""

    def update(grads: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        """One step: `(updates, state)`; further keyword arguments go to the members of a chain that use them."""
        return _dispatch(made, False, grads, state, params, extra)

    update.recipe = recipe
    update.pipeline = pipeline
    made = cls(pipeline.init, update)
    return made


def _run(tx: Any, apply: bool, grads: Any, state: Any, params: Any, extra: Any) -> tuple[Any, Any]:
    return tx.update.pipeline.run(grads, state, params, apply, **extra)


_compiled = jax.jit(_run, static_argnums=(0, 1))


def _dispatch(tx: Any, apply: bool, grads: Any, state: Any, params: Any, extra: Any) -> tuple[Any, Any]:
    """Outside of a trace a step runs as one compiled program, which equal optimizers share.

    With a callable among the extra arguments, such as the loss of a line search, it runs as it is.
    """
    line = tx.update.pipeline
    extra = extra if line.takes_extra else {}
    compiles = line.compiles and not tx.update.recipe.holds_tracer()
    run = _compiled if compiles and not _runs_as_it_is((grads, state, params, extra)) else _run
    return run(tx, apply, grads, state, params, extra)


def _runs_as_it_is(tree: Any) -> bool:
    return any(isinstance(leaf, Tracer) or callable(leaf) for leaf in jax.tree.leaves(tree))


def numbers_of(factory: Callable) -> frozenset[str]:
    """The arguments that may be schedules: those that are numbers."""
    parameters = factory.__signature__.parameters.values()
    return frozenset(p.name for p in parameters if word_for(p.name, p.default).kind == "number")


def transform(place: int = RULE) -> Callable[[Callable[..., Any]], Callable[..., Transformation]]:
    """Declares a primitive: the body's signature is its config, and it returns its rule or its gate.

    `place` is where its rule stands in an optimizer's line.
    """

    def declared(body: Callable[..., Any]) -> Callable[..., Transformation]:
        def build(recipe: Recipe) -> Transformation:
            made = body(**recipe.arguments)
            if isinstance(made, Gate):
                gate = dataclasses.replace(made, recipe=recipe)
                return assemble(Transformation, recipe, Pipeline(body.__name__, gates=(gate,), alone=True))
            part = Part(place, body, recipe.arguments, numbers_of(recipe.factory), recipe)
            return assemble(Transformation, recipe, Pipeline(body.__name__, parts=(part,), alone=True))

        return register(declare(body.__name__, body, build))

    return declared


def wrapper(
    class_name: str, *, aliases: Mapping[str, str] | None = None
) -> Callable[[Callable[..., Transformation]], Callable[..., Optimizer]]:
    """Declares a wrapper: the body takes an optimizer first, and returns the stage to insert into its line."""

    def declared(body: Callable[..., Transformation]) -> Callable[..., Optimizer]:
        def build(recipe: Recipe) -> Optimizer:
            inner = recipe.arguments["optimizer"]
            if not isinstance(inner, Optimizer):
                raise TypeError(
                    f"{body.__name__}: optimizer must be an optimizer of jaxopt_suite, got {show(inner)}. "
                    "from_optax gives one of Optax's a recipe."
                )
            stage = body(**recipe.arguments)
            return assemble(Optimizer, recipe, inner.pipeline.insert(stage.pipeline))

        return register(declare(class_name, body, build, aliases=aliases))

    return declared
