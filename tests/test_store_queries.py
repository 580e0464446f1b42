"""Queries: what they may ask over the documented views, and that they only read."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from stores import add, handover

from enforcement.received import Route
from enforcement.store import Store, StoreError, create_store, describe_views, open_store
from enforcement.store_tables import VIEWS


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store, open for writing."""
    with create_store(tmp_path / "traffic.duckdb") as opened:
        yield opened


@pytest.fixture(scope="module")
def two_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Store]]:
    """A store with a row open for reading, and another open for writing."""
    folder = tmp_path_factory.mktemp("stores")
    for name in ("one", "two"):
        with create_store(folder / name) as store:
            add(store, [handover()])
    with open_store(folder / "one") as reading, create_store(folder / "two") as writing:
        yield {"reading": reading, "writing": writing}


def test_every_view_has_the_columns_that_are_described(store: Store) -> None:
    """The views are those of the description, each with its columns in order, and so are the lists of tables."""
    add(store, [handover()], rejects=1)
    described = describe_views()
    for name in VIEWS:
        columns = described.filter(view=name)["column"].to_list()
        assert set(store.query(f"from {name}").columns) == set(columns)
    assert store.query("show tables").to_series().to_list() == sorted(VIEWS)
    assert described.filter(pl.col("meaning").str.len_chars() < 8).is_empty()


def test_routes_are_stored_by_their_place(store: Store) -> None:
    """The database's words, in its order, are those of hand-overs: an import stores a route as its number."""
    assert store.query("select enum_range(null::raw.route)").item().to_list() == [*Route]


@pytest.mark.parametrize(
    "sql",
    [
        "insert into raw.traffic from raw.traffic",
        "delete from raw.imports",
        "drop view traffic",
        "create table mine as from traffic",
        "update raw.servers set tenant = 'x'",
        "attach ':memory:' as other",
        "attach '{elsewhere}'",
        "copy (from traffic) to '{elsewhere}'",
        "export database '{elsewhere}'",
        "install httpfs",
        "load httpfs",
        "set memory_limit = '1TB'",
        "set enable_external_access = true",
        "pragma enable_profiling",
        "call pragma_version()",
        "checkpoint",
        "use raw",
        "commit",
        "select 1; delete from raw.imports",
        "with gone as (delete from raw.imports returning *) from gone",
        "explain analyze delete from raw.imports",
        "from read_csv('{existing}')",
        "from read_text('{existing}')",
        "from '{existing}'",
        "from glob('/*')",
        "from parquet_metadata('{existing}')",
        "from sniff_csv('{existing}')",
        "from duckdb_secrets()",
        "from enable_logging()",
        "",
        "-- nothing",
        "selec 1",
        "select no_such_column from traffic",
        "select no_such_function(1)",
        "from no_such_view",
        "select 'a\x00b",
        "select '\udc80'",
        "select cast('x' as integer)",
        "select $1",
        "select interval 1 day",
    ],
)
@pytest.mark.parametrize("how", ["reading", "writing"])
def test_a_query_only_reads_the_store(two_stores: dict[str, Store], tmp_path: Path, sql: str, how: str) -> None:
    """Nothing that a query says writes, reads another file, or changes settings; each is refused on one line."""
    existing, elsewhere = tmp_path / "existing.csv", tmp_path / "elsewhere"
    existing.write_text("a,b\n1,2\n")
    store = two_stores[how]
    before = store.query("from traffic").rows()
    with pytest.raises(StoreError) as raised:
        store.query(sql.format(existing=existing, elsewhere=elsewhere))
    assert str(raised.value).isprintable()
    assert store.query("from traffic").rows() == before != []
    assert not elsewhere.exists()


def test_a_query_may_ask_much(store: Store) -> None:
    """Parameters, pivots, explanations and sums work; sums of whole numbers come as such."""
    add(store, [handover(messages=2), handover("b.example", messages=3, route="relayed")])
    assert store.query("select sum(messages) as n from traffic where server = ?", ["b.example"]).schema == {
        "n": pl.Int64
    }
    assert store.query("select 100000000000000000000 as n").schema["n"] != pl.Int64
    pivoted = store.query("pivot traffic on route using sum(messages) group by day")
    assert pivoted.rows() == [(date(2026, 1, 31), 2, 3)]
    assert store.query("explain from traffic").height > 0
    assert store.query("select uuid(), {'a': 1}, map {'k': [1]}, time '07:05', 1.5, null, true").height == 1


def test_an_answer_has_a_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result beyond measure is refused with what to do, before it fills the memory."""
    monkeypatch.setattr("enforcement.store._LARGEST_ANSWER", 1_000_000)
    with pytest.raises(StoreError, match=r"larger than .* aggregate or filter in SQL"):
        store.query("from range(1000000)")
