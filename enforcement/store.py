"""The traffic store: a DuckDB file that imports write and everything else reads."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import duckdb
import narwhals as nw
import polars as pl
import pyarrow as pa

from enforcement.history import History, Traffic
from enforcement.importers.batch import Batch
from enforcement.names import printable, shown
from enforcement.schema import BUILDS, CLOCK_STARTS, SERVERS, SIGHTED, conform, day_number
from enforcement.store_connection import StoreError, connect, engine_errors, one_line, registered, transaction
from enforcement.store_forget import Forgotten, forget_days, forget_import
from enforcement.store_imports import add_batches
from enforcement.store_records import ImportRecord, known_import
from enforcement.store_tables import STORE_VERSION, TABLES, VIEWS, describe_views

__all__ = ["Forgotten", "ImportRecord", "Store", "StoreError", "create_store", "describe_views", "open_store"]

_LARGEST_ANSWER: Final = 2 * 1024**3  # octets of a query's result
_ANSWER_BATCH: Final = 100_000  # rows
_BATCH: Final = 1_000_000  # rows
_INT64_TYPES: Final = (pl.Decimal(38, 0), pl.Int128)

_QUERY_ERRORS: Final = (
    duckdb.Error,
    pl.exceptions.PolarsError,
    pa.ArrowException,
    TypeError,
    RuntimeError,
    UnicodeError,
)
_READS: Final = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI)  # MULTI: pivot


class Store:
    """An open store; close it, or use it in a `with` statement. Relations of its history live as long as it is open.

    What the engine reports inside the statement, also when its traffic is read elsewhere, is a StoreError.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, path: Path, *, is_writable: bool) -> None:
        self._connection = connection
        self.path = path
        self.is_writable = is_writable
        self._brought = count()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if isinstance(problem, duckdb.Error):
            raise StoreError(f"{self.path}: {one_line(problem)}") from None

    def close(self) -> None:
        """Let other programs have the store."""
        self._connection.close()

    def add(
        self,
        *,
        source: str,
        sha256: str,
        options: Mapping[str, object],
        batches: Iterable[Batch],
        report: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> ImportRecord:
        """Store the pieces that an importer reads from a source, all of them or nothing, once.

        None is asked for when the store holds the content already. The same content with other options is an error.
        `report` is told how many rows are sorted and stored, and of how many, when all are read.
        """
        self._expect_writable()
        with engine_errors(self.path):
            known = known_import(self._connection, source=printable(source), sha256=sha256, options=options)
        if known is not None:
            return known
        return add_batches(
            self._connection,
            batches,
            source=source,
            sha256=sha256,
            options=options,
            folder=self.path.absolute().parent,
            report=report,
        )

    def forget(self, import_id: int) -> Forgotten:
        """Remove an import; one that is not there is an error."""
        self._expect_writable()
        return forget_import(self._connection, import_id)

    def forget_before(self, day: date) -> Forgotten:
        """Remove what lies before a day."""
        self._expect_writable()
        return forget_days(self._connection, day)

    def query(self, sql: str, params: Sequence[object] = ()) -> pl.DataFrame:
        """Answer one SELECT over the views that `describe_views` lists; nothing in it can write or read other files."""
        cursor = self._connection.cursor()
        try:
            return _answer(cursor, sql, params)
        except _QUERY_ERRORS as problem:
            raise StoreError(f"cannot answer: {one_line(problem)}") from None
        finally:
            cursor.close()

    def history(self, to_on: date | None = None) -> History:
        """Give what the store knows up to a day (default: all of it); its traffic is read when asked."""
        imports = self.imports()
        last_on = to_on or date.max
        return History(
            servers=self.servers(),
            builds=self.builds(),
            clock_starts=self._read(_CLOCK_STARTS, CLOCK_STARTS, to_on=last_on),
            traffic=Traffic(
                frame=self._lazy(_TRAFFIC),
                days=self._lazy(_DAYS, last_on),
                bring=self._bring,
                batches=_batches,
                of_builds=self._of_builds,
            ),
            imports=imports,
            are_times_rounded=imports["times_rounded_to"].is_not_null().any(),
            fingerprint=self.fingerprint(),
            to_on=to_on,
        )

    def servers(self) -> pl.DataFrame:
        """List the servers: SERVERS."""
        return self._read("from raw.servers order by server_id", SERVERS)

    def builds(self) -> pl.DataFrame:
        """List the builds: BUILDS."""
        return self._read("select build_id, build, hop::varchar as hop from raw.builds order by build_id", BUILDS)

    def sighted(self, to_on: date | None = None) -> pl.DataFrame:
        """List the servers that showed a build up to a day (default: ever): SIGHTED."""
        return self._read(_SIGHTED, SIGHTED, to_on=to_on or date.max)

    def imports(self) -> pl.DataFrame:
        """List the sources that the store holds, with the columns of the view `imports`."""
        return self._fetch("from imports order by import_id")

    def fingerprint(self) -> str:
        """Hash what the store holds: contents and options of its imports, and the ids and tenants that came of them."""
        imports = self.imports().select("sha256", "options", pl.col("forgotten_before").cast(pl.String)).rows()
        # The same imports after others that were forgotten have other ids, and perhaps other tenants.
        named = [hashlib.sha256(frame.write_csv().encode()).hexdigest() for frame in (self.servers(), self.builds())]
        return hashlib.sha256(json.dumps([STORE_VERSION, imports, named]).encode()).hexdigest()

    def rejects(self) -> pl.DataFrame:
        """List what could not be used: import_id, source, position, reason, excerpt."""
        return self._fetch(_REJECTS)

    def last_hand_over(self, server_id: int, at: datetime) -> tuple[datetime, str | None, str, str] | None:
        """Give time, build, hop and route of a server's last hand-over at or before a UTC time."""
        with engine_errors(self.path):
            rows = self._connection.execute(_LAST_HAND_OVER, {"server_id": server_id, "at_time": at}).fetchall()
        return rows[0] if rows else None

    def _expect_writable(self) -> None:
        if not self.is_writable:
            raise StoreError(f"{self.path}: opened for reading only")

    def _read(self, sql: str, schema: Mapping[str, Any], **params: object) -> pl.DataFrame:
        return conform(self._fetch(sql, **params), schema, what=str(self.path))

    def _fetch(self, sql: str, **params: object) -> pl.DataFrame:
        with engine_errors(self.path):
            return self._connection.sql(sql, params=params or None).pl()

    def _lazy(self, sql: str, to_on: date = date.max) -> nw.LazyFrame[Any]:
        last = min(day_number(to_on), _LAST_DAY)
        return nw.from_native(self._connection.sql(sql.format(last=last)))

    def _bring(self, table: pl.DataFrame) -> nw.LazyFrame[Any]:
        """Make a temporary table, whose size the engine knows; it goes with the connection."""
        name = f"brought_{next(self._brought)}"
        with engine_errors(self.path), registered(self._connection, bringing=table):
            self._connection.execute(f"create temp table {name} as from bringing")
        return nw.from_native(self._connection.sql(f"from temp.{name}"))

    def _of_builds(self, build_ids: Sequence[int]) -> nw.LazyFrame[Any]:
        """Give the traffic of some builds; written out, they let the engine skip what lies between."""
        listed = ", ".join(str(int(build_id)) for build_id in build_ids) or "null"
        return nw.from_native(self._connection.sql(f"{_TRAFFIC} where build_id in ({listed})"))


_LAST_DAY: Final = 2**15 - 1  # what a day column holds
_TRAFFIC: Final = "select day, minute, minute_spread, server_id, build_id, route, messages from raw.traffic"
_DAYS: Final = """
select server_id, build_id, route, day, messages from raw.handover_days where day <= {last}
"""
_SIGHTED: Final = """
select server_id, build_id, date '1970-01-01' + min(day) as first_seen_on, date '1970-01-01' + max(day) as last_seen_on
from raw.sightings where day <= ($to_on::date - date '1970-01-01') group by all order by build_id, server_id
"""
_CLOCK_STARTS: Final = """
select server_id, build_id, first_detected_on from raw.clock_starts
where first_detected_on <= $to_on order by all
"""
_REJECTS: Final = """
select import_id, source, position, reason, excerpt from rejects join imports using (import_id)
order by import_id, position
"""
_LAST_HAND_OVER: Final = """
select sent_at, build, hop::varchar, route::varchar from raw.traffic join raw.builds using (build_id)
where server_id = $server_id and sent_at <= $at_time order by sent_at desc, build desc nulls last, hop limit 1
"""


def open_store(path: Path | str) -> Store:
    """Open a store for reading; any number of readers may do so at once."""
    place = Path(path)
    if not place.exists():
        raise StoreError(f"{path}: no such store (`enforcement sample` or `enforcement import` makes one)")
    return _checked(connect(place, is_writable=False), place, is_writable=False)


def create_store(path: Path | str) -> Store:
    """Open a store for writing, and make it when there is none; nobody else may have it open."""
    place = Path(path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise StoreError(f"{path}: {problem.strerror}") from None
    connection = connect(place, is_writable=True)
    try:
        _make_tables(connection, place)
    except BaseException:
        connection.close()
        raise
    return _checked(connection, place, is_writable=True)


def _batches(frame: nw.LazyFrame[Any]) -> Iterator[pa.RecordBatch]:
    """Read the rows of a relation, some at a time."""
    native: duckdb.DuckDBPyRelation = frame.to_native()
    yield from native.to_arrow_reader(_BATCH)


def _make_tables(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    with engine_errors(path):
        is_new = not connection.sql("show all tables").limit(1).fetchall()
    if is_new:
        with transaction(connection):
            connection.execute(TABLES)
            connection.execute("insert into raw.about values (?)", [STORE_VERSION])
            for name, view in VIEWS.items():
                connection.execute(f"create view {name} as {view.sql}")


def _checked(connection: duckdb.DuckDBPyConnection, path: Path, *, is_writable: bool) -> Store:
    """Give a store on a connection, when it is one of a version that this program reads."""
    try:
        version = int(connection.sql("select store_version from raw.about").fetchall()[0][0])
    except (duckdb.Error, IndexError):
        connection.close()
        raise StoreError(
            f"{path}: not a store (name another file; `enforcement sample` or `enforcement import` makes one)"
        ) from None
    if version < STORE_VERSION:
        connection.close()
        raise StoreError(
            f"{path}: a store of version {version}, this program reads version {STORE_VERSION}"
            " (import its sources anew into another file)"
        )
    if version > STORE_VERSION:
        connection.close()
        raise StoreError(
            f"{path}: a store of version {version}, this program reads up to {STORE_VERSION} (update the program)"
        )
    return Store(connection, path, is_writable=is_writable)


def _answer(cursor: duckdb.DuckDBPyConnection, sql: str, params: Sequence[object]) -> pl.DataFrame:
    """Run one reading statement; whole numbers come as Int64 where they fit."""
    statements = cursor.extract_statements(sql)
    if len(statements) != 1 or statements[0].type not in _READS:
        raise StoreError(f"not a query: {shown(sql)} (expected one SELECT over {', '.join(VIEWS)})")
    cursor.execute("begin transaction read only")
    relation = cursor.sql(sql, params=list(params) or None)
    for name, kind in zip(relation.columns, relation.types, strict=True):
        if str(kind) == "INTERVAL":
            raise StoreError(f"column {shown(name)} is an interval: cast it to text, or subtract dates to get days")
    reader = relation.to_arrow_reader(_ANSWER_BATCH)
    batches: list[pa.RecordBatch] = []
    size = 0
    for batch in reader:
        size += batch.nbytes
        if size > _LARGEST_ANSWER:
            raise StoreError(
                f"the answer is larger than {_LARGEST_ANSWER / 1024**3:.0f} GB: aggregate or filter in SQL"
            )
        batches.append(batch)
    frame = pl.DataFrame(pa.Table.from_batches(batches, schema=reader.schema))
    return frame.with_columns(
        frame[name].cast(pl.Int64)
        for name, dtype in frame.schema.items()
        if dtype in _INT64_TYPES and frame[name].cast(pl.Int64, strict=False).null_count() == frame[name].null_count()
    )
