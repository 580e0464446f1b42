"""What goes into a store: pieces of a sample, and what the rows of a table say of servers."""

from pathlib import Path

import pytest

from enforcement import intake
from enforcement.importers.sources import find_sources
from enforcement.sample import Extent
from enforcement.store import open_store

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
