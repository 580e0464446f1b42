"""Which sources a path names, what each is known by, and who reads it."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from enforcement.importers import mail, mail_files
from enforcement.importers.batch import Batch
from enforcement.importers.mail_files import shown_path
from enforcement.importers.tables import read_table

_TABLE_SUFFIXES: Final = (".csv", ".csv.gz", ".parquet")
_TABLES: Final = f"a table ({', '.join(_TABLE_SUFFIXES)})"

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
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError(f"{shown_path(path)}: neither a file nor a folder")
    own = tuple(sorted({host.lower().removesuffix(".") for host in own_hosts}))
    found = [_table(table, own, times_rounded_to) for table in _tables_at(path)]
    if found and path.is_file():
        return found
    try:
        mails = mail_files.find_sources(path)
    except ValueError as problem:
        if not path.exists():
            raise
        if not found:
            raise ValueError(f"{problem}; {_TABLES} can be read too") from None
        mails = []  # a folder of tables alone
    return [_mail(source, own, times_rounded_to) for source in mails] + found


def _tables_at(path: Path) -> list[Path]:
    """Find the tables of a folder and of those below it, or the one that the path names itself."""
    if path.is_file():
        return [path] if _is_table(path) else []
    return sorted(
        Path(root) / name for root, _, names in os.walk(path, onerror=_fail) for name in names if _is_table(Path(name))
    )


def _is_table(path: Path) -> bool:
    return path.name.lower().endswith(_TABLE_SUFFIXES) and not path.name.startswith(".")


def _table(path: Path, own_hosts: tuple[str, ...], times_rounded_to: str | None) -> Source:
    def read(report: Report) -> Iterator[Batch]:
        told = (f"{path.name}: a table names no own hosts, the option changes nothing",) if own_hosts else ()
        for batch in read_table(path, report):
            yield replace(batch, notes=(*batch.notes, *told))

    return Source(
        name=str(path),
        options={"kind": "table", "times_rounded_to": times_rounded_to},
        sha256=lambda: _hash_of(path),
        read=read,
        unit="rows",
    )


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
