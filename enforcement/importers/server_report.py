"""Exchange Online's own report (`Get-OnPremServerReportInfo`, as CSV or JSON): clocks that another system started."""

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from enforcement.builds import Build, Hop
from enforcement.importers.batch import Batch, is_storable, no_mail
from enforcement.importers.csv_text import POSITION, csv_pieces
from enforcement.importers.mail_files import opened, shown_path
from enforcement.names import excerpt, server_name, shown
from enforcement.schema import REJECTS, STARTED

_LARGEST: Final = 64 * 1024**2  # octets; a report has a row a server
_WIDE: Final = (b"\xff\xfe", b"\xfe\xff")
# What a column is called, without case and signs → what it is here.
_COLUMNS: Final[Mapping[str, str]] = {
    "serverfqdn": "server",
    "server": "server",
    "build": "build",
    "firstdetecteddate": "first_detected_on",
    "firstdetectedon": "first_detected_on",
    "firstdetected": "first_detected_on",
}
_NAMED: Final = {"server": "ServerFQDN", "build": "Build", "first_detected_on": "FirstDetectedDate"}
_ISO: Final = re.compile(r"(\d{4}-\d\d-\d\d)(?:[Tt ].*)?", re.ASCII)
_NUMBERS: Final = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})(?:[ ,T].*)?", re.ASCII)
_EPOCH: Final = re.compile(r"/Date\((-?\d{1,15})(?:[+-]\d{4})?\)/", re.ASCII)
_LARGEST_DAY, _LARGEST_MONTH = 31, 12

_Given = tuple[int, Mapping[str, Any], str]  # position, what a row says, its text


def is_server_report(path: Path) -> bool:
    """Tell by its beginning whether a file is such a report."""
    try:
        with opened(path) as file:
            begin = file.read(1 << 16)
    except ValueError:
        return False
    text = _decoded(begin).lstrip("\ufeff \r\n\t")
    if text.startswith(("[", "{")):
        header = re.findall(r'"([^"\\]{1,40})"\s*:', text)
    else:
        header = re.split("[,;\t]", _without_type(text).partition("\n")[0])
    # A report that lacks one of its columns is still one, and is told what it lacks; other tables have neither name.
    return "first_detected_on" in _read_columns(header).values() or any(
        _letters(name) == "serverfqdn" for name in header
    )


def read_server_report(path: Path, today: date) -> Iterator[Batch]:
    """Read a report: a clock start for each server and build, or a reject, as of one first detected after today.

    Its builds are taken as smtp hops show them, so that no update is held against a server that its mail cannot show.
    A day written in numbers alone may have day or month first: the dates of the whole report tell which.
    """
    with opened(path) as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ValueError(f"{shown_path(path)}: larger than {_LARGEST // 1024**2} MB (expected a row a server)")
    text = _decoded(content).lstrip("\ufeff \r\n\t")
    is_json = text.startswith(("[", "{"))
    given, broken, dates = _from_json(path, text) if is_json else _from_csv(path, text)
    day_first = _day_first(dates)
    rows, rejects = [], broken
    for position, row, line in given:
        try:
            rows.append(
                (
                    server_name(_text(row, "server")),
                    str(Build.parse(_text(row, "build"))),
                    None,
                    str(Hop.SMTP),
                    _past(_day(_text(row, "first_detected_on"), day_first=day_first), today),
                )
            )
        except ValueError as problem:
            rejects.append((position, excerpt(str(problem)), excerpt(line)))
    yield no_mail(
        pl.DataFrame(sorted(rejects), schema=dict(REJECTS), orient="row"),
        started=pl.DataFrame(rows, schema=dict(STARTED), orient="row"),
    )


def _decoded(content: bytes) -> str:
    """Read text as PowerShell writes it: UTF-8 or UTF-16, with a mark."""
    encoding = "utf-16" if content.startswith(_WIDE) else "utf-8"
    return content.decode(encoding, "backslashreplace" if encoding == "utf-8" else "replace")


def _without_type(text: str) -> str:
    """Leave out the line in which Windows PowerShell names the type of what it exported."""
    return text.partition("\n")[2].lstrip("\r\n") if text.startswith("#TYPE") else text


def _letters(name: str) -> str:
    return re.sub("[^a-z]", "", name.lower())


def _read_columns(header: Sequence[str]) -> dict[str, str]:
    """Find the columns that are read, by the name they have there; of two of a kind the first."""
    found: dict[str, str] = {}
    for name in header:
        meant = _COLUMNS.get(_letters(name))
        if meant is not None and meant not in found.values():
            found[name] = meant
    return found


def _from_csv(path: Path, text: str) -> tuple[list[_Given], list[tuple[int, str, str]], list[str]]:
    header, pieces = csv_pieces(io.BytesIO(_without_type(text).encode("utf-8", "backslashreplace")))
    columns = _read_columns(header)
    for meant, name in _NAMED.items():
        if meant not in columns.values():
            raise ValueError(f"{shown_path(path)}: no column {name!r} (expected {', '.join(_NAMED.values())})")
    given: list[_Given] = []
    broken: list[tuple[int, str, str]] = []
    dates: list[str] = []
    for rows, unread in pieces:
        broken += unread.rows()
        for row in rows.iter_rows(named=True):
            told = {name: row[str(place)] for place, name in enumerate(header)}
            dates += _dates(told)
            line = ",".join("" if value is None else str(value) for value in told.values())
            given.append((row[POSITION], {meant: told[name] for name, meant in columns.items()}, line))
    return given, broken, dates


def _from_json(path: Path, text: str) -> tuple[list[_Given], list[tuple[int, str, str]], list[str]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as problem:
        told = "nested too deep" if isinstance(problem, RecursionError) else str(problem)
        raise ValueError(f"{shown_path(path)}: not JSON: {told} (expected a list of servers)") from None
    given: list[_Given] = []
    broken: list[tuple[int, str, str]] = []
    dates: list[str] = []
    for position, row in enumerate(content if isinstance(content, list) else [content], start=1):
        line = json.dumps(row, ensure_ascii=False)
        if not isinstance(row, dict):
            broken.append((position, "no object of a server", excerpt(line)))
            continue
        dates += _dates(row)
        given.append((position, {meant: row[name] for name, meant in _read_columns(list(row)).items()}, line))
    return given, broken, dates


def _dates(row: Mapping[str, Any]) -> list[str]:
    """Give what a row holds in its columns of dates."""
    return [_plain(value) for name, value in row.items() if name.lower().strip().endswith(("date", "on", "detected"))]


def _plain(value: object) -> str:
    """Give a value as text; Windows PowerShell wraps times in an object."""
    if isinstance(value, dict):
        value = value.get("value", value.get("DateTime"))
    return "" if value is None else str(value).strip()


def _text(row: Mapping[str, Any], name: str) -> str:
    text = _plain(row.get(name))
    if not text:
        raise ValueError(f"no {_NAMED[name]}")
    return text


def _day_first(dates: Sequence[str]) -> bool | None:
    """Tell whether dates in numbers have their day first; None: they do not say, or say both."""
    told: set[bool] = set()
    for text in dates:
        found = _NUMBERS.fullmatch(text)
        if found is None:
            continue
        first, sign, second = int(found[1]), found[2], int(found[3])
        # Twelve hours tell nothing: Australia, Singapore and India have AM and PM too, and the day first.
        if first > _LARGEST_MONTH or sign == ".":  # with dots nobody has the month first
            told.add(True)
        elif second > _LARGEST_MONTH:
            told.add(False)
    return told.pop() if len(told) == 1 else None


def _day(text: str, *, day_first: bool | None) -> date:
    """Read a day; what time it was does not matter."""
    found = _NUMBERS.fullmatch(text)
    if found and day_first is None and int(found[1]) != int(found[3]):
        raise ValueError(
            f"{shown(text)} may have day or month first, and no date of the report tells which"
            " (expected e.g. 2024-04-01)"
        )
    day = None
    try:
        if found := _ISO.fullmatch(text):
            day = _utc_day(text) or date.fromisoformat(found[1])
        elif found := _EPOCH.fullmatch(text):
            day = datetime.fromtimestamp(int(found[1]) / 1000, tz=UTC).date()
        elif found := _NUMBERS.fullmatch(text):
            numbers = (int(found[3]), int(found[1])) if day_first else (int(found[1]), int(found[3]))
            day = date(int(found[4]), *numbers)
    except (ValueError, OverflowError, OSError):
        day = None
    if day is None or not is_storable(day):
        raise ValueError(f"not a day: {shown(text)} (expected e.g. 2024-04-01)")
    return day


def _past(day: date, today: date) -> date:
    """Expect a day that has come, in whatever zone it was written."""
    if day > today + timedelta(days=1):
        raise ValueError(f"first detected on {day}, which is to come (today is {today})")
    return day


def _utc_day(text: str) -> date | None:
    """Give the UTC day of a time with a zone."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.astimezone(UTC).date() if at.tzinfo else at.date()
