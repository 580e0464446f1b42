"""Coded hand-overs on their way into a store: taken as they come, given back in order, also more than memory holds."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, Self, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import polars as pl

_HELD: Final = 8_000_000  # rows in memory (170 MB at most); more of them go to a file
_RANGE: Final = 2_000_000  # rows sorted at a time
_SAMPLED: Final = 5_000  # every so many rows of a run tell where ranges can begin
_DAY: Final = 86_400_000_000  # microseconds
_UNITS: Final = (1_000_000, 1_000, 1)  # of times, in microseconds: most sources know seconds
_WORD: Final = 63  # bits of a whole number above zero
_ID_BITS: Final = 32
_LOW: Final = 2**_ID_BITS - 1
_N_ROUTES: Final = 3

# How nearly all rows fit into one number: build, server, seconds since 1996, route. Sorting numbers is several times
# as fast as sorting rows.
_BUILD_BITS, _SERVER_BITS, _TIME_BITS, _ROUTE_BITS = 10, 20, 31, 2
_FIRST: Final = 820_454_400  # 1996-01-01, in seconds: see importers.batch.FIRST_ON
_SECOND: Final = 1_000_000

Ints: TypeAlias = npt.NDArray[np.integer[Any]]
Longs: TypeAlias = npt.NDArray[np.int64]


class Rows(NamedTuple):
    """Columns of coded hand-overs, each as long as the others."""

    who: Longs  # build_id × 2³² + server_id
    sent_at: Longs  # microseconds since 1970
    route: npt.NDArray[np.uint8]
    messages: npt.NDArray[np.int32]

    @property
    def server_id(self) -> npt.NDArray[np.int32]:
        """Whose hand-overs they are."""
        return (self.who & _LOW).astype(np.int32)

    @property
    def build_id(self) -> npt.NDArray[np.int32]:
        """The builds (and hops) seen."""
        return (self.who >> _ID_BITS).astype(np.int32)


def who(build_id: Ints, server_id: Ints) -> Longs:
    """Give build and server as one number, in whose order hand-overs are stored."""
    key = build_id.astype(np.int64)
    key <<= _ID_BITS
    key |= server_id
    return key


class Days(NamedTuple):
    """How many messages a server handed over with a build on a day, by each route."""

    server_id: npt.NDArray[np.int32]
    build_id: npt.NDArray[np.int32]
    day: npt.NDArray[np.int16]  # since 1970
    messages: Longs  # a row each, a column a route


def by_day(rows: Rows) -> Days:
    """Count sorted rows by day."""
    day = (rows.sent_at // _DAY).astype(np.int16)
    is_first = np.ones(len(day), dtype=bool)
    np.not_equal(rows.who[1:], rows.who[:-1], out=is_first[1:])
    is_first[1:] |= day[1:] != day[:-1]
    first = np.flatnonzero(is_first)
    places = np.cumsum(is_first)
    places -= 1
    places *= _N_ROUTES
    places += rows.route
    n_places = len(first) * _N_ROUTES
    if (rows.messages == 1).all():
        messages = np.bincount(places, minlength=n_places)
    else:
        messages = np.zeros(n_places, dtype=np.int64)
        np.add.at(messages, places, rows.messages)
    messages = messages.reshape(-1, _N_ROUTES)
    some = rows.who[first]
    return Days((some & _LOW).astype(np.int32), (some >> _ID_BITS).astype(np.int32), day[first], messages)


def _sorted(numbers: Longs) -> Longs:
    return pl.Series(numbers).sort(multithreaded=False).to_numpy(writable=True)  # several threads take twice the work


def _merged(runs: list[Longs]) -> Longs:
    """Sort what is sorted in runs."""
    return np.sort(np.concatenate(runs), kind="stable") if len(runs) > 1 else runs[0]  # this kind makes use of runs


def packed(rows: Rows) -> Longs | None:
    """Put each row into one number, in whose order rows are stored; None when not all of them fit."""
    seconds = rows.sent_at // _SECOND
    if not (
        (rows.messages == 1).all()
        and int(rows.who.max()) < 1 << (_BUILD_BITS + _ID_BITS)
        and int((rows.who & _LOW).max()) < 1 << _SERVER_BITS
        and (seconds * _SECOND == rows.sent_at).all()
    ):
        return None
    seconds -= _FIRST
    seconds <<= _ROUTE_BITS
    seconds |= rows.route
    numbers = rows.who >> _ID_BITS
    numbers <<= _SERVER_BITS
    numbers |= rows.who & _LOW
    numbers <<= _TIME_BITS + _ROUTE_BITS
    numbers |= seconds
    return numbers


def _packed_key(key: tuple[int, int]) -> int:
    """Give the least number of the rows of a build and server from a time on."""
    build, server = divmod(key[0], 1 << _ID_BITS)
    if server >= 1 << _SERVER_BITS:  # none such is packed
        return build + 1 << _SERVER_BITS + _TIME_BITS + _ROUTE_BITS
    seconds = key[1] // _SECOND - _FIRST
    return ((build << _SERVER_BITS | server) << _TIME_BITS | seconds) << _ROUTE_BITS


def unpacked(numbers: Longs) -> Rows:
    """Give the rows that numbers stand for."""
    route = (numbers & (2**_ROUTE_BITS - 1)).astype(np.uint8)
    sent_at = numbers >> _ROUTE_BITS
    sent_at &= 2**_TIME_BITS - 1
    sent_at += _FIRST
    sent_at *= _SECOND
    server_id = numbers >> (_ROUTE_BITS + _TIME_BITS)
    build_id = server_id >> _SERVER_BITS
    server_id &= 2**_SERVER_BITS - 1
    build_id <<= _ID_BITS
    build_id |= server_id
    return Rows(build_id, sent_at, route, np.ones(len(numbers), dtype=np.int32))


def in_order(rows: Rows) -> Rows:
    """Sort rows of any kind by build, server, time, route and messages."""
    if len(rows.who) < 2:
        return rows
    unit = next(unit for unit in _UNITS if unit == 1 or not (rows.sent_at % unit).any())
    parts: list[Ints] = [rows.build_id, rows.server_id, rows.sent_at // unit, rows.route, rows.messages]
    lows = [int(part.min()) for part in parts]
    widths = [(int(part.max()) - low).bit_length() for part, low in zip(parts, lows, strict=True)]
    if sum(widths) > _WORD:
        frame = pl.DataFrame(dict(zip(Rows._fields, rows, strict=True))).sort(Rows._fields)
        return Rows(*(frame[name].to_numpy() for name in Rows._fields))
    # All that tells two rows apart fits into one number, less what all have in common.
    numbers = np.zeros(len(rows.who), dtype=np.int64)
    for part, low, width in zip(parts, lows, widths, strict=True):
        if width:
            numbers <<= width
            numbers |= part.astype(np.int64) - low
    del parts
    numbers = _sorted(numbers)
    columns: list[Longs] = []
    for low, width in zip(reversed(lows), reversed(widths), strict=True):
        columns.append((numbers & (2**width - 1)) + low if width else np.full(len(numbers), low, dtype=np.int64))
        numbers >>= width
    messages, route, sent_at, server_id, build_id = columns
    return Rows(who(build_id, server_id), sent_at * unit, route.astype(np.uint8), messages.astype(np.int32))


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of a run: in memory, or in a file from an octet on."""

    n: int
    kind: np.dtype[Any]
    values: Ints | None = None
    file: IO[bytes] | None = None
    at: int = 0

    def cut(self, start: int, end: int) -> Ints:
        """Give a stretch of it."""
        if self.values is not None:
            return self.values[start:end]
        assert self.file is not None
        self.file.seek(self.at + start * self.kind.itemsize)
        return np.fromfile(self.file, dtype=self.kind, count=end - start)

    def count_below(self, wanted: int, start: int, end: int) -> int:
        """Tell where in a sorted stretch the numbers from a wanted one on begin."""
        while start < end:
            middle = (start + end) // 2
            if int(self.cut(middle, middle + 1)[0]) < wanted:
                start = middle + 1
            else:
                end = middle
        return start


@dataclass(slots=True)
class Spool:
    """Takes rows in any order and gives them back sorted, a range at a time.

    What does not fit in memory goes to a file in a folder. It has no name there, so that nothing is left of it however
    the program ends.
    """

    folder: Path
    rows: int = 0
    _runs: list[list[_Column]] = field(default_factory=list)  # each sorted: one column of packed rows, or those of Rows
    _samples: list[pl.DataFrame] = field(default_factory=list)
    _file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, rows: Rows) -> None:
        """Take rows as they come."""
        n = len(rows.who)
        if not n:
            return
        numbers = packed(rows)
        run: list[Ints]
        if numbers is not None:
            run = [numbers := _sorted(numbers)]
            some = unpacked(numbers[::_SAMPLED])
        else:
            rows = in_order(rows)
            run = list(rows)
            some = Rows(*cast("Any", [column[::_SAMPLED] for column in rows]))
        # Ranges begin with a day of a server, so that its messages of a day can be counted within one.
        self._samples.append(pl.DataFrame({"who": some.who, "sent_at": some.sent_at // _DAY * _DAY}))
        self.rows += n
        self._runs.append([_Column(n, column.dtype, column) for column in run])
        if self.rows > _HELD:
            self._runs = [[self._written(column) for column in run] for run in self._runs]

    def _written(self, column: _Column) -> _Column:
        if column.values is None:
            return column
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - closed at the end
        at = self._file.seek(0, 2)
        self._file.write(np.ascontiguousarray(column.values).tobytes())
        self._file.flush()
        return _Column(column.n, column.kind, None, self._file, at)

    def ranges(self) -> Iterator[Rows]:
        """Give all rows in order, a range at a time."""
        begins = [[_position(run, key) for run in self._runs] for key in self._begins()]
        ends = [run[0].n for run in self._runs]
        for starts, stops in pairwise([[0] * len(ends), *begins, ends]):
            cuts: list[list[Any]] = [
                [column.cut(start, stop) for column in run]
                for run, start, stop in zip(self._runs, starts, stops, strict=True)
                if stop > start
            ]
            numbers = [cut[0] for cut in cuts if len(cut) == 1]
            plain = [Rows(*cut) for cut in cuts if len(cut) > 1]
            if not plain and numbers:
                yield unpacked(_merged(numbers))
            elif plain:
                plain += [unpacked(cut) for cut in numbers]
                columns: list[Any] = [np.concatenate(parts) for parts in zip(*plain, strict=True)]
                yield in_order(Rows(*columns)) if len(plain) > 1 else plain[0]

    def _begins(self) -> list[tuple[int, int]]:
        """Find where ranges of about as many rows begin."""
        if self.rows <= _RANGE:
            return []
        samples = pl.concat(self._samples).sort("who", "sent_at")
        every = max(_RANGE * samples.height // self.rows, 1)
        return samples.gather_every(every, offset=every).unique(maintain_order=True).rows()


def _position(run: list[_Column], key: tuple[int, int]) -> int:
    """Count the rows of a run before a build and server (as one number) and a time."""
    if len(run) == 1:
        return run[0].count_below(_packed_key(key), 0, run[0].n)
    first = run[0].count_below(key[0], 0, run[0].n)
    return run[1].count_below(key[1], first, run[0].count_below(key[0] + 1, first, run[0].n))
