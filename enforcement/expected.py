"""The course that is expected of a fleet under a policy: without draws, fast enough for sliders and searches.

Every assumption is at its value. Exact, but for a table that is off by 1e-4, for what each server does first: the
multipliers are summed over, the hazard is its own, retirement competes, some never respond, tenants pause or do not.
A server that acts and lands on a build that is vulnerable too stays as it is, as if it had not acted. Those that land
well and come back, and those that miss nothing yet, are a mean field (`returns`): sums over a year come within some
per cent. One place is rough: where support ends on the way, and rules let some days pass before that makes a server
vulnerable, those who land in their own product on these days count as vulnerable still, so more mail counts as lost.
The simulation (`rollout`) follows every server, and tells how far results spread.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import polars as pl

from enforcement.acts import Hazard, places, summed
from enforcement.assumptions import Assumptions, Rates
from enforcement.chance import Floats, Ints
from enforcement.expected_fleet import ExpectedFleet, Grid
from enforcement.fates import DELAYED, EXPIRED, REJECTED, fates
from enforcement.policy import MOST_DAYS, Policy
from enforcement.pressure import LEVEL_OF, Level
from enforcement.response import DAYS_PER_WEEK
from enforcement.returns import Clocked, Exits, Returning, course_of_returns, exits_of, flows, returning
from enforcement.survival import Survival
from enforcement.verdict import Held, Sender

_TOGETHER: Final = 16  # schedules that go through the mean field together, which costs less than one by one
_LEAST: Final = 1e-12  # messages a day, of which no mean can be told
MEASURES: Final = ("vulnerable_servers", "accepted_vulnerable", "delayed", "lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What stages do: the clock on which each starts, its level, its shares of mail delayed and lost; days of pause."""

    starts: Ints
    levels: Ints
    delayed: Floats
    lost: Floats
    pause_quota: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A fleet with assumptions, at their values, on which every schedule can be judged; (groups, pieces of the grid).

    hazard: summed up in each piece where nothing is met, before: until day 0; mail: messages of the policy's routes,
    risk_mail: of all routes while a risk, risk_days: share of the piece's days that are, vulnerable: server-days that
    are; all but retired servers; here: the share not retired. to_own: the share of acts that land in their own product.
    """

    fleet: ExpectedFleet
    survival: Survival
    factors: Floats
    hazard: Floats
    before: Floats
    mail: Floats
    risk_mail: Floats
    risk_days: Floats
    vulnerable: Floats
    here: Floats
    to_own: Floats
    returning: Returning
    pause_share: float
    pause_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Met:
    """What spells meet, on average over each piece: the factor of the hazard, the shares delayed and lost."""

    factor: Floats
    delayed: Floats
    lost: Floats


def schedules(policies: Sequence[Policy], senders: Sequence[Sender]) -> list[Schedule]:
    """Say what the stages of policies do to mail: the mean over the minutes of the hour."""
    pairs = sorted(
        {held for policy in policies for held in policy.stage_minutes}, key=lambda held: (held.block, held.throttle)
    )
    shares = fates(pairs, senders).expected(senders).mean(axis=1)
    place: dict[Held, int] = {held: at for at, held in enumerate(pairs)}
    found = []
    for policy in policies:
        rows = shares[[place[held] for held in policy.stage_minutes]]
        found.append(
            Schedule(
                starts=np.array(policy.stage_starts),
                levels=np.array([int(LEVEL_OF[phase]) for phase in policy.phases]),
                delayed=rows[:, DELAYED],
                lost=rows[:, REJECTED] + rows[:, EXPIRED],
                pause_quota=policy.pause.days_per_year if policy.pause else 0,
            )
        )
    return found


def prepare(fleet: ExpectedFleet, assumptions: Assumptions) -> Prepared:
    """Sum up what does not depend on stages."""
    grid = fleet.grid
    oldest = fleet.n_days + 2 - int(min(fleet.since.min(), fleet.ended.min(), fleet.seen.min()))
    exits = exits_of(fleet, assumptions)
    oldest += DAYS_PER_WEEK * (exits.oldest_week + 4)
    hazard = _hazard(assumptions.hazards, oldest)
    kinds, kind = np.unique(np.stack([fleet.since, fleet.ended]), axis=1, return_inverse=True)
    kind = kind.ravel()

    def until(of: Hazard, day: Ints, share: Floats) -> Floats:
        """Sum a hazard up to days, one or each of a group, weighted by shares in and out of support."""
        supported, unsupported = places(kinds[0][:, np.newaxis], kinds[1][:, np.newaxis], day[np.newaxis])
        parts = of.supported.take(supported)[kind], of.unsupported.take(unsupported)[kind]
        return share[0][:, np.newaxis] * parts[0] + share[1][:, np.newaxis] * parts[1]

    lands = np.stack([exits.supported, exits.unsupported])
    sums = until(hazard, grid.ends, lands)
    days = np.arange(-int(-fleet.seen.min()), 1)  # sightings lie in these
    back = until(hazard, days, lands)
    seen = fleet.seen - int(days[0])

    def mean(of_servers: Floats) -> Floats:
        return np.bincount(fleet.group, weights=of_servers, minlength=len(kind)) / fleet.servers

    before = back[:, -1] - mean(back[fleet.group, seen])
    retiring = _hazard(assumptions.retirement, oldest)
    every = np.arange(fleet.n_days + 1)
    both = np.ones((2, len(kind)))
    away = until(retiring, np.concatenate([days[:-1], every]), both)
    here = np.exp(mean(away[fleet.group, seen])[:, np.newaxis] - away[:, len(days) - 1 :])
    firsts = grid.ends - grid.sizes + 1
    is_risk = every >= fleet.risk_from[:, np.newaxis]
    mail = here * fleet.subject.T[:, fleet.weekdays]
    of_risk = here * fleet.volume.T[:, fleet.weekdays] * is_risk
    servers = here * fleet.servers[:, np.newaxis] * is_risk
    pauses, factors, never = assumptions.pauses, assumptions.factors, assumptions.never_responds
    return Prepared(
        fleet=fleet,
        survival=Survival.of(assumptions.multipliers, never=never.value if never else 0.0),
        factors=np.array([1.0, *((figure.value for figure in factors.in_order) if factors else [1.0] * 4)]),
        hazard=np.diff(sums, axis=1, prepend=sums[:, :1]),
        before=before,
        mail=np.add.reduceat(mail, firsts, axis=1),
        risk_mail=np.add.reduceat(of_risk, firsts, axis=1),
        risk_days=np.add.reduceat(is_risk, firsts, axis=1, dtype=np.float64) / grid.sizes,
        vulnerable=np.add.reduceat(servers, firsts, axis=1),
        to_own=_to_own(fleet, hazard, exits),
        here=np.add.reduceat(here, firsts, axis=1) / grid.sizes,
        returning=returning(fleet, assumptions, hazard, retiring, exits),
        pause_share=pauses.share_of_tenants.value if pauses else 0.0,
        pause_days=round(pauses.days.value) if pauses else 0,
    )


def _hazard(rates: Rates | None, n_days: int) -> Hazard:
    """Sum up rates at their values; without rates nobody acts."""
    parts = []
    for cells in (rates.supported, rates.unsupported) if rates else ((), ()):
        from_days = np.array([cell.from_weeks * DAYS_PER_WEEK for cell in cells] or [0])
        rate = np.array([cell.rate_per_week / DAYS_PER_WEEK for cell in cells] or [0.0])
        parts.append(summed(from_days, rate, n_days=n_days))
    return Hazard(supported=parts[0], unsupported=parts[1])


def _to_own(fleet: ExpectedFleet, hazard: Hazard, exits: Exits) -> Floats:
    """Give the share of the exits of each piece that land in their own product."""
    since, ended = fleet.since[:, np.newaxis], fleet.ended[:, np.newaxis]
    inside, outside = places(since, ended, np.append(-1, fleet.grid.ends)[np.newaxis])
    parts = (
        exits.supported[:, np.newaxis] * np.diff(hazard.supported.take(inside), axis=1),
        exits.unsupported[:, np.newaxis] * np.diff(hazard.unsupported.take(outside), axis=1),
    )
    whole = parts[0] + parts[1]
    is_supported = (fleet.grid.ends < ended).astype(np.float64)
    return np.divide(parts[0], whole, out=is_supported, where=whole > 0) * exits.to_own[:, np.newaxis]


def course(prepared: Prepared, schedule: Schedule) -> Floats:
    """Give what is expected by piece of the grid: (MEASURES, pieces); servers as a mean, messages as a sum."""
    return courses(prepared, [schedule])[0]


def courses(prepared: Prepared, several: Sequence[Schedule]) -> Floats:
    """Give the courses of several schedules: (schedules, MEASURES, pieces)."""
    firsts = [_first(prepared, schedule) for schedule in several]
    found = np.stack([first.found for first in firsts])
    if not prepared.returning.is_some:
        return found
    by = prepared.returning
    sums = [
        _along_the_clock(schedule, max(int(schedule.starts[-1]), DAYS_PER_WEEK * (len(by.hazard) + 2), MOST_DAYS))
        for schedule in several
    ]
    pairs = list(zip(sums, several, strict=True))
    met = Clocked(
        factor=np.stack([of(prepared.factors[schedule.levels]) for of, schedule in pairs]),
        delayed=np.stack([of(schedule.delayed) for of, schedule in pairs]),
        lost=np.stack([of(schedule.lost) for of, schedule in pairs]),
    )
    inflow, hazards = (np.stack(each) for each in zip(*(first.exits for first in firsts), strict=True))
    return found + course_of_returns(prepared.fleet, by, met, inflow, hazards)


@dataclass(frozen=True, slots=True, kw_only=True)
class _First:
    """What comes of what servers do first: (MEASURES, pieces); exits: who lands where, and the hazards they had met."""

    found: Floats
    exits: tuple[Floats, Floats]


def _first(prepared: Prepared, schedule: Schedule) -> _First:
    fleet = prepared.fleet
    met = _met(prepared, schedule, paused=False)
    kept, hazard = _kept(prepared, met, slice(None))
    mean = _mean(fleet.grid, kept)
    late, gone = mean * met.delayed[fleet.spell], mean * met.lost[fleet.spell]
    if schedule.pause_quota and prepared.pause_share and prepared.pause_days:
        some = np.flatnonzero(fleet.spells.may_pause[fleet.spell])
        met = _met(prepared, schedule, paused=True)
        spell, share = fleet.spell[some], prepared.pause_share
        also, _ = _kept(prepared, met, some)
        also_mean = _mean(fleet.grid, also)
        late[some] += share * (also_mean * met.delayed[spell] - late[some])
        gone[some] += share * (also_mean * met.lost[spell] - gone[some])
        kept[some] += share * (also - kept[some])
        mean[some] += share * (also_mean - mean[some])
    lost = gone * prepared.mail
    risk_left = np.einsum("gk,gk->k", mean, prepared.risk_mail) - np.einsum("gk,gk->k", lost, prepared.risk_days)
    found = np.stack([
        np.einsum("gk,gk->k", mean, prepared.vulnerable) / fleet.grid.sizes,
        risk_left,
        np.einsum("gk,gk->k", late, prepared.mail),
        lost.sum(axis=0),
    ])  # fmt: skip
    return _First(found=found, exits=_exits(prepared, kept, hazard))


def _exits(prepared: Prepared, kept: Floats, hazard: Floats) -> tuple[Floats, Floats]:
    """Give who lands where by week, and the hazards that they had met: (2, weeks), of the half-year and before it."""
    fleet, by = prepared.fleet, prepared.returning
    acts = np.empty_like(kept)
    acts[:, 0] = 1 - kept[:, 0]
    np.subtract(kept[:, :-1], kept[:, 1:], out=acts[:, 1:])
    np.maximum(acts, 0, out=acts)  # the last bits of a table
    acts *= prepared.here
    inflow = flows(by, acts, prepared.to_own)
    acts *= by.mail[:, np.newaxis]
    starts = np.searchsorted(by.week, np.arange(by.n_weeks + 1))
    whole = np.einsum("gk,gk->k", acts, hazard)
    before = np.zeros_like(whole)
    for earlier, times in pairwise(fleet.grid.half_years):
        before[times] = np.einsum("gk,g->k", acts[:, times], hazard[:, earlier.stop - 1])
    weekly = np.add.reduceat(np.stack([whole - before, before, acts.sum(axis=0)]), starts, axis=1)
    return inflow, np.divide(weekly[:2], weekly[2], out=np.zeros((2, by.n_weeks + 1)), where=weekly[2] > _LEAST)


def _kept(prepared: Prepared, met: _Met, groups: slice | Ints) -> tuple[Floats, Floats]:
    """Give the share that has not acted by the end of each piece, and the hazard summed up until then."""
    fleet = prepared.fleet
    hazard = prepared.hazard[groups] * met.factor[fleet.spell[groups]]
    hazard[:, 0] = prepared.before[groups]
    np.cumsum(hazard, axis=1, out=hazard)
    return prepared.survival.course(hazard, fleet.grid.half_years), hazard


def _mean(grid: Grid, kept: Floats) -> Floats:
    """Give the mean over the days of each piece, straight between ends; an act on a day counts on it."""
    if int(grid.sizes.max()) == 1:
        return kept.copy()
    weight = (1 + 1 / grid.sizes) / 2
    mean = kept * weight
    mean[:, 1:] += (1 - weight[1:]) * kept[:, :-1]
    return mean


def _along_the_clock(schedule: Schedule, length: int) -> Callable[[Floats], Floats]:
    """Give a function that sums up figures of stages along the clock from 0."""
    lengths = np.diff(np.append(np.minimum(schedule.starts, length), length))
    stage = np.repeat(np.arange(len(lengths)), lengths)
    return lambda of_stage: np.concatenate([[0.0], np.cumsum(of_stage[stage])])


def _met(prepared: Prepared, schedule: Schedule, *, paused: bool) -> _Met:
    """Give what spells meet by piece, from sums along the clock."""
    fleet, spells = prepared.fleet, prepared.fleet.spells
    clocks, told = spells.clocks, spells.told
    if paused:
        taken = _taken(prepared, schedule)
        clocks = np.maximum.accumulate(clocks - taken, axis=1)
        told = told + np.diff(taken, axis=1)
    sums = _along_the_clock(schedule, int(spells.clocks.max()) + 1)

    def mean(of_stage: Floats, elsewhere: Floats | float = 0.0) -> Floats:
        return (np.diff(sums(of_stage).take(clocks), axis=1) + elsewhere) / fleet.grid.sizes

    factors = prepared.factors
    return _Met(
        factor=mean(factors[schedule.levels], told * factors[Level.NOTICED] + spells.free),
        delayed=mean(schedule.delayed),
        lost=mean(schedule.lost),
    )


def _taken(prepared: Prepared, schedule: Schedule) -> Ints:
    """Count the days of planned pause of each spell before each piece, and after the last: (spells, pieces + 1).

    A tenant pauses from the day on which its first server comes to a stage that harms, if that is still to come; days
    over the year's quota are not granted. A planned pause in an exemption counts as if both took days.
    """
    fleet, spells = prepared.fleet, prepared.fleet.spells
    harsh = np.flatnonzero(schedule.levels >= Level.THROTTLED)
    size = fleet.n_days + 1
    first = np.append(0, fleet.grid.ends + 1)
    if not len(harsh):
        return np.zeros((len(spells.begins), len(first)), dtype=np.int64)
    to_come = np.maximum(schedule.starts[harsh[0]] - spells.lead_clocks, 0)
    reached = fleet.run[spells.lead_kinds, np.minimum(spells.lead_begins, size)] + to_come
    day = fleet.running_day[spells.lead_kinds, np.minimum(reached, size)]
    day = np.where((spells.lead_begins < size) & (day > 0), np.minimum(day, size), size)
    days, row = np.unique(day, return_inverse=True)
    every = np.arange(size)
    begins = days[:, np.newaxis]
    used = every - np.maximum(begins, every - fleet.year_days)
    granted = (every >= begins) & (every < begins + prepared.pause_days) & (used < schedule.pause_quota)
    sums = np.concatenate([np.zeros((len(days), 1), dtype=np.int64), np.cumsum(granted, axis=1)], axis=1)
    start = np.minimum(spells.begins, size)
    return np.maximum(sums[row[:, np.newaxis], first] - sums[row, start][:, np.newaxis], 0)


def expected(prepared: Prepared, schedule: Schedule) -> pl.DataFrame:
    """Give what is expected by day: day, counted from the standpoint, and MEASURES.

    On a coarse grid a row stands for a piece, under its last day. Servers are counted as a mean, messages as a day's
    mean. Delayed and lost are never added up.
    """
    grid = prepared.fleet.grid
    servers, *messages = course(prepared, schedule)
    columns = {"day": grid.ends, MEASURES[0]: servers}
    return pl.DataFrame(columns | {name: sums / grid.sizes for name, sums in zip(MEASURES[1:], messages, strict=True)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What is expected over the days to come, (schedules,): messages, and the highest shares of a week's mail.

    Day 0 is past, and a last week that is not whole is none, unless the horizon is shorter.
    """

    accepted_vulnerable: Floats
    delayed: Floats
    lost: Floats
    vulnerable_servers: Floats
    highest_delayed_of_a_week: Floats
    highest_lost_of_a_week: Floats
    mail: float


def expected_many(
    prepared: Prepared,
    candidates: Sequence[Schedule],
    report: Callable[[int], None] = lambda _: None,
    threads: int = 2,
) -> Totals:
    """Judge many schedules; each as `course` would alone. vulnerable_servers: at the horizon."""
    n_days, week = prepared.fleet.n_days, prepared.returning.week
    mail_a_week = np.add.reduceat(prepared.fleet.mail_a_day[1:], np.arange(0, n_days, DAYS_PER_WEEK))
    firsts = np.searchsorted(week, np.arange(1, len(mail_a_week) + 1))
    whole = slice(max(1, n_days // DAYS_PER_WEEK))
    found = np.empty((6, len(candidates)))

    def highest(messages: Floats) -> float:
        """Give the highest share of a whole week's mail."""
        weekly = np.add.reduceat(messages, firsts)[whole]
        mail = mail_a_week[whole]
        return float(np.divide(weekly, mail, out=np.zeros_like(mail), where=mail > 0).max())

    def some(places: range) -> int:
        for place, (servers, risk, late, gone) in zip(
            places, courses(prepared, candidates[places.start : places.stop]), strict=True
        ):
            found[:3, place] = [messages[1:].sum() for messages in (risk, late, gone)]
            found[3:, place] = servers[-1], highest(late), highest(gone)
        return places.stop

    with ThreadPoolExecutor(threads) as pool:
        parts = [range(at, min(at + _TOGETHER, len(candidates))) for at in range(0, len(candidates), _TOGETHER)]
        for done in pool.map(some, parts):
            report(done)
    return Totals(mail=float(mail_a_week.sum()), **dict(zip(Totals.__slots__[:-1], found, strict=True)))
