"""Parquet as rows: some at a time, whatever the size of the file, each distinct text once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow as pa
from pyarrow import parquet

from enforcement.importers.table_columns import chosen
from enforcement.names import printable

_ROWS_AT_ONCE: Final = 2_000_000
_LARGE_GROUP: Final = 64 * 1024**2  # octets; larger row groups are read through a buffer, others at once
_BUFFER: Final = 1024**2  # octets read ahead of a column


class ParquetRows:
    """The rows of a Parquet file that can be used; what is wrong with the file is a ValueError, also in its middle."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _told(path), parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            groups = file.metadata
            self.n_rows: int = groups.num_rows
            places, self.notes = chosen(schema.names, path)
            self._columns = {name: schema.names[place] for name, place in places.items()}
            kinds = {name: schema.types[place] for name, place in places.items()}
        for name, kind in kinds.items():
            _expect_kind(path, name, kind)
        largest = max((groups.row_group(place).total_byte_size for place in range(groups.num_row_groups)), default=0)
        self._buffer = _BUFFER if largest > _LARGE_GROUP else 0
        self._texts = [self._columns[name] for name, kind in kinds.items() if _is_text(kind) and name != "sent_at"]

    def pieces(self) -> Iterator[pl.DataFrame]:
        """Give the rows: `position` from 1, and COLUMNS, texts as Enums."""
        n_before = 0
        with (
            _told(self._path),
            parquet.ParquetFile(
                self._path, read_dictionary=self._texts, buffer_size=self._buffer, pre_buffer=False
            ) as file,
        ):  # by Arrow: on a damaged file polars would print traces of its threads
            batches = file.iter_batches(_ROWS_AT_ONCE, columns=list(self._columns.values()), use_threads=False)
            for table in _together(batches):
                table.validate(full=True)  # polars trusts that text is text
                columns = {name: _series(table.column(title).chunk(0)) for name, title in self._columns.items()}
                if not isinstance(columns["sent_at"].dtype, pl.Datetime):
                    columns["sent_at"] = columns["sent_at"].cast(pl.String)
                position = pl.int_range(n_before + 1, n_before + 1 + table.num_rows, dtype=pl.Int64)
                yield pl.DataFrame(columns).with_columns(position=position)
                n_before += table.num_rows
        if n_before != self.n_rows:
            raise ValueError(f"{self._path}: {n_before:,} rows, its end says {self.n_rows:,} (a damaged Parquet file)")


def _together(batches: Iterator[Any]) -> Iterator[Any]:
    """Put the small batches of small row groups together, with one list of distinct texts a column."""
    some: list[Any] = []
    n_rows = 0
    for batch in batches:
        some.append(batch)
        n_rows += batch.num_rows
        if n_rows >= _ROWS_AT_ONCE:
            yield pa.Table.from_batches(some).unify_dictionaries().combine_chunks()
            some, n_rows = [], 0
    if n_rows:
        yield pa.Table.from_batches(some).unify_dictionaries().combine_chunks()


class _told:  # noqa: N801 - used as a word in `with`
    """Turn what Arrow says of a damaged file into one line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        if isinstance(problem, (pa.ArrowException, OSError, UnicodeError, pl.exceptions.PolarsError)):
            told = printable(str(problem).partition("\n")[0][:200])
            raise ValueError(f"{self._path}: no Parquet file, or a damaged one ({told})") from None  # noqa: TRY004 - the file is wrong, no type


def _is_text(kind: pa.DataType) -> bool:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_string_view(inner))


def _expect_kind(path: Path, name: str, kind: pa.DataType) -> None:
    is_right, expected = {
        "sent_at": (_is_text(kind) or pa.types.is_timestamp(kind), "times, or text"),
        "messages": (pa.types.is_integer(kind) or pa.types.is_null(kind), "whole numbers"),
    }.get(name, (_is_text(kind) or pa.types.is_null(kind), "text"))
    if not is_right:
        raise ValueError(f"{path}: column {name!r} holds {kind} (expected {expected})")


def _series(column: Any) -> pl.Series:  # noqa: ANN401 - Arrow has no types
    """Take over a column, times as UTC without a zone, texts as Enums where the file keeps each once."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp(kind.unit))  # the unit stays: not every time fits another
    elif pa.types.is_dictionary(kind):
        names = column.dictionary.to_pylist()
        if None not in names and len(set(names)) == len(names):
            return pl.Series(column.indices).cast(pl.UInt32).cat.to(pl.Enum(names))
        column = column.cast(kind.value_type)
    series = pl.Series(column)
    return series.cast(pl.String) if series.dtype in (pl.Null, pl.Categorical, pl.Enum) else series
