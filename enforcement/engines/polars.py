"""A history as Parquet, replayed by Polars."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any, Final

import narwhals as nw
import polars as pl
import pyarrow as pa

from enforcement.engines.duckdb import source_of
from enforcement.engines.lake import MOST_MESSAGES, NO_DAY, Engine, history_of
from enforcement.engines.layout import Layout, is_blank, local_layout
from enforcement.history import History
from enforcement.importers.table_columns import COLUMNS
from enforcement.names import printable

_BATCH: Final = 1_000_000  # rows
_ZONES: Final = "POLARS_IGNORE_TIMEZONE_PARSE_ERROR"
_NEAR: Final = (datetime(1970, 1, 1), datetime(2100, 1, 1))  # noqa: DTZ001 - times are UTC without a zone


@contextmanager
def open_traffic(path: str, *, to_on: date | None = None) -> Iterator[History]:
    """Give the history that lies as Parquet at a path of this machine; what is wrong is a ValueError of one line."""
    layout = local_layout(path)
    try:
        with _any_zone():
            yield history_of(nw.from_native(_raw(layout)), _engine(), source_of(layout, "polars"), to_on)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as problem:
        told = printable(str(problem).partition("\n")[0][:200])
        raise ValueError(f"{path}: cannot be read to its end ({told})") from None


@contextmanager
def _any_zone() -> Iterator[None]:
    """Let files name zones that Polars does not know, at which it would panic: an instant is the same in any zone."""
    before = os.environ.get(_ZONES)
    os.environ[_ZONES] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ZONES]
        else:
            os.environ[_ZONES] = before


def _engine() -> Engine:
    def keep(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
        native: pl.LazyFrame = frame.to_native()
        return nw.from_native(native.collect().lazy())

    return Engine(bring=lambda table: nw.from_native(table.lazy()), keep=keep, batches=_batches)


def _batches(frame: nw.LazyFrame[Any]) -> Iterator[pa.RecordBatch]:
    native: pl.LazyFrame = frame.to_native()
    for part in native.collect_batches(chunk_size=_BATCH, maintain_order=False):
        yield from part.to_arrow().to_batches()


def _raw(layout: Layout) -> pl.LazyFrame:
    scanned = pl.scan_parquet(list(layout.files), glob=False, hive_partitioning=False, extra_columns="ignore")
    return scanned.select(part for name in COLUMNS for part in _parts(name, layout))


def _parts(name: str, layout: Layout) -> Iterator[pl.Expr]:
    """Give a column of ours."""
    there = pl.col(layout.columns.get(name, name))
    found = layout.types.get(name, pa.null())
    default = {"hop": "smtp", "route": "direct", "messages": 1}.get(name)
    if is_blank(found):
        yield pl.lit(default, dtype=pl.Int64 if name == "messages" else pl.String).alias(name)
    elif name == "messages":
        most = pl.when(there > MOST_MESSAGES).then(MOST_MESSAGES + 1).otherwise(there.cast(pl.Int64, strict=False))
        yield pl.when(there.is_null()).then(1).otherwise(most).cast(pl.Int64).alias(name)
    elif name != "sent_at":
        text = there.cast(pl.String)
        yield (text if default is None else text.fill_null(default)).alias(name)
    else:
        at = there.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if found.tz is not None else there
        near = pl.when(at.is_between(*_NEAR)).then(at)
        day = near.dt.date().cast(pl.Int32)
        yield pl.when(there.is_null()).then(None).otherwise(day.fill_null(NO_DAY)).cast(pl.Int32).alias("day")
        yield near.dt.minute().cast(pl.Int32).alias("minute")
