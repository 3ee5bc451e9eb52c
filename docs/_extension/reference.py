"""The reference: a page for each public module, with every public name in it."""

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from rows import ROWS

import jaxopt_suite as jos
from _extension.docstrings import described, parts, signature, to_markdown
from _extension.optimizers import arguments

MODULES = (jos, jos.state, jos.schedules, jos.precision, jos.sparse, jos.parallel, jos.importers, jos.transforms)


def pages() -> Iterator[tuple[str, str]]:
    yield "index", _index()
    for module in MODULES:
        yield _short(module), _page(module)


def public(module: ModuleType) -> dict[str, Any]:
    """What a module exports, in its order; optimizers have pages of their own."""
    optimizers = {row.make for row in ROWS} if module is jos else set()
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value) and value not in optimizers
    }


def _short(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def _called(module: ModuleType) -> str:
    return "jos" if module is jos else f"jos.{_short(module)}"


def _index() -> str:
    names = "\n".join(map(_short, MODULES))
    lines = [
        f"* [{_called(module)}]({_short(module)}.md): "
        + ", ".join(f"`{_called(module)}.{name}`" for name in public(module))
        for module in MODULES
        if module is not jos.transforms
    ]
    return f"""# Reference

Every public name, with an example that the tests run. `import jaxopt_suite as jos` throughout.

* {{doc}}`Optimizers </optimizers/index>`: a page for each.
{chr(10).join(lines)}
* [jos.transforms](transforms.md): the rules and stages that optimizers are made of, for `optax.chain`.

```{{toctree}}
:hidden:

{names}
```
"""


def _page(module: ModuleType) -> str:
    doc = inspect.getdoc(module) or ""
    intro = doc if module is not jos else f"{doc} Each optimizer has {{doc}}`a page of its own </optimizers/index>`."
    names = public(module)
    # the classes of states stand behind what makes them
    order = sorted(names, key=lambda name: (is_slots(names[name]), name.lower()))
    entries = [_entry(name, names[name]) for name in order]
    title = _called(module)
    return f"# {title}\n\n```{{py:module}} {module.__name__}\n```\n\n{intro}\n\n" + "\n".join(entries)


def is_slots(value: Any) -> bool:
    """Whether it is the class of a state, which a primitive makes and its reader need not."""
    return inspect.isclass(value) and value.__module__ == jos.transforms.__name__


def _entry(name: str, value: Any) -> str:
    if not inspect.isclass(value):
        return described("function", name, signature(value, getattr(value, "aliases", ())), _function(value))
    if is_slots(value):
        doc = inspect.getdoc(value) or ""
        body = "" if doc.startswith(f"{value.__name__}(") else to_markdown(doc)  # what NamedTuple says by itself
        slots = ", ".join(f"`{field}`" for field in inspect.signature(value).parameters)
        return described("class", name, signature(value), f"{body}\nSlots: {slots}.\n")
    methods = "".join(
        described("method", f"{name}.{called}", signature(method), to_markdown(inspect.getdoc(method) or ""))
        for called, method in _methods(value)
    )
    body = to_markdown(inspect.getdoc(value) or "")
    return ":" + described("class", name, _constructor(value), body + methods).rstrip() + ":\n"


def _function(value: Any) -> str:
    """The docstring of a function; of a declared one, with the table of its arguments."""
    doc, words = inspect.getdoc(value) or "", getattr(value, "words", None)
    if words is None:
        return to_markdown(doc)
    return f"{to_markdown(doc, words, without=('Arguments', 'Raises'))}\n{arguments(value, words)}\n"


def _methods(value: type) -> Iterator[tuple[str, Any]]:
    """The public methods that our classes define."""
    for cls in value.__mro__:
        if cls.__module__.startswith("jaxopt_suite"):
            for name, method in vars(cls).items():
                if inspect.isfunction(method) and not name.startswith("_") and any(parts(inspect.getdoc(method) or "")):
                    yield name, method


def _constructor(value: type) -> str:
    try:
        return signature(value)
    except (TypeError, ValueError):
        return ""
