"""A real Postfix with the milter says what `decide` says, whatever its peers and its files look like."""

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import smtplib
import socket
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from conftest import absent
from worlds import run, store_of

from enforcement.export.postfix_server import DOMAIN, PostfixServer, postfix_server
from enforcement.export.target import Lookup, Peer, Reason, answer, read_lookup
from enforcement.exporting import Order, export_policy
from enforcement.policy import OnFailure
from enforcement.workbench import Setting

SERVER, OTHER = "mail.contoso.example", "mail.fabrikam.example"
EX2013 = "15.0.1497.48"
IDENTITIES = f"identity,server\n192.0.2.1,{SERVER}\n2001:db8:7::/48,{SERVER}\n198.51.100.0/24,{OTHER}\n"
POLICY = """
schema_version = 1
name = "tested"
rules = [{ name = "unsupported", since = "unsupported_since" }]
cohorts = [{ name = "all", starts_on = 2000-01-01 }]
stages = [{ days = 85, throttle = 20, block = 5 }, { days = 5, throttle = 30, block = 10 }, { block = 60 }]
window = "spread"
[pause]
days_per_year = 90
[export]
service_name = "100% $Mail {x} \\"y\\""
"""


def line(server: str, build: str = EX2013) -> str:
    return (
        f"Received: from client.{server[:40]} (192.0.2.77) by\r\n {server} (192.0.2.2) with Microsoft SMTP Server"
        f" (version=TLS1_2,\r\n cipher=X) id {build}; Tue, 8 Apr 2025 13:54:44 +0000"
    )


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server on the last days of the first stage, paused a while; another one that was never vulnerable."""
    for part, there in (
        ("Postfix", shutil.which("postfix")),
        ("root", os.geteuid() == 0),
        ("the milter library (make milter)", importlib.util.find_spec("Milter")),
        ("libfaketime", shutil.which("faketime")),
    ):
        if not there:
            absent(f"no {part} here")
    folder = tmp_path_factory.mktemp("export")
    store = store_of(
        folder / "s.duckdb",
        [
            ("2024-01-01T10:00", SERVER, EX2013),
            ("2024-03-21T10:00", SERVER, EX2013),
            ("2024-03-21T10:00", OTHER, "15.1.2507.37"),
        ],
    )
    (folder / "tested.toml").write_text(POLICY)
    (folder / "identities.csv").write_text(IDENTITIES)
    (folder / "pauses.csv").write_text("tenant,from,days\ncontoso.example,2024-03-24,2\n")
    export_policy(
        str(folder / "tested.toml"),
        Setting(store=store, pauses=folder / "pauses.csv"),
        Order(out=folder / "out", identities=folder / "identities.csv"),
    )
    return folder / "out"


@pytest.fixture(scope="module")
def running(export: Path) -> Iterator[PostfixServer]:
    with postfix_server(export) as server:
        yield server


def decided(server: PostfixServer) -> list[dict[str, object]]:
    return [json.loads(each) for each in server.decisions.read_text().splitlines()]


def agrees(export: Path, running: PostfixServer, cases: list[tuple[Peer, datetime]]) -> list[Reason]:
    """Check code and text of every case, and give the reasons that came up."""
    lookup = read_lookup((export / "postfix" / "tables.json").read_bytes())
    found = []
    for (peer, at), (code, text) in zip(cases, running.replies(cases), strict=True):
        wanted = answer(lookup, peer, at)
        if wanted.reply is None:
            assert code == 250, (peer, at, text)
        else:
            assert f"{code} {text}" == wanted.reply.text
        found.append(wanted.reason)
    return found


def test_every_minute_of_every_stage_is_answered_as_decided(export: Path, running: PostfixServer) -> None:
    cases = [
        (Peer([line(SERVER)]), datetime(day.year, day.month, day.day, 7, minute, second))
        for day in (date(2024, 3, 22) + timedelta(days=n) for n in (0, 2, 4, 5, 6, 10, 11, 13, 14, 15))
        for minute in range(60)
        for second in (0, 59)
    ]
    reasons = agrees(export, running, cases)
    assert len(cases) == 1_200
    assert set(reasons) == {Reason.ENFORCED, Reason.STANDING_STILL, Reason.EXPIRED}
    assert {each["verdict"] for each in decided(running)} == {"accept", "defer", "reject"}


def test_stages_change_at_midnight(export: Path, running: PostfixServer) -> None:
    """Clock 85, two days paused, is on 2024-03-28; clock 90 on 2024-04-02."""
    changes = []
    for day in (date(2024, 3, 28), date(2024, 4, 2)):
        midnight = datetime(day.year, day.month, day.day)
        around = [midnight - timedelta(seconds=1), midnight]
        agrees(export, running, [(Peer([line(SERVER)]), at) for at in around])
        changes.append([each["stage"] for each in decided(running)[-2:]])
    assert changes == [[1, 2], [2, 3]]


def test_who_hands_over_and_what_it_shows_decide(export: Path, running: PostfixServer) -> None:
    at = datetime(2024, 4, 3, 7)
    relay = "Received: from a.example by relay.example (Postfix) with ESMTP id 1; Tue, 8 Apr 2025 13:54:44 +0000"
    cases = {
        Reason.NEW_DETECTION: [Peer([line("new.example")]), Peer([line(OTHER)])],
        Reason.UNKNOWN_BUILD: [Peer([line(SERVER, "15.7.1.1")]), Peer([line(SERVER, "15.1.2507.999")])],
        Reason.NOT_VULNERABLE: [
            Peer([line(SERVER, "15.1.2507.37")]),
            Peer([line(SERVER, "15.1.2507.37"), line(SERVER)]),
        ],
        Reason.NOT_DIRECT: [Peer([relay, line(SERVER)])],
        Reason.NO_EXCHANGE_SERVER: [Peer([]), Peer([relay])],
        # An operator's identity wins over the name in the header, either way.
        Reason.ENFORCED: [
            Peer([line(SERVER)]),
            Peer([line("new.example")], "192.0.2.1"),
            Peer([line("new.example")], "2001:db8:7::25"),
            Peer([line(SERVER), line("other.example", "15.1.2507.37")], "203.0.113.9"),
        ],
    }
    for reason, peers in cases.items():
        assert agrees(export, running, [(peer, at) for peer in peers]) == [reason] * len(peers)
    assert agrees(export, running, [(Peer([line(SERVER)], "198.51.100.7"), at)]) == [Reason.NEW_DETECTION]


def test_each_message_is_of_the_peer_that_its_case_names(running: PostfixServer) -> None:
    """Also when the one before came from another address, or from one of the other family."""
    at = datetime(2024, 4, 3, 7)
    addresses = ["203.0.113.9", "192.0.2.1", "2001:db8:8::25", "2001:db8:7::25", "203.0.113.9"]
    codes = [code for code, _ in running.replies([(Peer([line("new.example")], each), at) for each in addresses])]
    assert codes == [250, 550, 250, 550, 250]
    with pytest.raises(RuntimeError, match="Postfix takes no mail as from nowhere"):
        next(running.replies([(Peer([], "nowhere"), at)]))


@pytest.mark.parametrize(
    "name",
    ["a" * 2_000, 'x"y', "x$y", "x{y}", "x:y", "x y", "ünï.example", "x\\y", "[2001:db8::1]", "x' or 1=1", "%s%n", "-"],
)
def test_no_name_changes_what_another_server_meets(export: Path, running: PostfixServer, name: str) -> None:
    at = datetime(2024, 4, 3, 7)
    before = len(decided(running))
    hostile = [(Peer([line(name)]), at), (Peer([line(name), line(SERVER)]), at)]
    assert Reason.ENFORCED not in agrees(export, running, hostile)
    assert agrees(export, running, [(Peer([line(SERVER)]), at)]) == [Reason.ENFORCED]
    logged = decided(running)[before:]
    assert logged[-1]["server"] == SERVER
    assert len(logged) <= 3


def test_the_log_holds_nothing_of_ordinary_mail(running: PostfixServer) -> None:
    before = len(decided(running))
    forged = '{"enforcement": 1, "verdict": "reject"}'
    running.clock.put(datetime(2024, 4, 3, 7))
    with smtplib.SMTP("127.0.0.1", running.port) as client:
        client.ehlo("client.test")
        sent = client.sendmail("a@b.test", [f"x@{DOMAIN}"], f"Subject: {forged}\r\nX: {forged}\r\n\r\n{forged}\r\n")
    assert sent == {}
    assert len(decided(running)) == before


@pytest.mark.parametrize("on_failure", list(OnFailure))
def test_without_tables_or_milter_mail_meets_what_the_policy_says(
    export: Path, tmp_path: Path, on_failure: OnFailure
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(export, copy)
    whole = (copy / "postfix" / "tables.json").read_bytes()
    blocked, free = (Peer([line(SERVER)]), datetime(2024, 4, 3, 7)), (Peer([]), datetime(2024, 4, 3, 7))
    codes = {OnFailure.ACCEPT: [250, 250], OnFailure.DEFER: [450, 450]}[on_failure]
    with postfix_server(copy, on_failure=on_failure) as server:
        assert [code for code, _ in server.replies([blocked, free])] == [550, 250]
        for damage in (whole.replace(b'"block":60', b'"block":50', 1), whole[:-100], b"", None):
            (copy / "postfix" / "tables.json").unlink(missing_ok=True)
            if damage is not None:
                (copy / "postfix" / "tables.json").write_bytes(damage)
            assert [code for code, _ in server.replies([blocked, free])] == codes
            assert [each["reason"] for each in decided(server)[-2:]] == ["failure"] * 2
        (copy / "postfix" / "tables.json").unlink(missing_ok=True)
        (copy / "postfix" / "tables.json").write_bytes(whole)
        assert [code for code, _ in server.replies([blocked, free])] == [550, 250]
        assert server.milter is not None
        server.milter.send_signal(signal.SIGKILL)
        server.milter.wait()
        dead = [code for code, _ in server.replies([blocked, free])]
        assert dead == {OnFailure.ACCEPT: [250, 250], OnFailure.DEFER: [451, 451]}[on_failure]


def test_a_newer_export_is_in_force_at_once(export: Path, tmp_path: Path) -> None:
    """The link that `install` keeps is moved to an export whose policy blocks nothing."""
    newer = tmp_path / "newer"
    shutil.copytree(export, newer)
    tables = json.loads((newer / "postfix" / "tables.json").read_bytes())
    tables["servers"][SERVER]["calendar"] = {}
    written = json.dumps(tables).encode()
    (newer / "postfix" / "tables.json").write_bytes(written)
    manifest = json.loads((newer / "manifest.json").read_bytes())
    manifest["files"]["postfix/tables.json"]["sha256"] = hashlib.sha256(written).hexdigest()
    (newer / "manifest.json").write_text(json.dumps(manifest))
    current, moved = tmp_path / "current", tmp_path / "moved"
    current.symlink_to(export)
    moved.symlink_to(newer)
    case = (Peer([line(SERVER)]), datetime(2024, 4, 3, 7))
    with postfix_server(current) as server:
        assert next(server.replies([case]))[0] == 550
        moved.rename(current)
        assert next(server.replies([case]))[0] == 250
        assert decided(server)[-1]["reason"] == str(Reason.NEW_DETECTION)


def test_a_fault_that_passes_ends_with_it(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files, once: the next message finds the policy in force, though no file has changed."""
    from enforcement.export import milter  # noqa: PLC0415 - its library may not be there

    read, faults = milter._read, [OSError(24, "Too many open files")]

    def reads(folder: Path) -> Lookup:
        if faults:
            raise faults.pop()
        return read(folder)

    monkeypatch.setattr(milter, "_read", reads)
    installed = milter.Installed(export, OnFailure.ACCEPT)
    at = datetime(2024, 4, 3, 7)
    reasons = [installed.answer(Peer([line(SERVER)]), at)[0].reason for _ in range(2)]
    assert reasons == [Reason.FAILURE, Reason.ENFORCED]


def test_a_manifest_nested_without_end_is_damage(tmp_path: Path) -> None:
    from enforcement.export import milter  # noqa: PLC0415 - its library may not be there

    (tmp_path / "manifest.json").write_text("[" * 100_000)
    installed = milter.Installed(tmp_path, OnFailure.DEFER)
    assert installed.answer(Peer([line(SERVER)]), datetime(2024, 4, 3, 7))[0].reason is Reason.FAILURE


def test_no_milter_takes_the_socket_of_another(export: Path, tmp_path: Path) -> None:
    """Nor a file, nor what its library would misread and listen somewhere else."""
    taken, file = tmp_path / "taken.sock", tmp_path / "file"
    file.touch()
    with socket.socket(socket.AF_UNIX) as other, socket.socket() as port:
        other.bind(str(taken))
        other.listen()
        port.bind(("127.0.0.1", 0))
        port.listen()
        number = port.getsockname()[1]
        refusals = {
            f"unix:{taken}": "another milter answers there",
            f"unix:{file}": "is there and is no socket",
            f"unix:{tmp_path}/none/s": "no such folder",
            f"unix:{tmp_path}/{'x' * 200}": "nothing can listen there",
            f"inet:{number}@127.0.0.1": "nothing can listen there",
            "inet:99999@127.0.0.1": "not a port",
            "nonsense": "not a socket",
            "unix:": "not a socket",
        }
        for where, told in refusals.items():
            done = run("milter", export, "--socket", where)
            assert done.returncode == 2
            assert told in done.stderr.splitlines()[-1], where
        assert taken.is_socket()
    assert file.is_file()
    from enforcement.export.milter import _expect_free  # noqa: PLC0415 - its library may not be there

    _expect_free(f"unix:{taken}")  # the one that listened has ended
