"""The days on which a server's clock stands still: pauses that tenants took, as far as granted, and exemptions."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple

import polars as pl

from enforcement.names import shown, tenant_name
from enforcement.policy import Policy
from enforcement.schema import PAUSES, SERVERS, STILL_SPANS, conform

_BEGINNING = date(1970, 1, 1)
_LARGEST_PAUSE_DAYS = 3660
_FIRST_YEAR = 1970
_LAST_YEAR = 2999


class Granted(NamedTuple):
    """A ledger judged by a policy's quota: PAUSES that count, and PAUSES that were asked for beyond it."""

    pauses: pl.DataFrame
    ungranted: pl.DataFrame


def read_ledger(text: str, *, source: str) -> pl.DataFrame:
    r"""Read the ledger of pauses, CSV `tenant,from,days`, as PAUSES; errors name file and line.

    >>> read_ledger("tenant,from,days\nContoso.example,2026-01-30,3\n", source="pauses.csv").rows()
    [('contoso.example', datetime.date(2026, 1, 30), 3)]
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
    rows: list[tuple[str, date, int]] = []
    try:
        _expect_columns(reader.fieldnames or ())
        rows.extend(_ledger_row(row) for row in reader)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{source}, line {max(reader.line_num, 1)}: {error}") from None
    ledger = pl.DataFrame(rows, schema=PAUSES, orient="row").sort("tenant", "from")
    until = pl.col("from").dt.offset_by(pl.format("{}d", "days"))
    overlaps = ledger.filter(until.shift(1).over("tenant") > pl.col("from"))
    for tenant, start, _ in overlaps.head(1).iter_rows():
        raise ValueError(f"{source}: the pause of {tenant} from {start} begins before an earlier one of it has ended")
    return ledger


def _expect_columns(found: Sequence[str]) -> None:
    if not set(PAUSES) <= set(found):
        raise ValueError(f"expected the columns tenant,from,days, found {shown(','.join(found))}")


def _ledger_row(row: dict[str, str]) -> tuple[str, date, int]:
    tenant, start, days = row["tenant"], row["from"], row["days"]
    if tenant is None or start is None or days is None or None in row:
        raise ValueError("expected one value for each column")
    try:
        begins = date.fromisoformat(start.strip())
    except ValueError:
        raise ValueError(f"from = {shown(start)}: expected a date, e.g. 2026-03-01") from None
    if not _FIRST_YEAR <= begins.year <= _LAST_YEAR:
        raise ValueError(f"from = {shown(start)}: expected a day from {_FIRST_YEAR} to {_LAST_YEAR}")
    number = days.strip()
    if not (number.isascii() and number.isdigit() and 1 <= int(number[:9]) <= _LARGEST_PAUSE_DAYS):
        raise ValueError(f"days = {shown(days)}: expected a whole number from 1 to {_LARGEST_PAUSE_DAYS}")
    return tenant_name(tenant), begins, int(number)


def grant(ledger: pl.DataFrame, policy: Policy) -> Granted:
    """Grant the days of a ledger in order of date until a tenant's quota of a calendar year is used up.

    >>> from types import SimpleNamespace
    >>> quota = SimpleNamespace(pause=SimpleNamespace(days_per_year=2))
    >>> asked = pl.DataFrame({"tenant": ["t"], "from": [date(2025, 12, 29)], "days": [4]}, schema=PAUSES)
    >>> granted = grant(asked, quota)
    >>> granted.pauses.rows()
    [('t', datetime.date(2025, 12, 29), 2), ('t', datetime.date(2026, 1, 1), 1)]
    >>> granted.ungranted.rows()
    [('t', datetime.date(2025, 12, 31), 1)]
    """
    quota = policy.pause.days_per_year if policy.pause else 0
    used: Counter[tuple[str, int]] = Counter()
    days: dict[bool, list[tuple[str, date, int]]] = {True: [], False: []}
    for tenant, start, asked in conform(ledger, PAUSES, what="pauses").sort("tenant", "from").iter_rows():
        for day in (start + timedelta(days=n) for n in range(asked)):
            is_granted = used[tenant, day.year] < quota
            used[tenant, day.year] += is_granted
            days[is_granted].append((tenant, day, 1))
    return Granted(*(_joined(pl.DataFrame(rows, schema=PAUSES, orient="row")) for rows in (days[True], days[False])))


def _joined(days: pl.DataFrame) -> pl.DataFrame:
    """Join days of a tenant that follow one another into one row."""
    first = (pl.col("from").diff().over("tenant").dt.total_days() != 1).fill_null(value=True)
    return (
        days.sort("tenant", "from")
        .with_columns(run=first.cum_sum())
        .group_by("tenant", "run")
        .agg(pl.col("from").min(), pl.col("days").sum())
        .sort("tenant", "from")
        .select(*PAUSES)
    )


def pause_days(pauses: pl.DataFrame, year: int, *, until: date | None = None) -> Counter[str]:
    """Count the days of a calendar year that each tenant was granted, all of them or those until a day. Takes PAUSES.

    >>> pauses = pl.DataFrame({"tenant": ["t"], "from": [date(2025, 12, 30)], "days": [5]})
    >>> [pause_days(pauses, year)["t"] for year in (2025, 2026)]
    [2, 3]
    >>> pause_days(pauses, 2026, until=date(2026, 1, 1))["t"]
    1
    """
    counted: Counter[str] = Counter()
    end = min(until or date.max, date(year, 12, 31))
    for tenant, begins, days in pauses.select("tenant", "from", "days").iter_rows():
        first = max(begins, date(year, 1, 1))
        last = min(begins + timedelta(days=days - 1), end)
        counted[tenant] += max((last - first).days + 1, 0)
    return counted


def still_reasons(servers: pl.DataFrame, policy: Policy, pauses: pl.DataFrame) -> pl.DataFrame:
    """Give each pause and exemption of each server with its reason: columns of STILL_SPANS and `why`; they may meet.

    Takes SERVERS and granted PAUSES.

    >>> from types import SimpleNamespace
    >>> from enforcement.policy import Exemption
    >>> servers = pl.DataFrame([(1, "mx.t.example", "t.example", 0)], SERVERS, orient="row")
    >>> paused = pl.DataFrame({"tenant": ["t.example"], "from": [date(2026, 3, 1)], "days": [10]})
    >>> exempt = Exemption(tenant="t.example", reason="moves", from_on=date(2026, 3, 8), until_on=date(2026, 3, 12))
    >>> still_reasons(servers, SimpleNamespace(exemptions=[exempt]), paused)["why"].to_list()
    ['paused by its tenant', 'exempt (moves)']
    """
    servers = conform(servers, SERVERS, what="servers")
    paused = pauses.select(
        "tenant",
        from_on="from",
        until_on=pl.col("from").dt.offset_by(pl.format("{}d", "days")),
        why=pl.lit("paused by its tenant"),
    )
    exempt = pl.DataFrame(
        [
            (
                exemption.tenant,
                exemption.server,
                exemption.from_on or _BEGINNING,
                exemption.until_on + timedelta(days=1),
                f"exempt ({exemption.reason})",
            )
            for exemption in policy.exemptions
        ],
        schema={"tenant": pl.String, "server": pl.String, "from_on": pl.Date, "until_on": pl.Date, "why": pl.String},
        orient="row",
    )
    columns = (*STILL_SPANS, "why")
    return pl.concat(
        [
            servers.join(paused, on="tenant").select(columns),
            servers.join(exempt.drop("server"), on="tenant").select(columns),
            servers.join(exempt.drop("tenant"), on="server").select(columns),
        ]
    ).sort(columns)


def still_spans(servers: pl.DataFrame, policy: Policy, pauses: pl.DataFrame) -> pl.DataFrame:
    """Give the days on which each server's clock stands still; a day both paused and exempt counts once.

    Takes SERVERS and granted PAUSES, gives STILL_SPANS.

    >>> from types import SimpleNamespace
    >>> from enforcement.policy import Exemption
    >>> servers = pl.DataFrame([(1, "mx.t.example", "t.example", 0)], SERVERS, orient="row")
    >>> paused = pl.DataFrame({"tenant": ["t.example"], "from": [date(2026, 3, 1)], "days": [10]})
    >>> exempt = Exemption(tenant="t.example", reason="moves", from_on=date(2026, 3, 8), until_on=date(2026, 3, 12))
    >>> still_spans(servers, SimpleNamespace(exemptions=[exempt]), paused).rows()
    [(1, datetime.date(2026, 3, 1), datetime.date(2026, 3, 13))]
    """
    spans = still_reasons(servers, policy, pauses)
    earlier_end = pl.col("until_on").cum_max().shift(1).over("server_id")
    is_new = (pl.col("from_on") > earlier_end).fill_null(value=True)
    return (
        spans.with_columns(span=is_new.cum_sum())
        .group_by("server_id", "span")
        .agg(pl.col("from_on").min(), pl.col("until_on").max())
        .sort("server_id", "from_on")
        .select(*STILL_SPANS)
    )
