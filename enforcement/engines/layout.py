"""The Parquet files of a history: which they are, which of their columns are read, and their types."""

import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Self
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import parquet

from enforcement.importers.table_columns import COLUMNS, OPTIONAL, REQUIRED
from enforcement.names import printable, shown

_SHOWN_COLUMNS: Final = 12
_HERE: Final = re.compile("file:(?=/)", re.IGNORECASE)  # Spark itself writes file:/path
_MAGIC: Final = b"PAR1"
FOOTER_END: Final = 8  # octets at the end of a Parquet file: the length of its footer, and "PAR1"
HIDDEN: Final = ("_", ".")  # names that Spark and its kin give to what is no data

EXPECTED: Final[Mapping[str, str]] = {"sent_at": "times", "messages": "whole numbers"}  # others: text


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Files that hold one history: `columns` names each of ours as the files do, `types` is what they hold.

    `rows` is what their footers count; `fingerprint` hashes names, sizes, times of change, and footers.
    """

    path: str
    files: tuple[str, ...]
    columns: Mapping[str, str]
    types: Mapping[str, pa.DataType]
    unread: tuple[str, ...]
    rows: int
    fingerprint: str


class Footer(NamedTuple):
    """What the end of a Parquet file tells: its columns, how many rows it has; `state` is another when the file is."""

    file: str
    schema: pa.Schema
    rows: int
    state: bytes

    @classmethod
    def read(cls, file: str, octets: bytes, state: object) -> Self:
        """Read a footer, given with what stands behind it; what is wrong is a ValueError of one line."""
        try:
            with parquet.ParquetFile(pa.BufferReader(_MAGIC + octets)) as opened:
                schema, n_rows = opened.schema_arrow, opened.metadata.num_rows
        except (pa.ArrowException, OSError, UnicodeError) as problem:
            told = printable(str(problem).partition("\n")[0][:200])
            raise ValueError(f"{file}: no Parquet file, or a damaged one ({told})") from None
        return cls(file, schema, n_rows, repr(state).encode("utf-8", "surrogateescape") + octets)


def footer_length(end: bytes) -> int:
    r"""Give the length of a footer by what stands behind it, FOOTER_END octets; 0 where that is no end of Parquet.

    >>> footer_length(b"\1\2\0\0PAR1"), footer_length(b"sentence")
    (513, 0)
    """
    return int.from_bytes(end[:4], "little") if end[4:] == _MAGIC else 0


def is_address(path: str) -> bool:
    """Tell whether a path names a place that only a cluster's file systems know.

    >>> is_address("s3a://bucket/mail"), is_address("FILE:///mail"), is_address("file:/mail"), is_address("mail/2026")
    (True, False, False, False)
    """
    return "://" in path and not _HERE.match(path)


def local_layout(path: str) -> Layout:
    """Find the Parquet files of a path, and hold all of them to one schema; what is wrong is a ValueError of one line.

    A folder's files are those named *.parquet at any depth, hidden ones left out. Nothing in a path is a pattern.
    """
    if is_address(path):
        raise ValueError(f"{path}: an address that only Spark reads (give --engine spark, or a path on this machine)")
    here = _HERE.match(path)
    files = _files(Path("/" + unquote(path[here.end() :]).lstrip("/")) if here else Path(path))
    return layout_of(path, map(_footer, files))


def layout_of(path: str, footers: Iterable[Footer]) -> Layout:
    """Hold all files of a history, of which there is one at least, to one schema, columns that are missing included."""
    digest = hashlib.sha256()
    rows = 0
    files = []
    first: tuple[_Held, tuple[str, ...]] | None = None
    for footer in footers:
        digest.update(footer.state)
        rows += footer.rows
        files.append(footer.file)
        schema = footer.schema
        columns = chosen(schema.names, footer.file)
        types = {name: schema.field(schema.names.index(there)).type for name, there in columns.items()}
        for name, found in types.items():
            expect_type(footer.file, columns[name], name, found)
        held = (footer.file, columns, types)
        if first is None:
            first = held, tuple(name for name in schema.names if name not in columns.values())
        else:
            _expect_same(first[0], held)
    if first is None:
        raise AssertionError(path)
    (_, columns, types), unread = first
    return Layout(
        path=path,
        files=tuple(files),
        columns=columns,
        types=types,
        unread=unread,
        rows=rows,
        fingerprint=digest.hexdigest(),
    )


def chosen(header: Sequence[str], source: str) -> dict[str, str]:
    """Find our columns by name, whatever their case, as the import of tables does.

    >>> chosen(["Sent_At", "server", "build", "size"], "mail.parquet")
    {'sent_at': 'Sent_At', 'server': 'server', 'build': 'build'}
    >>> chosen(["sent_at", "servers", "build"], "mail.parquet")
    Traceback (most recent call last):
    ValueError: mail.parquet: no column 'server' (found: sent_at, servers, build; expected: sent_at, server, build[, tenant, hop, route, messages]; is it 'servers'?)
    """  # noqa: E501 - a message is one line
    names = [name.strip().lower() for name in header]
    for name in COLUMNS:
        if names.count(name) > 1:
            raise ValueError(f"{source}: {names.count(name)} columns {name!r} (found: {listed(header)})")
    for name in REQUIRED:
        if name not in names:
            nearest = difflib.get_close_matches(name, sorted(set(names) - set(COLUMNS)), n=1)
            hint = f"; is it {shown(nearest[0])}?" if nearest else ""
            expected = f"{', '.join(REQUIRED)}[, {', '.join(OPTIONAL)}]"
            raise ValueError(f"{source}: no column {name!r} (found: {listed(header)}; expected: {expected}{hint})")
    return {name: header[names.index(name)] for name in COLUMNS if name in names}


def expect_type(source: str, there: str, name: str, found: pa.DataType) -> None:
    """Hold a column to its type: times, whole numbers, or text.

    >>> expect_type("mail.parquet", "sent_at", "sent_at", pa.string())
    Traceback (most recent call last):
    ValueError: mail.parquet: column 'sent_at' holds string (expected times; text is read by `enforcement import`)
    """
    if is_blank(found) and name != "sent_at":
        return  # as the import has it: rows without a server or a build cannot be used
    inner = found.value_type if pa.types.is_dictionary(found) else found
    is_right = {"sent_at": pa.types.is_timestamp(found), "messages": pa.types.is_integer(found)}.get(
        name, pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_string_view(inner)
    )
    if not is_right:
        hint = "; text is read by `enforcement import`" if name == "sent_at" and pa.types.is_string(inner) else ""
        raise ValueError(f"{source}: column {there!r} holds {found} (expected {EXPECTED.get(name, 'text')}{hint})")


def is_blank(found: pa.DataType) -> bool:
    """Tell whether a column holds nothing but nulls, by its type."""
    return bool(pa.types.is_null(found))


def listed(names: Sequence[str]) -> str:
    """List columns for a message."""
    more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
    return ", ".join(shown(name)[1:-1] for name in names[:_SHOWN_COLUMNS]) + more


def _files(path: Path) -> tuple[Path, ...]:
    if path.is_file():
        return (path.absolute(),)
    if not path.is_dir():
        raise ValueError(f"{path}: no such file or folder (expected Parquet; nothing in a path is a pattern)")
    found = sorted(
        file.absolute()
        for file in path.rglob("*")
        if file.suffix.lower() == ".parquet"
        and file.is_file()
        and not any(part.startswith(HIDDEN) for part in file.relative_to(path).parts)
    )
    if not found:
        raise ValueError(f"{path}: no Parquet in this folder (expected files named *.parquet)")
    return tuple(found)


def _footer(file: Path) -> Footer:
    """Read a file's footer."""
    try:
        state = file.stat()
        with file.open("rb") as stream:
            stream.seek(max(0, state.st_size - FOOTER_END))
            end = stream.read(FOOTER_END)
            stream.seek(max(0, state.st_size - FOOTER_END - footer_length(end)))
            octets = stream.read()
    except OSError as problem:
        raise ValueError(f"{file}: cannot be read: {problem.strerror}") from None
    return Footer.read(str(file), octets, (str(file), state.st_size, state.st_mtime_ns))


_Held = tuple[str, dict[str, str], dict[str, pa.DataType]]


def _expect_same(first: _Held, other: _Held) -> None:
    """Hold a file to the schema of the first: engines read a folder as one table."""
    for name in COLUMNS:
        has, lacks = (first, other) if name in first[1] else (other, first)
        if name in has[1] and name not in lacks[1]:
            raise ValueError(
                f"{lacks[0]}: no column {has[1][name]!r}, which {_name(has[0])} has (expected one schema in a folder)"
            )
        if name not in first[1]:
            continue
        if first[1][name] != other[1][name]:
            raise ValueError(
                f"{other[0]}: column {other[1][name]!r} is {first[1][name]!r} in {_name(first[0])}"
                f" (expected one schema in a folder)"
            )
        if _stored(first[2][name]) != _stored(other[2][name]):
            raise ValueError(
                f"{other[0]}: column {other[1][name]!r} holds {other[2][name]} (expected {first[2][name]}, as in"
                f" {_name(first[0])}: one schema in a folder)"
            )


def _name(file: str) -> str:
    return file.rpartition("/")[2]


def _stored(found: pa.DataType) -> str:
    """Give the type as the engines see it: how text is kept in memory does not matter."""
    inner = found.value_type if pa.types.is_dictionary(found) else found
    is_text = pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_string_view(inner)
    return "text" if is_text else str(found)
