"""The record of an import: a source is known by its content and options, whatever it is called."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import duckdb


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
        raise ValueError(
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
