"""The lines of a log, packed or not, one by one: however large the file is, and whatever stands in it."""

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

from enforcement.importers.mail_files import is_packed, opened, shown_path, size_of

LONGEST_LINE: Final = 1 << 20  # octets; no log of these kinds has one nearly as long
_MARK: Final = "\ufeff"  # with which some begin a text; in the midst of one where files were copied together
_WIDE: Final = (b"\xff\xfe", b"\xfe\xff")  # UTF-16, as Windows PowerShell writes by `>` and Out-File
_OCTETS_AT_ONCE: Final = 1 << 16
_REPORTED_EVERY: Final = 20_000  # lines

# Stands for a line that is longer.
TOO_LONG: Final = f"a line longer than {LONGEST_LINE:,} bytes"

# Told how many bytes are done, and of how many.
Report = Callable[[int, int], None]


def text_lines(path: Path, report: Report | None = None) -> Iterator[str]:
    """Give the lines of a file without their ends; TOO_LONG stands for one that has no end within reason.

    UTF-16 is told by its mark; octets that are no UTF-8 are written as escapes. Damaged gzip data are a ValueError.
    """
    n_bytes = size_of(path)
    packed = is_packed(path)
    with opened(path) as file:
        stream: IO[bytes] = gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[assignment]  # it reads alike
        try:
            for number, octets in enumerate(_lines(_narrow(stream))):
                if octets is None:
                    yield TOO_LONG
                else:
                    yield octets.decode("utf-8", "backslashreplace").rstrip("\r\n").removeprefix(_MARK)
                if report is not None and number % _REPORTED_EVERY == 0:
                    report(file.tell(), n_bytes)
        except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
            raise ValueError(f"{shown_path(path)}: damaged or cut off ({problem})") from None
        except OSError as problem:
            raise ValueError(f"{shown_path(path)}: cannot be read: {problem.strerror}") from None


class _Narrow(io.RawIOBase):
    """UTF-16 as UTF-8."""

    def __init__(self, wide: IO[bytes]) -> None:
        self._wide = wide
        self._decoder = codecs.getincrementaldecoder("utf-16")("backslashreplace")
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]  # what it is always given
        while not self._left:
            octets = self._wide.read(_OCTETS_AT_ONCE)
            self._left = self._decoder.decode(octets, final=not octets).encode()
            if not octets:
                break
        data, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


def _narrow(stream: IO[bytes]) -> IO[bytes]:
    """Give a stream of UTF-8, whichever of both it is."""
    is_wide = stream.peek(2)[:2] in _WIDE  # type: ignore[attr-defined]  # both kinds of streams have it
    return io.BufferedReader(_Narrow(stream), _OCTETS_AT_ONCE) if is_wide else stream


def _lines(stream: IO[bytes]) -> Iterator[bytes | None]:
    while octets := stream.readline(LONGEST_LINE):
        if len(octets) < LONGEST_LINE or octets.endswith(b"\n"):
            yield octets
            continue
        while (rest := stream.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
            pass
        yield None


def first_lines(path: Path, *, n_bytes: int = 1 << 16) -> list[str]:
    """Give the lines that a file begins with, as many as fit in some bytes; none when it cannot be unpacked."""
    with opened(path) as file:
        stream = gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == b"\x1f\x8b" else file
        try:
            begin = stream.read(n_bytes)
        except (EOFError, OSError, zlib.error):
            return []
    encoding = "utf-16" if begin.startswith(_WIDE) else "utf-8"
    return begin.decode(encoding, "backslashreplace").removeprefix(_MARK).splitlines()
