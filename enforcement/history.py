"""A mail history as the core reads it: small tables in memory, and the traffic wherever its engine keeps it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import narwhals as nw
import polars as pl


class Period(NamedTuple):
    """The days from one to another, both counted."""

    from_on: date
    to_on: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Hand-overs in an engine (DuckDB, Polars or Spark), and a way to bring a small table there.

    Columns: day (days since 1970-01-01), minute, minute_spread (counted from the server's own offset), server_id,
    build_id, route, messages.
    """

    frame: nw.LazyFrame[Any]
    bring: Callable[[pl.DataFrame], nw.LazyFrame[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a store knows up to a day: SERVERS, BUILDS, HANDOVER_DAYS, CLOCK_STARTS, the traffic, and where it is from.

    `imports` has a row a source file; `are_times_rounded`: some source had only hours, its minutes are made up.
    """

    servers: pl.DataFrame
    builds: pl.DataFrame
    days: pl.DataFrame
    clock_starts: pl.DataFrame
    traffic: Traffic
    imports: pl.DataFrame
    are_times_rounded: bool
    fingerprint: str

    def period(self) -> Period:
        """Give the first and last day with a hand-over; a history without any is an error."""
        first, last = self.days["day"].min(), self.days["day"].max()
        if isinstance(first, date) and isinstance(last, date):
            return Period(first, last)
        raise LookupError("the history holds no hand-over (import mail, or make a sample)")


def polars_traffic(frame: pl.DataFrame) -> Traffic:
    """Give traffic that Polars holds in memory.

    >>> polars_traffic(pl.DataFrame({"day": [20_000], "messages": [3]})).frame.collect().to_native().rows()
    [(20000, 3)]
    """
    return Traffic(frame=nw.from_native(frame.lazy()), bring=lambda table: nw.from_native(table.lazy()))
