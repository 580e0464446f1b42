"""Small batches for tests of the store."""

from datetime import datetime
from typing import Any

import polars as pl

from enforcement.history import History
from enforcement.importers.batch import Batch
from enforcement.schema import HANDOVER_DAYS, HANDOVERS, REJECTS, SIGHTINGS, conform
from enforcement.store import ImportRecord, Store

START = datetime(2026, 1, 31, 7, 5, 9)

Row = tuple[datetime, str, str | None, str | None, str, str, int]


def handover(
    server: str = "mail.contoso.com",
    build: str | None = "15.1.2507.61",
    *,
    sent_at: datetime = START,
    tenant: str | None = None,
    hop: str = "smtp",
    route: str = "direct",
    messages: int = 1,
) -> Row:
    return (sent_at, server, build, tenant, hop, route, messages)


def batch(rows: list[Row], rejects: int = 0, sightings: list[tuple[Any, ...]] | None = None) -> Batch:
    """A batch of these rows, with a sighting for each unless others are given, and made-up rejects."""
    if sightings is None:
        sightings = [(server, build, tenant, hop, at.date(), n) for at, server, build, tenant, hop, _, n in rows]
    return Batch(
        handovers=pl.DataFrame(rows, schema=dict(HANDOVERS), orient="row"),
        sightings=pl.DataFrame(sightings, schema=dict(SIGHTINGS), orient="row"),
        rejects=pl.DataFrame(
            [(n, "no server", f"row {n}") for n in range(1, rejects + 1)], schema=dict(REJECTS), orient="row"
        ),
        rows_read=len(rows) + rejects,
    )


def add(store: Store, rows: list[Row], *, sha256: str = "a", rejects: int = 0, **options: object) -> ImportRecord:
    return store.add(source=f"{sha256}.csv", sha256=sha256, options=options, batches=[batch(rows, rejects)])


def days_of(history: History) -> pl.DataFrame:
    """All hand-overs counted by server, build, route and day: HANDOVER_DAYS."""
    keys = ["build_id", "server_id", "day", "route"]
    found = history.traffic.collected(history.traffic.days).group_by(keys).agg(pl.col("messages").sum())
    return conform(found.with_columns(pl.col("day").cast(pl.Int32)), HANDOVER_DAYS, what="hand-overs").sort(keys)
