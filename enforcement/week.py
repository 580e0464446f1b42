"""What changed in a week: how each server stood before and stands now, and a forecast held against what came."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Final

import numpy as np
import polars as pl

from enforcement.chance import Floats
from enforcement.fleet import SILENT
from enforcement.history import Period
from enforcement.policy import Policy
from enforcement.story_fleet import present, worst

DAYS: Final = 7
NEW: Final = "not seen yet"
# What a forecast is held against, as a page says it.
HELD: Final[Mapping[str, str]] = {
    "vulnerable_servers": "vulnerable servers at its end, of those in sight at its beginning",
    "accepted_vulnerable": "vulnerable messages delivered",
    "delayed": "messages delayed",
    "lost": "messages lost",
}
_BAND: Final = (0.05, 0.95)


def stands(servers: pl.DataFrame, policy: Policy, period: Period) -> pl.DataFrame:
    """Give one standing a server that ever handed mail over: server, tenant, standing; takes the rows of `fleet`."""
    shown = worst(present(servers, policy, period)).select("server", "tenant", "standing")
    handed = servers.filter(pl.col("route").is_not_null()).select("server", "tenant").unique("server")
    gone = handed.join(shown, on="server", how="anti").with_columns(standing=pl.lit(SILENT))
    return pl.concat([shown, gone.select(shown.columns)]).sort("server")


def moves(before: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """Count the servers whose standing has changed: before, now, servers; most first. Takes two results of `stands`.

    >>> before = pl.DataFrame({"server": ["a", "b"], "standing": ["vulnerable", "current"]})
    >>> now = pl.DataFrame({"server": ["a", "b", "c"], "standing": ["current", "current", "vulnerable"]})
    >>> moves(before, now).rows()
    [('not seen yet', 'vulnerable', 1), ('vulnerable', 'current', 1)]
    """
    return (
        now.select("server", now="standing")
        .join(before.select("server", before="standing"), on="server", how="left")
        .with_columns(pl.col("before").fill_null(NEW))
        .filter(pl.col("before") != pl.col("now"))
        .group_by("before", "now")
        .agg(servers=pl.len().cast(pl.Int64))
        .sort("servers", "before", "now", descending=[True, False, False])
    )


def newly_silent(servers: pl.DataFrame, policy: Policy, period: Period) -> pl.DataFrame:
    """List the servers that fell silent in the week before a day: server, tenant, last_seen_on, vulnerable_from.

    Takes the rows of `fleet`; `vulnerable_from` is that of the worst build it ran last.
    """
    fell = pl.col("last_seen_on").dt.offset_by(f"{policy.silent_after_days + 1}d")
    return (
        servers.filter(standing=SILENT)
        .with_columns(last=pl.col("last_seen_on").max().over("server"))
        .filter(pl.col("last_seen_on") == pl.col("last"))
        .filter(fell > period.to_on - timedelta(days=DAYS), fell <= period.to_on)
        .group_by("server", "tenant", "last_seen_on")
        .agg(pl.col("vulnerable_from").min())
        .sort("last_seen_on", "server")
    )


def about_to_be_vulnerable(servers: pl.DataFrame, policy: Policy, period: Period) -> pl.DataFrame:
    """List the servers in sight whose days run out within a week: server, tenant, build, vulnerable_from.

    A server that is vulnerable by another build already is not among them.
    """
    shown = present(servers, policy, period)
    soon = pl.col("vulnerable_from").is_between(period.to_on, period.to_on + timedelta(days=DAYS), closed="right")
    already = shown.filter(pl.col("vulnerable_from") <= period.to_on).select("server").unique()
    return (
        shown.filter(soon)
        .join(already, on="server", how="anti")
        .select("server", "tenant", "build", "vulnerable_from")
        .unique("server", keep="first", maintain_order=True)
        .sort("vulnerable_from", "server")
    )


def held_against(drawn: Mapping[str, Floats], came: Mapping[str, float]) -> pl.DataFrame:
    """Hold draws of a week against what came: measure, low, middle, high (the 90 % band), came, inside.

    drawn: a number a draw, by measure of HELD.

    >>> held_against({"lost": np.arange(101.0)}, {"lost": 99.0}).row(0)
    ('messages lost', 5.0, 50.0, 95.0, 99.0, False)
    """
    rows = []
    for measure, words in HELD.items():
        if measure not in drawn:
            continue
        low, high = (float(np.quantile(drawn[measure], share)) for share in _BAND)
        middle, found = float(np.median(drawn[measure])), float(came[measure])
        # A count is inside when it is as near as whole numbers come.
        rows.append((words, low, middle, high, found, np.floor(low) <= found <= np.ceil(high)))
    kinds = dict.fromkeys(("low", "middle", "high", "came"), pl.Float64)
    return pl.DataFrame(
        [(*row[:-1], bool(row[-1])) for row in rows],
        schema={"measure": pl.String, **kinds, "inside": pl.Boolean},
        orient="row",
    )


def stage_days(coming: pl.DataFrame, *, until: date) -> pl.DataFrame:
    """Give the next stages entered until a day, as `picture_tables.stage_calendar` takes them. Takes COMING."""
    return coming.filter(pl.col("next_on") <= until).select(
        "server", "tenant", stage="next_stage", phase="next_phase", enters_on="next_on"
    )
