"""What an importer hands over for one source: the rows it read, and those it could not use."""

from dataclasses import dataclass

import polars as pl

from enforcement.schema import HANDOVERS, REJECTS, SIGHTINGS, Schema


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """The rows of one source; every row read is a hand-over or a reject.

    Servers are as `names.server_name` gives them, builds as `str(Build)` does; a build is null when the source
    does not say. Sightings may come from rejected rows too. Notes are for the user, one line each.

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
