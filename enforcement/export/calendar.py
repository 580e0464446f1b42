"""Each server's coming stages: what the mail servers look up."""

from datetime import date, timedelta

import polars as pl

from enforcement.clock import cut_at_stages, lasting, stage_minutes
from enforcement.policy import Policy


def last_day(as_of: date, policy: Policy) -> date:
    """Give the last day on which an export of a day decides anything.

    >>> from enforcement.shipped import load_policy
    >>> last_day(date(2026, 5, 24), load_policy("ninety-days"))
    datetime.date(2026, 6, 7)
    """
    return as_of + timedelta(days=policy.export.valid_days)


def calendar(spans: pl.DataFrame, servers: pl.DataFrame, policy: Policy, *, as_of: date) -> pl.DataFrame:
    """List what each server under enforcement meets from the day after `as_of` on, a row each span of one stage.

    Takes SPELL_SPANS of a history that ends on `as_of`, and SERVERS. Columns: server, tenant, cohort, minute_offset,
    from_on, until_on (the first day no longer in it; empty: no end), stage, phase, throttle, block, running (false:
    paused or exempt, everything is accepted), clock_at_start.

    >>> from datetime import date
    >>> from enforcement.schema import SERVERS, SPELL_SPANS
    >>> from enforcement.shipped import load_policy
    >>> servers = pl.DataFrame([(1, "mx.t.example", "t.example", 0)], schema=SERVERS, orient="row")
    >>> spans = pl.DataFrame([(1, "all", 1, date(2026, 3, 1), None, 0, True)], schema=SPELL_SPANS, orient="row")
    >>> coming = calendar(spans, servers, load_policy("ninety-days"), as_of=date(2026, 5, 24))
    >>> coming.select("stage", "from_on", "throttle", "block").rows()
    [(7, datetime.date(2026, 5, 25), 30, 20), (8, datetime.date(2026, 5, 30), 0, 60)]
    """
    stages = stage_minutes(policy)
    tomorrow = pl.lit(as_of).dt.offset_by("1d")
    skipped = pl.max_horizontal((tomorrow - pl.col("from_on")).dt.total_days(), 0) * pl.col("running")
    return (
        cut_at_stages(lasting(spans), policy)
        .filter(pl.col("until_on").is_null() | (pl.col("until_on") > tomorrow))
        .with_columns(
            from_on=pl.max_horizontal("from_on", tomorrow),
            clock_at_start=pl.col("clock_at_start") + skipped,
        )
        .join(stages, on="stage")
        .join(servers.select("server_id", "server", "tenant", "minute_offset"), on="server_id")
        .select(
            "server", "tenant", "cohort", "minute_offset", "from_on", "until_on", "stage", "phase", "throttle", "block",
            "running", pl.col("clock_at_start").cast(pl.Int32),
        )
        .sort("server", "cohort", "from_on")
    )  # fmt: skip
