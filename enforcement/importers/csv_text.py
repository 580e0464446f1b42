"""CSV text as rows of text: quickly when it is plain, patiently when it is not."""

import csv
import io
from collections.abc import Iterator
from itertools import islice
from typing import Final

import polars as pl

from enforcement.names import excerpt
from enforcement.schema import REJECTS

POSITION: Final = "position"
_DELIMITERS: Final = ",;\t"
_ROWS_AT_ONCE: Final = 100_000


def csv_rows(data: bytes) -> tuple[list[str], pl.DataFrame, pl.DataFrame]:
    r"""Give the header, the rows, and what was no row (REJECTS).

    Rows have their position, from 1, and a column of text for each of the header's, named by its place: 0, 1, … A blank
    field is null, a short row is filled up with blanks, and a row of blanks is none, though it is counted in positions.

    >>> header, rows, broken = csv_rows(b'server,build\nmail.example,"15.1"\n\na,b,c\n')
    >>> header, rows.rows(), broken.rows()
    (['server', 'build'], [(1, 'mail.example', '15.1')], [(3, '3 fields, expected 2', 'a,b,c')])
    """
    data = data.lstrip(b"\r\n")
    lines = _records(data)
    header = next(lines, [])
    if isinstance(header, csv.Error) or not any(header):
        return [], pl.DataFrame(), pl.DataFrame(schema=dict(REJECTS))
    width = len(header)
    rows = _plain_rows(data, width)
    if rows is not None:
        return header, rows, pl.DataFrame(schema=dict(REJECTS))
    return header, *_odd_rows(lines, width)


def _plain_rows(data: bytes, width: int) -> pl.DataFrame | None:
    """Split every line at the delimiters, or give None when that is not all there is to it."""
    first_line = data.split(b"\n", 1)[0]
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b'"' in first_line or b"\r" in first_line.removesuffix(b"\r"):
        return None
    schema = {str(place): pl.String for place in range(width)}
    try:
        rows = pl.read_csv(
            data,
            has_header=False,
            skip_lines=1,
            schema=schema,
            separator=_delimiter(first_line.decode("utf-8", "replace")),
            quote_char=None,
            raise_if_empty=False,
        )
    except pl.exceptions.PolarsError:  # a row with more fields, or no UTF-8
        return None
    text = pl.col(pl.String)
    is_quoted = text.str.starts_with('"') & text.str.ends_with('"') & (text.str.len_bytes() > 1)
    bare = rows.select(pl.when(is_quoted).then(text.str.slice(1, text.str.len_chars() - 2)).otherwise(text).name.keep())
    if bare.select(pl.any_horizontal(text.str.contains('["\r]').any())).item():
        return None
    return _without_blanks(bare.with_row_index(POSITION, offset=1))


def _odd_rows(lines: Iterator[list[str] | csv.Error], width: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read records one by one; those with too many fields, or that cannot be read, are kept as rejects."""
    schema = {POSITION: pl.UInt32} | {str(place): pl.String for place in range(width)}
    rows, broken = [pl.DataFrame(schema=schema)], []
    numbered = enumerate(lines, start=1)
    while some := list(islice(numbered, _ROWS_AT_ONCE)):
        kept = []
        for position, record in some:
            if isinstance(record, csv.Error):
                broken.append((position, f"cannot be read: {record}", ""))
            elif any(record[width:]):
                broken.append((position, f"{len(record)} fields, expected {width}", excerpt(",".join(record))))
            else:
                kept.append((position, *record[:width], *[""] * (width - len(record))))
        rows.append(
            pl.DataFrame(dict(zip(schema, zip(*kept, strict=True), strict=True)) if kept else {}, schema=schema)
        )
    return _without_blanks(pl.concat(rows)), pl.DataFrame(broken, schema=dict(REJECTS), orient="row")


def _without_blanks(rows: pl.DataFrame) -> pl.DataFrame:
    """Give blank fields as null, and drop rows of nothing else."""
    text = pl.col(pl.String)
    blank = rows.with_columns(pl.when(text.str.strip_chars(" \t") != "").then(text).name.keep())
    return blank.filter(pl.any_horizontal(text.is_not_null())).with_columns(pl.col(POSITION).cast(pl.Int64))


def _records(data: bytes) -> Iterator[list[str] | csv.Error]:
    """Read records; one that cannot be read is given as its error."""
    is_wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # as spreadsheets write "Unicode text"
    # Octets that are no text stay visible, and make no name.
    stream = io.TextIOWrapper(
        io.BytesIO(data), encoding="utf-16" if is_wide else "utf-8-sig", errors="backslashreplace", newline=""
    )
    delimiter = _delimiter(stream.readline())
    stream.seek(0)
    reader = csv.reader(stream, delimiter=delimiter)
    while True:
        try:
            yield from reader
        except csv.Error as problem:
            yield problem
        else:
            return


def _delimiter(header: str) -> str:
    return max(_DELIMITERS, key=header.count)
