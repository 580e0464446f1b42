"""The servers seen: which build, what it proves, how it stands, and why."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple

import narwhals as nw
import polars as pl

from enforcement.builds import Evidence
from enforcement.history import Period, Traffic, steps_reached
from enforcement.policy import Policy
from enforcement.schema import HANDED_OVER, conform, day_number
from enforcement.standing import WORST_FIRST, standing_on

SILENT = "silent (perhaps retired)"


class Reckoning(NamedTuple):
    """The day on which a fleet is looked at, and after how many days out of sight a server counts as silent."""

    as_of: date
    silent_after_days: int


def handed_over(traffic: Traffic) -> pl.DataFrame:
    """Give the first and last hand-over of each server with each build by each route: HANDED_OVER.

    >>> from enforcement.history import polars_traffic
    >>> rows = {"server_id": 1, "build_id": 7, "route": "direct", "day": [20_000, 20_009], "messages": [3, 4]}
    >>> handed_over(polars_traffic(pl.DataFrame(rows))).select("first_seen_on", "last_seen_on", "messages").rows()
    [(datetime.date(2024, 10, 4), datetime.date(2024, 10, 13), 7)]
    """
    days = nw.col("day")
    keys = ["server_id", "build_id", "route"]
    counted = traffic.days.group_by(keys).agg(first=days.min(), last=days.max(), messages=nw.col("messages").sum())
    found = traffic.collected(counted).with_columns(first_seen_on=_date("first"), last_seen_on=_date("last"))
    return conform(found, HANDED_OVER, what="hand-overs").sort(keys)


def last_days(traffic: Traffic, on: Sequence[date]) -> pl.DataFrame:
    """Give for each server and build its last day with a hand-over before or on each of some days, rising.

    Columns server_id, build_id, day. A day that no step ends with is left out; so a server's last day before a step,
    and the builds it showed on it, are those of its whole history.

    >>> from enforcement.history import polars_traffic
    >>> rows = {"server_id": 1, "build_id": 7, "route": "direct", "day": [20_000, 20_003, 20_009], "messages": 1}
    >>> last_days(polars_traffic(pl.DataFrame(rows)), [date(2024, 10, 8), date(2024, 10, 15)])["day"].sort().to_list()
    [datetime.date(2024, 10, 7), datetime.date(2024, 10, 13)]
    """
    step = steps_reached(nw.col("day"), [day_number(day) + 1 for day in on])
    counted = (
        traffic.days.with_columns(step=step)
        .group_by("server_id", "build_id", "step")
        .agg(day=nw.col("day").max())
        .select("server_id", "build_id", "day")
    )
    found = traffic.collected(counted).with_columns(pl.col("server_id", "build_id").cast(pl.Int32), day=_date("day"))
    return found.filter(pl.col("day") <= on[-1])


def fleet(
    handed: pl.DataFrame, sighted: pl.DataFrame, servers: pl.DataFrame, standings: pl.DataFrame, when: Reckoning
) -> pl.DataFrame:
    """List every server with every build it showed up to a day, as it stands on that day.

    Takes HANDED_OVER and SIGHTED up to that day, SERVERS and STANDINGS. One row per server, build, hop and
    route of hand-overs; a pair known from sightings alone has no route and 0 messages. A server that has not been seen
    for long, whether it handed mail over or was sighted behind another, stands as silent, whatever it ran.

    >>> seen = {"server_id": [1], "build_id": [7], "first_seen_on": date(2026, 3, 1), "last_seen_on": date(2026, 3, 1)}
    >>> handed = pl.DataFrame(seen | {"route": "direct", "messages": 3})
    >>> servers = pl.DataFrame({"server_id": [1], "server": ["mx.t.example"], "tenant": ["t.example"]})
    >>> ended = date(2023, 4, 12)
    >>> unsupported = {"unsupported_since": ended, "vulnerable_from": ended, "rule": "unsupported"}
    >>> proven = {"build_id": 7, "build": "15.0.1497.48", "hop": "smtp", "evidence": "exact", "update": "Mar23SU"}
    >>> nothing = dict.fromkeys(["product", "missing_since", "exploited_since"], None)
    >>> table = pl.DataFrame([proven | unsupported | nothing], schema_overrides={"missing_since": pl.Date})
    >>> when = Reckoning(as_of=date(2026, 3, 2), silent_after_days=60)
    >>> fleet(handed, pl.DataFrame(seen), servers, table, when)["standing"].to_list()
    ['vulnerable']
    """
    as_of = when.as_of
    seen = ("server_id", "last_seen_on")
    in_sight = pl.concat([handed.select(seen), sighted.select(seen)], how="vertical_relaxed").group_by("server_id")
    only_sighted = sighted.join(handed, on=["server_id", "build_id"], how="anti").with_columns(
        route=pl.lit(None, dtype=pl.String), messages=pl.lit(0, dtype=pl.Int64)
    )
    return (
        pl.concat([handed, only_sighted.select(handed.columns)], how="vertical_relaxed")
        .join(servers.select("server_id", "server", "tenant"), on="server_id")
        .join(standings, on="build_id")
        .join(in_sight.agg(in_sight_on=pl.col("last_seen_on").max()), on="server_id")
        .with_columns(
            standing_on(as_of),
            days_behind=(pl.lit(as_of) - pl.col("missing_since")).dt.total_days(),
            why=_why(as_of),
        )
        .with_columns(
            standing=pl.when(_is_silent(when)).then(pl.lit(SILENT)).otherwise("standing"),
            rule=pl.when(pl.col("vulnerable_from") <= as_of).then("rule"),
            days_behind=pl.when(pl.col("days_behind") >= 0).then("days_behind"),
        )
        .select(
            "server", "tenant", "build", "hop", "route", "product", "update", "evidence", "standing", "rule",
            "missing_since", "unsupported_since", "exploited_since", "days_behind", "vulnerable_from",
            "first_seen_on", "last_seen_on", "messages", "why",
        )
        .sort("server", "last_seen_on", "build", "hop", "route")
    )  # fmt: skip


def steps(period: Period, *, every_days: int = 7) -> list[date]:
    """Give the last day of a period and every so many days before, rising.

    >>> steps(Period(date(2026, 3, 1), date(2026, 3, 10)))
    [datetime.date(2026, 3, 3), datetime.date(2026, 3, 10)]
    """
    n_steps = (period.to_on - period.from_on).days // every_days
    return [period.to_on - timedelta(days=every_days * step) for step in range(n_steps, -1, -1)]


def standing_by_day(days: pl.DataFrame, standings: pl.DataFrame, policy: Policy, on: Sequence[date]) -> pl.DataFrame:
    """Count servers by standing on some days: day, standing, servers. Takes the result of `last_days`.

    A server stands as the worst of the builds of its last day with a hand-over; after `silent_after_days` without any
    it counts as silent.

    >>> from types import SimpleNamespace
    >>> days = pl.DataFrame({"server_id": 1, "build_id": 7, "day": [date(2026, 3, 1)]})
    >>> table = pl.DataFrame({"build_id": [7], "evidence": ["exact"], "vulnerable_from": [date(2026, 3, 5)]})
    >>> table = table.with_columns(missing_since=date(2026, 1, 1), unsupported_since=pl.lit(None, dtype=pl.Date))
    >>> policy = SimpleNamespace(silent_after_days=60)
    >>> on = steps(Period(date(2026, 3, 1), date(2026, 5, 10)), every_days=35)
    >>> standing_by_day(days, table, policy, on)["standing"].to_list()
    ['behind', 'vulnerable', 'silent (perhaps retired)']
    """
    grid = pl.DataFrame({"on": list(on)}, schema={"on": pl.Date})
    seen = days.select("server_id", "day").unique().sort("day")
    cells = (
        seen.select("server_id")
        .unique()
        .join(grid, how="cross")
        .sort("on")
        .join_asof(seen, left_on="on", right_on="day", by="server_id", strategy="backward", check_sortedness=False)
        .drop_nulls("day")
    )
    return (
        cells.join(days.select("server_id", "build_id", "day").unique(), on=["server_id", "day"])
        .join(standings, on="build_id")
        .with_columns(standing_on(pl.col("on")))
        .with_columns(
            rank=pl.col("standing").replace_strict({str(name): rank for rank, name in enumerate(WORST_FIRST)}),
            is_silent=(pl.col("on") - pl.col("day")).dt.total_days() > policy.silent_after_days,
        )
        .sort("rank")
        .group_by("server_id", "on")
        .agg(pl.when("is_silent").then(pl.lit(SILENT)).otherwise("standing").first().alias("standing"))
        .group_by(day="on", standing="standing")
        .agg(servers=pl.len())
        .sort("day", "standing")
    )


def _date(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Int32).cast(pl.Date)


def _is_silent(when: Reckoning) -> pl.Expr:
    return (pl.lit(when.as_of) - pl.col("in_sight_on")).dt.total_days() > when.silent_after_days


def _why(as_of: date) -> pl.Expr:
    """One sentence of what was seen, what it proves, and what follows."""
    seen = pl.format("shows {} on a {} hop", pl.col("build").fill_null("no build"), "hop")
    at_least = pl.format("{}: at least {}", seen, "update")
    return (
        pl.when(pl.col("evidence") == Evidence.CLOUD)
        .then(pl.format("{}: Exchange Online itself", seen))
        .when(pl.col("evidence") == Evidence.UNKNOWN)
        .then(pl.format("{}: not known to the catalogue, so never enforced", seen))
        .when(pl.col("vulnerable_from") <= as_of)
        .then(
            pl.format(
                "{}; vulnerable since {} by rule {}",
                pl.coalesce(at_least, pl.format("{}: newer than every build known of {}", seen, "product")),
                "vulnerable_from",
                "rule",
            )
        )
        .when(pl.col("evidence") == Evidence.NEWER)
        .then(pl.format("{}: newer than every build known of {}", seen, "product"))
        .when(pl.col("missing_since") <= as_of)
        .then(
            pl.format(
                "{}; no sign of the security update of {}{}",
                at_least,
                "missing_since",
                pl.coalesce(pl.format("; vulnerable from {}", "vulnerable_from"), pl.lit("")),
            )
        )
        .when(pl.col("unsupported_since") <= as_of)
        .then(pl.format("{}; out of support since {}", at_least, "unsupported_since"))
        .otherwise(pl.format("{}; nothing missing", at_least))
    )
