"""What to install: the releases that a day's rules accept, and the nearest of them for a server."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from enforcement.builds import Build, Hop
from enforcement.catalogue import PRODUCTS, Catalogue, Release
from enforcement.policy import Policy
from enforcement.schema import BUILDS
from enforcement.standing import standings


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """A release that rules accept, and the last day on which they do, as far as is known today; None: no end known.

    is_supported: its product is still in support.
    """

    release: Release
    accepted_until: date | None = None
    is_supported: bool = True

    def __str__(self) -> str:
        """Name it as administrators look for it: its name, its build, and the number of its article, if it has one."""
        return f"{self.release.name} ({', '.join(filter(None, (str(self.release.build), self.release.kb)))})"

    @property
    def told(self) -> str:
        """Name it, and say how long it is enough."""
        until = f", accepted until {self.accepted_until} as far as is known" if self.accepted_until else ""
        return f"{self}{until}"


def remedies(catalogue: Catalogue, policy: Policy, day: date) -> tuple[Remedy, ...]:
    """List the public releases that a policy's rules accept on a day, in order of build.

    A release is judged as a `mapi` hop would show it: every update shows there, so what is accepted there is accepted
    on any hop. On `smtp` hops a release may be accepted only because what it misses does not show.

    >>> from enforcement.shipped import load_catalogue, load_policy
    >>> found = remedies(load_catalogue(), load_policy("ninety-days"), date(2024, 1, 15))
    >>> [str(each.release.build) for each in found if each.release.product == "Exchange Server 2016"]
    ['15.1.2507.34', '15.1.2507.35']
    """
    public = [release for release in catalogue.releases if release.is_public and release.released_on <= day]
    rows = [(number, str(release.build), str(Hop.MAPI)) for number, release in enumerate(public)]
    builds = pl.DataFrame(rows, schema=BUILDS, orient="row")
    vulnerable_from = standings(builds, catalogue, policy)["vulnerable_from"].to_list()
    return tuple(
        Remedy(
            release=release,
            accepted_until=since - timedelta(days=1) if since else None,
            is_supported=catalogue.support_ends.get(release.product, date.max) >= day,
        )
        for release, since in zip(public, vulnerable_from, strict=True)
        if since is None or since > day
    )


def recommended(build: Build | None, catalogue: Catalogue, known: Sequence[Remedy]) -> tuple[Remedy, ...]:
    """Give the nearest lasting remedy in each line of a build's product; if it has none, what to move to.

    Of a line's releases that are accepted longest, as far as is known, it is the lowest: what is accepted today may
    miss an update whose days have not run out. Nothing below what the build proves is named, or below a build that is
    newer than all releases of its line. To move to is the newest line of each later product, of those in support if
    there are any.

    >>> from enforcement.shipped import load_catalogue, load_policy
    >>> catalogue = load_catalogue()
    >>> known = remedies(catalogue, load_policy("ninety-days"), date(2024, 1, 15))
    >>> [each.release.name for each in recommended(Build.parse("15.2.1118.7"), catalogue, known)]
    ['Exchange Server 2019 CU12 Nov23SU', 'Exchange Server 2019 CU13 Nov23SU']
    >>> [each.release.name for each in recommended(Build.parse("15.0.1497.2"), catalogue, known)]
    ['Exchange Server 2016 CU23 Nov23SU', 'Exchange Server 2019 CU13 Nov23SU']
    """
    placed = catalogue.place(build)
    floor = placed.release.build if placed.release else build
    own = [
        each
        for each in known
        if each.release.product == placed.product and (floor is None or each.release.build >= floor)
    ]
    if own:
        return tuple(_lasting(own).values())
    after = PRODUCTS.index(placed.product) + 1 if placed.product else 0
    later = [each for each in known if each.release.product in PRODUCTS[after:]]
    later = [each for each in later if each.is_supported] or later
    # Lines come in order: the last of a product is its newest.
    return tuple({remedy.release.product: remedy for remedy in _lasting(later).values()}.values())


def _lasting(known: Sequence[Remedy]) -> dict[tuple[str, str], Remedy]:
    """Take of each line the lowest of those that are accepted longest; they come in order of build."""
    found: dict[tuple[str, str], Remedy] = {}
    for each in known:
        line = (each.release.product, each.release.line)
        if line not in found or _lasts(each) > _lasts(found[line]):
            found[line] = each
    return found


def _lasts(remedy: Remedy) -> date:
    return remedy.accepted_until or date.max
