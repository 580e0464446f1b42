"""The ledger of pauses, and the days on which clocks stand still."""

import re
from datetime import date

import polars as pl
import pytest
from examples import policy

from enforcement.pauses import grant, read_ledger, still_spans
from enforcement.schema import SERVERS

HEAD = "tenant,from,days\n"
SERVER = pl.DataFrame([(1, "mail.contoso.example", "contoso.example", 0)], schema=dict(SERVERS), orient="row")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected the columns tenant,from,days"),
        ("tenant,start,days\na,2026-01-01,3\n", "found 'tenant,start,days'"),
        (HEAD + "a.example,01/02/2026,3\n", "from = '01/02/2026'"),
        (HEAD + "a.example,2026-01-01,-1\n", "days = '-1'"),
        (HEAD + "a.example,2026-01-01,99999999999999999999\n", "expected a whole number"),
        (HEAD + "a.example,2026-01-01\n", "one value for each column"),
        (HEAD + "a.example,2026-01-01,3,4\n", "one value for each column"),
        (HEAD + ",2026-01-01,3\n", "no tenant"),
        (HEAD + "a.example,2026-01-01,10\nA.example.,2026-01-10,1\n", "begins before an earlier one of it has ended"),
        (HEAD + 'a.example,"2026-01-01,3\n', "line"),
    ],
)
def test_a_bad_ledger_is_one_clear_line(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)) as error:
        read_ledger(text, source="pauses.csv")
    assert str(error.value).startswith("pauses.csv")
    assert "\n" not in str(error.value)


def test_pauses_that_follow_one_another_do_not_overlap() -> None:
    assert read_ledger(HEAD + "a.example,2026-01-01,10\na.example,2026-01-11,1\n", source="").height == 2


def test_days_are_granted_to_the_calendar_year_of_each() -> None:
    """90 a year. Asked: 100 days from 2025-11-01. 61 of them lie in 2025 and 39 in 2026: all granted.
    Then 60 from 2026-03-01: 51 are left in 2026, so 9 are not granted, from 2026-04-21."""
    ledger = read_ledger(HEAD + "a.example,2025-11-01,100\na.example,2026-03-01,60\n", source="")
    granted = grant(ledger, policy("[pause]\ndays_per_year = 90"))
    assert granted.pauses.rows() == [("a.example", date(2025, 11, 1), 100), ("a.example", date(2026, 3, 1), 51)]
    assert granted.ungranted.rows() == [("a.example", date(2026, 4, 21), 9)]


def test_without_a_quota_nothing_is_granted() -> None:
    granted = grant(read_ledger(HEAD + "a.example,2026-01-01,5\n", source=""), policy())
    assert (granted.pauses.height, granted.ungranted["days"].sum()) == (0, 5)


def test_a_day_both_paused_and_exempt_counts_once() -> None:
    """Paused 2026-01-01 to 01-10, exempt 01-08 to 01-12 (its last day): one span of twelve days."""
    exempting = policy(
        "[pause]\ndays_per_year = 90\n[[exemptions]]\nserver = 'mail.contoso.example'\nfrom = 2026-01-08\n"
        "until = 2026-01-12\nreason = 'move'"
    )
    pauses = grant(read_ledger(HEAD + "contoso.example,2026-01-01,10\n", source=""), exempting).pauses
    assert still_spans(SERVER, exempting, pauses).rows() == [(1, date(2026, 1, 1), date(2026, 1, 13))]


def test_an_exemption_without_a_first_day_is_from_the_beginning() -> None:
    exempting = policy("[[exemptions]]\ntenant = 'contoso.example'\nuntil = 2026-01-12\nreason = ''")
    assert still_spans(
        SERVER, exempting, pl.DataFrame(schema={"tenant": pl.String, "from": pl.Date, "days": pl.Int64})
    ).rows() == [(1, date(1970, 1, 1), date(2026, 1, 13))]
