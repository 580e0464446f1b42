"""How much mail under enforcement should have come, how much came, and what explains the gap."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from enum import StrEnum
from math import sqrt
from statistics import mean, stdev
from typing import Final, NamedTuple

import polars as pl

from enforcement.drift import ExportBasis
from enforcement.export.calendar import calendar
from enforcement.export.target import Reason
from enforcement.fates import EXPIRED, RETRIES, fates
from enforcement.schema import Schema
from enforcement.verdict import Held, Sender

N_WEEKS: Final = 4
_DAYS: Final = 7
# Student's t for a 95 % interval, by the number of weeks less one.
_QUANTILES: Final = {0: 1.96, 1: 12.71, 2: 4.30, 3: 3.18}
_FEWEST: Final = 3.0  # of so many decisions expected, none at all comes by chance in one case of twenty
_UNDER_ENFORCEMENT: Final = (str(Reason.ENFORCED), str(Reason.STANDING_STILL))

# A row: decisions to be expected in a week like one of those before the export: first tries and those that follow.
# `spread`: the variance of their number, were the messages' times independent.
FORESEEN: Final[Schema] = {
    "server": pl.String,
    "tenant": pl.String,
    "build": pl.String,
    "stage": pl.Int64,
    "week": pl.Int64,
    "decisions": pl.Float64,
    "spread": pl.Float64,
}
# A row: a server whose mail is not as it was, and why.
GAPS: Final[Schema] = {
    "why": pl.String,
    "tenant": pl.String,
    "server": pl.String,
    "other": pl.String,
    "expected": pl.Float64,
    "observed": pl.Int64,
}


class Why(StrEnum):
    """What explains that mail is not as it was."""

    NEW = "new server"  # accepted as a new detection: no calendar names it yet
    PATCHED = "patched"  # in the calendar, and its builds are no longer vulnerable
    RENAMED = "name changed"  # silent, while a new server of its tenant shows the same build
    GONE = "headers gone"  # in the calendar, and nothing seen: without Received lines, retired, or sending elsewhere


class Band(NamedTuple):
    """How many decisions are expected, and within what they lie in nineteen cases of twenty."""

    expected: float
    low: float
    high: float


def weeks_known(as_of: date, first_on: date) -> int:
    """Count the whole weeks of history before an export, at most four.

    >>> weeks_known(date(2026, 3, 31), date(2026, 3, 18)), weeks_known(date(2026, 3, 31), date(2025, 1, 1))
    (2, 4)
    """
    return max(0, min(N_WEEKS, ((as_of - first_on).days + 1) // _DAYS))


def foreseen(handed: pl.DataFrame, days: Sequence[date], point: ExportBasis, senders: Sequence[Sender]) -> pl.DataFrame:
    """Say which decisions of an export are to be expected on some days, week by week of those before it: FORESEEN.

    Takes the direct hand-overs of the four weeks that end on `as_of`: server_id, build_id, day, messages. Those of the
    same weekday stand for a day's messages. A message that is deferred comes back and is decided again: how often is
    reckoned from the senders' retries, as if messages came evenly over the hour.
    """
    table = calendar(point.way.spans, point.servers, point.policy, as_of=point.as_of)
    rows = table.group_by("throttle", "block", "running").agg(pl.len())
    factors = [
        (throttle, block, running, *_tries(Held(block=block, throttle=throttle), senders, running=running))
        for throttle, block, running, _ in rows.iter_rows()
    ]
    schema = {"throttle": pl.Int8, "block": pl.Int8, "running": pl.Boolean, "tries": pl.Float64, "squared": pl.Float64}
    ahead = pl.DataFrame({"on": sorted(days)}, schema={"on": pl.Date})
    week = 1 + (pl.lit(point.as_of) - pl.col("day")).dt.total_days() // _DAYS
    names = point.way.standings.select("build_id", "build")
    before = (
        handed.join(point.way.pairs, on=["server_id", "build_id"])
        .join(point.servers.select("server_id", "server", "tenant"), on="server_id")
        .join(names, on="build_id")
        .with_columns(week=week, weekday=pl.col("day").dt.weekday())
        .filter(pl.col("week").is_between(1, N_WEEKS))
    )
    met = (
        before.join(ahead.with_columns(weekday=pl.col("on").dt.weekday()), on="weekday")
        .filter(pl.col("on") >= pl.col("subject_from"))
        .join(
            table.select("server", "cohort", "from_on", "until_on", "stage", "throttle", "block", "running"),
            on=["server", "cohort"],
        )
        .filter(
            (pl.col("on") >= pl.col("from_on")) & (pl.col("until_on").is_null() | (pl.col("on") < pl.col("until_on")))
        )
        .join(pl.DataFrame(factors, schema=schema, orient="row"), on=["throttle", "block", "running"])
    )
    return (
        met.group_by("server", "tenant", "build", "stage", "week")
        .agg(
            decisions=(pl.col("messages") * pl.col("tries")).sum(),
            spread=(pl.col("messages") * pl.col("squared")).sum(),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in FORESEEN.items())
        .sort("server", "build", "stage", "week")
    )


def _tries(held: Held, senders: Sequence[Sender], *, running: bool) -> tuple[float, float]:
    """Give the mean number of tries of a message, and of its square."""
    if not running:
        return 1.0, 1.0
    counts = fates([held], senders).expected(senders)[0]
    tries = 1 + counts[:, RETRIES] - counts[:, EXPIRED]
    return float(tries.mean()), float((tries**2).mean())


def band(weeks: Sequence[float], spread: float) -> Band:
    """Expect what the weeks say: the range that holds one more such week in nineteen cases of twenty.

    Never narrower than chance alone makes it (`spread`: its variance a week).

    >>> [round(value) for value in band([100, 110, 90, 100], spread=100.0)]
    [100, 71, 129]
    """
    middle = mean(weeks)
    seen = stdev(weeks) if len(weeks) > 1 else 0.0
    # Of a week without any message as many as three may come by chance.
    width = max(
        _QUANTILES[len(weeks) - 1] * seen * sqrt(1 + 1 / len(weeks)),
        _QUANTILES[0] * sqrt(spread * (1 + 1 / len(weeks))),
        _FEWEST,
    )
    return Band(middle, max(0.0, middle - width), middle + width)


def by_tenant_and_stage(ahead: pl.DataFrame, logged: pl.DataFrame, n_weeks: int) -> pl.DataFrame:
    """Hold what came beside what was expected: tenant, stage, observed, expected, low, high, is_within.

    Takes FORESEEN and LOGGED of the same days.
    """
    came = (
        logged.filter(pl.col("reason").is_in(_UNDER_ENFORCEMENT))
        .group_by("tenant", "stage")
        .agg(observed=pl.col("decisions").sum())
    )
    weeks = _week_by_week(ahead, ["tenant", "stage"], n_weeks)
    both = weeks.join(came, on=["tenant", "stage"], how="full", coalesce=True, nulls_equal=True)
    rows = []
    for row in both.iter_rows(named=True):
        found = band([row[f"week_{week}"] or 0.0 for week in range(1, n_weeks + 1)], row["spread"] or 0.0)
        observed = row["observed"] or 0
        rows.append((row["tenant"], row["stage"], observed, *found, found.low <= observed <= found.high))
    schema = {
        "tenant": pl.String, "stage": pl.Int64, "observed": pl.Int64, "expected": pl.Float64, "low": pl.Float64,
        "high": pl.Float64, "is_within": pl.Boolean,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row").sort("tenant", "stage", nulls_last=True)


def in_all(ahead: pl.DataFrame, n_weeks: int) -> Band:
    """Expect so many decisions in all. Takes FORESEEN."""
    weeks = [float(ahead.filter(week=week)["decisions"].sum()) for week in range(1, n_weeks + 1)]
    kept = ahead.filter(pl.col("week") <= n_weeks)
    return band(weeks, float(kept["spread"].sum()) / n_weeks)


def observed_in_all(logged: pl.DataFrame) -> int:
    """Count the decisions on mail under enforcement. Takes LOGGED."""
    return int(logged.filter(pl.col("reason").is_in(_UNDER_ENFORCEMENT))["decisions"].sum())


def _week_by_week(ahead: pl.DataFrame, keys: list[str], n_weeks: int) -> pl.DataFrame:
    kept = ahead.filter(pl.col("week") <= n_weeks)
    of_week = (
        pl.col("decisions").filter(pl.col("week") == week).sum().alias(f"week_{week}") for week in range(1, n_weeks + 1)
    )
    return kept.group_by(keys).agg(*of_week, spread=pl.col("spread").sum() / n_weeks)


def gaps(ahead: pl.DataFrame, logged: pl.DataFrame, n_weeks: int) -> pl.DataFrame:
    """Name the servers whose mail is not as it was, and why: GAPS. Takes FORESEEN and LOGGED of the same days.

    A server is told as silent only where it was seen in every week before, and so much was expected that nothing at all
    hardly comes by chance.
    """
    expected = (
        ahead.filter(pl.col("week") <= n_weeks)
        .group_by("server", "tenant")
        .agg(
            expected=pl.col("decisions").sum() / n_weeks,
            weeks=pl.col("week").n_unique(),
            builds=pl.col("build").unique(),
        )
    )
    reason, count = pl.col("reason"), pl.col("decisions")
    seen = (
        logged.filter(pl.col("server").is_not_null())
        .group_by("server", "tenant")
        .agg(
            observed=count.sum(),
            enforced=count.filter(reason.is_in(_UNDER_ENFORCEMENT)).sum(),
            accepted=count.filter(reason == str(Reason.NOT_VULNERABLE)).sum(),
            new=count.filter(reason == str(Reason.NEW_DETECTION)).sum(),
            shown=pl.col("build").filter(reason == str(Reason.NEW_DETECTION)).unique(),
        )
    )
    both = expected.join(seen, on=["server", "tenant"], how="full", coalesce=True).sort("server")
    found: list[tuple[object, ...]] = []
    new = {row["server"]: row for row in both.filter(pl.col("new") > 0).iter_rows(named=True)}
    is_steady = (pl.col("expected") >= _FEWEST) & (pl.col("weeks") == n_weeks)
    silent = both.filter(pl.col("observed").is_null() & is_steady)
    for row in silent.sort("expected", "server", descending=[True, False]).iter_rows(named=True):
        other = _new_name(row, new)
        why = Why.GONE if other is None else Why.RENAMED
        n_seen = 0 if other is None else new.pop(other)["new"]
        found.append((str(why), row["tenant"], row["server"], other, row["expected"], n_seen))
    patched = both.filter((pl.col("expected") > 0) & (pl.col("accepted") > 0) & (pl.col("enforced") == 0))
    found += [
        (str(Why.PATCHED), row["tenant"], row["server"], None, row["expected"], row["accepted"])
        for row in patched.iter_rows(named=True)
    ]
    found += [
        (str(Why.NEW), row["tenant"], row["server"], None, row["expected"] or 0.0, row["new"]) for row in new.values()
    ]
    return pl.DataFrame(found, schema=dict(GAPS), orient="row")


def _new_name(silent: Mapping[str, object], new: Mapping[str, Mapping[str, object]]) -> str | None:
    """Find a new server of the same tenant that shows a build of the silent one."""
    builds = set(_names(silent["builds"]))
    return next(
        (
            name
            for name, row in new.items()
            if row["tenant"] == silent["tenant"] and row["expected"] is None and builds & set(_names(row["shown"]))
        ),
        None,
    )


def _names(value: object) -> list[str]:
    return value if isinstance(value, list) else []


def serial_of_day(logged: pl.DataFrame) -> dict[date, int]:
    """Give each day with decisions the serial of the export that decided most of it. Takes LOGGED."""
    most = (
        logged.filter(pl.col("policy_serial").is_not_null())
        .group_by("day", "policy_serial")
        .agg(pl.col("decisions").sum())
        .sort("day", "decisions", "policy_serial")
        .group_by("day", maintain_order=True)
        .last()
    )
    return dict(most.select("day", "policy_serial").iter_rows())


def weeks_before(as_of: date) -> tuple[date, date]:
    """Give the first and last day of the four weeks that end on a day.

    >>> weeks_before(date(2026, 3, 31))
    (datetime.date(2026, 3, 4), datetime.date(2026, 3, 31))
    """
    return as_of - timedelta(days=N_WEEKS * _DAYS - 1), as_of
