"""Traffic counted by clock and minute: all that a schedule needs to be judged.

The traffic is read once for it; an engine that sums itself (Spark) reads once for each of its two counts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from enforcement.history import Period, Traffic, steps_reached
from enforcement.policy import MOST_DAYS, Policy, Window
from enforcement.received import Route
from enforcement.schema import (
    EXPOSURE_BY_SERVER,
    conform,
    day_number,
)

Ints = npt.NDArray[np.int64]

LARGEST_CLOCK: Final = MOST_DAYS  # later days of a clock count as this one: no stage begins after it
CLOCKS: Final = LARGEST_CLOCK + 1
STILL: Final = 60  # stands for the minute where the clock stands still: the verdict is the same at all of them
MINUTES: Final = STILL + 1
_PAIR: Final = ["server_id", "build_id"]
_ROWS_AT_ONCE: Final = 8_000_000  # counted together: numpy adds up whole arrays of cells each time
_DENSE_CELLS: Final = 2**25  # up to here cells are counted in an array with a place for each
_LARGEST_INT32: Final = 2**31 - 1
_LARGEST_DAY: Final = 2**15 - 1  # that a store holds
_NEVER: Final = 2**31 - 1  # stands for the day when there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Subject messages by unit, clock and minute of the window.

    `units`: what each unit is, a row each, counted from 0. `cells`, in rising order:
    (unit * CLOCKS + clock) * MINUTES + minute, the minute being STILL where the clock stands still.
    """

    units: pl.DataFrame
    cells: Ints
    messages: Ints

    def by_unit(self) -> pl.DataFrame:
        """Give the columns of the units, and messages."""
        summed = np.bincount(self.cells // (CLOCKS * MINUTES), self.messages, self.units.height)
        return self.units.with_columns(messages=pl.Series(summed).cast(pl.Int64))

    def rows(self) -> pl.DataFrame:
        """Give the columns of the units, clock, running, k, messages; where the clock stands still, k is null."""
        unit, rest = np.divmod(self.cells, CLOCKS * MINUTES)
        clock, k = np.divmod(rest, MINUTES)
        return self.units[unit].with_columns(
            clock=pl.Series(clock).cast(pl.Int16),
            running=pl.Series(k != STILL),
            k=pl.when(pl.Series(k != STILL)).then(pl.Series(k)).cast(pl.Int8),
            messages=pl.Series(self.messages),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """Subject messages counted twice: by day, and by product and decile of tenants.

    Units also say whether the build is `at_risk`: vulnerable that day by the rules that measure the risk left.
    """

    by_day: Counts
    by_group: Counts


def exposure(
    traffic: Traffic, segments: pl.DataFrame, groups: pl.DataFrame, policy: Policy, period: Period
) -> Exposure:
    """Count the subject messages of a period by day, and by product and decile.

    Takes SEGMENTS and groups (server_id, build_id, product, decile, risk_from: the day from which the build counts as
    at risk, null: never).

    >>> from datetime import date
    >>> from types import SimpleNamespace
    >>> from enforcement.history import polars_traffic
    >>> traffic = polars_traffic(pl.DataFrame({"day": [day_number(date(2026, 3, 5))] * 2, "minute": [3, 40],
    ...     "server_id": 1, "build_id": 7, "route": "direct", "messages": [2, 5]},
    ...     schema_overrides={"server_id": pl.Int32, "build_id": pl.Int32, "day": pl.Int32, "minute": pl.UInt8}))
    >>> segment = pl.DataFrame({"server_id": 1, "build_id": 7, "cohort": "all", "spell": 1,
    ...     "from_on": [date(2026, 3, 1)], "until_on": [date(2026, 6, 1)], "clock_at_start": 0, "running": True},
    ...     schema_overrides={"server_id": pl.Int32, "build_id": pl.Int32, "clock_at_start": pl.Int32})
    >>> march = Period(date(2026, 3, 1), date(2026, 3, 31))
    >>> groups = segment.select("server_id", "build_id", product=pl.lit("2016"), decile=pl.lit(1),
    ...     risk_from=date(2026, 1, 1))
    >>> policy = SimpleNamespace(window=Window.TOP, routes=["direct"])
    >>> exposure(traffic, segment, groups, policy, march).by_day.rows().select("day", "clock", "k", "messages").rows()
    [(datetime.date(2026, 3, 5), 4, 3, 2), (datetime.date(2026, 3, 5), 4, 40, 5)]
    """
    kinds = groups.select("product", "decile").unique().sort("product", "decile")
    cut = _split(_cut(segments, period).join(groups, on=_PAIR)).join(
        kinds.with_row_index("kind"), on=["product", "decile"]
    )
    flags = cut.select("at_risk").unique().sort("at_risk")  # nearly always one: what is subject is at risk
    days = pl.DataFrame({"day": pl.date_range(*period, eager=True)}).join(
        flags, how="cross", maintain_order="left_right"
    )
    units = kinds.join(flags, how="cross", maintain_order="left_right")
    flag = pl.col("at_risk").cast(pl.Int64) if flags.height > 1 else pl.lit(0, pl.Int64)  # its place among them
    unit_of_group = pl.col("kind").cast(pl.Int64) * flags.height + flag
    unit_of_day_0 = flag - day_number(period.from_on) * flags.height  # days are counted from the period's first
    lines = cut.select(
        *_PAIR, "starts_day", "until_day", "running",
        **_line("by_day", unit_at_zero=unit_of_day_0, units_a_day=flags.height),
        **_line("by_group", unit_at_zero=unit_of_group, units_a_day=0),
    )  # fmt: skip
    size = {"by_day": days.height * CLOCKS * MINUTES, "by_group": units.height * CLOCKS * MINUTES}
    met = _subject(traffic, _narrowed(lines, size), policy).select(*map(_cell, size), "messages")
    found = _counted(traffic, met, size)
    return Exposure(
        by_day=Counts(units=days, cells=found["by_day"][0], messages=found["by_day"][1]),
        by_group=Counts(units=units, cells=found["by_group"][0], messages=found["by_group"][1]),
    )


def exposure_by_server(
    traffic: Traffic, segments: pl.DataFrame, risk: pl.DataFrame, policy: Policy, period: Period
) -> pl.DataFrame:
    """Count the subject messages of each server by the policy's stage and minute: EXPOSURE_BY_SERVER.

    Takes SEGMENTS and RISK. This second pass answers who is hit; it knows where stages begin, so it is made again when
    that changes.

    >>> from datetime import date
    >>> from types import SimpleNamespace
    >>> from enforcement.history import polars_traffic
    >>> traffic = polars_traffic(pl.DataFrame({"day": [day_number(date(2026, 3, 5))] * 2, "minute": [3, 40],
    ...     "server_id": 1, "build_id": 7, "route": "direct", "messages": [2, 5]},
    ...     schema_overrides={"server_id": pl.Int32, "build_id": pl.Int32, "day": pl.Int32, "minute": pl.UInt8}))
    >>> segment = pl.DataFrame({"server_id": 1, "build_id": 7, "cohort": "all", "spell": 1,
    ...     "from_on": [date(2026, 3, 1)], "until_on": [date(2026, 6, 1)], "clock_at_start": 0, "running": True},
    ...     schema_overrides={"server_id": pl.Int32, "build_id": pl.Int32, "clock_at_start": pl.Int32})
    >>> march = Period(date(2026, 3, 1), date(2026, 3, 31))
    >>> policy = SimpleNamespace(window=Window.TOP, routes=["direct"], stage_starts=(0, 2))
    >>> risk = pl.DataFrame({"build_id": 7, "risk_from": date(2026, 1, 1)}, schema_overrides={"build_id": pl.Int32})
    >>> met = exposure_by_server(traffic, segment, risk, policy, march)
    >>> met.select("server_id", "stage", "k", "messages").rows()
    [(1, 2, 3, 2), (1, 2, 40, 5)]
    """
    n_stages = len(policy.stage_starts)
    cut = _split(_cut(segments, period).join(risk, on="build_id"))
    servers = cut.select("server_id", "at_risk").unique().sort("server_id", "at_risk").with_row_index("unit")
    size = servers.height * n_stages * MINUTES
    small = cut.join(servers, on=["server_id", "at_risk"]).select(
        *_PAIR, "starts_day", "until_day", "running", "clock_at_zero", "slope",
        start=pl.col("unit").cast(pl.Int64) * (n_stages * MINUTES) + STILL * (1 - pl.col("running")),
    )  # fmt: skip
    clock = nw.col("clock_at_zero") + nw.col("slope") * nw.col("day")
    stage = steps_reached(clock, policy.stage_starts[1:])
    cell = nw.col("start") + stage * MINUTES + nw.col("running") * nw.col("k")
    met = _subject(traffic, small, policy).select(cell=cell.cast(_key_type(size)), messages=nw.col("messages"))
    cells, messages = _counted(traffic, met, {"cell": size})["cell"]
    unit, rest = np.divmod(cells, n_stages * MINUTES)
    at, k = np.divmod(rest, MINUTES)
    counted = servers.select("server_id", "at_risk")[unit].with_columns(
        stage=pl.Series(at + 1), running=pl.Series(k != STILL), k=pl.Series(k), messages=pl.Series(messages)
    )
    return conform(counted.with_columns(k=pl.when("running").then("k")), EXPOSURE_BY_SERVER, what="exposure by server")


def _cut(segments: pl.DataFrame, period: Period) -> pl.DataFrame:
    """Write segments as the engines join them: clock = clock_at_zero + slope * day, none outside the period.

    They are cut where the clock has run for so long that it counts no further.
    """
    first, last = day_number(period.from_on), day_number(period.to_on)
    bounded = segments.select(
        *_PAIR,
        pl.col("running").cast(pl.Int32),
        clock=pl.col("clock_at_start").cast(pl.Int32),
        from_day=pl.col("from_on").cast(pl.Int32),
        until_day=pl.col("until_on").cast(pl.Int32).fill_null(last + 1).clip(upper_bound=last + 1),
    ).with_columns(full_day=pl.col("from_day") + LARGEST_CLOCK - pl.col("clock"))
    is_full = (pl.col("running") == 1) & (pl.col("full_day") < pl.col("until_day"))
    counting = bounded.filter(pl.col("clock") < LARGEST_CLOCK).with_columns(
        slope=pl.col("running"), until_day=pl.when(is_full).then("full_day").otherwise("until_day")
    )
    full = bounded.filter(is_full | (pl.col("clock") >= LARGEST_CLOCK)).with_columns(
        slope=pl.lit(0, pl.Int32),
        from_day=pl.max_horizontal("from_day", pl.when(is_full).then("full_day")),
        clock=pl.lit(LARGEST_CLOCK, pl.Int32),
    )
    return (
        pl.concat([counting, full])
        .with_columns(
            starts_day=pl.col("from_day").clip(lower_bound=first),
            clock_at_zero=pl.col("clock") - pl.col("slope") * pl.col("from_day"),
        )
        .filter(pl.col("starts_day") < pl.col("until_day"))
    )


def _split(cut: pl.DataFrame) -> pl.DataFrame:
    """Split where a build begins to be at risk; adds at_risk."""
    risk_day = pl.col("risk_from").cast(pl.Int32).fill_null(_NEVER)
    before = cut.with_columns(until_day=pl.min_horizontal("until_day", risk_day), at_risk=pl.lit(value=False))
    after = cut.with_columns(starts_day=pl.max_horizontal("starts_day", risk_day), at_risk=pl.lit(value=True))
    return pl.concat([before, after]).filter(pl.col("starts_day") < pl.col("until_day"))


def _line(name: str, *, unit_at_zero: pl.Expr, units_a_day: int) -> dict[str, pl.Expr]:
    """Write the cells of a segment's hand-overs, see Counts, as a line over the days since 1970: start + day * step.

    Where the clock stands still that is all, where it runs the minute comes on top. Takes the unit on day 0, and by
    how much it rises a day.
    """
    at_zero = unit_at_zero * CLOCKS + pl.col("clock_at_zero")
    a_day = units_a_day * CLOCKS + pl.col("slope").cast(pl.Int64)
    return {
        f"{name}_start": at_zero * MINUTES + STILL * (1 - pl.col("running")),
        f"{name}_step": a_day * MINUTES,
    }


def _cell(name: str) -> nw.Expr:
    line = nw.col("day") * nw.col(f"{name}_step") + nw.col(f"{name}_start")
    return (line + nw.col("running") * nw.col("k")).alias(name)


def _narrowed(lines: pl.DataFrame, size: Mapping[str, int]) -> pl.DataFrame:
    """Make lines Int32, with which engines reckon faster, where no part of a cell on any day can be larger."""
    starts, steps = pl.selectors.ends_with("_start"), pl.selectors.ends_with("_step")
    parts = lines.select(starts.abs().max(), steps.abs().max() * _LARGEST_DAY)
    largest = max(*size.values(), *(part or 0 for part in parts.row(0)))
    return lines.with_columns((starts | steps).cast(pl.Int32)) if largest <= _LARGEST_INT32 else lines


def _key_type(size: int) -> type[nw.Int32 | nw.Int64]:
    return nw.Int32 if size <= _LARGEST_INT32 else nw.Int64


def _subject(traffic: Traffic, segments: pl.DataFrame, policy: Policy) -> nw.LazyFrame[Any]:
    """Join the traffic with the segments: one row a subject hand-over, with its minute of the window as k."""
    minute = "minute_spread" if policy.window is Window.SPREAD else "minute"
    builds = segments.select("build_id").unique().sort("build_id")
    # Vulnerable builds are few, and stores are sorted by build: this lets an engine skip most of the traffic.
    if traffic.of_builds is not None:
        handed = traffic.of_builds(builds["build_id"].to_list())
    else:
        handed = traffic.frame.join(traffic.bring(builds), on="build_id", how="semi")
    routes = {str(route) for route in policy.routes}
    if routes != {str(route) for route in Route}:
        handed = handed.filter(
            nw.any_horizontal(*(nw.col("route") == route for route in sorted(routes)), ignore_nulls=True)
        )
    return (
        handed.join(traffic.bring(segments), on=_PAIR, how="inner")
        .filter(nw.col("day") >= nw.col("starts_day"), nw.col("day") < nw.col("until_day"))
        .with_columns(k=nw.col(minute).cast(nw.Int32))
    )


def _counted(traffic: Traffic, met: nw.LazyFrame[Any], size: Mapping[str, int]) -> dict[str, tuple[Ints, Ints]]:
    """Add up messages by each of some columns of cells: cells in rising order, and their messages."""
    if traffic.sums_itself:
        summed = {name: traffic.collected(met.group_by(name).agg(nw.col("messages").sum())).sort(name) for name in size}
        return {
            name: (table[name].cast(pl.Int64).to_numpy(), table["messages"].cast(pl.Int64).to_numpy())
            for name, table in summed.items()
        }
    tallies = {name: _Tally(n_cells) for name, n_cells in size.items()}
    for table in _gathered(traffic.batches(met)):
        messages = table["messages"].to_numpy()
        if (messages == 1).all():
            messages = None  # numpy counts faster than it adds up
        for name, tally in tallies.items():
            tally.add(table[name].to_numpy(), messages)
    return {name: tally.totals() for name, tally in tallies.items()}


def _gathered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    n_rows = 0
    for batch in batches:
        waiting.append(batch)
        n_rows += batch.num_rows
        if n_rows >= _ROWS_AT_ONCE:
            yield pa.Table.from_batches(waiting)
            waiting, n_rows = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)


class _Tally:
    """Messages by cell, in an array with a place for each cell, or as rows when most places would be empty."""

    def __init__(self, n_cells: int) -> None:
        self._n_cells = n_cells
        self._is_dense = n_cells <= _DENSE_CELLS
        # Sums of whole numbers are exact in a float64 up to 2**53.
        self._dense = np.zeros(n_cells if self._is_dense else 0)
        self._sparse = pl.DataFrame(schema={"cell": pl.Int64, "messages": pl.Int64})
        self._n_found = 0

    def add(self, cells: npt.NDArray[np.integer[Any]], messages: npt.NDArray[np.integer[Any]] | None) -> None:
        """Count messages in cells; None: one each."""
        if self._is_dense:
            self._dense += np.bincount(cells, messages, self._n_cells)
            return
        each = np.ones(len(cells)) if messages is None else messages
        more = pl.DataFrame({"cell": cells, "messages": each}).cast(pl.Int64)
        self._sparse = pl.concat([self._sparse, _summed(more)])
        if self._sparse.height > 2 * self._n_found:  # so it stays about as large as what it ends in
            self._sparse = _summed(self._sparse)
            self._n_found = self._sparse.height

    def totals(self) -> tuple[Ints, Ints]:
        if self._is_dense:
            cells = np.flatnonzero(self._dense)
            return cells, self._dense[cells].astype(np.int64)
        found = _summed(self._sparse).sort("cell")
        return found["cell"].to_numpy(), found["messages"].to_numpy()


def _summed(counted: pl.DataFrame) -> pl.DataFrame:
    return counted.group_by("cell").agg(pl.col("messages").sum())
