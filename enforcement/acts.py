"""When a server's administrators act: the first day on which the summed hazard has met their patience."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

import numpy as np

from enforcement.chance import Floats, Ints
from enforcement.pressure import FAR, Table
from enforcement.response import HALF_YEAR_DAYS, DrawnRates

_NOTHING: Final = 1e-12  # a sum that nobody's patience is met by
_STEPS: Final = 8192  # of a sum, in the table that gives the day of each


@dataclass(frozen=True, slots=True, kw_only=True)
class Cumulated:
    """A hazard summed up over the first n days, n being the place, and a table to look up the day of a sum.

    guide: for each of many steps of sums the first day with as much; padded: the sums, and infinity behind them.

    >>> Cumulated.of(np.array([0, 7]), np.array([0.1, 0.01]), n_days=9).sums.round(2).tolist()
    [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.71, 0.72]
    """

    sums: Floats
    padded: Floats
    guide: Ints
    steps: float

    @classmethod
    def of(cls, from_days: Ints, rates: Floats, *, n_days: int) -> Self:
        """Sum up rates a day that hold from their day on until the next one's."""
        sums = np.zeros(n_days + 1)
        np.cumsum(rates[np.searchsorted(from_days, np.arange(n_days), side="right") - 1], out=sums[1:])
        steps = _STEPS / sums[-1] if sums[-1] > _NOTHING else 0.0
        # A little below each step, as the last bit of a product can be wrong.
        below = np.maximum(np.arange(_STEPS + 1) - 0.001, 0) / (steps or 1.0)
        return cls(
            sums=sums,
            padded=np.append(sums, [np.inf] * 3),
            guide=np.maximum(np.searchsorted(sums, below), 1),
            steps=steps,
        )

    def days_until(self, sums: Floats) -> Ints:
        """Give the number of days after which each sum is met, at least 1; one more than there are: never.

        >>> hazard = Cumulated.of(np.array([0, 7]), np.array([0.1, 0.01]), n_days=9)
        >>> hazard.days_until(np.array([0.05, 0.35, 0.705])).tolist()
        [1, 4, 8]
        """
        days = self.guide.take((sums * self.steps).astype(np.int64), mode="clip")
        days += self.padded.take(days) < sums
        days += self.padded.take(days) < sums
        more = np.flatnonzero(self.padded.take(days) < sums)
        if len(more):  # days on which next to nothing is added
            days[more] = np.searchsorted(self.sums, sums[more])
        return days


@dataclass(frozen=True, slots=True, kw_only=True)
class Hazard:
    """The base hazard of a draw: since the first missing update, and since the end of support, which goes before."""

    supported: Cumulated
    unsupported: Cumulated

    @classmethod
    def of(cls, drawn: DrawnRates, row: int, *, n_days: int) -> Self:
        """Sum up the rates of a draw over so many days, the oldest that is asked for."""
        return cls(
            supported=Cumulated.of(drawn.supported_from_days, drawn.supported[row], n_days=n_days),
            unsupported=Cumulated.of(drawn.unsupported_from_days, drawn.unsupported[row], n_days=n_days),
        )

    def sums(self, since: Ints, ended: Ints, until: Ints) -> Floats:
        """Sum the hazard from the beginning until a day, that day counted."""
        return self.at(*places(since, ended, until))

    def at(self, supported_days: Ints, unsupported_days: Ints) -> Floats:
        """Sum the hazard over days of support with an update missing, and days out of support."""
        return self.supported.sums.take(supported_days) + self.unsupported.sums.take(unsupported_days)

    def first_day(self, since: Ints, ended: Ints, sums: Floats) -> Ints:
        """Give the first day until which the hazard has summed up to at least so much."""
        in_support = self.supported.sums.take(np.clip(ended - since, 0, len(self.supported.sums) - 1))
        later = sums > in_support
        found = since - 1 + self.supported.days_until(sums)
        if later.any():
            found[later] = ended[later] - 1 + self.unsupported.days_until((sums - in_support)[later])
        return found


def places(since: Ints, ended: Ints, until: Ints) -> tuple[Ints, Ints]:
    """Count the days until a day with an update missing in support, and those out of support."""
    return np.maximum(np.minimum(until, ended - 1) - since + 1, 0), np.maximum(until - ended + 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Servers that share all that their hazard rests on, one path each column.

    ends: (pieces, paths) the last days of pieces of like level, the first row the day from which on it counts, the last
    the horizon; every half-year's last day is among them; levels: what is met in the piece that ends there; half_year:
    the places of the half-years' last days.
    """

    since: Ints
    ended: Ints
    ends: Ints
    levels: Ints
    half_years: Ints
    supported_days: Ints
    unsupported_days: Ints


def paths(since: Ints, ended: Ints, seen: Ints, ends: Ints, levels: Table) -> Paths:
    """Cut the days of each path where its pressure changes and where half-years end.

    seen: the day of the last sighting, after which the hazard counts; ends: from `Pressure`, a column a path;
    levels: a row a path.
    """
    horizon = levels.shape[1] - 1
    n = len(since)
    halves = np.arange(HALF_YEAR_DAYS, horizon, HALF_YEAR_DAYS)
    fixed = np.repeat(np.array([0, *halves])[:, np.newaxis], n, axis=1)
    cut = np.sort(np.concatenate([seen[np.newaxis], fixed, ends]), axis=0)
    keep = np.append(True, (np.diff(cut, axis=0) > 0).any(axis=1))
    cut = cut[keep]
    met = np.take_along_axis(levels, np.maximum(cut, 0).T, axis=1).T.astype(np.int64)
    met[cut <= 0] = 0
    found = np.array([(cut <= half).sum(axis=0) - 1 for half in halves], dtype=np.int64).reshape(len(halves), n)
    supported, unsupported = places(since, ended, cut)
    return Paths(
        since=since,
        ended=ended,
        ends=cut,
        levels=met,
        half_years=found,
        supported_days=supported,
        unsupported_days=unsupported,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """How people react in a draw: the base hazard, the factor of each level, and (half-years, tenants) multipliers."""

    hazard: Hazard
    factors: Floats
    multipliers: Floats


def first_acts(on: Paths, path: Ints, patience: Floats, tenant: Ints, by: Reaction) -> Ints:
    """Give the first day on which the summed hazard of each server has met its patience; FAR: not by the horizon.

    path, patience, tenant: of each server. A day before the standpoint: it had acted, unseen.

    >>> met = np.array([[0, 0, 0, 0, 0, 4, 4, 4]], dtype=np.int8)  # fully blocked from day 5 on
    >>> day = np.array([0])
    >>> on = paths(day - 10, day + FAR, day - 2, np.array([[4], [7]]), met)
    >>> flat = Cumulated.of(day, np.array([0.1]), n_days=20)
    >>> hazard = Hazard(supported=flat, unsupported=flat)
    >>> by = Reaction(hazard=hazard, factors=np.array([1, 1, 1, 1, 5.0]), multipliers=np.ones((1, 1)))
    >>> who = np.zeros(4, dtype=np.int64)
    >>> first_acts(on, who, np.array([0.15, 0.55, 1.5, 9.0]), who, by).tolist() == [0, 4, 6, FAR]
    True
    """
    base = by.hazard.at(on.supported_days, on.unsupported_days)
    met = np.zeros_like(base)
    np.cumsum(np.diff(base, axis=0) * by.factors[on.levels[1:]], axis=0, out=met[1:])
    wanted = patience / by.multipliers[0].take(tenant)
    columns = np.arange(base.shape[1])
    for end, (earlier, later) in zip(on.half_years, pairwise(by.multipliers), strict=False):
        until = met[end, columns].take(path)
        ratio = (earlier / later).take(tenant)
        wanted = np.where(wanted > until, until + (wanted - until) * ratio, wanted)
    acts = np.flatnonzero(wanted <= met[-1].take(path))
    wanted, path = wanted[acts], path[acts]
    piece = np.zeros(len(acts), dtype=np.int64)
    for row in met[1:-1]:
        piece += row.take(path) < wanted
    at = piece * base.shape[1] + path
    more = (wanted - met.ravel().take(at)) / by.factors.take(on.levels[1:].ravel().take(at))
    day = by.hazard.first_day(on.since.take(path), on.ended.take(path), base.ravel().take(at) + more)
    # Sums in another order differ in their last bit: a day never leaves its piece.
    day = np.clip(day, on.ends.ravel().take(at) + 1, on.ends.ravel().take(at + base.shape[1]))
    found = np.full(len(patience), FAR)
    found[acts] = day
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Servers that wait from a day on, each on a path of its own: an array of servers each.

    after: the day behind which the hazard counts; ends, levels: (pieces, servers) as in `Pressure`.
    """

    since: Ints
    ended: Ints
    after: Ints
    ends: Ints
    levels: Ints
    tenant: Ints

    def take(self, which: Ints) -> "Waiting":
        """Take some of them."""
        return Waiting(
            since=self.since[which],
            ended=self.ended[which],
            after=self.after[which],
            ends=self.ends.take(which, axis=1),
            levels=self.levels.take(which, axis=1),
            tenant=self.tenant[which],
        )


def next_acts(on: Waiting, patience: Floats, by: Reaction) -> Ints:
    """Give the first day on which the hazard summed up from a day on has met the patience; FAR: not by the horizon.

    >>> none, day = np.array([FAR]), np.array([0])
    >>> on = Waiting(
    ...     since=none, ended=day, after=day + 3, ends=np.array([[4], [9]]), levels=np.array([[0], [4]]), tenant=day)
    >>> flat = Cumulated.of(day, np.array([0.1]), n_days=20)
    >>> hazard = Hazard(supported=flat, unsupported=flat)
    >>> by = Reaction(hazard=hazard, factors=np.array([1, 1, 1, 1, 5.0]), multipliers=np.ones((1, 1)))
    >>> next_acts(on, np.array([0.7]), by).tolist()
    [6]
    """
    found = np.full(len(patience), FAR)
    last = int(on.ends.max(initial=0))
    # Nearly all are in support until the last day, or out of it from the first on: one table of sums for each.
    waits = (on.since <= last) | (on.ended <= last)
    only = {0: waits & (on.ended > last), 1: waits & (on.ended <= on.after + 1)}
    for which, part in ((0, by.hazard.supported), (1, by.hazard.unsupported)):
        if len(chosen := np.flatnonzero(only[which])):
            ages = _Ages(part=part, origin=(on.ended if which else on.since)[chosen])
            found[chosen] = _acts_of(on.take(chosen), ages, patience[chosen], by)
    if len(chosen := np.flatnonzero(waits & ~only[0] & ~only[1])):
        found[chosen] = _acts_of(on.take(chosen), _BothAges.of(on, chosen, by.hazard), patience[chosen], by)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ages:
    """The hazard of servers that count from one day each."""

    part: Cumulated
    origin: Ints

    def sums(self, at: Ints, until: Ints) -> Floats:
        """Sum up to a day, for servers by their place."""
        return self.part.sums.take(np.maximum(until - self.origin.take(at) + 1, 0))

    def first_day(self, at: Ints, sums: Floats) -> Ints:
        """Give the first day with as much."""
        return self.origin.take(at) - 1 + self.part.days_until(sums)


@dataclass(frozen=True, slots=True, kw_only=True)
class _BothAges:
    """The hazard of servers whose support ends while they wait."""

    hazard: Hazard
    since: Ints
    ended: Ints

    @classmethod
    def of(cls, on: Waiting, chosen: Ints, hazard: Hazard) -> Self:
        """Take some servers."""
        return cls(hazard=hazard, since=on.since[chosen], ended=on.ended[chosen])

    def sums(self, at: Ints, until: Ints) -> Floats:
        """Sum up to a day, for servers by their place."""
        return self.hazard.sums(self.since.take(at), self.ended.take(at), until)

    def first_day(self, at: Ints, sums: Floats) -> Ints:
        """Give the first day with as much."""
        return self.hazard.first_day(self.since.take(at), self.ended.take(at), sums)


def _acts_of(on: Waiting, ages: _Ages | _BothAges, patience: Floats, by: Reaction) -> Ints:
    """Go from piece to piece of like level until the patience is met in one."""
    n, last_half = len(patience), len(by.multipliers) - 1
    found, at, left = np.full(n, FAR), np.arange(n), patience
    multipliers = by.multipliers.take(on.tenant, axis=1)
    # The weighted sum is multiplier * hazard + shift in each half-year, and `marks` at its end.
    shifts, marks = np.zeros((last_half + 1, n)), np.zeros((last_half, n))
    for half in range(last_half):
        base = ages.sums(at, np.full(n, HALF_YEAR_DAYS * (half + 1)))
        marks[half] = multipliers[half] * base + shifts[half]
        shifts[half + 1] = marks[half] - multipliers[half + 1] * base
    multiplier_of, shift_of = multipliers.ravel(), shifts.ravel()
    last = int(on.ends.max())
    half_of_day = np.minimum((np.maximum(np.arange(last + 1), 1) - 1) // HALF_YEAR_DAYS, last_half) * n

    def weighted(at: Ints, until: Ints) -> Floats:
        place = half_of_day.take(np.maximum(until, 0)) + at
        return multiplier_of.take(place) * ages.sums(at, until) + shift_of.take(place)

    low = weighted(at, on.after)
    pieces = list(zip(on.ends, on.levels, strict=True))
    if on.after.min() < 0:  # until the standpoint nothing is met
        pieces.insert(0, (np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)))
    for ends, levels in pieces:
        factor = by.factors.take(levels.take(at))
        end = ends.take(at)
        until = np.maximum(end, on.after.take(at))
        high = np.maximum(weighted(at, until), low)
        amount = (high - low) * factor
        hit = (left <= amount) & (high > low)
        hits = np.flatnonzero(hit)
        if len(hits):
            who, wanted = at[hits], low[hits] + left[hits] / factor[hits]
            place = who.copy()
            for mark in marks:  # half-years that are over before
                place += n * (mark.take(who) < wanted)
            base = (wanted - shift_of.take(place)) / multiplier_of.take(place)
            days = ages.first_day(who, base)
            found[who] = np.clip(days, on.after.take(who) + 1, until[hits])
        rest = np.flatnonzero(~hit & (end < last))
        if not len(rest):
            break
        at, low, left = at[rest], high[rest], (left - amount)[rest]
    return found
