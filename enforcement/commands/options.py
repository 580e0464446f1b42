"""What commands have in common: how days and times are written, and the options that many of them take."""

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from enforcement.forecasts import MOST_DAYS, MOST_DRAWS
from enforcement.names import printable
from enforcement.terminal import Format

_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 2999


def day(text: str) -> date:
    """Read a day: an ISO date, today or yesterday."""
    today = datetime.now(tz=UTC).date()
    if text in ("today", "yesterday"):
        return today - timedelta(days=text == "yesterday")
    try:
        return _known(date.fromisoformat(text))
    except ValueError:
        raise typer.BadParameter(f"{text[:40]!r} is no day (expected e.g. 2026-10-31, today or yesterday)") from None


def _known(day: date) -> date:
    """Refuse days that no calendar of ours reaches."""
    if not _FIRST_YEAR <= day.year <= _LAST_YEAR:
        raise ValueError(day)
    return day


def time(text: str) -> datetime:
    """Read a time, in UTC where it names no zone."""
    try:
        read = datetime.fromisoformat(text)
        _known(read.date())
    except ValueError:
        raise typer.BadParameter(f"{text[:40]!r} is no time (expected e.g. 2026-10-31T14:05, in UTC)") from None
    return read.astimezone(UTC).replace(tzinfo=None) if read.tzinfo else read


def folder(text: str) -> Path:
    """Read a folder to write into; it is made now, before anything is worked out that it could not take."""
    path = Path(text)
    if not text.strip():
        raise typer.BadParameter("no folder is named (expected the path of one)")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise typer.BadParameter(f"{printable(text)}: {problem.strerror} (expected a folder, or a new one)") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"{printable(text)}: cannot be written into")
    return path


StorePath = Annotated[
    Path,
    typer.Option(
        "--store", metavar="PATH", help="The DuckDB file with the mail history.", show_default="data/traffic.duckdb"
    ),
]
How = Annotated[Format, typer.Option("--format", help="How the answer is written to standard output.")]
From = Annotated[date | None, typer.Option("--from", parser=day, metavar="D", help="The first day that counts.")]
To = Annotated[date | None, typer.Option("--to", parser=day, metavar="D", help="The last day that counts.")]
AsOf = Annotated[date | None, typer.Option("--as-of", parser=day, metavar="D", help="Know nothing of later days.")]
Assumed = Annotated[str, typer.Option("--assumptions", metavar="FILE", help="A shipped name or a TOML file.")]
Pauses = Annotated[Path | None, typer.Option("--pauses", metavar="FILE", help="Pauses taken: CSV tenant,from,days.")]
Traffic = Annotated[
    str | None,
    typer.Option("--traffic", metavar="PATH", help="Parquet to replay where it lies, instead of the store."),
]
Engine = Annotated[
    str | None, typer.Option("--engine", metavar="ENGINE", help="What reads --traffic: duckdb, polars or spark.")
]
Master = Annotated[
    str | None, typer.Option("--master", metavar="URL", help="The Spark cluster, e.g. spark://host:7077 [local[*]].")
]
Rules = Annotated[str, typer.Option("--policy", metavar="POLICY", help="The policy whose rules judge the builds.")]
ThePolicy = Annotated[str, typer.Argument(metavar="POLICY", help="A shipped name or a TOML file.")]
Policies = Annotated[list[str], typer.Argument(metavar="POLICY…", help="Shipped names or TOML files.")]
Draws = Annotated[
    int, typer.Option(metavar="N", min=0, max=MOST_DRAWS, help="How many draws of chance; 0: no forecast.")
]
DaysAhead = Annotated[int, typer.Option("--days", metavar="N", min=1, max=MOST_DAYS, help="How many days ahead.")]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="The same seed gives the same answer.")]
