"""Which builds a rule is for: the condition in its `when`, SQL that can only compare columns and literals."""

import re
from collections.abc import Iterator
from datetime import date
from typing import Final

import polars as pl

from enforcement.names import shown

# What a condition can speak of, and a value of each to try it on: what a build proves, and the four dates.
_SAMPLE: Final = {
    "product": "Exchange Server 2016",
    "line": "CU23",
    "update": "Exchange Server 2016 CU23 Oct25SU",
    "kind": "SU",
    "build": "15.01.2507.061",
    "hop": "smtp",
    "evidence": "exact",
    "missing_since": date(2025, 12, 9),
    "unsupported_since": date(2025, 10, 15),
    "exploited_since": date(2025, 12, 9),
    "below_minimum_since": date(2025, 12, 9),
}
COLUMNS: Final = tuple(_SAMPLE)
_DTYPES: Final = {name: pl.Date if isinstance(value, date) else pl.String for name, value in _SAMPLE.items()}

_WORDS: Final = frozenset({"AND", "OR", "NOT", "IN", "LIKE", "BETWEEN", "IS", "NULL", "TRUE", "FALSE", "DATE"})
_TOKEN = re.compile(r"(?P<word>[A-Za-z_][A-Za-z_0-9]*)|(?P<text>'(?:[^']|'')*')|(?P<sign><>|!=|<=|>=|[=<>(),])")
_LONGEST: Final = 2_000
_DEEPEST: Final = 20  # parentheses in one another
_EXAMPLE: Final = "product = 'Exchange Server 2016' AND missing_since < DATE '2026-01-31'"


def when_expression(when: str) -> pl.Expr:
    """Turn a condition over a build's columns into a boolean expression.

    >>> builds = pl.DataFrame({"kind": ["SU", "CU", None]})
    >>> builds.select(when_expression("kind <> 'CU'"))["kind"].to_list()
    [True, False, None]
    >>> when_expression("read_csv('secret')")
    Traceback (most recent call last):
    ValueError: unknown word 'read_csv' (columns: product, line, update, kind, build, hop, evidence, missing_since, \
unsupported_since, exploited_since, below_minimum_since; also AND, OR, NOT, IN, LIKE, BETWEEN, IS NULL, TRUE, FALSE, \
DATE '2026-01-31')
    """
    if len(when) > _LONGEST:
        raise ValueError(f"{len(when)} characters (expected at most {_LONGEST})")
    try:
        # Only what was understood here reaches the SQL parser, columns in quotes.
        condition = pl.sql_expr(" ".join(_tokens(when)))
    except pl.exceptions.PolarsError:
        raise ValueError(f"not a condition (expected e.g. {_EXAMPLE})") from None
    samples = pl.DataFrame([_SAMPLE, dict.fromkeys(_SAMPLE)], schema_overrides=_DTYPES)
    try:
        result = samples.select(condition).to_series().dtype
    except pl.exceptions.PolarsError:
        raise ValueError(
            "compares what cannot be compared (expected text with text in single quotes, a date with DATE '2026-01-31')"
        ) from None
    if result != pl.Boolean:
        raise ValueError(f"neither true nor false (expected e.g. {_EXAMPLE})")
    return condition


def _tokens(when: str) -> Iterator[str]:
    """Give the words and signs of a condition as safe SQL, or say which one it cannot hold."""
    at, depth, last = 0, 0, ""
    while rest := when[at:].lstrip():
        at = len(when) - len(rest)
        found = _TOKEN.match(rest)
        if found is None:
            raise ValueError(
                f"unexpected {shown(rest[:20])} at character {at + 1} "
                "(expected columns, text in single quotes, = <> < <= > >=, parentheses)"
            )
        word = _checked(found, last)
        depth += (word == "(") - (word == ")")
        if depth > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} parentheses in one another")
        yield word
        at, last = at + found.end(), word


def _checked(found: re.Match[str], last: str) -> str:
    """Give a word as SQL if it may stand after the last one."""
    word = found.group()
    if found["text"]:
        if last == "DATE":
            return f"'{_date(word[1:-1])}'"
        if "\\" in word or not word.isprintable():
            raise ValueError(f"text with a backslash or a control character: {shown(word)}")
        return word
    if last == "DATE":
        raise ValueError(f"DATE {shown(word)} (expected DATE '2026-01-31')")
    if not found["word"]:
        return word
    if word.lower() in COLUMNS:
        return f'"{word.lower()}"'
    if word.upper() not in _WORDS:
        raise ValueError(
            f"unknown word {shown(word)} (columns: {', '.join(COLUMNS)}; "
            "also AND, OR, NOT, IN, LIKE, BETWEEN, IS NULL, TRUE, FALSE, DATE '2026-01-31')"
        )
    if word.upper() == "NULL" and last not in ("IS", "NOT"):
        raise ValueError("NULL without IS (expected e.g. missing_since IS NULL)")
    return word.upper()


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"DATE {shown(text)} (expected a date, e.g. DATE '2026-01-31')") from None
