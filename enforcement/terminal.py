"""Answers in a terminal: the answer first, then tables that fit, then what was left out."""

import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final, Protocol

import polars as pl
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from enforcement import interruption
from enforcement.answers import as_json
from enforcement.spreadsheet import safe_csv

_WIDTH: Final = 100
_ROWS: Final = 40


class Format(StrEnum):
    """How an answer is written to standard output."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class Reports(Protocol):
    """Takes what is being done, how much of it is done, of how much (0: not known), and what is counted."""

    def __call__(self, what: str, done: int, total: int, unit: str = "") -> None: ...


def say(sentence: str) -> None:
    """Write a line for the user to standard error."""
    print(printable(sentence), file=sys.stderr)  # noqa: T201 - the one place that speaks to the user


def answer(sentence: str) -> None:
    """Write a line of the answer to standard output."""
    print(printable(sentence))  # noqa: T201 - the one place that prints answers


def write_answer(table: pl.DataFrame, record: object, how: Format) -> None:
    """Write an answer for scripts: the table as CSV or Parquet, the record as JSON."""
    if how is Format.JSON:
        print(as_json(record))  # noqa: T201 - the answer itself
    elif how is Format.CSV:
        sys.stdout.write(safe_csv(table))
    elif sys.stdout.isatty():
        raise ValueError("--format parquet writes bytes: send them to a file with > FILE")
    else:
        buffer = io.BytesIO()
        table.write_parquet(buffer)
        sys.stdout.buffer.write(buffer.getvalue())


def show(table: pl.DataFrame, *, title: str = "", rows: int = _ROWS) -> None:
    """Print a table for reading, and say how much of it is left out."""
    if title:
        answer("")
        sentences([title])
    drawn = Table(box=None, pad_edge=False)
    for name, dtype in table.schema.items():
        drawn.add_column(
            Text(name.replace("_", " ")), justify="right" if dtype.is_numeric() else "left", overflow="fold"
        )
    for row in table.head(rows).iter_rows():
        drawn.add_row(*(Text(cell(value)) for value in row))
    console = Console(width=min(_WIDTH, Console().width) if sys.stdout.isatty() else _WIDTH, highlight=False)
    console.print(drawn)
    if table.height > rows:
        answer(f"shown {rows} of {table.height:,} rows (--format csv writes all)")


def cell(value: object) -> str:
    r"""Write a value for reading: thousands separated, at most one decimal.

    >>> cell(1234567), cell(20.4729), cell(None), cell("a\x1b[2Jb")
    ('1,234,567', '20.5', '', 'a\\x1b[2Jb')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:,.1f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, date | datetime):
        return value.isoformat()
    return printable(str(value))


def printable(text: str) -> str:
    """Escape control characters, so that no name from outside can steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def share(part: float, whole: float) -> str:
    """Write a share with one decimal, and nothing of nothing as such.

    >>> share(1, 3), share(0, 0)
    ('33.3 %', 'none')
    """
    return f"{100 * part / whole:.1f} %" if whole else "none"


def sentences(lines: Sequence[str]) -> None:
    """Print sentences, a paragraph each, folded at the width of a page."""
    console = Console(width=_WIDTH, highlight=False)
    for line in lines:
        console.print(Text(printable(line)))


class _Rate(ProgressColumn):
    """How much is done a second."""

    def render(self, task: Task) -> Text:
        """Write it once it can be told."""
        unit, rate = task.fields.get("unit"), task.finished_speed or task.speed
        return Text(f"{rate:,.0f} {unit}/s" if unit and rate else "")


@contextmanager
def progress() -> Iterator[Reports]:
    """Show what is done, how far and how fast it goes, and the time left, on standard error when that is a terminal."""
    console = Console(stderr=True)
    columns: tuple[Any, ...] = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int, unit: str = "") -> None:
            interruption.check()
            if what not in tasks:  # its rate and time left begin anew
                for task in tasks.values():
                    bars.remove_task(task)
                tasks.clear()
                tasks[what] = bars.add_task(printable(what), total=None, unit=unit)
            bars.update(tasks[what], completed=done, total=total or None)

        yield report
