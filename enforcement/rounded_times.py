"""Times that a source rounded to the hour: how to notice them, and the minutes that stand in for the lost ones."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from enforcement.schema import HANDOVERS, Schema, conform

# A minute of 60 should hold 1/60 of the messages.
SUSPECT_SHARE: Final = 0.10
FEWEST_MESSAGES: Final = 50
_MOST_MESSAGES: Final = 1_000_000_000  # some minutes of work
_AT_ONCE: Final = 4_000_000  # messages numbered at a time: bounds the memory
_MINUTE: Final = 60_000_000  # microseconds
_HOUR: Final = 60 * _MINUTE
_HOUR_FORMAT: Final = "%Y-%m-%dT%H"
_ALL_BITS: Final = np.uint32(0xFFFFFFFF)
_LOW_BYTE: Final = np.uint32(0xFF)
_HOUR_KEY: Final = ["server", "hour"]
_SENT: Final[Schema] = {"server": pl.String, "hour": pl.Datetime("us"), "sent": pl.Int64}
_MOST_HOURS: Final = 30_000_000  # of servers; about 2 GB


@dataclass(slots=True)
class MinuteZero:
    """How many messages of a source were sent on minute 0 of an hour, and how many in all.

    >>> from datetime import datetime
    >>> times = [datetime(2026, 1, 31, 7, minute) for minute in (0, 30)]
    >>> sent = MinuteZero()
    >>> sent.count(pl.DataFrame({"sent_at": times, "messages": [30, 70]}))
    >>> sent.share
    0.3
    """

    on_it: int = 0
    in_all: int = 0

    def count(self, handovers: pl.DataFrame) -> None:
        """Count some more hand-overs."""
        messages = pl.col("messages").cast(pl.Int64)
        on_it, in_all = handovers.select(
            messages.filter(pl.col("sent_at").to_physical() % _HOUR < _MINUTE).sum(), in_all=messages.sum()
        ).row(0)
        self.on_it += on_it
        self.in_all += in_all

    @property
    def share(self) -> float | None:
        """The share of messages on minute 0, or None when there are too few to tell."""
        return None if self.in_all < FEWEST_MESSAGES else self.on_it / self.in_all


class Spread:
    """Gives the messages of a source their minutes, a piece of it at a time: HANDOVERS in, HANDOVERS out.

    The numbers of messages go on from piece to piece, so that it does not matter where a source is cut. For that, how
    many each server has sent in each hour is kept; too many of these, or of messages, are an error.
    """

    def __init__(self) -> None:
        self._sent = pl.DataFrame(schema=dict(_SENT))
        self._n_messages = 0

    def pieces(self, handovers: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Spread a piece, as frames of bounded size."""
        rows_after = pl.col("messages").clip(upper_bound=60).cast(pl.Int64)
        part = handovers.select(rows_after.cum_sum() // _AT_ONCE).to_series().rle_id()
        for _, some in handovers.with_columns(_part=part).group_by("_part", maintain_order=True):
            yield self._spread(some.drop("_part"))

    def _spread(self, handovers: pl.DataFrame) -> pl.DataFrame:
        messages = pl.col("messages").cast(pl.Int64)
        self._n_messages += int(handovers.select(messages.sum()).item())
        _expect_few(self._n_messages)
        spread = spread_over_hours(handovers, self._sent)
        hour = pl.col("sent_at").dt.truncate("1h").alias("hour")
        more = handovers.group_by(pl.col("server").cast(pl.String), hour).agg(sent=messages.sum())
        self._sent = pl.concat([self._sent, more]).group_by(_HOUR_KEY).agg(pl.col("sent").sum())
        if self._sent.height > _MOST_HOURS:
            raise ValueError(
                f"more than {_MOST_HOURS:,} hours × servers: too many to number the messages of each (split the source)"
            )
        return spread


def _expect_few(n_messages: int) -> None:
    if n_messages > _MOST_MESSAGES:
        raise ValueError(f"{n_messages:,} messages: too many to give each a minute (at most {_MOST_MESSAGES:,})")


def spread_over_hours(handovers: pl.DataFrame, sent_before: pl.DataFrame | None = None) -> pl.DataFrame:
    r"""Give message j of each server and hour the minute crc32("server\nhour\nj") mod 60: HANDOVERS in, HANDOVERS out.

    The hour is written `2026-01-31T07`; j counts from 0 in the order of the rows, through the messages of a row that
    stands for several. Such a row becomes one a minute. Seconds are set to 0. More than a thousand million messages are
    an error. `sent_before` (server, hour, sent) are the messages that have numbers already.

    >>> from datetime import datetime
    >>> row = {"sent_at": datetime(2026, 1, 31, 7), "server": "mail.example", "build": "15.1.2507.61", "tenant": None,
    ...        "hop": "smtp", "route": "direct", "messages": 3}
    >>> spread_over_hours(pl.DataFrame([row], schema=HANDOVERS))["sent_at"].dt.minute().to_list()
    [1, 25, 35]
    """
    if handovers.is_empty():
        return handovers
    messages = pl.col("messages").cast(pl.Int64)
    _expect_few(int(handovers.select(messages.sum()).item()))
    before = pl.DataFrame(schema=dict(_SENT)) if sent_before is None else sent_before
    numbered = (
        handovers.with_columns(pl.selectors.enum().cast(pl.String))
        .with_row_index("row")
        .with_columns(hour=pl.col("sent_at").dt.truncate("1h"), messages=messages)
        .join(before, on=_HOUR_KEY, how="left", maintain_order="left")
        .with_columns(first_j=messages.cum_sum().over(_HOUR_KEY) - messages + pl.col("sent").fill_null(0))
        .drop("sent")
    )
    keys = numbered.select(_HOUR_KEY).unique()
    prefixes = keys.select(pl.format("{}\n{}\n", "server", pl.col("hour").dt.to_string(_HOUR_FORMAT))).to_series()
    crcs = pl.Series("crc", [zlib.crc32(prefix.encode()) for prefix in prefixes], dtype=pl.UInt32)
    numbered = numbered.join(keys.with_columns(crcs), on=_HOUR_KEY, how="left", maintain_order="left")
    minutes = pl.concat(_minutes(numbered))
    spread = minutes.group_by("row", "minute").agg(pl.col("messages").sum()).sort("row", "minute")
    return conform(
        spread.join(
            numbered.drop("messages", "first_j", "crc"), on="row", how="left", maintain_order="left"
        ).with_columns(sent_at=pl.col("hour") + pl.duration(minutes=pl.col("minute"))),
        HANDOVERS,
        what="hand-overs",
    )


def _minutes(numbered: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Count the messages of each row by the minute they are given, a bounded number of messages at a time."""
    rows, firsts, counts, crcs = (numbered[name].to_numpy() for name in ("row", "first_j", "messages", "crc"))
    ends = np.cumsum(counts)
    for start in range(0, int(ends[-1]), _AT_ONCE):
        message = np.arange(start, min(start + _AT_ONCE, int(ends[-1])), dtype=np.int64)
        at = np.searchsorted(ends, message, side="right")
        j = firsts[at] + message - (ends[at] - counts[at])
        minute = _crc32_with_number(crcs[at], j) % np.uint32(60)
        yield (
            pl.DataFrame({"row": rows[at], "minute": minute.astype(np.int8)})
            .group_by("row", "minute")
            .agg(messages=pl.len().cast(pl.Int64))
        )


def _crc32_with_number(crcs: npt.NDArray[np.uint32], numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """Continue each CRC-32 with a number in decimal digits, as `zlib.crc32(str(number), crc)` does one by one."""
    table = _crc_table()
    state = crcs ^ _ALL_BITS
    for power in (10**exponent for exponent in reversed(range(len(str(int(numbers.max(initial=0))))))):
        digit = (numbers // power % 10 + ord("0")).astype(np.uint32)
        following = table[(state ^ digit) & _LOW_BYTE] ^ (state >> np.uint32(8))
        state = np.where((numbers >= power) | (power == 1), following, state)
    return state ^ _ALL_BITS


def _crc_table() -> npt.NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & np.uint32(1), np.uint32(0xEDB88320) ^ (table >> np.uint32(1)), table >> np.uint32(1))
    return table
