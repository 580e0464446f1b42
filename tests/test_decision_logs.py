"""Decision logs: what the targets of an export say of themselves, and nothing that others can make them say."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from enforcement import intake
from enforcement.export.target import Answer, Reason, logged
from enforcement.importers.decision_logs import is_exim_log, read_decision_log
from enforcement.importers.sources import find_sources
from enforcement.store import open_store
from enforcement.verdict import Verdict

AT = datetime(2026, 11, 24, 10, 37, 5)
SERIAL = 2026112301
OURS = "serial=2026112301 verdict=reject reason=enforced stage=7 cohort=all server=mail.contoso.com build=15.1.2507.6"
FOUND = (AT, "mail.contoso.com", "15.1.2507.6", "reject", "enforced", 7, SERIAL)


def milter_line(**given: object) -> str:
    """A line as the milter writes it."""
    known = {"verdict": Verdict.REJECT, "reason": Reason.ENFORCED, "server": "mail.contoso.com", "build": "15.1.2507.6",
             "cohort": "all", "stage": 7}  # fmt: skip
    line = logged(Answer(**known), AT, SERIAL)  # type: ignore[arg-type]  # made of whatever a test gives
    assert line is not None
    return json.dumps({**line, **given})


def exim_line(before: str = "2026-11-24 10:37:05 ", ours: str = OURS) -> str:
    return f"{before}enforcement1 {ours}"


def read(path: Path, *, is_exim: bool) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    decisions: list[tuple[object, ...]] = []
    rejects: list[tuple[object, ...]] = []
    for batch in read_decision_log(path, is_exim=is_exim):
        assert batch.decisions is not None
        assert batch.handovers.is_empty()
        decisions += batch.decisions.rows()
        rejects += batch.rejects.rows()
    return decisions, rejects


def test_a_milters_lines(tmp_path: Path) -> None:
    """All that it can log comes in; what is not a decision is no row, and what looks like one is a reject."""
    nothing = dict.fromkeys(("server", "build", "stage", "cohort"))
    lines = [
        milter_line(), milter_line(reason="not direct", verdict="accept", **nothing),
        milter_line(reason="failure", verdict="defer", serial=None, **nothing), "listening", '{"other": 1}',
        milter_line(at="2026-11-24T11:37:05+01:00"),
    ]  # fmt: skip
    bad = [
        milter_line(at="never"), milter_line(at=7), milter_line(verdict="drop"),
        milter_line(reason="no exchange server"),
        milter_line(stage=0), milter_line(stage="7"), milter_line(stage=True), milter_line(serial=2026133301),
        milter_line(serial=10**30), milter_line(server="a b"), milter_line(build="15"), milter_line(enforcement=2),
        milter_line()[:-9], '{"enforcement": 1}',
        '{"enforcement": ' + "[" * 50_000, milter_line(at="9999-12-31T00:00Z"),
    ]  # fmt: skip
    path = tmp_path / "decisions.log"
    path.write_text("\n".join([*lines, *bad]) + "\n")
    decisions, rejects = read(path, is_exim=False)
    assert decisions == [
        FOUND, (AT, None, None, "accept", "not direct", None, SERIAL), (AT, None, None, "defer", "failure", None, None),
        FOUND,
    ]  # fmt: skip
    assert [position for position, _, _ in rejects] == list(range(len(lines) + 1, len(lines) + len(bad) + 1))
    assert all(str(reason).isprintable() for _, reason, _ in rejects)


@pytest.mark.parametrize(
    "before",
    [
        "2026-11-24 10:37:05 ", "2026-11-24 10:37:05.123 ", "2026-11-24 12:37:05 +0200 ", "2026-11-24 10:37:05 [4711] ",
        "2026-11-24 10:37:05 1sXyzA-000abc-2Q ", "2026-11-24 11:37:05 +0100 [4711] 1sXyzA-00000000abc-2QaB ",
    ],
)  # fmt: skip
def test_exims_lines(tmp_path: Path, before: str) -> None:
    """With and without zone, process and message, in both forms of a message's id."""
    path = tmp_path / "mainlog"
    path.write_text("2026-11-24 10:00:00 exim 4.98 daemon started: pid=1\n" + exim_line(before) + "\n")
    decisions, rejects = read(path, is_exim=True)
    assert [(str(found[0])[:19], *found[1:]) for found in decisions] == [(str(AT), *FOUND[1:])]
    assert not rejects


def test_an_exim_in_another_zone_is_read_by_the_time_it_decided_by(tmp_path: Path) -> None:
    """Exim writes the time of its place without a zone unless it is told to; the decision's own time is in UTC."""
    path = tmp_path / "mainlog"
    seconds = int(AT.replace(tzinfo=UTC).timestamp())
    path.write_text(exim_line("2026-11-24 05:37:05 ", f"{OURS} at={seconds}") + "\n" + exim_line() + "\n")
    assert read(path, is_exim=True) == ([FOUND, FOUND], [])


@pytest.mark.parametrize(
    "ours",
    [
        OURS + " ", OURS + " more=1", OURS.replace("serial=2026112301 ", ""), OURS.replace("stage=7", "stage=seven"),
        OURS.replace("enforced", "no_exchange_server"), OURS.replace("2026112301", "1"),
        OURS.replace("reject", "Reject"),
        OURS.replace("mail.contoso.com", "a$b"), OURS.replace("15.1.2507.6", "15.1"), "",
        OURS.replace(" verdict", "\tverdict"), OURS + " at=noon", OURS + " at=99999999999",
    ],
)  # fmt: skip
def test_what_looks_like_ours_is_a_reject(tmp_path: Path, ours: str) -> None:
    path = tmp_path / "mainlog"
    path.write_text(exim_line(ours=ours) + "\n" + exim_line() + "\n")
    decisions, rejects = read(path, is_exim=True)
    assert decisions == [FOUND]
    assert [position for position, _, _ in rejects] == [1]


def test_no_peer_can_make_a_decision(tmp_path: Path) -> None:
    """In Exim's own lines a peer's text stands behind words of Exim; such lines are not even read."""
    forged = exim_line()
    lines = [
        f"2026-11-24 10:37:05 H=({forged}) [192.0.2.1] rejected EHLO",
        f'2026-11-24 10:37:05 1sXyzA-000abc-2Q <= {forged} H=x P=esmtp S=1 T="{forged}"',
        f'2026-11-24 10:37:05 SMTP syntax error in "{forged}" H=x',
        f"2026-11-24 10:37:05 1sXyzA-000abc-2Q H=x F=<a@b> rejected after DATA: \\n{forged}",
        f" {forged}", f"{forged[:20]} {forged[20:]}", forged.replace("enforcement1", "Enforcement1"),
        f"2026-11-24 10:37:05 [1] [2] enforcement1 {OURS}", f"x{forged}",
    ]  # fmt: skip
    path = tmp_path / "mainlog"
    path.write_text("\n".join(lines) + "\n")
    assert read(path, is_exim=True) == ([], [])
    assert not is_exim_log(path)


@given(texts=st.lists(st.text(max_size=60), max_size=8), is_exim=st.booleans())
@example(texts=['{"enforcement": 1, "at": "2026-11-24T10:37:05"'], is_exim=False)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_is_too_hostile(tmp_path: Path, *, texts: list[str], is_exim: bool) -> None:
    """Whatever stands in a log, alone or in place of a value: our own line at its end is the one decision kept."""
    inside = [
        exim_line(ours=OURS.replace("mail.contoso.com", text)) if is_exim else milter_line(server=text)
        for text in texts
    ]
    lines = [*texts, *inside, exim_line() if is_exim else milter_line()]
    path = tmp_path / "log"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    decisions, rejects = read(path, is_exim=is_exim)
    assert decisions[-1] == FOUND
    assert all(str(reason).isprintable() and len(str(kept)) <= 200 for _, reason, kept in rejects)


def test_logs_go_into_the_store_and_out_again(tmp_path: Path) -> None:
    """They are found in folders, packed or not; never traffic; forgotten by import and by day."""
    folder, store = tmp_path / "log", tmp_path / "store"
    folder.mkdir()
    (folder / "decisions.log").write_text(
        milter_line() + "\n" + milter_line(at="2026-11-25T00:00:00Z", server=None) + "\n"
    )
    (folder / "mainlog.1.gz").write_bytes(gzip.compress((exim_line() + "\n2026-11-24 10:37:06 Completed\n").encode()))
    (folder / "other.log").write_text("2026-11-24 10:37:05 started\n")
    (folder / "mail.csv").write_text("sent_at,server,build\n2026-01-31T07:05:09Z,mail.contoso.com,15.1.2507.61\n")
    done = intake.import_sources(store, find_sources(folder))
    counts = {Path(each.source).name: (each.rows_read, each.rows_stored, each.rows_rejected) for each in done.records}
    assert counts == {"decisions.log": (2, 2, 0), "mainlog.1.gz": (1, 1, 0), "mail.csv": (1, 1, 0)}
    assert any("files passed over" in note for each in done.records for note in each.notes)
    assert all(each.already_imported for each in intake.import_sources(store, find_sources(folder)).records)
    with open_store(store) as opened:
        assert opened.query("select sum(messages)::int from traffic").item() == 1
        found = opened.query(
            "select server, tenant, build, reason, policy_serial from decisions order by decided_at"
        ).rows()
    assert found[0] == ("mail.contoso.com", "contoso.com", "15.1.2507.6", "enforced", SERIAL)
    assert found[-1] == (None, None, "15.1.2507.6", "enforced", SERIAL)
    forgotten = {record.source: record.import_id for record in done.records}
    assert intake.forget(store, import_id=forgotten[str(folder / "mail.csv")], before=None).decisions == 0
    assert intake.forget(store, import_id=None, before=datetime(2026, 11, 25).date()).decisions == 2
    with open_store(store) as opened:
        assert opened.query("select count(*) from decisions").item() == 1
        assert opened.servers().is_empty()  # the one decision left names none
        assert opened.builds()["build"].to_list() == ["15.1.2507.6"]


def test_a_log_that_has_grown_or_was_packed_is_told(tmp_path: Path) -> None:
    """Those of another server or second are not the same decisions; blank values are alike."""
    nothing = dict.fromkeys(("server", "build", "stage"))
    before = [milter_line(), milter_line(reason="not direct", **nothing), milter_line(reason="failure", **nothing)]
    new = [milter_line(server="other.contoso.com"), milter_line(at="2026-11-24T10:37:06Z")]
    logs = {"a.jsonl": before, "b.jsonl": new, "c.jsonl": [*before[:2], milter_line(build="15.1.2507.7")]}
    notes, store = {}, tmp_path / "store"
    for name, lines in logs.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        [record] = intake.import_sources(store, find_sources(tmp_path / name)).records
        notes[name] = record.notes
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress("\n".join(before).encode()))
    [record] = intake.import_sources(store, find_sources(packed)).records
    assert not notes["a.jsonl"]
    assert not notes["b.jsonl"]
    assert notes["c.jsonl"][0].startswith("decisions that were already there from import 1: 2 (the same log may")
    assert record.notes[0].startswith("decisions that were already there from imports 1, 3: 3 (the same log may")


def test_a_log_without_decisions_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mainlog"
    path.write_text("2026-11-24 10:37:05 started\n")
    with pytest.raises(ValueError, match="a log of decisions can be read too"):
        find_sources(path)
