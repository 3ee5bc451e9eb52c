"""The plain mathematics of our docstrings as LaTeX.

    w <- w - rate * m / (sqrt(v) + epsilon),    with nesterov:  w <- w + momentum * m

becomes a table of rows: what stands left of the relation, and the rest. A word that is no letter, no function, no
argument of the function that is documented and no known phrase is an error: a formula is typeset as it is meant, or
not at all.
"""

import itertools
import re
from collections.abc import Collection, Iterator

from _extension.tokens import FUNCTIONS, GREEK, RELATIONS, SHORT, WORDS, Token, UnknownError, tokens

CONDITIONS = tuple(rf"\text{{ {word}" for word in ("for", "if", "in", "where", "with"))  # stand behind a formula


def to_latex(block: str, arguments: Collection[str] = ()) -> str:
    """A block of plain mathematics as an `aligned` environment, a row for each equation.

    Arguments:
      block: lines of the docstring, without their indentation.
      arguments: the names of the function's arguments, which may stand in it.

    Raises:
      UnknownError: what is not known, and where it stands.
    """
    rows = [_row(row, arguments) for line in block.splitlines() for row in _statements(line)]
    return r"\begin{aligned} " + r" \\ ".join(rows) + r" \end{aligned}"


def _statements(line: str) -> Iterator[str]:
    """The equations of a line: a comma and four spaces part them, but those behind one condition stay together."""
    if re.match(r"[^,]*:\s{4,}", line):
        return iter([line])
    return (part.strip() for part in re.split(r",\s{4,}", line.strip()) if part.strip())


def _row(statement: str, arguments: Collection[str]) -> str:
    first, *further = (_Parser(column, arguments).statement() for column in re.split(r"\s{4,}", statement))
    if further and len(first) == 1 and not further[0][0].startswith(CONDITIONS):
        return f"{_joined(first)} & {_joined([item for column in further for item in column])}"
    items = [*first, *(item for column in further for item in (r"\qquad", *column))]
    cut = 1 if len(items) > 1 and items[1] in (RELATIONS["<-"], "=") else 0
    return f"{_joined(items[:cut])} & {_joined(items[cut:])}"


def _joined(items: list[str]) -> str:
    """Items in a row, without the space of a text in front of a comma or a parenthesis."""
    return re.sub(r" \} (?=\\text\{[,;:)])", "} ", " ".join(items)).replace(r"\text{(} \text{ ", r"\text{(} \text{")


def _text(words: str) -> str:
    return rf"\text{{{words}}}"


class _Parser:
    """Reads one statement: expressions, relations between them, and phrases."""

    def __init__(self, text: str, arguments: Collection[str]):
        self.text, self.arguments = text, arguments
        self.tokens = [*tokens(text)]
        self.at = 0
        self.bars = 0  # |x| and ||x|| that are open

    def statement(self, closing: str = "") -> list[str]:
        items = []
        while (token := self.peek()) and token.text != closing:
            if token.kind == "phrase" and token.text not in self.arguments:
                items.append(_text(f" {self.next().text} "))
            elif token.text in RELATIONS:
                items.append(RELATIONS[self.next().text])
            elif token.text in (",", ";") or token.text == ":":
                items.append(_text(f"{self.next().text} "))
            elif token.text == "(" and self._is_remark():
                self.next()
                items += [r"\quad", _text("("), *self.statement(closing=")"), _text(")")]
                self.expect(")")
            else:
                items.append(self.sum())
        return items

    def _is_remark(self) -> bool:
        """Whether what stands in the parentheses is prose."""
        depth, prose = 0, False
        for token in self.tokens[self.at :]:
            depth += {"(": 1, ")": -1}.get(token.text, 0)
            prose |= token.kind == "phrase"
            if depth == 0:
                break
        return prose

    def sum(self) -> str:
        sign = self.next().text if self.sees("-", "+") else ""
        made = sign + self.product()
        while self.sees("+", "-"):
            made += f" {self.next().text} {self.product()}"
        return made

    def product(self) -> str:
        made = self.quotient()
        while self.sees("*"):
            self.next()
            made += rf" \cdot {self.quotient()}"
        return made

    def quotient(self) -> str:
        """What stands beside each other, over all that it is divided by."""
        above, below = self.factors(), []
        while self.sees("/"):
            self.next()
            below.append(self.power())
            if self._starts_factor():
                raise self.unknown("a product that is divided by needs parentheses")
        return rf"\frac{{{_bare(above)}}}{{{_bare(below)}}}" if below else _beside(above)

    def factors(self) -> list[str]:
        made = [self.power()]
        while self._starts_factor():
            made.append(self.power())
        return made

    def _starts_factor(self) -> bool:
        token = self.peek()
        if token is None or token.text in ("|", "||"):
            return token is not None and not self.bars
        if token.text in self.arguments:
            return True
        return token.kind in ("number", "hat", "call", "name") or (token.text == "(" and not self._is_remark())

    def power(self) -> str:
        base = self.primary()
        if not self.sees("^"):
            return base
        self.next()
        return f"{base}^{{{_bare([self.primary()])}}}"

    def primary(self) -> str:
        token = self.next()
        if token.kind == "number":
            return token.text
        if token.kind == "hat":
            return rf"\hat{{{token.text}}}"
        if token.kind == "call":
            return self.call(token.text)
        if token.kind == "name" or token.text in self.arguments:
            return self.name(token)
        if token.text == "...":
            return r"\cdots"
        if token.text == "(":
            inner = _joined(self.statement(closing=")"))
            self.expect(")")
            return _fenced("(", inner, ")")
        if token.text in ("|", "||"):
            self.bars += 1
            inner = self.sum()
            self.bars -= 1
            self.expect(token.text)
            bar = {"|": "|", "||": r"\|"}[token.text]
            return f"{{{_fenced(bar, inner, bar)}}}"
        raise self.unknown(f"{token.text!r} stands where a number is expected")

    def call(self, name: str) -> str:
        self.expect("(")
        inner = _joined(self.statement(closing=")"))
        self.expect(")")
        if name == "sqrt":
            return rf"\sqrt{{{inner}}}"
        if name == "floor":
            return _fenced(r"\lfloor", inner, r"\rfloor")
        if name not in FUNCTIONS and name not in self.arguments and len(name) > 1:
            raise self.unknown(f"{name!r} is no function that is known")
        base, _, below = name.partition("_") if name in FUNCTIONS else (name, "", "")
        operator = rf"\operatorname{{{_escaped(base)}}}" if len(name) > 1 else name
        return operator + (f"_{{{_text(below)}}}" if below else "") + _fenced("(", inner, ")")

    def name(self, token: Token) -> str:
        made = self.word(token.text)
        if token.sub:
            inside = _Parser(token.sub[1:-1], self.arguments)
            made += f"_{{{_joined(inside.statement())}}}"
        if self.sees("["):
            self.next()
            made += f"_{{{self.sum()}}}"
            self.expect("]")
            if self.sees("("):  # a member of a list of functions
                made += self.primary()
        return f"{{{made}{token.primes}}}" if token.primes else made

    def word(self, name: str) -> str:
        if name in SHORT:
            return SHORT[name]
        base, _, below = name.partition("_")
        if base in GREEK or len(base) == 1:
            letter = rf"\{base}" if base in GREEK else base
            if not below or below.isdigit() or len(below) == 1:
                return f"{letter}_{{{below}}}" if below else letter
        if name in WORDS or name in self.arguments:
            return rf"\mathrm{{{_escaped(name)}}}"
        raise self.unknown(f"{name!r} is no letter, no argument and no phrase that is known")

    def peek(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def sees(self, *symbols: str) -> bool:
        token = self.peek()
        return token is not None and token.kind == "symbol" and token.text in symbols

    def next(self) -> Token:
        token = self.peek()
        if token is None:
            raise self.unknown("it ends too early")
        self.at += 1
        return token

    def expect(self, symbol: str) -> None:
        if not self.sees(symbol):
            raise self.unknown(f"{symbol!r} is missing")
        self.next()

    def unknown(self, why: str) -> UnknownError:
        return UnknownError(f"{why}, in {self.text!r}")


def _fenced(left: str, inner: str, right: str) -> str:
    """Parentheses as large as what stands in them, where that is a fraction."""
    if r"\frac" in inner:
        return rf"\left{left} {inner} \right{right}"
    space = " " if left.startswith("\\l") else ""
    return f"{left}{space}{inner}{space}{right}"


def _bare(factors: list[str]) -> str:
    """A product without the parentheses that a fraction or an exponent makes needless."""
    made = _beside(factors)
    if len(factors) == 1:
        match = re.fullmatch(r"\\left\( (.*) \\right\)|\((.*)\)", made)
        inner = (match[1] or match[2]) if match else None
        if inner is not None and _is_balanced(inner):
            return inner
    return made


def _beside(factors: list[str]) -> str:
    """Factors beside each other; a word needs room."""
    made = factors[0]
    for last, factor in itertools.pairwise(factors):
        made += (r" \, " if r"\mathrm" in (last[:7], factor[:7]) else " ") + factor
    return made


def _is_balanced(text: str) -> bool:
    depth = 0
    for symbol in text:
        depth += {"(": 1, ")": -1}.get(symbol, 0)
        if depth < 0:
            return False
    return True


def _escaped(name: str) -> str:
    return name.removesuffix("_").replace("_", r"\_")
