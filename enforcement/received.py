"""Received lines: which servers a mail passed, the builds they name, and the hand-over."""

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

from enforcement.builds import Build, Hop
from enforcement.names import excerpt, printable, server_name, shown
from enforcement.received_time import seconds_of


class Route(StrEnum):
    """How a hand-over reached the service."""

    DIRECT = "direct"
    RELAYED = "relayed"
    THROUGH_CLOUD = "through cloud"


# One look-up less for each mail.
_DIRECT: Final = Route.DIRECT.value
_RELAYED: Final = Route.RELAYED.value
_THROUGH_CLOUD: Final = Route.THROUGH_CLOUD.value
_SMTP: Final = Hop.SMTP
_MAPI: Final = Hop.MAPI
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - times are UTC and naive throughout
_LONGEST_SHOWN: Final = 80
_LONGEST_NAME: Final = 300  # no name or build that can be used is as long
_LONGEST_KEPT: Final = 1_000  # a longer line is read each time anew, so that hostile text does not fill the memory

# Patterns are possessive (`++`, `*+`): what has matched is not tried again, so no text makes them slow.
_WS: Final = r"\n?+[ \t]++"
_NAME: Final = r'[^ \t\r\n"()<>;]++'
_COMMENT: Final = r"\([^()]*+\)"
_GAP: Final = rf"(?:{_WS}|\((?:[^()]++|{_COMMENT})*+\))++"
_BY: Final = rf"by{_WS}(?![bB][yY][ \t\r\n(])({_NAME})"

# What stands before the time as Exchange writes it, and the beginning of most other lines. What does not fit is
# read word by word, with the same result.
_WRITTEN_BY_EXCHANGE = re.compile(
    rf"[^ \t\r\n:]++:{_WS}from{_WS}{_NAME}{_WS}{_COMMENT}{_WS}{_BY}{_WS}{_COMMENT}{_WS}"
    rf"with{_WS}(?:Microsoft{_WS}SMTP{_WS}Server(?:{_WS}{_COMMENT})?+|(mapi)){_WS}id{_WS}({_NAME})"
    rf"(?:{_WS}via{_WS}(?:Frontend|Mailbox){_WS}Transport)?+\Z"
)
_BEGINS_WITH_BY = re.compile(rf"[^ \t\r\n:]++:(?:{_WS}from{_WS}{_NAME}{_GAP}|{_WS}){_BY}(?=[ \t\r\n(;]|\Z)")
_LETTERS_BY = re.compile("[bB][yY]")
_PAREN = re.compile(r"[()]")
_WORD = re.compile(r'(?:"[^"]*+"|<[^<>]*+>|[^ \t\r\n;])++')
_BLANKS = re.compile(r"[ \t\r\n]++")
_OWN_PATTERN = re.compile(r"[a-z0-9_.:*?\[\]!-]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stamp:
    """What an Exchange server says of itself in a Received line; one object for all lines that say the same."""

    hop: Hop
    server: str | None  # None: no usable name; not read in the cloud
    build: Build | None  # None: no build number
    is_cloud: bool
    is_usable: bool  # has server and build


# A hop: its line, what it says, and its own time in seconds since 1970, UTC (None: not readable; not read of cloud
# hops). A plain tuple, because mail holds millions.
HopLine: TypeAlias = tuple[str, Stamp, int | None]


class HandOver(NamedTuple):
    """The hop of the on-premises Exchange server that handed a mail over, and the route it took from there."""

    stamp: Stamp  # is usable
    seconds: int  # the hop's own time, since 1970, UTC
    route: str

    @property
    def sent_at(self) -> datetime:
        """The hop's own time, UTC."""
        return _EPOCH + timedelta(seconds=self.seconds)


class Rejected(NamedTuple):
    """Why a mail has no hand-over that can be used, and the Received line that shows it."""

    reason: str
    line: str


@dataclass(frozen=True, slots=True)
class OwnHosts:
    """The service's own hosts, as shell patterns on the lower-case name.

    >>> hosts = own_hosts(["*.mx.example"])
    >>> hosts.has("in1.mx.example"), hosts.has("mx.example")
    (True, False)
    """

    pattern: re.Pattern[str]
    needles: tuple[str, ...]  # a line without any of these holds no own name

    def has(self, name: str) -> bool:
        """Tell whether a host is one of them."""
        return len(name) <= _LONGEST_NAME and self.pattern.match(name) is not None

    def wrote(self, line: str) -> bool:
        """Tell whether one of them wrote a Received line."""
        lowered = line.lower()
        for needle in self.needles:
            if needle in lowered:
                name = by_name(line)
                return name is not None and self.has(_server(name) or name.lower())
        return False


def own_hosts(patterns: Iterable[str]) -> OwnHosts | None:
    """Read shell patterns of the service's own hosts; None when there are none.

    >>> own_hosts(["*.mx example"])
    Traceback (most recent call last):
    ValueError: not a pattern of host names: '*.mx example' (expected e.g. '*.mx.example')
    """
    cleaned = sorted({pattern.lower().removesuffix(".") for pattern in patterns})
    for pattern in cleaned:
        if not _OWN_PATTERN.fullmatch(pattern):
            raise ValueError(f"not a pattern of host names: {shown(pattern)} (expected e.g. '*.mx.example')")
    if not cleaned:
        return None
    return OwnHosts(
        pattern=re.compile("|".join(fnmatch.translate(pattern) for pattern in cleaned)),
        needles=tuple(_needle(pattern) for pattern in cleaned),
    )


def _needle(pattern: str) -> str:
    """Give the longest text that every line has whose name matches a pattern."""
    if ":" in pattern or "[" in pattern:  # an address can be written in several ways
        return ""
    return max(re.split(r"[*?]", pattern), key=len)


def received_lines(fields: Sequence[str]) -> list[str]:
    """Give the Received fields of a mail.

    >>> received_lines(["Subject: x", "Received: by a.example", "RECEIVED: by b.example"])
    ['Received: by a.example', 'RECEIVED: by b.example']
    """
    return [
        field
        for field in fields
        if field[:9] == "Received:" or (field[:1] in "Rr" and field[:9].lower() == "received:")
    ]


def read_chain(lines: Sequence[str], own: OwnHosts | None = None) -> tuple[list[HopLine], HandOver | Rejected]:
    r"""Read the Received fields of a mail, topmost first, folded or not: all Exchange hops, and the hand-over.

    >>> lines = [
    ...     "Received: from ex.corp.example by in.mx.example (Postfix) with ESMTP id 1; Tue, 8 Apr 2025 13:54:44 GMT",
    ...     "Received: from a (192.0.2.1) by ex.corp.example (192.0.2.7) with Microsoft SMTP Server id\n"
    ...     " 15.1.2507.39; Tue,\n 8 Apr 2025 08:54:43 -0500",
    ... ]
    >>> hops, found = read_chain(lines, own_hosts(["*.mx.example"]))
    >>> found.stamp.server, str(found.stamp.build), str(found.sent_at), found.route
    ('ex.corp.example', '15.1.2507.39', '2025-04-08 13:54:43', 'direct')
    """
    if own is None:
        hops = _hops(lines)
        return hops, _hand_over(lines, hops)
    top = _below_own_lines(lines, own)
    if top is None:
        return _hops(lines), Rejected("no line of an own host", lines[0] if lines else "")
    below = lines[top:]
    hops = _hops(below)
    return _hops(lines[:top]) + hops, _hand_over(below, hops, where=" below the own lines")


def _hops(lines: Sequence[str]) -> list[HopLine]:
    return [hop for line in lines if ("Microsoft" in line or "mapi" in line) and (hop := _read_hop(line))]


def _hand_over(lines: Sequence[str], hops: Sequence[HopLine], where: str = "") -> HandOver | Rejected:
    """Find the hand-over among the lines that nobody of the service wrote."""
    route = _RELAYED
    for line, stamp, seconds in hops:
        if stamp.is_cloud:
            route = _THROUGH_CLOUD
        elif stamp.hop is _SMTP:
            if seconds is None or not stamp.is_usable:
                return _unusable(line, stamp)
            return HandOver(stamp, seconds, _DIRECT if line is lines[0] else route)
    if not lines:
        return Rejected(f"no Received line{where}", "")
    for line, stamp, _ in hops:
        if not stamp.is_cloud:
            return Rejected(f"only mapi hops of on-premises Exchange servers{where}", line)
    return Rejected(f"no hop of an on-premises Exchange server{where}", lines[0])


def _unusable(line: str, stamp: Stamp) -> Rejected:
    words = _words(line)
    if stamp.build is None:
        what, text = "build not readable", words.build
    elif stamp.server is None:
        what, text = "server name not usable", words.name
    else:
        what, text = "time not readable", words.time
    if "@" in text:  # a broken line may have an address anywhere
        text = excerpt(text)
    cut = text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
    return Rejected(f"{what}: '{printable(cut)}'", line)


def _below_own_lines(lines: Sequence[str], own: OwnHosts) -> int | None:
    """Give the position below the first unbroken run of own lines; None without an own line.

    >>> lines = ["Received: by list.example", "Received: by in.mx.example", "Received: by ex.corp.example"]
    >>> _below_own_lines(lines, own_hosts(["*.mx.example"]))
    2
    """
    in_run = False
    for position, line in enumerate(lines):
        if own.wrote(line):
            in_run = True
        elif in_run:
            return position
    return len(lines) if in_run else None


def by_name(line: str) -> str | None:
    """Give the name that the host which wrote a Received line gives itself, as the line has it.

    >>> by_name("Received: from x (HELO by me) by mx.example (Postfix) with ESMTP id 9 for <stand.by@me.example>; ...")
    'mx.example'
    """
    written = _BEGINS_WITH_BY.match(line)
    if written and not _LETTERS_BY.search(line, written.end()):
        return written[1]
    return _words(line).name or None


def _read_hop(line: str) -> HopLine | None:
    """Read one Received line; None when no Exchange server wrote it or it names no build."""
    head, semicolon, time = line.rpartition(";")
    if semicolon and ")" not in time and len(line) <= _LONGEST_KEPT:
        stamp = _stamp_of(head)  # most lines differ only in their times from others that have been read already
    else:
        words = _words(line)
        stamp, time = _stamp(words.hop, words.name, words.build), words.time
    return None if stamp is None else (line, stamp, None if stamp.is_cloud else seconds_of(time))


@lru_cache(maxsize=65_536)
def _stamp_of(head: str) -> Stamp | None:
    """Read what stands before the time."""
    written = _WRITTEN_BY_EXCHANGE.match(head)
    if written:
        name, mapi, build = written.groups()
        return _stamp(_MAPI if mapi else _SMTP, name, build)
    words = _words(head + ";")
    return _stamp(words.hop, words.name, words.build)


def _stamp(hop: Hop | None, name: str, build: str) -> Stamp | None:
    return None if hop is None else _stamp_once(hop, name[:_LONGEST_NAME], build[:_LONGEST_NAME])


@lru_cache(maxsize=65_536)
def _stamp_once(hop: Hop, name: str, build_text: str) -> Stamp:
    build = _build(build_text)
    is_cloud = build is not None and build.is_cloud
    server = None if is_cloud else _server(name)
    is_usable = server is not None and build is not None
    return Stamp(hop=hop, server=server, build=build, is_cloud=is_cloud, is_usable=is_usable)


class _Words(NamedTuple):
    """What a Received line says of the host that wrote it, as it stands there; empty: nothing."""

    hop: Hop | None  # None: no Exchange server, or no build
    name: str
    build: str
    time: str


def _words(line: str) -> _Words:
    """Read a line word by word, from its last `by` on: what stands before may be a stranger's greeting."""
    bare = _without_comments(line.partition(":")[2])
    head, semicolon, time = bare.rpartition(";")
    if not semicolon:
        head, time = bare, ""
    time = _BLANKS.sub(" ", time).strip(" ")
    words = _WORD.findall(head)
    for position in range(len(words) - 2, -1, -1):
        if words[position].lower() == "by":
            hop, build = _hop_and_build(words[position + 2 :])
            return _Words(hop, words[position + 1], build, time)
    return _Words(None, "", "", time)


def _hop_and_build(words: Sequence[str]) -> tuple[Hop | None, str]:
    """Read the words behind the server's name."""
    if words and words[0].lower() == "with":
        build = next((value for word, value in pairwise(words) if word.lower() == "id"), "")
        if build and words[1:4] == ["Microsoft", "SMTP", "Server"]:
            return _SMTP, build
        if build and words[1:2] == ["mapi"]:
            return _MAPI, build
    return None, ""


def _without_comments(text: str) -> str:
    """Put a space for each comment; a parenthesis without partner is text.

    >>> _without_comments("by a (b (c) d) with ( e (f)")
    'by a   with ( e  '
    """
    open_at: list[int] = []
    spans: list[tuple[int, int]] = []
    for paren in _PAREN.finditer(text):
        if paren[0] == "(":
            open_at.append(paren.start())
        elif open_at:
            start = open_at.pop()
            while spans and spans[-1][0] > start:
                spans.pop()
            spans.append((start, paren.end()))
    kept, end = [], 0
    for start, stop in spans:
        kept.append(text[end:start])
        end = stop
    return " ".join([*kept, text[end:]])


def _server(text: str) -> str | None:
    try:
        return server_name(text)
    except ValueError:
        return None


@lru_cache(maxsize=4_096)
def _build(text: str) -> Build | None:
    try:
        return Build.parse(text)
    except ValueError:
        return None
