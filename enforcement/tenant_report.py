"""What an organisation must know of its servers: build, proof, stage, days left, what to install, pauses left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import polars as pl

from enforcement.builds import Build
from enforcement.catalogue import Catalogue
from enforcement.fleet import SILENT
from enforcement.pauses import pause_days
from enforcement.policy import Policy
from enforcement.remedies import recommended, remedies
from enforcement.standing import Standing

# A row: a server with a build that is out of date, or that is under enforcement. Texts are as they were seen.
COLUMNS: Final = (
    "tenant", "server", "build", "hop", "product", "update", "evidence", "proof", "standing", "rule", "vulnerable_from",
    "first_detected_on", "last_seen_on", "messages", "cohort", "stage", "phase", "throttle_minutes", "block_minutes",
    "clock_days", "clock_runs", "resumes_on", "next_stage", "next_phase", "next_throttle_minutes", "next_block_minutes",
    "next_on", "days_to_next_stage", "recommended_builds", "pause_days_used", "pause_days_left", "how_to_be_removed",
)  # fmt: skip
_LONG: Final = {
    "throttle": "throttle_minutes",
    "block": "block_minutes",
    "clock": "clock_days",
    "running": "clock_runs",
    "next_throttle": "next_throttle_minutes",
    "next_block": "next_block_minutes",
    "days_left": "days_to_next_stage",
}
_PROOF: Final[Mapping[str, str]] = {
    "exact": "the number is that of a release",
    "rounded up": "the number lies between two releases of its line; the later one is believed",
    "newer": "newer than every release known of its line",
    "unknown": "no such line of releases is known; it is never enforced",
    "cloud": "Exchange Online itself",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantReports:
    """The reports of a day: rows of COLUMNS, most urgent first, and each tenant's servers seen and pauses.

    pause_used: days of the year that have gone by in a pause; pause_granted: all that are granted, later ones too.
    remarks: what of the ledger of pauses does not count, and why.
    """

    as_of: date
    policy: Policy
    rows: pl.DataFrame
    n_seen: Mapping[str, int]
    pause_used: Mapping[str, int]
    pause_granted: Mapping[str, int]
    remarks: tuple[str, ...] = ()

    @property
    def tenants(self) -> list[str]:
        """The tenants that have something to do, by name."""
        return sorted(set(self.rows["tenant"]))

    def of(self, tenant: str) -> pl.DataFrame:
        """Give the rows of a tenant."""
        return self.rows.filter(tenant=tenant)

    def pause_left(self, tenant: str) -> int:
        """Give the days of pause that a tenant can still ask for in the year: granted ones count, whenever they are."""
        return max(0, _quota(self.policy) - self.pause_granted.get(tenant, 0))


def tenant_reports(  # noqa: PLR0913 - what a report rests on, by name
    *,
    servers: pl.DataFrame,
    coming: pl.DataFrame,
    granted: pl.DataFrame,
    catalogue: Catalogue,
    policy: Policy,
    as_of: date,
) -> TenantReports:
    """Gather the rows of all tenants on a day: takes the rows of `fleet`, COMING, and granted PAUSES.

    In it is every build that was vulnerable on the server's last day with it, unless the server has shown a better
    one since or is silent and under no enforcement; and every server whose clock runs, with its latest build. A
    vulnerable build has the clock of the cohort that takes it in; any other build that of its server which is hardest.
    """
    is_vulnerable = pl.col("vulnerable_from") <= as_of
    latest = _latest(servers).with_columns(is_vulnerable=is_vulnerable.fill_null(value=False))
    own = _with_cohorts(latest.filter("is_vulnerable"), policy).join(
        _clocks(coming), on=["server", "cohort"], how="left"
    )
    hardest = _clocks(coming).sort("block", "throttle", "clock", descending=True, maintain_order=True)
    others = latest.filter(~pl.col("is_vulnerable")).join(hardest.unique("server", keep="first"), on="server")
    is_listed = (pl.col("standing") == str(Standing.VULNERABLE)) | pl.col("stage").is_not_null()
    rows = pl.concat([own, others], how="diagonal").filter(is_listed).drop("is_vulnerable")
    used = pause_days(granted, as_of.year, until=as_of)
    all_granted = pause_days(granted, as_of.year)
    return TenantReports(
        as_of=as_of,
        policy=policy,
        rows=_shown(rows, _advice(rows, catalogue, policy, as_of), used, all_granted, policy),
        n_seen=dict(_n_seen(servers)),
        pause_used=used,
        pause_granted=all_granted,
    )


def _latest(servers: pl.DataFrame) -> pl.DataFrame:
    """Keep of each server the builds of its last day with a hand-over, a row a build; a build's worst hop first."""
    handed = servers.filter(pl.col("route").is_not_null())
    last = pl.col("last_seen_on").max().over("server", "build") == pl.col("last_seen_on").max().over("server")
    return (
        handed.filter(last)
        .sort("server", "vulnerable_from", "hop", nulls_last=True)
        .group_by("server", "build", maintain_order=True)
        .agg(pl.exclude("messages", "route", "server", "build").first(), messages=pl.col("messages").sum())
    )


def _n_seen(servers: pl.DataFrame) -> Sequence[tuple[str, int]]:
    seen = servers.filter(pl.col("standing") != SILENT, pl.col("route").is_not_null())
    return seen.group_by("tenant").agg(pl.col("server").n_unique()).rows()


def _clocks(coming: pl.DataFrame) -> pl.DataFrame:
    return coming.drop("server_id", "tenant")


def _with_cohorts(rows: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """Name the cohort that takes in each row's build."""
    taken = [policy.cohort_for(*each) for each in rows.select("product", "tenant").iter_rows()]
    return rows.with_columns(cohort=pl.Series([each.name if each else None for each in taken], dtype=pl.String))


def _quota(policy: Policy) -> int:
    return policy.pause.days_per_year if policy.pause else 0


def _advice(rows: pl.DataFrame, catalogue: Catalogue, policy: Policy, as_of: date) -> list[str]:
    """Say for each row what to install: the nearest lasting release in each line."""
    known = remedies(catalogue, policy, as_of)
    of_build: dict[str | None, str] = {}
    for build in rows["build"].unique():
        found = recommended(Build.parse(build) if build else None, catalogue, known)
        of_build[build] = "; ".join(each.told for each in found) or "none: retire the server"
    return [of_build[build] for build in rows["build"]]


def _shown(
    rows: pl.DataFrame, advice: Sequence[str], used: Mapping[str, int], granted: Mapping[str, int], policy: Policy
) -> pl.DataFrame:
    gone, asked = (
        pl.col("tenant").replace_strict(dict(days), default=0, return_dtype=pl.Int64) for days in (used, granted)
    )
    return (
        rows.with_columns(
            recommended_builds=pl.Series(advice, dtype=pl.String),
            proof=pl.col("evidence").replace_strict(dict(_PROOF)),
            pause_days_used=gone,
            pause_days_left=pl.max_horizontal(_quota(policy) - asked, 0),
            how_to_be_removed=pl.lit(how_to_be_removed(policy)),
        )
        .rename(_LONG)
        .sort(
            "tenant", "block_minutes", "throttle_minutes", "days_to_next_stage", "server", "build",
            descending=[False, True, True, False, False, False], nulls_last=True,
        )
        .select(COLUMNS)
    )  # fmt: skip


def how_to_be_removed(policy: Policy) -> str:
    """Say what takes a server off the list.

    >>> from enforcement.shipped import load_policy
    >>> how_to_be_removed(load_policy("ninety-days"))[:58]
    'Install a recommended build, or take the server out of the'
    """
    return (
        "Install a recommended build, or take the server out of the mail path. Mail of an accepted build is never "
        "touched, from the first message on; the server leaves this list with the first day on which it sends only "
        f"such mail, {policy.clear_after_days} days or more after its last out-of-date message. Silence alone removes "
        "nothing."
    )
