"""How fast servers are patched: changes counted over time at risk, by time since the update and half-year."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from enforcement.chance import Floats, Ints
from enforcement.patching import NEVER, WEEK, Histories

SUPPORTED_WEEKS: Final = (0, 2, 4, 8, 13, 26, 52, 104)
UNSUPPORTED_WEEKS: Final = (0, 26, 52)
N_CELLS: Final = len(SUPPORTED_WEEKS) + len(UNSUPPORTED_WEEKS)
N_SUPPORTED: Final = len(SUPPORTED_WEEKS)
BLOCK_WEEKS: Final = 26

# The prior of a rate: half an event in the time that it takes at 4 % a week. Both are guesses; 4 % lies amid the
# rates of public mailing lists, 2019-2026.
PRIOR_EVENTS: Final = 0.5
PRIOR_RATE: Final = 0.04
PRIOR_WEEKS: Final = PRIOR_EVENTS / PRIOR_RATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """Changes and server-weeks at risk: arrays of (tenant, block, cell).

    Cells are those of SUPPORTED_WEEKS, then those of UNSUPPORTED_WEEKS; blocks are half-years, the last one ends with
    the period.
    """

    events: Floats
    weeks: Floats

    @property
    def by_cell(self) -> tuple[Floats, Floats]:
        """Changes and server-weeks of each cell."""
        return self.events.sum(axis=(0, 1)), self.weeks.sum(axis=(0, 1))


def blocks(from_day: float, until_day: float) -> Floats:
    """Give the bounds of half-years, rising, counted back from the end of a period; the first one may be shorter.

    >>> blocks(0, 400).tolist()
    [0.0, 36.0, 218.0, 400.0]
    """
    whole = int((until_day - from_day) // (BLOCK_WEEKS * WEEK))
    bounds = np.asarray(until_day - BLOCK_WEEKS * WEEK * np.arange(whole, -1, -1), dtype=np.float64)
    return np.concatenate([np.array([from_day]), bounds]) if bounds[0] > from_day else bounds


def at_risk(known: Histories, bounds: Floats) -> Risk:
    """Count changes, as seen, and time at risk: a change happens at the first sighting of what follows.

    Time counts from the later of a spell's first sighting and the release of its missing update (or the end of
    support) until the change, else until the spell's last sighting: out of sight is no patching. It is split at the
    bounds of blocks, whose multipliers differ.

    >>> from enforcement.patching import of_spells
    >>> known = of_spells((0, 10, NEVER, 3, 20), (0, NEVER, NEVER, 31))
    >>> events, weeks = at_risk(known, blocks(0, 100)).by_cell
    >>> events[:3].tolist(), weeks[:3].tolist()
    ([0.0, 1.0, 0.0], [2.0, 1.0, 0.0])
    """
    stops = np.where(known.end < NEVER, known.end, known.last)
    return _counted(known, segments(known, known.first, stops, bounds), known.end, bounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """What is certain of changes whose day is not seen, and between what it lies.

    `certain`: changes and time at risk but for the gaps. A gap lasts from the last sighting of the old build to the
    first of the new one; `weeks` of its time at risk by block and cell, flat and in order of time: (gaps, blocks x
    cells).
    """

    certain: Risk
    tenant: Ints
    weeks: Floats

    def filled(self, hazards: Floats, rng: np.random.Generator) -> Risk:
        """Draw when in its gap each change happened, given rates a week (tenants, blocks, cells): data augmentation."""
        n_tenants, n_blocks, n_cells = self.certain.weeks.shape
        rates = np.maximum(hazards.reshape(n_tenants, -1)[self.tenant], 1e-12)
        pressure = rates * self.weeks
        before = np.cumsum(pressure, axis=1) - pressure
        total = pressure.sum(axis=1)
        met = -np.log1p(-rng.random(len(total)) * -np.expm1(-total))
        spent = np.clip(met[:, None] - before, 0, pressure) / rates
        happened = (before < met[:, None]) & (pressure > 0)
        if not len(total):
            return self.certain
        place = n_blocks * n_cells - 1 - happened[:, ::-1].argmax(axis=1)
        events, weeks = self.certain.events.copy(), self.certain.weeks.copy()
        np.add.at(events.reshape(n_tenants, -1), (self.tenant, place), 1)
        np.add.at(weeks.reshape(n_tenants, -1), self.tenant, spent)
        return Risk(events=events, weeks=weeks)


def gaps(known: Histories, bounds: Floats) -> Gaps:
    """Find the gaps in which changes lie; without gaps all is certain, and the same as `at_risk`.

    >>> from enforcement.patching import of_spells
    >>> found = gaps(of_spells((0, 10, NEVER, 3, 24), (0, NEVER, NEVER, 31)), blocks(0, 100))
    >>> found.certain.weeks.sum().item(), found.weeks.sum().item(), found.certain.events.sum().item()
    (2.0, 1.0, 0.0)
    """
    inside = segments(known, known.last, np.where(known.end < NEVER, known.end, known.last), bounds)
    is_gap = (inside.sum(axis=(1, 2)) > 0) & (known.end < bounds[-1])
    certain = _counted(
        known, segments(known, known.first, known.last, bounds), np.where(is_gap, NEVER, known.end), bounds
    )
    flat = inside[is_gap].reshape(int(is_gap.sum()), inside.shape[1] * inside.shape[2])
    return Gaps(certain=certain, tenant=known.tenant[known.server[is_gap]], weeks=flat)


def segments(known: Histories, start: Floats, stop: Floats, bounds: Floats) -> Floats:
    """Give the weeks of each spell between two times by block and cell: (spells, blocks, cells).

    >>> from enforcement.patching import of_spells
    >>> known = of_spells((0, 10, NEVER, 3, 31))
    >>> segments(known, known.first, known.last, blocks(0, 100))[0, 0, :3].tolist()
    [2.0, 1.0, 0.0]
    """
    low, high = cell_times(known)
    low = np.maximum(low, start[:, None])[:, None, :]
    high = np.minimum(high, stop[:, None])[:, None, :]
    low, high = np.maximum(low, bounds[None, :-1, None]), np.minimum(high, bounds[None, 1:, None])
    return np.maximum(high - low, 0) / WEEK


def cell_times(known: Histories) -> tuple[Floats, Floats]:
    """Give the days at which each spell enters and leaves each cell: two arrays of (spells, cells).

    >>> from enforcement.patching import of_spells
    >>> since, until = cell_times(of_spells((0, 10, 30, 3, 31)))
    >>> since[0, :3].tolist(), until[0, :3].tolist()
    ([10.0, 24.0, 38.0], [24.0, 30.0, 30.0])
    """
    since = np.concatenate([
        known.missing[:, None] + np.array(SUPPORTED_WEEKS) * WEEK,
        known.unsupported[:, None] + np.array(UNSUPPORTED_WEEKS) * WEEK,
    ], axis=1)  # fmt: skip
    until = np.concatenate([since[:, 1:], np.full((len(since), 1), NEVER)], axis=1)
    supported_until = np.minimum(until[:, :N_SUPPORTED], known.unsupported[:, None])
    supported_until[:, -1] = known.unsupported
    return since, np.concatenate([supported_until, until[:, N_SUPPORTED:]], axis=1)


def cell_at(known: Histories, at: Floats) -> Ints:
    """Give the cell that each spell is in at a time, or -1: nothing is missing.

    >>> from enforcement.patching import of_spells
    >>> known = of_spells((0, 10, 30, 3, 31))
    >>> [cell_at(known, np.array([day])).item() for day in (9.0, 10.0, 24.0, 30.0)]
    [-1, 0, 1, 8]
    """
    since, until = cell_times(known)
    # The moment at which a cell begins belongs to it.
    is_in = (since <= at[:, None]) & (at[:, None] < until)
    return np.where(is_in.any(axis=1), is_in.argmax(axis=1), -1)


def _counted(known: Histories, weeks: Floats, at: Floats, bounds: Floats) -> Risk:
    n_tenants = len(known.tenants)
    tenant = known.tenant[known.server]
    exposed = np.zeros((n_tenants, len(bounds) - 1, N_CELLS))
    np.add.at(exposed, tenant, weeks)
    events = np.zeros_like(exposed)
    cell = cell_at(known, at)
    block = np.searchsorted(bounds, at, side="right") - 1
    counts = (at < NEVER) & (cell >= 0) & (block >= 0) & (block < len(bounds) - 1)
    np.add.at(events, (tenant[counts], block[counts], cell[counts]), 1)
    return Risk(events=events, weeks=exposed)
