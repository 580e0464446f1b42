"""The time at the end of a Received line, in seconds since 1970, UTC."""

import re
from datetime import date
from functools import lru_cache
from typing import Final

_DAY_SECONDS: Final = 86_400
_EPOCH: Final = date(1970, 1, 1).toordinal()
# No Exchange server wrote mail before, and the store's days end there: a day outside is nonsense, whatever it says.
# One day is left at either end, so that no zone leads out.
_FIRST: Final = date(1996, 1, 2)
_LAST: Final = date(2058, 12, 30)
_LONGEST: Final = 100

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# The zones of RFC 5322, 4.3, in hours. Other names are not unique, and a guess would move a mail by hours.
_ZONES: Final = {
    "ut": 0, "utc": 0, "gmt": 0, "z": 0,
    "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7,
}  # fmt: skip

_DATE = re.compile(r"\s*(?:[A-Za-z]{3},?\s+)?(\d{1,2})\s+([A-Za-z]{3})\s+(\d{4})\s*", re.ASCII)
_CLOCK = re.compile(r"\s*(\d\d):(\d\d)(?::(\d\d))?", re.ASCII)
_OFFSET = re.compile(r"\s*(?:([+-])(\d\d)([0-5]\d)|([A-Za-z]{1,3}))", re.ASCII)


def seconds_of(text: str) -> int | None:
    """Count the seconds from 1970 to a time; None when it cannot be read, there is none such, or it is out of range.

    >>> seconds_of("Tue, 8 Apr 2025 08:54:43 -0500"), seconds_of("8 Apr 2025 13:54:43 GMT")
    (1744120483, 1744120483)
    >>> seconds_of("Sat, 1 Jan 0000 00:00:00 +0000"), seconds_of("Tue, 8 Apr 2025 08:54:43")
    (None, None)
    """
    if len(text) > _LONGEST:
        return None
    try:
        return _day(text[:-15]) + _clock(text[-15:-6]) - _offset(text[-6:])  # as most write it
    except ValueError:
        words = text.rsplit(None, 2)
        if len(words) < 3:
            return None
    try:
        return _day(words[0]) + _clock(words[1]) - _offset(words[2])
    except ValueError:
        return None


# Days, times of the day and zones are few: each is read once. What is kept is bounded, whatever comes.


@lru_cache(maxsize=65_536)
def _day(text: str) -> int:
    found = _DATE.fullmatch(text)
    if found:
        day, month, year = found.groups()
        on = date(int(year), _MONTHS.index(month.lower()) + 1, int(day))
        if _FIRST <= on <= _LAST:
            return (on.toordinal() - _EPOCH) * _DAY_SECONDS
    raise ValueError(f"not a day: {text!r} (expected e.g. 'Tue, 8 Apr 2025')")


@lru_cache(maxsize=131_072)
def _clock(text: str) -> int:
    found = _CLOCK.fullmatch(text)
    if found:
        hour, minute, second = int(found[1]), int(found[2]), int(found[3] or 0)
        if hour < 24 and minute < 60 and second < 60:
            return hour * 3600 + minute * 60 + second
    raise ValueError(f"not a time of the day: {text!r} (expected e.g. '08:54:43')")


@lru_cache(maxsize=1_024)
def _offset(text: str) -> int:
    found = _OFFSET.fullmatch(text)
    if found:
        sign, hours, minutes, name = found.groups()
        if name and name.lower() in _ZONES:
            return _ZONES[name.lower()] * 3600
        if sign and int(hours) < 24:
            seconds = int(hours) * 3600 + int(minutes) * 60
            return -seconds if sign == "-" else seconds
    raise ValueError(f"not a zone: {text!r} (expected e.g. '-0500' or 'GMT')")
