"""What a policy's rules, cohorts and pauses make of a history: all that does not depend on its stages."""

from dataclasses import dataclass

import polars as pl

from enforcement import volume
from enforcement.course import Background, Course, course
from enforcement.exposure import Exposure, exposure
from enforcement.history import History, Period
from enforcement.policy import Policy
from enforcement.schema import RISK, conform
from enforcement.standing import standings


@dataclass(frozen=True, kw_only=True)
class Exposed:
    """A history under a policy's rules, cohorts, window and pauses; every schedule of stages is judged on it.

    risk: RISK, by the rules that measure the risk left; mail: MAIL_BY_PAIR and base: TRAFFIC_BASE, whose `vulnerable`
    is by them too; kinds: MAIL_BY_KIND; deciles: TENANT_DECILES.
    """

    period: Period
    course: Course
    risk: pl.DataFrame
    mail: pl.DataFrame
    kinds: pl.DataFrame
    base: pl.DataFrame
    deciles: pl.DataFrame
    exposure: Exposure


def expose(
    history: History,
    policy: Policy,
    background: Background,
    period: Period | None = None,
    *,
    risk_by: Policy | None = None,
) -> Exposed:
    """Read a period of a history (default: all of it) once; clocks know what was before it.

    What is at risk goes by the rules of `risk_by` (default: the policy's own), so that policies can be compared.
    """
    period = period or history.period()
    if history.to_on is not None and period.to_on > history.to_on:
        raise ValueError(
            f"the history ends on {history.to_on}, where it was cut, and the period on {period.to_on}"
            " (open the history up to the period's last day)"
        )
    way = course(history, policy, background)
    rules = way.standings if risk_by is None else standings(history.builds, background.catalogue, risk_by)
    risk = conform(rules.rename({"vulnerable_from": "risk_from"}), RISK, what="risk")
    mail = volume.mail_by_pair(history.traffic, risk, period)
    deciles = volume.tenant_deciles(mail, history.servers)
    of_server = history.servers.join(deciles, on="tenant").select("server_id", "decile")
    kinds = volume.mail_by_kind(history.traffic, of_server, way.pairs, period)
    groups = (
        mail.join(way.standings, on="build_id")
        .join(risk, on="build_id")
        .join(of_server, on="server_id")
        .select("server_id", "build_id", volume.product_shown(), "decile", "risk_from")
    )
    return Exposed(
        period=period,
        course=way,
        risk=risk,
        mail=mail,
        kinds=kinds,
        base=volume.traffic_base(kinds, way.standings, risk, policy),
        deciles=deciles,
        exposure=exposure(history.traffic, way.segments, groups, policy, period),
    )
