"""From when a build is vulnerable under a policy's rules, and how it stands on a day."""

from collections.abc import Sequence
from datetime import date
from enum import StrEnum
from typing import Final

import polars as pl

from enforcement.builds import Build, Evidence, Hop
from enforcement.catalogue import Catalogue, Placed
from enforcement.policy import MinimumBuild, Policy, Rule
from enforcement.schema import BUILDS, STANDINGS, conform
from enforcement.when import when_expression


class Standing(StrEnum):
    """How a build stands on a day."""

    CURRENT = "current"
    BEHIND = "behind"  # an update is missing or support has ended, but no rule has run out yet
    VULNERABLE = "vulnerable"  # a rule's days have run out
    UNKNOWN = "unknown"
    OUT_OF_SCOPE = "out of scope"  # Exchange Online itself


# Which of several builds of a server speaks for it: what calls for action first.
WORST_FIRST: Final = (
    Standing.VULNERABLE,
    Standing.BEHIND,
    Standing.UNKNOWN,
    Standing.CURRENT,
    Standing.OUT_OF_SCOPE,
)


def standings(builds: pl.DataFrame, catalogue: Catalogue, policy: Policy) -> pl.DataFrame:
    r"""Say for each build, as seen on a kind of hop, what it proves and from when a rule calls it vulnerable.

    Takes BUILDS, gives STANDINGS: the same rows in the same order.

    >>> from enforcement.catalogue import read_catalogue
    >>> from enforcement.policy import Cohort, Rule, Stage
    >>> catalogue = read_catalogue(
    ...     builds="product,name,line,kind,released_on,build,kb,is_security,is_public,shown_by_smtp_hop\n"
    ...     "Exchange Server 2016,CU23,CU23,CU,2022-04-20,15.1.2507.6,,false,true,true\n"
    ...     "Exchange Server 2016,CU23 May22SU,CU23,SU,2022-05-10,15.1.2507.9,,true,true,true\n",
    ...     lifecycle="product,extended_end\nExchange Server 2016,2025-10-14\n",
    ...     exploits="cve,date_added\n",
    ... )
    >>> policy = Policy(
    ...     schema_version=1,
    ...     name="small",
    ...     rules=[Rule(name="unpatched", since="missing_since", after_days=90)],
    ...     cohorts=[Cohort(name="all", starts_on=date(2000, 1, 1))],
    ...     stages=[Stage(block=60)],
    ... )
    >>> seen = pl.DataFrame({"build_id": [1, 2], "build": ["15.1.2507.6", "15.1.2507.9"], "hop": ["smtp", "smtp"]})
    >>> standings(seen, catalogue, policy).select("update", "missing_since", "vulnerable_from", "rule").rows()
    [('CU23', datetime.date(2022, 5, 10), datetime.date(2022, 8, 8), 'unpatched'), ('CU23 May22SU', None, None, None)]
    """
    builds = conform(builds, BUILDS, what="builds")
    proven = [_proven(build, hop, catalogue, policy) for build, hop in builds.select("build", "hop").iter_rows()]
    columns = {name: dtype for name, dtype in STANDINGS.items() if name not in (*BUILDS, "vulnerable_from", "rule")}
    known = pl.concat([builds, pl.DataFrame(proven, schema=columns, orient="row")], how="horizontal")
    # In a rule's `when`, `build` is what the build proves, padded: its text order is the order of builds.
    earliest = known.with_columns(build="proves").select(_earliest_rule(policy)).unnest("earliest")
    return conform(pl.concat([known, earliest], how="horizontal"), STANDINGS, what="standings")


def _proven(text: str | None, hop: str, catalogue: Catalogue, policy: Policy) -> tuple[object, ...]:
    """One row of STANDINGS after the build's own columns, before the rules."""
    seen = Build.parse(text) if text is not None else None
    placed = catalogue.place(seen)
    dates = catalogue.dates(placed, Hop(hop), count_private_updates=policy.count_private_updates)
    release = placed.release
    proves = release.build if release else seen if placed.evidence is Evidence.NEWER else None
    return (
        str(placed.evidence),
        placed.product,
        placed.line,
        release.name if release else None,
        release.kind if release else None,
        proves.padded if proves else None,
        dates.missing_since,
        dates.unsupported_since,
        dates.exploited_since,
        below_minimum_since(placed, proves, policy.minimum_builds),
    )


def below_minimum_since(placed: Placed, proves: Build | None, minimums: Sequence[MinimumBuild]) -> date | None:
    """Give the first day on which a minimum build for the product lies above what a build proves.

    >>> minimum = MinimumBuild(product="Exchange Server 2016", build="15.1.2507.61", from_on=date(2026, 9, 8))
    >>> placed = Placed(evidence=Evidence.EXACT, product="Exchange Server 2016", line="CU23")
    >>> below_minimum_since(placed, Build.parse("15.1.2507.35"), [minimum])
    datetime.date(2026, 9, 8)
    """
    if proves is None:
        return None
    return min(
        (
            minimum.from_on
            for minimum in minimums
            if minimum.product == placed.product and minimum.line in (None, placed.line) and proves < minimum.build
        ),
        default=None,
    )


def _earliest_rule(policy: Policy) -> pl.Expr:
    """Give the earliest date that a rule gives, and its name (the first of those that give the same date)."""
    dates = [vulnerable_from(rule) for rule in policy.rules]
    earliest = pl.min_horizontal(dates)
    name = pl.coalesce(
        pl.when(since == earliest).then(pl.lit(rule.name)) for rule, since in zip(policy.rules, dates, strict=True)
    )
    return pl.struct(vulnerable_from=earliest, rule=name).alias("earliest")


def vulnerable_from(rule: Rule) -> pl.Expr:
    """Give the expression, over STANDINGS whose `build` is what it proves, of the day from which a rule alone counts.

    >>> table = pl.DataFrame({"missing_since": [date(2026, 1, 1)], "kind": ["SU"]})
    >>> rule = Rule(name="unpatched", since="missing_since", after_days=90, when="kind = 'SU'")
    >>> table.select(vulnerable_from(rule)).item()
    datetime.date(2026, 4, 1)
    """
    return pl.when(_applies(rule.when)).then(pl.col(rule.since).dt.offset_by(f"{rule.after_days}d"))


def _applies(when: str | None) -> pl.Expr:
    if when is None:
        return pl.lit(value=True)
    return when_expression(when)


def standing_on(day: date | pl.Expr) -> pl.Expr:
    """Give the expression, over STANDINGS, of the standing on a day.

    >>> standing = pl.DataFrame(
    ...     {"evidence": "exact", "missing_since": date(2026, 1, 1), "vulnerable_from": date(2026, 4, 1)}
    ... ).with_columns(unsupported_since=pl.lit(None, dtype=pl.Date))
    >>> [standing.select(standing_on(date(2026, month, 1))).item() for month in (3, 4)]
    ['behind', 'vulnerable']
    """
    missing = pl.col("missing_since") <= day
    unsupported = pl.col("unsupported_since") <= day
    return (
        pl.when(pl.col("evidence") == Evidence.CLOUD)
        .then(pl.lit(Standing.OUT_OF_SCOPE.value))
        .when(pl.col("evidence") == Evidence.UNKNOWN)
        .then(pl.lit(Standing.UNKNOWN.value))
        .when(pl.col("vulnerable_from") <= day)
        .then(pl.lit(Standing.VULNERABLE.value))
        .when(missing.fill_null(value=False) | unsupported.fill_null(value=False))
        .then(pl.lit(Standing.BEHIND.value))
        .otherwise(pl.lit(Standing.CURRENT.value))
        .alias("standing")
    )
