"""A real Exim with the ACL of an export, on loopback and by a clock of its own, to see what it says."""

import base64
import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from enforcement.export.conformance import Answer, Target, Vector, answer_of_reply
from enforcement.export.loopback import WAIT_SECONDS, Clock, answers, free_port, stop, wait_for

DOMAIN: Final = "lab.test"
_USER: Final = "Debian-exim"
_MESSAGES_A_SESSION: Final = 20
_LINES_A_PROCESS: Final = 5_000  # `exim -be` gives no memory back between lines, as it does between messages
_NOTHING: Final = "-"
# What the harness puts before the ACLs: the same decision for values that are given.
_EVALUATE: Final = r"""begin acl
evaluate:
  warn    set acl_m_enf_lines = ${base64d:$acl_arg1}
          set acl_m_enf_address = $acl_arg2
          set acl_m_enf_certificate = $acl_arg3
          set acl_m_enf_now = $acl_arg4
          acl = enforcement_decide
  accept  message = =$acl_m_enf_verdict|$acl_m_enf_reason|$acl_m_enf_stage|$acl_m_enf_server|$acl_m_enf_build|\
                    ${if eq{$acl_m_enf_verdict}{accept}{}{$acl_m_enf_reply}}
"""
_HARNESS: Final = """keep_environment = ^FAKETIME : ^LD_PRELOAD : ^DONT_FAKE
spool_directory = {folder}/spool
log_file_path = {folder}/log/%s
pid_file_path = {folder}/exim.pid
log_selector = +pid
hosts_proxy = 127.0.0.1
smtp_accept_max = 100
smtp_accept_max_nonmail = 1000000
smtp_accept_queue_per_connection = 0
queue_only
{tls}
"""


def exim_program() -> str:
    """Find Exim: where ENFORCEMENT_EXIM says, on the path, or where Debian has it."""
    named = os.environ.get("ENFORCEMENT_EXIM")
    for program in (named,) if named else ("exim4", "exim", "/usr/sbin/exim4", "/usr/sbin/exim"):
        found = shutil.which(program)
        if found:
            return found
    raise LookupError("no Exim here (expected the package exim4-daemon-heavy, or ENFORCEMENT_EXIM=/path/to/exim4)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """Exim as an evaluator: its ACL asked through `exim -be`, without a message."""

    config: Path

    def answers(self, vectors: Sequence[Vector]) -> list[Answer]:
        """Answer each vector, in order."""
        return [_answer(each) for each in self.decisions(vectors)]

    def decisions(self, vectors: Sequence[Vector]) -> list["Decided"]:
        """Give all that the ACL finds out about each vector, in order."""
        found: list[Decided] = []
        for start in range(0, len(vectors), _LINES_A_PROCESS):
            asked = "".join(f"{_expansion(vector)}\n" for vector in vectors[start : start + _LINES_A_PROCESS])
            said = run_exim(["-C", str(self.config), "-be"], asked)
            found += [_decided(text[2:]) for text in said.split("\n") if text.startswith("> ") and text != "> "]
        return found


class Decided(NamedTuple):
    """What the ACL finds out about a message, as it writes it."""

    verdict: str
    reason: str
    stage: str
    server: str
    build: str
    reply: str


def _expansion(vector: Vector) -> str:
    listed = ":".join(["<: by this server", *(_body(line).replace(":", "::") for line in vector.received)])
    lines = base64.b64encode(listed.encode(errors="surrogateescape")).decode()
    text = f"${{acl{{evaluate}}{{{lines}}}{{{vector.ip}}}{{{vector.certificate or ''}}}{{{vector.seconds}}}}}"
    # Exim reads a line of at most 1,024 characters; a backslash at the end goes on in the next one.
    return "\\\n".join(text[start : start + 900] for start in range(0, len(text), 900))


def _body(line: str) -> str:
    """Give a Received line as Exim keeps it: without the name, folded with a line feed."""
    return line.partition(":")[2].replace("\r\n", "\n")


def _decided(text: str) -> Decided:
    if not text.startswith("="):
        raise RuntimeError(f"Exim: {text[:500]}")
    return Decided(*text[1:].split("|", 5))


def _answer(found: Decided) -> Answer:
    code, enhanced_code, _ = found.reply.split(" ", 2) if found.reply else ("", "", "")
    return Answer(
        verdict=found.verdict,
        code=int(code) if code else None,
        enhanced_code=enhanced_code or None,
        text=found.reply or None,
        reason=found.reason.replace("_", " "),
        stage=None if found.stage == _NOTHING else int(found.stage),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EximServer:
    """An Exim that runs: where it listens, its clock, and its log."""

    port: int
    clock: Clock
    log: Path
    export: Path  # the copy of `exim/` that it reads

    def answers(self, vectors: Sequence[Vector]) -> Iterator[Answer]:
        """Send a message for each vector at its own time, several a session, and read the reply to each."""
        session: Session | None = None
        ip = ""
        n_sent = 0
        for vector in vectors:
            if session is None or vector.ip != ip or n_sent == _MESSAGES_A_SESSION:
                if session is not None:
                    session.close()
                session, ip, n_sent = Session(self.port, vector.ip), vector.ip, 0
            self.clock.put(vector.at.replace(tzinfo=None))
            yield answer_of_reply(*session.send(vector.received))
            n_sent += 1
        if session is not None:
            session.close()


class Session:
    """An SMTP session of a peer whose address is told by the PROXY protocol."""

    def __init__(self, port: int, ip: str, helo: str = "client.example") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = self.socket.makefile("rb")
        family, here = ("TCP6", "2001:db8::25") if ":" in ip else ("TCP4", "192.0.2.25")
        self.socket.sendall(f"PROXY {family} {ip} {here} 40000 25\r\n".encode())
        self.reply()
        self.command(f"EHLO {helo}")

    def command(self, text: str) -> tuple[int, str]:
        """Send a command and read the reply."""
        self.socket.sendall(text.encode(errors="surrogateescape") + b"\r\n")
        return self.reply()

    def send(self, received: Sequence[str], more: str = "Subject: a case") -> tuple[int, str]:
        """Send a message with these Received lines, and give the reply to it."""
        for command in ("MAIL FROM:<a@b.test>", f"RCPT TO:<x@{DOMAIN}>", "DATA"):
            code, text = self.command(command)
            if code not in (250, 354):
                self.command("RSET")
                return code, text
        header = "".join(f"{line}\r\n" for field in (*received, more) for line in field.splitlines())
        return self.command(f"{header}From: a@b.test\r\n\r\ntext\r\n.")

    def reply(self) -> tuple[int, str]:
        """Read a reply and join its lines, each without the codes that it repeats."""
        lines: list[str] = []
        while True:
            line = self._read.readline().decode(errors="surrogateescape").rstrip("\r\n")
            if not line:
                raise ConnectionError(f"Exim has closed the session, after {lines}")
            lines.append(line[4:])
            if line[3:4] != "-":
                break
        head = re.match(r"[245]\.\d{1,3}\.\d{1,3} ", lines[0])
        repeated = head[0] if head else ""
        return int(line[:3]), " ".join([lines[0], *(each.removeprefix(repeated) for each in lines[1:])])

    def close(self) -> None:
        """End the session."""
        with contextlib.suppress(OSError):
            self.socket.sendall(b"QUIT\r\n")
        self._read.close()
        self.socket.close()


@contextlib.contextmanager
def evaluated(export: Path) -> Iterator[Evaluated]:
    """Let Exim evaluate the ACL of an export, until left."""
    with _folder() as folder:
        yield Evaluated(config=configure(folder, copied(export, folder), port=0))


@contextlib.contextmanager
def exim_server(
    export: Path, *, tls: str = "tls_advertise_hosts =", real_clock: bool = False, in_place: bool = False
) -> Iterator[EximServer]:
    """Run Exim with the ACL of an export in a folder of its own, until left.

    In place: the export is read where it lies, as in production, and not copied to where Exim may read it.
    """
    with _folder() as folder, contextlib.ExitStack() as stack:
        port = free_port()
        where = export / "exim" if in_place else copied(export, folder)
        config = configure(folder, where, port=port, tls=tls)
        clock = Clock(folder)
        clock.put(datetime.now(tz=UTC).replace(tzinfo=None))
        process = subprocess.Popen(  # noqa: S603 - the program that the user has installed
            [exim_program(), "-C", str(config), "-bdf"],
            env=os.environ | ({} if real_clock else clock.environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        stack.callback(stop, process)
        wait_for(lambda: answers(port), "Exim", process)
        yield EximServer(port=port, clock=clock, log=folder / "log" / "main", export=where)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder that Exim may write into."""
    if os.geteuid() != 0:
        raise LookupError("Exim starts as root only (run it as root, in a container for example)")
    with tempfile.TemporaryDirectory(prefix="enforcement-exim-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for made in ("spool", "log"):
            (folder / made).mkdir()
            shutil.chown(folder / made, _USER, _USER)
        yield folder


def copied(export: Path, folder: Path) -> Path:
    """Copy what Exim reads of an export to where it may read it, whoever may read the export."""
    made = folder / "exim"
    shutil.copytree(export / "exim", made, copy_function=shutil.copyfile)
    for path in (made, *made.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return made


def configure(folder: Path, export: Path, *, port: int, tls: str = "tls_advertise_hosts =") -> Path:
    """Write a configuration from the export's own example, for a folder and a port."""
    text = (export / "example.conf").read_text(encoding="utf-8")
    for old, new in (
        ("ENFORCEMENT_DIR = /etc/enforcement/exim", f"ENFORCEMENT_DIR = {export.absolute()}"),
        ("daemon_smtp_ports = 2525", f"daemon_smtp_ports = {port}"),
        ("tls_advertise_hosts =\n", _HARNESS.format(folder=folder, tls=tls)),
        ("begin acl\n", _EVALUATE),
    ):
        if text.count(old) != 1:
            raise ValueError(f"exim/example.conf: {old.strip()!r} is not there once (export again)")
        text = text.replace(old, new)
    config = folder / "exim.conf"
    config.write_text(text, encoding="utf-8")
    return config


def run_exim(arguments: Sequence[str], text: str = "") -> str:
    """Run Exim on a text, and give what it prints."""
    done = subprocess.run(  # noqa: S603 - the program that the user has installed
        [exim_program(), *arguments], input=text.encode(), capture_output=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"Exim: {(done.stderr or done.stdout).decode(errors='replace').strip()[-500:]}")
    return done.stdout.decode(errors="replace")


EVALUATED: Final = Target(name="exim (evaluated)", start=evaluated)
# A certificate cannot be shown from its hash alone.
SERVER: Final = Target(
    name="exim (SMTP)", start=exim_server, takes=lambda vector: vector.certificate is None, at_most=1_200
)
