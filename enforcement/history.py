"""A mail history as the core reads it: small tables in memory, and the traffic wherever its engine keeps it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import zip_longest
from typing import Any, NamedTuple

import narwhals as nw
import polars as pl
import pyarrow as pa

from enforcement.schema import day_from_number


class Period(NamedTuple):
    """The days from one to another, both counted."""

    from_on: date
    to_on: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Hand-overs in an engine (DuckDB, Polars or Spark), and how small tables get there and counts come back.

    frame: day (days since 1970-01-01), minute, minute_spread (counted from the server's own offset), server_id,
    build_id, route, messages. days: the same counted (server_id, build_id, route, day, messages; in a store a row for
    each import that brought some). `bring` takes a small table to the engine; `batches` gives the rows of a frame,
    some at a time. An engine that `sums_itself` is far away: it sums before anything comes back. `of_builds` gives the
    rows of `frame` with some builds, where an engine skips more when they are written out.
    """

    frame: nw.LazyFrame[Any]
    days: nw.LazyFrame[Any]
    bring: Callable[[pl.DataFrame], nw.LazyFrame[Any]]
    batches: Callable[[nw.LazyFrame[Any]], Iterator[pa.RecordBatch]]
    sums_itself: bool = False
    of_builds: Callable[[Sequence[int]], nw.LazyFrame[Any]] | None = None

    def collected(self, frame: nw.LazyFrame[Any]) -> pl.DataFrame:
        """Bring a small result here."""
        return pl.DataFrame(frame.collect(backend="polars").to_native())


@dataclass(frozen=True, kw_only=True)
class History:
    """What a store knows up to a day: SERVERS, BUILDS, CLOCK_STARTS, the traffic, and where it is from.

    `imports` has a row a source file; `are_times_rounded`: some source had only hours, its minutes are made up;
    `to_on`: the day it was cut at, if it was. The traffic's `frame` is not cut: no period may reach behind that day.
    """

    servers: pl.DataFrame
    builds: pl.DataFrame
    clock_starts: pl.DataFrame
    traffic: Traffic
    imports: pl.DataFrame
    are_times_rounded: bool
    fingerprint: str
    to_on: date | None = None

    @property
    def told_empty(self) -> str:
        """What a history without any hand-over is told by."""
        until = f" up to {self.to_on} (give a later day)" if self.to_on else " (import mail, or make a sample)"
        return f"the history holds no hand-over{until}"

    def period(self) -> Period:
        """Give the first and last day with a hand-over; a history without any is an error."""
        if self._ends is None:
            raise LookupError(self.told_empty)
        return self._ends

    @property
    def last_on(self) -> date | None:
        """The last day with a hand-over."""
        return self._ends.to_on if self._ends else None

    @cached_property
    def _ends(self) -> Period | None:
        ends = self.traffic.days.select(first=nw.col("day").min(), last=nw.col("day").max())
        first, last = self.traffic.collected(ends).row(0)
        return None if first is None else Period(day_from_number(first), day_from_number(last))


def steps_reached(value: nw.Expr, starts: Sequence[int]) -> nw.Expr:
    """Count how many of some rising numbers a value has reached.

    >>> frame = nw.from_native(pl.DataFrame({"clock": [0, 29, 30, 45]}))
    >>> frame.select(steps_reached(nw.col("clock"), [30, 40])).to_native().to_series().to_list()
    [0, 0, 1, 2]
    """
    parts = [(value >= start).cast(nw.Int32) for start in starts] or [nw.lit(0, nw.Int32)]
    while len(parts) > 1:  # pair by pair: a sum of hundreds one after the other is too deep for some engines
        parts = [left + right for left, right in zip_longest(parts[::2], parts[1::2], fillvalue=nw.lit(0, nw.Int32))]
    return parts[0]


def polars_traffic(frame: pl.DataFrame | pl.LazyFrame) -> Traffic:
    """Give traffic that Polars holds in memory, or scans.

    >>> rows = {"server_id": 1, "build_id": 7, "route": "direct", "day": 20_000, "minute": [5, 9], "messages": [3, 4]}
    >>> polars_traffic(pl.DataFrame(rows)).days.collect().to_native().row(0)
    (1, 7, 'direct', 20000, 7)
    """
    lazy = frame.lazy()
    counted = lazy.group_by("server_id", "build_id", "route", "day").agg(pl.col("messages").cast(pl.Int64).sum())
    return Traffic(
        frame=nw.from_native(lazy),
        days=nw.from_native(counted.collect().lazy()),
        bring=lambda table: nw.from_native(table.lazy()),
        batches=lambda rows: iter(pl.DataFrame(rows.collect(backend="polars").to_native()).to_arrow().to_batches()),
    )
