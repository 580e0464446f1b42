"""Which sources a path names, what each is known by, and who reads it."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from enforcement import shipped
from enforcement.importers import mail, mail_files
from enforcement.importers.batch import Batch
from enforcement.importers.decision_logs import is_exim_log, is_json_log, read_decision_log
from enforcement.importers.mail_files import shown_path
from enforcement.importers.server_report import is_server_report, read_server_report
from enforcement.importers.tables import read_table
from enforcement.importers.text_lines import first_lines
from enforcement.importers.tracking_logs import is_tracking_log, read_tracking_log
from enforcement.names import printable

_TABLE_SUFFIXES: Final = (".csv", ".csv.gz", ".parquet")
_TABLES: Final = (
    f"a table ({', '.join(_TABLE_SUFFIXES)}), a message tracking log, a report of Get-OnPremServerReportInfo"
    " and a log of decisions can be read too"
)
# How mail begins, whose files are many: they are not looked into for anything else.
_BEGINS_MAIL: Final = re.compile(
    rb"(?!(?:Software|Version|Fields|Log-type|Date: \d{4}-))(?:From |[A-Za-z][A-Za-z0-9-]{0,75}:)"
)
_BEGINNING: Final = 100  # octets

# Told after each piece of a source: how much is done, and of how much.
Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source: a file, a Maildir, or the single mails of a folder."""

    name: str
    options: Mapping[str, object]  # those that change what is read: with the content, an import is known by them
    sha256: Callable[[], str]
    read: Callable[[Report], Iterator[Batch]]
    unit: str  # what its reports count


def find_sources(path: Path, *, own_hosts: Sequence[str] = (), times_rounded_to: str | None = None) -> list[Source]:
    """Find the sources that a path names; a folder is searched with all below it.

    A path without any, or an option that means nothing, is a ValueError.
    """
    if times_rounded_to not in (None, "hour"):
        raise ValueError(f"times cannot be rounded to {times_rounded_to!r} (expected 'hour')")
    _expect_no_address(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError(f"{shown_path(path)}: neither a file nor a folder")
    own = tuple(sorted({host.lower().removesuffix(".") for host in own_hosts}))
    logs = _logs_at(path)
    tables = [table for table in _tables_at(path) if table not in logs]
    found = [_table(table, own, times_rounded_to) for table in tables]
    found += [_log(log, kind, own, times_rounded_to) for log, kind in logs.items()]
    if path.is_dir():
        mails, n_passed_over = mail_files.in_folder(path, but=frozenset((*tables, *logs)))
    else:
        mails, n_passed_over = [] if found else _mail_at(path), 0
    found = [_mail(source, own, times_rounded_to) for source in mails] + found
    if not found:
        raise ValueError(
            f"{shown_path(path)}: no mail in this folder (expected mbox or .eml files, or a Maildir); {_TABLES}"
        )
    if n_passed_over:
        told = f"files passed over, because they hold nothing that can be read here: {n_passed_over:,}"
        found[0] = _with_note(found[0], told)
    return found


def _expect_no_address(path: Path) -> None:
    """Refuse what only looks like a path: of the slashes behind a scheme, a Path keeps one."""
    scheme, _, rest = str(path).partition(":/")
    if not re.fullmatch("[A-Za-z][A-Za-z0-9+.-]+", scheme) or path.exists():
        return
    slashes = ":///" if scheme.lower() == "file" else "://"
    raise ValueError(
        f"{scheme}{slashes}{printable(rest)}: an address (expected a path on this machine: copy it"
        " here, or leave Parquet where it lies: enforcement replay POLICY --engine spark --traffic ADDRESS)"
    )


def _mail_at(path: Path) -> list[mail_files.Source]:
    """Find the mail in a file."""
    try:
        return mail_files.find_sources(path)
    except ValueError as problem:
        if not path.exists():
            raise
        raise ValueError(f"{problem}; {_TABLES}") from None


def _tables_at(path: Path) -> list[Path]:
    """Find the tables of a folder and of those below it, or the one that the path names itself."""
    if path.is_file():
        return [path] if _is_table(path) else []
    return [file for file in _files_in(path) if _is_table(file)]


def _files_in(folder: Path) -> list[Path]:
    """List the files of a folder and of those below it."""
    named = (Path(root) / name for root, _, names in os.walk(folder, onerror=_fail) for name in names)
    return sorted(file for file in named if file.is_file())  # a pipe would be waited for


def _logs_at(path: Path) -> dict[Path, str]:
    """Find the logs and reports of a folder and of those below it, or the one that the path names, by their content."""
    files = _files_in(path) if path.is_dir() else [path] if path.is_file() else []
    kinds = {file: _kind_of_log(file) for file in files}
    return {file: kind for file, kind in kinds.items() if kind is not None}


def _kind_of_log(path: Path) -> str | None:
    """Tell which log or report a file is, if it is one, by how it begins."""
    if path.name.startswith(".") or path.suffix.lower() in (".parquet", ".eml", ".mbox", ".mbx") or _begins_mail(path):
        return None
    first = first_lines(path)
    kinds: dict[str, Callable[[], bool]] = {
        "tracking log": lambda: is_tracking_log(first),
        "decisions of a milter": lambda: is_json_log(first),
        "server report": lambda: is_server_report(path),
        "decisions of Exim": lambda: not _is_table(path) and is_exim_log(path),
    }
    return next((kind for kind, holds in kinds.items() if holds()), None)


def _begins_mail(path: Path) -> bool:
    """Tell whether a file begins as mail does, or cannot be read at all, which is told by who reads it as mail."""
    try:
        with path.open("rb") as file:
            begin = file.read(_BEGINNING)
    except OSError:
        return True
    return _BEGINS_MAIL.match(begin.removeprefix(b"\xef\xbb\xbf").lstrip()) is not None


def _log(path: Path, kind: str, own_hosts: tuple[str, ...], times_rounded_to: str | None) -> Source:
    def read(report: Report) -> Iterator[Batch]:
        if kind == "tracking log":
            builds = frozenset(release.build for release in shipped.load_catalogue().releases)
            return read_tracking_log(path, builds, report)
        if kind == "server report":
            return read_server_report(path, datetime.now(tz=UTC).date())
        return read_decision_log(path, is_exim=kind == "decisions of Exim", report=report)

    log = Source(
        name=str(path),
        # Only what is traffic has minutes that could be rounded.
        options={"kind": kind} | ({"times_rounded_to": times_rounded_to} if kind == "tracking log" else {}),
        sha256=lambda: _hash_of(path),
        read=read,
        unit="bytes",
    )
    return (
        _with_note(log, f"{path.name}: {kind}, which names no own hosts: the option changes nothing")
        if own_hosts
        else log
    )


def _is_table(path: Path) -> bool:
    return path.name.lower().endswith(_TABLE_SUFFIXES) and not path.name.startswith(".")


def _table(path: Path, own_hosts: tuple[str, ...], times_rounded_to: str | None) -> Source:
    table = Source(
        name=str(path),
        options={"kind": "table", "times_rounded_to": times_rounded_to},
        sha256=lambda: _hash_of(path),
        read=partial(read_table, path),
        unit="rows",
    )
    told = f"{path.name}: a table names no own hosts, the option changes nothing"
    return _with_note(table, told) if own_hosts else table


def _with_note(source: Source, note: str) -> Source:
    def read(report: Report) -> Iterator[Batch]:
        for batch in source.read(report):
            yield replace(batch, notes=(*batch.notes, note))

    return replace(source, read=read)


def _mail(source: mail_files.Source, own_hosts: tuple[str, ...], times_rounded_to: str | None) -> Source:
    def read(report: Report) -> Iterator[Batch]:
        yield mail.read_mail(source, own_hosts, report)

    return Source(
        name=str(source.path),
        options={"kind": "mail", "own_hosts": own_hosts, "times_rounded_to": times_rounded_to},
        sha256=source.sha256,
        read=read,
        unit="bytes",
    )


def _hash_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise ValueError(f"{shown_path(path)}: cannot be read: {problem.strerror}") from None


def _fail(problem: OSError) -> None:
    raise ValueError(f"{shown_path(Path(str(problem.filename)))}: cannot be read: {problem.strerror}") from None
