"""What an importer hands over, piece by piece: the rows of a source, and those of them it could not use."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

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


def names_and_places(column: pl.Series) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Give the distinct names of a column, and for each row the place of its own among them, -1 for null.

    >>> names_and_places(pl.Series(["a", None, "b", "a"]))
    (['a', 'b'], array([ 0, -1,  1,  0]))
    """
    if isinstance(column.dtype, pl.Enum):
        codes = column.to_physical().cast(pl.Int64)
        places = (codes.fill_null(-1) if codes.null_count() else codes).to_numpy()
        return column.dtype.categories.to_list(), places
    found = pa.array(column.to_arrow(), pa.large_string()).dictionary_encode()
    places = pl.Series(found.indices).cast(pl.Int64).fill_null(-1).to_numpy()
    return found.dictionary.to_pylist(), places


def column_of(names: list[str], places: npt.NDArray[np.integer[Any]]) -> pl.Series:
    """Give a column of names that are kept once each, from the place of each row's own; null where that is below 0.

    >>> column_of(["a", "b"], np.array([1, -1, 0])).to_list()
    ['b', None, 'a']
    """
    is_none = places < 0
    if not is_none.any():
        return pl.Series(places.astype(np.uint32)).cat.to(pl.Enum(names))
    if is_none.all():
        return pl.repeat(None, len(places), dtype=pl.Enum(names), eager=True)
    known = pl.DataFrame({"place": np.where(is_none, 0, places).astype(np.uint32), "is_none": is_none})
    return known.select(pl.when(~pl.col("is_none")).then("place")).to_series().cat.to(pl.Enum(names))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Rows of a source, all or a piece of them; every row read is a hand-over or a reject.

    Servers are as `names.server_name` gives them, builds as `str(Build)` does; a build is null when the source does not
    say, a tenant when the server's name shall tell. Nothing else is null, and times lie between FIRST_ON and LAST_ON.
    Columns of text may be Enums, which keep each name once. Sightings may come from rejected rows too; none given means
    that the hand-overs of on-premises builds are all that was sighted. Notes are for the user, one line each.

    >>> from enforcement.schema import HANDOVERS, REJECTS, SIGHTINGS
    >>> empty = {"handovers": HANDOVERS, "sightings": SIGHTINGS, "rejects": REJECTS}
    >>> Batch(**{name: pl.DataFrame(schema=schema) for name, schema in empty.items()}, rows_read=1)
    Traceback (most recent call last):
    ValueError: 1 rows read, but 0 hand-overs and 0 rejects
    """

    handovers: pl.DataFrame  # schema.HANDOVERS
    sightings: pl.DataFrame | None  # schema.SIGHTINGS
    rejects: pl.DataFrame  # schema.REJECTS
    rows_read: int  # mails, or rows of a table
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _expect(self.handovers, HANDOVERS, what="hand-overs")
        if self.sightings is not None:
            _expect(self.sightings, SIGHTINGS, what="sightings")
        _expect(self.rejects, REJECTS, what="rejects")
        if self.rows_read != self.handovers.height + self.rejects.height:
            raise ValueError(
                f"{self.rows_read} rows read, but {self.handovers.height} hand-overs and {self.rejects.height} rejects"
            )


def _expect(frame: pl.DataFrame, schema: Schema, *, what: str) -> None:
    as_text = {name: pl.String() if isinstance(kind, pl.Enum) else kind for name, kind in frame.schema.items()}
    if as_text != dict(schema):
        raise ValueError(f"{what}: columns {dict(frame.schema)}, expected {dict(schema)}")
    for name in frame.columns:
        if name not in _MAY_BE_NULL and frame[name].null_count():
            raise ValueError(f"{what}: {frame[name].null_count()} rows without {name}")
    for name in frame.columns:
        if name in ("sent_at", "day") and not frame[name].dt.date().is_between(FIRST_ON, LAST_ON).all():
            raise ValueError(f"{what}: {name} before {FIRST_ON} or after {LAST_ON}")
        if name in ("messages", "hops") and not (frame[name] > 0).all():
            raise ValueError(f"{what}: {name} below 1")
