"""Traffic tables, CSV and Parquet: each row a hand-over, or a count of like ones."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import polars as pl

from enforcement.ahead import made_ahead
from enforcement.importers.batch import Batch
from enforcement.importers.csv_text import Piece, csv_pieces
from enforcement.importers.parquet_file import ParquetRows
from enforcement.importers.table_columns import REQUIRED, chosen
from enforcement.importers.table_rows import Meanings, judged
from enforcement.schema import HANDOVERS, REJECTS

Report = Callable[[int, int], None]


def read_table(path: Path, report: Report | None = None) -> Iterator[Batch]:
    """Read a CSV (.csv, .csv.gz) or Parquet file of hand-overs, piece by piece, at least one.

    What is wrong with the file itself is a ValueError, and may come after some pieces. `report` is told how many rows
    have been read, and of how many.
    """
    read = _parquet_batches if path.suffix.lower() == ".parquet" else _csv_batches
    for batch, n_read, n_rows in made_ahead(read(path)):
        yield batch
        if report is not None:
            report(n_read, n_rows)


def _parquet_batches(path: Path) -> Iterator[tuple[Batch, int, int]]:
    rows = ParquetRows(path)
    meanings = Meanings()
    n_read = 0
    for piece in made_ahead(rows.pieces()):
        good, bad = judged(piece, meanings)
        n_read += piece.height
        yield _batch(good, bad, rows.notes), n_read, rows.n_rows
    if not n_read:
        yield _batch(pl.DataFrame(schema=dict(HANDOVERS)), pl.DataFrame(schema=dict(REJECTS)), rows.notes), 0, 0


def _csv_batches(path: Path) -> Iterator[tuple[Batch, int, int]]:
    """Read CSV; how many rows there are is reckoned from how far into the file they have led."""
    n_octets = path.stat().st_size
    n_read = 0
    with path.open("rb") as file:
        header, pieces = _csv_pieces(path, file)
        if not header:
            raise ValueError(f"{path}: no header in its first line (expected {', '.join(REQUIRED)})")
        places, notes = chosen(header, path)
        meanings = Meanings()
        for rows, broken in made_ahead(_told(path, pieces)):
            given = rows.select("position", **{name: pl.col(str(place)) for name, place in places.items()})
            good, bad = judged(given, meanings)
            n_read += rows.height + broken.height
            yield (
                _batch(good, pl.concat([bad, broken]).sort("position"), notes),
                n_read,
                n_read * n_octets // file.tell(),
            )
    empty = pl.DataFrame(schema=dict(HANDOVERS)), pl.DataFrame(schema=dict(REJECTS))
    yield _batch(*empty, notes), n_read, n_read


def _csv_pieces(path: Path, file: IO[bytes]) -> tuple[list[str], Iterator[Piece]]:
    stream: IO[bytes] = gzip.GzipFile(fileobj=file) if path.suffix.lower() == ".gz" else file  # type: ignore[assignment]  # it reads alike
    try:
        return csv_pieces(stream)
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise _damaged(path, problem) from None


def _told(path: Path, pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Name the file in what is said of it."""
    while True:
        try:
            piece = next(pieces, None)
        except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
            raise _damaged(path, problem) from None
        except ValueError as problem:
            raise ValueError(f"{path}: {problem}") from None
        if piece is None:
            return
        yield piece


def _damaged(path: Path, problem: Exception) -> ValueError:
    return ValueError(f"{path}: damaged or cut off ({problem})")


def _batch(good: pl.DataFrame, bad: pl.DataFrame, notes: tuple[str, ...]) -> Batch:
    return Batch(handovers=good, sightings=None, rejects=bad, rows_read=good.height + bad.height, notes=notes)
