"""Exchange message tracking logs: each send by SMTP is a hand-over of the logging server."""

import gzip
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from enforcement import intake
from enforcement.importers import tracking_logs
from enforcement.importers.batch import Batch
from enforcement.importers.sources import find_sources
from enforcement.importers.tracking_logs import read_tracking_log
from enforcement.shipped import load_catalogue
from enforcement.store import open_store

BUILDS = frozenset(release.build for release in load_catalogue().releases)
F2010 = (
    "date-time,client-ip,client-hostname,server-ip,server-hostname,source-context,connector-id,source,event-id,"
    "internal-message-id,message-id,recipient-address,recipient-status,total-bytes,recipient-count,"
    "related-recipient-address,reference,message-subject,sender-address,return-path,message-info,directionality,"
    "tenant-id,original-client-ip,original-server-ip,custom-data"
)
F2013 = F2010.replace("message-id,recipient-address", "message-id,network-message-id,recipient-address")
F2016 = F2013 + ",transport-traffic-type,log-id,schema-version"


def header(fields: str, version: str) -> str:
    return (
        f"#Software: Microsoft Exchange Server\n#Version: {version}\n#Log-type: Message Tracking Log\n"
        f"#Date: 2026-01-05T00:00:00.000Z\n#Fields: {fields}\n"
    )


def row(fields: str, *, at: str = "2026-01-05T07:05:03.123Z", **given: str) -> str:
    """A row of an SMTP send, with quotes where Exchange writes them."""
    values = {
        "date-time": at, "client-ip": "10.0.0.1", "client-hostname": "EX01.contoso.com", "source": "SMTP",
        "event-id": "SEND", "message-subject": "hello", "sender-address": "some.one@contoso.com",
        "total-bytes": "1234", "server-hostname": "mx.fabrikam.com",
    } | {name.replace("_", "-"): value for name, value in given.items()}  # fmt: skip
    quoted = [
        f'"{v.replace(chr(34), chr(34) * 2)}"' if "," in v or '"' in v or "\n" in v else v for v in values.values()
    ]
    by_name = dict(zip(values, quoted, strict=True))
    return ",".join(by_name.get(name, "") for name in fields.split(",")) + "\n"


def read(path: Path) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]], tuple[str, ...]]:
    batches = list(read_tracking_log(path, BUILDS))
    assert all(isinstance(batch, Batch) for batch in batches)
    handovers = pl.concat([batch.handovers for batch in batches])
    rejects = pl.concat([batch.rejects for batch in batches])
    return handovers.rows(), rejects.rows(), batches[-1].notes


def written(folder: Path, text: str | bytes, name: str = "MSGTRK2026010507-1.LOG") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.replace("\n", "\r\n").encode())
    return path


@pytest.mark.parametrize(
    ("fields", "version", "own", "build"),
    [
        (F2010, "14.0.0.0", "", None),  # no build of any release
        (F2010, "14.03.0123.004", "", "14.3.123.4"),  # SP3
        (F2013, "15.00.1104.000", "", None),
        (F2013, "15.00.1497.048", "", "15.0.1497.48"),
        (F2016, "15.01.2375.007", "15.01.2507.039", "15.1.2507.39"),  # the row's own wins
        (F2016, "15.01.2507.006", "", "15.1.2507.6"),
        (F2016, "15.01.2507.006", "15.01.2507.038", "15.1.2507.38"),  # in no table: kept as it is
        (F2016, "nonsense", "", None),
    ],
)
def test_each_version_has_its_fields(tmp_path: Path, fields: str, version: str, own: str, build: str | None) -> None:
    """The header decides; the build is the row's, else the file's when it is one of a release, else unknown."""
    text = header(fields, version) + row(fields, schema_version=own)
    good, bad, _ = read(written(tmp_path, text))
    assert good == [(datetime(2026, 1, 5, 7, 5, 3, 123000), "ex01.contoso.com", build, None, "mapi", "direct", 1)]
    assert not bad


def test_only_sends_by_smtp_are_rows(tmp_path: Path) -> None:
    """What is received, delivered, or sent by others is none; it is counted, whatever its server looks like."""
    events = [
        ("SMTP", "SEND"), ("SMTP", "SENDEXTERNAL"), ("smtp", "send"), ("SMTP", "RECEIVE"), ("STOREDRIVER", "DELIVER"),
        ("STOREDRIVER", "SUBMIT"), ("SMTP", "HAREDIRECTFAIL"), ("GATEWAY", "SEND"), ("SMTP", "FAIL"), ("DNS", "FAIL"),
    ]  # fmt: skip
    rows = [row(F2016, source=source, event_id=event) for source, event in events]
    silent = row(F2016, source="SMTP", event_id="HAREDIRECT", client_hostname="", client_ip="")
    good, bad, notes = read(written(tmp_path, header(F2016, "15.01.2507.006") + "".join(rows) + silent))
    assert (len(good), len(bad)) == (3, 0)
    assert notes == ("MSGTRK2026010507-1.LOG: rows of other events, which are no hand-overs: 8",)


def test_traps_of_real_logs(tmp_path: Path) -> None:
    """A mark at the start, headers that come again with other fields, commas, quotes and line ends in subjects."""
    text = (
        "\ufeff" + header(F2016, "15.01.2507.006")
        + row(F2016, message_subject='price, "special"', custom_data="S:x=109,173 KB/sec")
        + row(F2016, client_ip="fe80::1%3", message_subject="two\nlines, and\nthree")
        + header(F2013, "15.00.1497.048") + row(F2013, client_hostname="ex02")
        + header(F2016, "15.01.2507.006").replace("#", "") + row(F2016, client_hostname="EX03.contoso.com.")
        + "\n"
    )  # fmt: skip
    good, bad, _ = read(written(tmp_path, text))
    assert [(each[1], each[2]) for each in good] == [
        ("ex01.contoso.com", "15.1.2507.6"), ("ex01.contoso.com", "15.1.2507.6"), ("ex02", "15.0.1497.48"),
        ("ex03.contoso.com", "15.1.2507.6"),
    ]  # fmt: skip
    assert not bad


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_log_that_went_through_powershell_is_one(tmp_path: Path, encoding: str, packed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """`>` and Out-File write UTF-16 with a mark; copied together there is a mark in the midst, and all rows count."""
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    rows = "".join(
        row(F2016, message_subject="Grüße 日本", at=f"2026-01-05T07:05:{n % 60:02}.000Z") for n in range(3_000)
    )
    one = (mark + header(F2016, "15.01.2507.006") + rows).replace("\n", "\r\n").encode(encoding)
    content = one + one
    path = written(tmp_path, gzip.compress(content) if packed else content, "export.log")
    (source,) = find_sources(path)
    assert source.options["kind"] == "tracking log"
    handovers, rejects, _ = read(path)
    assert len(handovers) == 6_000
    assert rejects == []
    assert {one[1:3] for one in handovers} == {("ex01.contoso.com", "15.1.2507.6")}


def test_a_bad_row_costs_itself(tmp_path: Path) -> None:
    """Each is kept with its line and the reason, without subject or addresses; the rows beside it count."""
    good_row = row(F2016)
    stray = good_row.replace("hello", '"hello').replace("2026-01-05T07", "2026-01-05T08")
    bad_rows = [
        row(F2016, at="yesterday"), row(F2016, client_hostname=""), row(F2016, client_hostname="a b"),
        row(F2016, schema_version="15.1"), good_row.rstrip("\n") + ",more\n", "SEND\n", stray,
        row(F2016, at="9999-01-01T00:00Z"),
        "x" * (1 << 20) + "y\n",
    ]  # fmt: skip
    text = row(F2016) + header(F2016, "15.01.2507.006") + "".join(bad + good_row for bad in bad_rows)
    good, bad, _ = read(written(tmp_path, text.replace("\n", "\r\n").encode()))
    assert len(good) == len(bad_rows)
    reasons = [str(reason) for _, reason, _ in bad]
    for reason, told in zip(
        reasons,
        ("no #Fields line", "not a time of a mail: 'yesterday'", "client-hostname: no server name", "'a b'", "'15.1'",
         "31 fields, expected 30", "1 fields, expected 30", "a quote in it never closes", "9999", "a line longer than"),
        strict=True,
    ):  # fmt: skip
        assert told in reason
    assert [position for position, _, _ in bad] == [1, 7, 9, 11, 13, 15, 17, 19, 21, 23]
    assert not any("hello" in str(kept) or "some.one" in str(kept) for _, _, kept in bad)


def test_columns_that_lack(tmp_path: Path) -> None:
    """Rows behind a header without the event cannot be told to be sends, and are rejects."""
    text = header("date-time,client-ip,client-hostname,source", "15.01.2507.006") + "a,b,c,d\n"
    _, bad, _ = read(written(tmp_path, header(F2016, "15.01.2507.006") + text))
    assert [reason for _, reason, _ in bad] == [
        "not one column 'event-id' (expected a #Fields line of a message tracking log)",
        "no #Fields line before it that can be read",
    ]


def test_pieces_make_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is read at a time, packed or not, the rows are the same."""
    rows = [row(F2016, client_hostname=f"ex{n % 5}" if n % 7 else "") for n in range(500)]
    text = header(F2016, "15.01.2507.006") + "".join(rows)
    whole = read(written(tmp_path, text))
    monkeypatch.setattr(tracking_logs, "_ROWS_AT_ONCE", 30)
    packed = written(tmp_path, gzip.compress(text.encode()), "MSGTRK.LOG.gz")
    assert len(list(read_tracking_log(packed, BUILDS))) > 10
    assert read(packed)[:2] == whole[:2]


def test_logs_lie_among_other_sources(tmp_path: Path) -> None:
    """Folders are searched, the same content comes in once, and a log that is cut off is not imported at all."""
    folder = tmp_path / "in"
    (folder / "TransportRoles" / "Logs").mkdir(parents=True)
    text = header(F2016, "15.01.2507.006") + row(F2016) + row(F2016, event_id="RECEIVE")
    written(folder, text)
    written(folder / "TransportRoles" / "Logs", gzip.compress(text.replace("EX01", "EX02").encode()), "old.gz")
    (folder / "table.csv").write_text("sent_at,server,build\n2026-01-31T07:05:09Z,mail.contoso.com,15.1.2507.61\n")
    (folder / "notes.txt").write_text("nothing\n")
    store = tmp_path / "store"
    done = intake.import_sources(store, find_sources(folder))
    assert [(record.rows_read, record.rows_stored, record.rows_rejected) for record in done.records] == [(1, 1, 0)] * 3
    again = intake.import_sources(store, find_sources(folder))
    assert all(record.already_imported for record in again.records)
    with open_store(store) as opened:
        seen = opened.query("select server, build, hop, hops from sightings order by server").rows()
    assert ("ex02.contoso.com", "15.1.2507.6", "mapi", 1) in seen
    long = header(F2016, "15.01.2507.006") + "".join(row(F2016, message_id=f"{n * 7919:x}") for n in range(5_000))
    cut = written(tmp_path, gzip.compress(long.encode())[:-2_000], "cut.gz")
    (problem,) = intake.import_sources(store, find_sources(cut)).problems
    assert problem.startswith(str(cut))
    assert "cut off" in problem


LINES = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.sampled_from([row(F2016), row(F2013), header(F2016, "15.01.2507.006"), "#Fields: a,b\n", '"', ",,,", "#"]),
        st.builds(lambda text: row(F2016, message_subject=text, client_hostname=text), st.text(max_size=20)),
    ),
    max_size=12,
)


@given(lines=LINES)
@example(lines=[header(F2016, "1"), row(F2016)[:-1] + '"'])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_is_too_hostile(tmp_path: Path, lines: list[str]) -> None:
    """Whatever stands in a log: what is read is stored or rejected, and a clean row at its end counts."""
    text = "\n".join(lines) + "\n" + header(F2016, "15.01.2507.006") + row(F2016, client_hostname="last.example")
    path = written(tmp_path, text.encode("utf-8", "surrogatepass"))
    good, bad, _ = read(path)
    assert good[-1][1] == "last.example"
    assert all(str(reason).isprintable() and len(str(kept)) <= 200 for _, reason, kept in bad)
