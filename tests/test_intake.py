"""What goes into a store: pieces of a sample, and what the rows of a table say of servers."""

from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from enforcement import intake
from enforcement.importers.sources import Source, find_sources
from enforcement.sample import Extent
from enforcement.store import ImportRecord, Store, StoreError, open_store

EXTENT = Extent(messages=3_000, servers=40, days=12, seed=5)
VIEWS = ("traffic", "sightings", "servers", "builds")


def contents(store: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows by name, in an order that no id decides."""
    with open_store(store) as opened:
        return {view: opened.query(f"from {view} order by all").rows() for view in VIEWS}


def test_a_sample_is_the_same_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is made at a time, the rows are the same; more than one piece is made when one is full."""
    intake.make_sample(tmp_path / "whole", EXTENT)
    monkeypatch.setattr(intake, "_PIECE", 500)
    pieces = list(intake._sampled(EXTENT, intake._unheard))
    assert len(pieces) > 3
    assert max(piece.rows_read for piece in pieces) < 1_500
    record = intake.make_sample(tmp_path / "pieces", EXTENT)
    assert record.rows_stored == 3_000
    assert contents(tmp_path / "pieces") == contents(tmp_path / "whole")


def test_a_row_of_a_table_is_a_sighting_unless_the_cloud_wrote_it(tmp_path: Path) -> None:
    """Sightings are of on-premises servers, counted by day over all routes and kinds of builds."""
    table = tmp_path / "mail.csv"
    table.write_text(
        "sent_at,server,build,route,messages\n"
        "2026-03-01T10:00Z,mx.a.example,15.1.2507.61,direct,2\n"
        "2026-03-01T11:00Z,mx.a.example,15.1.2507.61,relayed,3\n"
        "2026-03-02T11:00Z,mx.a.example,15.1.2507.61,direct,1\n"
        "2026-03-01T10:00Z,out.protection.example,15.20.7228.32,direct,7\n",
        encoding="utf-8",
    )
    done = intake.import_sources(tmp_path / "store", find_sources(table))
    assert [record.rows_stored for record in done.records] == [4]
    with open_store(tmp_path / "store") as opened:
        seen = opened.query("select server, build, day::varchar, hops from sightings order by day").rows()
        read = opened.query("select sum(messages)::bigint from traffic").item()
    assert seen == [
        ("mx.a.example", "15.1.2507.61", "2026-03-01", 5),
        ("mx.a.example", "15.1.2507.61", "2026-03-02", 1),
    ]
    assert read == 13


def test_a_route_that_is_none_costs_its_own_row(tmp_path: Path) -> None:
    """In Parquet too, where a column keeps the names of rows that are rejected."""
    rows = {"sent_at": [datetime(2026, 3, 1)] * 3, "server": ["mx.a.example"] * 3, "build": ["15.1.2507.61"] * 3}
    pl.DataFrame(rows | {"route": ["relayed", "sideways", "direct"]}).write_parquet(tmp_path / "mail.parquet")
    (record,) = intake.import_sources(tmp_path / "store", find_sources(tmp_path)).records
    assert (record.rows_stored, record.rows_rejected) == (2, 1)


def tables(folder: Path, *servers: str) -> list[Source]:
    """A table for each server."""
    for server in servers:
        text = f"sent_at,server,build\n2026-03-01T10:00Z,{server},15.1.2507.61\n"
        (folder / f"{server}.csv").write_text(text, encoding="utf-8")
    return find_sources(folder)


def test_a_bad_source_keeps_no_other_out(tmp_path: Path) -> None:
    """One that cannot be read, or was imported in another way, is told at the end; the others are stored."""
    folder, store = tmp_path / "mail", tmp_path / "store"
    folder.mkdir()
    first, *_ = tables(folder, "a.example")
    intake.import_sources(store, [replace(first, options={"kind": "other"})])
    found = tables(folder, "b.example", "c.example")
    (folder / "b.example.csv").write_text("nothing\n", encoding="utf-8")
    done = intake.import_sources(store, found)
    assert [record.source for record in done.records] == [str(folder / "c.example.csv")]
    other, bad = done.problems
    assert "a.example.csv: already imported as import 1 with options" in other
    assert "b.example.csv: no column" in bad


def test_what_is_wrong_with_the_store_ends_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is no source's fault: it is told at once, with how far the import came."""
    found = tables(tmp_path, "a.example", "b.example", "c.example")
    add = Store.add

    def fails(store: Store, *, source: str, **rest: Any) -> ImportRecord:
        if "b.example" in source:
            raise StoreError("nothing was changed: No space left on device")
        return add(store, source=source, **rest)

    monkeypatch.setattr(Store, "add", fails)
    with pytest.raises(
        StoreError, match=r"^nothing was changed: No space left on device \(1 of 3 sources are imported\)$"
    ):
        intake.import_sources(tmp_path / "store", found)
    with open_store(tmp_path / "store") as opened:
        assert opened.imports().height == 1


def test_what_to_forget_must_be_said_once(tmp_path: Path) -> None:
    """Neither an import nor a day, or both, is an error and forgets nothing."""
    store = tmp_path / "store"
    intake.import_sources(store, tables(tmp_path, "a.example"))
    day = date(2026, 3, 2)
    for import_id, before in ((None, None), (1, day)):
        with pytest.raises(ValueError, match="expected an import or a day to forget"):
            intake.forget(store, import_id=import_id, before=before)
    assert contents(store)["traffic"]
    assert intake.forget(store, import_id=None, before=day).traffic_rows == 1
    assert not contents(store)["traffic"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError])
def test_a_store_made_for_an_import_that_was_interrupted_is_removed(tmp_path: Path, kind: type[BaseException]) -> None:
    """As it was before: no file; one that holds something else already stays."""

    def fails(*_: object, **_named: object) -> None:
        raise kind

    extent = Extent(messages=2_000)
    new = tmp_path / "new.duckdb"
    with pytest.raises(kind):
        intake.make_sample(new, extent, fails)
    assert list(tmp_path.iterdir()) == []
    intake.make_sample(new, extent)
    with pytest.raises(kind):
        intake.make_sample(new, Extent(messages=3_000), fails)
    with open_store(new) as store:
        assert store.imports()["rows_stored"].to_list() == [2_000]
