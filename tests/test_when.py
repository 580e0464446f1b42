"""Conditions of rules: what they mean, and that nothing but comparisons of columns and literals gets through."""

from collections.abc import Callable
from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enforcement.schema import STANDINGS
from enforcement.when import COLUMNS, DATE_COLUMNS, TEXT_COLUMNS, when_expression

NEW_YEAR = date(2026, 1, 1)
SCHEMA = {name: pl.Date if name in DATE_COLUMNS else pl.String for name in COLUMNS}

# Three builds: one that misses an update, one up to date, one of which nothing is known.
BUILDS = pl.DataFrame(
    {
        "product": ["Exchange Server 2016", "Exchange Server SE", None],
        "line": ["CU23", "RTM", None],
        "update": ["Exchange Server 2016 CU23 Nov23SU", "Exchange Server SE Oct26SU", None],
        "kind": ["SU", "SU", None],
        "build": ["15.01.2507.035", "15.02.2562.055", None],
        "hop": ["smtp", "mapi", "smtp"],
        "evidence": ["exact", "newer", "unknown"],
        "missing_since": [date(2024, 3, 12), None, None],
        "unsupported_since": [date(2025, 10, 15), None, None],
        "exploited_since": [None, None, None],
        "below_minimum_since": [NEW_YEAR, None, None],
    },
    schema=SCHEMA,
)


def true_for(when: str) -> list[bool | None]:
    return BUILDS.select(when_expression(when)).to_series().to_list()


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("product = 'Exchange Server SE'", [False, True, None]),
        ("product <> 'Exchange Server SE'", [True, False, None]),
        ("product != 'Exchange Server SE'", [True, False, None]),
        ("PRODUCT LIKE '%2016' and Hop = 'smtp'", [True, False, None]),
        ("product NOT LIKE '%2016'", [False, True, None]),
        ("update LIKE '%Nov__SU'", [True, False, None]),
        ("update LIKE 'Exchange.*'", [False, False, None]),  # a pattern of SQL, none of regular expressions
        ("kind IN ('SU', 'HU')", [True, True, None]),
        ("kind NOT IN ('CU')", [True, True, None]),
        ("build < '15.01.2507.061'", [True, False, None]),
        ("build >= '15.01.2507.035' AND build <= '15.01.9999.999'", [True, False, None]),
        ("build BETWEEN '15.01.0000.000' AND '15.01.9999.999'", [True, False, None]),
        ("build NOT BETWEEN '15.01.0000.000' AND '15.01.9999.999'", [False, True, None]),
        ("missing_since IS NULL", [False, True, True]),
        ("missing_since IS NOT NULL", [True, False, False]),
        ("missing_since > DATE '2024-03-11'", [True, None, None]),
        ("missing_since > date'2024-03-12'", [False, None, None]),
        ("missing_since BETWEEN DATE '2024-01-01' AND DATE '2024-12-31'", [True, None, None]),
        ("missing_since IN (DATE '2024-03-12', DATE '2025-01-01')", [True, None, None]),
        ("missing_since < unsupported_since", [True, None, None]),
        ("NOT (hop = 'smtp')", [False, True, False]),
        ("NOT hop = 'smtp' OR evidence = 'unknown'", [False, True, True]),
        ("hop = 'smtp' AND (evidence = 'exact' OR evidence = 'unknown')", [True, False, True]),
        ("evidence = 'it''s'", [False, False, False]),
        ("evidence = 'read_csv(SELECT;--) \"€\"'", [False, False, False]),  # in quotes anything is only text
        ("TRUE", [True, True, True]),
        ("hop = 'mapi' OR FALSE", [False, True, False]),
        ("  hop\n  =\t'smtp'  ", [True, False, True]),
    ],
)
def test_a_condition_means_what_sql_means(when: str, expected: list[bool | None]) -> None:
    """Each kind of comparison over three builds, unknown where a column is empty."""
    result = true_for(when)
    assert (result * 3 if len(result) == 1 else result) == expected


@pytest.mark.parametrize(
    "when",
    [
        "read_csv('/etc/passwd')",
        "product = read_csv('/etc/passwd')",
        "product IN (SELECT product FROM read_csv('/etc/passwd'))",
        "product = (SELECT 'a')",
        "(SELECT TRUE)",
        "EXISTS (SELECT 1)",
        "upper(product) = 'A'",
        "product('a') = 'a'",  # a column is no function
        "DATE('2026-01-01') < missing_since",
        "kind = 'SU'; DROP TABLE builds",
        "kind = 'SU' -- AND hop = 'smtp'",
        "kind = 'SU' /* AND hop = 'smtp' */",
        "kind = 'SU' # comment",
        "kind::date = DATE '2026-01-01'",
        "CAST(kind AS DATE) = DATE '2026-01-01'",
        "kind || 'a' = 'SUa'",
        "kind ~ 'S.'",
        "kind ILIKE 's%'",
        "kind RLIKE 'S.'",
        "kind = 'SU' COLLATE nocase",
        "kind = 'SU' AS product",
        "kind = 'SU' product",  # an alias without AS
        "kind = 'SU') OR (hop = 'smtp'",
        "kind = 'SU' LIMIT 1",
        "kind = ANY (hop)",
        "CASE WHEN TRUE THEN TRUE END",
        "kind.product = 'SU'",
        "*",
        "$1 = 'SU'",
        ":kind = 'SU'",
        "? = 'SU'",
        "@kind = 'SU'",
        'kind = "SU"',
        "\"kind\" = 'SU'",
        "`kind` = 'SU'",
        "[kind] = 'SU'",
        "kind = E'SU'",
        "kind = U&'SU'",
        "kind = $$SU$$",
        "kind = 'SU\\' OR 'a' = 'a'",  # a backslash never escapes a quote
        "kind = 'S' 'U'",
        "kind = 'SU",
        "kind = 'a\nb'",
        "kind = 'a\0b'",
        "kind = ’SU’",
        "ｋｉｎｄ = 'SU'",
        "kınd = 'SU'",
        "kind = 'SU'\u2028OR TRUE\u00a0;",
        "1 = 1",
        "kind = 5",
        "kind = NULL",
        "kind IS TRUE",
        "NOT NULL",
        "NULL",
        "kind IN ()",
        "kind IN ('SU', )",
        "kind IN (hop)",
        "kind IN 'SU'",
        "kind LIKE hop",
        "missing_since LIKE '2026%'",
        "kind BETWEEN 'a'",
        "(kind, hop) = ('SU', 'smtp')",
        "TRUE = TRUE",
        "kind = TRUE",
        "kind = 'a' = 'b'",
        "product",
        "NOT product",
        "'SU'",
        "missing_since",
        "DATE '2026-01-01'",
        "kind AND hop",
        "AND",
        "()",
        "",
        "   ",
        "missing_since > '2026-01-01'",
        "'2026-01-01' < missing_since",
        "missing_since BETWEEN '2026-01-01' AND '2026-02-01'",
        "missing_since IN ('2026-01-01')",
        "missing_since = product",
        "kind IN ('SU', DATE '2026-01-01')",
        "missing_since > DATE 'soon'",
        "missing_since > DATE '2026-02-30'",
        "missing_since > DATE",
        "prodct = 'Exchange Server 2016'",
        "kind = 'SU' OR " * 200 + "TRUE",  # over 2,000 characters
        "(" * 500 + "TRUE" + ")" * 500,
        "NOT " * 490 + "TRUE",
    ],
)
def test_nothing_else_is_a_condition(when: str) -> None:
    """Functions, subqueries, casts, comments, aliases, foreign quotes, numbers, wrong types: one clear line each."""
    with pytest.raises(ValueError, match=r"\S") as error:
        when_expression(when)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ("prodct = 'a'", f"unknown word 'prodct' (columns: {', '.join(COLUMNS)}; also NOT, IN, "),
        ("kind = 'a' ; TRUE", "unexpected '; TRUE' at character 12 (expected columns, text in single quotes"),
        ("missing_since > '2026-01-01'", "text beside a date (expected dates as DATE '2026-01-31')"),
        ("missing_since > DATE 'soon'", "DATE 'soon' (expected a date, e.g. DATE '2026-01-31')"),
        ("product", "not a condition (expected e.g. product = 'Exchange Server 2016' AND "),
        ("TRUE" + " " * 2_000, "2004 characters (expected at most 2000)"),
        ("(" * 21 + "TRUE" + ")" * 21, "more than 20 parentheses in one another"),
    ],
)
def test_the_error_says_what_was_expected(when: str, told: str) -> None:
    """The bad word and where it stands, and the columns there are."""
    with pytest.raises(ValueError, match=r"\S") as error:
        when_expression(when)
    assert str(error.value).startswith(told)


def test_the_columns_are_those_of_the_builds() -> None:
    """Every column but `build` (there: what it proves) is one of the table of standings, of the same type."""
    for name in COLUMNS:
        assert STANDINGS["proves" if name == "build" else name] == SCHEMA[name]


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_a_value_error(when: str) -> None:
    """Nothing else ever comes out, whatever is typed."""
    try:
        condition = when_expression(when)
    except ValueError as error:
        told = str(error)
        condition = None
    assert condition is not None or told.isprintable()


WORDS = [
    *COLUMNS,
    *("AND", "OR", "NOT", "IN", "LIKE", "BETWEEN", "IS NULL", "IS NOT NULL", "TRUE", "FALSE"),
    *("(", ")", ",", "=", "<>", "!=", "<", "<=", ">", ">=", "'SU'", "'%1'", "''", "DATE '2026-01-01'"),
    *("kind = 'SU'", "missing_since > DATE '2026-01-01'", "hop IN ('smtp')"),
]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join))
def test_what_gets_through_is_true_or_false(when: str) -> None:
    """Any row of allowed words is refused, or is a boolean on builds, with rows and without."""
    try:
        condition = when_expression(when)
    except ValueError:
        return
    for builds in (BUILDS, BUILDS.clear()):
        assert builds.select(condition).to_series().dtype == pl.Boolean


# A slow twin: conditions as text and as a function of Python over one build, unknown where SQL says unknown.
Twin = tuple[str, Callable[[dict[str, object]], bool | None]]
COMPARE: dict[str, Callable[[object, object], bool]] = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,  # type: ignore[operator]  # texts with texts, dates with dates
    ">=": lambda a, b: a >= b,  # type: ignore[operator]  # the same
}
A_TEXT = st.text("SU%_'.15 é", max_size=3)
A_DATE = st.dates(NEW_YEAR, NEW_YEAR + timedelta(days=3))


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def comparison(column: str, sign: str, value: object) -> Twin:
    def holds(build: dict[str, object]) -> bool | None:
        return None if build[column] is None else COMPARE[sign](build[column], value)

    written = quoted(value) if isinstance(value, str) else f"DATE '{value}'"
    return f"{column} {sign} {written}", holds


def membership(column: str, values: list[str]) -> Twin:
    def holds(build: dict[str, object]) -> bool | None:
        return None if build[column] is None else build[column] in values

    return f"{column} IN ({', '.join(map(quoted, values))})", holds


def emptiness(column: str) -> Twin:
    return f"{column} IS NULL", lambda build: build[column] is None


def negation(inner: Twin) -> Twin:
    def holds(build: dict[str, object]) -> bool | None:
        value = inner[1](build)
        return None if value is None else not value

    return f"NOT ({inner[0]})", holds


def both(left: Twin, right: Twin) -> Twin:
    def holds(build: dict[str, object]) -> bool | None:
        values = {left[1](build), right[1](build)}
        return False if False in values else None if None in values else True

    return f"({left[0]}) AND {right[0]}", holds


def either(left: Twin, right: Twin) -> Twin:
    def holds(build: dict[str, object]) -> bool | None:
        values = {left[1](build), right[1](build)}
        return True if True in values else None if None in values else False

    return f"({left[0]} OR {right[0]})", holds


FREE_TEXT = [column for column in TEXT_COLUMNS if column != "build"]
A_PART, A_LONG_PART = st.integers(0, 99), st.integers(0, 999)
A_BUILD = st.tuples(A_PART, A_PART, A_LONG_PART, A_LONG_PART).map(
    lambda parts: "{:02}.{:02}.{:04}.{:03}".format(*parts)
)
TWINS = st.recursive(
    st.builds(comparison, st.sampled_from(FREE_TEXT), st.sampled_from(sorted(COMPARE)), A_TEXT)
    | st.builds(comparison, st.just("build"), st.sampled_from(sorted(COMPARE)), A_BUILD)
    | st.builds(membership, st.just("build"), st.lists(A_BUILD, min_size=1, max_size=3))
    | st.builds(comparison, st.sampled_from(DATE_COLUMNS), st.sampled_from(sorted(COMPARE)), A_DATE)
    | st.builds(membership, st.sampled_from(FREE_TEXT), st.lists(A_TEXT, min_size=1, max_size=3))
    | st.builds(emptiness, st.sampled_from(COLUMNS)),
    lambda inner: st.builds(negation, inner) | st.builds(both, inner, inner) | st.builds(either, inner, inner),
    max_leaves=6,
)
KINDS = dict.fromkeys(DATE_COLUMNS, A_DATE) | dict.fromkeys(FREE_TEXT, A_TEXT) | {"build": A_BUILD}
ROW = st.fixed_dictionaries({name: st.none() | KINDS[name] for name in COLUMNS})


@settings(max_examples=300, deadline=None)
@given(TWINS, st.lists(ROW, min_size=1, max_size=4))
def test_a_condition_agrees_with_its_slow_twin(twin: Twin, rows: list[dict[str, object]]) -> None:
    """Random conditions on random builds, evaluated by polars and by hand with SQL's three values."""
    written, holds = twin
    result = pl.DataFrame(rows, schema=SCHEMA).select(when_expression(written)).to_series().to_list()
    assert result == [holds(row) for row in rows]


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("build = '15.1.2507.6'", [True, False]),
        ("build = '15.01.2507.006'", [True, False]),
        ("'15.1.2507.35' > build", [True, False]),
        ("build < '15.2'", [True, False]),
        ("build IN ('8.3.298.1', '15.2.1544.4')", [False, True]),
        ("build NOT IN ('15.2.1544.4')", [True, False]),
        ("build BETWEEN '15.2' AND '15.2.1544.36'", [False, True]),
        ("build LIKE '15.01.%'", [True, False]),
        ("update = '15.1' OR build >= '15.1.2507.10'", [False, True]),
    ],
)
def test_a_build_may_be_written_as_it_is_shown(when: str, holds: list[bool]) -> None:
    builds = pl.DataFrame({"build": ["15.01.2507.006", "15.02.1544.004"], "update": ["a", "b"]})
    assert builds.select(when_expression(when)).to_series().to_list() == holds


@pytest.mark.parametrize("text", ["zz", "15.x", "", "15.1.2507.6.1", "15..1"])
def test_what_is_no_build_is_not_compared_with_one(text: str) -> None:
    with pytest.raises(ValueError, match="is no build"):
        when_expression(f"build < '{text}'")
