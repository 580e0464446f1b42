"""A policy as the fleet of a day will meet it: who is vulnerable from when, whose clock begins, and who may pause."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import polars as pl

from enforcement.builds_to_come import SUCCESSOR, after_days, known_on
from enforcement.chance import Bools, Floats, Ints
from enforcement.course import Background, Course, course
from enforcement.fates import DELAYED, EXPIRED, REJECTED, fates
from enforcement.pauses import grant, still_spans
from enforcement.policy import NO_POLICY, Phase, Policy
from enforcement.pressure import FAR, Level, Pressure, Spells, pressure, replaced
from enforcement.standing import standings
from enforcement.standpoint import ROUTES, Standpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """What rules and cohorts make of servers that have acted: (2, servers), in their own product, in the successor.

    ended: the first day out of support; after_missing, after_unsupported: days until a rule calls a build vulnerable;
    risk_after_missing, risk_after_unsupported: the same by the rules that risk is measured by;
    cohort_starts: the first day on which its cohort is enforced; same_cohort: whether that is the cohort it was in;
    rows: (servers,), the row of `pressure` of a spell that begins on day 0; the row of one of day d lies d further.
    """

    ended: Ints
    after_missing: Ints
    after_unsupported: Ints
    risk_after_missing: Ints
    risk_after_unsupported: Ints
    cohort_starts: Ints
    same_cohort: Bools
    rows: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the rows of an outlook are made of; only the days of planned pauses change them.

    spells: those to come, then those of the fleet, then the same of tenants that pause, on the day `pauses_on`;
    still_days: (kinds, days + 1) without planned pauses; year_days: the days before each day in its calendar year;
    quota: days of pause a year.
    """

    spells: Spells
    pauses_on: Ints
    still_days: Bools
    year_days: Ints
    quota: int
    stage_starts: Sequence[int]
    phases: Sequence[Phase]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What each server of a standpoint meets under a policy. Days count from the standpoint; arrays go by server.

    since, ended: first missing update and end of support; seen: last sighting; vulnerable_from: by the policy's rules;
    risk_from: by those that risk is measured by, the same for all policies compared (has_other_risk: not its own);
    begins: the first day under enforcement; rows: (2, servers), the row of `pressure` when the tenant takes no pause,
    and when it pauses for `pause_days` from the first day on which one of its servers is throttled or blocked.
    delayed, lost: share of mail by stage, the last place being accepted mail: the mean over the minutes of the hour,
    as nothing is known of the minutes of mail to come. volume, subject: messages a day of all routes and of the
    policy's, (weekdays from Monday, servers); weekdays: of each day.

    What a pause does not touch: spells that begin after a server has acted or that an update to come begins, and
    tenants that the ledger names.
    Exploited vulnerabilities and minimum builds of builds to come are not known; a landed build is judged by the
    rules on missing updates and on the end of support.
    """

    name: str
    n_days: int
    pause_days: int
    tenant: Ints
    n_tenants: int
    weekdays: Ints
    since: Ints
    ended: Ints
    seen: Ints
    vulnerable_from: Ints
    risk_from: Ints
    has_other_risk: bool
    begins: Ints
    rows: Ints
    landed: Landed
    pressure: Pressure
    delayed: Floats
    lost: Floats
    volume: Floats
    subject: Floats
    plan: Plan

    @property
    def is_vulnerable(self) -> Bools:
        """Whether each server counts as vulnerable on the day of the standpoint."""
        return self.risk_from <= 0


def outlook(  # noqa: PLR0913 - a policy, and how it is looked at
    at: Standpoint,
    policy: Policy,
    background: Background,
    *,
    n_days: int,
    enforced: bool = True,
    risk_by: Policy | None = None,
) -> Outlook:
    """Say what each server will meet in the days to come; not `enforced`: nothing, by the same rules.

    Which servers count as vulnerable goes by the rules of `risk_by` (default: the policy itself). Tenants take no
    pauses that are not in the ledger; see `paused`.
    """
    if n_days < 1:
        raise ValueError(f"a forecast of {n_days} days (expected 1 or more)")
    background = replace(background, catalogue=known_on(background.catalogue, at.as_of))
    table = standings(at.history.builds, background.catalogue, policy)
    servers = at.servers.join(table.drop("build"), on="build_id", maintain_order="left")
    products, hops = servers["product"].to_list(), servers["hop"].to_list()
    since, ended, vulnerable_from = (
        at.day(servers[name], never=FAR) for name in ("missing_since", "unsupported_since", "vulnerable_from")
    )
    risk_rules = risk_by or policy
    risk_table = standings(at.history.builds, background.catalogue, risk_rules).select("build_id", "vulnerable_from")
    risk = at.servers.join(risk_table, on="build_id", maintain_order="left")
    seen = np.minimum(at.day(servers["last_seen_on"], never=0), 0)
    subject = at.volume[[ROUTES.index(str(route)) for route in policy.routes]].sum(axis=0)
    is_met = enforced & (subject.sum(axis=0) > 0)
    own_starts, own_cohort = _cohorts(at, policy, products)
    next_starts, next_cohort = _cohorts(at, policy, [SUCCESSOR] * at.n_servers)
    begins, clocks = np.full(at.n_servers, FAR), np.zeros(at.n_servers, dtype=np.int64)
    if enforced:
        past = course(at.history, policy, background)
        begins, clocks = _spells(at, past, servers, vulnerable_from, own_starts)
        clocks = np.minimum(clocks, policy.stage_starts[-1])  # no stage lies beyond
    begins, clocks = np.where(is_met, begins, FAR), np.where(is_met, clocks, 0)
    own_starts, next_starts = np.where(is_met, own_starts, FAR), np.where(is_met, next_starts, FAR)
    noticed = _noticed(policy, begins, own_starts, vulnerable_from)
    kind, still_days = _still(at, policy, background.pauses, n_days)
    own, way = np.unique(np.stack([begins, clocks, noticed, kind]), axis=1, return_inverse=True)
    calm = Spells(begins=own[0], clocks=own[1], noticed_from=own[2], still=own[3])
    met = pressure(calm, still_days, policy.stage_starts, policy.phases)
    harsh = (met.levels >= Level.THROTTLED).any(axis=1)
    first = np.where(harsh, (met.levels >= Level.THROTTLED).argmax(axis=1), FAR)[way.ravel()]
    pauses_on = _pauses_on(at, policy, first, background.pauses)
    pausing = np.flatnonzero(pauses_on < FAR)
    chosen, paused_way = np.unique(np.stack([way.ravel(), pauses_on])[:, pausing], axis=1, return_inverse=True)
    later, n_later = _later(n_days, len(still_days)), (n_days + 2) * len(still_days)
    rows = n_later + np.stack([way.ravel(), way.ravel()])
    rows[1, pausing] = n_later + len(calm.begins) + paused_way.ravel()
    plan = Plan(
        spells=_joined(later, calm, _chosen(calm, chosen[0])),
        pauses_on=np.concatenate([np.full(n_later + len(calm.begins), FAR), chosen[1]]),
        still_days=still_days,
        year_days=_days_of_year(at, n_days),
        quota=policy.pause.days_per_year if policy.pause else 0,
        stage_starts=policy.stage_starts,
        phases=policy.phases,
    )
    ends = background.catalogue.support_ends.get(SUCCESSOR)
    successor_ended = FAR if ends is None else (ends - at.as_of).days + 1
    after_missing, after_unsupported = after_days(policy, products, hops)
    risk_after_missing, risk_after_unsupported = after_days(risk_rules, products, hops)
    fate = fates(policy.stage_minutes, background.senders).expected(background.senders).mean(axis=1)
    return Outlook(
        name=policy.name if enforced else NO_POLICY,
        n_days=n_days,
        pause_days=0,
        tenant=at.tenant,
        n_tenants=len(at.tenants),
        weekdays=at.weekdays(n_days),
        since=since,
        ended=ended,
        seen=seen,
        vulnerable_from=vulnerable_from,
        risk_from=at.day(risk["vulnerable_from"], never=FAR),
        has_other_risk=_rules(risk_rules) != _rules(policy),
        begins=begins,
        rows=rows,
        landed=Landed(
            ended=np.stack([ended, np.full(at.n_servers, successor_ended)]),
            after_missing=after_missing,
            after_unsupported=after_unsupported,
            risk_after_missing=risk_after_missing,
            risk_after_unsupported=risk_after_unsupported,
            cohort_starts=np.stack([own_starts, next_starts]),
            same_cohort=np.stack([np.ones_like(is_met), own_cohort == next_cohort]),
            rows=kind * (n_days + 2),
        ),
        pressure=_met(plan, 0, np.arange(len(plan.pauses_on))),
        delayed=np.append(fate[:, DELAYED], 0.0),
        lost=np.append(fate[:, REJECTED] + fate[:, EXPIRED], 0.0),
        volume=at.volume.sum(axis=0),
        subject=subject,
        plan=plan,
    )


def _rules(policy: Policy) -> object:
    return policy.rules, policy.minimum_builds, policy.count_private_updates


def paused(of: Outlook, days: int) -> Outlook:
    """Give the same outlook with planned pauses of so many days, as far as the policy grants them."""
    if days == of.pause_days:
        return of
    changed = np.flatnonzero(of.plan.pauses_on < FAR)
    return replace(of, pause_days=days, pressure=replaced(of.pressure, changed, _met(of.plan, days, changed)))


def _met(plan: Plan, pause_days: int, rows: Ints) -> Pressure:
    """Work out what some ways to meet the policy bring by day, with pauses of so many days."""
    spells, pauses_on = _chosen(plan.spells, rows), plan.pauses_on[rows]
    pauses, which = np.unique(
        np.stack([spells.still, np.where(pause_days > 0, pauses_on, FAR)]), axis=1, return_inverse=True
    )
    day = np.arange(plan.still_days.shape[1])
    begins = pauses[1][:, np.newaxis]
    used = day - np.maximum(begins, day - plan.year_days)  # days of pause taken before in the calendar year
    granted = (day >= begins) & (day < begins + pause_days) & (used < plan.quota)
    return pressure(
        replace(spells, still=which.ravel()), plan.still_days[pauses[0]] | granted, plan.stage_starts, plan.phases
    )


def _later(n_days: int, n_kinds: int) -> Spells:
    """Give the spells that begin on each day to come, and one that never does, for each kind of still days."""
    size = (n_days + 2) * n_kinds
    return Spells(
        begins=np.tile(np.append(np.arange(n_days + 1), FAR), n_kinds),
        clocks=np.zeros(size, dtype=np.int64),
        noticed_from=np.full(size, FAR),
        still=np.repeat(np.arange(n_kinds), n_days + 2),
    )


def _chosen(spells: Spells, rows: Ints) -> Spells:
    return Spells(
        begins=spells.begins[rows],
        clocks=spells.clocks[rows],
        noticed_from=spells.noticed_from[rows],
        still=spells.still[rows],
    )


def _joined(*parts: Spells) -> Spells:
    return Spells(
        begins=np.concatenate([part.begins for part in parts]),
        clocks=np.concatenate([part.clocks for part in parts]),
        noticed_from=np.concatenate([part.noticed_from for part in parts]),
        still=np.concatenate([part.still for part in parts]),
    )


def _cohorts(at: Standpoint, policy: Policy, products: Sequence[str]) -> tuple[Ints, Ints]:
    """Give for each server, were it to run a product, the day on which its cohort starts (FAR: none), and its place."""
    tenants = at.servers["tenant"].to_list()
    starts: dict[tuple[str, str], tuple[int, int]] = {}
    for key in set(zip(products, tenants, strict=True)):
        takes = [place for place, cohort in enumerate(policy.cohorts) if cohort.takes(*key)]
        start = (policy.cohorts[takes[0]].starts_on - at.as_of).days if takes else FAR
        starts[key] = start, takes[0] if takes else -1
    found = np.array([starts[key] for key in zip(products, tenants, strict=True)], dtype=np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _spells(at: Standpoint, way: Course, servers: pl.DataFrame, vulnerable: Ints, starts: Ints) -> tuple[Ints, Ints]:
    """Give the day on which each server's clock begins, 0 when it runs already, and its clock then."""
    is_now = (pl.col("from_on") <= at.as_of) & (pl.col("until_on").is_null() | (pl.col("until_on") > at.as_of))
    now = way.spans.filter(is_now).select("server_id", "cohort", "clock_at_start", "running", "from_on")
    clock = (
        servers.select("server_id", "build_id")
        .join(
            way.pairs.select("server_id", "build_id", "cohort"),
            on=["server_id", "build_id"],
            how="left",
            maintain_order="left",
        )
        .join(now, on=["server_id", "cohort"], how="left", maintain_order="left")
        .with_columns(went=(pl.lit(at.as_of) - pl.col("from_on")).dt.total_days() * pl.col("running"))
        .select((pl.col("clock_at_start") + pl.col("went")).fill_null(-1).cast(pl.Int64))
        .to_series()
        .to_numpy()
    )
    # One that is vulnerable and taken in by now, but has shown no subject message yet, begins with its next one.
    coming = np.minimum(np.maximum(np.maximum(vulnerable, starts), 1), FAR)
    is_on = (clock >= 0) & (vulnerable <= 0)
    return np.where(is_on, 0, coming), np.where(is_on, clock, 0)


def _noticed(policy: Policy, begins: Ints, starts: Ints, vulnerable: Ints) -> Ints:
    """Give the day of the notice that goes out before a cohort starts, to servers vulnerable by then; FAR: none."""
    if policy.notice is None:
        return np.full(len(begins), FAR)
    is_told = (begins > 0) & (begins < FAR) & (begins == starts)
    return np.where(is_told, np.maximum(vulnerable, starts - policy.notice.targeted_days_before), FAR)


def _still(at: Standpoint, policy: Policy, ledger: pl.DataFrame, n_days: int) -> tuple[Ints, Bools]:
    """Give the kind of each server, and whether each kind is paused or exempt by day: (kinds, days + 1)."""
    table = at.servers.select("server_id", "server", "tenant", minute_offset=pl.lit(0, dtype=pl.Int8))
    spans = still_spans(table, policy, grant(ledger, policy).pauses)
    places = dict(zip(at.servers["server_id"].to_list(), range(at.n_servers), strict=True))
    of_server: dict[int, list[tuple[int, int]]] = {}
    starts, stops = (np.clip(at.day(spans[name], never=FAR), 0, n_days + 1) for name in ("from_on", "until_on"))
    for server, start, stop in zip(spans["server_id"].to_list(), starts.tolist(), stops.tolist(), strict=True):
        if start < stop:
            of_server.setdefault(places[server], []).append((start, stop))
    numbers: dict[tuple[tuple[int, int], ...], int] = {(): 0}
    kind = np.zeros(at.n_servers, dtype=np.int64)
    for place, found in of_server.items():
        kind[place] = numbers.setdefault(tuple(found), len(numbers))
    still_days = np.zeros((len(numbers), n_days + 1), dtype=np.bool_)
    for cuts, number in numbers.items():
        for start, stop in cuts:
            still_days[number, start:stop] = True
    return kind, still_days


def _pauses_on(at: Standpoint, policy: Policy, first: Ints, ledger: pl.DataFrame) -> Ints:
    """Give the day on which each server's tenant would pause: when one of its servers is first throttled or blocked.

    A tenant that is throttled or blocked already has had its occasion, and one that the ledger names its pause: FAR.
    """
    if policy.pause is None or not policy.pause.days_per_year:
        return np.full(at.n_servers, FAR)
    earliest = np.full(len(at.tenants), FAR)
    np.minimum.at(earliest, at.tenant, first)
    had = set(ledger["tenant"].to_list())
    is_free = np.array([name not in had for name in at.tenants])
    return np.where(is_free & (earliest > 0), earliest, FAR)[at.tenant]


def _days_of_year(at: Standpoint, n_days: int) -> Ints:
    """Count the days before each day, from the standpoint on, in its calendar year."""
    days = [at.as_of + timedelta(days=day) for day in range(n_days + 1)]
    return np.array([day.timetuple().tm_yday - 1 for day in days])
