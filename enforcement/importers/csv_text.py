"""CSV text as rows of text, piece by piece: quickly where it is plain, patiently where it is not."""

import csv
import io
from collections.abc import Iterator
from typing import IO, Final, NamedTuple

import polars as pl

from enforcement.names import excerpt
from enforcement.schema import REJECTS

POSITION: Final = "position"
_DELIMITERS: Final = ",;\t"
_RECORDS_AT_ONCE: Final = 100_000
_OCTETS_AT_ONCE: Final = 32 * 1024**2
_LONGEST_LINE: Final = 256 * 1024**2  # octets
# Of a record whose quoted fields hold line ends. A stray quote would swallow all lines up to the next one.
_MOST_LINES: Final = 100
_MOST_CHARACTERS: Final = 64 * 1024
_WIDE: Final = (b"\xff\xfe", b"\xfe\xff")  # UTF-16, as spreadsheets write "Unicode text"
_MARK: Final = b"\xef\xbb\xbf"  # with which some begin UTF-8


class Piece(NamedTuple):
    """Rows that follow one another, and what was no row among them (REJECTS)."""

    rows: pl.DataFrame
    broken: pl.DataFrame


class _Broken(NamedTuple):
    """A line that begins no record, and why."""

    reason: str
    line: str


_Record = list[str] | _Broken


class _GoesOn(Exception):  # noqa: N818 - no error yet
    """A record does not end with its first line."""


def csv_pieces(stream: IO[bytes], octets_at_once: int = _OCTETS_AT_ONCE) -> tuple[list[str], Iterator[Piece]]:
    r"""Give the header, and the rows piece by piece.

    Rows have their position, from 1, and a column of text for each of the header's, named by its place: 0, 1, … A blank
    field is null, a short row is filled up with blanks, and a row of blanks is none, though it is counted in positions.
    A row may go on in further lines within quotes, if these are closed before long and it has all fields; else its
    first line is a reject, and the next line is read as if it began a row.

    >>> header, pieces = csv_pieces(io.BytesIO(b'server,build\nmail.example,"15.1"\n\na,b,c\n'))
    >>> header, [(piece.rows.rows(), piece.broken.rows()) for piece in pieces]
    (['server', 'build'], [([(1, 'mail.example', '15.1')], [(3, '3 fields, expected 2', 'a,b,c')])])
    """
    lines = _Lines(_blocks(stream, octets_at_once))
    delimiter = _delimiter(lines.first())
    header = next(_records(lines, delimiter), [])
    if isinstance(header, _Broken) or not any(header):
        return [], iter(())
    return header, _pieces(lines, delimiter, len(header))


class _Lines:
    """The lines of blocks that end where lines do, one by one; what is left of a block can be taken at once."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._lines: list[str] = []
        self._next = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.is_at_end_of_block:
            self.give_back(next(self._blocks))
        self._next += 1
        return self._lines[self._next - 1]

    def first(self) -> str:
        """Look at the line that comes next, the first of all."""
        line = next(self, "")
        self._next -= bool(line)
        return line

    @property
    def is_at_end_of_block(self) -> bool:
        """Whether all lines of the block have been taken."""
        return self._next == len(self._lines)

    def take_block(self) -> bytes | None:
        """Take what is left of the block, or else the next one."""
        if self.is_at_end_of_block:
            return next(self._blocks, None)
        left = "".join(self._lines[self._next :])
        self._next = len(self._lines)
        return left.encode()

    def put_back(self, lines: list[str]) -> None:
        """Have the lines that were taken last come next again."""
        if len(lines) <= self._next:
            self._next -= len(lines)
        else:  # some are of the block before
            self._lines = lines + self._lines[self._next :]
            self._next = 0

    def give_back(self, block: bytes) -> None:
        """Have the lines of a block come next. Octets that are no text stay visible, and make no name."""
        self._lines = list(io.StringIO(block.decode("utf-8", "backslashreplace"), newline=""))
        self._next = 0


def _blocks(stream: IO[bytes], octets_at_once: int) -> Iterator[bytes]:
    """Cut a text into blocks of UTF-8 that end where lines do; blank lines before all others are left out."""
    data = b""
    for more in _octets(stream, octets_at_once):
        data += more
        end = data.rfind(b"\n") + 1 or data.rfind(b"\r", 0, -1) + 1  # the last octet may be half of a line's end
        if end:
            yield data[:end]
            data = data[end:]
        elif len(data) > _LONGEST_LINE:
            raise ValueError(f"a line of more than {_LONGEST_LINE // 1024**2} MB (expected the rows of a table)")
    if data:
        yield data


def _octets(stream: IO[bytes], octets_at_once: int) -> Iterator[bytes]:
    data = b""
    while not data and (data := stream.read(max(octets_at_once, len(_MARK)))):
        data = data.lstrip(b"\r\n")
    if len(data) < len(_MARK):
        data += stream.read(len(_MARK))
    if not data.startswith(_WIDE):
        yield data.removeprefix(_MARK)
        while data := stream.read(octets_at_once):
            yield data
        return
    wide = io.TextIOWrapper(
        io.BufferedReader(_Joined(data, stream)), encoding="utf-16", errors="backslashreplace", newline=""
    )
    while text := wide.read(octets_at_once):
        yield text.encode()


class _Singly:
    """The lines of records of one line each; who asks for more of a record is told that it goes on."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines
        self.line = ""  # of the record being read

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.line:
            raise _GoesOn
        self.line = next(self._lines)
        return self.line


class _Joined(io.RawIOBase):
    """Octets that have been read already, and those that follow."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]  # what it is always given
        data = self._head[: len(buffer)] or self._rest.read(len(buffer))
        self._head = self._head[len(data) :]
        buffer[: len(data)] = data
        return len(data)


def _pieces(lines: _Lines, delimiter: str, width: int) -> Iterator[Piece]:
    """Read block by block; a record that goes on behind the end of one takes the next one with it."""
    n_before = 0
    while (block := lines.take_block()) is not None:
        rows = _plain_rows(block, delimiter, width)
        if rows is not None:
            has_blanks = any(sign in block for sign in (b" ", b"\t"))
            yield Piece(_told_apart(rows, n_before, has_blanks=has_blanks), pl.DataFrame(schema=dict(REJECTS)))
            n_before += rows.height
            continue
        lines.give_back(block)
        records = _records(lines, delimiter, width)
        while not lines.is_at_end_of_block:
            some = _some(records, lines)
            yield _odd_rows(some, n_before, width)
            n_before += len(some)


def _some(records: Iterator[_Record], lines: _Lines) -> list[_Record]:
    some = []
    for record in records:
        some.append(record)
        if lines.is_at_end_of_block or len(some) == _RECORDS_AT_ONCE:
            break
    return some


def _plain_rows(block: bytes, delimiter: str, width: int) -> pl.DataFrame | None:
    """Split every line at the delimiters, or give None when that is not all there is to it."""
    has_lone_returns = block.count(b"\r") != block.count(b"\r\n")  # they end lines too; polars drops some from fields
    if has_lone_returns or block.startswith(_MARK):  # a mark only means nothing at the beginning
        return None
    schema = {str(place): pl.String for place in range(width)}
    try:
        rows = pl.read_csv(
            block, has_header=False, schema=schema, separator=delimiter, quote_char=None, raise_if_empty=False
        )
    except pl.exceptions.PolarsError:  # a row with more fields, or no UTF-8
        return None
    if rows.height != block.count(b"\n") + (not block.endswith(b"\n")):  # blank lines at an end may not be counted
        return None
    text = pl.col(pl.String)
    if rows.select(pl.any_horizontal((text.str.len_bytes() > csv.field_size_limit()).any())).item():
        return None  # a reject, and no text that is as long
    if b'"' not in block:
        return rows
    is_quoted = text.str.starts_with('"') & text.str.ends_with('"') & (text.str.len_bytes() > 1)
    bare = rows.select(pl.when(is_quoted).then(text.str.slice(1, text.str.len_chars() - 2)).otherwise(text).name.keep())
    return None if bare.select(pl.any_horizontal(text.str.contains('"').any())).item() else bare


def _odd_rows(records: list[_Record], n_before: int, width: int) -> Piece:
    """Take records one by one; those with too many fields, or that cannot be read, are kept as rejects."""
    kept, broken = [], []
    for position, record in enumerate(records, start=n_before + 1):
        if isinstance(record, _Broken):
            broken.append((position, record.reason, excerpt(record.line)))
        elif any(record[width:]):
            broken.append((position, f"{len(record)} fields, expected {width}", excerpt(",".join(record))))
        else:
            kept.append((position, *record[:width], *[""] * (width - len(record))))
    schema = {POSITION: pl.Int64} | {str(place): pl.String for place in range(width)}
    rows = pl.DataFrame(dict(zip(schema, zip(*kept, strict=True), strict=True)) if kept else {}, schema=schema)
    return Piece(_without_blanks(rows), pl.DataFrame(broken, schema=dict(REJECTS), orient="row"))


def _told_apart(rows: pl.DataFrame, n_before: int, *, has_blanks: bool) -> pl.DataFrame:
    """Give rows their positions."""
    position = pl.int_range(n_before + 1, n_before + 1 + rows.height, dtype=pl.Int64).alias(POSITION)
    return _without_blanks(rows.select(position, pl.all()), has_blanks=has_blanks)


def _without_blanks(rows: pl.DataFrame, *, has_blanks: bool = True) -> pl.DataFrame:
    """Give blank fields as null, and drop rows of nothing else."""
    text = pl.col(pl.String)
    written = text.str.strip_chars(" \t") if has_blanks else text
    blank = rows.with_columns(pl.when(written != "").then(text).name.keep())
    return blank.filter(pl.any_horizontal(text.is_not_null()))


def _records(lines: _Lines, delimiter: str, width: int | None = None) -> Iterator[_Record]:
    """Read records; the width is that of those of several lines."""
    singly = _Singly(lines)
    reader = csv.reader(singly, delimiter=delimiter)
    record: _Record
    while True:
        singly.line = ""
        try:
            record = next(reader)
        except StopIteration:
            return
        except _GoesOn:
            record = _of_several(singly.line, lines, delimiter, width)
        except csv.Error as problem:
            record = _Broken(f"cannot be read: {problem}", singly.line)
        yield record


def _of_several(first: str, lines: _Lines, delimiter: str, width: int | None) -> _Record:
    """Read a record that goes on behind its first line; if it is none, the lines behind the first come next again."""
    taken = [first]

    def some() -> Iterator[str]:
        yield first
        n_left = _MOST_CHARACTERS - len(first)
        while len(taken) < _MOST_LINES and (line := next(lines, "")):
            taken.append(line)
            n_left -= len(line)
            if n_left < 0:
                return
            yield line

    try:
        # Strictly: a quote that closes a field stands before a delimiter. One that opens another field does not.
        record = next(csv.reader(some(), delimiter=delimiter, strict=True))
    except csv.Error:
        reason = "a quote in it never closes"
    else:
        if width is None or (len(record) >= width and not any(record[width:])):
            return record
        reason = f"{len(record)} fields on {len(taken)} lines, expected {width}"
    lines.put_back(taken[1:])
    return _Broken(reason, first)


def _delimiter(header: str) -> str:
    return max(_DELIMITERS, key=header.count)
