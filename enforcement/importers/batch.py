"""What an importer hands over for one source: the rows it read, and those it could not use."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import polars as pl

from enforcement.schema import HANDOVERS, REJECTS, SIGHTINGS, Schema

# No Exchange server wrote mail before 1996, and the store's days end in 2059: times outside are rejects.
FIRST_ON: Final = date(1996, 1, 1)
LAST_ON: Final = date(2058, 12, 31)

_MAY_BE_NULL: Final = ("build", "tenant")


def is_storable(sent_at: datetime | date) -> bool:
    """Tell whether a time or day is one that mail can have been sent at.

    >>> is_storable(datetime(2026, 1, 31, 7, 5)), is_storable(date(9999, 1, 1))
    (True, False)
    """
    return FIRST_ON <= (sent_at.date() if isinstance(sent_at, datetime) else sent_at) <= LAST_ON


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """The rows of one source; every row read is a hand-over or a reject.

    Servers are as `names.server_name` gives them, builds as `str(Build)` does; a build is null when the source does not
    say, a tenant when the server's name shall tell. Nothing else is null, and times lie between FIRST_ON and LAST_ON.
    Sightings may come from rejected rows too. Notes are for the user, one line each.

    >>> from enforcement.schema import HANDOVERS, REJECTS, SIGHTINGS
    >>> empty = {"handovers": HANDOVERS, "sightings": SIGHTINGS, "rejects": REJECTS}
    >>> Batch(**{name: pl.DataFrame(schema=schema) for name, schema in empty.items()}, rows_read=1)
    Traceback (most recent call last):
    ValueError: 1 rows read, but 0 hand-overs and 0 rejects
    """

    handovers: pl.DataFrame  # schema.HANDOVERS
    sightings: pl.DataFrame  # schema.SIGHTINGS
    rejects: pl.DataFrame  # schema.REJECTS
    rows_read: int  # mails, or rows of a table
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _expect(self.handovers, HANDOVERS, what="hand-overs")
        _expect(self.sightings, SIGHTINGS, what="sightings")
        _expect(self.rejects, REJECTS, what="rejects")
        if self.rows_read != self.handovers.height + self.rejects.height:
            raise ValueError(
                f"{self.rows_read} rows read, but {self.handovers.height} hand-overs and {self.rejects.height} rejects"
            )


def _expect(frame: pl.DataFrame, schema: Schema, *, what: str) -> None:
    if dict(frame.schema) != dict(schema):
        raise ValueError(f"{what}: columns {dict(frame.schema)}, expected {dict(schema)}")
    for name in frame.columns:
        if name not in _MAY_BE_NULL and frame[name].null_count():
            raise ValueError(f"{what}: {frame[name].null_count()} rows without {name}")
    for name in frame.columns:
        if name in ("sent_at", "day") and not frame[name].dt.date().is_between(FIRST_ON, LAST_ON).all():
            raise ValueError(f"{what}: {name} before {FIRST_ON} or after {LAST_ON}")
        if name in ("messages", "hops") and not (frame[name] > 0).all():
            raise ValueError(f"{what}: {name} below 1")
