"""The words and the symbols that a formula in a docstring may consist of."""

import re
from collections.abc import Iterator
from typing import NamedTuple

GREEK = {"alpha", "beta", "epsilon", "eta", "lambda", "pi", "rho"}
FUNCTIONS = {
    "clip",
    "cos",
    "max",
    "mean",
    "mean_columns",
    "mean_rows",
    "min",
    "rms",
    "round",
    "schedule",
    "sign",
    "step",
}
# what is called by a word, and is no argument
WORDS = {"average", "columns", "cycle", "end", "first", "initial", "last", "lost", "master", "maximal", "mean", "rate"}
WORDS |= {"rows", "scale", "sgd", "shrinkage", "slow", "start", "step"}
WORDS |= {"gradient_norm", "rounded_share", "update_norm", "update_to_weight_ratio", "weight_norm"}  # metrics
SHORT = {"l1": r"\ell_1", "l2": r"\ell_2"}
RELATIONS = {"<-": r"\leftarrow", "->": r"\rightarrow", "=": "=", ">=": r"\geq", "<=": r"\leq", "<": "<", ">": ">"}
PHRASES = (
    "(centered) or",
    "(nesterov) or",
    'with ord="nuclear":',
    "Adam's step",
    "after every",
    "and",
    "at step",
    "behind aggregation and accumulation",
    "behind them",
    "each with the odds of the other's distance",
    "else",
    "every",
    "for",
    "gradients all finite",
    "if",
    "in front of the clipping",
    "in the warm-up",
    "is",
    "is not finite",
    "is rounded back to",
    "no step",
    "norm of all gradients together",
    "of the entries with a step",
    "of the largest singular value of",
    "of the parameters before the step",
    "of the step that is added to the parameters",
    "one number per parameter",
    "one of the two 16-bit neighbours of",
    "or",
    "otherwise",
    "skip where",
    "steps",
    "the k-th that came",
    "the optimizer's step on",
    "the ratio is 1 where either norm is zero",
    "the share where",
    "then",
    "the step of",
    "times",
    "where",
    "with nesterov",
    "with three_phase",
)
TOKEN = re.compile(
    r"(?P<phrase>(?<!\w)(?:" + "|".join(re.escape(p) for p in sorted(PHRASES, key=len, reverse=True)) + r")(?![\w(]))"
    r"|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<hat>[A-Za-z])\^(?=[\s)/,]|$)"
    r"|(?P<call>[A-Za-z]\w*)(?=\()"
    r"|(?P<name>[A-Za-z]\w*)(?P<sub>\{[^}]*\})?(?P<primes>'*)"
    r"|(?P<symbol><-|->|>=|<=|\.\.\.|\|\||[-+*/^()[\]|=<>,;:])"
)


class UnknownError(ValueError):
    """What the converter does not know."""


class Token(NamedTuple):
    kind: str
    text: str
    sub: str = ""
    primes: str = ""


def tokens(text: str) -> Iterator[Token]:
    """What a formula consists of.

    Raises:
      UnknownError: a symbol that is not known.
    """
    at = 0
    while at < len(text):
        if text[at].isspace() or text[at] == "`":
            at += 1
            continue
        match = TOKEN.match(text, at)
        if match is None:
            raise UnknownError(f"{text[at]!r} is no symbol that is known, in {text!r}")
        at = match.end()
        kind = next(kind for kind in ("phrase", "number", "hat", "call", "name", "symbol") if match[kind] is not None)
        # the second part of u_{t+1} is a subscript of the name u_
        name = match[kind].removesuffix("_") if match["sub"] else match[kind]
        yield Token(kind, name, match["sub"] or "", match["primes"] or "")
