"""What forgetting removes: an import, or all that lies before a day."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

import duckdb

from enforcement.store_connection import StoreError, transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What was removed: whole imports, and rows of traffic, sightings, clock starts and decisions."""

    imports: int
    traffic_rows: int
    sightings: int
    clock_starts: int
    decisions: int


_DELETE_IMPORT: Final = {
    "imports": "delete from raw.imports where import_id = ?",
    "traffic": "delete from raw.traffic where import_id = ?",
    "handover_days": "delete from raw.handover_days where import_id = ?",
    "sightings": "delete from raw.sightings where import_id = ?",
    "clock_starts": "delete from raw.clock_starts where import_id = ?",
    "decisions": "delete from raw.decisions where import_id = ?",
    "rejects": "delete from raw.rejects where import_id = ?",
}
_DELETE_BEFORE: Final = {
    "traffic": "delete from raw.traffic where day < (?::date - date '1970-01-01')",
    "handover_days": "delete from raw.handover_days where day < (?::date - date '1970-01-01')",
    "sightings": "delete from raw.sightings where day < (?::date - date '1970-01-01')",
    "clock_starts": "delete from raw.clock_starts where first_detected_on < ?::date",
    "decisions": "delete from raw.decisions where decided_at < ?::date",
}
_REMEMBER_DAY: Final = """
update raw.imports set forgotten_before = greatest(coalesce(forgotten_before, $day), $day)
where import_id in (
    from raw.handover_days select import_id where day < ($day::date - date '1970-01-01')
    union from raw.sightings select import_id where day < ($day::date - date '1970-01-01')
    union from raw.clock_starts select import_id where first_detected_on < $day
    union from raw.decisions select import_id where decided_at < $day
)
"""
_WITH_ROWS: Final = """
from raw.handover_days select import_id union from raw.sightings select import_id
union from raw.clock_starts select import_id union from raw.decisions select import_id
"""
_DROP_UNUSED: Final = """
create temp table used as
    select distinct server_id, build_id from raw.handover_days
    union select distinct server_id, build_id from raw.sightings
    union select server_id, build_id from raw.clock_starts union select server_id, build_id from raw.decisions;
delete from raw.servers where server_id not in (select server_id from used where server_id is not null);
delete from raw.builds where build_id not in (select build_id from used where build_id is not null);
drop table used;
"""


def forget_import(connection: duckdb.DuckDBPyConnection, import_id: int) -> Forgotten:
    """Remove an import, all that came with it, and servers and builds that nothing else holds."""
    with transaction(connection):
        removed = {
            table: connection.execute(delete, [import_id]).fetchall()[0][0] for table, delete in _DELETE_IMPORT.items()
        }
        if not removed["imports"]:
            ids = [row[0] for row in connection.execute("select import_id from raw.imports order by 1").fetchall()]
            raise StoreError(f"no import {import_id} (there: {', '.join(map(str, ids)) or 'none'})")
        connection.execute(_DROP_UNUSED)
    return _told(1, removed)


def forget_days(connection: duckdb.DuckDBPyConnection, before: date) -> Forgotten:
    """Remove what lies before a day, and the imports of which nothing is left; the others remember the day."""
    with transaction(connection):
        connection.execute(_REMEMBER_DAY, {"day": before})
        had_rows = set(connection.execute(_WITH_ROWS).fetchall())
        removed = {
            table: connection.execute(delete, [before]).fetchall()[0][0] for table, delete in _DELETE_BEFORE.items()
        }
        gone = had_rows - set(connection.execute(_WITH_ROWS).fetchall())
        for import_id in gone:
            connection.execute(_DELETE_IMPORT["imports"], import_id)
            connection.execute(_DELETE_IMPORT["rejects"], import_id)
        connection.execute(_DROP_UNUSED)
    return _told(len(gone), removed)


def _told(n_imports: int, removed: Mapping[str, int]) -> Forgotten:
    return Forgotten(
        imports=n_imports,
        traffic_rows=removed["traffic"],
        sightings=removed["sightings"],
        clock_starts=removed["clock_starts"],
        decisions=removed["decisions"],
    )
