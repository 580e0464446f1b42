"""What a store holds: its tables, and the views through which people ask, with names instead of ids."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

STORE_VERSION: Final = 3

# Tables live in the schema `raw`: ids and small integers, as the exposure pass wants them. No primary keys: their
# indexes cost more than the imports, which are the only writers and keep ids unique. `handover_days` is `traffic`
# without its times.
TABLES: Final = """
create schema raw;
create type raw.hop as enum ('smtp', 'mapi');
create type raw.route as enum ('direct', 'relayed', 'through cloud');
create sequence raw.import_ids;
create table raw.about (store_version integer not null);
create table raw.servers (
    server_id integer not null, server varchar not null, tenant varchar not null, minute_offset utinyint not null
);
create table raw.builds (build_id integer not null, build varchar, hop raw.hop not null);
create table raw.traffic (
    sent_at timestamp not null, day smallint not null, minute utinyint not null, minute_spread utinyint not null,
    server_id integer not null, build_id integer not null, route raw.route not null, messages integer not null,
    import_id integer not null
);
create table raw.handover_days (
    server_id integer not null, build_id integer not null, route raw.route not null, day smallint not null,
    messages bigint not null, import_id integer not null
);
create table raw.sightings (
    server_id integer not null, build_id integer not null, day smallint not null, hops bigint not null,
    import_id integer not null
);
create table raw.clock_starts (
    server_id integer not null, build_id integer not null, first_detected_on date not null, import_id integer not null
);
create table raw.decisions (
    decided_at timestamp not null, server_id integer, build_id integer, verdict varchar not null,
    reason varchar not null, stage integer, policy_serial bigint, import_id integer not null
);
create table raw.imports (
    import_id integer not null, source varchar not null, sha256 varchar not null, options varchar not null,
    imported_at timestamp not null, rows_read bigint not null, rows_stored bigint not null,
    rows_rejected bigint not null, overlap bigint not null, times_rounded_to varchar, forgotten_before date,
    notes varchar not null
);
create table raw.rejects (
    import_id integer not null, position bigint not null, reason varchar not null, excerpt varchar not null
);
"""

_SERVER_COLUMNS: Final = {
    "server": "name of the server that handed the mail over, lower case, no dot at the end",
    "tenant": "organisation behind the server: its organisational domain, or as its first import said",
}
_BUILD_COLUMNS: Final = {
    "build": "Exchange version number, e.g. 15.1.2507.61; null when the source did not say",
    "hop": "kind of Received line that showed the build: smtp or mapi",
}
_IMPORT: Final = {"import_id": "the source file that the row came from (view imports)"}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A documented view: what a row is, what each column means, and the query behind it."""

    row: str
    columns: Mapping[str, str]
    sql: str


VIEWS: Final[Mapping[str, View]] = {
    "traffic": View(
        row="a hand-over, or a count of like ones",
        columns={
            "sent_at": "UTC time that the handing-over server wrote",
            "day": "UTC date of sent_at",
            "minute": "minute of the hour of sent_at, 0 to 59",
            "minute_spread": "the same counted from the server's own offset: (minute - minute_offset) mod 60",
            **_SERVER_COLUMNS,
            **_BUILD_COLUMNS,
            "route": "how it reached the service: direct, relayed, through cloud",
            "messages": "number of messages",
            **_IMPORT,
        },
        sql="""
            select t.sent_at, date '1970-01-01' + t.day as day, t.minute, t.minute_spread, s.server, s.tenant, b.build,
                b.hop::varchar as hop, t.route::varchar as route, t.messages, t.import_id
            from raw.traffic t join raw.servers s using (server_id) join raw.builds b using (build_id)
        """,
    ),
    "sightings": View(
        row="a server that showed a build on a day, in one import",
        columns={
            "day": "UTC date",
            **_SERVER_COLUMNS,
            **_BUILD_COLUMNS,
            "hops": "number of Received lines, or messages of a table",
            **_IMPORT,
        },
        sql="""
            select date '1970-01-01' + t.day as day, s.server, s.tenant, b.build, b.hop::varchar as hop, t.hops,
                t.import_id
            from raw.sightings t join raw.servers s using (server_id) join raw.builds b using (build_id)
        """,
    ),
    "servers": View(
        row="a server",
        columns={**_SERVER_COLUMNS, "minute_offset": "minute of the hour at which its window starts under `spread`"},
        sql="select server, tenant, minute_offset from raw.servers",
    ),
    "builds": View(
        row="a build as seen on a kind of hop",
        columns=_BUILD_COLUMNS,
        sql="select build, hop::varchar as hop from raw.builds",
    ),
    "clock_starts": View(
        row="a server whose clock another system started",
        columns={
            "first_detected_on": "day on which that system first called it vulnerable",
            **_SERVER_COLUMNS,
            **_BUILD_COLUMNS,
            **_IMPORT,
        },
        sql="""
            select t.first_detected_on, s.server, s.tenant, b.build, b.hop::varchar as hop, t.import_id
            from raw.clock_starts t join raw.servers s using (server_id) join raw.builds b using (build_id)
        """,
    ),
    "decisions": View(
        row="a decision logged in production (never traffic)",
        columns={
            "decided_at": "UTC time",
            **{name: f"{meaning}; null when the log does not say" for name, meaning in _SERVER_COLUMNS.items()},
            "build": "Exchange version number, as an smtp hop shows it; null when the log does not say",
            "verdict": "accept, defer, reject",
            "reason": "why: enforced, standing still, new detection, no cohort, not vulnerable, unknown build, …",
            "stage": "stage of the policy, from 1; null outside of any",
            "policy_serial": "serial of the export that decided",
            **_IMPORT,
        },
        sql="""
            select t.decided_at, s.server, s.tenant, b.build, t.verdict, t.reason, t.stage, t.policy_serial,
                t.import_id
            from raw.decisions t left join raw.servers s using (server_id) left join raw.builds b using (build_id)
        """,
    ),
    "imports": View(
        row="a source file",
        columns={
            "import_id": "its number, never given twice",
            "source": "where it was read from",
            "sha256": "hash of its content",
            "options": "options it was read with, as JSON",
            "imported_at": "UTC time of the import",
            "rows_read": "rows or mails that it held: rows_stored + rows_rejected",
            "rows_stored": "of these, kept: as traffic, clock starts or decisions",
            "rows_rejected": "of these, kept as rejects",
            "overlap": "days of servers that other sources already held when it came",
            "times_rounded_to": "`hour` when the source had no minutes and they are made up; else null",
            "forgotten_before": "its rows before this day were removed later; null: none were",
            "notes": "what the import warned of, one line each",
        },
        sql="from raw.imports",
    ),
    "rejects": View(
        row="a row of a source that could not be used",
        columns={
            **_IMPORT,
            "position": "its number in the source, from 1",
            "reason": "why it could not be used",
            "excerpt": "its beginning, at most 200 characters, local parts of addresses masked",
        },
        sql="from raw.rejects",
    ),
}


def describe_views() -> pl.DataFrame:
    """List the views that queries may use: view, row, column, meaning.

    >>> describe_views().filter(view="builds")["column"].to_list()
    ['build', 'hop']
    """
    return pl.DataFrame(
        [
            {"view": name, "row": view.row, "column": column, "meaning": meaning}
            for name, view in VIEWS.items()
            for column, meaning in view.columns.items()
        ]
    )
