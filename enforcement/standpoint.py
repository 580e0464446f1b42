"""The fleet as it stands on a day: what each server runs, and how much mail it sends."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import narwhals as nw
import numpy as np
import polars as pl

from enforcement.builds import Build, Evidence
from enforcement.chance import Floats, Ints
from enforcement.history import History
from enforcement.received import Route
from enforcement.schema import day_number

_THURSDAY: Final = 3  # 1970-01-01 was one; Monday is 0
WEEKS: Final = 8  # that a server's volume by weekday is taken from
ROUTES: Final = tuple(str(route) for route in Route)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standpoint:
    """The servers in sight on a day, ordered by tenant, and all that is known of them.

    servers: server_id, server, tenant, build_id, last_seen_on; tenant: the number of each server's tenant; tenants:
    their names; volume: messages a day, (routes, weekdays from Monday, servers). A server that showed several builds on
    its last day counts as the highest of them: the others of its name are not forecast; n_several counts such servers.
    """

    as_of: date
    servers: pl.DataFrame
    tenants: tuple[str, ...]
    tenant: Ints
    volume: Floats
    n_several: int
    history: History

    @property
    def n_servers(self) -> int:
        """How many servers there are."""
        return self.servers.height

    def day(self, column: pl.Series, *, never: int) -> Ints:
        """Count dates as days from this one; none: never."""
        numbers = (column.cast(pl.Int32) - day_number(self.as_of)).fill_null(never)
        return numbers.cast(pl.Int64).to_numpy()

    def weekdays(self, n_days: int) -> Ints:
        """Give the weekday, from Monday, of each day from the standpoint on."""
        return (np.arange(n_days + 1) + self.as_of.weekday()) % 7


def standpoint(history: History, as_of: date, *, silent_after_days: int, known: pl.DataFrame) -> Standpoint:
    """Look at the fleet on a day; the history must not reach further. Takes STANDINGS by any rules.

    A server is in it when it has handed mail over within the last days, and its build is known.

    >>> from enforcement.history import polars_traffic
    >>> rows = {"server_id": 1, "build_id": 7, "route": "direct", "day": [20_000, 20_006], "messages": [3, 4]}
    >>> servers = pl.DataFrame({"server_id": [1], "server": ["mx.t.example"], "tenant": ["t.example"]})
    >>> nothing = pl.DataFrame()
    >>> seen = History(
    ...     servers=servers, builds=nothing, clock_starts=nothing, traffic=polars_traffic(pl.DataFrame(rows)),
    ...     imports=nothing, are_times_rounded=False, fingerprint="")
    >>> proven = pl.DataFrame({"build_id": [7], "build": ["15.1.2507.61"], "evidence": ["exact"]})
    >>> at = standpoint(seen, date(2024, 10, 10), silent_after_days=60, known=proven)
    >>> at.tenants, at.servers["last_seen_on"].to_list(), at.volume.sum(axis=(0, 2)).tolist()
    (('t.example',), [datetime.date(2024, 10, 10)], [0.0, 0.0, 0.0, 4.0, 3.0, 0.0, 0.0])
    """
    last = history.last_on
    if last is None:
        raise LookupError(history.told_empty)
    since = day_number(as_of - timedelta(days=silent_after_days))
    traffic = history.traffic
    recent = traffic.days.filter(nw.col("day") >= min(since, day_number(as_of) - 7 * WEEKS + 1))
    counted = recent.group_by("server_id", "build_id", "route", "day").agg(messages=nw.col("messages").sum())
    days = traffic.collected(counted).with_columns(
        pl.col("server_id", "build_id").cast(pl.Int32), pl.col("day").cast(pl.Int32)
    )
    first = traffic.collected(traffic.days.group_by("server_id").agg(first=nw.col("day").min()))
    scope = known.filter(~pl.col("evidence").is_in([Evidence.UNKNOWN.value, Evidence.CLOUD.value]))
    rank = scope.select("build_id", rank=_rank(scope["build"]))
    last_day = (
        days.filter(pl.col("day") >= since)
        .filter(pl.col("day") == pl.col("day").max().over("server_id"))
        .select("server_id", "build_id", "day")
        .unique()
        .join(rank, on="build_id")
    )
    runs = (
        last_day.sort("server_id", "rank", "build_id")
        .group_by("server_id", maintain_order=True)
        .agg(pl.col("build_id").last(), pl.col("day").last(), n=pl.len())
        .join(history.servers.select("server_id", "server", "tenant"), on="server_id")
        .sort("tenant", "server")
        .with_row_index("place")
    )
    if not runs.height:
        raise LookupError(
            f"no server in sight on {as_of}: none handed mail over in the {silent_after_days} days before "
            "(give an earlier --as-of)"
        )
    tenants = runs["tenant"].unique(maintain_order=True)
    number = runs.join(pl.DataFrame({"tenant": tenants}).with_row_index("number"), on="tenant", maintain_order="left")
    return Standpoint(
        as_of=as_of,
        servers=runs.select("server_id", "server", "tenant", "build_id", last_seen_on=pl.col("day").cast(pl.Date)),
        tenants=tuple(tenants),
        tenant=number["number"].cast(pl.Int64).to_numpy(),
        volume=_volume(days, runs, first, as_of),
        n_several=runs.filter(pl.col("n") > 1).height,
        history=history,
    )


def _rank(builds: pl.Series) -> pl.Series:
    """Rank builds by their number."""
    parsed = [Build.parse(text) for text in builds]
    order = {build: place for place, build in enumerate(sorted(set(parsed)))}
    return pl.Series([order[build] for build in parsed], dtype=pl.Int32)


def _volume(days: pl.DataFrame, runs: pl.DataFrame, first: pl.DataFrame, as_of: date) -> Floats:
    """Give messages a day by route, weekday and server, over its last weeks, or since it is known.

    A weekday that has not come since then has as many as the other days on average.
    """
    today = day_number(as_of)
    known = (
        runs.join(first.select(pl.col("server_id").cast(pl.Int32), "first"), on="server_id", maintain_order="left")
        .select((today - pl.col("first") + 1).clip(1, 7 * WEEKS))
        .to_series()
        .to_numpy()
        .astype(np.int64)
    )
    sums = (
        days.filter(pl.col("day") > today - 7 * WEEKS)
        .join(runs.select("server_id", "place"), on="server_id")
        .with_columns(weekday=(pl.col("day") + _THURSDAY) % 7)
        .group_by("route", "weekday", "place")
        .agg(pl.col("messages").sum())
    )
    found = np.zeros((len(ROUTES), 7, runs.height))
    route = sums["route"].replace_strict(list(ROUTES), list(range(len(ROUTES))), return_dtype=pl.Int64)
    found[route.to_numpy(), sums["weekday"].to_numpy(), sums["place"].to_numpy()] = sums["messages"].to_numpy()
    ago = ((today + _THURSDAY) % 7 - np.arange(7)[:, np.newaxis]) % 7  # days since each weekday came last
    came = np.maximum(0, (known - 1 - ago) // 7 + 1)  # how often each came in the days known
    on_average = found.sum(axis=1, keepdims=True) / known
    return np.where(came > 0, found / np.maximum(came, 1), on_average)
