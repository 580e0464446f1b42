"""The fleet of a day: which servers are in sight, and which may be retired."""

from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest
from stores import batch, handover

from enforcement import workbench
from enforcement.fleet import SILENT
from enforcement.store import create_store
from enforcement.workbench import Setting


@pytest.mark.parametrize(
    ("sighted_on", "is_silent"), [(None, True), (date(2026, 5, 30), False), (date(2026, 2, 1), True)]
)
def test_a_server_sighted_behind_another_is_not_silent(
    tmp_path: Path, sighted_on: date | None, *, is_silent: bool
) -> None:
    """What it handed over is long ago; but its lines stand in mail that others hand over, with the same build."""
    old = handover("mx.old.example", sent_at=datetime(2026, 1, 5, 7))
    now = handover("mx.now.example", sent_at=datetime(2026, 6, 1, 7))
    sightings = [(server, build, tenant, hop, at.date(), n) for at, server, build, tenant, hop, _, n in (old, now)]
    if sighted_on:
        sightings.append(("mx.old.example", "15.1.2507.61", None, "smtp", sighted_on, 1))
    with create_store(tmp_path / "t.duckdb") as store:
        store.add(source="t", sha256="t", options={}, batches=[batch([old, now], sightings=sightings)])
    found = workbench.fleet_on("ninety-days", Setting(store=tmp_path / "t.duckdb")).servers
    standings = dict(found.select("server", "standing").iter_rows())
    assert (standings["mx.old.example"] == SILENT) is is_silent
    assert standings["mx.now.example"] != SILENT
    assert found.filter(pl.col("server") == "mx.old.example")["last_seen_on"].to_list() == [date(2026, 1, 5)]
