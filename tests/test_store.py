"""The store: what goes in comes out, counted; an import is whole or not there."""

import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb  # noqa: TID251 - to look behind the door
import narwhals as nw
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import START, Row, add, batch, days_of, handover

from enforcement.importers.batch import Batch
from enforcement.names import tenant_of
from enforcement.schema import HANDOVERS, REJECTS, SIGHTINGS
from enforcement.store import Store, StoreError, create_store, open_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store may be made."""
    return tmp_path / "data" / "traffic.duckdb"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """A new store, open for writing."""
    with create_store(path) as opened:
        yield opened


def _traffic(store: Store) -> list[tuple[Any, ...]]:
    return store.query("select sent_at, server, build, tenant, hop, route, messages from traffic order by all").rows()


def test_what_goes_in_comes_out(path: Path) -> None:
    """Hand-overs, sightings and rejects come back with names, days, and the tenant that the server's name gives."""
    rows = [
        handover(messages=3),
        handover("ex01.corp.local", "8.3.298.1", sent_at=START + timedelta(days=1), hop="mapi", route="through cloud"),
        handover("192.0.2.1", None, route="relayed", tenant="a hospital"),
    ]
    with create_store(path) as store:
        record = add(store, rows, rejects=2)
    assert (record.rows_read, record.rows_stored, record.rows_rejected, record.already_imported) == (5, 3, 2, False)
    with open_store(path) as store:
        assert _traffic(store) == [
            (START, "192.0.2.1", None, "a hospital", "smtp", "relayed", 1),
            (START, "mail.contoso.com", "15.1.2507.61", "contoso.com", "smtp", "direct", 3),
            (START + timedelta(days=1), "ex01.corp.local", "8.3.298.1", "corp.local", "mapi", "through cloud", 1),
        ]
        assert store.query("select day, server, build, hops from sightings order by all").rows() == [
            (date(2026, 1, 31), "192.0.2.1", None, 1),
            (date(2026, 1, 31), "mail.contoso.com", "15.1.2507.61", 3),
            (date(2026, 2, 1), "ex01.corp.local", "8.3.298.1", 1),
        ]
        assert store.rejects().rows() == [(1, "a.csv", 1, "no server", "row 1"), (1, "a.csv", 2, "no server", "row 2")]
        assert store.imports().select("source", "sha256", "rows_read", "rows_stored", "rows_rejected").rows() == [
            ("a.csv", "a", 5, 3, 2)
        ]


def test_days_and_minutes_are_stored_as_small_numbers(path: Path) -> None:
    """Days count from 1970, spread minutes from the server's offset, and rows lie by build, server and time."""
    rows = [
        handover(server, build, sent_at=START + timedelta(minutes=17 * n))
        for n, (server, build) in enumerate([(f"s{i % 7}.example", f"15.1.2507.{i % 3}") for i in range(100)])
    ]
    with create_store(path) as store:
        add(store, rows)
        offsets = {server: offset for _, server, _, offset in store.servers().rows()}
        ids = {server_id: server for server_id, server, _, _ in store.servers().rows()}
    assert offsets == {f"s{i}.example": zlib.crc32(f"s{i}.example".encode()) % 60 for i in range(7)}
    with duckdb.connect(path, read_only=True) as connection:
        stored = connection.sql(
            "select sent_at, day, minute, minute_spread, server_id, build_id from raw.traffic"
        ).fetchall()
        types = connection.sql(
            "select column_name, data_type from duckdb_columns() where table_name = 'traffic'"
        ).fetchall()
    assert len(stored) == 100
    for sent_at, day, minute, minute_spread, server_id, _ in stored:
        assert date(1970, 1, 1) + timedelta(days=day) == sent_at.date()
        assert minute == sent_at.minute
        assert minute_spread == (sent_at.minute - offsets[ids[server_id]]) % 60
    order = [(build_id, server_id, sent_at) for sent_at, _, _, _, server_id, build_id in stored]
    assert order == sorted(order)
    assert dict(types) | {"day": "SMALLINT", "minute": "UTINYINT", "messages": "INTEGER"} == dict(types)


def test_the_same_import_changes_nothing(store: Store) -> None:
    """The same content and options again is told, not read and not stored; its options' order does not matter."""
    first = add(store, [handover()], rejects=1, kind="mail", own_hosts=("b", "a"))
    before = _traffic(store), store.history().fingerprint

    def read() -> Iterator[Batch]:
        raise AssertionError("read again")
        yield batch([])

    again = store.add(
        source="copy.csv", sha256="a", options={"own_hosts": ["a", "b"], "kind": "mail", "times": None}, batches=read()
    )
    assert again.already_imported
    assert (again.import_id, again.source, again.rows_read) == (first.import_id, "a.csv", 2)
    assert (_traffic(store), store.history().fingerprint) == before


def test_the_same_import_with_other_ids_is_another_content(tmp_path: Path) -> None:
    """What is kept beside a store holds ids: after an import that was forgotten, those of the next one are others."""
    fingerprints = set()
    for earlier in ([], [handover("mx.y.example")], [handover("mx.x.example"), handover("mx.y.example", tenant="t")]):
        with create_store(tmp_path / f"{len(earlier)}.duckdb") as store:
            first = add(store, earlier, sha256="earlier") if earlier else None
            add(store, [handover("mx.x.example"), handover("mx.y.example")], sha256="later")
            if first:
                store.forget(first.import_id)
            fingerprints.add(store.history().fingerprint)
            assert store.fingerprint() == store.history().fingerprint
    assert len(fingerprints) == 3


def test_the_same_content_with_other_options_is_refused(store: Store) -> None:
    """The line names both options and how to forget; afterwards it can be imported with the others."""
    first = add(store, [handover()], own_hosts=("a",))
    with pytest.raises(
        ValueError, match=r'options \{"own_hosts": \["a"\]\}, now \{\} \(`enforcement forget 1` removes it'
    ):
        add(store, [handover()])
    assert store.forget(first.import_id).traffic_rows == 1
    second = add(store, [handover()])
    assert second.import_id == first.import_id + 1  # a number is never given twice


def test_overlap_is_counted(store: Store) -> None:
    """Days of servers that another source already held are counted and told; other days and servers are not."""
    add(store, [handover(), handover("other.example")])
    rows = [
        handover(),
        handover(sent_at=START + timedelta(minutes=1)),
        handover(sent_at=START + timedelta(days=1)),
        handover("new.example"),
    ]
    record = add(store, rows, sha256="b")
    assert record.overlap == 1
    assert record.notes == (
        "days of servers that were already there from import 1: 1 (the same mail may now count twice)",
    )
    assert store.imports()["overlap"].to_list() == [0, 1]


def test_servers_without_a_domain_are_told(store: Store) -> None:
    """A name of one label says not whose it is: told once, when the servers are new, unless the source says it."""
    told = [handover(name) for name in ("ex04", "ex03", "ex02", "ex01", "mail.a.example", "192.0.2.1")]
    record = add(store, [*told, handover("ex05", tenant="a.example")])
    assert record.notes == (
        "servers named without a domain: 4 (ex01, ex02, ex03, …): each counts as a tenant of its own",
    )
    assert not any("domain" in note for note in add(store, told, sha256="b").notes)


def test_a_server_keeps_its_first_tenant(store: Store) -> None:
    """A tenant said first stays, one by the server's name too; the import says how many servers came with another."""
    add(store, [handover("a.example", tenant="first"), handover("a.example", tenant="second"), handover("b.example")])
    record = add(
        store,
        [handover("a.example", tenant="third"), handover("b.example", tenant="third"), handover("c.example")],
        sha256="b",
    )
    assert dict(store.query("select server, tenant from servers").rows()) == {
        "a.example": "first",
        "b.example": "b.example",
        "c.example": "c.example",
    }
    assert "servers that came with another tenant than they have: 2 (they keep the first)" in record.notes


def test_sightings_of_rejected_rows_are_kept(store: Store) -> None:
    """A source without any hand-over still tells of servers, and hops of the same day are counted together."""
    seen = [("ex01", "15.1.2507.61", None, "mapi", date(2026, 1, 31), 2)] * 2
    store.add(source="m", sha256="m", options={}, batches=[batch([], rejects=3, sightings=seen)])
    assert store.sighted().rows() == [(1, 1, date(2026, 1, 31), date(2026, 1, 31))]
    assert store.query("select hops from sightings").rows() == [(4,)]
    assert _traffic(store) == []


def test_rounded_times_are_noticed(store: Store) -> None:
    """Over a tenth of the messages on minute 0 is told; a few messages, or a tenth of them, is not."""
    on_the_hour, later = START.replace(minute=0), START.replace(minute=30)
    told = add(store, [handover(sent_at=on_the_hour, messages=11), handover(sent_at=later, messages=89)])
    assert told.notes[0].startswith("11% of the messages were sent on minute 0 of an hour: if the source rounds")
    untold = add(
        store,
        [handover("b.example", sent_at=on_the_hour, messages=10), handover("b.example", sent_at=later, messages=90)],
        sha256="b",
    )
    few = add(store, [handover("c.example", sent_at=on_the_hour, messages=10)], sha256="c")
    assert untold.notes == few.notes == ()


def test_rounded_times_get_minutes(store: Store) -> None:
    """With the option each message has the minute of the rule; rows are counted as the source has them."""
    record = add(store, [handover(sent_at=START.replace(minute=0), messages=1000)], rejects=1, times_rounded_to="hour")
    assert (record.rows_read, record.rows_stored, record.rows_rejected, record.notes) == (2, 1, 1, ())
    expected = Counter(zlib.crc32(f"mail.contoso.com\n2026-01-31T07\n{j}".encode()) % 60 for j in range(1000))
    assert dict(store.query("select minute, sum(messages) from traffic group by all").rows()) == dict(expected)
    assert store.imports()["times_rounded_to"].to_list() == ["hour"]
    assert store.history().are_times_rounded
    with pytest.raises(StoreError, match="cannot be rounded to 'day'"):
        add(store, [handover()], sha256="b", times_rounded_to="day")


def test_forgetting_an_import(store: Store) -> None:
    """All that came with it goes, and servers and builds that nothing else holds; the rest stays."""
    add(store, [handover("a.example"), handover("b.example", "8.3.298.1")], sha256="a", rejects=2)
    add(store, [handover("a.example", "14.3.123.3")], sha256="b", rejects=1)
    forgotten = store.forget(1)
    assert (forgotten.imports, forgotten.traffic_rows, forgotten.sightings) == (1, 2, 2)
    assert store.servers()["server"].to_list() == ["a.example"]
    assert store.builds()["build"].to_list() == ["14.3.123.3"]
    assert store.imports()["sha256"].to_list() == ["b"]
    assert store.rejects().height == 1
    assert _traffic(store) == [handover("a.example", "14.3.123.3", tenant="a.example")]


def test_forgetting_what_is_not_there(store: Store) -> None:
    """The line says which imports there are."""
    with pytest.raises(StoreError, match=r"no import 7 \(there: none\)"):
        store.forget(7)
    add(store, [handover()])
    with pytest.raises(StoreError, match=r"no import 7 \(there: 1\)"):
        store.forget(7)


def test_forgetting_days(store: Store) -> None:
    """Rows before the day go; an import of which nothing is left goes with its rejects; the other remembers the day."""
    old, new = START, START + timedelta(days=30)
    add(store, [handover("a.example", sent_at=old)], sha256="a", rejects=1)
    add(store, [handover("b.example", sent_at=old), handover("b.example", sent_at=new)], sha256="b", rejects=1)
    add(store, [handover("c.example", sent_at=new)], sha256="c")
    store.add(source="d", sha256="d", options={}, batches=[batch([], rejects=1)])
    before = store.history().fingerprint
    forgotten = store.forget_before(date(2026, 2, 1))
    assert (forgotten.imports, forgotten.traffic_rows, forgotten.sightings) == (1, 2, 2)
    assert store.imports().select("sha256", "forgotten_before").rows() == [
        ("b", date(2026, 2, 1)),
        ("c", None),
        ("d", None),
    ]
    assert store.rejects()["source"].to_list() == ["b.csv", "d"]
    assert store.servers()["server"].to_list() == ["b.example", "c.example"]
    assert store.history().fingerprint != before
    (note,) = add(store, [], sha256="b").notes
    assert note == "rows before 2026-02-01 were forgotten; `enforcement forget 2` allows a whole import"
    assert not add(store, [handover("a.example")], sha256="a", rejects=1).already_imported


_SERVERS = st.sampled_from(["mail.contoso.com", "ex01.corp.local", "ex02.corp.local", "lone", "192.0.2.1"])
_ROWS = st.lists(
    st.builds(
        handover,
        _SERVERS,
        st.sampled_from(["15.1.2507.61", "8.3.298.1", None]),
        sent_at=st.integers(0, 40 * 86_400).map(lambda seconds: START + timedelta(seconds=seconds)),
        hop=st.sampled_from(["smtp", "mapi"]),
        route=st.sampled_from(["direct", "relayed", "through cloud"]),
        messages=st.integers(1, 1000),
    ),
    max_size=8,
)
_STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 3), _ROWS, st.integers(0, 2)),
    st.tuples(st.just("forget"), st.integers(0, 3)),
    st.tuples(st.just("forget before"), st.integers(-1, 41).map(lambda days: START.date() + timedelta(days=days))),
    st.tuples(st.just("reopen")),
)


@settings(deadline=None, max_examples=25)
@given(steps=st.lists(_STEPS, max_size=8))
def test_any_order_of_adding_and_forgetting(
    steps: list[tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """After any steps the store holds what a plain list of imports holds: rows, rejects, servers, builds, days."""
    path = tmp_path_factory.mktemp("store") / "traffic.duckdb"
    held: dict[int, tuple[list[Row], int]] = {}
    ids: dict[int, int] = {}
    store = create_store(path)
    for step in steps:
        match step:
            case ("add", number, rows, rejects):
                record = add(store, rows, sha256=str(number), rejects=rejects)
                assert record.already_imported == (number in held)
                if number not in held:
                    held[number], ids[number] = (rows, rejects), record.import_id
            case ("forget", number) if number in held:
                store.forget(ids.pop(number))
                del held[number]
            case ("forget", number):
                with pytest.raises(StoreError, match="no import"):
                    store.forget(1000 + number)
            case ("forget before", day):
                store.forget_before(day)
                had_rows = {number for number, (rows, _) in held.items() if rows}
                held = {n: ([row for row in rows if row[0].date() >= day], k) for n, (rows, k) in held.items()}
                held = {n: kept for n, kept in held.items() if kept[0] or n not in had_rows}
            case _:
                store.close()
                store = create_store(path)
    expected = [row for rows, _ in held.values() for row in rows]
    assert _traffic(store) == sorted(((*row[:3], tenant_of(row[1]), *row[4:]) for row in expected), key=_in_order)
    assert store.query("select count(*) from rejects").item() == sum(rejects for _, rejects in held.values())
    assert set(store.servers()["server"]) == {row[1] for row in expected}
    assert set(store.builds().select("build", "hop").rows()) == {(row[2], row[4]) for row in expected}
    for frame, column in ((store.servers(), "server"), (store.builds(), "build_id"), (store.imports(), "import_id")):
        assert frame[column].is_unique().all()
    messages = Counter((row[1], row[2], row[4], row[0].date(), row[5]) for row in expected for _ in range(row[6]))
    history = store.history()
    days = days_of(history).join(history.servers, on="server_id").join(history.builds, on="build_id")
    assert {
        tuple(key): n for *key, n in days.select("server", "build", "hop", "day", "route", "messages").rows()
    } == messages
    store.close()


def _in_order(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Nulls last, as the query orders."""
    return tuple((value is None, value or "") if place == 2 else value for place, value in enumerate(row))


def test_the_history_of_a_store(path: Path) -> None:
    """Days and clock starts end on the day asked for; the traffic joins with frames brought to it."""
    with create_store(path) as store:
        add(store, [handover(messages=2), handover("b.example", "8.3.298.1", sent_at=START + timedelta(days=1))])
    with open_store(path) as store:
        history = store.history(to_on=date(2026, 1, 31))
        whole = store.history()
        assert days_of(history).select("day", "route", "messages").rows() == [(date(2026, 1, 31), "direct", 2)]
        assert whole.period() == (date(2026, 1, 31), date(2026, 2, 1))
        assert (history.to_on, whole.to_on) == (date(2026, 1, 31), None)
        assert not whole.are_times_rounded
        assert whole.imports.height == 1
        ids = history.builds.filter(build="8.3.298.1").select("build_id")
        chosen = history.traffic.frame.join(history.traffic.bring(ids), on="build_id", how="semi")
        counted = chosen.filter(nw.col("route").is_in(["direct"])).select("server_id", "day", "minute", "messages")
        (row,) = counted.collect(backend="polars").rows()
        assert row[1:] == ((date(2026, 2, 1) - date(1970, 1, 1)).days, 5, 1)
        assert history.servers.row(int(row[0]) - 1)[1] in ("b.example", "mail.contoso.com")


def test_the_fingerprint_tells_contents_apart(tmp_path: Path) -> None:
    """Two stores of the same imports have one fingerprint, whatever their files are called; others have others."""

    def fingerprint(name: str, sha256: str, kind: str | None = None) -> str:
        with create_store(tmp_path / name) as store:
            add(store, [handover()], sha256=sha256, kind=kind)
            return store.history().fingerprint

    assert fingerprint("one", "a") == fingerprint("two", "a")
    assert len({fingerprint("three", "a"), fingerprint("four", "b"), fingerprint("five", "a", kind="mail")}) == 3


def test_the_last_hand_over(store: Store) -> None:
    """The last one at or before a time, to the second; None before the first."""
    add(store, [handover(), handover(build="15.1.2507.66", sent_at=START + timedelta(hours=1))])
    assert store.last_hand_over(1, START + timedelta(minutes=59)) == (START, "15.1.2507.61", "smtp", "direct")
    assert store.last_hand_over(1, START + timedelta(hours=1)) == (
        START + timedelta(hours=1),
        "15.1.2507.66",
        "smtp",
        "direct",
    )
    assert store.last_hand_over(1, START - timedelta(seconds=1)) is None


def test_a_reader_cannot_write(path: Path) -> None:
    """A store opened for reading takes no import."""
    create_store(path).close()
    with open_store(path) as store, pytest.raises(StoreError, match="opened for reading only"):
        add(store, [handover()])


def test_an_import_that_fails_leaves_nothing(store: Store) -> None:
    """What goes wrong in the middle, an error or the user's interrupt, undoes the whole import."""
    add(store, [handover()], sha256="old")
    before = _traffic(store), store.servers().rows(), store.builds().rows(), store.imports().rows()
    for name, problem in (
        ("_hold_counts", KeyboardInterrupt),
        ("_write_record", MemoryError),
        ("_overlap", StoreError),
    ):
        with pytest.MonkeyPatch.context() as patch:

            def fail(*_: object, problem: type[BaseException] = problem, **__: object) -> None:
                raise problem

            patch.setattr(f"enforcement.store_imports.{name}", fail)
            with pytest.raises(problem):
                add(store, [handover("new.example", "8.3.298.1")], sha256="new", rejects=2)
        assert (_traffic(store), store.servers().rows(), store.builds().rows(), store.imports().rows()) == before
    assert not add(store, [handover("new.example", "8.3.298.1")], sha256="new").already_imported


def test_a_name_in_another_spelling_is_an_importers_mistake(store: Store) -> None:
    """One server cannot become two by its spelling: the store takes names and builds only as they are written."""
    for row in (
        handover("MAIL.example"),
        handover("mail.example."),
        handover(build="15.01.2507.061"),
        handover(tenant="Contoso"),
    ):
        with pytest.raises(ValueError, match="is not in its one spelling"):
            add(store, [row])
    with pytest.raises(ValueError, match="not a server name"):
        add(store, [handover("a b")])
    with pytest.raises(StoreError, match="nothing was changed"):
        add(store, [handover(route="by pigeon")])
    assert store.imports().height == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sent_at": datetime(9999, 1, 1)}, "hand-overs: sent_at before 1996-01-01 or after 2058-12-31"),
        ({"messages": 0}, "hand-overs: messages below 1"),
        ({"server": None}, "hand-overs: 1 rows without server"),
    ],
)
def test_a_batch_holds_only_what_a_store_can_keep(change: dict[str, Any], told: str) -> None:
    """Times that no mail has, counts of nothing, and rows without a server are refused where they arise."""
    row = dict(zip(HANDOVERS, handover(), strict=True)) | change
    with pytest.raises(ValueError, match=told):
        Batch(
            handovers=pl.DataFrame([row], schema=dict(HANDOVERS)),
            sightings=pl.DataFrame(schema=dict(SIGHTINGS)),
            rejects=pl.DataFrame(schema=dict(REJECTS)),
            rows_read=1,
        )


def test_odd_names_of_sources_are_kept_readable(store: Store) -> None:
    """A path with control characters or broken octets is stored escaped."""
    record = store.add(source="a\x1b[31m\udc80\n.csv", sha256="a", options={}, batches=[batch([handover()])])
    assert record.source == r"a\x1b[31m\udc80\n.csv"
    assert store.imports()["source"].to_list() == [record.source]
