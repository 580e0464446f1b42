"""The slow twin's importer: mails to hand-overs with the standard library's `mailbox` and `email` and one regex."""

import gzip
import mailbox
import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from pathlib import Path

from reference_clock import Message

from enforcement.builds import Build

HOP = re.compile(r"\bwith (Microsoft SMTP Server|mapi)\b(?: \([^)]*\))? id (\d+\.\d+\.\d+\.\d+)")
BY = re.compile(r"(?:^|\s)by (\S+)")


@dataclass(frozen=True)
class Line:
    """One Received line; `kind` and `build` only where Exchange says them of itself."""

    by: str
    kind: str | None
    build: Build | None
    time: str

    @property
    def is_cloud(self) -> bool:
        return self.build is not None and self.build.is_cloud

    @property
    def is_on_premises_smtp(self) -> bool:
        return self.kind == "smtp" and not self.is_cloud


def read_line(text: str) -> Line:
    text = " ".join(text.split())
    by = BY.search(text)
    hop = HOP.search(text)
    return Line(
        by=by[1].lower().rstrip(".") if by else "",
        kind=("mapi" if hop[1] == "mapi" else "smtp") if hop else None,
        build=Build.parse(hop[2]) if hop else None,
        time=text.rpartition(";")[2],
    )


def hand_over(lines: list[Line], own_hosts: tuple[str, ...]) -> tuple[Line, str] | str:
    """Give the hand-over and its route, or the reason why there is none."""
    below = 0
    if own_hosts:
        is_own = [any(fnmatchcase(line.by, pattern) for pattern in own_hosts) for line in lines]
        if True not in is_own:
            return "no own line"
        below = is_own.index(True)
        while below < len(lines) and is_own[below]:
            below += 1
    for position in range(below, len(lines)):
        if lines[position].is_on_premises_smtp:
            between = lines[below:position]
            if not between:
                return lines[position], "direct"
            if any(line.is_cloud for line in between):
                return lines[position], "through cloud"
            return lines[position], "relayed"
    return "no hand-over"


def utc(line: Line) -> datetime:
    return parsedate_to_datetime(line.time).astimezone(UTC).replace(tzinfo=None)


@dataclass
class Mails:
    """What was read: the hand-overs, why other mails have none, and all on-premises hops of all mails."""

    messages: list[Message] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    sightings: Counter[tuple[str, str, str, date]] = field(default_factory=Counter)  # server, build, hop, day


def read_mail(path: Path, scratch: Path, own_hosts: tuple[str, ...] = ()) -> Mails:
    """Read a gzipped mbox."""
    plain = scratch / "plain.mbox"
    with gzip.open(path) as packed, plain.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked)
    mails = Mails()
    for mail in mailbox.mbox(plain, create=False):
        lines = [read_line(str(text)) for text in mail.get_all("Received", [])]
        for line in lines:
            if line.kind is not None and not line.is_cloud:
                mails.sightings[line.by, str(line.build), line.kind, utc(line).date()] += 1
        found = hand_over(lines, own_hosts)
        if isinstance(found, str):
            mails.reasons[found] += 1
        else:
            line, route = found
            mails.messages.append(Message(utc(line), line.by, str(line.build), "smtp", route))
    return mails
