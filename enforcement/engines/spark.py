"""A history as Parquet, replayed by Spark: on this machine, or on a cluster that reads it where it lies."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from typing import Any, Final

import narwhals as nw
import polars as pl
import pyarrow as pa

from enforcement.engines.duckdb import source_of
from enforcement.engines.lake import MOST_MESSAGES, Engine, Source, history_of
from enforcement.engines.layout import EXPECTED, Layout, chosen, is_address, is_blank, listed, local_layout
from enforcement.engines.spark_session import Session, session
from enforcement.history import History
from enforcement.importers.table_columns import COLUMNS, OPTIONAL

DEFAULT_MASTER: Final = "local[*]"

_BROADCAST: Final = 256 * 1024**2  # octets; Spark itself would stop at 8 GB
_NANOS: Final = "spark.sql.legacy.parquet.nanosAsLong"
_TYPES: Final = {"sent_at": r"timestamp(_ntz)?", "messages": r"tinyint|smallint|int|bigint|decimal\(20,0\)"}
_MOST_COMPARED: Final = 1_000  # files
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
    layout = layout or (None if is_address(path) else local_layout(path))
    spark = opened.spark
    with _errors(opened, path):
        if layout is None:
            frame, source, blank = _found(spark, path)
            columns: Mapping[str, str] = chosen(frame.columns, path)
        else:
            spark.conf.set(_NANOS, str(layout.types["sent_at"].unit == "ns").lower())
            frame = spark.read.parquet(*(f"file:{_literal(str(file))}" for file in layout.files))
            source, columns = source_of(layout, "spark"), layout.columns
            blank = {name for name, found in layout.types.items() if is_blank(found)}
        raw = frame.select(*_parts(columns, blank, dict(frame.dtypes)))
        yield history_of(nw.from_native(raw), _engine(spark), source, to_on)


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


def _found(spark: Any, path: str) -> tuple[Any, Source, set[str]]:
    """Read the schema of what lies at an address; a folder's files are held to one."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    spark.conf.set(_NANOS, "false")
    place = _literal(path)
    try:
        frame = _read(spark, place)
    except (Py4JError, PySparkException) as problem:
        if "UNABLE_TO_INFER_SCHEMA" in str(problem):
            raise ValueError(f"{path}: no Parquet there (expected files that hold {', '.join(COLUMNS[:3])}…)") from None
        if "CANNOT_MERGE" not in str(problem):
            raise
        _expect_same(spark, path)
        raise
    columns = chosen(frame.columns, path)
    types = dict(frame.dtypes)
    for name, there in columns.items():
        is_blank_here = name in OPTIONAL and types[there] == "void"
        is_nanos = name == "sent_at" and types[there] == "bigint" and spark.conf.get(_NANOS) == "true"
        if not (is_blank_here or is_nanos or re.fullmatch(_TYPES.get(name, "string"), types[there])):
            raise ValueError(f"{path}: column {there!r} holds {types[there]} (expected {EXPECTED.get(name, 'text')})")
    unread = [name for name in frame.columns if name not in columns.values()]
    source = Source(
        name=path,
        fingerprint=hashlib.sha256(repr(_listing(spark, path)).encode()).hexdigest(),
        options={"engine": "spark"},
        notes=(f"columns not read: {listed(unread)}",) if unread else (),
    )
    return frame, source, {name for name, there in columns.items() if types[there] == "void"}


def _read(spark: Any, place: str) -> Any:
    """Read what lies at a place; times of nanoseconds, for which Spark has no type, as numbers."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    reader = spark.read.option("recursiveFileLookup", "true").option("mergeSchema", "true")
    try:
        return reader.parquet(place)
    except (Py4JError, PySparkException) as problem:
        if "TIMESTAMP(NANOS" not in str(problem):
            raise
    spark.conf.set(_NANOS, "true")
    return reader.parquet(place)


def _listing(spark: Any, path: str) -> list[tuple[str, ...]]:
    """List the files at an address: path, length, time of change; their contents are not read."""
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(_literal(path))
    return sorted(tuple(map(str, row)) for row in files.select("path", "length", "modificationTime").collect())


def _expect_same(spark: Any, path: str) -> None:
    """Say which of the files at an address differs from the first, and in which column of ours."""
    held: dict[str, tuple[str, str]] = {}
    for file, *_ in _listing(spark, path)[:_MOST_COMPARED]:
        types = dict(_read(spark, _literal(file)).dtypes)
        for name, there in chosen(list(types), file).items():
            kind, first = held.setdefault(name, (types[there], file))
            if kind != types[there]:
                raise ValueError(
                    f"{path}: column {there!r} holds {types[there]} in {file} (expected {kind}, as in {first}:"
                    " one schema in a folder)"
                )


def _parts(columns: Mapping[str, str], blank: set[str], types: dict[str, str]) -> Iterator[Any]:
    """Give our columns as Spark computes them."""
    from pyspark.sql import functions as sql

    for name in COLUMNS:
        default = {"hop": "smtp", "route": "direct", "messages": 1}.get(name)
        kind = "bigint" if name == "messages" else "string"
        there = sql.col("`" + columns.get(name, "").replace("`", "``") + "`") if name in columns else None
        if there is None or name in blank:
            yield sql.lit(default).cast(kind).alias(name)
        elif name == "messages":
            most = sql.when(there.isNull(), 1).when(there > MOST_MESSAGES, MOST_MESSAGES + 1).otherwise(there)
            yield most.cast(kind).alias(name)
        elif name != "sent_at":
            text = sql.expr(f"make_valid_utf8(`{columns[name].replace('`', '``')}`)")
            yield (text if default is None else sql.coalesce(text, sql.lit(default))).alias(name)
        elif types[columns[name]] == "bigint":  # nanoseconds
            minutes = sql.floor(there / sql.lit(60_000_000_000)).cast("bigint")
            yield sql.floor(minutes / 1440).cast("int").alias("day")
            yield sql.pmod(minutes, sql.lit(60)).cast("int").alias("minute")
        else:
            yield sql.unix_date(sql.to_date(there)).alias("day")
            yield sql.minute(there).alias("minute")
