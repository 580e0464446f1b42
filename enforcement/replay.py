"""What a policy would have done to a history: what its stages make of the mail exposed to them."""

from dataclasses import dataclass
from typing import Final

import polars as pl

from enforcement import clock, volume
from enforcement.course import Background, Course
from enforcement.exposed import Exposed, expose
from enforcement.exposure import exposure_by_server
from enforcement.fates import COUNTS
from enforcement.guardrails import judge_guardrail
from enforcement.history import History, Period
from enforcement.outcomes import Judge, delay_figures, late_notices, server_outcomes
from enforcement.policy import Policy

_LOST = pl.col("rejected") + pl.col("expired")
OVER_A_TENTH_LOST: Final = pl.col("lost") > 0.1 * pl.col("read")  # of a tenant's or server's mail


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a policy would have done to the hand-overs of a period.

    by_day: day, read, in_scope, vulnerable, subject, COUNTS, lost, accepted_vulnerable; by_group: the same by product
    and decile; by_stage: stage, phase, messages, COUNTS; delays: stage, delay_minutes, messages; tenants and servers:
    who is hit; server_stages: server, tenant, stage, phase, COUNTS; evidence: messages read by how their build is
    known; untouched: messages read by why they are not subject; guardrails: a row each; entries: the day on which each
    spell enters each stage; risk_by: the policy whose rules say what is vulnerable in them; unmatched: pauses and
    exemptions of names that the history does not know.
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
    server_stages: pl.DataFrame
    evidence: pl.DataFrame
    untouched: pl.DataFrame
    guardrails: pl.DataFrame
    entries: pl.DataFrame
    n_spells: int
    risk_by: str
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


def replay(
    history: History,
    policy: Policy,
    background: Background,
    period: Period | None = None,
    *,
    risk_by: Policy | None = None,
) -> Replay:
    """Replay a policy over a period of a history (default: all of it); clocks know what was before it.

    What is at risk goes by the rules of `risk_by` (default: the policy's own).
    """
    exposed = expose(history, policy, background, period, risk_by=risk_by)
    by_server = exposure_by_server(history.traffic, exposed.course.segments, exposed.risk, policy, exposed.period)
    return replayed(history, policy, background, exposed, by_server, risk_by=risk_by)


def replayed(  # noqa: PLR0913 - what a replay rests on
    history: History,
    policy: Policy,
    background: Background,
    exposed: Exposed,
    by_server: pl.DataFrame,
    *,
    risk_by: Policy | None = None,
) -> Replay:
    """Replay a policy on what is exposed to it, and EXPOSURE_BY_SERVER; the traffic is not read."""
    way, period = exposed.course, exposed.period
    judged = Judge(exposed.exposure, background.senders).judge(policy).outcomes()
    by_day = _beside(exposed.base, judged.by_day, exposed.exposure.by_day.by_unit(), ["day"])
    hit = server_outcomes(by_server, policy, background.senders)
    servers, tenants = _who_is_hit(exposed, history.servers, hit)
    return Replay(
        policy=policy,
        period=period,
        course=way,
        by_day=by_day,
        by_stage=judged.by_stage,
        by_group=_beside(exposed.base, judged.by_group, exposed.exposure.by_group.by_unit(), ["product", "decile"]),
        delays=judged.delays,
        tenants=tenants,
        servers=servers,
        server_stages=_server_stages(hit, history.servers, policy),
        evidence=volume.evidence(exposed.kinds, way.standings),
        untouched=volume.untouched(exposed.kinds, way.standings, policy),
        guardrails=judged_guardrails(policy, by_day, tenants),
        entries=clock.stage_entries(way.spans, policy).join(
            history.servers.select("server_id", "server", "tenant"), on="server_id", maintain_order="left"
        ),
        n_spells=way.n_spells(period),
        risk_by=(risk_by or policy).name,
        unmatched=unmatched(history.servers, policy, background.pauses),
    )


def _beside(base: pl.DataFrame, judged: pl.DataFrame, exposed: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Put outcomes beside the whole traffic; what no message met is 0."""
    read = base.group_by(keys).agg(pl.col("read", "in_scope", "vulnerable").sum())
    return (
        read.join(exposed.group_by(keys).agg(subject=pl.col("messages").sum()), on=keys, how="left")
        .join(judged, on=keys, how="left")
        .with_columns(pl.col("subject").fill_null(0), pl.col(*COUNTS, "lost_at_risk").fill_null(0.0))
        .with_columns(lost=_LOST, accepted_vulnerable=pl.col("vulnerable") - pl.col("lost_at_risk"))
        .sort(keys)
    )


def _who_is_hit(exposed: Exposed, servers: pl.DataFrame, hit: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give servers and tenants with what they sent and what became of it."""
    sent = exposed.mail.group_by("server_id").agg(pl.col("read", "vulnerable").sum())
    of_server = hit.group_by("server_id").agg(
        pl.sum_horizontal(COUNTS[:-1]).sum().alias("subject"),
        pl.col(*COUNTS).sum(),
        lost_at_risk=_LOST.filter(pl.col("at_risk")).sum(),
    )
    by_server = (
        servers.select("server_id", "server", "tenant")
        .join(sent, on="server_id")
        .join(of_server, on="server_id", how="left")
        .with_columns(pl.col("subject", *COUNTS, "lost_at_risk").fill_null(0.0))
    )
    by_tenant = (
        by_server.group_by("tenant")
        .agg(
            pl.col("read", "vulnerable", "subject", *COUNTS, "lost_at_risk").sum(),
            n_servers=pl.len(),
            n_servers_subject=(pl.col("subject") > 0).sum(),
        )
        .join(exposed.deciles.select("tenant", "decile"), on="tenant")
    )
    harm = {"lost": _LOST, "accepted_vulnerable": pl.col("vulnerable") - pl.col("lost_at_risk")}
    return (
        _hardest_hit_first(by_server.with_columns(**harm), "server"),
        _hardest_hit_first(by_tenant.with_columns(**harm), "tenant"),
    )


def _server_stages(hit: pl.DataFrame, servers: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """Give what became of each server's subject messages in each stage."""
    phases = pl.Series([str(phase) for phase in policy.phases])
    by_stage = hit.group_by("server_id", "stage").agg(pl.col(*COUNTS).sum())
    return (
        by_stage.join(servers.select("server_id", "server", "tenant"), on="server_id", maintain_order="left")
        .with_columns(phase=phases[by_stage["stage"] - 1])
        .select("server", "tenant", "stage", "phase", *COUNTS)
        .sort("server", "stage")
    )


def _hardest_hit_first(hit: pl.DataFrame, name: str) -> pl.DataFrame:
    return hit.sort("lost", "delayed", "read", name, descending=[True, True, True, False])


def judged_guardrails(policy: Policy, by_day: pl.DataFrame, tenants: pl.DataFrame | None) -> pl.DataFrame:
    """Judge a policy's guardrails, a row each, on outcomes by day and tenant; without tenants, those that need none."""
    units = {
        "day": by_day.with_columns(unit=pl.col("day").dt.to_string()),
        "total": by_day.select(pl.all().exclude("day").sum()).with_columns(unit=pl.lit("total")),
    }
    if tenants is not None:
        units["tenant"] = tenants.with_columns(unit="tenant")
    rows = []
    for guardrail in policy.guardrails:
        if str(guardrail.per) not in units:
            continue
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


def unmatched(servers: pl.DataFrame, policy: Policy, pauses: pl.DataFrame) -> tuple[str, ...]:
    """Name the tenants and servers that are to be spared but that nobody has seen: a slip of the pen, perhaps.

    >>> from datetime import date
    >>> from enforcement.schema import PAUSES, SERVERS
    >>> from enforcement.shipped import load_policy
    >>> asked = pl.DataFrame([("contosso.example", date(2026, 9, 1), 5)], schema=PAUSES, orient="row")
    >>> unmatched(pl.DataFrame(schema=SERVERS), load_policy("ninety-days"), asked)
    ('pause of contosso.example: the history has no such name',)
    """
    tenants, names = set(servers["tenant"]), set(servers["server"])
    spared = [("pause", tenant, tenants) for tenant in pauses["tenant"].unique().sort()]
    spared += [("exemption", exempt.tenant, tenants) for exempt in policy.exemptions if exempt.tenant]
    spared += [("exemption", exempt.server, names) for exempt in policy.exemptions if exempt.server]
    return tuple(f"{what} of {name}: the history has no such name" for what, name, known in spared if name not in known)
