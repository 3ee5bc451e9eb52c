"""The decorators that declare primitives and wrappers."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Concatenate, ParamSpec, Protocol, cast

from jaxopt_suite._frame.leafwise import Rule
from jaxopt_suite._frame.line import Line
from jaxopt_suite._frame.stages import AnyStage, Gate, LeafStage, Meter, Place, TreeStage
from jaxopt_suite._recipe.check import Word, show
from jaxopt_suite._recipe.config import named, register
from jaxopt_suite._recipe.declare import LIBRARY, Factory, declare, numbers_of
from jaxopt_suite._recipe.recipe import Recipe
from jaxopt_suite._transformation import Optimizer, Transformation, assemble

P = ParamSpec("P")


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
) -> Callable[[Callable[P, Rule | Gate | TreeStage | Meter]], Primitive[P]]:
    """Declares a primitive: the body's signature is its config, and it returns its rule, or its stage on trees.

    `place` is where it stands in an optimizer's line, and `sentences` say what its own arguments mean.
    """

    def declared(body: Callable[P, Rule | Gate | TreeStage | Meter]) -> Primitive[P]:
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


class Wrapper(Factory[..., Optimizer], Protocol[P]):
    """A declared wrapper, which also takes the name or the config of an optimizer."""

    def __call__(
        self, optimizer: Optimizer | str | Mapping[str, Any], *args: P.args, **kwargs: P.kwargs
    ) -> Optimizer: ...


def wrapper(
    class_name: str,
    *,
    home: str = LIBRARY,
    aliases: Mapping[str, str] | None = None,
    sentences: Mapping[str, str] | None = None,
) -> Callable[[Callable[Concatenate[Optimizer, P], AnyStage | Line]], Wrapper[P]]:
    """Declares a wrapper: the body takes an optimizer first, and returns a stage to insert into its line, or a line.

    The optimizer may be given by its name or its config, as Keras takes it.
    """

    def declared(body: Callable[Concatenate[Optimizer, P], AnyStage | Line]) -> Wrapper[P]:
        def build(recipe: Recipe) -> Optimizer:
            inner = recipe.arguments["optimizer"]
            if isinstance(inner, (str, Mapping)):
                return recipe.remake(optimizer=named(body.__name__, inner))
            if not isinstance(inner, Optimizer):
                raise TypeError(
                    f"{body.__name__}: optimizer must be an optimizer of jaxopt_suite, got {show(inner)}. "
                    "from_optax gives one of Optax's a recipe."
                )
            made = recipe.call(body)
            return assemble(Optimizer, recipe, made if isinstance(made, Line) else inner.line.insert(made))

        return register(declare(class_name, body, build, home=home, aliases=aliases, sentences=sentences))

    return declared
