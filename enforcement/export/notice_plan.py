"""What must go out when: the notices that a policy asks for, those sent, and what may not come before them."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, NamedTuple

import polars as pl

from enforcement.clock import lasting
from enforcement.course import Course
from enforcement.export.recipients import first_days, on_day, unremediated
from enforcement.history import History
from enforcement.names import shown, tenant_name
from enforcement.policy import Notice, Policy

GENERAL: Final = "general"
TARGETED: Final = "targeted"
_NOTICE = re.compile(r"general|targeted|stage [1-9][0-9]{0,2}", re.ASCII)
_COLUMNS: Final = ("notice", "cohort", "tenant", "sent_on")

# A row: a notice that went out; `tenant` is empty for one to all.
SENT: Final = {"notice": pl.String, "cohort": pl.String, "tenant": pl.String, "sent_on": pl.Date}
# A row: a notice that a tenant (empty: all) has to be sent, on which day, and what comes on which day because of it;
# one that was sent before `not_before` was of something else.
DUE: Final = {
    "notice": pl.String,
    "cohort": pl.String,
    "tenant": pl.String,
    "must_go_out_on": pl.Date,
    "because": pl.String,
    "comes_on": pl.Date,
    "not_before": pl.Date,
}
_OF_NOTICE: Final = ["notice", "cohort", "tenant"]
_EVER: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The notices of a policy as known on a day.

    due: DUE; told: the servers to be told of on that day: server_id, build_id, cohort, shown_on; entries: server,
    tenant, cohort, stage, comes_on, spell_from_on of each coming stage; hits: tenant, cohort, first_on:
    when mail is next touched; first: tenant, cohort, first_on: when each is to be sent its targeted notice.
    """

    policy: Policy
    notice: Notice
    as_of: date
    due: pl.DataFrame
    told: pl.DataFrame
    entries: pl.DataFrame
    hits: pl.DataFrame
    first: pl.DataFrame


class Judged(NamedTuple):
    """What forbids an export, and what it relies on: a line each."""

    refusals: list[str]
    assumed: list[str]


def plan(history: History, way: Course, policy: Policy, calendar: pl.DataFrame, *, as_of: date) -> Plan | None:
    """Plan the notices that a policy asks for; None: it asks for none. Takes the calendar of the same day.

    The general notice goes out `general_days_before` before each cohort's start; the targeted one
    `targeted_days_before` before it or, later, on the first day on which the tenant has an unremediated server of the
    cohort; a stage's, if there is one, `stage_days_before` before it, but not before the server's spell.
    """
    notice = policy.notice
    if notice is None:
        return None
    spans = unremediated(history, way, policy, as_of=as_of)
    opens = _cohorts(policy).with_columns(
        not_before=pl.col("starts_on").dt.offset_by(f"-{notice.targeted_days_before}d")
    )
    first = first_days(spans, history.servers, opens.select("cohort", "not_before"))
    told = on_day(spans, as_of).join(opens.filter(pl.col("not_before") <= as_of), on="cohort", how="semi")
    entries = _entries(calendar, way, history, policy)
    touched = calendar.filter(_touches() & pl.col("running"))
    return Plan(
        policy=policy,
        notice=notice,
        as_of=as_of,
        due=pl.concat([_general(policy, notice), _targeted(first, opens), _of_stages(entries, notice)]).sort(
            "must_go_out_on", "notice", "cohort", "tenant", "comes_on"
        ),
        told=told.sort("server_id", "build_id", "cohort"),
        entries=entries,
        hits=touched.group_by("tenant", "cohort").agg(first_on=pl.col("from_on").min()).sort("tenant", "cohort"),
        first=first,
    )


def _cohorts(policy: Policy) -> pl.DataFrame:
    rows = [(cohort.name, cohort.starts_on) for cohort in policy.cohorts]
    return pl.DataFrame(rows, schema={"cohort": pl.String, "starts_on": pl.Date}, orient="row")


def _touches() -> pl.Expr:
    return (pl.col("throttle") + pl.col("block")) > 0


def _general(policy: Policy, notice: Notice) -> pl.DataFrame:
    before = timedelta(days=notice.general_days_before)
    rows = [
        (GENERAL, cohort.name, "", cohort.starts_on - before, "cohort start", cohort.starts_on, _EVER)
        for cohort in policy.cohorts
    ]
    return pl.DataFrame(rows, schema=DUE, orient="row")


def _targeted(first: pl.DataFrame, cohorts: pl.DataFrame) -> pl.DataFrame:
    return first.join(cohorts, on="cohort").select(
        pl.lit(TARGETED).alias("notice"), "cohort", "tenant", must_go_out_on="first_on",
        because=pl.lit("cohort start"), comes_on="starts_on", not_before=pl.lit(_EVER),
    )  # fmt: skip


def _entries(calendar: pl.DataFrame, way: Course, history: History, policy: Policy) -> pl.DataFrame:
    """Give the day on which each server enters each coming stage, and the first day of its spell.

    The first stage comes with the spell: there is nothing to tell beforehand, unless it touches mail.
    """
    starts = pl.DataFrame(
        {"stage": range(1, len(policy.stage_starts) + 1), "starts_at": policy.stage_starts},
        schema={"stage": pl.Int16, "starts_at": pl.Int32},
    )
    begun = (
        lasting(way.spans)
        .group_by("server_id", "cohort")
        .agg(spell_from_on=pl.col("from_on").min())
        .join(history.servers.select("server_id", "server"), on="server_id")
    )
    return (
        calendar.join(starts, on="stage")
        .filter(pl.col("running") & (pl.col("clock_at_start") == pl.col("starts_at")))
        .filter((pl.col("stage") > 1) | _touches())
        .join(begun, on=["server", "cohort"])
        .select(
            "server", "tenant", "cohort", "stage", "phase", comes_on="from_on", spell_from_on="spell_from_on",
            touches=_touches(),
        )
        .sort("tenant", "cohort", "comes_on", "stage", "server")
    )  # fmt: skip


def _of_stages(entries: pl.DataFrame, notice: Notice) -> pl.DataFrame:
    if not notice.stage_days_before:
        return pl.DataFrame(schema=DUE)
    planned = pl.col("comes_on").dt.offset_by(f"-{notice.stage_days_before}d")
    return entries.select(
        pl.format("stage {}", "stage").alias("notice"), "cohort", "tenant",
        must_go_out_on=pl.max_horizontal(planned, "spell_from_on"),
        because=pl.format("stage {} ({})", "stage", "phase"), comes_on="comes_on", not_before="spell_from_on",
    ).unique()  # fmt: skip


# --- what was sent ------------------------------------------------------------------------------------------------


def read_sent(text: str, *, source: str) -> pl.DataFrame:
    r"""Read the ledger of notices sent, CSV `notice,cohort,tenant,sent_on`, as SENT; errors name file and line.

    >>> read_sent("notice,cohort,tenant,sent_on\ntargeted,all,Contoso.example,2026-01-30\n", source="sent.csv").rows()
    [('targeted', 'all', 'contoso.example', datetime.date(2026, 1, 30))]
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
    rows: list[tuple[str, str, str, date]] = []
    try:
        _expect_columns(reader.fieldnames or ())
        rows.extend(_sent_row(row) for row in reader)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{source}, line {max(reader.line_num, 1)}: {error}") from None
    return pl.DataFrame(rows, schema=SENT, orient="row").unique().sort(*_COLUMNS)


def _expect_columns(found: Sequence[str]) -> None:
    if not set(_COLUMNS) <= set(found):
        raise ValueError(f"expected the columns {','.join(_COLUMNS)}, found {shown(','.join(found))}")


def _sent_row(row: dict[str, str]) -> tuple[str, str, str, date]:
    if None in row or None in row.values():
        raise ValueError("expected one value for each column")
    # What a spreadsheet would run has a quote in front, as `notices` writes it.
    notice, cohort, tenant, sent = (row[name].removeprefix("'") for name in _COLUMNS)
    notice, sent = notice.strip(), sent.strip()
    if not _NOTICE.fullmatch(notice):
        raise ValueError(f"notice = {shown(notice)}: expected general, targeted, or a stage like `stage 2`")
    if (notice == GENERAL) != (tenant == ""):
        raise ValueError(f"tenant = {shown(tenant)}: expected none for a general notice, one for any other")
    try:
        sent_on = date.fromisoformat(sent)
    except ValueError:
        raise ValueError(f"sent_on = {shown(sent)}: expected a date, e.g. 2026-03-01") from None
    return notice, cohort, tenant_name(tenant) if tenant else "", sent_on


def to_send(known: Plan, sent: pl.DataFrame | None) -> pl.DataFrame:
    """Give what is to be sent on the plan's day, as rows to append to the ledger: SENT.

    With a ledger: all that is due by that day and not in it; without one: what is due on that very day.
    """
    due = known.due.filter(pl.col("must_go_out_on") <= known.as_of)
    if sent is None:
        due = due.filter(pl.col("must_go_out_on") == known.as_of)
    else:
        due = _with_sent(due, sent).filter(pl.col("went_on").is_null())
    rows = due.select("notice", "cohort", "tenant", sent_on=pl.lit(known.as_of)).unique()
    return rows.sort("notice", "cohort", "tenant")


def notice_calendar(known: Plan, sent: pl.DataFrame | None, *, n_tenants: int) -> pl.DataFrame:
    """Count what must go out when: notice, cohort, tenants, must_go_out_on, because, comes_on, sent.

    Without a ledger, nothing is known to be sent: null.
    """
    return (
        _with_sent(known.due, pl.DataFrame(schema=SENT) if sent is None else sent)
        .group_by("must_go_out_on", "notice", "cohort", "because", "comes_on")
        .agg(tenants=pl.len(), sent=pl.col("went_on").is_not_null().sum())
        .with_columns(
            tenants=pl.when(pl.col("notice") == GENERAL).then(pl.lit(n_tenants)).otherwise("tenants"),
            sent=None if sent is None else pl.col("sent"),
        )
        .select("notice", "cohort", "tenants", "must_go_out_on", "because", "comes_on", "sent")
        .sort("must_go_out_on", "notice", "cohort", "comes_on")
    )


# --- what may not come yet ----------------------------------------------------------------------------------------


class _Finding(NamedTuple):
    """Of one kind of notice and cohort: what comes too early after it, and what rests on one."""

    what: str
    cohort: str
    late: pl.DataFrame
    open: pl.DataFrame


def refusals(known: Plan, sent: pl.DataFrame | None, *, not_after: date) -> list[str]:
    """Say why an export of a plan's day that holds until a day must not go out: see `judge`."""
    return judge(known, sent, not_after=not_after).refusals


def judge(known: Plan, sent: pl.DataFrame | None, *, not_after: date) -> Judged:
    """Hold what an export would bring until its last day to the notices before it.

    Mail of a tenant may be touched no fewer than `targeted_days_before` days after its targeted notice, a cohort may
    start no fewer than `general_days_before` days after the general one, a stage may touch mail no fewer than
    `stage_days_before` days after its own. With SENT, the days on which they were sent count, and a notice that can
    still go out in time is relied on; without it, the planned days do.
    """
    refused: list[str] = []
    relied: list[str] = []
    for name, kind in (
        ("general notices", _judge_general),
        ("targeted notices", _judge_targeted),
        ("notices of stages", _judge_stages),
    ):
        found = list(kind(known, sent, not_after))
        refused += [_told(each) for each in found if each.late.height]
        still = pl.concat([each.open["latest_on"] for each in found]) if found else pl.Series(dtype=pl.Date)
        if still.len():
            relied.append(
                f"{name}: {still.len():,} are supposed to go out, or have gone out, on the days planned"
                if sent is None
                else f"{name}: {still.len():,} still have to go out, the first on {still.min()!s} at the latest"
            )
    return Judged(refused, relied)


def _with_sent(rows: pl.DataFrame, sent: pl.DataFrame) -> pl.DataFrame:
    """Add the first day, from `not_before` on, on which each notice was sent: went_on."""
    return (
        rows.with_row_index("row")
        .join(sent, on=_OF_NOTICE, how="left")
        .with_columns(pl.when(pl.col("sent_on") >= pl.col("not_before")).then("sent_on").alias("sent_on"))
        .group_by("row", *rows.columns)
        .agg(went_on=pl.col("sent_on").min())
        .sort("row")
        .drop("row")
    )


def _told(found: _Finding) -> str:
    late = found.late
    row = late.sort("comes_on", "tenant").row(0, named=True)
    of = f", {row['tenant']}" if row["tenant"] else ""
    many = f" ({late.height:,} like it)" if late.height > 1 else ""
    went = f"it goes out on {row['went_on']}" if row["went_on"] else "none was sent"
    return (
        f"{found.what} of cohort {shown(found.cohort)}{of}: {row['comes']} on {row['comes_on']}; expected a notice on "
        f"or before {row['latest_on']}, {went}{many}"
    )


def _split(rows: pl.DataFrame, sent: pl.DataFrame | None, known: Plan) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Part what comes too early from what relies on a notice still to go out, or supposed to have gone out.

    Takes notice, cohort, tenant, comes, comes_on, latest_on (the last day in time), planned_on, not_before.
    """
    if sent is None:
        late = rows.filter(pl.col("planned_on") > pl.col("latest_on")).with_columns(went_on="planned_on")
        return late, rows.filter(pl.col("planned_on") <= pl.col("latest_on"))
    counted = _with_sent(rows, sent)
    missed = counted.filter(pl.col("went_on").is_null() | (pl.col("went_on") > pl.col("latest_on")))
    can_still = (pl.col("latest_on") > known.as_of) & (pl.col("planned_on") <= pl.col("latest_on"))
    return missed.filter(~can_still), missed.filter(can_still)


def _judge_general(known: Plan, sent: pl.DataFrame | None, not_after: date) -> Iterator[_Finding]:
    rows = known.due.filter(
        (pl.col("notice") == GENERAL) & (pl.col("comes_on") > known.as_of) & (pl.col("comes_on") <= not_after)
    ).with_columns(
        comes=pl.lit("its start"),
        latest_on="must_go_out_on",
        planned_on="must_go_out_on",
    )
    for cohort, part in rows.group_by("cohort", maintain_order=True):
        yield _Finding("general notice", str(cohort[0]), *_split(part, sent, known))


def _judge_targeted(known: Plan, sent: pl.DataFrame | None, not_after: date) -> Iterator[_Finding]:
    before = pl.duration(days=known.notice.targeted_days_before)
    rows = (
        known.hits.filter(pl.col("first_on") <= not_after)
        .rename({"first_on": "comes_on"})
        .join(known.first.rename({"first_on": "planned_on"}), on=["tenant", "cohort"], how="left")
        .with_columns(
            notice=pl.lit(TARGETED),
            comes=pl.lit("its mail is throttled or blocked"),
            latest_on=pl.col("comes_on") - before,
            planned_on=pl.coalesce("planned_on", "comes_on"),
            not_before=pl.lit(_EVER),
        )
    )
    for cohort, part in rows.group_by("cohort", maintain_order=True):
        yield _Finding("targeted notice", str(cohort[0]), *_split(part, sent, known))


def _judge_stages(known: Plan, sent: pl.DataFrame | None, not_after: date) -> Iterator[_Finding]:
    if not known.notice.stage_days_before:
        return
    before = pl.duration(days=known.notice.stage_days_before)
    rows = (
        known.entries.filter(pl.col("touches") & (pl.col("comes_on") <= not_after))
        .with_columns(latest_on=pl.col("comes_on") - before)
        .select(
            "cohort", "tenant", "comes_on", "latest_on", notice=pl.format("stage {}", "stage"),
            comes=pl.format("stage {} ({})", "stage", "phase"),
            planned_on=pl.max_horizontal("latest_on", "spell_from_on"), not_before="spell_from_on",
        )
        .unique()
        .sort("cohort", "notice", "comes_on", "tenant")
    )  # fmt: skip
    for (cohort, notice), part in rows.group_by("cohort", "notice", maintain_order=True):
        yield _Finding(f"notice of {notice}", str(cohort), *_split(part, sent, known))
