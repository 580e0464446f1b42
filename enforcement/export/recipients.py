"""Who has to be told: which servers were unremediated on which days, and so which tenants."""

from datetime import date

import narwhals as nw
import polars as pl

from enforcement.builds import Evidence
from enforcement.course import Course
from enforcement.history import History
from enforcement.policy import Policy

_NOT_KNOWN = [Evidence.UNKNOWN.value, Evidence.CLOUD.value]


def unremediated(history: History, way: Course, policy: Policy, *, as_of: date) -> pl.DataFrame:
    """List the spans of days on which each server was unremediated, a row each build.

    On a day a server is unremediated in a cohort when, by one of the policy's routes, its last day with a known build
    until then showed a build that is vulnerable on that day and that the cohort is for, whether it has started or
    not; and when it handed mail over at most `silent_after_days` before. A clock that another system started counts as
    seen that day. Columns: server_id, build_id, cohort, from_on, until_on (the first day no longer in it; null: it
    lasts as far as is known on `as_of`), shown_on (the last day until then with that build).
    """
    seen = _seen(history, way, policy, as_of)
    of_server = ["server_id", "day"]
    known = seen.filter(pl.col("is_known")).select(of_server).unique().sort(of_server)
    shown = seen.filter(pl.col("vulnerable_from").is_not_null() & pl.col("is_on_route")).join(
        way.pairs.select("server_id", "build_id", "cohort"), on=["server_id", "build_id"]
    )
    in_sight_until = pl.col("day").dt.offset_by(f"{policy.silent_after_days + 1}d")
    is_in_sight = pl.col("next").is_null() & (in_sight_until > as_of)
    return (
        seen.select(of_server)
        .unique()
        .sort(of_server)
        .with_columns(next=pl.col("day").shift(-1).over("server_id"))
        .sort("day")
        .join_asof(
            known.rename({"day": "known_on"}).sort("known_on"),
            left_on="day",
            right_on="known_on",
            by="server_id",
            strategy="backward",
            check_sortedness=False,
        )
        .with_columns(until_on=pl.when(~is_in_sight).then(pl.min_horizontal("next", in_sight_until)))
        .join(
            shown.select("server_id", "build_id", "cohort", "vulnerable_from", known_on="day").unique(),
            on=["server_id", "known_on"],
        )
        .with_columns(from_on=pl.max_horizontal("day", "vulnerable_from"))
        .filter(pl.col("until_on").is_null() | (pl.col("from_on") < pl.col("until_on")))
        .select("server_id", "build_id", "cohort", "from_on", "until_on", shown_on="known_on")
        .sort("server_id", "build_id", "cohort", "from_on")
    )


def _seen(history: History, way: Course, policy: Policy, as_of: date) -> pl.DataFrame:
    """Give the days on which servers with a build that is vulnerable some day showed each build."""
    traffic = history.traffic
    touched = traffic.bring(way.pairs.select("server_id").unique())
    of_pair = ["server_id", "build_id", "route", "day"]
    days = traffic.collected(
        traffic.days.join(touched, on="server_id", how="semi").group_by(of_pair).agg(nw.len()).select(of_pair)
    ).with_columns(pl.col("server_id", "build_id").cast(pl.Int32), pl.col("day").cast(pl.Int32).cast(pl.Date))
    started = history.clock_starts.select(
        "server_id", "build_id", route=pl.lit(str(policy.routes[0])), day="first_detected_on"
    )
    table = way.standings.select("build_id", "vulnerable_from", is_known=~pl.col("evidence").is_in(_NOT_KNOWN))
    return (
        pl.concat([days, started], how="vertical_relaxed")
        .filter(pl.col("day") <= as_of)
        .with_columns(is_on_route=pl.col("route").is_in([str(route) for route in policy.routes]))
        .join(table, on="build_id")
    )


def on_day(spans: pl.DataFrame, day: date) -> pl.DataFrame:
    """Give the servers that are unremediated on a day: server_id, build_id, cohort, shown_on.

    >>> spans = {"server_id": 1, "build_id": 7, "cohort": "all", "from_on": date(2026, 3, 1), "until_on": None}
    >>> spans["shown_on"] = date(2026, 3, 1)
    >>> frame = pl.DataFrame([spans], schema_overrides={"until_on": pl.Date})
    >>> on_day(frame, date(2026, 2, 28)).height, on_day(frame, date(2026, 3, 1)).height
    (0, 1)
    """
    lasts = pl.col("until_on").is_null() | (pl.col("until_on") > day)
    return (
        spans.filter((pl.col("from_on") <= day) & lasts).select("server_id", "build_id", "cohort", "shown_on").unique()
    )


def first_days(spans: pl.DataFrame, servers: pl.DataFrame, not_before: pl.DataFrame) -> pl.DataFrame:
    """Give the first day from some day on on which each tenant had an unremediated server of each cohort.

    Takes the result of `unremediated`, SERVERS, and cohort → not_before. Columns: tenant, cohort, first_on.

    >>> spans = {"server_id": 1, "cohort": "all", "from_on": date(2026, 3, 1), "until_on": date(2026, 3, 9)}
    >>> servers = pl.DataFrame({"server_id": [1], "tenant": ["t.example"]})
    >>> first_days(pl.DataFrame(spans), servers, pl.DataFrame({"cohort": "all", "not_before": date(2026, 3, 5)})).rows()
    [('t.example', 'all', datetime.date(2026, 3, 5))]
    """
    return (
        spans.join(not_before, on="cohort")
        .with_columns(first_on=pl.max_horizontal("from_on", "not_before"))
        .filter(pl.col("until_on").is_null() | (pl.col("first_on") < pl.col("until_on")))
        .join(servers.select("server_id", "tenant"), on="server_id")
        .group_by("tenant", "cohort")
        .agg(pl.col("first_on").min())
        .sort("tenant", "cohort")
    )
