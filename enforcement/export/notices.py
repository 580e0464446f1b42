"""The notices of an export: texts to all and to each tenant, the list to mail them by, and what must go out when."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import polars as pl

from enforcement.builds import Build
from enforcement.catalogue import Catalogue
from enforcement.course import Course
from enforcement.export.letters import as_html, as_markdown
from enforcement.export.notice_plan import Plan, notice_calendar, to_send
from enforcement.export.notice_texts import ServerTold, Step, TenantTold, Timeline, general, to_tenant
from enforcement.history import History
from enforcement.names import file_name
from enforcement.pauses import pause_days
from enforcement.policy import Policy
from enforcement.remedies import Remedy, recommended, remedies
from enforcement.spreadsheet import safe_csv

FOLDER: Final = "notices"
_TENANTS: Final = f"{FOLDER}/tenants"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the texts rest on: the fleet's history and course, the calendar of the plan's day, and the catalogue."""

    history: History
    way: Course
    calendar: pl.DataFrame
    catalogue: Catalogue


def notice_files(known: Known, planned: Plan, sent: pl.DataFrame | None = None) -> dict[str, bytes]:
    """Write all notices of a plan's day, file name → content; the same inputs give the same bytes.

    `sent` is the ledger of notices that went out; without one, only what is due on that very day is to be sent.
    """
    policy, notice, as_of = planned.policy, planned.notice, planned.as_of
    todo = to_send(planned, sent)
    due_of: dict[str, list[str]] = {}
    for name, tenant in todo.select("notice", "tenant").unique(maintain_order=True).iter_rows():
        due_of.setdefault(tenant, []).append(name)
    files: dict[str, str] = {}
    blocks = general(policy, notice, as_of=as_of)
    files[f"{FOLDER}/general.md"] = as_markdown(blocks)
    files[f"{FOLDER}/general.html"] = as_html(blocks, title=f"Notice of {as_of}")
    merge = []
    for told in tenants_told(known, planned):
        name = file_name(told.tenant)
        blocks = to_tenant(told, policy, notice)
        files[f"{_TENANTS}/{name}.md"] = as_markdown(blocks)
        files[f"{_TENANTS}/{name}.html"] = as_html(blocks, title=f"Exchange servers of {told.tenant}")
        merge.append(_merged(told, policy, name, "; ".join(due_of.get(told.tenant, ()))))
    files[f"{FOLDER}/merge.csv"] = safe_csv(pl.DataFrame(merge, schema=MERGE, orient="row"))
    table = notice_calendar(planned, sent, n_tenants=known.history.servers["tenant"].n_unique())
    files[f"{FOLDER}/calendar.csv"] = safe_csv(table)
    files[f"{FOLDER}/recipients.csv"] = safe_csv(planned.due.filter(pl.col("tenant") != "").drop("not_before"))
    files[f"{FOLDER}/to-send.csv"] = safe_csv(todo)
    return {name: text.encode() for name, text in sorted(files.items())}


MERGE: Final = {
    "tenant": pl.String,
    "due": pl.String,  # which notices are to be sent today, if any
    "markdown": pl.String,
    "html": pl.String,
    "servers": pl.Int64,
    "server_names": pl.String,
    "next_stage": pl.Int64,
    "next_stage_on": pl.Date,
    "mail_delayed_from": pl.Date,
    "mail_refused_from": pl.Date,
    "pause_days_left": pl.Int64,
}


def tenants_told(known: Known, planned: Plan) -> Iterator[TenantTold]:
    """Gather what each tenant is told that has an unremediated server of a cohort whose notices have begun."""
    rows = _servers_told(known, planned)
    steps = _steps(known.calendar, rows, planned.policy)
    granted = pause_days(known.way.granted.pauses, planned.as_of.year)
    cache = _Cache(known.catalogue, planned.policy, planned.as_of)
    starts = {cohort.name: cohort.starts_on for cohort in planned.policy.cohorts}
    quota = planned.policy.pause.days_per_year if planned.policy.pause else 0
    for (tenant,), of in rows.group_by("tenant", maintain_order=True):
        groups: dict[tuple[str, tuple[Step, ...]], list[str]] = {}
        servers: dict[tuple[str, str], ServerTold] = {}
        for row in of.iter_rows(named=True):
            key = (row["cohort"], steps.get((row["server"], row["cohort"]), ()))
            if row["server"] not in groups.setdefault(key, []):
                groups[key].append(row["server"])
            servers[row["server"], row["build"]] = cache.server(row)
        yield TenantTold(
            tenant=str(tenant),
            as_of=planned.as_of,
            servers=list(servers.values()),
            timelines=[
                Timeline(cohort=cohort, starts_on=starts[cohort], servers=names, steps=course)
                for (cohort, course), names in groups.items()
            ],
            pause_days=quota,
            pause_days_granted=granted.get(str(tenant), 0),
        )


class _Cache:
    """What is the same for all servers with one build, worked out once."""

    def __init__(self, catalogue: Catalogue, policy: Policy, on: date) -> None:
        self._catalogue = catalogue
        self._known = remedies(catalogue, policy, on)
        self._of: dict[str, tuple[Remedy, ...]] = {}

    def server(self, row: Mapping[str, Any]) -> ServerTold:
        build = row["build"]
        if build not in self._of:
            self._of[build] = recommended(Build.parse(build), self._catalogue, self._known)
        return ServerTold(
            server=row["server"],
            build=build,
            product=row["product"],
            proves=row["update"],
            rule=row["rule"],
            vulnerable_from=row["vulnerable_from"],
            last_seen_on=row["shown_on"],
            remedies=self._of[build],
        )


def _servers_told(known: Known, planned: Plan) -> pl.DataFrame:
    """Give a row each server, build and cohort that somebody is told of; a build seen on two kinds of hop once."""
    return (
        planned.told.join(known.way.standings, on="build_id")
        .join(known.history.servers.select("server_id", "server", "tenant"), on="server_id")
        .sort("tenant", "server", "build", "cohort", "vulnerable_from")
        .unique(["server", "build", "cohort"], keep="first", maintain_order=True)
    )


def _steps(calendar: pl.DataFrame, rows: pl.DataFrame, policy: Policy) -> dict[tuple[str, str], tuple[Step, ...]]:
    """Give the coming course of each server and cohort; what has begun before is "now"."""
    mine = calendar.join(rows.select("server", "cohort").unique(), on=["server", "cohort"], how="semi")
    found: dict[tuple[str, str], list[Step]] = {}
    for server, cohort, from_on, until_on, stage, running, clock, begins in mine.select(
        "server", "cohort", "from_on", "until_on", "stage", "running", "clock_at_start",
        pl.col("from_on").min().over("server", "cohort").alias("begins"),
    ).iter_rows():  # fmt: skip
        is_now = from_on == begins and not (running and clock == policy.stage_starts[stage - 1])
        found.setdefault((server, cohort), []).append(
            Step(from_on=from_on, until_on=until_on, stage=stage, running=running, is_now=is_now)
        )
    return {key: tuple(steps) for key, steps in found.items()}


def _merged(told: TenantTold, policy: Policy, name: str, due: str) -> tuple[object, ...]:
    """Give a tenant's row of the list to mail by."""
    running = sorted(
        ((step.from_on, step) for timeline in told.timelines for step in timeline.steps if step.running),
        key=lambda each: each[0],
    )
    coming = [(day, step.stage) for day, step in running if not step.is_now]
    delayed = [day for day, step in running if policy.stages[step.stage - 1].throttle]
    refused = [day for day, step in running if policy.stages[step.stage - 1].block]
    names = sorted({each.server for each in told.servers})
    return (
        told.tenant, due, f"tenants/{name}.md", f"tenants/{name}.html", len(names), " ".join(names),
        coming[0][1] if coming else None, coming[0][0] if coming else None, min(delayed, default=None),
        min(refused, default=None), told.pause_days - told.pause_days_granted,
    )  # fmt: skip
