"""A fleet made ready for the expected course: servers with one course are one group, whatever the stages are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np

from enforcement.chance import Bools, Floats, Ints
from enforcement.course import Background
from enforcement.outlook import Outlook, outlook
from enforcement.policy import MOST_DAYS, Policy, Stage
from enforcement.pressure import FAR
from enforcement.response import DAYS_PER_WEEK, HALF_YEAR_DAYS
from enforcement.standpoint import Standpoint

# Clocks are known as far as any schedule reaches; what these stages would do is not looked at.
# Last sightings are pooled where they lie between these days before the standpoint; finer on a grid of single days.
_POOLED: Final = {True: np.arange(7, 400, 14), False: np.array([14])}
_MANY_CLOCKS: Final = 60  # more of them are rounded to steps of the grid
_ANY_STAGES: Final = (Stage(days=MOST_DAYS), Stage(block=60))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The days of a forecast in pieces: day 0, then spans of so many days, cut where half-years end.

    ends: the last day of each piece; sizes: its days; half_years: the pieces of each half-year; a last one of less than
    a week is taken as part of the one before.
    """

    ends: Ints
    sizes: Ints
    half_years: tuple[slice, ...]

    @classmethod
    def of(cls, n_days: int, step: int) -> "Grid":
        """Cut the days.

        >>> Grid.of(10, 7).ends.tolist(), Grid.of(10, 7).sizes.tolist()
        ([0, 7, 10], [1, 7, 3])
        """
        halves = np.arange(HALF_YEAR_DAYS, n_days - DAYS_PER_WEEK + 1, HALF_YEAR_DAYS)
        ends = np.unique(np.concatenate([np.arange(0, n_days, step), halves, [n_days]]))
        stops = [*(np.searchsorted(ends, halves) + 1).tolist(), len(ends)]
        starts = [0, *stops[:-1]]
        return cls(
            ends=ends,
            sizes=np.diff(ends, prepend=-1),
            half_years=tuple(slice(start, stop) for start, stop in zip(starts, stops, strict=True)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spells:
    """How spells go on without planned pauses, one each row, by piece of the grid.

    clocks: (spells, pieces + 1), running days before each piece, and after the last; told: days on which a notice is
    all that is met, free: days on which nothing is; begins: FAR: never. may_pause: its tenant plans a pause, when its
    leader, the server furthest on its clock, comes to stages that harm; lead_begins, lead_clocks, lead_kinds: of it.
    """

    begins: Ints
    clocks: Ints
    told: Ints
    free: Ints
    may_pause: Bools
    lead_begins: Ints
    lead_clocks: Ints
    lead_kinds: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """Where servers land: builds that rules and cohorts treat alike, (classes,); days from the standpoint.

    ended: the first day out of support; missing_after, ended_after: days until a missing update, and the end of
    support, make them vulnerable; starts: the first day of their cohort; risk_missing_after, risk_ended_after: as the
    rules say that tell of risk.
    """

    ended: Ints
    missing_after: Ints
    ended_after: Ints
    starts: Ints
    risk_missing_after: Ints
    risk_ended_after: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedFleet:
    """Groups of servers that share their course, (groups,), with their mail; whatever stages and assumptions say.

    spell: the row of `spells`; servers: how many; volume, subject: (weekdays, groups), messages a day of all routes and
    of the policy's. since, ended: as in `Outlook`; risk_from: when rules that tell of risk call them vulnerable. own,
    successor: the class that it lands in, in its product and in the successor; groups go by both in order. seen: last
    sighting, group: the place, of each server. run: (kinds, days + 2), running days before each day; running_day: the
    days that run, in order. rules: what they say of each server, for others to tell of risk by.
    """

    as_of: date
    n_days: int
    grid: Grid
    weekdays: Ints
    spells: Spells
    spell: Ints
    since: Ints
    ended: Ints
    risk_from: Ints
    classes: Classes
    own: Ints
    successor: Ints
    group: Ints
    seen: Ints
    servers: Floats
    volume: Floats
    subject: Floats
    run: Ints
    running_day: Ints
    year_days: Ints
    rules: Ints
    n_vulnerable: int
    n_vulnerable_tenants: int
    mail_a_day: Floats


def expected_fleet(  # noqa: PLR0913 - all by name
    at: Standpoint,
    policy: Policy,
    background: Background,
    *,
    n_days: int,
    step: int = 1,
    risk_by: Ints | None = None,
    enforced: bool = True,
    may_pause: bool | None = None,
) -> ExpectedFleet:
    """Group the servers of a standpoint by what a policy's rules, cohorts and routes make of them, on a grid of steps.

    may_pause: whether schedules with planned pauses are judged on it; default: whether the policy grants any.
    risk_by: the `rules` of another fleet of the standpoint, which say what a risk is; default: its own. Last sightings
    are pooled, and many clocks on a coarse grid, which moves results by about a thousandth.
    """
    any_stages = policy.model_copy(update={"stages": _ANY_STAGES})
    look = outlook(at, any_stages, background, n_days=n_days, enforced=enforced)
    grid = Grid.of(n_days, step)
    had = set(background.pauses["tenant"].to_list())
    is_free = np.array([name not in had for name in at.tenants])[look.tenant]
    if may_pause is None:
        may_pause = policy.pause is not None and policy.pause.days_per_year > 0
    row = look.rows[0]
    table = look.plan.spells
    clocks = table.clocks[row]
    if step > 1 and len(np.unique(clocks)) > _MANY_CLOCKS:
        clocks = np.minimum((clocks + step // 2) // step * step, MOST_DAYS)
    lead = _leaders(look, is_free & may_pause, clocks)
    own = np.stack([table.begins[row], clocks, table.noticed_from[row], table.still[row], *lead])
    ways, spell = np.unique(own, axis=1, return_inverse=True)
    of = look.landed
    rules = np.concatenate([look.vulnerable_from[np.newaxis], of.after_missing, of.after_unsupported])
    risk = rules if risk_by is None else risk_by
    landed = np.stack(
        [np.maximum(of.ended, 0), of.after_missing, of.after_unsupported, of.cohort_starts, risk[1:3], risk[3:5]]
    )
    classes, place = np.unique(landed.reshape(len(landed), -1), axis=1, return_inverse=True)
    seen = np.digitize(-look.seen, _POOLED[step == 1])
    keys = np.stack([*place.reshape(2, -1), spell.ravel(), look.since, look.ended, risk[0], seen])
    kinds, group = np.unique(keys, axis=1, return_inverse=True)
    group = group.ravel()
    n, is_risk = kinds.shape[1], risk[0] <= 0
    run = np.zeros((len(look.plan.still_days), n_days + 2), dtype=np.int64)
    np.cumsum(~look.plan.still_days, axis=1, out=run[:, 1:])
    return ExpectedFleet(
        as_of=at.as_of,
        n_days=n_days,
        grid=grid,
        weekdays=look.weekdays,
        spells=_spells(ways, run, grid),
        classes=Classes(**dict(zip(Classes.__slots__, classes, strict=True))),
        own=kinds[0],
        successor=kinds[1],
        spell=kinds[2],
        since=kinds[3],
        ended=kinds[4],
        risk_from=kinds[5],
        group=group,
        seen=look.seen,
        servers=np.bincount(group, minlength=n).astype(np.float64),
        volume=_sums(group, look.volume, n),
        subject=_sums(group, look.subject, n),
        run=run,
        running_day=_running_days(look.plan.still_days),
        year_days=look.plan.year_days,
        rules=rules,
        n_vulnerable=int(is_risk.sum()),
        n_vulnerable_tenants=len(np.unique(look.tenant[is_risk])),
        mail_a_day=look.volume.sum(axis=1)[look.weekdays],
    )


def _sums(group: Ints, by_weekday: Floats, n: int) -> Floats:
    return np.stack([np.bincount(group, weights=each, minlength=n) for each in by_weekday])


def _leaders(look: Outlook, is_free: Bools, clocks: Ints) -> Sequence[Ints]:
    """Give first day, clock and kind of each tenant's first server under enforcement; FAR: none that may pause.

    Whichever server is furthest on its clock comes first to every stage, whatever the stages are.
    """
    row = look.rows[0]
    begins, kinds = look.plan.spells.begins[row], look.plan.spells.still[row]
    start = begins - clocks
    order = np.lexsort((np.arange(len(row)), start, look.tenant))
    first = np.full(look.n_tenants, len(row) - 1)
    tenants, at = np.unique(look.tenant[order], return_index=True)
    first[tenants] = order[at]
    leader = first[look.tenant]
    may = is_free & (begins[leader] < FAR) & (begins < FAR)
    return [np.where(may, each[leader], never) for each, never in ((begins, FAR), (clocks, 0), (kinds, 0))]


def _spells(ways: Ints, run: Ints, grid: Grid) -> Spells:
    begins, clock, noticed, kind, lead_begins, lead_clocks, lead_kinds = ways
    first = np.append(0, grid.ends + 1)  # of each piece, and the day after the last
    n_days = int(grid.ends[-1])
    start = np.minimum(begins, n_days + 1)
    before = run[kind, start][:, np.newaxis]
    clocks = clock[:, np.newaxis] + np.maximum(run[kind][:, first] - before, 0)
    on = np.maximum(first - start[:, np.newaxis], 0)
    told_first = np.minimum(noticed, start)[:, np.newaxis]
    told_before = np.clip(first, told_first, start[:, np.newaxis]) - told_first
    told = np.diff(told_before, axis=1) + np.diff(on, axis=1) - np.diff(clocks, axis=1)
    return Spells(
        begins=begins,
        clocks=clocks,
        told=told,
        free=grid.sizes - told - np.diff(clocks, axis=1),
        may_pause=lead_begins < FAR,
        lead_begins=lead_begins,
        lead_clocks=lead_clocks,
        lead_kinds=lead_kinds,
    )


def _running_days(still_days: Bools) -> Ints:
    """Give for each kind the days that run, in order, FAR behind the last: (kinds, days + 2)."""
    found = np.full((len(still_days), still_days.shape[1] + 1), FAR)
    for kind, still in enumerate(still_days):
        days = np.flatnonzero(~still)
        found[kind, : len(days)] = days
    return found
