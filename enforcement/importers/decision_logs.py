"""Decision logs of the targets: a milter's JSON lines, Exim's main log; each decision that they tell, and no more."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from enforcement.builds import Build
from enforcement.export.manifest import serial_day
from enforcement.export.target import Reason
from enforcement.importers.batch import Batch, is_storable, no_mail
from enforcement.importers.text_lines import TOO_LONG, Report, first_lines, text_lines
from enforcement.names import excerpt, server_name, shown
from enforcement.schema import DECISIONS, REJECTS
from enforcement.verdict import Verdict

_ROWS_AT_ONCE: Final = 100_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FORMAT: Final = 1
_MOST_STAGES: Final = 400
_LOGGED: Final = frozenset(Reason) - {Reason.NO_EXCHANGE_SERVER}

_Row = tuple[object, ...]

# What Exim itself writes before what an ACL logs: time, zone, process, message. Peers write nothing there.
_BEFORE: Final = (
    r"(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?)(?: (?P<zone>[+-]\d{4}))?(?: \[\d{1,10}\])?"
    r"(?: [0-9A-Za-z]{6}-(?:[0-9A-Za-z]{6}|[0-9A-Za-z]{11})-[0-9A-Za-z]{2,4})? "
)
_EXIM_LINE: Final = re.compile(rf"{_BEFORE}enforcement\d{{1,5}} ", re.ASCII)
_EXIM: Final = re.compile(
    rf"{_BEFORE}enforcement1 serial=(?P<serial>\S+) verdict=(?P<verdict>\S+) reason=(?P<reason>\S+)"
    r" stage=(?P<stage>\S+) cohort=(?P<cohort>\S+) server=(?P<server>\S+) build=(?P<build>\S+)"
    r"(?: at=(?P<seconds>\d{1,11}))?",
    re.ASCII,
)
_JSON_LINE: Final = re.compile(r'\s*\{\s*"enforcement"\s*:', re.ASCII)
_EXPECTED: Final = "expected a decision as the targets of an export log it"
_JSON_KEYS: Final = ("at", "serial", "verdict", "reason", "stage", "server", "build")


def is_json_log(first: Sequence[str]) -> bool:
    """Tell by its first lines whether a file is a milter's log.

    >>> is_json_log(["starting", '{"enforcement": 1, "at": "2026-11-24T10:37:05Z"}'])
    True
    """
    return any(_JSON_LINE.match(line) for line in first)


def is_exim_log(path: Path) -> bool:
    """Tell whether a file is a main log of Exim in which a policy has logged a decision; it is read up to the first."""
    first = next((line for line in first_lines(path) if line.strip()), "")
    if not re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", first, re.ASCII):
        return False
    return any(_EXIM_LINE.match(line) for line in text_lines(path))


def read_decision_log(path: Path, *, is_exim: bool, report: Report | None = None) -> Iterator[Batch]:
    """Read the decisions of a log, piece by piece, at least one.

    A row read is a line that tells a decision, or looks like one and cannot be read, which is a reject. Lines of
    others are none, and no text of a peer can make one. The position of a reject is the number of its line.
    """
    is_ours, read = (_EXIM_LINE.match, _exim) if is_exim else (_JSON_LINE.match, _milter)
    rows: list[_Row] = []
    rejects: list[tuple[int, str, str]] = []
    servers = _remembered(server_name)
    builds = _remembered(lambda text: str(Build.parse(text)))
    for position, line in enumerate(text_lines(path, report), start=1):
        if line is TOO_LONG or not is_ours(line):
            continue
        try:
            rows.append(_row(read(line), servers, builds))
        except (ValueError, RecursionError) as problem:
            rejects.append((position, excerpt(str(problem)), excerpt(line)))
        if len(rows) + len(rejects) >= _ROWS_AT_ONCE:
            yield _batch(rows, rejects)
            rows, rejects = [], []
    yield _batch(rows, rejects)


def _batch(rows: list[_Row], rejects: list[tuple[int, str, str]]) -> Batch:
    return no_mail(
        pl.DataFrame(rejects, schema=dict(REJECTS), orient="row"),
        decisions=pl.DataFrame(rows, schema=dict(DECISIONS), orient="row"),
    )


def _exim(line: str) -> dict[str, Any]:
    """Take an Exim line apart; a blank value is `-`.

    Its time is the one that it was decided by; what Exim writes before is the time of the place, if it names no zone.
    """
    found = _EXIM.fullmatch(line)
    if found is None:
        raise ValueError(f"not a line of format {_FORMAT} ({_EXPECTED})")
    told: dict[str, Any] = {key: None if text == "-" else text for key, text in found.groupdict().items()}
    zone = found["zone"] or "+0000"
    told["at"] = f"{found['at'].replace(' ', 'T')}{zone[:3]}:{zone[3:]}"
    if found["seconds"]:
        told["at"] = (_EPOCH + timedelta(seconds=int(found["seconds"]))).isoformat()
    told["reason"] = str(told["reason"]).replace("_", " ")
    for key in ("serial", "stage"):
        if told[key] is not None:
            told[key] = _whole(told[key], what=key)
    return told


def _milter(line: str) -> dict[str, Any]:
    """Read a JSON line."""
    try:
        told = json.loads(line)
    except json.JSONDecodeError as problem:
        raise ValueError(f"not JSON: {problem.msg} ({_EXPECTED})") from None
    if not isinstance(told, dict) or told.get("enforcement") != _FORMAT or isinstance(told["enforcement"], bool):
        raise ValueError(f"not a line of format {_FORMAT} ({_EXPECTED})")
    missing = [key for key in _JSON_KEYS if key not in told]
    if missing:
        raise ValueError(f"no {missing[0]!r} ({_EXPECTED})")
    return told


def _whole(text: str, *, what: str) -> int:
    if not re.fullmatch(r"\d{1,12}", text, re.ASCII):
        raise ValueError(f"not a {what}: {shown(text)} (expected a whole number)")
    return int(text)


def _row(told: dict[str, Any], servers: Callable[[str], str], builds: Callable[[str], str]) -> _Row:
    """Check what a line tells: a row of DECISIONS."""
    for key in ("at", "verdict", "reason", "server", "build"):
        if not isinstance(told[key], str) and not (told[key] is None and key in ("server", "build")):
            raise ValueError(f"not a {key}: {shown(str(told[key]))} (expected text)")
    verdict, reason = told["verdict"], told["reason"]
    if verdict not in tuple(Verdict):
        raise ValueError(f"not a verdict: {shown(verdict)} (expected {', '.join(Verdict)})")
    if reason not in _LOGGED:
        raise ValueError(f"not a reason: {shown(reason)} (expected {', '.join(sorted(_LOGGED))})")
    return (
        _time(told["at"]),
        None if told["server"] is None else servers(told["server"]),
        None if told["build"] is None else builds(told["build"]),
        verdict,
        reason,
        _number(told["stage"], what="stage"),
        _serial(told["serial"]),
    )


def _time(text: str) -> datetime:
    try:
        read = datetime.fromisoformat(text)
        at = read.astimezone(UTC).replace(tzinfo=None) if read.tzinfo else read
    except (ValueError, OverflowError):
        at = None
    if at is None or not is_storable(at):
        raise ValueError(f"not a time: {shown(text)} (expected e.g. 2026-11-24T10:37:05Z)")
    return at


def _number(value: object, *, what: str) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST_STAGES:
        raise ValueError(f"not a {what}: {shown(str(value))} (expected 1 to {_MOST_STAGES})")
    return value


def _serial(value: object) -> int | None:
    if value is None:
        return None
    day = None
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**10:
        day = serial_day(value)
    if day is None or not is_storable(day):
        raise ValueError(f"not a serial: {shown(str(value))} (expected a day and two digits, e.g. 2026112301)")
    return int(str(value))


def _remembered(read: Callable[[str], str], most: int = 200_000) -> Callable[[str], str]:
    """Read each distinct text once."""
    known: dict[str, str] = {}

    def of(text: str) -> str:
        if text not in known:
            if len(known) > most:
                known.clear()
            known[text] = read(text)
        return known[text]

    return of
