"""What a policy would have done to a history: everything that does not depend on its stages, then the stages judged."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from enforcement import clock
from enforcement.builds import Evidence
from enforcement.catalogue import Catalogue
from enforcement.exposure import exposure, exposure_by_server
from enforcement.guardrails import judge_guardrail
from enforcement.history import History, Period
from enforcement.outcomes import COUNTS, delay_figures, judge, late_notices, server_outcomes
from enforcement.pauses import Granted, grant, still_spans
from enforcement.policy import Policy
from enforcement.schema import TRAFFIC_BASE, conform
from enforcement.standing import standings
from enforcement.verdict import Sender

NO_PRODUCT = "unknown"
CLOUD_PRODUCT = "Exchange Online"
_LOST = pl.col("rejected") + pl.col("expired")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a policy would have done to the hand-overs of a period.

    by_day: day, read, in_scope, vulnerable, subject, COUNTS, lost, accepted_vulnerable; by_group: the same by product
    and decile; by_stage: stage, phase, messages, COUNTS; delays: stage, delay_minutes, messages; tenants and servers:
    who is hit; evidence: messages read by how their build is known; untouched: messages read by why they are not
    subject; guardrails: a row each; entries: the day on which each spell enters each stage;
    unmatched: pauses and exemptions of names that the history does not know.
    """

    policy: Policy
    period: Period
    course: Course
    by_day: pl.DataFrame
    by_stage: pl.DataFrame
    by_group: pl.DataFrame
    delays: pl.DataFrame
    tenants: pl.DataFrame
    servers: pl.DataFrame
    evidence: pl.DataFrame
    untouched: pl.DataFrame
    guardrails: pl.DataFrame
    entries: pl.DataFrame
    n_spells: int
    unmatched: tuple[str, ...]

    @property
    def totals(self) -> dict[str, float]:
        """Messages of the whole period by what became of them; `retries` counts deferred tries."""
        columns = ("read", "in_scope", "vulnerable", "subject", *COUNTS, "lost", "accepted_vulnerable")
        return self.by_day.select(pl.col(columns).sum()).row(0, named=True)

    @property
    def delay_minutes(self) -> dict[str, float | None]:
        """Mean and percentiles of the delay of the delayed messages."""
        return delay_figures(self.delays)

    @property
    def delay_notices(self) -> float:
        """Messages so late that their senders were told."""
        return late_notices(self.delays)


def course(history: History, policy: Policy, background: Background) -> Course:
    """Work out the course of every server: standings, cohorts, spells, and when their clocks run."""
    table = standings(history.builds, background.catalogue, policy)
    columns = ["server_id", "build_id"]
    pairs = clock.subject_pairs(
        pl.concat([history.days.select(columns), history.clock_starts.select(columns)]), history.servers, table, policy
    )
    spells = clock.spells(history.days, pairs, table, policy, clock_starts=history.clock_starts)
    granted = grant(background.pauses, policy)
    hit = history.servers.join(spells, on="server_id", how="semi")
    spans = clock.spell_spans(spells, still_spans(hit, policy, granted.pauses))
    segments = clock.segments(spans, pairs)
    return Course(standings=table, pairs=pairs, spans=spans, segments=segments, granted=granted)


def replay(history: History, policy: Policy, background: Background, period: Period | None = None) -> Replay:
    """Replay a policy over a period of a history (default: all of it); clocks know what was before it."""
    period = period or history.period()
    way = course(history, policy, background)
    days = history.days.filter(pl.col("day").is_between(*period))
    deciles = tenant_deciles(days, history.servers)
    groups = _groups(days, history.servers, way.standings, deciles)
    base = traffic_base(days, groups, way, policy)
    exposed = exposure(history.traffic, way.segments, groups, policy, period)
    by_server = exposure_by_server(history.traffic, way.segments, policy, period)
    judged = judge(exposed, policy, background.senders)
    by_day = _beside(base, judged.by_day, exposed.by_day, ["day"])
    servers, tenants = _who_is_hit(
        days, history.servers, way, deciles, server_outcomes(by_server, policy, background.senders)
    )
    return Replay(
        policy=policy,
        period=period,
        course=way,
        by_day=by_day,
        by_stage=judged.by_stage,
        by_group=_beside(base, judged.by_group, exposed.by_group, ["product", "decile"]),
        delays=judged.delays,
        tenants=tenants,
        servers=servers,
        evidence=_evidence(days, way.standings),
        untouched=untouched(days, way, policy),
        guardrails=_guardrails(policy, by_day, tenants),
        entries=clock.stage_entries(way.spans, policy).join(
            history.servers.select("server_id", "server", "tenant"), on="server_id", maintain_order="left"
        ),
        n_spells=_spells_in(way.spans, period),
        unmatched=_unmatched(history.servers, policy, background.pauses),
    )


def tenant_deciles(days: pl.DataFrame, servers: pl.DataFrame) -> pl.DataFrame:
    """Sort tenants by messages read into ten groups of equal numbers, 1 the smallest: tenant, read, decile."""
    return (
        days.join(servers.select("server_id", "tenant"), on="server_id")
        .group_by("tenant")
        .agg(read=pl.col("messages").sum())
        .sort("read", "tenant")
        .with_columns(decile=(1 + pl.int_range(pl.len()) * 10 // pl.len()).cast(pl.Int8))
    )


def traffic_base(days: pl.DataFrame, groups: pl.DataFrame, way: Course, policy: Policy) -> pl.DataFrame:
    """Count all messages by day, product and decile, whether a policy may touch them or not: TRAFFIC_BASE."""
    is_known = pl.col("evidence").is_in([Evidence.UNKNOWN, Evidence.CLOUD]).not_()
    counted = (
        days.join(way.standings.select("build_id", "evidence", "vulnerable_from"), on="build_id")
        .join(groups, on=["server_id", "build_id"])
        .group_by("day", "product", "decile")
        .agg(
            read=pl.col("messages").sum(),
            in_scope=pl.col("messages").filter(is_known & _on_route(policy)).sum(),
            vulnerable=pl.col("messages").filter(pl.col("vulnerable_from") <= pl.col("day")).sum(),
        )
    )
    return conform(counted.sort("day", "product", "decile"), TRAFFIC_BASE, what="traffic")


def untouched(days: pl.DataFrame, way: Course, policy: Policy) -> pl.DataFrame:
    """Count the messages read by why they are not subject, in the order in which `decide` asks: why, messages."""
    why = (
        pl.when(pl.col("evidence") == Evidence.CLOUD)
        .then(pl.lit("Exchange Online itself"))
        .when(pl.col("evidence") == Evidence.UNKNOWN)
        .then(pl.lit("build not known"))
        .when((pl.col("vulnerable_from") <= pl.col("day")).fill_null(value=False).not_())
        .then(pl.lit("not vulnerable that day"))
        .when(_on_route(policy).not_())
        .then(pl.lit("route not the policy's"))
        .when(pl.col("subject_from").is_null())
        .then(pl.lit("in no cohort"))
        .when(pl.col("subject_from") > pl.col("day"))
        .then(pl.lit("cohort not started"))
        .otherwise(pl.lit("subject"))
    )
    return (
        days.join(way.standings.select("build_id", "evidence", "vulnerable_from"), on="build_id")
        .join(way.pairs, on=["server_id", "build_id"], how="left")
        .group_by(why=why)
        .agg(pl.col("messages").sum())
        .filter(pl.col("why") != "subject")
        .sort("messages", "why", descending=[True, False])
    )


def _on_route(policy: Policy) -> pl.Expr:
    return pl.col("route").is_in([str(route) for route in policy.routes])


def _groups(days: pl.DataFrame, servers: pl.DataFrame, table: pl.DataFrame, deciles: pl.DataFrame) -> pl.DataFrame:
    """Give the product and decile of each pair of server and build."""
    product = (
        pl.when(pl.col("evidence") == Evidence.CLOUD)
        .then(pl.lit(CLOUD_PRODUCT))
        .otherwise(pl.col("product").fill_null(NO_PRODUCT))
    )
    return (
        days.select("server_id", "build_id")
        .unique()
        .join(table.select("build_id", product=product), on="build_id")
        .join(servers.select("server_id", "tenant"), on="server_id")
        .join(deciles.select("tenant", "decile"), on="tenant")
        .select("server_id", "build_id", "product", "decile")
    )


def _beside(base: pl.DataFrame, judged: pl.DataFrame, exposed: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Put outcomes beside the whole traffic; what no message met is 0."""
    read = base.group_by(keys).agg(pl.col("read", "in_scope", "vulnerable").sum())
    subject = exposed.group_by(keys).agg(subject=pl.col("messages").sum())
    return (
        read.join(subject, on=keys, how="left")
        .join(judged, on=keys, how="left")
        .with_columns(pl.col("subject").fill_null(0), pl.col(*COUNTS).fill_null(0.0))
        .with_columns(lost=_LOST, accepted_vulnerable=pl.col("vulnerable") - _LOST)
        .sort(keys)
    )


def _who_is_hit(
    days: pl.DataFrame, servers: pl.DataFrame, way: Course, deciles: pl.DataFrame, hit: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give servers and tenants with what they sent and what became of it."""
    is_vulnerable = pl.col("vulnerable_from") <= pl.col("day")
    sent = (
        days.join(way.standings.select("build_id", "vulnerable_from"), on="build_id")
        .group_by("server_id")
        .agg(read=pl.col("messages").sum(), vulnerable=pl.col("messages").filter(is_vulnerable).sum())
    )
    of_server = hit.group_by("server_id").agg(
        pl.sum_horizontal(COUNTS[:-1]).sum().alias("subject"), pl.col(*COUNTS).sum()
    )
    by_server = (
        servers.select("server_id", "server", "tenant")
        .join(sent, on="server_id")
        .join(of_server, on="server_id", how="left")
        .with_columns(pl.col("subject", *COUNTS).fill_null(0.0))
    )
    by_tenant = (
        by_server.group_by("tenant")
        .agg(
            pl.col("read", "vulnerable", "subject", *COUNTS).sum(),
            n_servers=pl.len(),
            n_servers_subject=(pl.col("subject") > 0).sum(),
        )
        .join(deciles.select("tenant", "decile"), on="tenant")
    )
    harm = {"lost": _LOST, "accepted_vulnerable": pl.col("vulnerable") - _LOST}
    return (
        _hardest_hit_first(by_server.with_columns(**harm), "server"),
        _hardest_hit_first(by_tenant.with_columns(**harm), "tenant"),
    )


def _hardest_hit_first(hit: pl.DataFrame, name: str) -> pl.DataFrame:
    return hit.sort("lost", "delayed", "read", name, descending=[True, True, True, False])


def _evidence(days: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """Count the messages read by how their build is known: evidence, messages."""
    every = pl.DataFrame({"evidence": [str(evidence) for evidence in Evidence]})
    counted = (
        days.join(table.select("build_id", "evidence"), on="build_id")
        .group_by("evidence")
        .agg(pl.col("messages").sum())
    )
    return every.join(counted, on="evidence", how="left", maintain_order="left").with_columns(
        pl.col("messages").fill_null(0)
    )


def _guardrails(policy: Policy, by_day: pl.DataFrame, tenants: pl.DataFrame) -> pl.DataFrame:
    units = {
        "day": by_day.with_columns(unit=pl.col("day").dt.to_string()),
        "tenant": tenants.with_columns(unit="tenant"),
        "total": by_day.select(pl.all().exclude("day").sum()).with_columns(unit=pl.lit("total")),
    }
    rows = []
    for guardrail in policy.guardrails:
        harm, _, base = str(guardrail.measure).partition("_share_of_")
        of_base = {"mail": "read", "subject": "subject"}[base]
        measured = units[str(guardrail.per)].select(
            "unit", base=pl.col(of_base).cast(pl.Float64), harm=_part_of(base, harm)
        )
        rows.append(judge_guardrail(guardrail, measured))
    schema = {
        "measure": pl.String, "per": pl.String, "at_most": pl.Float64, "state": pl.String, "worst_unit": pl.String,
        "worst_share": pl.Float64, "n_units": pl.Int64, "n_judged": pl.Int64, "n_exceeded": pl.Int64,
        "unjudged_share": pl.Float64,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema)


def _part_of(base: str, measure: str) -> pl.Expr:
    """Give a measure's messages within a base: of the subject mail, only subject messages count."""
    if base == "subject" and measure == "accepted_vulnerable":
        return pl.col("at_once") + pl.col("delayed")
    return pl.col(measure)


def _unmatched(servers: pl.DataFrame, policy: Policy, pauses: pl.DataFrame) -> tuple[str, ...]:
    """Name the tenants and servers that are to be spared but that nobody has seen: a slip of the pen, perhaps."""
    tenants, names = set(servers["tenant"]), set(servers["server"])
    spared = [("pause", tenant, tenants) for tenant in pauses["tenant"].unique().sort()]
    spared += [("exemption", exempt.tenant, tenants) for exempt in policy.exemptions if exempt.tenant]
    spared += [("exemption", exempt.server, names) for exempt in policy.exemptions if exempt.server]
    return tuple(f"{what} of {name}: the history has no such name" for what, name, known in spared if name not in known)


def _spells_in(spans: pl.DataFrame, period: Period) -> int:
    meets = (pl.col("from_on") <= period.to_on) & (pl.col("until_on").is_null() | (pl.col("until_on") > period.from_on))
    return spans.filter(meets).select("server_id", "cohort", "spell").n_unique()
