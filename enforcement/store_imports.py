"""What an import writes: one source, all of it or nothing, known by its content and options."""

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import duckdb
import polars as pl

from enforcement.builds import Build
from enforcement.importers.batch import Batch
from enforcement.names import printable, server_name, shown, tenant_name, tenant_of
from enforcement.rounded_times import SUSPECT_SHARE, share_on_minute_zero, spread_over_hours
from enforcement.schema import BUILDS, SERVERS, conform
from enforcement.store_connection import StoreError, transaction

_PAIR: Final = ["build", "hop"]
_LONGEST_EXCERPT: Final = 200
_SHOWN_IMPORTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRecord:
    """A source that a store holds; rows_read = rows_stored + rows_rejected.

    `overlap` counts days of servers that other sources already held. `notes` are for the user, one line each.
    """

    import_id: int
    source: str
    sha256: str
    rows_read: int
    rows_stored: int
    rows_rejected: int
    already_imported: bool
    overlap: int
    notes: tuple[str, ...]


def written_options(options: Mapping[str, object]) -> str:
    """Write options as JSON in one spelling.

    >>> written_options({"kind": "mail", "times_rounded_to": None, "own_hosts": ["b", "a"]})
    '{"kind": "mail", "own_hosts": ["a", "b"]}'
    """
    told = {
        name: sorted(value) if isinstance(value, list | tuple | set | frozenset) else value
        for name, value in options.items()
        if value not in (None, (), [], set(), frozenset())
    }
    return json.dumps(told, sort_keys=True)


def known_import(
    connection: duckdb.DuckDBPyConnection, *, source: str, sha256: str, options: Mapping[str, object]
) -> ImportRecord | None:
    """Give the import that holds this content; with other options than these it is an error."""
    rows = connection.execute(
        "select import_id, source, sha256, rows_read, rows_stored, rows_rejected, overlap, notes, options,"
        " forgotten_before from raw.imports where sha256 = ?",
        [sha256],
    ).fetchall()
    if not rows:
        return None
    import_id, first_source, _, read, stored, rejected, overlap, notes, had, forgotten_before = rows[0]
    if had != written_options(options):
        raise StoreError(
            f"{source}: already imported as import {import_id} with options {had}, now {written_options(options)}"
            f" (`enforcement forget {import_id}` removes it; then import it again)"
        )
    told = tuple(notes.splitlines())
    if forgotten_before is not None:
        told += (
            f"rows before {forgotten_before} were forgotten; `enforcement forget {import_id}` allows a whole import",
        )
    return ImportRecord(
        import_id=import_id,
        source=first_source,
        sha256=sha256,
        rows_read=read,
        rows_stored=stored,
        rows_rejected=rejected,
        already_imported=True,
        overlap=overlap,
        notes=told,
    )


def add_batch(
    connection: duckdb.DuckDBPyConnection, *, source: str, sha256: str, options: Mapping[str, object], batch: Batch
) -> ImportRecord:
    """Store a batch: ids for its servers and builds, its traffic sorted for the exposure pass, its rejects."""
    notes = list(batch.notes)
    rounded_to = options.get("times_rounded_to")
    if rounded_to not in (None, "hour"):
        raise StoreError(f"times cannot be rounded to {rounded_to!r} (expected 'hour')")
    handovers = spread_over_hours(batch.handovers) if rounded_to else batch.handovers
    share = share_on_minute_zero(batch.handovers)
    if share is not None and share > SUSPECT_SHARE and not rounded_to:
        notes.append(
            f"{share:.0%} of the messages were sent on minute 0 of an hour: if the source rounds its times, forget this"
            f" import and import again with `--times-rounded-to hour`"
        )
    source = printable(source)
    with transaction(connection):
        (import_id,) = connection.execute("select nextval('raw.import_ids')::integer").fetchall()[0]
        with _registered(connection, incoming=handovers, sighted=batch.sightings, rejected=batch.rejects):
            n_other_tenant = _add_servers(connection, batch)
            _add_builds(connection, batch)
            overlap, sources = _overlap(connection)
            connection.execute(_INSERT_TRAFFIC, {"import_id": import_id})
            connection.execute(_INSERT_DAYS, {"import_id": import_id})
            connection.execute(_INSERT_SIGHTINGS, {"import_id": import_id})
            connection.execute(_INSERT_REJECTS, {"import_id": import_id, "longest": _LONGEST_EXCERPT})
        if n_other_tenant:
            notes.append(
                f"servers that came with another tenant than they have: {n_other_tenant:,} (they keep the first)"
            )
        if overlap:
            notes.append(
                f"already there from {sources}: {overlap:,} days × servers (the same mail may now count twice)"
            )
        record = ImportRecord(
            import_id=import_id,
            source=source,
            sha256=sha256,
            rows_read=batch.rows_read,
            rows_stored=batch.handovers.height,
            rows_rejected=batch.rejects.height,
            already_imported=False,
            overlap=overlap,
            notes=tuple(" ".join(note.split()) for note in notes),
        )
        _write_record(connection, record, options=options)
        _hold_counts(connection, record, handovers)
    return record


_INSERT_TRAFFIC: Final = """
insert into raw.traffic
select i.sent_at, (i.sent_at::date - date '1970-01-01')::smallint, minute(i.sent_at)::utinyint,
    ((minute(i.sent_at) + 60 - s.minute_offset) % 60)::utinyint, s.server_id, b.build_id, i.route::raw.route,
    i.messages, $import_id
from incoming i join raw.servers s using (server)
    join raw.builds b on b.hop = i.hop::raw.hop and b.build is not distinct from i.build
order by b.build_id, s.server_id, i.sent_at, i.route, i.messages
"""
_INSERT_DAYS: Final = """
insert into raw.handover_days
select server_id, build_id, route, day, sum(messages)::bigint, import_id from raw.traffic where import_id = $import_id
group by all order by build_id, server_id, day, route
"""
_INSERT_SIGHTINGS: Final = """
insert into raw.sightings
select s.server_id, b.build_id, (i.day - date '1970-01-01')::smallint as day, sum(i.hops)::bigint, $import_id
from sighted i join raw.servers s using (server)
    join raw.builds b on b.hop = i.hop::raw.hop and b.build is not distinct from i.build
group by all order by b.build_id, s.server_id, day
"""
_INSERT_REJECTS: Final = """
insert into raw.rejects select $import_id, position, reason, excerpt[:$longest] from rejected order by position
"""


@contextmanager
def _registered(connection: duckdb.DuckDBPyConnection, **frames: pl.DataFrame) -> Iterator[None]:
    """Let queries read frames by name."""
    for name, frame in frames.items():
        connection.register(name, frame.to_arrow())
    try:
        yield
    finally:
        for name in frames:
            with suppress(duckdb.Error):
                connection.unregister(name)


def _add_servers(connection: duckdb.DuckDBPyConnection, batch: Batch) -> int:
    """Give new servers their ids, tenants and offsets; return how many servers came with another tenant."""
    named = pl.concat([frame.select("server", "tenant").unique(maintain_order=True) for frame in _hops_of(batch)])
    given = named.drop_nulls("tenant").unique(maintain_order=True)
    there = conform(connection.sql("from raw.servers").pl(), SERVERS, what="servers")
    new = (
        named.select("server")
        .unique()
        .join(there, on="server", how="anti")
        .join(given.unique("server", keep="first", maintain_order=True), on="server", how="left")
        .sort("server")
    )
    first_id = _following(there["server_id"])
    rows = [
        (first_id + n, server, tenant or tenant_of(server), zlib.crc32(server.encode()) % 60)
        for n, (server, tenant) in enumerate(new.iter_rows())
    ]
    _expect_normal(new["server"], server_name, what="server")
    _expect_normal(given["tenant"].unique(), tenant_name, what="tenant")
    added = pl.DataFrame(rows, schema=dict(SERVERS), orient="row")
    with _registered(connection, added=added):
        connection.execute("insert into raw.servers from added")
    kept = pl.concat([there, added]).select("server", kept="tenant")
    return given.join(kept, on="server").filter(pl.col("tenant") != pl.col("kept"))["server"].n_unique()


def _add_builds(connection: duckdb.DuckDBPyConnection, batch: Batch) -> None:
    """Give new pairs of build and hop their ids."""
    named = pl.concat([frame.select(_PAIR).unique() for frame in _hops_of(batch)]).unique()
    there = conform(connection.sql("from raw.builds").pl(), BUILDS, what="builds")
    new = named.join(there, on=_PAIR, how="anti", nulls_equal=True).sort(_PAIR)
    _expect_normal(new["build"].drop_nulls(), lambda text: str(Build.parse(text)), what="build")
    added = conform(new.with_row_index("build_id", offset=_following(there["build_id"])), BUILDS, what="builds")
    with _registered(connection, added=added):
        connection.execute("insert into raw.builds from added")


def _hops_of(batch: Batch) -> tuple[pl.DataFrame, pl.DataFrame]:
    return batch.handovers, batch.sightings


def _following(ids: pl.Series) -> int:
    largest = ids.max()
    return largest + 1 if isinstance(largest, int) else 1


def _expect_normal(values: pl.Series, read: Callable[[str], str], *, what: str) -> None:
    """Hold an importer to the one spelling of names, without which one server would be two."""
    for value in values:
        if read(value) != value:
            raise ValueError(f"{what} {shown(value)} is not in its one spelling {shown(read(value))}")


def _overlap(connection: duckdb.DuckDBPyConnection) -> tuple[int, str]:
    """Count the days of servers in the incoming traffic that are already there, and name the imports that hold them."""
    rows = connection.execute("""
        with days as (
            select distinct s.server_id, (i.sent_at::date - date '1970-01-01')::smallint as day
            from incoming i join raw.servers s using (server)
        ),
        shared as (
            select server_id, day, t.import_id from days join raw.handover_days t using (server_id, day) group by all
        )
        select count(distinct (server_id, day)), list(distinct import_id order by import_id) from shared
    """).fetchall()
    n_days, import_ids = rows[0]
    if not n_days:
        return 0, ""
    more = f" and {len(import_ids) - _SHOWN_IMPORTS} more" if len(import_ids) > _SHOWN_IMPORTS else ""
    ids = ", ".join(str(import_id) for import_id in import_ids[:_SHOWN_IMPORTS])
    return n_days, f"import{'s' if len(import_ids) > 1 else ''} {ids}{more}"


def _write_record(
    connection: duckdb.DuckDBPyConnection, record: ImportRecord, *, options: Mapping[str, object]
) -> None:
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


def _hold_counts(connection: duckdb.DuckDBPyConnection, record: ImportRecord, handovers: pl.DataFrame) -> None:
    """Undo an import that lost or added a row on its way."""
    rows, messages = connection.execute(
        "select count(*), coalesce(sum(messages), 0)::bigint from raw.traffic where import_id = ?", [record.import_id]
    ).fetchall()[0]
    ((rejects,),) = connection.execute(
        "select count(*) from raw.rejects where import_id = ?", [record.import_id]
    ).fetchall()
    expected = (handovers.height, int(handovers["messages"].cast(pl.Int64).sum()), record.rows_rejected)
    if (rows, messages, rejects) != expected or record.rows_read != record.rows_stored + record.rows_rejected:
        raise StoreError(
            f"{record.source}: nothing was stored: {rows} rows, {messages} messages and {rejects} rejects arrived of"
            f" {expected[0]}, {expected[1]} and {expected[2]}"
        )
