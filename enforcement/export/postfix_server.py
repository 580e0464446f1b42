"""A real Postfix with the milter of an export, on loopback and by a clock of its own, to see what they say."""

import contextlib
import os
import pwd
import shutil
import smtplib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Final

from enforcement.export.loopback import WAIT_SECONDS, Clock, answers, free_port, stop, wait_for
from enforcement.export.target import Peer
from enforcement.policy import OnFailure

DOMAIN: Final = "mx.enforcement.test"
_GREETING: Final = 220  # what XCLIENT is answered with: the session begins anew
_BODY: Final = "Subject: a case\r\nFrom: a@b.test\r\n\r\n.\r\n"
_MAIN: Final = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
mail_owner = postfix
setgid_group = postdrop
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = {folder}/mail.log
maillog_file_prefixes = {folder}
inet_interfaces = 127.0.0.1
inet_protocols = all
mynetworks = 127.0.0.0/8
myhostname = {domain}
mydestination = {domain}
local_recipient_maps =
local_transport = discard:
default_transport = discard:
alias_maps =
alias_database =
smtpd_peername_lookup = no
smtpd_authorized_xclient_hosts = 127.0.0.0/8
smtpd_milters = {milters}
milter_default_action = {action}
in_flow_delay = 0
smtpd_error_sleep_time = 0
smtpd_soft_error_limit = 1000000
smtpd_hard_error_limit = 1000000
smtpd_junk_command_limit = 1000000
header_size_limit = 1024000
"""
_MASTER: Final = """\
{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
discard unix - - n - - discard
error unix - - n - - error
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostfixServer:
    """A Postfix that runs: where it listens, the clock of its milter, the file of decisions, and the milter itself."""

    port: int
    clock: Clock
    decisions: Path
    milter: subprocess.Popen[bytes] | None

    def replies(self, cases: Sequence[tuple[Peer, datetime]]) -> Iterator[tuple[int, str]]:
        """Send a message for each case at its own time, and give the code and the text of the last reply."""
        for address, of_peer in groupby(cases, key=lambda case: case[0].address):
            with session(self.port, address) as client:
                for peer, at in of_peer:
                    self.clock.put(at)
                    yield send(client, peer)


@contextlib.contextmanager
def session(port: int, address: str | None = None) -> Iterator[smtplib.SMTP]:
    """Speak with a Postfix as if from an address; a session has one, for Postfix lets nobody change it twice."""
    with smtplib.SMTP("127.0.0.1", port, timeout=WAIT_SECONDS) as client:
        client.ehlo("client.test")
        if address is not None:
            told = f"IPV6:{address}" if ":" in address else address
            code, text = client.docmd("XCLIENT", f"NAME=[UNAVAILABLE] ADDR={told}")
            if code != _GREETING:
                raise RuntimeError(f"Postfix takes no mail as from {address}: {code} {text.decode(errors='replace')}")
            client.ehlo("client.test")
        yield client


def send(client: smtplib.SMTP, peer: Peer) -> tuple[int, str]:
    """Send a message of a peer through a session, and give the reply to it."""
    for command in ("MAIL FROM:<a@b.test>", f"RCPT TO:<x@{DOMAIN}>"):
        code, text = client.docmd(command)
        if code != 250:
            client.docmd("RSET")
            return code, text.decode(errors="replace")
    code, text = client.docmd("DATA")
    if code != 354:
        return code, text.decode(errors="replace")
    lines = "".join(f"{line}\r\n" for field in peer.received for line in field.splitlines())
    client.send((lines + _BODY).encode(errors="surrogateescape"))
    code, text = client.getreply()
    return code, text.decode(errors="replace")


@contextlib.contextmanager
def postfix_server(
    export: Path, *, on_failure: OnFailure = OnFailure.ACCEPT, with_milter: bool = True, milter: Sequence[str] = ()
) -> Iterator[PostfixServer]:
    """Run Postfix with the milter of an export in a folder of its own, until left.

    `milter`: another program to ask, whose last argument is to be the socket.
    """
    if shutil.which("postfix") is None:
        raise LookupError("no Postfix here (expected the package postfix)")
    if os.geteuid() != 0:
        raise LookupError("Postfix starts as root only (run it as root, in a container for example)")
    with tempfile.TemporaryDirectory(prefix="enforcement-postfix-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        port, sock = free_port(), folder / "socket" / "milter.sock"
        config = _configure(folder, port, on_failure, sock if with_milter or milter else None)
        clock = Clock(folder)
        clock.put(datetime(2026, 1, 1))  # noqa: DTZ001 - times are UTC and naive throughout
        process = None
        if with_milter or milter:
            command = [*milter, f"unix:{sock}"] if milter else _milter(export, sock, on_failure, folder)
            process = subprocess.Popen(command, env=os.environ | clock.environment, stderr=subprocess.PIPE)  # noqa: S603 - no shell is involved
            stack.callback(stop, process)
            wait_for(sock.exists, "the milter", process)
            shutil.chown(sock, "postfix", "postfix")
        _run(["postfix", "-c", str(config), "start"])
        stack.callback(_run, ["postfix", "-c", str(config), "abort"])
        wait_for(lambda: answers(port), "Postfix")
        yield PostfixServer(port=port, clock=clock, decisions=folder / "decisions.jsonl", milter=process)


def _configure(folder: Path, port: int, on_failure: OnFailure, sock: Path | None) -> Path:
    config = folder / "etc"
    for name in ("etc", "queue", "data", "socket"):
        (folder / name).mkdir()
    owner = pwd.getpwnam("postfix")
    for name in ("data", "socket"):
        os.chown(folder / name, owner.pw_uid, owner.pw_gid)
    action = "accept" if on_failure is OnFailure.ACCEPT else "tempfail"
    milters = "" if sock is None else f"unix:{sock}"
    (config / "main.cf").write_text(_MAIN.format(folder=folder, domain=DOMAIN, milters=milters, action=action))
    (config / "master.cf").write_text(_MASTER.format(port=f"127.0.0.1:{port}"))
    return config


def _milter(export: Path, sock: Path, on_failure: OnFailure, folder: Path) -> list[str]:
    return [
        sys.executable, "-m", "enforcement", "milter", str(export), "--socket", f"unix:{sock}",
        "--on-failure", str(on_failure), "--log", str(folder / "decisions.jsonl"),
    ]  # fmt: skip


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell is involved
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
