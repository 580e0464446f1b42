"""A history as Parquet, read where it lies: the same rows as an import would store, and one line for each fault."""

import datetime as dt
import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from spark_cluster import expect_spark
from stores import days_of as counted_by_day
from worlds import answer, refused, run

from enforcement.engines import duckdb, lakes, polars, spark
from enforcement.engines.lake import meaning_of
from enforcement.engines.spark_session import session
from enforcement.history import History
from enforcement.importers.table_columns import COLUMNS
from enforcement.importers.table_rows import judged
from enforcement.importers.tables import read_table
from enforcement.names import excerpt
from enforcement.schema import HANDOVERS
from enforcement.store import create_store

Opens = Callable[[str], AbstractContextManager[History]]

AT = dt.datetime(2026, 1, 31, 23, 59, 59, 999_999)
DAY = (dt.date(2026, 1, 31) - dt.date(1970, 1, 1)).days
ROW = {"sent_at": AT, "server": "mail.contoso.example", "build": "15.1.2507.61"}
LOCAL = pytest.mark.parametrize("opens", [duckdb.open_traffic, polars.open_traffic], ids=["duckdb", "polars"])

SERVERS = ["mx.a.example", "MX.A.example.", "[192.0.2.1]", "b.example", "", " ", "no name", "é.example", "x\x00y", None]
BUILDS = ["15.1.2507.61", "15.01.2507.061", " 15.2.1544.36 ", "15.20.1.1", "15", "", "15.1.2507.99999", None]
TENANTS = ["a.example", "A.Example.", "b.example", "", "a\nb", None, None]
HOPS = ["smtp", " SMTP", "mapi", "imap", "", None]
ROUTES = ["direct", "Through Cloud", "relayed ", "sideways", None]
COUNTS = [1, 7, 2**31 - 1, 0, -3, 2**31, 2**62, None]

EXPECTED_DAYS = "expected from 1996-01-01 to 2058-12-31"


def rows_of(history: History) -> pl.DataFrame:
    """The traffic with names for ids, in one order; by the batches that the pass reads."""
    batches = list(history.traffic.batches(history.traffic.frame))
    whole = history.traffic.collected(history.traffic.frame)
    frame = pl.DataFrame(pa.Table.from_batches(batches)) if batches else whole
    assert frame.height == whole.height
    return _named(frame, history).sort(pl.all())


def days_of(history: History) -> pl.DataFrame:
    return _named(counted_by_day(history), history).sort(pl.all())


def _named(frame: pl.DataFrame, history: History) -> pl.DataFrame:
    wide = {name: pl.Int64 for name in ("minute", "minute_spread", "messages") if name in frame.columns}
    days = {} if frame["day"].dtype == pl.Date else {"day": pl.Int64}
    return (
        frame.join(history.servers, on="server_id", how="left")
        .join(history.builds, on="build_id", how="left", nulls_equal=True)
        .drop("server_id", "build_id")
        .with_columns(pl.col("route").cast(pl.String))
        .with_columns(pl.col(name).cast(dtype) for name, dtype in (wide | days).items())
    )


def written(folder: Path, table: pa.Table | pl.DataFrame, name: str = "mail.parquet", **options: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table.to_arrow() if isinstance(table, pl.DataFrame) else table, path, **options)
    return path


def table_of(rows: list[tuple[Any, ...]]) -> pa.Table:
    """Rows of server, build, tenant, hop, route, messages, a minute apart, so that the first is the earliest."""
    start = dt.datetime(2026, 1, 31, 23, 30)
    columns = list(zip(*rows, strict=True))
    names = ("server", "build", "tenant", "hop", "route")
    texts = {name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=False)}
    times = [start + dt.timedelta(minutes=n) for n in range(len(rows))]
    return pa.table(
        {"sent_at": pa.array(times, pa.timestamp("us")), **texts, "messages": pa.array(columns[5], pa.int64())}
    )


def imported(path: Path, store: Path) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """The rows and days of the same file imported, and how many rows it rejected."""
    store.unlink(missing_ok=True)
    with create_store(store) as opened:
        record = opened.add(source=path.name, sha256="a", options={}, batches=read_table(path))
        history = opened.history()
        return rows_of(history), days_of(history), record.rows_rejected


@given(
    rows=st.lists(
        st.tuples(*(st.sampled_from(pool) for pool in (SERVERS, BUILDS, TENANTS, HOPS, ROUTES, COUNTS))),
        min_size=1, max_size=40,
    )
)  # fmt: skip
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_rows_as_an_import(rows: list[tuple[Any, ...]], tmp_path: Path) -> None:
    """Whatever the rows hold, DuckDB and Polars use those that an import stores, under the same names."""
    path = written(tmp_path, table_of(rows))
    expected, days, rejected = imported(path, tmp_path / "traffic.duckdb")
    for opens in (duckdb.open_traffic, polars.open_traffic):
        with opens(str(path)) as history:
            record = history.imports.row(0, named=True)
            assert (record["rows_read"], record["rows_stored"]) == (len(rows), len(rows) - rejected)
            assert record["rows_rejected"] == rejected
            assert rows_of(history).equals(expected.select(rows_of(history).columns))
            assert days_of(history).equals(days.select(days_of(history).columns))


@settings(deadline=None)
@given(text=st.text(max_size=20) | st.sampled_from([*SERVERS, *BUILDS, *TENANTS, *HOPS, *ROUTES]).filter(bool))
def test_a_text_means_what_it_means_to_an_import(text: str) -> None:
    """Each column's texts are read as the import of tables reads them, with the same reasons."""
    for column in ("server", "build", "tenant", "hop", "route"):
        good, bad = judged(pl.DataFrame([ROW | {"position": 1, column: text}], schema_overrides={column: pl.String}))
        if bad.height:
            with pytest.raises(ValueError) as caught:  # noqa: PT011 - its words are held below
                meaning_of(column, text)
            assert bad["reason"].item() == excerpt(str(caught.value))
        else:
            assert good[column].to_list() == [meaning_of(column, text)]


@LOCAL
@pytest.mark.parametrize(
    ("kind", "at", "options"),
    [
        (pa.timestamp("s"), AT, {}),
        (pa.timestamp("ms"), AT, {}),
        (pa.timestamp("us"), AT, {}),
        (pa.timestamp("ns"), AT, {}),
        (pa.timestamp("ns"), AT, {"use_deprecated_int96_timestamps": True}),
        (pa.timestamp("ms", "UTC"), AT, {}),
        (pa.timestamp("us", "Asia/Kolkata"), AT, {}),
        (pa.timestamp("ns", "America/New_York"), AT, {}),
        (pa.timestamp("us", "Mars/Base"), AT, {}),
        (pa.timestamp("ms", "+05:30"), AT, {}),
    ],
    ids=str,
)
def test_times(opens: Opens, kind: pa.DataType, at: dt.datetime, options: Any, tmp_path: Path) -> None:
    """A time without a zone is UTC, one with a zone is its instant, in every unit that Parquet has."""
    assert_day_and_minute(opens, times_file(tmp_path, kind, at, options))


@LOCAL
def test_a_zone_that_nobody_knows(opens: Opens, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It changes no instant, nor do those of columns that are not read; no library writes past us."""
    columns = {name: pa.array([value]) for name, value in ROW.items()}
    odd = pa.array([0]).cast(pa.timestamp("us", "Mars/Base"))
    path = written(tmp_path, pa.table(columns | {"seen_at": odd, "all_at": pa.array([[]], pa.list_(odd.type))}))
    with opens(str(path)) as history:
        assert rows_of(history)["day"].to_list() == [DAY]
    assert capfd.readouterr() == ("", "")


def times_file(folder: Path, kind: pa.DataType, at: dt.datetime, options: Any) -> Path:
    moment = int(at.replace(tzinfo=dt.UTC).timestamp())
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
    times = pa.array([moment * per_second, None, -per_second, 4 * 10**9 * per_second], pa.int64()).cast(kind)
    rest = {name: pa.array([ROW[name]] * 4) for name in ("server", "build")}
    return written(
        folder, pa.table({"sent_at": times, **rest}), f"{kind}{len(options)}.parquet".replace("/", ""), **options
    )


def assert_day_and_minute(opens: Opens, path: Path) -> None:
    with opens(str(path)) as history:
        assert rows_of(history).select("day", "minute", "messages").rows() == [(DAY, 59, 1)]
        assert history.imports.item(0, "notes").splitlines() == [
            f"rows that cannot be used: 2: not a time of a mail, e.g. 2096-10-02 ({EXPECTED_DAYS})",
            "rows that cannot be used: 1: no sent_at",
        ]


@LOCAL
@pytest.mark.parametrize("told_of", ["sent_at", "server"])
@pytest.mark.parametrize(
    ("kind", "far"),
    [
        (pa.timestamp("ms"), 2**61),
        (pa.timestamp("ms"), -(2**63)),
        (pa.timestamp("ms", "UTC"), 2**61),
        (pa.timestamp("us"), 2**62),
        (pa.timestamp("us", "UTC"), -(2**62)),
        (pa.timestamp("ns"), 2**62),
    ],
    ids=str,
)
def test_an_absurd_time(opens: Opens, kind: pa.DataType, far: int, told_of: str, tmp_path: Path) -> None:
    """However far off a time is, its row alone is counted as one that cannot be used, whatever the footer tells."""
    times = pa.concat_arrays([pa.array([AT, None]).cast(kind, safe=False), pa.array([far]).cast(kind)])
    rest = {name: pa.array([ROW[name]] * 3) for name in ("server", "build")}
    table = pa.table({"size": pa.array([{"a": 1, "b": 2}] * 3), "sent_at": times, **rest})
    path = tmp_path / "mail.parquet"
    parquet.write_table(table, path, write_statistics=[told_of])
    with opens(str(path)) as history:
        assert rows_of(history).select("day", "minute", "messages").rows() == [(DAY, 59, 1)]
        assert history.imports.item(0, "notes").splitlines() == [
            "columns not read: size",
            "rows that cannot be used: 1: no sent_at",
            f"rows that cannot be used: 1: not a time of a mail ({EXPECTED_DAYS})",
        ]


@LOCAL
def test_an_absurd_time_beside_text_that_is_none(opens: Opens, tmp_path: Path) -> None:
    """Octets that are no UTF-8 are refused beside such a time too."""
    times = pa.array([2**61, int(AT.timestamp()) * 1_000]).cast(pa.timestamp("ms"))
    raw = pa.table({"sent_at": times, "server": ["a", "b"], "build": [ROW["build"]] * 2, "tenant": _bad_text()})
    path = written(tmp_path, raw)
    with pytest.raises(ValueError, match=str(path)) as caught, opens(str(path)) as history:
        rows_of(history)
    assert "\n" not in str(caught.value)


def test_spark_reads_every_kind_of_column(tmp_path: Path) -> None:
    """Spark gives the same rows for times of every kind, and for texts and counts that an import would reject."""
    expect_spark()
    odd = [(s, b, t, h, r, c) for s, b, t, h, r, c in zip(SERVERS * 9, BUILDS * 11, TENANTS * 13, HOPS * 15, ROUTES * 18, COUNTS * 11, strict=False)]  # fmt: skip  # noqa: E501 - one table
    with session("local[2]") as opened:
        for kind, options in [
            (pa.timestamp("ms"), {}), (pa.timestamp("us"), {}), (pa.timestamp("ns"), {}),
            (pa.timestamp("ns"), {"use_deprecated_int96_timestamps": True}), (pa.timestamp("us", "Asia/Kolkata"), {}),
            (pa.timestamp("ns", "America/New_York"), {}), (pa.timestamp("us", "Mars/Base"), {}),
        ]:  # fmt: skip
            path = times_file(tmp_path, kind, AT, options)
            with spark.traffic_in(opened, str(path)) as history:
                found = rows_of(history).select("day", "minute", "messages").rows()
                assert (kind, found) == (kind, [(DAY, 59, 1)])
                assert history.imports.item(0, "rows_rejected") == 3
                assert "not a time of a mail, e.g. 2096-10-02" in history.imports.item(0, "notes")
        far_off = (("s", None, 2**50), ("ms", "UTC", 2**61), ("us", None, 2**62), ("ns", None, 2**62))
        for unit, zone, number in far_off:
            kind = pa.timestamp(unit, zone)
            times = pa.array([AT] * 3).cast(kind, safe=False)
            far = pa.concat_arrays([times, pa.array([number, -5], pa.int64()).cast(kind)])
            path = written(
                tmp_path, pa.table({"sent_at": far} | {name: [ROW[name]] * 5 for name in ("server", "build")})
            )
            for opens in (duckdb.open_traffic, polars.open_traffic, partial(spark.traffic_in, opened)):
                with opens(str(path)) as history:
                    assert rows_of(history).select("day", "minute", "messages").rows() == [(DAY, 59, 1)] * 3
                    assert history.imports.item(0, "rows_rejected") == 2
            assert imported(path, tmp_path / "traffic.duckdb")[2] == 2
        path = written(tmp_path, table_of(odd))
        expected, days, rejected = imported(path, tmp_path / "traffic.duckdb")
        with spark.traffic_in(opened, str(path)) as history:
            assert rows_of(history).equals(expected.select(rows_of(history).columns))
            assert days_of(history).equals(days.select(days_of(history).columns))
            assert history.imports.item(0, "rows_rejected") == rejected
        wide = pa.table({**{n: pa.array([v]) for n, v in ROW.items()}, "messages": pa.array([2**64 - 1], pa.uint64())})
        with spark.traffic_in(opened, str(written(tmp_path, wide, "wide.parquet"))) as history:
            assert "e.g. 2147483648" in history.imports.item(0, "notes")
        raw = pa.table({**{n: pa.array([v] * 2) for n, v in ROW.items()}, "tenant": _bad_text()})
        with spark.traffic_in(opened, str(written(tmp_path, raw, "raw.parquet"))) as history:
            assert history.imports.item(0, "rows_stored") >= 1


def test_spark_says_what_is_wrong_at_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that only Spark sees are held to the same rules; one line names the address and what was found."""
    expect_spark()
    (tmp_path / "conf").mkdir()
    link = f"spark.hadoop.fs.viewfs.mounttable.lake.link./mail file://{tmp_path}"
    (tmp_path / "conf" / "spark-defaults.conf").write_text(link)
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path / "conf"))
    whole = {name: [value] for name, value in ROW.items()}
    written(tmp_path, pa.table(whole | {"sent_at": ["2026-01-31T07:05"]}), "text/a.parquet")
    written(tmp_path, pa.table({"sent_at": [AT], "servers": ["a"], "build": ["15.1.2507.61"]}), "renamed/a.parquet")
    written(tmp_path, pa.table(whole), "mixed/a.parquet")
    written(tmp_path, pa.table(whole | {"build": [15]}), "mixed/b.parquet")
    written(tmp_path, pa.table(whole | {"sent_at": pa.array([AT], pa.timestamp("ns"))}), "nanos/a.parquet")
    written(tmp_path, pa.table(whole), "damaged/a.parquet").write_bytes(b"PAR1 no")
    written(tmp_path, pa.table(whole), "cut/a.parquet").write_bytes(b"\xff\xff\xff\x7fPAR1")
    for folder, more in (("het", {"messages": [3]}), ("units", {"sent_at": pa.array([AT], pa.timestamp("ms"))})):
        written(tmp_path, pa.table(whole), f"{folder}/a.parquet")
        written(tmp_path, pa.table(whole | more), f"{folder}/b.parquet")
    for name in ("messages=7/a [1]*{b,c}%20é.parquet", "b.parquet", "_tmp/c.parquet", "_metadata", ".d.parquet"):
        written(tmp_path, pa.table(whole | {"subject": ["x"]}), f"fine/{name}")
    (tmp_path / "empty").mkdir()
    faults = {
        "viewfs://lake/mail/text": "/a.parquet: column 'sent_at' holds string (expected times",
        "viewfs://lake/mail/renamed": "/a.parquet: no column 'server' (found: ",
        "viewfs://lake/mail/mixed": "/b.parquet: column 'build' holds int64 (expected text)",
        "viewfs://lake/mail/het": "/a.parquet: no column 'messages', which b.parquet has (expected one schema",
        "viewfs://lake/mail/units": "/b.parquet: column 'sent_at' holds timestamp[ms] (expected timestamp[us]",
        "viewfs://lake/mail/none": "Path does not exist",
        "viewfs://lake/mail/empty": "no Parquet there",
        "viewfs://lake/mail/damaged": "/a.parquet: no Parquet file, or a damaged one",
        "viewfs://lake/mail/cut": "/a.parquet: no Parquet file, or a damaged one",
        "s3a://bucket/mail": "spark.jars.packages",
        "hdfs://127.0.0.1:9/mail": "Connection refused",
    }
    with session("local[2]") as opened:
        with spark.traffic_in(opened, "viewfs://lake/mail/nanos") as history:
            assert rows_of(history).select("day", "minute", "messages").rows() == [(DAY, 59, 1)]
        with spark.traffic_in(opened, "viewfs://lake/mail/fine") as history:
            assert rows_of(history).select("day", "minute", "messages").rows() == [(DAY, 59, 1)] * 2
            assert history.imports.row(0, named=True)["rows_read"] == 2
            assert history.imports.item(0, "notes") == "columns not read: subject"
        for address, told in faults.items():
            with pytest.raises(ValueError, match=re.escape(address)) as caught, spark.traffic_in(opened, address):
                pass
            assert str(caught.value).startswith((f"{address}: ", f"{address}/"))
            assert told in str(caught.value)
            assert "\n" not in str(caught.value)


def _bad_text() -> pa.Array:
    """Text that is none: a lone octet of UTF-8."""
    return pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"\xffa")]
    )


@LOCAL
def test_text_that_is_no_text(opens: Opens, tmp_path: Path) -> None:
    """Octets that are no UTF-8 in a column of text are refused in a line that names the file, or counted."""
    raw = pa.table({**{name: pa.array([value] * 2) for name, value in ROW.items()}, "tenant": _bad_text()})
    path = written(tmp_path, raw)
    with pytest.raises(ValueError, match=str(path)) as caught, opens(str(path)) as history:
        rows_of(history)
    assert "\n" not in str(caught.value)


@LOCAL
@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"servers": ["a"]}, "no column 'server' (found: sent_at, build, servers; expected: sent_at, server, build[, tenant, hop, route, messages]; is it 'servers'?)"),  # noqa: E501 - a message is one line
        ({"server": ["a"], "Server": ["a"]}, "2 columns 'server'"),
        ({"server": [1]}, "column 'server' holds int64 (expected text)"),
        ({"server": ["a"], "messages": [1.5]}, "column 'messages' holds double (expected whole numbers)"),
        ({"server": ["a"], "messages": ["1"]}, "column 'messages' holds string (expected whole numbers)"),
        ({"server": ["a"], "route": [True]}, "column 'route' holds bool (expected text)"),
        ({"server": ["a"], "tenant": [b"x"]}, "column 'tenant' holds binary (expected text)"),
        ({"server": ["a"], "sent_at": ["2026-01-31T07:05"]}, "column 'sent_at' holds string (expected times; text is read by `enforcement import`)"),  # noqa: E501 - a message is one line
        ({"server": ["a"], "sent_at": [dt.date(2026, 1, 31)]}, "column 'sent_at' holds date32[day] (expected times)"),
        ({"server": ["a"], "sent_at": pa.nulls(1)}, "column 'sent_at' holds null (expected times)"),
    ],
)  # fmt: skip
def test_a_column_that_cannot_be_read(opens: Opens, table: dict[str, Any], told: str, tmp_path: Path) -> None:
    """A missing, renamed, doubled or wrongly typed column is named with its file, what was found and expected."""
    whole = {"sent_at": [AT], "build": ["15.1.2507.61"]} | table
    path = written(tmp_path, pa.table(whole))
    with pytest.raises(ValueError) as caught, opens(str(path)):  # noqa: PT011 - its words are held below
        pass
    assert str(caught.value).startswith(f"{path}: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@LOCAL
def test_columns_that_hold_nothing(opens: Opens, tmp_path: Path) -> None:
    """Optional columns of nulls, of whatever type, have their defaults; names differ in case; others are not read."""
    blank = {name: pa.nulls(1) for name in ("tenant", "hop", "messages")} | {"route": pa.array([None], pa.string())}
    coded = {"Server": pa.array(["MX.a.example"]).dictionary_encode(), " BUILD ": ["15.1.2507.61"], "Sent_At": [AT]}
    with opens(str(written(tmp_path, pa.table({**coded, **blank, "subject": ["secret"]})))) as history:
        found = rows_of(history).select("server", "tenant", "build", "hop", "route", "messages").rows()
        assert found == [("mx.a.example", "a.example", "15.1.2507.61", "smtp", "direct", 1)]
        assert history.imports.item(0, "notes") == "columns not read: subject"


@LOCAL
@pytest.mark.parametrize("column", ["server", "build"])
def test_a_column_that_should_hold_something(opens: Opens, column: str, tmp_path: Path) -> None:
    """Without a server or a build no row can be used; as in an import, that is counted and no error."""
    path = written(tmp_path, pa.table({name: [value] * 3 for name, value in ROW.items()} | {column: pa.nulls(3)}))
    assert imported(path, tmp_path / "store")[2] == 3
    with opens(str(path)) as history:
        assert (history.imports.item(0, "rows_stored"), history.imports.item(0, "rows_rejected")) == (0, 3)
        assert history.imports.item(0, "notes") == f"rows that cannot be used: 3: no {column}"


@LOCAL
def test_a_folder(opens: Opens, tmp_path: Path) -> None:
    """All *.parquet at any depth are one history, hidden ones left out; nothing in a name is a pattern."""
    folder = tmp_path / "mail [1] *?{a,b}'\"%20#"
    for name in ("a[0].parquet", "year=2026/b*.PARQUET", "_tmp/c.parquet", ".d.parquet"):
        written(folder, pa.table({key: [value] for key, value in ROW.items()}), name)
    (folder / "_SUCCESS").touch()
    with opens(str(folder)) as history:
        assert history.imports.item(0, "rows_read") == 2
    uri = (folder / "a[0].parquet").as_uri()
    for address in (uri, uri.replace("file://", "file:"), uri.replace("file://", "FILE://")):
        with opens(address) as history:
            assert history.imports.item(0, "rows_read") == 1
    with pytest.raises(ValueError, match=r"no such file or folder \(expected Parquet; nothing in a path is a pattern"):
        opens(str(tmp_path / "*")).__enter__()
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"none: no Parquet in this folder \(expected files named .*parquet"):
        opens(str(tmp_path / "none")).__enter__()


@LOCAL
@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"route": ["direct"]}, "a.parquet: no column 'route', which b.parquet has (expected one schema in a folder)"),
        ({"sent_at": pa.array([AT], pa.timestamp("ms"))}, "b.parquet: column 'sent_at' holds timestamp[ms] (expected timestamp[us], as in a.parquet: one schema in a folder)"),  # noqa: E501 - a message is one line
        ({"build": [15]}, "b.parquet: column 'build' holds int64 (expected text)"),
    ],
)  # fmt: skip
def test_files_that_differ(opens: Opens, other: dict[str, Any], told: str, tmp_path: Path) -> None:
    """Files of different schemas in a folder: the file, the column, what it holds and what was expected."""
    whole = {name: [value] for name, value in ROW.items()}
    written(tmp_path, pa.table(whole), "a.parquet")
    written(tmp_path, pa.table(whole | other), "b.parquet")
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its words are held below
        opens(str(tmp_path)).__enter__()
    assert str(caught.value) == f"{tmp_path}/{told}"


@LOCAL
def test_a_damaged_file(opens: Opens, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A file that is none, one cut off, and one damaged in its middle: a line that names it, and no trace beside."""
    path = written(tmp_path, pa.table({name: [value] * 5_000 for name, value in ROW.items()}), compression="snappy")
    whole = path.read_bytes()
    for data in (b"", b"no Parquet", whole[:-20], whole[: len(whole) // 2], b"PAR1" + b"\xff" * 200 + whole[204:]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=str(path)) as caught, opens(str(path)) as history:
            rows_of(history)
        assert "\n" not in str(caught.value)
        assert str(caught.value).count(str(path)) == 1
        assert "Error: " not in str(caught.value)
    assert "panicked" not in capfd.readouterr().err


def _read_harmed(opens: Opens, path: Path, harm: Callable[[Path], object]) -> None:
    with opens(str(path)) as history:
        harm(path)
        rows_of(history)


@LOCAL
@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"\xff" * path.stat().st_size)])
def test_a_file_that_changes_under_the_reading(opens: Opens, harm: Callable[[Path], object], tmp_path: Path) -> None:
    """What goes wrong after the history was opened is told in one line with the path too."""
    path = written(tmp_path, pa.table({name: pa.array([value] * 9) for name, value in ROW.items()}))
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its words are held below
        _read_harmed(opens, path, harm)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@LOCAL
def test_what_should_be_known_of_the_rows(opens: Opens, tmp_path: Path) -> None:
    """Servers with several tenants and times on full hours are told; the tenant of the earliest hand-over counts."""
    hour = dt.datetime(2026, 1, 31, 7)
    rows = [
        (hour, "mx.a.example", "late.example", 90),
        (hour - dt.timedelta(hours=1), "MX.a.example", "early.example", 90),
    ]
    frame = pl.DataFrame(rows, schema=["sent_at", "server", "tenant", "messages"], orient="row").with_columns(
        build=pl.lit("15.1.2507.61")
    )
    with opens(str(written(tmp_path, frame))) as history:
        assert history.servers["tenant"].to_list() == ["early.example"]
        told = "\n".join(lakes.said(history))
    assert "servers that come with several tenants: 1" in told
    assert "100% of the messages were sent on minute 0 of an hour" in told
    assert "2 rows read = 2 used + 0 that cannot be used" in told


@LOCAL
def test_days_after_the_last_are_not_known(opens: Any, tmp_path: Path) -> None:
    """--as-of and --to leave out later days, as with a store."""
    path = written(tmp_path, pl.DataFrame([ROW, ROW | {"sent_at": AT + dt.timedelta(days=3)}]))
    with opens(str(path), to_on=dt.date(2026, 2, 1)) as history:
        assert history.period() == (dt.date(2026, 1, 31), dt.date(2026, 1, 31))
        assert history.to_on == dt.date(2026, 2, 1)


@LOCAL
def test_files_that_change_have_another_fingerprint(opens: Opens, tmp_path: Path) -> None:
    """What rests on a history can tell when its files are others."""
    path = written(tmp_path, pl.DataFrame([ROW]))
    with opens(str(path)) as history:
        first = history.fingerprint
    with opens(str(path)) as history:
        assert history.fingerprint == first
    written(tmp_path, pl.DataFrame([ROW | {"build": "15.1.2507.62"}]))
    with opens(str(path)) as history:
        assert history.fingerprint != first


def test_the_command(tmp_path: Path) -> None:
    """`replay --traffic` answers as a store with the same rows, by DuckDB unless another engine is asked for."""
    rows = [ROW | {"sent_at": AT + dt.timedelta(minutes=67 * n), "messages": n % 3} for n in range(200)]
    path = written(tmp_path, pl.DataFrame(rows).with_columns(build=pl.lit("15.0.1497.48")))
    found = answer("replay", "ninety-days", "--traffic", path)
    assert found == answer("replay", "ninety-days", "--engine", "polars", "--traffic", path)
    assert run("import", path, "--store", tmp_path / "traffic.duckdb").returncode == 0
    assert found == answer("replay", "ninety-days", "--store", tmp_path / "traffic.duckdb")
    said = run("replay", "ninety-days", "--traffic", path).stderr
    assert f"{path}: 200 rows read = 133 used + 67 that cannot be used" in said
    assert "67: not a number of messages, e.g. 0 (expected a whole number from 1)" in said
    assert json.dumps(found)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--engine", "polars"], "--engine polars needs --traffic PATH"),
        (["--engine", "spark"], "--engine spark needs --traffic PATH"),
        (["--engine", "pandas", "--traffic", "x"], "not an engine: 'pandas' (expected duckdb, polars or spark)"),
        (["--engine", "", "--traffic", "x"], "not an engine: '' (expected duckdb, polars or spark)"),
        (["--engine", ""], "not an engine: ''"),
        (["--master", "local[*]", "--traffic", "x"], "--master is for --engine spark only"),
        (["--master", "local[*]"], "--master is for --engine spark only"),
        (["--traffic", ""], "--traffic names no path"),
        (["--traffic", "s3://bucket/x"], "an address that only Spark reads"),
        (["--engine", "spark", "--master", "nowhere", "--traffic", "x"], "no such file or folder"),
        (["--engine", "spark", "--master", "sc://a", "--traffic", "s3://x"], "not a Spark master: 'sc://a'"),
    ],
)
def test_options_that_make_no_sense(options: list[str], told: str) -> None:
    """Each is refused in a line that says what was expected."""
    assert told in refused("replay", "ninety-days", *options)


def test_schema_of_hand_overs_is_the_one_read() -> None:
    """The columns of the Parquet are those of a hand-over."""
    assert set(HANDOVERS) == set(COLUMNS)
