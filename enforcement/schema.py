"""The columns of every table that travels between steps, and what a row of each means."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any, Final, TypeAlias

import polars as pl

Schema: TypeAlias = Mapping[str, Any]

# Days are counted from here where a table stores them as small integers.
EPOCH: Final = date(1970, 1, 1)

# A row: a hand-over as an importer read it, or a count of like ones. `build` null: unknown.
# `tenant` null: to be found from the server's name.
HANDOVERS: Final[Schema] = {
    "sent_at": pl.Datetime("us"),
    "server": pl.String,
    "build": pl.String,
    "tenant": pl.String,
    "hop": pl.String,
    "route": pl.String,
    "messages": pl.Int32,
}

# A row: a server showed a build on a kind of hop on a day, `hops` times.
SIGHTINGS: Final[Schema] = {
    "server": pl.String,
    "build": pl.String,
    "tenant": pl.String,
    "hop": pl.String,
    "day": pl.Date,
    "hops": pl.Int64,
}

# A row: a server whose clock another system started on a day, as an importer read it. `tenant` null: as above.
STARTED: Final[Schema] = {
    "server": pl.String,
    "build": pl.String,
    "tenant": pl.String,
    "hop": pl.String,
    "first_detected_on": pl.Date,
}

# A row: a decision that a target logged. `server` and `build` null: the target could not tell; `stage` null: none
# applied; `policy_serial` null: it had no tables.
DECISIONS: Final[Schema] = {
    "decided_at": pl.Datetime("us"),
    "server": pl.String,
    "build": pl.String,
    "verdict": pl.String,
    "reason": pl.String,
    "stage": pl.Int32,
    "policy_serial": pl.Int64,
}

# A row: something a source held that could not be used.
REJECTS: Final[Schema] = {"position": pl.Int64, "reason": pl.String, "excerpt": pl.String}

# A row: a server.
SERVERS: Final[Schema] = {
    "server_id": pl.Int32,
    "server": pl.String,
    "tenant": pl.String,
    "minute_offset": pl.Int8,
}

# A row: a build as seen on a kind of hop. `build` null: the source did not say.
BUILDS: Final[Schema] = {"build_id": pl.Int32, "build": pl.String, "hop": pl.String}

# A row: the hand-overs of a server with a build by a route on a day. A store has one for each import that brought some:
# who asks how many there are adds up `messages`, and counts no rows.
HANDOVER_DAYS: Final[Schema] = {
    "server_id": pl.Int32,
    "build_id": pl.Int32,
    "day": pl.Date,
    "route": pl.String,
    "messages": pl.Int64,
}

# A row: the hand-overs of a server with a build by a route.
HANDED_OVER: Final[Schema] = {
    "server_id": pl.Int32,
    "build_id": pl.Int32,
    "route": pl.String,
    "first_seen_on": pl.Date,
    "last_seen_on": pl.Date,
    "messages": pl.Int64,
}

# A row: a server that showed a build, on any hop.
SIGHTED: Final[Schema] = {
    "server_id": pl.Int32,
    "build_id": pl.Int32,
    "first_seen_on": pl.Date,
    "last_seen_on": pl.Date,
}

# A row: a server whose clock another system started on a day.
CLOCK_STARTS: Final[Schema] = {"server_id": pl.Int32, "build_id": pl.Int32, "first_detected_on": pl.Date}

# A row: what a build, seen on a kind of hop, proves, and from when a policy's rules call it vulnerable.
# `proves` is padded; for a build newer than its line it is the number seen itself. `rule` and `vulnerable_from` are
# null when no rule ever applies.
STANDINGS: Final[Schema] = {
    "build_id": pl.Int32,
    "build": pl.String,
    "hop": pl.String,
    "evidence": pl.String,
    "product": pl.String,
    "line": pl.String,
    "update": pl.String,
    "kind": pl.String,
    "proves": pl.String,
    "missing_since": pl.Date,
    "unsupported_since": pl.Date,
    "exploited_since": pl.Date,
    "below_minimum_since": pl.Date,
    "vulnerable_from": pl.Date,
    "rule": pl.String,
}

# A row: a build, and the day from which its messages count as risk by some policy's rules; null: never.
RISK: Final[Schema] = {"build_id": pl.Int32, "risk_from": pl.Date}

# A row: a pair of server and build that some day becomes subject, the cohort that takes it in, and from when.
SUBJECT_PAIRS: Final[Schema] = {
    "server_id": pl.Int32,
    "build_id": pl.Int32,
    "cohort": pl.String,
    "subject_from": pl.Date,
}

# A row: a span of days of a server's spell in a cohort on which its clock runs, or stands still (paused or exempt).
SPELL_SPANS: Final[Schema] = {
    "server_id": pl.Int32,
    "cohort": pl.String,
    "spell": pl.Int32,
    "from_on": pl.Date,
    "until_on": pl.Date,
    "clock_at_start": pl.Int32,
    "running": pl.Boolean,
}

# A row: a span of days of a spell on which a server's messages of one build are subject.
# `until_on` is the first day no longer in it, null while the spell lasts. Running: the clock on a day is
# `clock_at_start` + days since `from_on`; not running (paused or exempt): it stays at `clock_at_start`.
SEGMENTS: Final[Schema] = {
    "server_id": pl.Int32,
    "build_id": pl.Int32,
    "cohort": pl.String,
    "spell": pl.Int32,
    "from_on": pl.Date,
    "until_on": pl.Date,
    "clock_at_start": pl.Int32,
    "running": pl.Boolean,
}

# A row: subject messages of a server in a stage that meet one minute of the window; `k` null: the clock stands still.
EXPOSURE_BY_SERVER: Final[Schema] = {
    "server_id": pl.Int32,
    "at_risk": pl.Boolean,
    "stage": pl.Int16,
    "running": pl.Boolean,
    "k": pl.Int8,
    "messages": pl.Int64,
}

# A row: all messages read of a server with a build in a period; `vulnerable`: of days on which the build is at risk.
MAIL_BY_PAIR: Final[Schema] = {
    "server_id": pl.Int32,
    "build_id": pl.Int32,
    "read": pl.Int64,
    "vulnerable": pl.Int64,
}

# A row: all messages read of a day that came by one route from servers of one decile with one build.
# `started`: whether a cohort takes them in that day; null when none ever does.
MAIL_BY_KIND: Final[Schema] = {
    "build_id": pl.Int32,
    "route": pl.String,
    "day": pl.Date,
    "decile": pl.Int8,
    "started": pl.Boolean,
    "messages": pl.Int64,
}

# A row: a tenant, the messages read of it, and its tenth of the tenants by these, 1 the smallest.
TENANT_DECILES: Final[Schema] = {"tenant": pl.String, "read": pl.Int64, "decile": pl.Int8}

# A row: all messages read of a day, product and decile, whether a policy may touch them or not.
# `vulnerable` counts those of builds at risk, subject or not.
TRAFFIC_BASE: Final[Schema] = {
    "day": pl.Date,
    "product": pl.String,
    "decile": pl.Int8,
    "read": pl.Int64,
    "in_scope": pl.Int64,
    "vulnerable": pl.Int64,
}

# A row: a span of days on which a server's clock stands still; the spans of a server do not meet.
STILL_SPANS: Final[Schema] = {"server_id": pl.Int32, "from_on": pl.Date, "until_on": pl.Date}

# A row: pause days that a tenant asked for, from a day on.
PAUSES: Final[Schema] = {"tenant": pl.String, "from": pl.Date, "days": pl.Int64}

# A row: a server showed a build from a time to another, in so many messages.
PATCH_HISTORY: Final[Schema] = {
    "server": pl.String,
    "tenant": pl.String,
    "build": pl.String,
    "first_seen_at": pl.Datetime("us"),
    "last_seen_at": pl.Datetime("us"),
    "messages": pl.Int64,
}


def conform(frame: pl.DataFrame, schema: Schema, *, what: str) -> pl.DataFrame:
    """Return the frame with exactly the schema's columns, in order, or say which differ.

    >>> conform(pl.DataFrame({"build_id": [1], "hop": ["smtp"]}), BUILDS, what="builds")
    Traceback (most recent call last):
    ValueError: builds: no column 'build' (found: build_id, hop)
    """
    for name in schema:
        if name not in frame.columns:
            raise ValueError(f"{what}: no column {name!r} (found: {', '.join(frame.columns)})")
    return frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())


def day_number(day: date) -> int:
    """Count the days from 1970-01-01, as the traffic table stores them.

    >>> day_number(date(1970, 2, 1))
    31
    """
    return (day - EPOCH).days


def day_from_number(number: int) -> date:
    """Give the date of a stored day number.

    >>> day_from_number(31)
    datetime.date(1970, 2, 1)
    """
    return EPOCH + timedelta(days=number)
