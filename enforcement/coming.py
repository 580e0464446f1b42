"""Where each server under enforcement stands on a day, and which stage it enters next, and when."""

from datetime import date
from typing import Final

import polars as pl

from enforcement.clock import cut_at_stages, lasting, stage_minutes
from enforcement.policy import Policy

_KEYS: Final = ["server_id", "cohort"]

# A row: a server under enforcement in a cohort on a day. `first_detected_on`: the first day of its spell. `running`:
# its clock runs that day; if not, it is paused or exempt and everything is accepted. `next_on`: the first day of the
# next stage; null: it is in the last one, or its known pauses never let the clock reach it. `resumes_on`: the first
# day on which a clock that stands still runs again.
COMING: Final = {
    "server_id": pl.Int32,
    "server": pl.String,
    "tenant": pl.String,
    "cohort": pl.String,
    "first_detected_on": pl.Date,
    "clock": pl.Int32,
    "running": pl.Boolean,
    "resumes_on": pl.Date,
    "stage": pl.Int16,
    "phase": pl.String,
    "throttle": pl.Int8,
    "block": pl.Int8,
    "next_stage": pl.Int16,
    "next_phase": pl.String,
    "next_throttle": pl.Int8,
    "next_block": pl.Int8,
    "next_on": pl.Date,
    "days_left": pl.Int32,
}


def coming(spans: pl.DataFrame, servers: pl.DataFrame, policy: Policy, *, as_of: date) -> pl.DataFrame:
    """Say where each server stands that is under enforcement on a day, and what comes next: COMING.

    Takes SPELL_SPANS of a history that ends on that day, and SERVERS. Soonest change first.

    >>> from enforcement.schema import SERVERS, SPELL_SPANS
    >>> from enforcement.shipped import load_policy
    >>> servers = pl.DataFrame([(1, "mx.t.example", "t.example", 0)], schema=SERVERS, orient="row")
    >>> spans = pl.DataFrame([(1, "all", 1, date(2026, 3, 1), None, 0, True)], schema=SPELL_SPANS, orient="row")
    >>> found = coming(spans, servers, load_policy("ninety-days"), as_of=date(2026, 5, 24))
    >>> found.select("clock", "stage", "block", "next_stage", "next_block", "next_on", "days_left").row(0)
    (84, 7, 20, 8, 60, datetime.date(2026, 5, 30), 6)
    """
    mine = lasting(spans)
    cut = cut_at_stages(mine, policy)
    is_on = (pl.col("from_on") <= as_of) & (pl.col("until_on").is_null() | (pl.col("until_on") > as_of))
    now = cut.filter(is_on).with_columns(
        clock=pl.col("clock_at_start")
        + pl.when("running").then((pl.lit(as_of) - pl.col("from_on")).dt.total_days()).otherwise(0),
        resumes_on=pl.when(~pl.col("running")).then("until_on"),
    )
    begun = mine.group_by(_KEYS).agg(first_detected_on=pl.col("from_on").min())
    later = cut.filter(pl.col("from_on") > as_of, "running").select(
        *_KEYS, next_stage="stage", next_phase="phase", next_on="from_on"
    )
    following = (
        now.select(*_KEYS, "stage")
        .join(later, on=_KEYS)
        .filter(pl.col("next_stage") > pl.col("stage"))
        .sort("next_on", "next_stage")
        .unique(_KEYS, keep="first", maintain_order=True)
        .drop("stage")
    )
    minutes = stage_minutes(policy)
    return (
        now.join(begun, on=_KEYS)
        .join(following, on=_KEYS, how="left")
        .join(minutes, on="stage")
        .join(minutes.rename({name: f"next_{name}" for name in minutes.columns}), on="next_stage", how="left")
        .join(servers.select("server_id", "server", "tenant"), on="server_id")
        .with_columns(days_left=(pl.col("next_on") - pl.lit(as_of)).dt.total_days())
        .select(pl.col(name).cast(dtype) for name, dtype in COMING.items())
        .sort("days_left", "server", "cohort", nulls_last=True)
    )
