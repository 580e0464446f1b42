"""What a fleet will look like some weeks on, from what was known on a day: an ensemble of courses, week by week."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from enforcement.chance import Bools, Floats, Ints
from enforcement.gamma import gamma_draws, log_survival
from enforcement.hazards import BLOCK_WEEKS, N_SUPPORTED, SUPPORTED_WEEKS, UNSUPPORTED_WEEKS, at_risk, blocks
from enforcement.patching import NEVER, WEEK, Histories, is_vulnerable
from enforcement.posterior import Posterior, posterior

RATES_FROM_WEEKS: Final = 104  # rates of patching change over the years
MULTIPLIERS_FROM: Final = 18_809.0  # 2021-07-01: until a few weeks earlier smtp hops showed few of the updates
LANDINGS_FROM_WEEKS: Final = 156
IN_SIGHT_WEEKS: Final = 13
VULNERABLE_AFTER_DAYS: Final = 90.0  # the rule of the policy ninety-days
PATIENCE_CORRELATION: Final = 0.5  # a guess
FEWEST_LANDINGS: Final = 5
_THIN: Final = 5  # one draw of so many is used: those next to each other are alike


@dataclass(frozen=True, slots=True, kw_only=True)
class Standings:
    """Servers as they stand at their last sighting before a day (`start`); `server` are numbers of a Histories."""

    server: Ints
    tenant: Ints
    missing: Floats
    unsupported: Floats
    start: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Landings:
    """Where changes led, a row each.

    age: of the first missing update, in days (NEVER: nothing is missing). unsupported: the day on which support of the
    new product ends. is_other_product: whether the product changed; is_supported: whether the new one was in support.
    """

    age: Floats
    unsupported: Floats
    is_other_product: Bools
    is_supported: Bools


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What a history tells up to a day: rates and multipliers, landings of servers in and out of support, updates."""

    day: float
    believed: Posterior
    supported: Landings
    unsupported: Landings
    n_updates: int
    n_events: int
    effective_events: float
    server_weeks: float


def learn(known: Histories, day: float, *, rng: np.random.Generator, n_draws: int) -> Learnt:
    """Learn from what was known on a day (`known_on`)."""
    first = min(MULTIPLIERS_FROM, day - RATES_FROM_WEEKS * WEEK)
    n_recent = RATES_FROM_WEEKS // BLOCK_WEEKS
    risk = at_risk(known, blocks(first, day))
    believed = posterior(risk, rng=rng, n_draws=n_draws * _THIN, recent_blocks=n_recent)
    n_events, weeks = int(risk.events[:, -n_recent:].sum()), risk.weeks[:, -n_recent:].sum(axis=(0, 1))
    return Learnt(
        day=day,
        believed=Posterior(
            rates=believed.rates[::_THIN], tenant=believed.tenant[::_THIN], shapes=believed.shapes[::_THIN]
        ),
        supported=landings(known, day - LANDINGS_FROM_WEEKS * WEEK, is_supported=True),
        unsupported=landings(known, day - LANDINGS_FROM_WEEKS * WEEK, is_supported=False),
        n_updates=int((known.updates > day - RATES_FROM_WEEKS * WEEK).sum()),
        n_events=n_events,
        effective_events=effective_events(believed.rates, weeks, n_events),
        server_weeks=float(weeks.sum()),
    )


def effective_events(rates: Floats, weeks: Floats, n_events: int) -> float:
    """Give how many changes that have nothing to do with each other would tell the mean rate as closely.

    rates: draws of (draws, cells); a mean rate from n independent changes has the relative variance 1 / n.

    >>> effective_events(np.array([[0.9, 9.0], [1.1, 9.0]]), np.array([1.0, 0.0]), 150)
    100.0
    """
    mean_rate = rates @ weeks
    variance = float(mean_rate.var())
    return min(float(n_events), round(float(mean_rate.mean()) ** 2 / variance, 1)) if variance else float(n_events)


def landings(known: Histories, from_day: float, *, is_supported: bool) -> Landings:
    """Find where changes led from a day on, of servers that missed an update in support, or were out of it."""
    at = known.end
    was_out = at >= known.unsupported
    chosen = (at < NEVER) & (at >= from_day) & (was_out != is_supported) & (was_out | (at >= known.missing))
    place = np.flatnonzero(chosen)
    new, at = place + 1, at[place]
    return Landings(
        age=np.where(known.missing[new] <= at, at - known.missing[new], NEVER),
        unsupported=known.unsupported[new],
        is_other_product=known.product[new] != known.product[place],
        is_supported=known.unsupported[new] > at,
    )


def standings_on(known: Histories, day: float) -> Standings:
    """Give the servers seen in the weeks before a day, as last seen; updates of later days are not known."""
    last_spell = np.flatnonzero(np.append(known.server[1:] != known.server[:-1], True)[: len(known.server)])
    start = known.last[last_spell]
    in_sight = start > day - IN_SIGHT_WEEKS * WEEK
    chosen = last_spell[in_sight]
    missing = known.missing[chosen]
    return Standings(
        server=known.server[chosen],
        tenant=known.tenant[known.server[chosen]],
        missing=np.where(missing <= day, missing, NEVER),
        unsupported=known.unsupported[chosen],
        start=start[in_sight],
    )


def courses(
    fleet: Standings,
    learnt: Learnt,
    n_weeks: int,
    *,
    rng: np.random.Generator,
    correlation: float = PATIENCE_CORRELATION,
) -> Bools:
    """Draw whether each server is vulnerable at the end of each week: (draws, weeks, servers).

    Each server goes on from its last sighting. Patience is exponential of mean 1, correlated within tenants; it runs
    out by rate x multipliers, after which the server lands where others landed and has a new patience. New updates
    come at the rate of the last two years, to all servers in support at once. Ends of support are known days.
    """
    n_draws, n = len(learnt.believed.shapes), len(fleet.server)
    shape = (n_draws, n)
    multiplier = _multipliers(fleet, learnt.believed, rng)
    missing, unsupported = np.tile(fleet.missing, (n_draws, 1)), np.tile(fleet.unsupported, (n_draws, 1))
    left = _patience(fleet.tenant, shape, correlation, rng)
    updates = _updates(learnt, n_weeks, rng)
    early = int(np.ceil((learnt.day - fleet.start.min(initial=learnt.day)) / WEEK))
    vulnerable = np.empty((n_draws, n_weeks, n), dtype=np.bool_)
    for week in range(1 - early, n_weeks + 1):
        begin, end = learnt.day + (week - 1) * WEEK, learnt.day + week * WEEK
        coming = updates[:, week - 1] if week > 0 else np.full(n_draws, NEVER)
        gets_one = (missing == NEVER) & (coming[:, None] < NEVER) & (unsupported > coming[:, None])
        missing = np.where(gets_one, coming[:, None], missing)
        share = np.clip((end - np.maximum(begin, fleet.start)) / WEEK, 0, 1)
        pressure = _rate(learnt.believed.rates, missing, unsupported, (begin + end) / 2) * multiplier * share
        left = left - pressure
        acts = (left <= 0) & (pressure > 0)
        if acts.any():
            missing, unsupported = _landed((missing, unsupported), acts, end, learnt, rng)
            left = np.where(acts, _patience(fleet.tenant, shape, correlation, rng), left)
        if week > 0:
            vulnerable[:, week - 1] = is_vulnerable(missing, unsupported, end, after_days=VULNERABLE_AFTER_DAYS)
    return vulnerable


def _multipliers(fleet: Standings, believed: Posterior, rng: np.random.Generator) -> Floats:
    """Draw tenant x tenant and half-year x common multipliers: (draws, servers)."""
    n_tenants = believed.tenant.shape[1]
    _, half_year, common = believed.shapes.T
    of_half_year = gamma_draws(np.tile(half_year[:, None], (1, n_tenants)), rng) / half_year[:, None]
    of_all = gamma_draws(common, rng) / common
    return (believed.tenant * of_half_year * of_all[:, None])[:, fleet.tenant]


def _patience(tenant: Ints, shape: tuple[int, int], correlation: float, rng: np.random.Generator) -> Floats:
    _, of_tenant = np.unique(tenant, return_inverse=True)
    common = rng.standard_normal((shape[0], int(of_tenant.max(initial=0)) + 1))[:, of_tenant]
    return -log_survival(np.sqrt(correlation) * common + np.sqrt(1 - correlation) * rng.standard_normal(shape))


def _updates(learnt: Learnt, n_weeks: int, rng: np.random.Generator) -> Floats:
    """Draw the day of the first new update of each week, or NEVER: (draws, weeks)."""
    n_draws = len(learnt.believed.shapes)
    rate = gamma_draws(np.full(n_draws, learnt.n_updates + 0.5), rng) / (RATES_FROM_WEEKS + 2)
    after = rng.standard_exponential((n_draws, n_weeks)) / rate[:, None]  # weeks; memoryless, so anew each week
    return np.where(after < 1, learnt.day + (np.arange(n_weeks) + after) * WEEK, NEVER)


def _rate(rates: Floats, missing: Floats, unsupported: Floats, at: float) -> Floats:
    """Give each server's rate a week at a time: (draws, servers)."""
    is_out = unsupported <= at
    age = np.where(is_out, at - unsupported, at - missing) / WEEK
    in_support = np.searchsorted(SUPPORTED_WEEKS, age, side="right") - 1
    out = N_SUPPORTED + np.searchsorted(UNSUPPORTED_WEEKS, age, side="right") - 1
    cell = np.where(is_out, out, in_support)
    return np.where(age >= 0, np.take_along_axis(rates, np.maximum(cell, 0), axis=1), 0.0)


def _landed(
    build: tuple[Floats, Floats], acts: Bools, at: float, learnt: Learnt, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Move those who act to where a change of the past led, drawn for each."""
    row, column = np.nonzero(acts)
    was_out = build[1][row, column] <= at
    missing, unsupported = build[0].copy(), build[1].copy()
    for is_out, pool in ((False, learnt.supported), (True, learnt.unsupported)):
        chosen = was_out == is_out
        rows, columns = row[chosen], column[chosen]
        if len(pool.age) < FEWEST_LANDINGS:  # too few to draw from: those in support get current, the others stay
            missing[rows, columns] = missing[rows, columns] if is_out else NEVER
            continue
        drawn = (rng.random(len(rows)) * len(pool.age)).astype(np.int64)
        missing[rows, columns] = np.where(pool.age[drawn] < NEVER, at - pool.age[drawn], NEVER)
        moved = pool.is_other_product[drawn]
        unsupported[rows[moved], columns[moved]] = pool.unsupported[drawn[moved]]
    return missing, unsupported
