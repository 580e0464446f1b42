"""Exchange message tracking logs: each message that a server handed on by SMTP is a hand-over of that server."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import polars as pl

from enforcement.builds import Build, Hop
from enforcement.importers.batch import Batch, is_storable
from enforcement.importers.table_times import utc_times
from enforcement.importers.text_lines import TOO_LONG, Report, text_lines
from enforcement.names import excerpt, server_name, shown
from enforcement.received import Route
from enforcement.schema import HANDOVERS, REJECTS

_ROWS_AT_ONCE: Final = 100_000
_MOST_LINES: Final = 50  # of a row whose quoted fields hold line ends
_MOST_KNOWN: Final = 200_000  # texts of a column
_SHOWN_FIELDS: Final = 9  # up to the event; behind it stand addresses and subjects, which nobody asked for

# The server that logs an SMTP send is the client of the session; the server of it is the next one.
_TIME, _SERVER, _SOURCE, _EVENT, _BUILD = "date-time", "client-hostname", "source", "event-id", "schema-version"
_NEEDED: Final = (_TIME, _SERVER, _SOURCE, _EVENT)
_SENT: Final = ("SEND", "SENDEXTERNAL")
_BY: Final = "SMTP"
# Copies from web pages lack the sign.
_MARKED: Final = re.compile("#?(fields|version|software|log-type|date): ?(.*)", re.IGNORECASE)
_STARTS_ROW: Final = re.compile(r"#|\d{4}-\d\d-\d\dT\d\d:", re.ASCII)


class _Sent(NamedTuple):
    """A send as it stands in the log."""

    position: int
    time: str
    server: str
    build: str | None


class _Broken(NamedTuple):
    """A line that cannot be read."""

    position: int
    reason: str
    text: str


def is_tracking_log(first: Sequence[str]) -> bool:
    """Tell by its first lines whether a file is a message tracking log.

    >>> is_tracking_log(["#Software: Microsoft Exchange Server", "#Fields: date-time,client-ip,source,event-id"])
    True
    """
    marked = (_MARKED.match(line) for line in first)
    headers = (_columns(found[2]) for found in marked if found and found[1].lower() == "fields")
    return any(_TIME in columns and _EVENT in columns for columns in headers)


def read_tracking_log(path: Path, builds: frozenset[Build], report: Report | None = None) -> Iterator[Batch]:
    """Read a message tracking log of Exchange 2010 or later, piece by piece, at least one.

    A row read is a row of the events SEND and SENDEXTERNAL with source SMTP, or a line that cannot be told to be one
    of another event; rows of other events are counted in a note. The columns are those of the last `#Fields:` line. The
    build is the row's `schema-version`, else the `#Version:` when that is one of the known builds, else unknown.
    The position of a reject is the number of its line.
    """
    log = _Log(builds)
    meanings = _Meanings()
    sent: list[_Sent] = []
    broken: list[_Broken] = []
    for found in log.records(_Lines(text_lines(path, report))):
        if isinstance(found, _Sent):
            sent.append(found)
        else:
            broken.append(found)
        if len(sent) + len(broken) >= _ROWS_AT_ONCE:
            yield _batch(sent, broken, meanings)
            sent, broken = [], []
    notes: tuple[str, ...] = ()
    if log.n_others:
        notes = (f"{path.name}: rows of other events, which are no hand-overs: {log.n_others:,}",)
    yield _batch(sent, broken, meanings, notes)


class _Lines:
    """Numbered lines, of which some can be put back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._numbered = enumerate(lines, start=1)
        self._again: list[tuple[int, str]] = []  # the next one is the last

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return self

    def __next__(self) -> tuple[int, str]:
        return self._again.pop() if self._again else next(self._numbered)

    def put_back(self, taken: list[tuple[int, str]]) -> None:
        """Have lines that were taken come next again."""
        self._again += reversed(taken)


class _Log:
    """A log as far as it has been read: what the lines before say of the next one."""

    def __init__(self, builds: frozenset[Build]) -> None:
        self.n_others = 0
        self._builds = builds
        self._places: Mapping[str, int] = {}
        self._width = 0
        self._build: str | None = None

    def records(self, lines: _Lines) -> Iterator[_Sent | _Broken]:
        """Give each send, and each line that cannot be read."""
        for position, line in lines:
            if line is TOO_LONG:
                yield _Broken(position, TOO_LONG, "")
            elif line.startswith("#") or _MARKED.match(line):
                problem = self._hear(line)
                if problem:
                    yield _Broken(position, problem, line)
            elif line.strip():
                found = self._row(position, line, lines)
                if found is None:
                    self.n_others += 1
                else:
                    yield found

    def _hear(self, line: str) -> str | None:
        """Take in a line about the file, or say what is wrong with its columns."""
        found = _MARKED.match(line)
        name = found[1].lower() if found else ""
        if found and name == "version":
            self._build = self._as_build(found[2].strip())
        elif found and name == "fields":
            columns = _columns(found[2])
            lacking = [column for column in _NEEDED if columns.count(column) != 1]
            self._width = 0 if lacking else len(columns)
            self._places = {column: place for place, column in enumerate(columns)}
            if lacking:
                return f"not one column {lacking[0]!r} (expected a #Fields line of a message tracking log)"
        return None

    def _as_build(self, text: str) -> str | None:
        try:
            build = Build.parse(text)
        except ValueError:
            return None
        return str(build) if build in self._builds else None

    def _row(self, position: int, line: str, lines: _Lines) -> _Sent | _Broken | None:
        """Read a row, which may go on in further lines within quotes; None: it is of another event."""
        if not self._width:
            return _Broken(position, "no #Fields line before it that can be read", line)
        fields = _quoted(line, lines, self._width) if '"' in line else line.split(",")
        if len(fields) != self._width:
            told = f"{len(fields)} fields, expected {self._width}" if fields else "a quote in it never closes"
            return _Broken(position, told, line)
        places = self._places
        if fields[places[_EVENT]].upper() not in _SENT or fields[places[_SOURCE]].upper() != _BY:
            return None
        own = fields[places[_BUILD]].strip() if _BUILD in places else ""
        return _Sent(position, fields[places[_TIME]], fields[places[_SERVER]], own or self._build)


def _columns(text: str) -> list[str]:
    return [name.strip().lower() for name in text.split(",")]


def _quoted(line: str, lines: _Lines, width: int) -> list[str]:
    """Split a row that has quotes; empty: a quote never closes.

    It goes on in further lines only when it has all its fields then, and none of these lines begins a row itself.
    """
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error as problem:
        if "unexpected end" not in str(problem):  # a quote within a field, or a field that is too long
            return _loosely(line)
    taken: list[tuple[int, str]] = []

    def some() -> Iterator[str]:
        yield line + "\n"
        while len(taken) < _MOST_LINES and (following := next(lines, None)):
            taken.append(following)
            if _STARTS_ROW.match(following[1]) or following[1] is TOO_LONG:
                return
            yield following[1] + "\n"

    try:
        fields = next(csv.reader(some(), strict=True))
    except csv.Error:
        fields = []
    if len(fields) == width:
        return fields
    lines.put_back(taken)
    return []


def _loosely(line: str) -> list[str]:
    try:
        return next(csv.reader([line]))
    except csv.Error:
        return []


class _Meanings:
    """What the texts of the columns mean; each distinct one is read once."""

    def __init__(self) -> None:
        self._known: dict[Callable[[str], str], dict[str, str | ValueError]] = {server_name: {}, _build: {}}

    def of(self, text: str, read: Callable[[str], str]) -> str | ValueError:
        """Give what a text means, or what is wrong with it."""
        known = self._known[read]
        if text not in known:
            if len(known) > _MOST_KNOWN:
                known.clear()
            try:
                known[text] = read(text)
            except ValueError as problem:
                known[text] = problem
        return known[text]


def _build(text: str) -> str:
    return str(Build.parse(text))


def _batch(sent: list[_Sent], broken: list[_Broken], meanings: _Meanings, notes: tuple[str, ...] = ()) -> Batch:
    times = utc_times(pl.Series([row.time for row in sent], dtype=pl.String)).to_list()
    good: list[tuple[object, ...]] = []
    bad = [(line.position, line.reason, _excerpt(line.text)) for line in broken]
    for row, sent_at in zip(sent, times, strict=True):
        server = meanings.of(row.server, server_name)
        build = None if row.build is None else meanings.of(row.build, _build)
        if sent_at is None or not is_storable(sent_at):
            problem = f"not a time of a mail: {shown(row.time)} (expected e.g. 2026-01-31T07:05:09.123Z)"
        elif isinstance(server, ValueError):
            problem = f"{_SERVER}: {server}"
        elif isinstance(build, ValueError):
            problem = f"{_BUILD}: {build}"
        else:
            good.append((sent_at, server, build, None, str(Hop.MAPI), str(Route.DIRECT), 1))
            continue
        bad.append((row.position, excerpt(problem), excerpt(f"{row.time},{row.server},{row.build or ''}")))
    return Batch(
        handovers=pl.DataFrame(good, schema=dict(HANDOVERS), orient="row"),
        sightings=None,
        rejects=pl.DataFrame(sorted(bad), schema=dict(REJECTS), orient="row"),
        rows_read=len(sent) + len(broken),
        notes=notes,
    )


def _excerpt(line: str) -> str:
    return excerpt(",".join(line.split(",", _SHOWN_FIELDS)[:_SHOWN_FIELDS]))
