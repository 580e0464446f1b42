"""Times of Received lines: read with their zone, never guessed."""

from datetime import date, datetime, timedelta

import pytest

from enforcement.importers.batch import FIRST_ON, LAST_ON, is_storable
from enforcement.received_time import seconds_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Wed, 31 Dec 2025 23:59:59 -0030", datetime(2026, 1, 1, 0, 29, 59)),
        ("1 Jan 2026 00:10 +0545", datetime(2025, 12, 31, 18, 25)),
        ("thu, 01 jan 2026 00:10:00 gmt", datetime(2026, 1, 1, 0, 10)),
        ("Thu 1 Jan 2026 00:10:00 UTC", datetime(2026, 1, 1, 0, 10)),
        ("Mon, 1 Jan 2026 00:10:00 -0000", datetime(2026, 1, 1, 0, 10)),  # a wrong name of the day is of no matter
        ("1 Jul 2025 10:00:00 EST", datetime(2025, 7, 1, 15)),
        ("1 Jul 2025 10:00:00 PDT", datetime(2025, 7, 1, 17)),
        ("1 Jul 2025 10:00:00 Z", datetime(2025, 7, 1, 10)),
        ("1 Jul 2025 10:00:00", None),  # no zone
        ("1 Jul 2025 10:00:00 IST", None),  # India, Israel, Ireland?
        ("1 Jul 2025 10:00:00 +0199", None),
        ("1 Jul 2025 10:00:00 +2400", None),
        ("1 Jul 2025 24:00:00 +0000", None),
        ("1 Jul 2025 10:60:00 +0000", None),
        ("1 Jul 2025 10:00:61 +0000", None),
        ("1 Jul 25 10:00:00 +0000", None),
        ("1 Juli 2025 10:00:00 +0000", None),
        ("0 Jul 2025 10:00:00 +0000", None),
        ("1 Jul 2025 10:00:00 +0000 x", None),
        ("1 Jan 1995 10:00:00 +0000", None),
        ("1 Jan 2060 10:00:00 +0000", None),
        ("", None),
    ],
)
def test_times(text: str, expected: datetime | None) -> None:
    """A time is read with its zone; without one, or when there is none such, it is not guessed."""
    assert seconds_of(text) == (None if expected is None else (expected - datetime(1970, 1, 1)).total_seconds())


@pytest.mark.parametrize("zone", ["-2359", "+2359"])
@pytest.mark.parametrize("day", [FIRST_ON, LAST_ON, FIRST_ON.replace(day=2), LAST_ON.replace(day=30)])
@pytest.mark.parametrize("clock", ["00:00:00", "23:59:59"])
def test_times_are_storable(day: date, clock: str, zone: str) -> None:
    """At the first and last days that a store has, a time is either storable or not readable."""
    seconds = seconds_of(f"{day:%d %b %Y} {clock} {zone}")
    assert seconds is None or is_storable(datetime(1970, 1, 1) + timedelta(seconds=seconds))
