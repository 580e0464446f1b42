"""Exim with the export: hostile peers, damaged files, certificates, and a look-up that does not grow."""

import contextlib
import hashlib
import random
import re
import shutil
import smtplib
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from exports import EX2013, World, make_world
from mail_servers import need_exim

from enforcement.builds import Evidence
from enforcement.export.conformance import Answer, Vector
from enforcement.export.exim import exim_files, table_of
from enforcement.export.exim_acl import LONGEST_LINE
from enforcement.export.exim_server import Decided, EximServer, Session, evaluated, exim_server
from enforcement.export.target import FAILURE_REPLY, Peer, answer, read_lookup
from enforcement.export.vectors import line
from enforcement.importers.decision_logs import read_decision_log

AT = datetime(2024, 4, 1, 13, 30)
SERVER = "mx8.example"  # blocked all day
DECISION = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[\d+\] (?:\S{6}-\S{6}-\S\S )?enforcement1 serial=(?P<serial>\S+) "
    r"verdict=(?P<verdict>\S+) reason=(?P<reason>\S+) stage=(?P<stage>\S+) cohort=(?P<cohort>\S+) "
    r"server=(?P<server>\S+) build=(?P<build>\S+) at=\d+"
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    need_exim()
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def running(world: World) -> Iterator[EximServer]:
    with exim_server(world.out) as server:
        server.clock.put(AT)
        yield server


def logged(server: EximServer) -> list[dict[str, str]]:
    lines = server.log.read_text(errors="replace").splitlines() if server.log.exists() else []
    return [found.groupdict() for each in lines if (found := DECISION.fullmatch(each))]


def sent(server: EximServer, received: Sequence[str], ip: str = "203.0.113.9", **more: str) -> tuple[int, str]:
    with contextlib.closing(Session(server.port, ip)) as session:
        return session.send(received, **more)


def vectors_of(lines: Sequence[Sequence[str]], at: datetime = AT) -> list[Vector]:
    return [
        Vector(
            id=number, at=at.replace(tzinfo=UTC), received=tuple(each), ip="203.0.113.9", direct=True,
            expect=Answer(verdict="accept"),
        )
        for number, each in enumerate(lines)
    ]  # fmt: skip


def decided_by_the_model(world: World, lines: Sequence[Sequence[str]], at: datetime = AT) -> list[Decided]:
    lookup = read_lookup((world.out / "postfix" / "tables.json").read_bytes())
    found = []
    for each in lines:
        said = answer(lookup, Peer(each, "203.0.113.9"), at)
        found.append(
            Decided(
                str(said.verdict),
                str(said.reason).replace(" ", "_"),
                str(said.stage or "-"),
                said.server or "-",
                said.build or "-",
                said.reply.text if said.reply else "",
            )
        )
    return found


WORDS = (
    "by", "BY", "with", "With", "Microsoft", "SMTP", "Server", "Microsoft SMTP Server", "id", "ID", EX2013,
    "id 15.1.2507.6", "15.00.1497.048", "15.20.1.1", "015.020.1.1", "15.20.1", "15.70000.1.1", "15.65535.1.1", SERVER,
    "MX8.Example.", "(", ")", "(a)", "(b (c) d)", "((x)", "<", ">", "<a b>", '"', '"a b"', ";", ";;", "\n\t", "\n ",
    "\t", "from", "mapi", "[2001:db8::25]", "[IPv6:2001:DB8::25]", "::1", "[mx.a]", "[mx.a", "mx..a", "a.", "-", "_",
    "é", "=", "$x", "${run{x}}", "{", "}", "\\", "\\N", "|", ",", "abc", "fe80::1%eth0", "[fe80::1%e-t.h]", "::1%",
    "%x", "fe80::1%a]", "[1.2.3.4]", "with mapi id 15.1.2507.6", "for <a@b>", "1::2::3", "15.1.2507.6.7",
    "999999.1.1.1", "::", ":", f"by {SERVER} (x) with Microsoft SMTP Server id {EX2013}; now",
)  # fmt: skip


def test_a_received_line_means_what_it_means_to_the_import(world: World) -> None:
    """20,000 lines, mangled at random: the same reason, server, build, and reply as by received.py."""
    rng = random.Random(11)
    good = line(SERVER, EX2013, AT).removeprefix("Received: ").split(" ")

    def mangled() -> str:
        words = list(good) if rng.random() < 0.6 else [rng.choice(WORDS) for _ in range(rng.randrange(1, 25))]
        for _ in range(rng.choice((1, 1, 2, 3, 5))):
            place, act = rng.randrange(len(words) + 1), rng.random()
            if act < 0.4 or place == len(words):
                words.insert(place, rng.choice(WORDS))
            elif act < 0.7:
                words[place] = rng.choice(WORDS)
            elif act < 0.8:
                words[place] += rng.choice(WORDS)
            else:
                del words[place]
        return "Received: " + " ".join(words)

    lines = [[mangled() for _ in range(rng.choice((1, 1, 1, 2, 3)))] for _ in range(20_000)]
    with evaluated(world.out) as exim:
        got = exim.decisions(vectors_of(lines))
    wanted = decided_by_the_model(world, lines)
    assert len({each.reason for each in wanted}) >= 5
    differ = [
        (received, mine, theirs)
        for received, mine, theirs in zip(lines, wanted, got, strict=True)
        if mine[:5] != theirs[:5] or (mine.reply != theirs.reply and mine.verdict != "accept")
    ]
    assert not differ, (len(differ), differ[:3])


def test_where_exim_reads_less_than_the_import(world: World) -> None:
    """All differences that are known; each accepts what the model would enforce."""
    long = line(SERVER, EX2013, AT).replace("(version=TLS1_2)", f"({'x' * LONGEST_LINE})")
    lines = [[long]]
    with evaluated(world.out) as exim:
        (got,) = exim.decisions(vectors_of(lines))
    (wanted,) = decided_by_the_model(world, lines)
    assert (wanted.verdict, wanted.reason) == ("reject", "enforced")
    assert (got.verdict, got.reason, got.build) == ("accept", "unknown_build", "-")


HOSTILE = (
    "x\r\n y", 'a"b', "$sender_host_address", "${run{/bin/touch /tmp/x}}", "{", "}", "${", "a:b", "a b", "x" * 2_000,
    "münchen.example", f"{SERVER}\\n", f"{SERVER}|", f"{SERVER}=1", "%s%n", "\x01", "'; drop", "\\N", "]]",
    "enforcement1", "-",
)  # fmt: skip


def test_hostile_names_change_nothing_for_others(running: EximServer) -> None:
    """Each is accepted and gets one line of the right shape in the log; the server beside it is refused as ever."""
    for name in HOSTILE:
        before = len(logged(running))
        code, text = sent(running, [line(name, EX2013, AT)])
        assert code == 250, (name, text)
        code, text = sent(running, [line(SERVER, EX2013, AT)])
        assert (code, text.split(" ", 1)[0]) == (550, "5.7.230"), name
        new = logged(running)[before:]
        assert [each["reason"] for each in new] in (
            ["new_detection", "enforced"],
            ["enforced"],  # a name that makes the line one that no Exchange server writes
            ["unknown_build", "enforced"],
        ), (name, new)
        assert new[-1]["server"] == SERVER
        assert SERVER not in {each["server"] for each in new[:-1]}


def test_the_log_says_in_utc_when_it_decided(world: World) -> None:
    """An Exim that writes its log in the time of New York, four or five hours behind: the decision is of now."""
    now = datetime.now(tz=UTC).replace(tzinfo=None)
    zone = "tls_advertise_hosts =\ntimezone = America/New_York"
    with exim_server(world.out, tls=zone, real_clock=True) as server:
        assert sent(server, [line(SERVER, EX2013, AT)])[0] == 250  # the export has expired long ago
        written = datetime.fromisoformat(server.log.read_text().splitlines()[-1][:19])
        (batch,) = read_decision_log(server.log, is_exim=True)
    assert now - written > timedelta(hours=3)
    assert batch.decisions is not None
    (decided_at,) = batch.decisions["decided_at"]
    assert timedelta(seconds=-1) <= decided_at - now <= timedelta(minutes=2)


def test_no_text_of_a_peer_makes_a_line_of_the_log(running: EximServer) -> None:
    """HELO, sender, recipient, subject and header may say what they like."""
    forged = (
        "2024-04-01 13:30:00 [1] enforcement1 serial=1 verdict=reject reason=enforced stage=6 cohort=2013"
        f" server={SERVER} build={EX2013}"
    )
    before = len(logged(running))
    for command in (
        f"EHLO {forged}", "EHLO x\n" + forged, f"HELO [{forged}]", f"MAIL FROM:<{forged}>", f'MAIL FROM:<"{forged}"@x>',
        f"VRFY {forged}", f"RCPT TO:<{forged}>", forged,
    ):  # fmt: skip
        with contextlib.closing(Session(running.port, "203.0.113.9")) as session, contextlib.suppress(OSError):
            session.command(command)
            session.command("NOOP")
    assert sent(running, [f"Received: {forged}"], more=f"Subject: x\r\n {forged}\r\n{forged}")[0] in (250, 550)
    with contextlib.closing(Session(running.port, "203.0.113.9", helo=f"a\r{forged}")) as session:
        session.send([line(f"x\r\n {forged}", EX2013, AT)])
    new = logged(running)[before:]
    assert all(each["server"] != SERVER for each in new), new


def test_names_of_the_store_and_texts_of_the_policy_are_only_texts(world: World) -> None:
    """Servers, cohorts and a service that look like Exim's own language, in the tables of a made-up export."""
    policy = world.known.policy
    service = "${if eq{1}{1}{a}} $h_x: \\N%"
    hostile = policy.model_copy(update={"export": policy.export.model_copy(update={"service_name": service})})
    names = ["_", "0", "12345", "s", "serial", "meta", "a-b", "-x", "z" * 255, "fe80::1%eth0", "::ffff:102:304"]
    rows = world.known.servers.filter(server=SERVER)
    servers = pl.concat([rows, *(rows.with_columns(server=pl.lit(name)) for name in names)])
    spans = world.known.calendar.filter(server=SERVER)
    calendar = pl.concat([spans.with_columns(server=pl.lit(name)) for name in (SERVER, *names)])
    known = replace(world.known, policy=hostile, servers=servers, calendar=calendar)
    lines = [[line(name, EX2013, AT)] for name in (SERVER, *names)]
    with _changed(world, exim_files(known)) as out, evaluated(out) as exim:
        got = exim.decisions(vectors_of(lines))
    opening = "550 5.7.230 Connecting Exchange server version is out-of-date; connection to"
    assert {each.reply for each in got} == {f"{opening} {service} blocked for 60 mins/hr."}
    assert [each.server for each in got] == [SERVER, *names]


@contextlib.contextmanager
def _changed(world: World, files: dict[str, bytes]) -> Iterator[Path]:
    """Write an export of these files alone beside the world's."""
    out = world.out.with_name("changed")
    for name, content in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    yield out
    shutil.rmtree(out)


def test_a_damaged_table_is_found_wherever_a_byte_has_changed(world: World) -> None:
    """Any byte of the tables that a message needs: the same answer as before, or a failure; never another answer."""
    files = exim_files(world.known)
    n_tables = sum(name.startswith("exim/tables/") for name in files) - 1
    needed = {"meta", table_of(f"s:{SERVER}", n_tables), table_of(f"b:{EX2013}", n_tables)}
    asked = vectors_of([[line(SERVER, EX2013, AT)]])
    with _changed(world, files) as out, evaluated(out) as exim:
        tables = exim.config.parent / "exim" / "tables"
        (whole,) = exim.decisions(asked)
        assert whole.verdict == "reject"
        found = set()
        for name in sorted(needed):
            content = (tables / name).read_bytes()
            step = max(len(content) // 40, 1)
            for place in (*range(0, len(content), step), len(content) - 1):
                for change in (0x01, 0x80):
                    (tables / name).write_bytes(
                        content[:place] + bytes([content[place] ^ change]) + content[place + 1 :]
                    )
                    (got,) = exim.decisions(asked)
                    assert got == whole or (got.verdict, got.reason) == ("accept", "failure"), (name, place, got)
                    found.add(got.reason)
            for damaged in (b"", content[:-1], content[: len(content) // 2], content * 2, b"\x00" * 500):
                (tables / name).write_bytes(damaged)
                (got,) = exim.decisions(asked)
                assert got == whole or (got.verdict, got.reason) == ("accept", "failure"), (name, damaged[:20], got)
            (tables / name).write_bytes(content)
        assert found == {"failure"}
        # One table in another's place, and one of another export.
        first, second = sorted(needed - {"meta"})[:2] if len(needed) > 2 else (min(needed), "meta")
        kept = (tables / first).read_bytes()
        (tables / first).write_bytes((tables / second).read_bytes())
        assert exim.decisions(asked)[0].reason == "failure"
        older = exim_files(replace(world.known, serial=2024032000))
        (tables / first).write_bytes(older[f"exim/tables/{first}"])
        assert exim.decisions(asked)[0].reason == "failure"
        (tables / first).write_bytes(kept)
        assert exim.decisions(asked)[0] == whole


@pytest.mark.parametrize("on_failure", ["accept", "defer"])
def test_missing_and_damaged_files_do_what_the_policy_says(on_failure: str, tmp_path: Path) -> None:
    """In a real Exim: no folder, no meta table, not readable, damaged; loudly in both logs; then whole again."""
    need_exim()
    world = make_world(tmp_path / "world", on_failure=on_failure)
    wanted = (250, "") if on_failure == "accept" else (450, FAILURE_REPLY.text.removeprefix("450 "))
    received = [line(SERVER, EX2013, AT)]
    with exim_server(world.out) as server:
        server.clock.put(AT)
        assert sent(server, received)[0] == 550
        tables = server.export / "tables"
        meta = (tables / "meta").read_bytes()

        def fails() -> None:
            before = len(logged(server))
            code, text = sent(server, received)
            assert (code, text if code == 450 else "") == wanted
            (new,) = logged(server)[before:]
            assert (new["reason"], new["verdict"]) == ("failure", on_failure)

        tables.rename(tables.with_name("away"))
        fails()
        tables.with_name("away").rename(tables)
        (tables / "meta").unlink()
        fails()
        (tables / "meta").mkdir()
        fails()
        (tables / "meta").rmdir()
        (tables / "meta").write_bytes(meta)
        (tables / "meta").chmod(0o600)
        fails()
        (tables / "meta").chmod(0o644)
        (tables / "meta").write_bytes(meta.replace(b"on_failure=", b"on-failure="))
        fails()
        (tables / "meta").write_bytes(meta)
        for path in tables.iterdir():
            if path.name != "meta":
                path.write_bytes(path.read_bytes()[:-2] + b"x\n")
        fails()
        assert sent(server, ["Received: from a by b; now"])[0] == 250  # it needs no other table
        panic = server.log.with_name("panic").read_text()
        assert panic.count("enforcement tables missing or damaged") == 6


def test_a_new_export_holds_from_the_next_message_on(world: World) -> None:
    """Within one session, and with no reload."""
    later = replace(world.known, not_after=date(2024, 3, 31))
    with exim_server(world.out) as server, contextlib.closing(Session(server.port, "203.0.113.9")) as session:
        server.clock.put(AT)
        assert session.send([line(SERVER, EX2013, AT)])[0] == 550
        made = server.export / "tables.new"
        made.mkdir()
        for name, content in exim_files(later).items():
            if name.startswith("exim/tables/"):
                (made / Path(name).name).write_bytes(content)
        (server.export / "tables").rename(server.export / "tables.old")
        made.rename(server.export / "tables")
        assert session.send([line(SERVER, EX2013, AT)])[0] == 250
        assert logged(server)[-1]["reason"] == "expired"


def test_a_client_certificate_says_who_it_is(world: World, tmp_path: Path) -> None:
    """Its server is enforced whatever the header calls itself; without it the header counts."""
    for who in ("server", "client"):
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", f"/CN={who}",
                "-keyout", tmp_path / f"{who}.key", "-out", tmp_path / f"{who}.pem",
            ],
            check=True, capture_output=True,
        )  # fmt: skip
    der = ssl.PEM_cert_to_DER_cert((tmp_path / "client.pem").read_text())
    known = replace(world.known, identities={f"sha256:{hashlib.sha256(der).hexdigest()}": SERVER})
    with _changed(world, exim_files(known)) as out:
        (out / "exim" / "server.pem").write_bytes(
            (tmp_path / "server.pem").read_bytes() + (tmp_path / "server.key").read_bytes()
        )
        (out / "exim" / "clients.pem").write_bytes((tmp_path / "client.pem").read_bytes())
        tls = (
            "tls_advertise_hosts = *\ntls_certificate = ENFORCEMENT_DIR/server.pem\n"
            "tls_try_verify_hosts = *\ntls_verify_certificates = ENFORCEMENT_DIR/clients.pem\n"
        )
        with exim_server(out, tls=tls) as server:
            server.clock.put(AT)
            for certificate, wanted in ((None, 250), (tmp_path / "client.pem", 550)):
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                if certificate:
                    context.load_cert_chain(certificate, tmp_path / "client.key")
                with _Proxied("127.0.0.1", server.port, timeout=30) as client:
                    client.starttls(context=context)
                    client.ehlo()
                    client.mail("a@b.test")
                    client.rcpt("x@lab.test")
                    code, _ = client.data(line("stranger.example", EX2013, AT) + "\r\n\r\ntext\r\n")
                assert code == wanted, server.log.read_text()
            assert [each["server"] for each in logged(server)] == ["stranger.example", SERVER]


class _Proxied(smtplib.SMTP):
    """A client that says first, as the harness asks, where it comes from."""

    said_where = False

    def getreply(self) -> tuple[int, bytes]:
        if not self.said_where and self.sock is not None:
            self.sock.sendall(b"PROXY TCP4 203.0.113.9 192.0.2.25 40000 25\r\n")
            self.said_where = True
        return super().getreply()


def test_a_lookup_does_not_grow_with_the_rows(world: World) -> None:
    """50,000 servers: tables of the same size as for 500, and no decision that takes much longer."""
    took = {}
    for n_servers in (500, 50_000):
        row, span = world.known.servers.filter(server=SERVER), world.known.calendar.filter(server=SERVER)
        names = pl.DataFrame({"server": [f"mx{n}.fleet.example" for n in range(n_servers)]})
        servers = names.join(row.drop("server"), how="cross").select(row.columns)
        calendar = names.join(span.drop("server"), how="cross").select(span.columns)
        start = time.perf_counter()
        files = exim_files(replace(world.known, servers=servers, calendar=calendar))
        assert time.perf_counter() - start < 20
        assert max(len(content) for name, content in files.items() if "tables/" in name) < 40_000
        lines = [[line(f"mx{n % n_servers}.fleet.example", EX2013, AT)] for n in range(0, 40_000, 20)]
        with _changed(world, files) as out, evaluated(out) as exim:
            exim.decisions(vectors_of(lines[:10]))
            start = time.perf_counter()
            got = exim.decisions(vectors_of(lines))
            took[n_servers] = time.perf_counter() - start
        assert {each.verdict for each in got} == {"reject"}
    assert took[50_000] < 3 * took[500] + 1, took


@pytest.mark.parametrize("kept", [(), ("192.0.2.0/24",), ("2001:db8:7::/48",), ("192.0.2.1",)])
def test_some_identities_or_none(world: World, kept: tuple[str, ...]) -> None:
    """The name in the header counts for whoever is not identified, over IPv4 and IPv6."""
    known = replace(world.known, identities={key: world.known.identities[key] for key in kept})
    asked = [
        each.model_copy(update={"ip": ip})
        for ip in ("203.0.113.9", "2001:db8::9", "")
        for each in vectors_of([[line(SERVER, EX2013, AT)]])
    ]
    with _changed(world, exim_files(known)) as out, evaluated(out) as exim:
        assert [(each.verdict, each.server) for each in exim.decisions(asked)] == [("reject", SERVER)] * 3


def test_the_files_are_the_same_each_time_and_the_acl_for_every_policy(world: World) -> None:
    files = exim_files(world.known)
    assert files == exim_files(world.known)
    other = replace(world.known, policy=world.known.policy.model_copy(update={"name": "other"}), serial=1)
    assert exim_files(other)["exim/enforcement.acl"] == files["exim/enforcement.acl"]
    assert {name: (world.out / name).read_bytes() for name in files} == files
    unknown = world.known.builds.filter(pl.col("evidence") == Evidence.UNKNOWN)["build"]
    assert not any(f"b:{build}=".encode() in b"".join(files.values()) for build in unknown)


def test_names_that_are_addresses_are_found_however_they_are_written(world: World) -> None:
    names = ("2001:db8::25", "[2001:DB8:0:0::25]", "[IPv6:2001:0db8::0025]", "ipv6:2001:db8::25")
    at = AT + timedelta(minutes=0)
    lines = [[line(name, EX2013, at)] for name in names]
    with evaluated(world.out) as exim:
        got = exim.decisions(vectors_of(lines))
    assert {(each.server, each.reason) for each in got} == {("2001:db8::25", "enforced")}
