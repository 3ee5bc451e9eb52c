"""Tables as text and as HTML."""

import html
from collections.abc import Iterable, Sequence

Rows = Sequence[Sequence[str]]

WIDTH = 119  # characters of a line


def as_text(header: Sequence[str], rows: Rows) -> str:
    """Aligned columns; one that is empty throughout is left out, and the widest are cut to what a line holds."""
    header, rows = _filled(header, rows)
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    while sum(widths) + 2 * len(widths) - 2 > WIDTH:
        widths[widths.index(max(widths))] -= 1
    rows = [[_cut(cell, width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in (header, *rows)]
    return "\n".join(lines)


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else f"{cell[: (width - 3) // 2]}...{cell[len(cell) - (width - 2) // 2 :]}"


# What shows in a notebook: in its colours, be they light or dark, and what is wider than the page scrolls.

_CELL = 'style="text-align: left; white-space: nowrap; padding: 0.15em 0.6em"'


def as_html(header: Sequence[str], rows: Rows) -> str:
    """The columns that are not empty, uncut."""
    header, rows = _filled(header, rows)
    head = "".join(f"<th {_CELL}>{html.escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td {_CELL}>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div style="overflow-x: auto"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def as_call(call: str) -> str:
    """The call that makes a value, broken where it is wider than the page."""
    style = "white-space: pre-wrap; margin: 0.3em 0; color: inherit; background: none"
    return f'<pre style="{style}">{html.escape(call)}</pre>'


def as_sentences(sentences: Iterable[str]) -> str:
    return "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences)


def as_face(*parts: str) -> str:
    """Pieces of HTML below each other."""
    return f'<div style="color: inherit">{"".join(parts)}</div>'


def _filled(header: Sequence[str], rows: Rows) -> tuple[list[str], list[list[str]]]:
    filled = [i for i in range(len(header)) if any(row[i] for row in rows)]
    return [header[i] for i in filled], [[row[i] for i in filled] for row in rows]


def in_units(n: float) -> str:
    """Bytes, as one reads them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024 or unit == "GiB":
            return f"{n} B" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    raise AssertionError
