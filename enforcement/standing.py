"""From when a build is vulnerable under a policy's rules, and how it stands on a day."""

from collections.abc import Sequence
from datetime import date
from enum import StrEnum

import polars as pl

from enforcement.builds import Build, Evidence, Hop
from enforcement.catalogue import Catalogue, Placed
from enforcement.policy import MinimumBuild, Policy
from enforcement.schema import BUILDS, STANDINGS, conform
from enforcement.when import when_expression


class Standing(StrEnum):
    """How a build stands on a day."""

    CURRENT = "current"
    BEHIND = "behind"  # an update is missing or support has ended, but no rule has run out yet
    VULNERABLE = "vulnerable"  # a rule's days have run out
    UNKNOWN = "unknown"
    OUT_OF_SCOPE = "out of scope"  # Exchange Online itself


def standings(builds: pl.DataFrame, catalogue: Catalogue, policy: Policy) -> pl.DataFrame:
    """Say for each build, as seen on a kind of hop, what it proves and from when a rule calls it vulnerable.

    Takes BUILDS, gives STANDINGS: the same rows in the same order.
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
    """Give the first day on which a minimum build for the product lies above what a build proves."""
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
    dates = [
        pl.when(_applies(rule.when)).then(pl.col(rule.since).dt.offset_by(f"{rule.after_days}d"))
        for rule in policy.rules
    ]
    earliest = pl.min_horizontal(dates)
    name = pl.coalesce(
        pl.when(since == earliest).then(pl.lit(rule.name)) for rule, since in zip(policy.rules, dates, strict=True)
    )
    return pl.struct(vulnerable_from=earliest, rule=name).alias("earliest")


def _applies(when: str | None) -> pl.Expr:
    if when is None:
        return pl.lit(value=True)
    return when_expression(when)


def standing_on(day: date | pl.Expr) -> pl.Expr:
    """Give the expression, over STANDINGS, of the standing on a day."""
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
