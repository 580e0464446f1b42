"""Which sources a path names, what each is known by, and who reads it."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from enforcement.importers import mail, mail_files
from enforcement.importers.batch import Batch
from enforcement.importers.mail_files import shown_path
from enforcement.importers.tables import read_table
from enforcement.names import printable

_TABLE_SUFFIXES: Final = (".csv", ".csv.gz", ".parquet")
_TABLES: Final = f"a table ({', '.join(_TABLE_SUFFIXES)}) can be read too"

# Told after each piece of a source: how much is done, and of how much.
Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source of mail history: a file, a Maildir, or the single mails of a folder."""

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
    tables = _tables_at(path)
    found = [_table(table, own, times_rounded_to) for table in tables]
    if path.is_dir():
        mails, n_passed_over = mail_files.in_folder(path, but=frozenset(tables))
    else:
        mails, n_passed_over = [] if found else _mail_at(path), 0
    found = [_mail(source, own, times_rounded_to) for source in mails] + found
    if not found:
        raise ValueError(
            f"{shown_path(path)}: no mail in this folder (expected mbox or .eml files, or a Maildir); {_TABLES}"
        )
    if n_passed_over:
        told = f"files passed over, because they hold neither mail nor a table: {n_passed_over:,}"
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
    named = (
        Path(root) / name for root, _, names in os.walk(path, onerror=_fail) for name in names if _is_table(Path(name))
    )
    return sorted(table for table in named if table.is_file())  # a pipe would be waited for


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
