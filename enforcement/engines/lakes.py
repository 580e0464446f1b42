"""The engines by name: which reads a history where it lies, and what it says of the rows."""

from contextlib import AbstractContextManager
from datetime import date
from typing import Final

from enforcement.engines import duckdb, polars, spark
from enforcement.history import History
from enforcement.names import printable, shown

ENGINES: Final = ("duckdb", "polars", "spark")


def open_traffic(
    path: str | None, engine: str | None, *, master: str | None = None, to_on: date | None = None
) -> AbstractContextManager[History]:
    """Open the history that lies as Parquet at a path; options that make no sense together are a ValueError.

    >>> open_traffic("mail.parquet", "sparc")
    Traceback (most recent call last):
    ValueError: not an engine: 'sparc' (expected duckdb, polars or spark)
    >>> open_traffic(None, "polars")
    Traceback (most recent call last):
    ValueError: --engine polars needs --traffic PATH: Parquet to read (a store is read by DuckDB, without --engine)
    >>> open_traffic("mail.parquet", None, master="spark://host:7077")
    Traceback (most recent call last):
    ValueError: --master is for --engine spark only (found: engine duckdb)
    """
    name = "duckdb" if engine is None else engine
    if name not in ENGINES:
        raise ValueError(f"not an engine: {shown(name)} (expected duckdb, polars or spark)")
    if master is not None and name != "spark":
        raise ValueError(f"--master is for --engine spark only (found: engine {name})")
    if path is None:
        raise ValueError(
            f"--engine {name} needs --traffic PATH: Parquet to read (a store is read by DuckDB, without --engine)"
        )
    if not path:
        raise ValueError("--traffic names no path (expected a Parquet file or a folder of them)")
    if name == "spark":
        return spark.open_traffic(path, master=spark.DEFAULT_MASTER if master is None else master, to_on=to_on)
    return {"duckdb": duckdb.open_traffic, "polars": polars.open_traffic}[name](path, to_on=to_on)


def said(history: History) -> list[str]:
    """Say of what was read what was used, and what the user should know, one line each."""
    lines = []
    columns = ("source", "rows_read", "rows_stored", "rows_rejected", "notes")
    for source, read, used, unusable, notes in history.imports.select(columns).iter_rows():
        lines.append(f"{source}: {read:,} rows read = {used:,} used + {unusable:,} that cannot be used")
        lines += [f"  {note}" for note in notes.splitlines()]
    return [printable(line) for line in lines]
