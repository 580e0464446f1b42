"""Histories drawn from the very model that is estimated, with known rates and multipliers, day by day."""

from dataclasses import dataclass

import numpy as np

from enforcement.chance import Bools, Floats, Ints
from enforcement.hazards import BLOCK_WEEKS, N_CELLS, N_SUPPORTED, PRIOR_WEEKS, SUPPORTED_WEEKS, UNSUPPORTED_WEEKS
from enforcement.patching import NEVER, WEEK, Histories
from enforcement.posterior import GRID, PRIOR_MEDIANS, PRIOR_SD

END = 20_454.0  # a day; updates before are public
WEEKS = 208
HORIZON = 26
LANDS_CURRENT = 0.65


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a history was drawn with: rates a week by cell, shapes; and the history, up to a horizon after END."""

    rates: Floats
    shapes: Floats
    history: Histories


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """How servers are seen. `all_changes`: each change is seen at once. A server stays in sight for so many weeks."""

    sightings_per_week: float
    weeks_in_sight: float
    all_changes: bool


FULLY = Observed(sightings_per_week=0.5, weeks_in_sight=500, all_changes=True)
CENSORED = Observed(sightings_per_week=0.5, weeks_in_sight=30, all_changes=True)
IN_GAPS = Observed(sightings_per_week=0.3, weeks_in_sight=150, all_changes=False)


def drawn_truth(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw rates and shapes from the priors; shapes within the grid on which they are estimated."""
    rates = rng.gamma(0.5, 1 / PRIOR_WEEKS, N_CELLS)
    shapes = np.array(PRIOR_MEDIANS) * np.exp(PRIOR_SD * rng.standard_normal(3))
    return rates, np.clip(shapes, GRID[0], GRID[-1])


def simulate(rng: np.random.Generator, seen: Observed, *, n_tenants: int = 25, largest: int = 12) -> Truth:
    """Draw a truth and a history of tenants of up to so many servers."""
    rates, shapes = drawn_truth(rng)
    tenant = np.repeat(np.arange(n_tenants), rng.integers(1, largest + 1, n_tenants))
    n, begin = len(tenant), END - WEEKS * WEEK
    until = END + HORIZON * WEEK
    n_blocks = (WEEKS + HORIZON) // BLOCK_WEEKS
    z = rng.gamma(shapes[0], 1 / shapes[0], n_tenants)
    w = rng.gamma(shapes[1], 1 / shapes[1], (n_tenants, n_blocks))
    g = rng.gamma(shapes[2], 1 / shapes[2], n_blocks)
    updates = np.unique(np.floor(begin - 400 + np.cumsum(rng.exponential(60, 60))))
    updates = updates[updates < until + 400]
    ends = np.where(rng.random(n) < 0.3, np.floor(rng.uniform(begin, until, n)), NEVER)
    missing = _landing(np.full(n, begin - 1.0), updates, rng)
    came = rng.uniform(begin - 100, END - 100, n)
    stays = np.minimum(until, came + rng.exponential(seen.weeks_in_sight * WEEK, n))
    came = np.maximum(came, begin)
    spells: list[list[tuple[float, float, float]]] = [[(begin, missing[i], ends[i])] for i in range(n)]
    left = rng.exponential(1, n)
    for day in np.arange(begin, until):
        pressure = _hazard(rates, missing, ends, day) / WEEK
        block = int((day - begin) // (BLOCK_WEEKS * WEEK))
        pressure = pressure * z[tenant] * w[tenant, block] * g[block]
        acts = np.flatnonzero(left <= pressure)
        at = day + left[acts] / pressure[acts]
        left = left - pressure
        # At most one change a day: a second one would need a new update within the day.
        for server, when in zip(acts, at, strict=True):
            if ends[server] <= day:
                ends[server] = NEVER
            missing[server] = _landing(np.array([when]), updates, rng, above=missing[server])[0]
            spells[server].append((float(when), missing[server], ends[server]))
        left[acts] = rng.exponential(1, len(acts))
    history = _seen(spells, (came, stays), (tenant, updates), seen, rng)
    return Truth(rates=rates, shapes=shapes, history=history)


def _hazard(rates: Floats, missing: Floats, ends: Floats, day: float) -> Floats:
    """Look a rate up the slow way."""
    found = np.zeros(len(missing))
    for server in range(len(missing)):
        if ends[server] <= day:
            starts: tuple[int, ...] = UNSUPPORTED_WEEKS
            offset, age = N_SUPPORTED, (day - ends[server]) / WEEK
        elif missing[server] <= day:
            starts = SUPPORTED_WEEKS
            offset, age = 0, (day - missing[server]) / WEEK
        else:
            continue
        found[server] = rates[offset + max(k for k, start in enumerate(starts) if start <= age)]
    return found


def _landing(at: Floats, updates: Floats, rng: np.random.Generator, above: float = -np.inf) -> Floats:
    """Give the first missing update on arrival: one to come, or the last one that came; never one missed before."""
    landed = []
    for when in at:
        later, earlier = updates[updates > when], updates[(updates <= when) & (updates > above)]
        to_come = later[0] if len(later) else NEVER
        landed.append(earlier[-1] if len(earlier) and rng.random() > LANDS_CURRENT else to_come)
    return np.array(landed)


def _seen(
    spells: list[list[tuple[float, float, float]]],
    in_sight: tuple[Floats, Floats],
    known: tuple[Ints, Floats],
    seen: Observed,
    rng: np.random.Generator,
) -> Histories:
    rows: list[tuple[float, ...]] = []
    sightings: list[tuple[int, float]] = []
    came, stays = in_sight
    for server, changes in enumerate(spells):
        days = came[server] + np.cumsum(rng.exponential(WEEK / seen.sightings_per_week, 4_000))
        days = np.concatenate([[came[server]], days[days < stays[server]]])
        if seen.all_changes:
            days = np.sort(np.concatenate([days, [at for at, *_ in changes if came[server] < at < stays[server]]]))
        place = np.searchsorted([at for at, *_ in changes], days, side="right") - 1
        shown = np.unique(place)
        for number, spell in enumerate(shown):
            inside = days[place == spell]
            following = days[place == shown[number + 1]][0] if number + 1 < len(shown) else NEVER
            sightings.extend((len(rows), day) for day in inside)
            rows.append((server, *changes[spell][1:], inside[0], inside[-1], following))
    columns = np.array(rows).T
    n = len(spells)
    return Histories(
        servers=tuple(f"s{i}" for i in range(n)),
        tenants=tuple(f"t{i}" for i in range(int(known[0].max()) + 1)),
        tenant=known[0],
        server=columns[0].astype(np.int64),
        product=(columns[2] < NEVER).astype(np.int64),
        missing=columns[1],
        unsupported=columns[2],
        first=columns[3],
        last=columns[4],
        end=columns[5],
        seen_spell=np.array([spell for spell, _ in sightings], dtype=np.int64),
        seen_at=np.array([day for _, day in sightings]),
        updates=known[1],
    )


def holds(draws: Floats, truth: Floats) -> Bools:
    """Whether the 90 % ranges of draws, a column each, hold the truth."""
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    return np.asarray((low <= truth) & (truth <= high))
