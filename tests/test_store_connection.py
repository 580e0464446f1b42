"""Opening a store: what is none is told in a line, and a program that dies in an import harms nothing."""

import signal
import subprocess
import sys
import textwrap
import time
import weakref
from pathlib import Path

import duckdb  # noqa: TID251 - to look behind the door
import narwhals as nw
import pyarrow as pa
import pytest
from stores import add, handover

from enforcement.store import StoreError, create_store, open_store
from enforcement.store_connection import connect, registered, transaction
from enforcement.store_tables import STORE_VERSION


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store may be made."""
    return tmp_path / "data" / "traffic.duckdb"


def test_a_missing_store_says_how_to_make_one(path: Path) -> None:
    """Opening makes nothing; the line names the commands that do."""
    with pytest.raises(StoreError, match=r"no such store \(`enforcement sample` or `enforcement import` makes one\)"):
        open_store(path)
    assert not path.exists()


def test_what_is_no_store_is_told(tmp_path: Path) -> None:
    """Text, nothing, a folder, a cut store, and another program's database are refused on one line and left alone."""
    text, empty, cut, other = (tmp_path / name for name in ("text", "empty", "cut", "other.duckdb"))
    text.write_text("no database" * 1000)
    empty.touch()
    with create_store(tmp_path / "whole") as store:
        add(store, [handover()] * 5000)
    cut.write_bytes((tmp_path / "whole").read_bytes()[:5_000])
    with duckdb.connect(other) as connection:
        connection.sql("create table theirs as select 1 as a")
    for path in (text, empty, cut, other, tmp_path):
        before = path.read_bytes() if path.is_file() else b""
        for opened in (open_store, create_store):
            with pytest.raises(StoreError) as raised:
                opened(path)
            assert str(raised.value).isprintable()
            assert str(path) in str(raised.value)
        assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_newer_store_is_told(path: Path) -> None:
    """A store of a later version is neither read nor written."""
    create_store(path).close()
    with duckdb.connect(path) as connection:
        connection.execute("update raw.about set store_version = ?", [STORE_VERSION + 1])
    for opened in (open_store, create_store):
        with pytest.raises(StoreError, match=f"a store of version {STORE_VERSION + 1}, this program reads up to"):
            opened(path)


def _read_as_numbers(path: Path) -> None:
    with open_store(path) as store:
        traffic = store.history().traffic
        list(traffic.batches(traffic.frame.select(nw.col("route").cast(nw.String).cast(nw.Int32))))


def test_what_the_engine_reports_of_traffic_read_elsewhere_is_one_line(path: Path) -> None:
    """Lazy frames run far from the store's own questions; what goes wrong there is told of the store too."""
    with create_store(path) as store:
        add(store, [handover()])
    with pytest.raises(StoreError) as raised:
        _read_as_numbers(path)
    assert str(raised.value).startswith(f"{path}: Conversion Error: ")
    assert str(raised.value).isprintable()


def _child(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Another program, which prints a line when it has come to the point."""
    program = textwrap.dedent(code)
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)


def test_a_store_that_another_program_has_open(path: Path) -> None:
    """While another writes, or reads, the line says that it has the store open, and which process it is."""
    create_store(path).close()
    hold = "import sys, enforcement.store as s; store = s.{}(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    for theirs, ours in ((create_store, open_store), (create_store, create_store), (open_store, create_store)):
        with subprocess.Popen(
            [sys.executable, "-c", hold.format(theirs.__name__), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "open\n"
            with pytest.raises(StoreError, match=f"another program has the store open, process {child.pid} "):
                ours(path)
            child.kill()
    open_store(path).close()


def test_readers_do_not_hinder_each_other(path: Path) -> None:
    """Two readers in one program and one in another read at once."""
    with create_store(path) as store:
        add(store, [handover()])
    read = "import sys, enforcement.store as s; print(s.open_store(sys.argv[1]).imports().height, flush=True)"
    with open_store(path) as one, open_store(path) as two, _child(read, str(path)) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "1\n"
        assert one.query("from traffic").equals(two.query("from traffic"))


_IMPORTING = """
    import sys, time
    import polars as pl
    from datetime import datetime
    from enforcement import store_spool
    from enforcement.importers.batch import Batch
    from enforcement.schema import HANDOVERS, REJECTS
    from enforcement.store import create_store

    n, step = 300_000, 30_000
    store_spool._HELD, store_spool._RANGE = 2 * step, step  # little memory: most goes through a file, in ranges
    frame = pl.select(
        sent_at=datetime(2026, 3, 1) + pl.duration(seconds=pl.int_range(n)),
        server=pl.format("s{}.example", pl.int_range(n) % 5000), build=pl.lit("15.1.2507.61"), tenant=pl.lit(None),
        hop=pl.lit("smtp"), route=pl.lit("direct"), messages=1,
    ).cast(dict(HANDOVERS))
    rejects = pl.select(position=pl.int_range(n), reason=pl.lit("r"), excerpt=pl.lit("e")).cast(dict(REJECTS))
    batches = [
        Batch(handovers=frame[at:at + step], sightings=None, rejects=rejects[at:at + step], rows_read=2 * step)
        for at in range(0, n, step)
    ]
    with create_store(sys.argv[1]) as store:
        print("importing", flush=True)
        store.add(source="big", sha256="big", options={}, batches=batches)
        print("done", flush=True)
        store.query("select 1")
        time.sleep(60)
"""


@pytest.mark.parametrize(
    ("share", "how"),
    [(0.05, signal.SIGKILL), (0.3, signal.SIGKILL), (0.6, signal.SIGINT), (0.8, signal.SIGKILL), (0.9, signal.SIGINT)],
)
def test_a_killed_import_leaves_the_store_whole(path: Path, share: float, how: signal.Signals) -> None:
    """Killed or interrupted, an import leaves all of it or nothing, earlier ones as they were, and no file beside."""
    with create_store(path) as store:
        add(store, [handover()], sha256="old", rejects=1)
    usual = _seconds_of_an_import(path.with_name("timed.duckdb"))
    with _child(_IMPORTING, str(path)) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "importing\n"
        time.sleep(share * usual)
        child.send_signal(how)
        was_done = child.stdout.read() == "done\n"
    with open_store(path) as store:  # a reader needs no repair first
        found = store.imports().height
    with create_store(path) as store:
        sources = store.imports()["source"].to_list()
        assert sources in (["old.csv"], ["old.csv", "big"])
        assert len(sources) == found
        assert not was_done or sources[1:] == ["big"]
        assert store.query("from traffic where server = 'mail.contoso.com'").height == 1
        whole = 300_000 if sources[1:] else 0
        assert store.query("select count(*) from traffic").item() == 1 + whole
        assert store.query("select count(*) from rejects").item() == 1 + whole
        assert store.query("select count(*) from servers").item() == 1 + (5_000 if whole else 0)
        assert not add(store, [handover("next.example")], sha256="next").already_imported
    assert [file.name for file in path.parent.iterdir() if not file.name.startswith("timed")] == [path.name]


def test_what_was_lent_in_a_transaction_is_given_back(path: Path) -> None:
    """The engine holds what is registered until the transaction ends; an import would grow by all its rows."""
    create_store(path).close()
    connection = connect(path, is_writable=True)
    with transaction(connection):
        table = pa.table({"a": [1, 2, 3]})
        lent = weakref.ref(table)
        with registered(connection, lent=table):
            assert connection.execute("select sum(a) from lent").fetchall() == [(6,)]
        del table
        assert lent() is None
    connection.close()


_USUAL: dict[str, float] = {}


def _seconds_of_an_import(path: Path) -> float:
    """How long the import of the child takes here, measured once."""
    if "seconds" not in _USUAL:
        with _child(_IMPORTING, str(path)) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "importing\n"
            started_at = time.perf_counter()
            assert child.stdout.readline() == "done\n"
            _USUAL["seconds"] = time.perf_counter() - started_at
            child.kill()
    return _USUAL["seconds"]
