"""Traffic counted by clock and minute: all that a schedule needs to be judged, in one pass whatever the engine."""

from dataclasses import dataclass
from typing import Any, Final

import narwhals as nw
import polars as pl

from enforcement.clock import cut_at_stages
from enforcement.history import Period, Traffic
from enforcement.policy import Policy, Window
from enforcement.schema import (
    EXPOSURE_BY_DAY,
    EXPOSURE_BY_GROUP,
    EXPOSURE_BY_SERVER,
    Schema,
    conform,
    day_number,
)

LARGEST_CLOCK: Final = 400  # later days of a clock count as this one; the days of stages sum to at most as much
_PAIR: Final = ["server_id", "build_id"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """Subject messages by clock and minute, counted twice: EXPOSURE_BY_DAY and EXPOSURE_BY_GROUP."""

    by_day: pl.DataFrame
    by_group: pl.DataFrame


def exposure(
    traffic: Traffic, segments: pl.DataFrame, groups: pl.DataFrame, policy: Policy, period: Period
) -> Exposure:
    """Count the subject messages of a period by day, and by product and decile.

    Takes SEGMENTS and groups (server_id, build_id, product, decile).

    >>> from datetime import date
    >>> from types import SimpleNamespace
    >>> from enforcement.history import polars_traffic
    >>> traffic = polars_traffic(pl.DataFrame({"day": [day_number(date(2026, 3, 5))] * 2, "minute": [3, 40],
    ...     "server_id": 1, "build_id": 7, "route": "direct", "messages": [2, 5]},
    ...     schema_overrides={"server_id": pl.Int32, "build_id": pl.Int32, "day": pl.Int32, "minute": pl.UInt8}))
    >>> segment = pl.DataFrame({"server_id": 1, "build_id": 7, "cohort": "all", "spell": 1,
    ...     "from_on": [date(2026, 3, 1)], "until_on": [date(2026, 6, 1)], "clock_at_start": 0, "running": True},
    ...     schema_overrides={"server_id": pl.Int32, "build_id": pl.Int32, "clock_at_start": pl.Int32})
    >>> march = Period(date(2026, 3, 1), date(2026, 3, 31))
    >>> groups = segment.select("server_id", "build_id", product=pl.lit("2016"), decile=pl.lit(1))
    >>> policy = SimpleNamespace(window=Window.TOP, routes=["direct"])
    >>> exposure(traffic, segment, groups, policy, march).by_day.select("clock", "k", "messages").rows()
    [(4, 3, 2), (4, 40, 5)]
    """
    met = _subject(traffic, _bounded(segments, groups, period), policy)
    clock = pl.col("clock_at_start") + pl.col("running") * (pl.col("day") - pl.col("from_day"))
    by_day = _counted(met, ["day", "from_day", "clock_at_start", "running", "k"])
    by_clock_day = _counted(met, ["clock_day", "running", "k", "product", "decile"])
    return Exposure(
        by_day=_summed(
            by_day.with_columns(
                clock=clock.clip(upper_bound=LARGEST_CLOCK), day=pl.col("day").cast(pl.Int32).cast(pl.Date)
            ),
            EXPOSURE_BY_DAY,
        ),
        by_group=_summed(
            by_clock_day.with_columns(clock=pl.col("clock_day").clip(upper_bound=LARGEST_CLOCK)), EXPOSURE_BY_GROUP
        ),
    )


def exposure_by_server(traffic: Traffic, segments: pl.DataFrame, policy: Policy, period: Period) -> pl.DataFrame:
    """Count the subject messages of each server by the policy's stage and minute: EXPOSURE_BY_SERVER.

    This second pass answers who is hit; it knows the stages, so it is made again when they change.

    >>> from datetime import date
    >>> from types import SimpleNamespace
    >>> from enforcement.history import polars_traffic
    >>> traffic = polars_traffic(pl.DataFrame({"day": [day_number(date(2026, 3, 5))] * 2, "minute": [3, 40],
    ...     "server_id": 1, "build_id": 7, "route": "direct", "messages": [2, 5]},
    ...     schema_overrides={"server_id": pl.Int32, "build_id": pl.Int32, "day": pl.Int32, "minute": pl.UInt8}))
    >>> segment = pl.DataFrame({"server_id": 1, "build_id": 7, "cohort": "all", "spell": 1,
    ...     "from_on": [date(2026, 3, 1)], "until_on": [date(2026, 6, 1)], "clock_at_start": 0, "running": True},
    ...     schema_overrides={"server_id": pl.Int32, "build_id": pl.Int32, "clock_at_start": pl.Int32})
    >>> march = Period(date(2026, 3, 1), date(2026, 3, 31))
    >>> stages = {"stage_starts": (0, 2), "phases": ("report", "throttle")}
    >>> policy = SimpleNamespace(window=Window.TOP, routes=["direct"], **stages)
    >>> exposure_by_server(traffic, segment, policy, march).select("server_id", "stage", "k", "messages").rows()
    [(1, 2, 3, 2), (1, 2, 40, 5)]
    """
    pieces = cut_at_stages(segments, policy)
    nothing = pl.DataFrame(
        schema={"server_id": pl.Int32, "build_id": pl.Int32, "product": pl.String, "decile": pl.Int8}
    )
    met = _subject(traffic, _bounded(pieces, nothing, period), policy)
    return _summed(_counted(met, ["server_id", "stage", "running", "k"]), EXPOSURE_BY_SERVER)


def _bounded(segments: pl.DataFrame, groups: pl.DataFrame, period: Period) -> pl.DataFrame:
    """Segments as the engines join them: days as numbers, none outside the period."""
    first, last = day_number(period.from_on), day_number(period.to_on)
    day = {
        "from_day": pl.col("from_on").cast(pl.Int32),
        "until_day": pl.col("until_on").cast(pl.Int32).fill_null(last + 1).clip(upper_bound=last + 1),
    }
    return (
        segments.with_columns(**day)
        .with_columns(starts_day=pl.col("from_day").clip(lower_bound=first))
        .filter(pl.col("starts_day") < pl.col("until_day"))
        .join(groups, on=_PAIR, how="left")
        .with_columns(running=pl.col("running").cast(pl.Int8))
        .drop("from_on", "until_on", "cohort", "spell", "phase", strict=False)
    )


def _subject(traffic: Traffic, segments: pl.DataFrame, policy: Policy) -> nw.LazyFrame[Any]:
    """Join the traffic with the segments: one row a subject hand-over, with its clock and its minute of the window."""
    minute = "minute_spread" if policy.window is Window.SPREAD else "minute"
    builds = traffic.bring(segments.select("build_id").unique())
    return (
        traffic.frame
        # Vulnerable builds are few, and stores are sorted by build: this lets an engine skip most of the traffic.
        .join(builds, on="build_id", how="semi")
        .filter(nw.col("route").is_in([str(route) for route in policy.routes]))
        .join(traffic.bring(segments), on=_PAIR, how="inner")
        .filter(nw.col("day") >= nw.col("starts_day"), nw.col("day") < nw.col("until_day"))
        .with_columns(
            k=nw.col(minute),
            clock_day=nw.col("clock_at_start") + nw.col("running") * (nw.col("day") - nw.col("from_day")),
        )
    )


def _counted(met: nw.LazyFrame[Any], keys: list[str]) -> pl.DataFrame:
    counted = met.group_by(keys).agg(nw.col("messages").sum())
    return pl.DataFrame(counted.collect(backend="polars").to_native())


def _summed(counts: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    keys = [name for name in schema if name != "messages"]
    summed = counts.group_by(keys).agg(pl.col("messages").cast(pl.Int64).sum()).sort(keys)
    return conform(summed, schema, what="exposure")
