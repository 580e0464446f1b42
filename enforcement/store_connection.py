"""A connection to a store: how it is opened, what it may not do, and what its errors say."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import duckdb

_MEMORY: Final = "2GB"  # beyond it the engine spills to disk

# Nothing that a query says can reach another file, load code, or change these.
_LOCKED: Final[dict[str, str | bool | int | float | list[str]]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "memory_limit": _MEMORY,
    "lock_configuration": "true",
}


class StoreError(ValueError):
    """What went wrong with a store, in one line that says what to do."""


def connect(path: Path, *, is_writable: bool) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB file, or raise StoreError with what to do."""
    try:
        return duckdb.connect(str(path.absolute()), read_only=not is_writable, config=_LOCKED)
    except (duckdb.Error, RuntimeError, UnicodeError) as problem:
        told = one_line(problem)
    if "Could not set lock" in told or "different configuration" in told:
        raise StoreError(
            f"{path}: another program has the store open{_holder(told)} (one may write while no other has it open;"
            " try again when it is done)"
        )
    if "not a valid DuckDB" in told:
        raise StoreError(
            f"{path}: not a store (name another file; `enforcement sample` or `enforcement import` makes one)"
        )
    raise StoreError(f"{path}: cannot be opened: {told}")


def _holder(told: str) -> str:
    _, _, rest = told.partition("(PID ")
    pid = rest.partition(")")[0]
    return f", process {pid}" if pid.isdecimal() else ""


@contextmanager
def engine_errors(path: Path) -> Iterator[None]:
    """Turn what the engine reports inside into a StoreError."""
    try:
        yield
    except duckdb.Error as problem:
        raise StoreError(f"{path}: {one_line(problem)}") from None


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Keep all that is done inside, or nothing of it; what the engine reports comes out as StoreError."""
    try:
        connection.execute("begin transaction")
        yield
        connection.execute("commit")
    except BaseException as problem:  # also when the user interrupts
        with suppress(duckdb.Error):
            connection.execute("rollback")
        if isinstance(problem, duckdb.Error):
            raise StoreError(f"nothing was changed: {one_line(problem)}") from None
        raise


@contextmanager
def registered(connection: duckdb.DuckDBPyConnection, **tables: Any) -> Iterator[None]:  # noqa: ANN401 - Arrow's kinds
    """Let queries read Arrow tables by name."""
    lent = {name: _Lent(table) for name, table in tables.items()}
    for name, table in lent.items():
        connection.register(name, table)
    try:
        yield
    finally:
        for name, table in lent.items():
            table.take_back()
            with suppress(duckdb.Error):
                connection.unregister(name)


class _Lent:
    """A table that can be taken back: until a transaction ends, the engine holds all that was registered in it."""

    def __init__(self, table: Any) -> None:  # noqa: ANN401 - Arrow's kinds
        self._table = table

    def take_back(self) -> None:
        self._table = None

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


def one_line(problem: Exception) -> str:
    """Give the first part of an engine's message, without its picture of the query."""
    told = str(problem).split("\n\n")[0].split("\nLINE ")[0]
    told = "".join(c if c.isprintable() else " " for c in told)
    return " ".join(told.split())[:400]
