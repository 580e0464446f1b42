"""What an import writes: one source, all of it or nothing, known by its content and options."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from enforcement.ahead import made_ahead
from enforcement.importers.batch import Batch, names_and_places
from enforcement.names import printable, shown
from enforcement.received import Route
from enforcement.rounded_times import SUSPECT_SHARE, MinuteZero, Spread
from enforcement.store_connection import StoreError, registered, transaction
from enforcement.store_logged import logged_rows, shared_decisions, take_decisions, take_started
from enforcement.store_names import Names
from enforcement.store_records import ImportRecord, written_options
from enforcement.store_spool import Days, Rows, Spool, by_day, who

_ROUTES: Final = tuple(route.value for route in Route)  # in the order of raw.route
_MINUTE: Final = 60_000_000  # microseconds
_MINUTES: Final = 60  # of an hour
_LONGEST_EXCERPT: Final = 200
_SHOWN_IMPORTS: Final = 5

# Told how many rows are sorted and stored, and of how many.
Report = Callable[[int, int], None]


@dataclass(slots=True)
class _Arrived:
    """What has come of a source so far."""

    rows_read: int = 0
    rows_stored: int = 0
    rows_rejected: int = 0
    traffic_rows: int = 0  # more than those stored when a row's messages get minutes of their own
    messages: int = 0
    logged_rows: int = 0  # clock starts and decisions
    has_sightings: bool = False
    minute_zero: MinuteZero = field(default_factory=MinuteZero)
    notes: dict[str, None] = field(default_factory=dict)


def add_batches(  # noqa: PLR0913 - the parts of one import
    connection: duckdb.DuckDBPyConnection,
    batches: Iterable[Batch],
    *,
    source: str,
    sha256: str,
    options: Mapping[str, object],
    folder: Path,
    report: Report,
) -> ImportRecord:
    """Store the pieces of a source: ids for its servers and builds, its traffic sorted for the exposure pass, rejects.

    What memory does not hold is kept in the folder meanwhile.
    """
    rounded_to = options.get("times_rounded_to")
    if rounded_to not in (None, "hour"):
        raise StoreError(f"times cannot be rounded to {rounded_to!r} (expected 'hour')")
    source = printable(source)
    with transaction(connection), Spool(folder) as spool:
        import_id = _next_import(connection)
        names = Names(connection)
        arrived = _take(connection, batches, names, spool, import_id, spread=Spread() if rounded_to else None)
        n_other_tenant = names.write(connection)
        _store_sorted(connection, spool, names, import_id, report, are_sighted=not arrived.has_sightings)
        connection.execute(_INSERT_SIGHTED, {"import_id": import_id})
        connection.execute("drop table sighted")
        overlap, sources = _overlap(connection, import_id)
        record = ImportRecord(
            import_id=import_id,
            source=source,
            sha256=sha256,
            rows_read=arrived.rows_read,
            rows_stored=arrived.rows_stored,
            rows_rejected=arrived.rows_rejected,
            already_imported=False,
            overlap=overlap,
            notes=tuple(
                " ".join(note.split())
                for note in (
                    *arrived.notes,
                    *_note_of_minutes(arrived, is_known=rounded_to is not None),
                    *_note_of_tenants(n_other_tenant, names.alone),
                    *_note_of_overlap(overlap, sources),
                    *(_note_of_decisions(*shared_decisions(connection, import_id)) if arrived.logged_rows else ()),
                )
            ),
        )
        _write_record(connection, record, options=options)
        _hold_counts(connection, record, arrived)
    return record


def _next_import(connection: duckdb.DuckDBPyConnection) -> int:
    """Give the number of the next import, which is only taken when it is stored."""
    rows = connection.execute("select last_value from duckdb_sequences() where sequence_name = 'import_ids'").fetchall()
    return (rows[0][0] or 0) + 1


def _take(  # noqa: PLR0913 - the parts of one import
    connection: duckdb.DuckDBPyConnection,
    batches: Iterable[Batch],
    names: Names,
    spool: Spool,
    import_id: int,
    *,
    spread: Spread | None,
) -> _Arrived:
    """Take the pieces as they come: hand-overs coded into the spool, rejects and sightings into the store."""
    arrived = _Arrived()
    connection.execute(_SIGHTED)
    for batch in batches:
        arrived.rows_read += batch.rows_read
        arrived.rows_stored += batch.rows_stored
        arrived.rows_rejected += batch.rejects.height
        arrived.notes |= dict.fromkeys(batch.notes)
        arrived.minute_zero.count(batch.handovers)
        for handovers in [batch.handovers] if spread is None else spread.pieces(batch.handovers):
            rows = _coded(handovers, names)
            arrived.traffic_rows += len(rows.who)
            arrived.messages += int(rows.messages.sum(dtype=np.int64))
            spool.add(rows)
        if batch.sightings is not None:
            arrived.has_sightings = True
            _take_sightings(connection, batch.sightings, names)
        if batch.started is not None:
            take_started(connection, batch.started, names, import_id)
        if batch.decisions is not None:
            take_decisions(connection, batch.decisions, names, import_id)
        arrived.logged_rows += batch.rows_stored - batch.handovers.height
        if batch.rejects.height:
            with registered(connection, rejected=batch.rejects.to_arrow()):
                connection.execute(_INSERT_REJECTS, {"import_id": import_id, "longest": _LONGEST_EXCERPT})
    return arrived


def _coded(handovers: pl.DataFrame, names: Names) -> Rows:
    """Put numbers for names."""
    server_ids = names.server_ids(handovers["server"], handovers["tenant"])
    build_ids = names.build_ids(handovers["build"], handovers["hop"])
    routes, places = names_and_places(handovers["route"])
    route_codes = np.zeros(len(routes), dtype=np.uint8)
    for place in np.flatnonzero(np.bincount(places)):  # an Enum may name what no row has
        route = routes[place]
        if route not in _ROUTES:
            raise StoreError(f"nothing was changed: not a route: {shown(route)} (expected {', '.join(_ROUTES)})")
        route_codes[place] = _ROUTES.index(route)
    return Rows(
        who(build_ids, server_ids),
        handovers["sent_at"].to_physical().to_numpy(),
        route_codes[places],
        handovers["messages"].to_numpy(),
    )


def _take_sightings(connection: duckdb.DuckDBPyConnection, sightings: pl.DataFrame, names: Names) -> None:
    coded = pa.table(
        {
            "server_id": names.server_ids(sightings["server"], sightings["tenant"]),
            "build_id": names.build_ids(sightings["build"], sightings["hop"]),
            "day": sightings["day"].to_physical().to_numpy(),
            "hops": sightings["hops"].to_numpy(),
        }
    )
    with registered(connection, coded=coded):
        connection.execute("insert into sighted from coded")


_SIGHTED: Final = (
    "create or replace temp table sighted (server_id integer, build_id integer, day smallint, hops bigint)"
)
_NAMED: Final = 3  # servers in a note
_INSERT_TRAFFIC: Final = """
insert into raw.traffic
select sent_at, day, minute, minute_spread, server_id, build_id, route::varchar::raw.route, messages, $import_id
from sorted
"""
_INSERT_DAYS: Final = """
insert into raw.handover_days select server_id, build_id, route::varchar::raw.route, day, messages, $import_id from days
"""
_INSERT_SIGHTED: Final = """
insert into raw.sightings select server_id, build_id, day, sum(hops)::bigint, $import_id
from sighted group by all order by build_id, server_id, day
"""
_INSERT_SEEN: Final = "insert into raw.sightings select server_id, build_id, day, hops, $import_id from seen"
_INSERT_REJECTS: Final = """
insert into raw.rejects select $import_id, position, reason, excerpt[:$longest] from rejected order by position
"""


def _store_sorted(  # noqa: PLR0913 - the parts of one import
    connection: duckdb.DuckDBPyConnection,
    spool: Spool,
    names: Names,
    import_id: int,
    report: Report,
    *,
    are_sighted: bool,
) -> None:
    """Store the traffic in its order, and counted by day; the next range is sorted while one is stored.

    When the source says nothing else, its hand-overs are what servers showed, but for those of Exchange Online.
    """
    offsets, is_cloud = names.offsets(), names.is_cloud()
    n_done = 0

    def tables() -> Iterator[tuple[int, dict[str, pa.Table]]]:
        for rows in spool.ranges():
            days = by_day(rows)
            found = {"sorted": _traffic(rows, offsets), "days": _days(days)}
            yield len(rows.who), found | ({"seen": _seen(days, is_cloud)} if are_sighted else {})

    for n_rows, found in made_ahead(tables()):
        with registered(connection, **found):
            connection.execute(_INSERT_TRAFFIC, {"import_id": import_id})
            connection.execute(_INSERT_DAYS, {"import_id": import_id})
            if are_sighted:
                connection.execute(_INSERT_SEEN, {"import_id": import_id})
        n_done += n_rows
        report(n_done, spool.rows)


def _traffic(rows: Rows, offsets: npt.NDArray[np.uint8]) -> pa.Table:
    server_ids = rows.server_id
    minutes = (rows.sent_at // _MINUTE).astype(np.int32)
    minute = (minutes % _MINUTES).astype(np.uint8)
    own = minute + (_MINUTES - offsets[server_ids])  # at most 119
    return pa.table(
        {
            "sent_at": pa.array(rows.sent_at, pa.timestamp("us")),
            "day": (minutes // (24 * _MINUTES)).astype(np.int16),
            "minute": minute,
            "minute_spread": np.where(own < _MINUTES, own, own - np.uint8(_MINUTES)),
            "server_id": server_ids,
            "build_id": rows.build_id,
            "route": pa.DictionaryArray.from_arrays(rows.route, _ROUTES),
            "messages": rows.messages,
        }
    )


def _days(days: Days) -> pa.Table:
    """Give the messages of each server, build, day and route."""
    places, routes = np.nonzero(days.messages)
    return pa.table(
        {
            "server_id": days.server_id[places],
            "build_id": days.build_id[places],
            "route": pa.DictionaryArray.from_arrays(routes.astype(np.int8), _ROUTES),
            "day": days.day[places],
            "messages": days.messages[places, routes],
        }
    )


def _seen(days: Days, is_cloud: npt.NDArray[np.bool_]) -> pa.Table:
    """Give the messages of each server, on-premises build and day."""
    places = np.flatnonzero(~is_cloud[days.build_id])
    return pa.table(
        {
            "server_id": days.server_id[places],
            "build_id": days.build_id[places],
            "day": days.day[places],
            "hops": days.messages[places].sum(axis=1),
        }
    )


def _note_of_minutes(arrived: _Arrived, *, is_known: bool) -> Iterator[str]:
    share = arrived.minute_zero.share
    if share is not None and share > SUSPECT_SHARE and not is_known:
        yield (
            f"{share:.0%} of the messages were sent on minute 0 of an hour: if the source rounds its times, forget this"
            f" import and import again with `--times-rounded-to hour`"
        )


def _note_of_tenants(n_other_tenant: int, alone: Sequence[str]) -> Iterator[str]:
    if alone:
        named = ", ".join([*alone[:_NAMED], *(["…"] if len(alone) > _NAMED else [])])
        yield f"servers named without a domain: {len(alone):,} ({named}): each counts as a tenant of its own"
    if n_other_tenant:
        yield f"servers that came with another tenant than they have: {n_other_tenant:,} (they keep the first)"


def _note_of_overlap(overlap: int, sources: str) -> Iterator[str]:
    if overlap:
        yield f"days of servers that were already there from {sources}: {overlap:,} (the same mail may now count twice)"


def _note_of_decisions(n_shared: int, import_ids: list[int]) -> Iterator[str]:
    if n_shared:
        yield (
            f"decisions that were already there from {_named(import_ids)}: {n_shared:,} (the same log may now count "
            "twice: if one of them has grown since, or was packed, forget the other)"
        )


def _overlap(connection: duckdb.DuckDBPyConnection, import_id: int) -> tuple[int, str]:
    """Count the days of servers in an import that are there from others too, and name the imports that hold them."""
    others = connection.execute("select 1 from raw.handover_days where import_id <> ? limit 1", [import_id])
    if not others.fetchall():
        return 0, ""
    rows = connection.execute(
        """
        with days as (select distinct server_id, day from raw.handover_days where import_id = $import_id),
        shared as (
            select server_id, day, t.import_id from days join raw.handover_days t using (server_id, day)
            where t.import_id <> $import_id group by all
        )
        select count(distinct (server_id, day)), list(distinct import_id order by import_id) from shared
        """,
        {"import_id": import_id},
    ).fetchall()
    n_days, import_ids = rows[0]
    return (n_days, _named(import_ids)) if n_days else (0, "")


def _named(import_ids: list[int]) -> str:
    more = f" and {len(import_ids) - _SHOWN_IMPORTS} more" if len(import_ids) > _SHOWN_IMPORTS else ""
    ids = ", ".join(str(import_id) for import_id in import_ids[:_SHOWN_IMPORTS])
    return f"import{'s' if len(import_ids) > 1 else ''} {ids}{more}"


def _write_record(
    connection: duckdb.DuckDBPyConnection, record: ImportRecord, *, options: Mapping[str, object]
) -> None:
    ((import_id,),) = connection.execute("select nextval('raw.import_ids')::integer").fetchall()
    if import_id != record.import_id:
        raise StoreError(f"{record.source}: nothing was stored: it is import {import_id}, not {record.import_id}")
    connection.execute(
        "insert into raw.imports values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, null, ?)",
        [
            record.import_id,
            record.source,
            record.sha256,
            written_options(options),
            datetime.now(UTC).replace(tzinfo=None, microsecond=0),
            record.rows_read,
            record.rows_stored,
            record.rows_rejected,
            record.overlap,
            options.get("times_rounded_to"),
            "\n".join(record.notes),
        ],
    )


def _hold_counts(connection: duckdb.DuckDBPyConnection, record: ImportRecord, arrived: _Arrived) -> None:
    """Undo an import that lost or added a row on its way."""
    stored = connection.execute(
        "select count(*), coalesce(sum(messages), 0)::bigint from raw.traffic where import_id = ?", [record.import_id]
    ).fetchall()[0]
    counted = connection.execute(
        "select coalesce(sum(messages), 0)::bigint from raw.handover_days where import_id = ?", [record.import_id]
    ).fetchall()[0]
    rejected = connection.execute(
        "select count(*) from raw.rejects where import_id = ?", [record.import_id]
    ).fetchall()[0]
    found = (*stored, *counted, *rejected, logged_rows(connection, record.import_id))
    expected = (
        arrived.traffic_rows, arrived.messages, arrived.messages, arrived.rows_rejected, arrived.logged_rows,
    )  # fmt: skip
    if found != expected or record.rows_read != record.rows_stored + record.rows_rejected:
        raise StoreError(
            f"{record.source}: nothing was stored: {found[0]} rows, {found[1]} messages ({found[2]} by day),"
            f" {found[3]} rejects and {found[4]} other rows arrived of {expected[0]}, {expected[1]}, {expected[3]}"
            f" and {expected[4]}"
        )
