"""Coded hand-overs on their way into a store: taken as they come, given back in order, also more than memory holds."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import polars as pl

_HELD: Final = 8_000_000  # rows in memory (170 MB); more of them go to a file
_RANGE: Final = 4_000_000  # rows sorted at a time
_SAMPLED: Final = 5_000  # every so many rows of a run tell where ranges can begin
_DAY: Final = 86_400_000_000  # microseconds
_UNITS: Final = (1_000_000, 1_000, 1)  # of times, in microseconds: most sources know seconds
_WORD: Final = 63  # bits of a whole number above zero
_ID_BITS: Final = 32

Ints = npt.NDArray[np.integer[Any]]


class Rows(NamedTuple):
    """Columns of coded hand-overs, each as long as the others."""

    who: npt.NDArray[np.int64]  # build_id × 2³² + server_id
    sent_at: npt.NDArray[np.int64]  # microseconds since 1970
    route: npt.NDArray[np.uint8]
    messages: npt.NDArray[np.int32]

    @property
    def server_id(self) -> npt.NDArray[np.int32]:
        """Whose hand-overs they are."""
        return (self.who & (2**_ID_BITS - 1)).astype(np.int32)

    @property
    def build_id(self) -> npt.NDArray[np.int32]:
        """The builds (and hops) seen."""
        return (self.who >> _ID_BITS).astype(np.int32)


_TYPES: Final = tuple(np.dtype(kind) for kind in (np.int64, np.int64, np.uint8, np.int32))


def who(build_id: Ints, server_id: Ints) -> npt.NDArray[np.int64]:
    """Give build and server as one number, in whose order hand-overs are stored."""
    return build_id.astype(np.int64) << _ID_BITS | server_id


def in_order(rows: Rows) -> Rows:
    """Sort by build, server, time, route and messages."""
    if len(rows.who) < 2:
        return rows
    unit = next(unit for unit in _UNITS if unit == 1 or not (rows.sent_at % unit).any())
    parts: list[Ints] = [rows.build_id, rows.server_id, rows.sent_at // unit, rows.route, rows.messages]
    lows = [int(part.min()) for part in parts]
    widths = [(int(part.max()) - low).bit_length() for part, low in zip(parts, lows, strict=True)]
    if sum(widths) > _WORD:
        frame = pl.DataFrame(dict(zip(Rows._fields, rows, strict=True))).sort(Rows._fields)
        return Rows(*(frame[name].to_numpy() for name in Rows._fields))
    # All that tells two rows apart fits into one number: sorting numbers is several times as fast as sorting rows.
    packed = np.zeros(len(rows.who), dtype=np.int64)
    for part, low, width in zip(parts, lows, widths, strict=True):
        if width:
            packed <<= width
            packed |= part.astype(np.int64) - low
    del parts
    packed = pl.Series(packed).sort().to_numpy(writable=True)
    unpacked = []
    for low, width in zip(reversed(lows), reversed(widths), strict=True):
        unpacked.append((packed & (2**width - 1)) + low if width else np.full(len(packed), low, dtype=np.int64))
        packed >>= width
    messages, route, sent_at, server_id, build_id = unpacked
    return Rows(who(build_id, server_id), sent_at * unit, route.astype(np.uint8), messages.astype(np.int32))


@dataclass(frozen=True, slots=True)
class _Run:
    """Rows in order: in memory, or in a file from an octet on."""

    n: int
    rows: Rows | None = None
    file: IO[bytes] | None = None
    at: tuple[int, ...] = ()

    def cut(self, place: int, start: int, end: int) -> Ints:
        """Give a stretch of a column."""
        if self.rows is not None:
            column: Ints = self.rows[place][start:end]
            return column
        assert self.file is not None
        self.file.seek(self.at[place] + start * _TYPES[place].itemsize)
        return np.fromfile(self.file, dtype=_TYPES[place], count=end - start)

    def position(self, key: tuple[int, int]) -> int:
        """Count the rows before a build and server (as one number) and a time."""
        place, ends = 0, (0, self.n)
        for place, wanted in enumerate(key):
            first = self._count_below(place, wanted, *ends)
            if place == len(key) - 1:
                return first
            ends = (first, self._count_below(place, wanted + 1, first, ends[1]))
        raise AssertionError(place)

    def _count_below(self, place: int, wanted: int, start: int, end: int) -> int:
        while start < end:
            middle = (start + end) // 2
            if int(self.cut(place, middle, middle + 1)[0]) < wanted:
                start = middle + 1
            else:
                end = middle
        return start


@dataclass(slots=True)
class Spool:
    """Takes rows in any order and gives them back sorted, a range at a time. What does not fit in memory goes to a file
    in a folder; it has no name there, so that nothing is left of it however the program ends.
    """

    folder: Path
    rows: int = 0
    _runs: list[_Run] = field(default_factory=list)
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
        rows = in_order(rows)
        some = slice(None, None, _SAMPLED)
        # Ranges begin with a day of a server, so that its messages of a day can be counted within one.
        begins = {"who": rows.who[some], "sent_at": rows.sent_at[some] // _DAY * _DAY}
        self._samples.append(pl.DataFrame(begins))
        self.rows += n
        self._runs.append(_Run(n, rows))
        if self.rows > _HELD:
            self._runs = [self._written(run) for run in self._runs]

    def _written(self, run: _Run) -> _Run:
        if run.rows is None:
            return run
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - closed at the end
        self._file.seek(0, 2)
        at = []
        for column in run.rows:
            at.append(self._file.tell())
            self._file.write(memoryview(np.ascontiguousarray(column)).cast("B"))
        self._file.flush()
        return _Run(run.n, None, self._file, tuple(at))

    def ranges(self) -> Iterator[Rows]:
        """Give all rows in order, a range at a time."""
        ends = [[run.position(key) for run in self._runs] for key in self._begins()]
        for starts, stops in pairwise([[0] * len(self._runs), *ends, [run.n for run in self._runs]]):
            cuts = [
                [run.cut(place, start, stop) for place in range(len(_TYPES))]
                for run, start, stop in zip(self._runs, starts, stops, strict=True)
                if stop > start
            ]
            if len(self._runs) == 1:
                yield Rows(*cuts[0])  # in order already
            elif cuts:
                columns: list[Any] = [np.concatenate(parts) for parts in zip(*cuts, strict=True)]
                yield in_order(Rows(*columns))

    def _begins(self) -> list[tuple[int, int]]:
        """Find where ranges of about as many rows begin."""
        if self.rows <= _RANGE:
            return []
        samples = pl.concat(self._samples).sort("who", "sent_at")
        every = max(_RANGE * samples.height // self.rows, 1)
        return samples.gather_every(every, offset=every).unique(maintain_order=True).rows()
