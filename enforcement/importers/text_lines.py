"""The lines of a log, packed or not, one by one: however large the file is, and whatever stands in it."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

from enforcement.importers.mail_files import is_packed, opened, shown_path, size_of

LONGEST_LINE: Final = 1 << 20  # octets; no log of these kinds has one nearly as long
_MARK: Final = "\ufeff"  # with which some begin UTF-8
_REPORTED_EVERY: Final = 20_000  # lines

# Stands for a line that is longer.
TOO_LONG: Final = f"a line longer than {LONGEST_LINE:,} bytes"

# Told how many bytes are done, and of how many.
Report = Callable[[int, int], None]


def text_lines(path: Path, report: Report | None = None) -> Iterator[str]:
    """Give the lines of a file without their ends; TOO_LONG stands for one that has no end within reason.

    Octets that are no UTF-8 are written as escapes. Damaged gzip data are a ValueError.
    """
    n_bytes = size_of(path)
    packed = is_packed(path)
    with opened(path) as file:
        stream: IO[bytes] = gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[assignment]  # it reads alike
        try:
            for number, octets in enumerate(_lines(stream)):
                if octets is None:
                    yield TOO_LONG
                else:
                    line = octets.decode("utf-8", "backslashreplace").rstrip("\r\n")
                    yield line if number else line.removeprefix(_MARK)
                if report is not None and number % _REPORTED_EVERY == 0:
                    report(file.tell(), n_bytes)
        except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
            raise ValueError(f"{shown_path(path)}: damaged or cut off ({problem})") from None
        except OSError as problem:
            raise ValueError(f"{shown_path(path)}: cannot be read: {problem.strerror}") from None


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
    return begin.decode("utf-8", "backslashreplace").removeprefix(_MARK).splitlines()
