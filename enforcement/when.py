"""Which builds a rule is for: the condition in its `when`, SQL that can only compare columns and literals."""

import re
from collections.abc import Iterator
from datetime import date
from typing import Final, NamedTuple

import polars as pl

from enforcement.names import shown

# What a condition can speak of: what a build proves, and the four dates.
TEXT_COLUMNS: Final = ("product", "line", "update", "kind", "build", "hop", "evidence")
DATE_COLUMNS: Final = ("missing_since", "unsupported_since", "exploited_since", "below_minimum_since")
COLUMNS: Final = TEXT_COLUMNS + DATE_COLUMNS

_LONGEST: Final = 2_000
_DEEPEST: Final = 20  # parentheses in one another
_EXAMPLE: Final = "expected e.g. product = 'Exchange Server 2016' AND missing_since < DATE '2026-01-31'"

_TOKEN = re.compile(
    r"""
    IS \s+ (?P<not>NOT \s+)? (?P<null>NULL) \b
    | DATE \s* '(?P<date> [^']* )'
    | (?P<word> [A-Z_][A-Z_0-9]* )
    | (?P<text> '(?: [^'\\\x00-\x1f] | '' )*+' )
    | (?P<compare> <> | != | <= | >= | [=<>] )
    | (?P<mark> [(),] )
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
# What may follow what: each token is a letter (t a text column, q a text in quotes, d a date, b true or false,
# c a comparison, Z `IS NULL`, N NOT, I IN, L LIKE, W BETWEEN, A AND, O OR), and what is a condition becomes one b.
_WORDS: Final = {"NOT": "N", "IN": "I", "LIKE": "L", "BETWEEN": "W", "AND": "A", "OR": "O", "TRUE": "b", "FALSE": "b"}
_CONDITION = re.compile(
    r"[tq]c[tq]|dcd|[tqd]Z|[tq]N?Lq|[tq]N?I\(q(?:,q)*\)|dN?I\(d(?:,d)*\)|[tq]N?W[tq]A[tq]|dN?WdAd|N+b|b(?:[AO]b)+|\(b\)"
)
_OF_TEXTS = re.compile(r"[tq]c[tq]|[tq]N?I\(q(?:,q)*\)|[tq]N?W[tq]A[tq]")
_BUILD = re.compile(r"'\s*(\d{1,5}(?:\.\d{1,5}){0,3})\s*'", re.ASCII)
_WIDTHS: Final = (2, 2, 4, 3)  # of the parts of a padded build
_TEXT_WITH_DATE = re.compile(r"[tq](?:c|N?W|N?I\()d|d(?:c|N?W|N?I\()[tq]|dN?L")


def when_expression(when: str) -> pl.Expr:
    """Turn a condition over a build's columns into a boolean expression.

    The column `build` is padded, so that its text order is that of builds; what is compared with it may be written
    either way, whole or as the beginning of a build.

    >>> builds = pl.DataFrame({"build": ["15.01.2507.006", "15.02.1544.004"]})
    >>> builds.select(when_expression("build < '15.1.2507.35'"))["build"].to_list()
    [True, False]
    >>> builds = pl.DataFrame({"kind": ["SU", "CU", None]})
    >>> builds.select(when_expression("kind <> 'CU'"))["kind"].to_list()
    [True, False, None]
    >>> when_expression("kind = read_csv('secret')")
    Traceback (most recent call last):
    ValueError: unknown word 'read_csv' (columns: product, line, update, kind, build, hop, evidence, missing_since, \
unsupported_since, exploited_since, below_minimum_since; also NOT, IN, LIKE, BETWEEN, AND, OR, TRUE, FALSE, IS NULL, \
DATE '2026-01-31')
    """
    if len(when) > _LONGEST:
        raise ValueError(f"{len(when)} characters (expected at most {_LONGEST})")
    tokens = _with_padded_builds(list(_tokens(when)))
    shape = _shape("".join(token.letter for token in tokens))
    if _TEXT_WITH_DATE.search(shape):
        raise ValueError("text beside a date (expected dates as DATE '2026-01-31')")
    if shape != "b":
        raise ValueError(f"not a condition ({_EXAMPLE})")
    try:
        # Only what was understood above reaches the SQL parser, columns in quotes.
        return pl.sql_expr(" ".join(token.sql for token in tokens))
    except pl.exceptions.PolarsError:
        raise ValueError(f"nested too deeply ({_EXAMPLE})") from None


class _Token(NamedTuple):
    letter: str
    sql: str


def _with_padded_builds(tokens: list[_Token]) -> list[_Token]:
    """Pad what is compared with the column `build`; LIKE is left alone, its text has marks."""
    padded = list(tokens)
    for found in _OF_TEXTS.finditer("".join(token.letter for token in tokens)):
        places = range(*found.span())
        if any(tokens[place].sql == '"build"' for place in places):
            for place in places:
                if tokens[place].letter == "q":
                    padded[place] = _Token("q", _padded(tokens[place].sql))
    return padded


def _padded(text: str) -> str:
    """Pad a build in quotes, or the beginning of one.

    >>> _padded("'15.1.2507.6'"), _padded("'15.02'")
    ("'15.01.2507.006'", "'15.02'")
    """
    found = _BUILD.fullmatch(text)
    if found is None:
        raise ValueError(f"{shown(text[1:-1])} is no build (expected e.g. '15.2.2562.37', or the beginning of one)")
    parts = zip(found[1].split("."), _WIDTHS, strict=False)
    return f"'{'.'.join(f'{int(part):0{width}}' for part, width in parts)}'"


def _tokens(when: str) -> Iterator[_Token]:
    """Give the words and signs of a condition, or say which one it cannot hold."""
    at, depth = 0, 0
    while rest := when[at:].lstrip():
        at = len(when) - len(rest)
        found = _TOKEN.match(rest)
        if found is None:
            raise ValueError(
                f"unexpected {shown(rest[:20])} at character {at + 1} "
                "(expected columns, text in single quotes without backslashes, = <> < <= > >=, parentheses)"
            )
        at += found.end()
        depth += (found["mark"] == "(") - (found["mark"] == ")")
        if depth > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} parentheses in one another")
        yield _token(found)


def _token(found: re.Match[str]) -> _Token:
    if found["null"]:
        return _Token("Z", "IS NOT NULL" if found["not"] else "IS NULL")
    if found["date"] is not None:
        return _Token("d", f"DATE '{_date(found['date'])}'")
    if found["word"]:
        return _word(found["word"])
    if found["text"]:
        return _Token("q", found["text"])
    return _Token("c" if found["compare"] else found["mark"], found.group())


def _word(word: str) -> _Token:
    if word.upper() in _WORDS:
        return _Token(_WORDS[word.upper()], word.upper())
    if word.lower() in COLUMNS:
        return _Token("t" if word.lower() in TEXT_COLUMNS else "d", f'"{word.lower()}"')
    raise ValueError(
        f"unknown word {shown(word)} (columns: {', '.join(COLUMNS)}; "
        f"also {', '.join(_WORDS)}, IS NULL, DATE '2026-01-31')"
    )


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"DATE {shown(text)} (expected a date, e.g. DATE '2026-01-31')") from None


def _shape(letters: str) -> str:
    """Put b for each condition, from the inside out, until nothing more is one."""
    while (shorter := _CONDITION.sub("b", letters)) != letters:
        letters = shorter
    return letters
