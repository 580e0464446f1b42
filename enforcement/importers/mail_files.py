"""Files that hold mail: which ones a path names, and the header fields of each mail in them."""

import gzip
import hashlib
import os
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Final

_PIECE: Final = 1 << 17  # fits the processor's own memory
_LONGEST_HEADERS: Final = 1 << 20  # mail servers refuse far shorter ones
_LONGEST_SEPARATOR: Final = 1_000
_SNIFFED: Final = 1 << 16
_GZIP: Final = b"\x1f\x8b"
_BOM: Final = "\xef\xbb\xbf"  # of UTF-8, read as Latin-1

# Stands for the header fields of a mail whose headers do not end within this.
TOO_LONG: Final = [f"headers longer than {_LONGEST_HEADERS:,} bytes"]

# Where a line ends that does not go on in the next one. Behind a blank line nothing goes on.
_LINE_END = re.compile(r"\n(?:(?![ \t])|(?<=\n\n))")

_DAY: Final = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH: Final = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_CLOCK: Final = r"\d{1,2}:\d\d(?::\d\d)?"
# `From a@b.example Thu Jan  1 00:00:00 1970`, with a zone before or after the year, or as in a Date field.
_SEPARATOR = re.compile(
    rf"From (?:[^\n]*? )??{_DAY},? (?:{_MONTH} {{1,2}}\d{{1,2}}| ?\d{{1,2}} {_MONTH}) "
    rf"(?:{_CLOCK}(?: [A-Z+-][\w:]{{0,5}})? \d{{4}}|\d{{4}} {_CLOCK})(?!\d)",
    re.ASCII,
)
# How most end, which is quick to see.
_USUAL_END = re.compile(rf" {_DAY} {_MONTH} [ \d]\d \d\d:\d\d:\d\d \d{{4}}\Z", re.ASCII)
_USUAL_LENGTH: Final = len(" Thu Jan  1 00:00:00 1970")
_FIELD_NAME = re.compile(r"[!-9;-~]{1,76}:")
_MAIL_FIELD = re.compile(
    r"^(?:received|from|date|return-path|delivered-to|message-id|mime-version):", re.IGNORECASE | re.MULTILINE
)
_MAIL_SUFFIXES: Final = (".eml", ".eml.gz")
_BOX_SUFFIXES: Final = (".mbox", ".mbox.gz", ".mbx", ".mbx.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is imported under one name: a file, or the single mails of one folder."""

    path: Path
    files: tuple[Path, ...]

    def sha256(self) -> str:
        """Name the content: whatever its files are called and however they are ordered, it is the same."""
        digests = []
        for path in self.files:
            with opened(path) as file:
                try:
                    digests.append(hashlib.file_digest(file, "sha256").hexdigest())
                except OSError as problem:
                    raise ValueError(f"{shown_path(path)}: cannot be read: {problem.strerror}") from None
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def find_sources(path: Path) -> list[Source]:
    """Find the mail that a path names; a folder is searched with all below it.

    Each mbox is a source of its own; the single mails of a folder are one together, and so is a Maildir.
    A path without mail is a ValueError.
    """
    try:
        if path.is_dir():
            found, _ = in_folder(path)
            if found:
                return found
            raise ValueError(f"{shown_path(path)}: no mail in this folder (expected mbox or .eml files, or a Maildir)")
        if not path.exists():
            raise ValueError(f"{shown_path(path)}: no such file or folder")
        if not path.is_file():
            raise ValueError(f"{shown_path(path)}: neither a file nor a folder")
        if path.stat().st_size == 0:
            raise ValueError(f"{shown_path(path)}: an empty file (expected mail)")
        if _kind(path) is None:
            raise ValueError(
                f"{shown_path(path)}: no mail in it (expected an mbox, a single mail, or a folder of them)"
            )
    except OSError as problem:
        raise ValueError(f"{shown_path(path)}: cannot be read: {problem.strerror}") from None
    return [Source(path=path, files=(path,))]


def in_folder(folder: Path, but: Collection[Path] = ()) -> tuple[list[Source], int]:
    """Find the sources below a folder, in order of their names, and count what holds no mail; some files are not asked.

    What cannot be looked into is a ValueError.
    """
    try:
        return _searched(folder, but)
    except OSError as problem:
        raise ValueError(f"{shown_path(folder)}: cannot be read: {problem.strerror}") from None


def _searched(folder: Path, but: Collection[Path]) -> tuple[list[Source], int]:
    found: list[Source] = []
    n_passed_over = 0
    for root, folders, names in os.walk(folder, onerror=_fail):
        here = Path(root)
        folders.sort()
        n_passed_over += sum((here / name).is_symlink() for name in folders)
        if {"cur", "new"} <= set(folders):
            delivered = (path for part in ("cur", "new") for path in sorted((here / part).iterdir()))
            mails = tuple(
                path for path in delivered if path.is_file() and not path.name.startswith(".") and path not in but
            )
            found += [Source(path=here, files=mails)] if mails else []
            folders[:] = [name for name in folders if name not in ("cur", "new", "tmp")]
        kinds = {path: _kind(path) for path in (here / name for name in sorted(names)) if path not in but}
        mails = tuple(path for path, kind in kinds.items() if kind == "mail")
        found += [Source(path=here, files=mails)] if mails else []
        found += [Source(path=path, files=(path,)) for path, kind in kinds.items() if kind == "box"]
        n_passed_over += sum(kind is None for kind in kinds.values())
    return found, n_passed_over


def _kind(path: Path) -> str | None:
    """Tell whether a file is an mbox ("box"), a single mail ("mail"), or neither, by its name or its beginning."""
    name = path.name.lower()
    if not path.is_file() or path.stat().st_size == 0:
        return None
    if name.endswith(_MAIL_SUFFIXES):
        return "mail"
    if name.endswith(_BOX_SUFFIXES):
        return "box"
    try:
        start = _start(_pieces(path, size=_SNIFFED))
    except ValueError:
        return None  # packed and broken from its first bytes on: nothing tells that it was mail
    if _begins_box(start):
        return "box"
    headers = start.partition("\n\n")[0]
    return "mail" if _FIELD_NAME.match(headers) and _MAIL_FIELD.search(headers) else None


def header_fields(path: Path, report: Callable[[int], None] = lambda _: None) -> Iterator[list[str]]:
    """Yield the header fields of each mail in a file, folded as they are, with one piece of the file in memory.

    TOO_LONG stands for the fields of a mail whose headers have no end. Bytes are given as Latin-1, line ends as LF.
    `report` is told how many bytes of the file are done. Damaged gzip data are a ValueError.
    """
    rest = _pieces(path, size=_PIECE, report=report)
    start = _start(rest)
    if _begins_box(start):
        yield from _fields_in_box(start, rest)
    elif path.name.lower().endswith(_BOX_SUFFIXES):  # what stands before the first separator counts as a mail
        yield from _fields_in_box(f"From -\n{start}", rest)
    else:
        yield _fields_of_mail(start, rest)
        if is_packed(path):  # to know that it is whole
            for _ in rest:
                pass


def _fields_of_mail(text: str, rest: Iterator[str]) -> list[str]:
    while "\n\n" not in text and len(text) <= _LONGEST_HEADERS and (piece := next(rest, "")):
        text += piece
    headers = text.partition("\n\n")[0].removesuffix("\n")
    return _LINE_END.split(headers) if len(headers) <= _LONGEST_HEADERS else TOO_LONG


def _fields_in_box(text: str, rest: Iterator[str]) -> Iterator[list[str]]:
    """Yield the header fields of each mail in an mbox; `text` begins at its first separator."""
    is_in_body = is_carried = False
    is_last = False
    while not is_last:
        piece = next(rest, "")
        is_last = not piece
        lines = _LINE_END.split(text + piece)
        n_whole = len(lines) - (not is_last)  # the last line may go on in the next piece
        lines += ["", ""]  # so that a blank line is always found
        at = 0
        while at < n_whole:
            if not is_in_body:  # at a separator
                end = lines.index("", at)
                if end >= n_whole and not is_last:
                    break
                fields = lines[at + 1 : end]
                yield TOO_LONG if is_carried and _length(fields) > _LONGEST_HEADERS else fields
                at, is_in_body, is_carried = end, True, False
            at = lines.index("", at) + 1
            if at < n_whole and lines[at].startswith("From ") and _is_separator(lines[at]):
                is_in_body = False
        if not is_in_body:
            text, is_carried = "\n".join(lines[at:-2]), True
            if len(text) - len(lines[at]) - 1 > _LONGEST_HEADERS:
                yield TOO_LONG
                text, is_in_body, is_carried = "x", True, False
        elif at == n_whole and len(lines[at]) < _LONGEST_SEPARATOR:  # perhaps the beginning of a separator
            text = "\n" + lines[at]
        else:  # of a body nothing counts but whether its last line is blank
            text = "x\n" if at == n_whole + 1 else "x"


def _length(fields: list[str]) -> int:
    return sum(map(len, fields)) + len(fields)


def _begins_box(text: str) -> bool:
    return text.startswith("From ") and _is_separator(text[:_LONGEST_SEPARATOR])


def _is_separator(line: str) -> bool:
    """Tell whether a line that begins with `From `, perhaps with what is folded under it, stands between two mails.

    >>> _is_separator("From a@b.example Thu Jan  1 00:00:00 1970"), _is_separator("From me to you, with love")
    (True, False)
    """
    if len(line) > _LONGEST_SEPARATOR:
        return False
    if "\n" not in line and _USUAL_END.match(line, len(line) - _USUAL_LENGTH):
        return True
    return _SEPARATOR.match(line) is not None


def _start(rest: Iterator[str]) -> str:
    """Give the beginning of a file, without blank lines and the mark of UTF-8 before it; empty: all is blank."""
    start = ""
    while len(start) < _LONGEST_SEPARATOR and (piece := next(rest, "")):
        start = (start + piece).removeprefix(_BOM).lstrip("\n")
    return start


def _pieces(path: Path, *, size: int, report: Callable[[int], None] = lambda _: None) -> Iterator[str]:
    """Yield a file as text, unpacked when it is packed: bytes as Latin-1, line ends as LF."""
    n_read = 0
    held = ""  # a CR at the end of a piece may be half a line end
    with opened(path) as file:
        read = gzip.GzipFile(fileobj=file).read1 if _begins_packed(file) else file.read
        try:
            while piece := read(size):
                n_read += len(piece)
                text = held + piece.decode("latin-1")
                held = ""
                if "\r" in text:
                    held = "\r" if text.endswith("\r") else ""
                    text = text.removesuffix("\r").replace("\r\n", "\n")
                if text:
                    yield text
                report(file.tell())
            if held:
                yield held
        except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
            what = "ends too early" if isinstance(problem, EOFError) else "is damaged"
            raise ValueError(
                f"{shown_path(path)}: the gzip file {what}; it can be read up to byte {n_read:,}"
            ) from None
        except OSError as problem:
            raise ValueError(f"{shown_path(path)}: cannot be read: {problem.strerror}") from None


def is_packed(path: Path) -> bool:
    """Tell whether a file is packed by gzip, whatever it is called."""
    with opened(path) as file:
        return _begins_packed(file)


def _begins_packed(file: BufferedReader) -> bool:
    return file.peek(2)[:2] == _GZIP


def opened(path: Path) -> BufferedReader:
    """Open a file, or say in one line why it cannot be opened."""
    try:
        return path.open("rb")
    except OSError as problem:
        raise ValueError(f"{shown_path(path)}: cannot be opened: {problem.strerror}") from None


def size_of(path: Path) -> int:
    """Give a file's size in bytes, or say in one line why it cannot be known."""
    try:
        return path.stat().st_size
    except OSError as problem:
        raise ValueError(f"{shown_path(path)}: cannot be read: {problem.strerror}") from None


def shown_path(path: Path) -> str:
    """Write a path in one line, whatever characters it has."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def _fail(problem: OSError) -> None:
    raise ValueError(f"{shown_path(Path(str(problem.filename)))}: cannot be read: {problem.strerror}") from None
