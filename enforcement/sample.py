"""A made-up fleet and its traffic from a seed: who runs which server, what each runs when, what it hands over."""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from enforcement.builds import Build, Hop
from enforcement.catalogue import Catalogue, Release
from enforcement.chance import Floats, Ints, choose, power_law, spread, stream
from enforcement.sample_lives import SILENT, Background, Calendar, Flags, Owners, draw_lives
from enforcement.sample_shape import Rhythm, Shape, TenantShape, Zone
from enforcement.schema import HANDOVERS, SIGHTINGS, conform, day_number

LAST_ON: Final = date(2026, 10, 31)  # fixed: the same seed is the same sample on every day
_MOST_SERVERS: Final = 1_000_000
_MOST_MESSAGES: Final = 1_000_000_000
_MOST_DAYS: Final = 3_653
_FIRST_YEAR, _LAST_YEAR = 2007, 2099  # Exchange 2007 is the oldest in the catalogue
_MESSAGES_PER_SERVER: Final = 20  # a small sample has as few servers as keeps each worth a look
_USUAL_SERVERS: Final = 5_000

# How the servers of a tenant are called. Nobody can own these names: RFC 2606 reserves .example,
# RFC 6762 .local, and ICANN will never delegate .corp (resolution 2018.02.04.12).
_NAMES: Final = (
    "mx{n}.{org}.example",
    "mail{n:02}.{org}.example",
    "ex{n:02}.corp.{org}.example",
    "exch-{n:02}.{org}.local",
    "srv-ex{n}.ad.{org}.corp",
)


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much of a sample, until when, from which seed; servers: by default one for each 20 messages, at most 5,000.

    >>> Extent().first_on, Extent(messages=1000).n_servers
    (datetime.date(2026, 5, 5), 50)
    >>> Extent(days=0)
    Traceback (most recent call last):
    ValueError: a sample of 0 days (expected 1 to 3,653)
    """

    messages: int = 1_000_000
    servers: int | None = None
    days: int = 180
    last_on: date = LAST_ON
    seed: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.messages <= _MOST_MESSAGES:
            raise ValueError(f"a sample of {self.messages:,} messages (expected 1 to {_MOST_MESSAGES:,})")
        if not 1 <= self.n_servers <= _MOST_SERVERS:
            raise ValueError(f"a sample of {self.n_servers:,} servers (expected 1 to {_MOST_SERVERS:,})")
        if self.n_servers > self.messages:
            raise ValueError(
                f"{self.messages:,} messages of {self.n_servers:,} servers (expected one or more of each server)"
            )
        if not 1 <= self.days <= _MOST_DAYS:
            raise ValueError(f"a sample of {self.days:,} days (expected 1 to {_MOST_DAYS:,})")
        if not _FIRST_YEAR <= self.last_on.year <= _LAST_YEAR:
            raise ValueError(f"a sample up to {self.last_on} (expected a day of {_FIRST_YEAR} to {_LAST_YEAR})")
        if self.seed < 0:
            raise ValueError(f"a seed of {self.seed} (expected 0 or more)")

    @property
    def n_servers(self) -> int:
        """How many names of servers there are."""
        if self.servers is not None:
            return self.servers
        return min(max(self.messages // _MESSAGES_PER_SERVER, 1), _USUAL_SERVERS)

    @property
    def first_on(self) -> date:
        """The first day of the period."""
        return self.last_on - timedelta(days=self.days - 1)


class Sample(NamedTuple):
    """A sample's rows, as an importer would read them: HANDOVERS and SIGHTINGS."""

    handovers: pl.DataFrame
    sightings: pl.DataFrame


@dataclass(frozen=True, kw_only=True, eq=False)
class Fleet:
    """All machines, a row each: one behind every server's name, for some names two.

    `runs[machine, day]` is SILENT or a place in `smtp_ids` and `mapi_ids`, the builds that hops of each kind show.
    `volume` is how much of the fleet's mail a machine sends; on its `sure_day` it sends at least one.
    `rhythm[zone, day, hour]` is when mail is sent, day and hour being UTC.
    """

    extent: Extent
    shape: Shape
    server: pl.Series
    zone: Ints
    usual_route: Ints
    volume: Floats
    has_mapi: Flags
    sure_day: Ints
    runs: Calendar
    smtp_ids: pl.Series
    mapi_ids: pl.Series
    rhythm: Floats

    @cached_property
    def mail_by_day(self) -> Ints:
        """How many messages go out on each day; together as many as the sample has."""
        sure = np.bincount(self.sure_day[self.sure_day >= 0], minlength=self.extent.days)
        expected = np.array([self.expected_mail(day).sum() for day in range(self.extent.days)])
        by_day = np.cumsum(expected)
        rest = np.floor(by_day / by_day[-1] * (self.extent.messages - sure.sum()) + 0.5).astype(np.int64)
        return np.diff(rest, prepend=0) + sure

    def expected_mail(self, day: int) -> Floats:
        """Give how much mail each machine sends on a day of the period, relative to the others and other days."""
        return self.volume * (self.runs[:, day] != SILENT) * self.rhythm[self.zone, day].sum(axis=1)


def make_sample(catalogue: Catalogue, shape: Shape, extent: Extent) -> Sample:
    """Make up a fleet and all its traffic: exactly as many hand-overs as messages, day by day.

    For more than memory holds, write the days of `traffic_of(make_fleet(...), day)` one by one: they are the same.

    >>> from enforcement.shipped import load_catalogue, load_sample_shape
    >>> sample = make_sample(load_catalogue(), load_sample_shape(), Extent(messages=100, servers=3, days=2))
    >>> sample.handovers.height, sorted(sample.handovers["server"].unique())
    (100, ['ex01.corp.org0001.example', 'ex02.corp.org0001.example', 'srv-ex1.ad.org0002.corp'])
    """
    fleet = make_fleet(catalogue, shape, extent)
    days = [traffic_of(fleet, day) for day in range(extent.days)]
    return Sample(
        pl.concat([day.handovers for day in days], rechunk=True),
        pl.concat([day.sightings for day in days], rechunk=True),
    )


def make_fleet(catalogue: Catalogue, shape: Shape, extent: Extent) -> Fleet:
    """Draw the tenants, their servers, and the life of each machine behind these.

    What came out after the last day has no part in it: the sample stays the same when the catalogue grows.

    >>> from enforcement.shipped import load_catalogue, load_sample_shape
    >>> fleet = make_fleet(load_catalogue(), load_sample_shape(), Extent(messages=100, servers=3, days=2))
    >>> [fleet.smtp_ids[place] for place in fleet.runs[:, 0].tolist()]
    ['15.2.1748.39', '15.2.1748.39', '15.1.2507.61']
    """
    rng = stream(extent.seed, 0)
    catalogue = replace(catalogue, releases=tuple(r for r in catalogue.releases if r.released_on <= extent.last_on))
    sizes = _tenant_sizes(shape.tenants, extent.n_servers, rng)
    tenant = np.repeat(np.arange(len(sizes)), sizes)
    hides_two = np.flatnonzero(spread(extent.n_servers, rng) < shape.lives.hides_two_share)
    server = np.concatenate([np.arange(extent.n_servers), hides_two])
    is_hidden = np.arange(len(server)) >= extent.n_servers
    volume = _volumes(shape.tenants, tenant, rng)[server]
    volume[hides_two] *= 1 - shape.lives.hidden_volume_share
    volume[is_hidden] *= shape.lives.hidden_volume_share / (1 - shape.lives.hidden_volume_share)
    first = day_number(extent.first_on)
    background = Background(catalogue=catalogue, shape=shape, first=first, days=extent.days)
    runs = draw_lives(background, Owners(tenant=tenant, server=server), rng)
    smtp_ids, mapi_ids = _header_ids(catalogue, shape)
    _show_strange_builds(runs, catalogue, shape, rng)
    there = runs != SILENT
    some_day = there.argmax(axis=1) + np.floor(rng.random(len(server)) * there.sum(axis=1)).astype(np.int64)
    zones = shape.tenants.zones
    return Fleet(
        extent=extent,
        shape=shape,
        server=pl.Series(_server_names(sizes, rng))[server],
        zone=choose([zone.share for zone in zones], spread(len(sizes), rng))[tenant][server],
        usual_route=choose(list(shape.routes.shares.values()), spread(len(server), rng)),
        volume=volume,
        has_mapi=spread(len(server), rng) < shape.ids.mapi_share,
        sure_day=np.where(is_hidden, -1, some_day),
        runs=runs,
        smtp_ids=smtp_ids,
        mapi_ids=mapi_ids,
        rhythm=_rhythm(shape.rhythm, zones, extent),
    )


def _tenant_sizes(shape: TenantShape, servers: int, rng: np.random.Generator) -> Ints:
    """Draw how many servers each tenant has, until all servers have one."""
    drawn = power_law(rng.random(servers), exponent=shape.size_exponent, largest=shape.largest_size)
    sizes = np.floor(drawn).astype(np.int64)
    n = int(np.searchsorted(np.cumsum(sizes), servers)) + 1
    sizes[n - 1] -= sizes[:n].sum() - servers
    return sizes[:n]


def _volumes(shape: TenantShape, tenant: Ints, rng: np.random.Generator) -> Floats:
    """Draw how much mail each server sends: a power law over tenants, more for larger ones, shared out by chance."""
    sizes = np.bincount(tenant)
    n = len(sizes)
    rising = power_law(
        (np.arange(n) + rng.random(n)) / n, exponent=shape.volume_exponent, largest=shape.largest_to_smallest
    )
    of_tenant = np.empty(n)
    of_tenant[(np.log(sizes) + rng.standard_normal(n)).argsort(kind="stable")] = rising
    part = rng.standard_exponential(len(tenant))
    return of_tenant[tenant] * part / np.bincount(tenant, part)[tenant]


def _server_names(sizes: Ints, rng: np.random.Generator) -> list[str]:
    style = np.floor(rng.random(len(sizes)) * len(_NAMES)).astype(np.int64)
    return [
        _NAMES[style[tenant]].format(n=n + 1, org=f"org{tenant + 1:04}")
        for tenant, size in enumerate(sizes)
        for n in range(size)
    ]


def _rhythm(rhythm: Rhythm, zones: tuple[Zone, ...], extent: Extent) -> Floats:
    """How much mail goes out by zone, UTC day and UTC hour, where servers keep the week of their own zone."""
    half_past = np.arange(extent.days * 24) * 60 + 30
    local = half_past + np.array([[zone.utc_offset_minutes] for zone in zones])
    weekday = (extent.first_on.weekday() + local // 1440) % 7
    weights = np.array(rhythm.weekday_weights)[weekday] * np.array(rhythm.hour_weights)[local // 60 % 24]
    return weights.reshape(len(zones), extent.days, 24)


def _header_ids(catalogue: Catalogue, shape: Shape) -> tuple[pl.Series, pl.Series]:
    """List what smtp and mapi hops show: for each release, one newer than its line, one below it; unknown builds."""
    releases = catalogue.releases
    seen_smtp = {_release(catalogue, text): text for text in shape.ids.smtp}
    seen_mapi = {_release(catalogue, text): text for text in shape.ids.mapi}
    tops = {release.build.line: release.build for release in releases}
    smtp: list[str] = []
    mapi: list[str] = []
    newer: list[str] = []
    between: list[str | None] = []  # None: as the release's own
    last: Release | None = None  # before in the line
    for release in releases:
        build = release.build
        last = last if last and last.build.line == build.line else None
        hides = last is not None and not release.shown_by_smtp_hop and release not in seen_smtp
        smtp.append(smtp[-1] if hides else seen_smtp.get(release, str(build)))
        mapi.append(seen_mapi.get(release, str(build)))
        newer.append(str(tops[build.line]._replace(revision=tops[build.line].revision + 2)))
        below = build._replace(revision=max(build.revision - 1, 0))
        between.append(str(below) if release.shown_by_smtp_hop and last and below > last.build else None)
        last = release
    unknown = [text or None for text in shape.ids.unknown]
    smtp_ids, mapi_ids = (
        [*own, *newer, *(seen or usual for seen, usual in zip(between, own, strict=True)), *unknown]
        for own in (smtp, mapi)
    )
    return pl.Series(smtp_ids, dtype=pl.String), pl.Series(mapi_ids, dtype=pl.String)


def _release(catalogue: Catalogue, text: str) -> Release | None:
    return catalogue.place(Build.parse(text)).release


def _show_strange_builds(runs: Calendar, catalogue: Catalogue, shape: Shape, rng: np.random.Generator) -> None:
    """Let some machines show what the catalogue does not have, places being those of `_header_ids`."""
    n = len(catalogue.releases)
    newest = catalogue.releases[runs.max()].product
    is_newest = np.array([release.product == newest for release in catalogue.releases])
    below = np.flatnonzero(spread(len(runs), rng) < shape.ids.between_share)
    unknown = np.flatnonzero(spread(len(runs), rng) < shape.ids.unknown_share)
    on_newest = np.flatnonzero(is_newest[runs.max(axis=1)])
    newer = on_newest[spread(len(on_newest), rng) < shape.ids.newer_share]
    since = np.floor(rng.random(len(newer)) * runs.shape[1])
    strange = runs.copy()
    strange[below] += 2 * n
    is_newer = (np.arange(runs.shape[1]) >= since[:, np.newaxis]) & is_newest[runs[newer]]
    strange[newer] = np.where(is_newer, runs[newer] + n, runs[newer])
    strange[unknown] = 3 * n + (np.arange(len(unknown)) % len(shape.ids.unknown))[:, np.newaxis]
    runs[:] = np.where(runs == SILENT, SILENT, strange)


def traffic_of(fleet: Fleet, day: int) -> Sample:
    """Draw what a fleet hands over on a day of the period, counted from 0; days can be drawn in any order.

    >>> from enforcement.shipped import load_catalogue, load_sample_shape
    >>> fleet = make_fleet(load_catalogue(), load_sample_shape(), Extent(messages=100, servers=3, days=2))
    >>> traffic_of(fleet, 1).handovers.height == int(fleet.mail_by_day[1])
    True
    """
    if not 0 <= day < fleet.extent.days:
        raise ValueError(f"day {day} of a sample of {fleet.extent.days} (expected 0 to {fleet.extent.days - 1})")
    rng = stream(fleet.extent.seed, 1, day)
    sent = _sent(fleet, day, rng)
    return Sample(_handovers(fleet, day, sent, rng), _sightings(fleet, day, sent, rng))


def _sent(fleet: Fleet, day: int, rng: np.random.Generator) -> Ints:
    """Draw how many messages each machine sends on a day: each message is one machine's by its expected mail."""
    sure = (fleet.sure_day == day).astype(np.int64)
    bounds = np.cumsum(fleet.expected_mail(day))
    # Sums of exponential gaps are uniform numbers in rising order, so nothing has to be sorted.
    gaps = np.cumsum(rng.standard_exponential(int(fleet.mail_by_day[day] - sure.sum()) + 1))
    at = gaps[:-1] / gaps[-1] * bounds[-1]
    return np.diff(np.searchsorted(at, bounds, side="right"), prepend=0) + sure


def _handovers(fleet: Fleet, day: int, sent: Ints, rng: np.random.Generator) -> pl.DataFrame:
    """Give each message its time and route."""
    shape = fleet.shape
    machine = np.repeat(np.arange(len(sent)), sent)
    n, zone = len(machine), fleet.zone[machine]
    hours = np.cumsum(fleet.rhythm[:, day], axis=1)
    bounds = (hours / hours[:, -1:] + np.arange(len(hours))[:, np.newaxis]).ravel()
    hour = np.minimum(np.searchsorted(bounds, zone + rng.random(n), side="right") - 24 * zone, 23)
    is_batch = rng.random(n) < shape.rhythm.batch_share
    # Jobs run when the local hour begins, which is not the UTC hour in every zone.
    job_second = np.array([-zone.utc_offset_minutes % 60 * 60 for zone in shape.tenants.zones])
    second = np.floor(rng.random(n) * np.where(is_batch, 60, 3600)) + np.where(is_batch, job_second[zone], 0)
    goes_elsewhere = rng.random(n) < shape.routes.other_share
    anew = choose(list(shape.routes.shares.values()), rng.random(n))
    route = np.where(goes_elsewhere, anew, fleet.usual_route[machine])
    seconds = (day_number(fleet.extent.first_on) + day) * 86_400 + hour * 3600 + second.astype(np.int64)
    frame = pl.DataFrame(
        {
            "sent_at": pl.Series(seconds * 1_000_000).cast(pl.Datetime("us")),
            "server": fleet.server.gather(machine),
            "build": fleet.smtp_ids.gather(fleet.runs[machine, day]),
            "route": pl.Series(list(shape.routes.shares)).gather(route),
        }
    )
    unsaid = frame.with_columns(tenant=pl.lit(None), hop=pl.lit(Hop.SMTP.value), messages=pl.lit(1))
    return conform(unsaid, HANDOVERS, what="hand-overs")


def _sightings(fleet: Fleet, day: int, sent: Ints, rng: np.random.Generator) -> pl.DataFrame:
    """Count the hops seen on a day: an smtp hop of each message, and of some machines mapi hops above it."""
    mapi = np.floor(sent * fleet.shape.ids.mapi_hops_per_message + rng.random(len(sent))) * fleet.has_mapi
    hops = [
        pl.DataFrame(
            {
                "server": fleet.server.gather(seen := np.flatnonzero(count * (sent > 0))),
                "build": ids.gather(fleet.runs[seen, day]),
                "hop": [hop.value] * len(seen),
                "hops": count[seen].astype(np.int64),
            }
        )
        for hop, ids, count in ((Hop.SMTP, fleet.smtp_ids, sent), (Hop.MAPI, fleet.mapi_ids, mapi))
    ]
    counted = (
        pl.concat(hops)
        .filter(pl.col("build").is_not_null())
        .group_by("server", "build", "hop", maintain_order=True)
        .agg(pl.col("hops").sum())
        .with_columns(tenant=pl.lit(None), day=pl.lit(fleet.extent.first_on + timedelta(days=day)))
    )
    return conform(counted, SIGHTINGS, what="sightings")
