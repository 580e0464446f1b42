"""When each server's clock runs: from the days of hand-overs to spells, and to segments of subject messages."""

from datetime import date
from typing import Final

import polars as pl

from enforcement.builds import Evidence
from enforcement.policy import Policy
from enforcement.schema import CLOCK_STARTS, HANDOVER_DAYS, SEGMENTS, SPELL_SPANS, SUBJECT_PAIRS, conform

_NEVER: Final = date(9999, 12, 31)  # stands for "still lasts" while spans are cut


def subject_pairs(pairs: pl.DataFrame, servers: pl.DataFrame, standings: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """Say for each pair of server and build which cohort takes it in and from which day its messages are subject.

    Takes pairs (server_id, build_id), SERVERS and STANDINGS; gives SUBJECT_PAIRS.

    >>> from types import SimpleNamespace
    >>> from enforcement.policy import Cohort
    >>> policy = SimpleNamespace(cohorts=[Cohort(name="all", starts_on=date(2026, 3, 1))])
    >>> servers = pl.DataFrame({"server_id": [1], "tenant": ["contoso.example"]})
    >>> table = {"build_id": [7], "product": ["Exchange Server 2016"], "vulnerable_from": [date(2026, 1, 1)]}
    >>> pairs = pl.DataFrame({"server_id": [1], "build_id": [7]})
    >>> subject_pairs(pairs, servers, pl.DataFrame(table), policy).rows()
    [(1, 7, 'all', datetime.date(2026, 3, 1))]
    """
    known = (
        pairs.select("server_id", "build_id")
        .unique()
        .join(standings.select("build_id", "product", "vulnerable_from").drop_nulls(), on="build_id")
        .join(servers.select("server_id", "tenant"), on="server_id")
    )
    takes = [
        (product, tenant, cohort.name, cohort.starts_on)
        for product, tenant in known.select("product", "tenant").unique().iter_rows()
        for cohort in policy.cohorts
        if cohort.takes(product, tenant)
    ]
    schema = {"product": pl.String, "tenant": pl.String, "cohort": pl.String, "starts_on": pl.Date}
    first_match = pl.DataFrame(takes, schema=schema, orient="row").unique(
        ["product", "tenant"], keep="first", maintain_order=True
    )
    return (
        known.join(first_match, on=["product", "tenant"])
        .select("server_id", "build_id", "cohort", subject_from=pl.max_horizontal("vulnerable_from", "starts_on"))
        .sort("server_id", "build_id")
        .pipe(conform, SUBJECT_PAIRS, what="subject pairs")
    )


def spells(
    days: pl.DataFrame, pairs: pl.DataFrame, standings: pl.DataFrame, policy: Policy, *, clock_starts: pl.DataFrame
) -> pl.DataFrame:
    """Find the spells of each server and cohort: columns server_id, cohort, spell (from 1), from_on, until_on.

    Takes HANDOVER_DAYS, the result of `subject_pairs`, STANDINGS and CLOCK_STARTS. A spell begins on the first subject
    day and ends on the first clean day that lies `clear_after_days` or more after the last one.

    >>> from types import SimpleNamespace
    >>> policy = SimpleNamespace(routes=["direct"], clear_after_days=14)
    >>> march = [date(2026, 3, day) for day in (1, 2, 20, 25)]
    >>> days = {"server_id": 1, "build_id": [7, 7, 8, 7], "day": march, "route": "direct", "messages": 1}
    >>> pairs = pl.DataFrame({"server_id": [1], "build_id": [7], "cohort": ["all"], "subject_from": [march[0]]})
    >>> table = pl.DataFrame({"build_id": [7, 8], "evidence": "exact", "vulnerable_from": [march[0], None]})
    >>> nothing = pl.DataFrame(schema=CLOCK_STARTS)
    >>> found = spells(pl.DataFrame(days), pairs, table, policy, clock_starts=nothing)
    >>> found.select("spell", "from_on", "until_on").rows()
    [(1, datetime.date(2026, 3, 1), datetime.date(2026, 3, 20)), (2, datetime.date(2026, 3, 25), None)]
    """
    # Cohorts are few and rows are many: a code compares faster than a name.
    pairs = pairs.with_columns(pl.col("cohort").cast(pl.Enum(pairs["cohort"].unique().sort())))
    days = conform(days, HANDOVER_DAYS, what="hand-over days").join(
        pairs.select("server_id").unique(), on="server_id", how="semi"
    )
    subject = days.filter(pl.col("route").is_in([str(route) for route in policy.routes])).join(
        pairs, on=["server_id", "build_id"]
    )
    messages = subject.filter(pl.col("day") >= pl.col("subject_from")).select("server_id", "cohort", "day")
    clean = (
        days.join(standings.filter(_is_known()).select("build_id", "vulnerable_from"), on="build_id")
        .filter(pl.col("vulnerable_from").is_null() | (pl.col("day") < pl.col("vulnerable_from")))
        .select("server_id", "day")
        .unique()
        .join(messages, on=["server_id", "day"], how="anti")
        .sort("day")
    )
    started = (
        conform(clock_starts, CLOCK_STARTS, what="clock starts")
        .join(pairs, on=["server_id", "build_id"])
        .filter(pl.col("first_detected_on") >= pl.col("subject_from"))
        .select("server_id", "cohort", day="first_detected_on")
    )
    clears_from = pl.col("day").dt.offset_by(f"{policy.clear_after_days}d")
    # A clean day on the subject day itself (a clock start without a message) is never "after" it.
    clears_after = pl.max_horizontal(clears_from, pl.col("day").dt.offset_by("1d"))
    of_server = ["server_id", "cohort"]
    return (
        pl.concat([messages, started])
        .unique()
        .with_columns(clears_from=clears_after)
        .sort("clears_from")
        .join_asof(
            clean.rename({"day": "cleared_on"}),
            left_on="clears_from",
            right_on="cleared_on",
            by="server_id",
            strategy="forward",
            check_sortedness=False,
        )
        .sort(*of_server, "day")
        .with_columns(cleared_before=pl.col("cleared_on").shift(1).over(of_server))
        .with_columns(
            spell=1 + (pl.col("cleared_before") < pl.col("day")).fill_null(value=False).cum_sum().over(of_server)
        )
        .group_by(*of_server, "spell")
        .agg(from_on=pl.col("day").min(), until_on=pl.col("cleared_on").sort_by("day").last())
        .with_columns(pl.col("spell").cast(pl.Int32), pl.col("cohort").cast(pl.String))
        .sort(*of_server, "spell")
    )


def spell_spans(spells: pl.DataFrame, still: pl.DataFrame) -> pl.DataFrame:
    """Cut spells where the clock stops and goes on, and count the clock at the start of each span.

    Takes the result of `spells` and STILL_SPANS, gives SPELL_SPANS.

    >>> from enforcement.schema import STILL_SPANS
    >>> spell = {"server_id": 1, "cohort": "all", "spell": 1, "from_on": [date(2026, 3, 1)], "until_on": [None]}
    >>> spell = pl.DataFrame(spell, schema_overrides={"until_on": pl.Date, "server_id": pl.Int32})
    >>> still = [(1, date(2026, 3, 10), date(2026, 3, 15))]
    >>> spans = spell_spans(spell, pl.DataFrame(still, STILL_SPANS, orient="row"))
    >>> [(from_on.day, clock, running) for from_on, clock, running in
    ...     spans.select("from_on", "clock_at_start", "running").rows()]
    [(1, 0, True), (10, 9, False), (15, 9, True)]
    """
    of_spell = ["server_id", "cohort", "spell"]
    whole = spells.with_columns(pl.col("until_on").fill_null(_NEVER))
    met = whole.join(still, on="server_id", suffix="_still")
    inside = [
        met.select(*of_spell, cut_on=column, from_on="from_on", until_on="until_on")
        for column in ("from_on_still", "until_on_still")
    ]
    cuts = pl.concat(
        [whole.select(*of_spell, cut_on="from_on", from_on="from_on", until_on="until_on"), *inside]
    ).filter((pl.col("cut_on") >= pl.col("from_on")) & (pl.col("cut_on") < pl.col("until_on")))
    length = (pl.col("until_on") - pl.col("from_on")).dt.total_days() * pl.col("running")
    return (
        cuts.unique([*of_spell, "cut_on"])
        .sort(*of_spell, "cut_on")
        .select(
            *of_spell,
            from_on="cut_on",
            until_on=pl.col("cut_on").shift(-1).over(of_spell).fill_null(pl.col("until_on")),
        )
        .sort("from_on")
        .join_asof(
            still.select("server_id", still_from="from_on", still_until="until_on").sort("still_from"),
            left_on="from_on",
            right_on="still_from",
            by="server_id",
            strategy="backward",
            check_sortedness=False,
        )
        .with_columns(running=(pl.col("from_on") >= pl.col("still_until")).fill_null(value=True))
        .sort(*of_spell, "from_on")
        .with_columns(clock_at_start=(length.cum_sum() - length).over(of_spell))
        .with_columns(pl.col("until_on").replace(_NEVER, None))
        .pipe(conform, SPELL_SPANS, what="spell spans")
    )


def lasting(spans: pl.DataFrame) -> pl.DataFrame:
    """Keep the spans of spells that have not ended, SPELL_SPANS: such a spell has a last span without an end.

    >>> spans = pl.DataFrame({"server_id": 1, "cohort": "all", "spell": [1, 2], "until_on": [date(2026, 6, 1), None]})
    >>> lasting(spans)["spell"].to_list()
    [2]
    """
    of_spell = ["server_id", "cohort", "spell"]
    return spans.join(spans.filter(pl.col("until_on").is_null()).select(of_spell), on=of_spell, how="semi")


def segments(spans: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Give for each build of a server the spans of days on which its messages are subject.

    Takes SPELL_SPANS and the result of `subject_pairs`, gives SEGMENTS. They do not depend on the stages.

    >>> span = pl.DataFrame({"server_id": 1, "cohort": "all", "spell": 1, "from_on": [date(2026, 3, 1)],
    ...     "until_on": [date(2026, 6, 1)], "clock_at_start": 0, "running": True})
    >>> pairs = pl.DataFrame({"server_id": 1, "build_id": 7, "cohort": "all", "subject_from": [date(2026, 3, 5)]})
    >>> segments(span, pairs).select("build_id", "from_on", "until_on", "clock_at_start").rows()
    [(7, datetime.date(2026, 3, 5), datetime.date(2026, 6, 1), 4)]
    """
    begins = pl.max_horizontal("from_on", "subject_from")
    skipped = (begins - pl.col("from_on")).dt.total_days() * pl.col("running")
    return (
        spans.join(pairs, on=["server_id", "cohort"])
        .with_columns(from_on=begins, clock_at_start=pl.col("clock_at_start") + skipped)
        .filter(pl.col("until_on").is_null() | (pl.col("from_on") < pl.col("until_on")))
        .sort("server_id", "build_id", "from_on")
        .pipe(conform, SEGMENTS, what="segments")
    )


def stage_minutes(policy: Policy) -> pl.DataFrame:
    """Give the minutes of each stage: columns stage (from 1), throttle, block.

    >>> from enforcement.shipped import load_policy
    >>> stage_minutes(load_policy("ninety-days")).row(-1)
    (8, 0, 60)
    """
    return pl.DataFrame(
        [(number + 1, stage.throttle, stage.block) for number, stage in enumerate(policy.stages)],
        schema={"stage": pl.Int16, "throttle": pl.Int8, "block": pl.Int8},
        orient="row",
    )


def cut_at_stages(spans: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """Cut SPELL_SPANS or SEGMENTS where the clock reaches a stage; adds `stage` (from 1) and `phase`.

    >>> span = pl.DataFrame({"server_id": 1, "cohort": "all", "spell": 1, "from_on": [date(2026, 3, 1)],
    ...     "until_on": [date(2026, 6, 1)], "clock_at_start": 0, "running": True})
    >>> from types import SimpleNamespace
    >>> policy = SimpleNamespace(stage_starts=(0, 30), phases=("report", "block all"))
    >>> cut_at_stages(span, policy).select("stage", "phase", "from_on", "clock_at_start").rows()
    [(1, 'report', datetime.date(2026, 3, 1), 0), (2, 'block all', datetime.date(2026, 3, 31), 30)]
    """
    starts = list(policy.stage_starts)
    stages = pl.DataFrame(
        {
            "stage": range(1, len(starts) + 1),
            "phase": [str(phase) for phase in policy.phases],
            "stage_from": starts,
            "stage_until": [*starts[1:], None],
        },
        schema={"stage": pl.Int16, "phase": pl.String, "stage_from": pl.Int32, "stage_until": pl.Int32},
    )
    # Where the clock stands still, a span has the one stage of its clock.
    ahead = pl.max_horizontal(pl.col("stage_from") - pl.col("clock_at_start"), 0)
    left = pl.col("stage_until") - pl.col("clock_at_start")
    is_met = (left.is_null() | (left > 0)) & (pl.col("running") | (ahead == 0))
    ends = pl.when("running").then(pl.col("from_on").dt.offset_by(pl.format("{}d", left)))
    return (
        spans.join(stages, how="cross")
        .filter(is_met)
        .with_columns(
            from_on=pl.col("from_on").dt.offset_by(pl.format("{}d", ahead)),
            until_on=pl.min_horizontal("until_on", ends),
            clock_at_start=pl.col("clock_at_start") + ahead,
        )
        .filter(pl.col("until_on").is_null() | (pl.col("from_on") < pl.col("until_on")))
        .drop("stage_from", "stage_until")
    )


def stage_entries(spans: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """Give the day on which each spell enters each stage, as far as the spell lasts and its known pauses go.

    Takes SPELL_SPANS; gives server_id, cohort, spell, stage (from 1), phase, enters_on.

    >>> span = pl.DataFrame({"server_id": 1, "cohort": "all", "spell": 1, "from_on": [date(2026, 3, 1)],
    ...     "until_on": [date(2026, 6, 1)], "clock_at_start": 0, "running": True})
    >>> from types import SimpleNamespace
    >>> policy = SimpleNamespace(stage_starts=(0, 30), phases=("report", "block all"))
    >>> stage_entries(span, policy).select("stage", "enters_on").rows()
    [(1, datetime.date(2026, 3, 1)), (2, datetime.date(2026, 3, 31))]
    """
    return (
        cut_at_stages(spans, policy)
        .group_by("server_id", "cohort", "spell", "stage", "phase")
        .agg(enters_on=pl.col("from_on").min())
        .sort("server_id", "cohort", "spell", "stage")
    )


def _is_known() -> pl.Expr:
    return ~pl.col("evidence").is_in([Evidence.UNKNOWN.value, Evidence.CLOUD.value])
