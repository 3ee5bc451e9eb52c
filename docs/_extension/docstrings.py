"""Our docstrings as Markdown: paragraphs, mathematics, sections of arguments, examples, references."""

import inspect
import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

from _extension.mathematics import to_latex

SECTIONS = ("Arguments", "Attributes", "Raises", "Returns")


class Part(NamedTuple):
    """A part of a docstring: a paragraph, an indented block, an example, or a section by its name."""

    kind: str
    text: str


def parts(docstring: str) -> Iterator[Part]:
    """What a docstring consists of, in order."""
    for block in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        head, _, rest = block.partition("\n")
        if head.removesuffix(":") in SECTIONS and head.endswith(":"):
            yield Part(head[:-1], textwrap.dedent(rest))
        elif block.startswith(">>>"):
            yield Part("example", block)
        elif block.startswith("    "):
            yield Part("indented", textwrap.dedent(block))
        else:
            yield Part("paragraph", block)


def summary(docstring: str) -> str:
    return next(parts(docstring)).text.replace("\n", " ")


def items(section: str) -> list[tuple[str, str]]:
    """The names and sentences of a section; a continued line is indented."""
    found = re.findall(r"^([\w*.][^:\n]*):\s+(.*(?:\n\s+.*)*)", section, re.MULTILINE)
    return [(name, re.sub(r"\s*\n\s*", " ", sentence)) for name, sentence in found]


def to_markdown(docstring: str, arguments: Collection[str] | None = None, without: Collection[str] = ()) -> str:
    """A docstring as Markdown.

    Arguments:
      docstring: of a function or a class of ours.
      arguments: the names of the arguments of a declared function, whose indented blocks are mathematics; of others
        they stay as they are.
      without: the sections to leave out.
    """
    written = [_markdown(part, arguments) for part in parts(docstring) if part.kind not in without]
    return "\n\n".join(written) + "\n"


def _markdown(part: Part, arguments: Collection[str] | None) -> str:
    if part.kind == "example":
        return f"```python\n{part.text}\n```"
    if part.kind == "indented":
        return (
            f"```text\n{part.text}\n```" if arguments is None else f"```{{math}}\n{to_latex(part.text, arguments)}\n```"
        )
    if part.kind == "Raises":
        return "\n".join(f"**Raises** {name}: {sentence}\n" for name, sentence in items(part.text))
    if part.kind in SECTIONS:
        head = "attribute" if part.kind == "Attributes" else "argument"
        rows = [(f"`{name}`", sentence) for name, sentence in items(part.text)]
        return table((head, "meaning"), rows)
    return part.text.replace("Reference:", "**Reference:**", 1) if part.text.startswith("Reference:") else part.text


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown."""
    header = [*header]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def signature(function: Callable[..., Any], leave_out: Collection[str] = (), further: str = "") -> str:
    """How a function is called: names and defaults, without types."""
    written, keywords = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in leave_out or parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not keywords:
            written.append("*")
        keywords |= parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        shown = "" if parameter.default is parameter.empty else f"={_default(parameter.default)}"
        written.append(f"{star}{parameter.name}{shown}")
    return "(" + ", ".join([*written, *([further] if further else [])]) + ")"


def _default(value: Any) -> str:
    shown = getattr(value, "__name__", None) or repr(value)
    return shown if re.fullmatch(r"[\w.'\"(){}\[\], -]*", shown) else "..."


def described(kind: str, name: str, call: str, body: str) -> str:
    """A directive of Sphinx that describes one object."""
    return f"::::{{py:{kind}}} {name}{call}\n{body}::::\n"
