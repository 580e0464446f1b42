"""What an organisation must know of its servers: build, proof, stage, days left, what to install, pauses left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import polars as pl

from enforcement.builds import Build
from enforcement.catalogue import Catalogue
from enforcement.fleet import SILENT
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

    remarks: what of the ledger of pauses does not count, and why.
    """

    as_of: date
    policy: Policy
    rows: pl.DataFrame
    n_seen: Mapping[str, int]
    pause_used: Mapping[str, int]
    remarks: tuple[str, ...] = ()

    @property
    def tenants(self) -> list[str]:
        """The tenants that have something to do, by name."""
        return sorted(set(self.rows["tenant"]))

    def of(self, tenant: str) -> pl.DataFrame:
        """Give the rows of a tenant."""
        return self.rows.filter(tenant=tenant)

    def pause_left(self, tenant: str) -> int:
        """Give the days of pause that a tenant has left in the year."""
        quota = self.policy.pause.days_per_year if self.policy.pause else 0
        return max(0, quota - self.pause_used.get(tenant, 0))


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
    one since or is silent and under no enforcement; and every server whose clock runs, with its latest build.
    """
    latest = _latest(servers)
    under = coming.group_by("server", maintain_order=True).first().drop("server_id", "tenant")
    is_listed = (pl.col("standing") == str(Standing.VULNERABLE)) | pl.col("stage").is_not_null()
    rows = latest.join(under, on="server", how="left").filter(is_listed)
    used = _used(granted, as_of)
    quota = policy.pause.days_per_year if policy.pause else 0
    return TenantReports(
        as_of=as_of,
        policy=policy,
        rows=_shown(rows, _advice(rows, catalogue, policy, as_of), used, quota, policy),
        n_seen=dict(_n_seen(servers)),
        pause_used=used,
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


def _used(granted: pl.DataFrame, as_of: date) -> dict[str, int]:
    """Count the granted days of pause of the year until a day, that day too."""
    used: dict[str, int] = {}
    for tenant, start, days in granted.iter_rows():
        first = max(start.toordinal(), date(as_of.year, 1, 1).toordinal())
        used[tenant] = used.get(tenant, 0) + max(0, min(start.toordinal() + days - 1, as_of.toordinal()) - first + 1)
    return used


def _advice(rows: pl.DataFrame, catalogue: Catalogue, policy: Policy, as_of: date) -> list[str]:
    """Say for each row what to install: the nearest lasting release in each line."""
    known = remedies(catalogue, policy, as_of)
    of_build: dict[str | None, str] = {}
    for build in rows["build"].unique():
        placed = catalogue.place(Build.parse(build) if build else None)
        of_build[build] = "; ".join(each.told for each in recommended(placed, known)) or "none: retire the server"
    return [of_build[build] for build in rows["build"]]


def _shown(
    rows: pl.DataFrame, advice: Sequence[str], used: Mapping[str, int], quota: int, policy: Policy
) -> pl.DataFrame:
    taken = pl.col("tenant").replace_strict(dict(used), default=0, return_dtype=pl.Int64)
    return (
        rows.with_columns(
            recommended_builds=pl.Series(advice, dtype=pl.String),
            proof=pl.col("evidence").replace_strict(dict(_PROOF)),
            pause_days_used=taken,
            pause_days_left=pl.max_horizontal(quota - taken, 0),
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
