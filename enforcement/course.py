"""The course of every server under a policy: what its builds prove, who takes it in, when its clock runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import narwhals as nw
import polars as pl

from enforcement import clock
from enforcement.catalogue import Catalogue
from enforcement.history import History, Period
from enforcement.pauses import Granted, grant, still_spans
from enforcement.policy import Policy
from enforcement.schema import HANDOVER_DAYS, conform
from enforcement.standing import standings
from enforcement.verdict import Sender

_PAIR = ["server_id", "build_id"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """What is the same for all policies compared: the catalogue, the senders, and PAUSES as tenants asked for them."""

    catalogue: Catalogue
    senders: Sequence[Sender]
    pauses: pl.DataFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The course of every server under a policy's rules, cohorts and pauses, whatever its stages.

    standings: STANDINGS; pairs: server_id, build_id, cohort, subject_from; spans: SPELL_SPANS; segments: SEGMENTS.
    """

    standings: pl.DataFrame
    pairs: pl.DataFrame
    spans: pl.DataFrame
    segments: pl.DataFrame
    granted: Granted

    def n_spells(self, period: Period) -> int:
        """Count the spells with a day in a period."""
        goes_on = pl.col("until_on").is_null() | (pl.col("until_on") > period.from_on)
        meets = (pl.col("from_on") <= period.to_on) & goes_on
        return self.spans.filter(meets).select("server_id", "cohort", "spell").n_unique()


def course(history: History, policy: Policy, background: Background) -> Course:
    """Work out the course of every server: standings, cohorts, spells, and when their clocks run."""
    traffic = history.traffic
    table = standings(history.builds, background.catalogue, policy)
    handed = traffic.collected(traffic.days.group_by(_PAIR).agg(nw.len()))
    every = pl.concat([handed.select(pl.col(_PAIR).cast(pl.Int32)), history.clock_starts.select(_PAIR)])
    pairs = clock.subject_pairs(every, history.servers, table, policy)
    # A pair that is subject only later than anything known has no spell yet, and its server none to end.
    begun = pairs.filter(pl.col("subject_from") <= _last_on(history))
    touched = traffic.bring(begun.select("server_id").unique())
    days = traffic.collected(traffic.days.join(touched, on="server_id", how="semi"))
    days = conform(days.with_columns(pl.col("day").cast(pl.Int32)), HANDOVER_DAYS, what="hand-overs")
    spells = clock.spells(days, pairs, table, policy, clock_starts=history.clock_starts)
    granted = grant(background.pauses, policy)
    hit = history.servers.join(spells, on="server_id", how="semi")
    spans = clock.spell_spans(spells, still_spans(hit, policy, granted.pauses))
    return Course(standings=table, pairs=pairs, spans=spans, segments=clock.segments(spans, pairs), granted=granted)


def _last_on(history: History) -> date:
    """Give the last day that is known of anything."""
    started = history.clock_starts["first_detected_on"].max()
    days = [day for day in (history.last_on, started) if isinstance(day, date)]
    return max(days, default=date.min)
