"""A history as Parquet, replayed by DuckDB."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from typing import Any, Final

import duckdb
import narwhals as nw
import pyarrow as pa
from pyarrow import dataset, parquet

from enforcement.engines.lake import MOST_MESSAGES, NO_DAY, Engine, Source, history_of
from enforcement.engines.layout import Layout, is_blank, listed, local_layout
from enforcement.history import History
from enforcement.importers.table_columns import COLUMNS
from enforcement.names import excerpt
from enforcement.store_connection import one_line

_MEMORY: Final = "2GB"  # beyond it the engine spills to disk
_BATCH: Final = 1_000_000  # rows
_DAY_US: Final = 86_400_000_000
_MINUTE_US: Final = 60_000_000
_MOST_MS: Final = (2**63 - 1) // 1_000
_LAST_US: Final = 2**52  # in the year 2112


@contextmanager
def open_traffic(path: str, *, to_on: date | None = None) -> Iterator[History]:
    """Give the history that lies as Parquet at a path of this machine; what is wrong is a ValueError of one line."""
    layout = local_layout(path)
    with tempfile.TemporaryDirectory(prefix="enforcement-", ignore_cleanup_errors=True) as spill:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": _MEMORY,
            "temp_directory": spill,
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
        connection = duckdb.connect(":memory:", config=config)
        try:
            yield history_of(_raw(connection, layout), _engine(connection), source_of(layout, "duckdb"), to_on)
        except duckdb.Error as problem:
            raise ValueError(_told(problem, layout)) from None
        finally:
            connection.close()


def _told(problem: duckdb.Error, layout: Layout) -> str:
    """Say which file cannot be read, once, and why."""
    said = re.sub("^(?:Invalid Input|IO) Error: ", "", one_line(problem))
    named = next((file for file in layout.files if f'"{file}"' in said), None)
    if named is not None:
        said = re.sub(f'(?: in Parquet)? file "{re.escape(named)}"', "", said)
    return f"{named or layout.path}: cannot be read to its end ({excerpt(said)})"


def source_of(layout: Layout, engine: str) -> Source:
    """Describe files of this machine as a source."""
    notes = (f"columns not read: {listed(layout.unread)}",) if layout.unread else ()
    return Source(
        name=layout.path, fingerprint=layout.fingerprint, rows=layout.rows, options={"engine": engine}, notes=notes
    )


def _engine(connection: duckdb.DuckDBPyConnection) -> Engine:
    kept: list[str] = []

    def keep(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
        native: duckdb.DuckDBPyRelation = frame.to_native()
        kept.append(f"kept_{len(kept)}")
        native.create(kept[-1])
        return nw.from_native(connection.table(kept[-1]))

    return Engine(
        bring=lambda table: nw.from_native(connection.from_arrow(table.to_arrow())), keep=keep, batches=_batches
    )


def _batches(frame: nw.LazyFrame[Any]) -> Iterator[pa.RecordBatch]:
    native: duckdb.DuckDBPyRelation = frame.to_native()
    yield from native.to_arrow_reader(_BATCH)


def _raw(connection: duckdb.DuckDBPyConnection, layout: Layout) -> nw.LazyFrame[Any]:
    if _has_far_times(layout):
        layout = replace(layout, types={**layout.types, "sent_at": pa.timestamp("ms")})  # UTC, with a zone or without
        scanned = _through_arrow(connection, layout)
    else:
        scanned = _scanned(connection, layout)
    parts = [part for name in COLUMNS for part in _parts(name, layout)]
    return nw.from_native(scanned.project(", ".join(parts)))


def _scanned(connection: duckdb.DuckDBPyConnection, layout: Layout) -> duckdb.DuckDBPyRelation:
    files = [re.sub(r"([\[*?])", r"[\1]", str(file)) for file in layout.files]  # nothing in a name is a pattern
    return connection.read_parquet(files, hive_partitioning=False)


def _has_far_times(layout: Layout) -> bool:
    """Tell whether there may be milliseconds that are too many as microseconds: DuckDB's own reader ends at the first.

    The footers say so; where they do not tell, there may be.
    """
    if layout.types["sent_at"].unit != "ms":
        return False
    for file in layout.files:
        footer = parquet.read_metadata(file)
        paths = [footer.schema.column(place).path for place in range(footer.num_columns)]
        place = paths.index(layout.columns["sent_at"])
        for group in map(footer.row_group, range(footer.num_row_groups)):
            known = group.column(place).statistics
            if known is None or not (known.has_min_max and -_MOST_MS <= known.min_raw <= known.max_raw <= _MOST_MS):
                return True
    return False


def _through_arrow(connection: duckdb.DuckDBPyConnection, layout: Layout) -> duckdb.DuckDBPyRelation:
    """Let Arrow read, half as fast, and give milliseconds as they are."""
    schema = pa.schema([(there, layout.types[name]) for name, there in layout.columns.items()])
    return connection.from_arrow(dataset.dataset([str(file) for file in layout.files], schema=schema, format="parquet"))


def _parts(name: str, layout: Layout) -> Iterator[str]:
    """Write a column of ours in SQL."""
    there = '"' + layout.columns.get(name, "").replace('"', '""') + '"'
    found = layout.types.get(name, pa.null())
    default = {"hop": "'smtp'", "route": "'direct'", "messages": "1"}.get(name, "null")
    if is_blank(found):
        yield f"{default}::{'bigint' if name == 'messages' else 'varchar'} as {name}"
    elif name == "messages":
        most = f"when {there} > {MOST_MESSAGES} then {MOST_MESSAGES + 1}"
        yield f"(case when {there} is null then 1 {most} else {there} end)::bigint as messages"
    elif name != "sent_at":
        yield f"coalesce({there}::varchar, {default}) as {name}"
    elif found.tz is not None:  # an instant; without an extension DuckDB knows nothing but its number
        at = f"epoch_us({there}::timestamptz)"
        yield _day(f"{at} between 0 and {_LAST_US}", f"({at} // {_DAY_US})::integer", there)
        yield f"({at} // {_MINUTE_US} % 60)::integer as minute"
    else:
        at = f"try_cast({there} as timestamp)"
        is_near = f"{at} between timestamp '1970-01-01' and timestamp '2100-01-01'"
        yield _day(is_near, f"({at}::date - date '1970-01-01')::integer", there)
        yield f"minute({at})::integer as minute"


def _day(is_near: str, day: str, there: str) -> str:
    return f"(case when {there} is null then null when {is_near} then {day} else {NO_DAY} end)::integer as day"
