"""The milter of an export: what Postfix asks about each message, answered from the export that is installed."""

import hashlib
import json
import logging
import logging.handlers
import os
import socket as sockets
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Final

import Milter

from enforcement.export.manifest import MANIFEST_NAME
from enforcement.export.postfix import LOOKUP_NAME
from enforcement.export.target import FAILURE_REPLY, Answer, Lookup, Peer, Reason, answer, logged, read_lookup
from enforcement.names import printable
from enforcement.policy import OnFailure
from enforcement.verdict import Verdict

_TIMEOUT_SECONDS: Final = 300  # a mail server that has been silent as long has gone
_LAST_PORT: Final = 65_535
_log = logging.getLogger("enforcement.decisions")
_trouble = logging.getLogger("enforcement.milter")


class Installed:
    """The export in a folder, read again when its manifest is another one; a damaged one is no export."""

    def __init__(self, folder: Path, on_failure: OnFailure) -> None:
        self._folder = folder
        self._on_failure = on_failure
        self._seen: object = None
        self._lookup: Lookup | None = None
        self._lock = Lock()

    def answer(self, peer: Peer, at: datetime) -> tuple[Answer, int | None]:
        """Answer by the export that is there now; with none that can be trusted, as `on_failure` says."""
        lookup = self._current()
        if lookup is not None:
            return answer(lookup, peer, at), lookup.serial
        if self._on_failure is OnFailure.DEFER:
            return Answer(verdict=Verdict.DEFER, reason=Reason.FAILURE, reply=FAILURE_REPLY), None
        return Answer(verdict=Verdict.ACCEPT, reason=Reason.FAILURE), None

    def _current(self) -> Lookup | None:
        with self._lock:
            seen = self._marks()
            if seen != self._seen:
                try:
                    self._lookup = _read(self._folder)
                    _trouble.warning("serial %s is in force, until %s", self._lookup.serial, self._lookup.not_after)
                except (OSError, ValueError, LookupError, TypeError, RecursionError) as problem:
                    self._lookup = None
                    why = printable(str(problem))
                    _trouble.error("NO POLICY IS IN FORCE, mail is met with %r: %s", str(self._on_failure), why)
                    if isinstance(problem, OSError):
                        return None  # it may pass (too many open files): the next message tries again
                self._seen = seen
            return self._lookup

    def _marks(self) -> tuple[object, ...]:
        """Give what changes when one of the two files is another one."""
        marks: list[object] = []
        for name in (MANIFEST_NAME, LOOKUP_NAME):
            try:
                found = (self._folder / name).stat()
                marks.append((found.st_ino, found.st_mtime_ns, found.st_size))
            except OSError as problem:
                marks.append(problem.errno)
        return tuple(marks)


def _read(folder: Path) -> Lookup:
    """Read the tables if they are the ones that the manifest names."""
    entry = json.loads((folder / MANIFEST_NAME).read_bytes())["files"][LOOKUP_NAME]
    content = (folder / LOOKUP_NAME).read_bytes()
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise ValueError(f"{folder / LOOKUP_NAME} is not the file that its manifest names (install the export again)")
    return read_lookup(content)


def serve(folder: Path, *, socket: str, on_failure: OnFailure, log: Path | None = None) -> None:
    """Serve a mail server on a socket until told to stop; decisions go to a file, or to standard error."""
    _expect_free(socket)
    _write_to(_log, log, "%(message)s")
    _write_to(_trouble, None, "enforcement milter: %(message)s")
    installed = Installed(folder, on_failure)
    installed.answer(Peer(received=()), _now())  # say at once whether there is a policy
    Milter.factory = _connection(installed)
    Milter.set_flags(0)  # it changes no mail
    Milter.set_exception_policy(Milter.CONTINUE if on_failure is OnFailure.ACCEPT else Milter.TEMPFAIL)
    os.umask(0o007)  # the mail server's group may speak, nobody else
    try:
        Milter.runmilter("enforcement", socket, _TIMEOUT_SECONDS)
    except Milter.error:
        raise ValueError(f"{printable(socket)}: nothing can listen there (is it taken, or not allowed?)") from None


def _expect_free(socket: str) -> None:
    """Refuse a socket that the library would misread, or take away from a milter that answers there."""
    shown, (kind, _, place) = printable(socket), socket.partition(":")
    if kind in ("inet", "inet6"):
        port = place.partition("@")[0]
        if not (port.isascii() and port.isdecimal() and 0 < int(port) <= _LAST_PORT):
            raise ValueError(f"{shown}: not a port (expected e.g. inet:8891@127.0.0.1)")
        return
    if kind not in ("unix", "local") or not place:
        raise ValueError(f"not a socket: {shown!r} (expected unix:/path, or inet:port@127.0.0.1)")
    path = Path(place)
    if not path.parent.is_dir():
        raise ValueError(f"{printable(str(path.parent))}: no such folder (expected one that the mail server reaches)")
    if path.is_socket():
        if _answers(place):
            raise ValueError(f"{shown}: another milter answers there (stop it first, or give another socket)")
    elif os.path.lexists(path):
        raise ValueError(f"{shown}: is there and is no socket (expected a new name)")


def _answers(path: str) -> bool:
    with sockets.socket(sockets.AF_UNIX) as asked:
        try:
            asked.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):  # left behind by one that has ended
            return False
    return True


def _write_to(logger: logging.Logger, file: Path | None, form: str) -> None:
    # A watched file: whoever rotates it need not tell anybody.
    handler = logging.StreamHandler(sys.stderr) if file is None else logging.handlers.WatchedFileHandler(file)
    handler.setFormatter(logging.Formatter(form))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _now() -> datetime:
    return datetime.now(tz=UTC).replace(tzinfo=None)


def _connection(installed: Installed) -> Callable[[], Any]:
    """Make the class that speaks with the mail server, a connection each."""

    class Connection(Milter.Base):  # type: ignore[misc]  # the library has no types
        @Milter.noreply  # type: ignore[untyped-decorator]  # the library has no types
        def connect(self, _name: str, _family: object, address: object) -> Any:  # noqa: ANN401 - the library's code
            self.address = str(address[0]) if isinstance(address, tuple) else None
            return Milter.CONTINUE

        @Milter.noreply  # type: ignore[untyped-decorator]  # the library has no types
        def envfrom(self, *_: str) -> Any:  # noqa: ANN401 - the library's code
            self.received: list[str] = []
            return Milter.CONTINUE

        @Milter.noreply  # type: ignore[untyped-decorator]  # the library has no types
        def header(self, name: str, value: str) -> Any:  # noqa: ANN401 - the library's code
            if name.lower() == "received":
                self.received.append(f"Received: {value}")
            return Milter.CONTINUE

        def eoh(self) -> Any:  # noqa: ANN401 - the library's code
            at = _now()
            found, serial = installed.answer(Peer(self.received, self.address), at)
            line = logged(found, at, serial)
            if line is not None:
                _log.info(json.dumps(line))
            if found.reply is None:
                return Milter.ACCEPT
            words = found.reply.text.removeprefix(f"{found.reply.code} {found.reply.enhanced_code} ")
            # The protocol's own sign is a doubled one.
            self.setreply(str(found.reply.code), found.reply.enhanced_code, words.replace("%", "%%"))
            return Milter.REJECT if found.verdict is Verdict.REJECT else Milter.TEMPFAIL

    return Connection
