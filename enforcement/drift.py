"""Whether production decided as modelled: each logged decision, judged again as the export of its serial should."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any, Final

import polars as pl

from enforcement.builds import Evidence, Hop
from enforcement.catalogue import Catalogue
from enforcement.clock import lasting
from enforcement.course import Course
from enforcement.decision import State, Still, decide, still_on
from enforcement.export.calendar import last_day
from enforcement.export.target import Answer, Reason
from enforcement.pauses import still_reasons
from enforcement.policy import Cohort, Policy
from enforcement.received import Route
from enforcement.schema import BUILDS, SERVERS, Schema
from enforcement.standing import standings
from enforcement.verdict import Verdict

# A row: like decisions of one export on a server's build in one minute of a day.
LOGGED: Final[Schema] = {
    "policy_serial": pl.Int64,
    "server": pl.String,
    "tenant": pl.String,
    "build": pl.String,
    "day": pl.Date,
    "minute": pl.Int64,
    "verdict": pl.String,
    "reason": pl.String,
    "stage": pl.Int64,
    "decisions": pl.Int64,
    "first_at": pl.Datetime("us"),
}
# What should have been decided; null: nothing can be told (the log names no server, or there were no tables).
EXPECTED: Final[Schema] = {
    "expected_verdict": pl.String,
    "expected_reason": pl.String,
    "expected_stage": pl.Int64,
}

# Both accept a vulnerable server that no calendar names; which one it is depends on when the store came to know it.
_NO_CALENDAR: Final = (Reason.NEW_DETECTION, Reason.NO_COHORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportBasis:
    """What an export rests on: a policy, and the course of every server in the history up to `as_of`."""

    as_of: date
    policy: Policy
    catalogue: Catalogue
    servers: pl.DataFrame  # SERVERS
    way: Course

    @property
    def not_after(self) -> date:
        """The last day on which the export decides anything."""
        return last_day(self.as_of, self.policy)


def judged_again(logged: pl.DataFrame, point: ExportBasis) -> pl.DataFrame:
    """Judge decisions of one export again: LOGGED with EXPECTED and `agrees`, null where nothing can be told.

    Verdict, stage and reason must be the same.
    """
    asked = _asked(logged, point)
    known: dict[tuple[str | None, str | None, date], State | Answer] = {}
    rows: list[tuple[str | None, str | None, int | None]] = []
    for server, build, day, minute, verdict, reason in logged.select(
        "server", "build", "day", "minute", "verdict", "reason"
    ).iter_rows():
        if not point.as_of < day <= point.not_after:
            outside = Reason.EXPIRED if day > point.as_of else Reason.NOT_YET_VALID
            answer = _accepted(outside)
        elif reason == Reason.FAILURE:
            rows.append((None, None, None))
            continue
        elif reason == Reason.NOT_DIRECT:  # the log does not say whose it was; it may be so
            answer = _accepted(Reason.NOT_DIRECT)
            if verdict == Verdict.ACCEPT:
                rows.append((None, None, None))
                continue
        else:
            key = (server, build, day)
            if key not in known:
                known[key] = asked(*key)
            answer = _answered(known[key], point.policy, day, minute)
        rows.append((str(answer.verdict), str(answer.reason), answer.stage))
    expected = pl.DataFrame(rows, schema=dict(EXPECTED), orient="row")
    is_same = (
        (_class_of("reason") == _class_of("expected_reason"))
        & (pl.col("verdict") == pl.col("expected_verdict"))
        & pl.col("stage").eq_missing(pl.col("expected_stage"))
    )
    return pl.concat([logged, expected], how="horizontal").with_columns(
        agrees=pl.when(pl.col("expected_reason").is_not_null()).then(is_same)
    )


def _class_of(name: str) -> pl.Expr:
    return pl.col(name).replace(dict.fromkeys(map(str, _NO_CALENDAR), str(Reason.NEW_DETECTION)))


def _accepted(reason: Reason) -> Answer:
    return Answer(verdict=Verdict.ACCEPT, reason=reason)


def _answered(found: State | Answer, policy: Policy, day: date, minute: int) -> Answer:
    if isinstance(found, Answer):
        return found
    decision = decide(found, policy, datetime.combine(day, time(0, minute)))
    reason = Reason.STANDING_STILL if still_on(found, day) else Reason.ENFORCED
    return Answer(verdict=decision.verdict, reason=reason, stage=decision.stage)


def _asked(logged: pl.DataFrame, point: ExportBasis) -> Callable[[str | None, str | None, date], State | Answer]:
    """Gather once what is asked of every decision: what its build proves, who its server is, when its spell began."""
    policy, way = point.policy, point.way
    proven = _proven(logged, point)
    servers = point.servers.join(logged.select("server").unique(), on="server", how="semi")
    rows = {row["server"]: row for row in servers.iter_rows(named=True)}
    still: dict[int, list[Still]] = {}
    for server_id, *span in still_reasons(servers.select(*SERVERS), policy, way.granted.pauses).iter_rows():
        still.setdefault(server_id, []).append(Still(*span))
    first = lasting(way.spans).group_by("server_id", "cohort").agg(pl.col("from_on").min())
    begun = {(server_id, cohort): from_on for server_id, cohort, from_on in first.iter_rows()}
    cohorts: dict[tuple[str, str], Cohort | None] = {}

    def asked(server: str | None, build: str | None, day: date) -> State | Answer:
        known = proven.get(build) if build is not None else None
        if build is None or known is None or known["evidence"] in (Evidence.UNKNOWN, Evidence.CLOUD):
            return _accepted(Reason.UNKNOWN_BUILD)
        if known["vulnerable_from"] is None or day < known["vulnerable_from"]:
            return _accepted(Reason.NOT_VULNERABLE)
        row = rows.get(server) if server is not None else None
        if row is None:
            return _accepted(Reason.NEW_DETECTION)
        key = (row["tenant"], known["product"])
        if key not in cohorts:
            cohorts[key] = policy.cohort_for(known["product"], row["tenant"])
        cohort = cohorts[key]
        if cohort is None or day < cohort.starts_on:
            return _accepted(Reason.NO_COHORT)
        from_on = begun.get((row["server_id"], cohort.name))
        if from_on is None:
            return _accepted(Reason.NEW_DETECTION)
        return State(
            server=row["server"],
            tenant=row["tenant"],
            build=build,
            evidence=Evidence(known["evidence"]),
            product=known["product"],
            vulnerable_from=known["vulnerable_from"],
            rule=known["rule"],
            route=Route.DIRECT,
            cohort=cohort.name,
            cohort_starts_on=cohort.starts_on,
            spell_from_on=from_on,
            still=tuple(still.get(row["server_id"], ())),
            minute_offset=row["minute_offset"],
        )

    return asked


def _proven(logged: pl.DataFrame, point: ExportBasis) -> dict[str, dict[str, Any]]:
    """Say what each logged build proves: a target has it from an smtp hop."""
    names = logged["build"].drop_nulls().unique().sort().to_list()
    builds = pl.DataFrame(
        [(number, name, str(Hop.SMTP)) for number, name in enumerate(names)], schema=dict(BUILDS), orient="row"
    )
    table = standings(builds, point.catalogue, point.policy)
    return {row["build"]: row for row in table.iter_rows(named=True)}
