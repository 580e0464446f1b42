"""What a build number proves: the table of releases, and how a number is placed in it."""

import csv
import io
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Final

from enforcement.builds import Build, Evidence, Hop

PRODUCTS: Final = (
    "Exchange Server 2007",
    "Exchange Server 2010",
    "Exchange Server 2013",
    "Exchange Server 2016",
    "Exchange Server 2019",
    "Exchange Server SE",
)

# Columns of the file of exploited vulnerabilities → the product whose first fixes they list.
_FIX_COLUMNS: Final = {
    "first_fix_2010": "Exchange Server 2010",
    "first_fix_2013": "Exchange Server 2013",
    "first_fix_2016": "Exchange Server 2016",
    "first_fix_2019": "Exchange Server 2019",
    "first_fix_se": "Exchange Server SE",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One row of the table of builds."""

    product: str
    name: str
    line: str
    kind: str
    released_on: date
    build: Build
    kb: str
    is_security: bool
    is_public: bool
    shown_by_smtp_hop: bool

    def shows_on(self, hop: Hop) -> bool:
        """Whether a hop of this kind could show this update."""
        return hop is Hop.MAPI or self.shown_by_smtp_hop


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploit:
    """A vulnerability known to be exploited, and the releases that first fix it in their line."""

    cve: str
    listed_on: date
    fixes: tuple[Release, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where a build number stands in the catalogue; `release` is what it proves at least."""

    evidence: Evidence
    product: str | None = None
    release: Release | None = None
    line: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dates:
    """The dates that rules can use for a build seen on a kind of hop; None: there is none."""

    missing_since: date | None = None
    unsupported_since: date | None = None
    exploited_since: date | None = None


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The table of builds with support dates and exploited vulnerabilities."""

    releases: tuple[Release, ...]  # in order of build
    support_ends: Mapping[str, date]  # product → last day of extended support
    exploits: tuple[Exploit, ...]

    @cached_property
    def _lines(self) -> Mapping[tuple[int, ...], Sequence[Release]]:
        """Releases of each line, in order of build."""
        lines: dict[tuple[int, ...], list[Release]] = {}
        for release in self.releases:
            lines.setdefault(release.build.line, []).append(release)
        return lines

    def place(self, build: Build | None) -> Placed:
        """Find the smallest release at or above a build in its line: the oldest update that can carry the number.

        Never rounds down: the number is the version of one binary, which never runs ahead of its package.
        """
        if build is None:
            return Placed(evidence=Evidence.UNKNOWN)
        if build.is_cloud:
            return Placed(evidence=Evidence.CLOUD)
        line = self._lines.get(build.line)
        if line is None:
            return Placed(evidence=Evidence.UNKNOWN)
        at = bisect_left(line, build, key=lambda release: release.build)
        if at == len(line):
            return Placed(evidence=Evidence.NEWER, product=line[-1].product, line=line[-1].line)
        release = line[at]
        evidence = Evidence.EXACT if release.build == build else Evidence.ROUNDED_UP
        return Placed(evidence=evidence, product=release.product, release=release, line=release.line)

    def dates(self, placed: Placed, hop: Hop, *, count_private_updates: bool = False) -> Dates:
        """Give the dates that rules can use for a placed build on a kind of hop."""
        if placed.product is None:
            return Dates()
        support_end = self.support_ends.get(placed.product)
        unsupported_since = support_end + timedelta(days=1) if support_end else None
        if placed.release is None:  # newer than its line: nothing is known to be missing
            return Dates(unsupported_since=unsupported_since)
        return Dates(
            missing_since=self._missing_since(placed.release, hop, count_private_updates=count_private_updates),
            unsupported_since=unsupported_since,
            exploited_since=self._exploited_since(placed.release, hop),
        )

    @cached_property
    def _security_updates(self) -> Mapping[str, Sequence[Release]]:
        """Security updates of each product, in order of release."""
        found: dict[str, list[Release]] = {}
        for release in sorted(self.releases, key=lambda release: release.released_on):
            if release.is_security:
                found.setdefault(release.product, []).append(release)
        return found

    def _missing_since(self, release: Release, hop: Hop, *, count_private_updates: bool) -> date | None:
        return next(
            (
                update.released_on
                for update in self._security_updates.get(release.product, ())
                if update.released_on > release.released_on
                and (update.is_public or count_private_updates)
                and update.shows_on(hop)
            ),
            None,
        )

    def _exploited_since(self, release: Release, hop: Hop) -> date | None:
        since = []
        for exploit in self.exploits:
            fixes = [fix for fix in exploit.fixes if fix.product == release.product and fix.shows_on(hop)]
            of_line = [fix for fix in fixes if fix.build.line == release.build.line]
            if of_line:
                fix = min(of_line, key=lambda fix: fix.build)
                lacks = release.build < fix.build
            elif fixes:
                fix = min(fixes, key=lambda fix: fix.released_on)
                lacks = release.released_on < fix.released_on
            else:
                continue
            if lacks:
                since.append(max(exploit.listed_on, fix.released_on))
        return min(since, default=None)


def read_catalogue(*, builds: str, lifecycle: str, exploits: str) -> Catalogue:
    r"""Read and check the catalogue from the texts of its three CSV files.

    Errors name the file, the line and the value: duplicates, unknown products, dates out of order in a line,
    fixes that no release is known for.

    >>> builds = "product,name,line,kind,released_on,build,kb,is_security,is_public,shown_by_smtp_hop"
    >>> row = "Exchange Server 2020,RTM,RTM,RTM,2020-10-01,15.3.1.1,,false,true,true"
    >>> read_catalogue(builds="\n".join([builds, row]), lifecycle="", exploits="")
    Traceback (most recent call last):
    ValueError: builds, line 2: unknown product 'Exchange Server 2020' (known: Exchange Server 2007, ...)
    """
    releases = tuple(sorted((_release(row, where) for row, where in _rows(builds, "builds")), key=lambda r: r.build))
    for lower, upper in pairwise(releases):
        if lower.build == upper.build:
            raise ValueError(f"builds: {lower.build} stands twice: {lower.name!r} and {upper.name!r}")
        if lower.build.line == upper.build.line and upper.released_on < lower.released_on:
            raise ValueError(
                f"builds: {upper.build} ({upper.released_on}) is above {lower.build} ({lower.released_on}) "
                "in its line but was released before it"
            )
    support_ends: dict[str, date] = {}
    products: set[str] = set()
    for row, where in _rows(lifecycle, "lifecycle"):
        product = _product(row, where)
        if product in products:
            raise ValueError(f"{where}: {product!r} stands twice")
        products.add(product)
        if row["extended_end"]:
            support_ends[product] = _date(row["extended_end"], where)
    if missing := {release.product for release in releases} - products:
        raise ValueError(f"lifecycle: no row for {', '.join(sorted(missing))}")
    of_build = {release.build: release for release in releases}
    known = tuple(_exploit(row, where, of_build) for row, where in _rows(exploits, "exploits"))
    return Catalogue(releases=releases, support_ends=support_ends, exploits=known)


def _rows(text: str, what: str) -> Iterator[tuple[dict[str, str], str]]:
    for row in (reader := csv.DictReader(io.StringIO(text), strict=True)):
        where = f"{what}, line {reader.line_num}"
        if None in row or None in row.values():
            raise ValueError(f"{where}: expected {len(reader.fieldnames or ())} fields")
        yield row, where


def _product(row: Mapping[str, str], where: str) -> str:
    if row["product"] not in PRODUCTS:
        raise ValueError(f"{where}: unknown product {row['product']!r} (known: {', '.join(PRODUCTS)})")
    return row["product"]


def _date(text: str, where: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{where}: not a date: {text!r} (expected e.g. 2026-10-13)") from None


def _flag(text: str, where: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"{where}: expected true or false, found {text!r}")
    return text == "true"


def _release(row: Mapping[str, str], where: str) -> Release:
    try:
        build = Build.parse(row["build"])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return Release(
        product=_product(row, where),
        name=row["name"],
        line=row["line"],
        kind=row["kind"],
        released_on=_date(row["released_on"], where),
        build=build,
        kb=row["kb"],
        is_security=_flag(row["is_security"], where),
        is_public=_flag(row["is_public"], where),
        shown_by_smtp_hop=_flag(row["shown_by_smtp_hop"], where),
    )


def _exploit(row: Mapping[str, str], where: str, of_build: Mapping[Build, Release]) -> Exploit:
    fixes = []
    for column, product in _FIX_COLUMNS.items():
        for text in filter(None, re.split(r";\s*", row[column])):
            fix = of_build.get(Build.parse(text.rpartition("=")[2]))
            if fix is None or fix.product != product:
                raise ValueError(f"{where}: {column}: no release of {product} has the build of {text!r}")
            fixes.append(fix)
    return Exploit(cve=row["cve"], listed_on=_date(row["date_added"], where), fixes=tuple(fixes))
