"""What to install: for a build, the nearest update of each line that a policy does not call vulnerable."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from enforcement.builds import Build, Hop
from enforcement.catalogue import PRODUCTS, Catalogue, Release
from enforcement.policy import Policy
from enforcement.schema import BUILDS
from enforcement.standing import standings


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """A release that is enough, and until when (None: for good, as far as is known); `newest` of its line, if later."""

    release: Release
    enough_until: date | None
    newest: Release | None


class Remedies:
    """What is enough under a policy's rules on a day, worked out once for all releases."""

    def __init__(self, catalogue: Catalogue, policy: Policy, on: date) -> None:
        releases = [release for release in catalogue.releases if release.released_on <= on]
        seen = [(number, str(release.build), str(Hop.SMTP)) for number, release in enumerate(releases)]
        table = standings(pl.DataFrame(seen, schema=BUILDS, orient="row"), catalogue, policy)
        dates = table["vulnerable_from"].to_list()
        self._supported = {each for each in PRODUCTS if catalogue.support_ends.get(each, date.max) >= on}
        self._enough: dict[str, list[tuple[Release, date | None]]] = {product: [] for product in PRODUCTS}
        for release, vulnerable_from in zip(releases, dates, strict=True):
            if release.is_public and (vulnerable_from is None or vulnerable_from > on):
                self._enough[release.product].append((release, vulnerable_from))

    def of(self, product: str, above: Build) -> list[Remedy]:
        """Give the nearest release above a build that is enough, of its own line and each later one of its product.

        >>> from enforcement.shipped import load_catalogue, load_policy
        >>> known = Remedies(load_catalogue(), load_policy("exchange-online"), date(2026, 11, 23))
        >>> [(each.release.name, str(each.release.build)) for each in
        ...     known.of("Exchange Server 2016", Build.parse("15.1.2507.35"))]
        [('Exchange Server 2016 CU23 Oct25SU', '15.1.2507.61')]
        """
        return _by_line([(release, until) for release, until in self._enough[product] if release.build > above])

    def instead_of(self, product: str) -> list[Remedy]:
        """Give what is enough of the newest line of each later product still supported, for one that no update helps.

        >>> from enforcement.shipped import load_catalogue, load_policy
        >>> known = Remedies(load_catalogue(), load_policy("ninety-days"), date(2026, 11, 23))
        >>> [each.release.product for each in known.instead_of("Exchange Server 2013")]
        ['Exchange Server SE']
        """
        later = [each for each in PRODUCTS[PRODUCTS.index(product) + 1 :] if self._enough[each]]
        kept = [each for each in later if each in self._supported] or later
        return [_by_line(self._enough[each])[-1] for each in kept]


def _by_line(found: Sequence[tuple[Release, date | None]]) -> list[Remedy]:
    """Take the lowest and the newest release of each line; they come in order of build."""
    lines: dict[tuple[int, ...], list[tuple[Release, date | None]]] = {}
    for each in found:
        lines.setdefault(each[0].build.line, []).append(each)
    return [
        Remedy(
            release=of[0][0],
            enough_until=of[0][1],
            newest=of[-1][0] if len(of) > 1 else None,
        )
        for of in lines.values()
    ]
