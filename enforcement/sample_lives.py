"""The lives of made-up servers: installed, patched when patience is met, upgraded, set back, retired.

A *machine* is what stands behind a server's name: mostly one, sometimes two of different builds.
"""

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import product as combinations
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from enforcement.catalogue import PRODUCTS, Catalogue
from enforcement.chance import Floats, Ints, choose, shuffled, spread
from enforcement.sample_shape import Shape
from enforcement.schema import day_from_number, day_number

Calendar: TypeAlias = npt.NDArray[np.int16]  # [machine, day]: the number of a release, or SILENT
Flags: TypeAlias = npt.NDArray[np.bool_]

SILENT: Final = -1  # in place of a release: not there yet, or retired
_NEVER: Final = 36_500.0  # days: a hundred years
_LEAST: Final = 1e-9  # in place of a rate or pace of 0: longer than any period
_UPDATES: Final = ("SU", "HU", "RU")  # kinds of release that keep a line up to date
_ON_2016: Final = PRODUCTS.index("Exchange Server 2016")


@dataclass(frozen=True, kw_only=True)
class Background:
    """What all lives have in common: the releases, the figures, the period. Days are day numbers."""

    catalogue: Catalogue
    shape: Shape
    first: int
    days: int

    @property
    def end(self) -> int:
        """The first day after the period."""
        return self.first + self.days

    @cached_property
    def out(self) -> Floats:
        """The day on which each product came out; beyond the period if it is in no table."""
        days = dict.fromkeys(PRODUCTS, self.first + _NEVER)
        for release in self.catalogue.releases:
            days[release.product] = min(days[release.product], day_number(release.released_on))
        return np.array(list(days.values()))

    @cached_property
    def support_ends(self) -> Floats:
        """The last day of each product's support; beyond the period if there is none."""
        ends = self.catalogue.support_ends
        return np.array([day_number(ends[each]) if each in ends else self.first + _NEVER for each in PRODUCTS])

    @cached_property
    def product_shares(self) -> Floats:
        """The share of each product among servers, of those that were out before the period."""
        known = self.out < self.first
        shares = np.array([self.shape.products.shares.get(each, 0.0) for each in PRODUCTS]) * known
        if not shares.sum():
            raise ValueError(
                f"no product of the sample was out on {day_from_number(self.first)}"
                " (expected a first day after the catalogue's first release)"
            )
        return shares / shares.sum()

    @property
    def newest(self) -> int:
        """The product that is installed anew."""
        return int(np.flatnonzero(self.out < self.first)[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """Whose the machines are: the tenant of each server, the server of each machine."""

    tenant: Ints
    server: Ints


def draw_lives(background: Background, owners: Owners, rng: np.random.Generator) -> Calendar:
    """Draw what each machine runs on each day of the period.

    >>> from enforcement.chance import stream
    >>> from enforcement.shipped import load_catalogue, load_sample_shape
    >>> background = Background(
    ...     catalogue=load_catalogue(), shape=load_sample_shape(), first=day_number(date(2026, 5, 5)), days=180
    ... )
    >>> calendar = draw_lives(background, Owners(tenant=np.array([0]), server=np.array([0])), stream(1))
    >>> calendar.shape, background.catalogue.releases[calendar[0, 0]].name
    ((1, 180), 'Exchange Server 2019 CU14 Nov24SUv2')
    """
    lives, first, end = background.shape.lives, background.first, background.end
    n = len(owners.server)
    products = _products(background, owners, rng)
    is_new = (spread(len(owners.tenant), rng) < lives.new_share)[owners.server] & (background.days > 1)
    products[is_new] = background.newest
    earliest = np.where(is_new, first + 1, background.out[products])
    latest = np.where(is_new, end, np.minimum(background.support_ends[products], first))
    installed = earliest + rng.random(n) * (latest - earliest)
    upgraded, onto = _upgrades(background, products, rng)
    retired = _retirements(background, products, installed, rng)

    # An upgrade is a second life of the same machine, which hides the first.
    second = np.flatnonzero((upgraded < end) & (onto > products))
    machine = np.concatenate([np.arange(n), second])
    calendar = np.full((n, background.days), SILENT, dtype=np.int16)
    changes = _changes(
        background,
        products=np.concatenate([products, onto[second]]),
        installed=np.concatenate([installed, upgraded[second]]),
        pace=_pace(background.shape, owners, rng)[machine],
        rng=rng,
    )
    at = np.clip(np.floor(changes.day).astype(np.int64) - first, 0, background.days - 1)
    np.maximum.at(calendar, (machine[changes.life], at), changes.release.astype(np.int16))
    np.maximum.accumulate(calendar, axis=1, out=calendar)  # releases are numbered by build: the newest stays
    _set_back(calendar, background.shape, rng)
    calendar[first + np.arange(background.days) >= retired[:, np.newaxis]] = SILENT
    return calendar


def _products(background: Background, owners: Owners, rng: np.random.Generator) -> Ints:
    """Choose each machine's product at the period's start: its tenant's, or one of the server's own."""
    shares = background.product_shares.tolist()
    sizes = np.bincount(owners.tenant)
    order = shuffled(len(sizes), rng)
    middle = np.empty(len(sizes))
    middle[order] = (np.cumsum(sizes[order]) - sizes[order] / 2) / sizes.sum()
    servers = len(owners.tenant)
    is_own = rng.random(servers) < background.shape.products.own_choice_share
    own = choose(shares, spread(servers, rng))
    return np.where(is_own, own, choose(shares, middle)[owners.tenant])[owners.server]


def _pace(shape: Shape, owners: Owners, rng: np.random.Generator) -> Floats:
    """Draw how fast each machine's administrators are: a multiplier of its tenant, mean 1; some never act."""
    log_variance = np.log1p(1 / shape.patching.tenant_shape)  # log-normal, of the same variance as the Gamma
    of_tenant = np.exp(np.sqrt(log_variance) * rng.standard_normal(int(owners.tenant.max()) + 1) - log_variance / 2)
    acts = spread(len(owners.server), rng) >= shape.patching.never_share
    return np.where(acts, of_tenant[owners.tenant[owners.server]], _LEAST)


def _upgrades(background: Background, products: Ints, rng: np.random.Generator) -> tuple[Floats, Ints]:
    """Draw when each machine out of support is upgraded, and onto which product: the newest, or older ones to 2016."""
    lives, n = background.shape.lives, len(products)
    stops_at_2016 = (products < _ON_2016) & (rng.random(n) < lives.upgrade_to_2016_share)
    onto = np.where(stops_at_2016, min(_ON_2016, background.newest), background.newest)
    rate = np.array([lives.upgrade_per_week.get(each, 0.0) for each in PRODUCTS])[products]
    begin = np.maximum(background.first, background.support_ends[products] + 1)
    return begin + 7 * rng.standard_exponential(n) / np.maximum(rate, _LEAST), onto


def _retirements(background: Background, products: Ints, installed: Floats, rng: np.random.Generator) -> Floats:
    """Draw the first day on which each machine is gone; each is there for a day at least."""
    lives = background.shape.lives
    is_supported = background.support_ends[products] >= background.first
    rate = np.where(is_supported, lives.retire_supported_per_week, lives.retire_unsupported_per_week)
    stays = 7 * rng.standard_exponential(len(products)) / np.maximum(rate, _LEAST)
    return np.floor(np.maximum(background.first, installed)) + 1 + stays


def _set_back(calendar: Calendar, shape: Shape, rng: np.random.Generator) -> None:
    """Put a share of the machines that changed back on the build before, for some days: restored, or a wrong node."""
    if calendar.shape[1] < 3:
        return  # no day before the change, or none after it
    changes = (calendar[:, 1:] != calendar[:, :-1]) & (calendar[:, :-1] != SILENT)
    changed = np.flatnonzero(changes.any(axis=1))
    machines = changed[spread(len(changed), rng) < shape.lives.regress_share]
    day = changes[machines].argmax(axis=1) + 1
    start = day + 1 + np.floor(rng.random(len(machines)) * 20)
    stop = start + 1 + np.floor(rng.random(len(machines)) * shape.lives.regress_most_days)
    days = np.arange(calendar.shape[1])
    is_back = (days >= start[:, np.newaxis]) & (days < stop[:, np.newaxis])
    earlier = calendar[machines, day - 1][:, np.newaxis]
    calendar[machines] = np.where(is_back, earlier, calendar[machines])


class _Changes(NamedTuple):
    """Builds put on: in which life, when, which release."""

    life: Ints
    day: Floats
    release: Ints


def _changes(
    background: Background, *, products: Ints, installed: Floats, pace: Floats, rng: np.random.Generator
) -> _Changes:
    """Draw the builds of each life: the one installed, and each that patching puts on."""
    mix = background.shape.products
    is_behind = spread(len(products), rng) < mix.one_line_behind_share
    is_extended = spread(len(products), rng) < mix.extended_share
    found = []
    for number, behind, extended in combinations(range(len(PRODUCTS)), (False, True), (False, True)):
        lives = np.flatnonzero((products == number) & (is_behind == behind) & (is_extended == extended))
        if len(lives):
            track = _track(background.catalogue, PRODUCTS[number], behind=behind, extended=extended)
            support_end = background.first + _NEVER if extended else float(background.support_ends[number])
            group = _Group(background=background, track=track, support_end=support_end)
            found += [
                _Changes(lives[each.life], each.day, each.release)
                for each in group.changes(installed[lives], pace[lives], rng)
            ]
    return _Changes(*(np.concatenate(column) for column in zip(*found, strict=True)))


class _Track(NamedTuple):
    """What there is to install for those who follow one line of updates: from which day on, which release."""

    days: Floats
    releases: Ints


def _track(catalogue: Catalogue, product: str, *, behind: bool, extended: bool) -> _Track:
    """Follow a product's newest line over time, or the one before it while that is kept up to date too.

    Paid updates are only for those who have them.
    """
    known = sorted(
        (release.released_on, number)
        for number, release in enumerate(catalogue.releases)
        if release.product == product and (release.is_public or extended)
    )
    steps: list[tuple[date, int]] = []
    newest_line: tuple[int, ...] = ()
    best = best_before = -1  # of the newest line, of the lines before it
    updated = updated_before = date.min
    for day, number in known:
        release = catalogue.releases[number]
        if release.build.line > newest_line:
            best_before, newest_line = best, release.build.line
            updated = date.min
        is_newest = release.build.line == newest_line
        best, best_before = (max(best, number), best_before) if is_newest else (best, max(best_before, number))
        if release.kind in _UPDATES:
            updated, updated_before = (day, updated_before) if is_newest else (updated, day)
        stays = behind and best_before >= 0 and updated_before >= updated
        choice = best_before if stays else best
        if not steps or choice > steps[-1][1]:
            steps.append((day, choice))
    return _Track(np.array([float(day_number(day)) for day, _ in steps]), np.array([number for _, number in steps]))


class _Hazard(NamedTuple):
    """A rate that changes with the days since something: the days, and the rate summed up to each."""

    days: Floats
    summed: Floats

    @classmethod
    def weekly(cls, from_week: tuple[float, ...], per_week: tuple[float, ...]) -> "_Hazard":
        weeks = np.array([*from_week, _NEVER / 7])
        return cls(weeks * 7, np.concatenate([[0.0], np.cumsum(np.diff(weeks) * per_week)]))

    def met(self, since: Floats | float, begin: Floats, patience: Floats) -> Floats:
        """Give the days on which the rate, summed up from `begin`, meets each patience."""
        summed = np.interp(begin - since, self.days, self.summed) + patience
        return since + np.interp(summed, self.summed, self.days)


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Lives that follow the same track and lose support on the same day."""

    background: Background
    track: _Track
    support_end: float

    def changes(self, installed: Floats, pace: Floats, rng: np.random.Generator) -> list[_Changes]:
        """Draw the first build of each life, then change after change until all patience outlasts the period."""
        patching = self.background.shape.patching
        missing = _Hazard.weekly(patching.missing_from_week, patching.missing_per_week)
        unsupported = _Hazard.weekly(patching.unsupported_from_week, patching.unsupported_per_week)
        life, now = np.arange(len(installed)), installed
        step = np.maximum(self._found(now, rng), 0)
        drawn = [_Changes(life, now, self.track.releases[step])]
        while True:
            goes_on = step + 1 < len(self.track.days)
            life, now, step = life[goes_on], now[goes_on], step[goes_on]
            since = self.track.days[step + 1]  # the first update missing
            day = missing.met(since, np.maximum(now, since), rng.standard_exponential(len(life)) / pace[life])
            # Patience forgets: what is left of it at the end of support is drawn anew.
            begin = np.maximum(np.maximum(now, since), self.support_end)
            late = unsupported.met(self.support_end, begin, rng.standard_exponential(len(life)) / pace[life])
            now = np.where(day > self.support_end, late, day)
            acts = now < self.background.end
            life, now, step = life[acts], now[acts], step[acts]
            if not len(life):
                return drawn
            step = np.maximum(self._found(now, rng), step + 1)
            drawn.append(_Changes(life, now, self.track.releases[step]))

    def _found(self, now: Floats, rng: np.random.Generator) -> Ints:
        """Give the step of the track that is put on: the newest, or for a share one of some age."""
        patching = self.background.shape.patching
        is_aged = rng.random(len(now)) < patching.behind_after_change_share
        age = patching.behind_mean_days * rng.standard_exponential(len(now))
        return np.searchsorted(self.track.days, now - np.where(is_aged, age, 0.0), side="right") - 1
