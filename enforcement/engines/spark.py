"""A history as Parquet, replayed by Spark: on this machine, or on a cluster that reads it where it lies."""

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from functools import partial
from typing import Any, Final

import narwhals as nw
import polars as pl
import pyarrow as pa

from enforcement.engines.duckdb import source_of
from enforcement.engines.lake import MOST_MESSAGES, NO_DAY, Engine, history_of
from enforcement.engines.layout import (
    FOOTER_END,
    HIDDEN,
    Footer,
    Layout,
    footer_length,
    is_address,
    is_blank,
    layout_of,
    local_layout,
)
from enforcement.engines.spark_session import Session, session
from enforcement.history import History
from enforcement.importers.table_columns import COLUMNS

DEFAULT_MASTER: Final = "local[*]"

_BROADCAST: Final = 256 * 1024**2  # octets; Spark itself would stop at 8 GB
_NANOS: Final = "spark.sql.legacy.parquet.nanosAsLong"
_FOOTERS_AT_ONCE: Final = 16  # a store of objects takes a while for each
_MINUTES: Final = {"ms": 60_000, "ns": 60_000_000_000}
_LAST_DAY: Final = 47_482  # 2100-01-01, as the other engines have it
# Spark has no unsigned numbers.
_SIGNED: Final[Mapping[pl.DataType, pl.DataType]] = {
    pl.UInt8(): pl.Int16(), pl.UInt16(): pl.Int32(), pl.UInt32(): pl.Int64(), pl.UInt64(): pl.Int64()
}  # fmt: skip


@contextmanager
def open_traffic(path: str, *, master: str = DEFAULT_MASTER, to_on: date | None = None) -> Iterator[History]:
    """Give the history that lies as Parquet at a path of this machine, or at an address that Spark's workers read."""
    layout = None if is_address(path) else local_layout(path)
    with session(master) as opened, traffic_in(opened, path, layout, to_on=to_on) as history:
        yield history


@contextmanager
def traffic_in(
    opened: Session, path: str, layout: Layout | None = None, *, to_on: date | None = None
) -> Iterator[History]:
    """Give the history in a session that runs already; `layout` is that of a path on this machine, when it is known."""
    with _errors(opened, path):
        if layout is None:
            layout = _layout_at(opened.spark, path) if is_address(path) else local_layout(path)
        raw = _raw(opened.spark, layout)
        yield history_of(nw.from_native(raw), _engine(opened.spark), source_of(layout, "spark"), to_on)


@contextmanager
def _errors(opened: Session, path: str) -> Iterator[None]:
    """Turn what Spark reports inside into one line."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (Py4JError, PySparkException, pa.ArrowException, ConnectionError) as problem:
        raise ValueError(f"{path}: {opened.told(problem)}") from None


def _engine(spark: Any) -> Engine:
    from pyspark.sql import functions

    def bring(table: pl.DataFrame) -> nw.LazyFrame[Any]:
        signed = [pl.col(name).cast(_SIGNED[dtype]) for name, dtype in table.schema.items() if dtype in _SIGNED]
        there = spark.createDataFrame(table.with_columns(signed).to_arrow())
        return nw.from_native(functions.broadcast(there) if table.estimated_size() <= _BROADCAST else there)

    return Engine(
        bring=bring,
        keep=lambda frame: nw.from_native(frame.to_native().persist()),
        batches=lambda frame: iter(frame.to_native().toArrow().to_batches()),
        sums_itself=True,
    )


def _literal(path: str) -> str:
    """Escape what Hadoop takes for a pattern."""
    return re.sub(r"([\[\]{}*?\\,])", r"\\\1", path)


def _layout_at(spark: Any, path: str) -> Layout:
    """Find what lies at an address, and read the footers here, through Spark's file systems."""
    files = _listing(spark, path)
    if not files:
        raise ValueError(f"{path}: no Parquet there (expected files that hold {', '.join(COLUMNS[:3])}…)")
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        return layout_of(path, pool.map(partial(_footer, spark), files))


def _listing(spark: Any, path: str) -> list[tuple[str, int, str]]:
    """List the files at an address: path, length, time of change; their contents are not read."""
    found = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(_literal(path))
    rows = found.select("path", "length", "modificationTime").collect()
    return sorted(
        (file, length, str(changed))
        for file, length, changed in rows
        if not file.rpartition("/")[2].startswith(HIDDEN)  # Spark lists summaries like _metadata
    )


def _footer(spark: Any, listed: tuple[str, int, str]) -> Footer:
    """Read the end of a file at an address."""
    file, length, _ = listed
    place = spark._jvm.org.apache.hadoop.fs.Path(file)  # noqa: SLF001 - Python has no other way to Hadoop's files
    stream = place.getFileSystem(spark.sparkContext._jsc.hadoopConfiguration()).open(place)  # noqa: SLF001 - the same
    try:
        stream.seek(max(0, length - FOOTER_END))
        n_octets = min(length, FOOTER_END + footer_length(bytes(stream.readNBytes(FOOTER_END))))
        stream.seek(length - n_octets)
        return Footer.read(file, bytes(stream.readNBytes(n_octets)), listed)
    finally:
        stream.close()


def _raw(spark: Any, layout: Layout) -> Any:
    """Read the columns of ours; times for which Spark has no type, or not for all of them, as numbers."""
    from pyspark.sql.types import LongType, StructField, StructType

    unit = layout.types["sent_at"].unit
    spark.conf.set(_NANOS, str(unit == "ns").lower())
    reader = spark.read.option("recursiveFileLookup", "true")  # folders are not columns
    places = [_literal(file if is_address(file) else f"file:{file.removeprefix('file:')}") for file in layout.files]
    inferred = reader.parquet(*places).schema
    fields = {name: inferred[there] for name, there in layout.columns.items()}
    if unit == "ms":  # as times, one beyond the microseconds of 64 bits would end the reading
        fields["sent_at"] = StructField(layout.columns["sent_at"], LongType())
    frame = reader.schema(StructType(list(fields.values()))).parquet(*places)
    blank = {name for name, found in layout.types.items() if is_blank(found)}
    return frame.select(*_parts(layout.columns, blank, dict(frame.dtypes), unit))


def _parts(columns: Mapping[str, str], blank: set[str], types: dict[str, str], unit: str) -> Iterator[Any]:
    """Give our columns as Spark computes them."""
    from pyspark.sql import functions as sql

    for name in COLUMNS:
        default = {"hop": "smtp", "route": "direct", "messages": 1}.get(name)
        kind = "bigint" if name == "messages" else "string"
        there = sql.col(_quoted(columns[name])) if name in columns else None
        if there is None or name in blank:
            yield sql.lit(default).cast(kind).alias(name)
        elif name == "messages":
            most = sql.when(there.isNull(), 1).when(there > MOST_MESSAGES, MOST_MESSAGES + 1).otherwise(there)
            yield most.cast(kind).alias(name)
        elif name != "sent_at":
            text = sql.expr(f"make_valid_utf8({_quoted(columns[name])})")
            yield (text if default is None else sql.coalesce(text, sql.lit(default))).alias(name)
        elif types[columns[name]] == "bigint":
            minutes = sql.expr(f"{_quoted(columns[name])} div {_MINUTES[unit]}")
            is_near = there.between(0, _LAST_DAY * 1440 * _MINUTES[unit])
            day = sql.when(is_near, sql.expr(f"{_quoted(columns[name])} div {1440 * _MINUTES[unit]}")).otherwise(NO_DAY)
            yield sql.when(there.isNotNull(), day).cast("int").alias("day")
            yield sql.pmod(minutes, sql.lit(60)).cast("int").alias("minute")
        else:
            yield sql.unix_date(sql.to_date(there)).alias("day")
            yield sql.minute(there).alias("minute")


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
