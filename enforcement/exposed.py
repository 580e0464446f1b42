"""What a policy's rules, cohorts and pauses make of a history: all that does not depend on its stages."""

from dataclasses import dataclass

import polars as pl

from enforcement import volume
from enforcement.course import Background, Course, course
from enforcement.exposure import Exposure, exposure
from enforcement.history import History, Period
from enforcement.policy import Policy


@dataclass(frozen=True, kw_only=True)
class Exposed:
    """A history under a policy's rules, cohorts, window and pauses; every schedule of stages is judged on it.

    mail: MAIL_BY_PAIR; kinds: MAIL_BY_KIND; base: TRAFFIC_BASE; deciles: tenant, read, decile.
    """

    period: Period
    course: Course
    mail: pl.DataFrame
    kinds: pl.DataFrame
    base: pl.DataFrame
    deciles: pl.DataFrame
    exposure: Exposure


def expose(history: History, policy: Policy, background: Background, period: Period | None = None) -> Exposed:
    """Read a period of a history (default: all of it) once; clocks know what was before it."""
    period = period or history.period()
    way = course(history, policy, background)
    mail = volume.mail_by_pair(history.traffic, way.standings, period)
    deciles = volume.tenant_deciles(mail, history.servers)
    of_server = history.servers.join(deciles, on="tenant").select("server_id", "decile")
    kinds = volume.mail_by_kind(history.traffic, of_server, way.pairs, period)
    groups = (
        mail.join(way.standings, on="build_id")
        .join(of_server, on="server_id")
        .select("server_id", "build_id", volume.product_shown(), "decile")
    )
    return Exposed(
        period=period,
        course=way,
        mail=mail,
        kinds=kinds,
        base=volume.traffic_base(kinds, way.standings, policy),
        deciles=deciles,
        exposure=exposure(history.traffic, way.segments, groups, policy, period),
    )
