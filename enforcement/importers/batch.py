"""What an importer hands over, piece by piece: the rows of a source, and those of them it could not use."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from enforcement.schema import DECISIONS, HANDOVERS, REJECTS, SIGHTINGS, STARTED, Schema

# No Exchange server wrote mail before 1996, and the store's days end in 2059: times outside are rejects.
FIRST_ON: Final = date(1996, 1, 1)
LAST_ON: Final = date(2058, 12, 31)

_MAY_BE_NULL: Final = ("build", "tenant")
_LOGGED_NULL: Final = ("server", "build", "stage", "policy_serial")


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
    """Rows of a source, all or a piece of them; every row read is a hand-over, a clock start, a decision or a reject.

    Servers are as `names.server_name` gives them, builds as `str(Build)` does; a build is null when the source does not
    say, a tenant when the server's name shall tell. Nothing else is null, and times lie between FIRST_ON and LAST_ON.
    Columns of text may be Enums, which keep each name once. Sightings may come from rejected rows too; none given means
    that the hand-overs of on-premises builds are all that was sighted. Notes are for the user, one line each.

    >>> from enforcement.schema import HANDOVERS, REJECTS, SIGHTINGS
    >>> empty = {"handovers": HANDOVERS, "sightings": SIGHTINGS, "rejects": REJECTS}
    >>> Batch(**{name: pl.DataFrame(schema=schema) for name, schema in empty.items()}, rows_read=1)
    Traceback (most recent call last):
    ValueError: 1 rows read, but 0 rows to store and 0 rejects
    """

    handovers: pl.DataFrame  # schema.HANDOVERS
    sightings: pl.DataFrame | None  # schema.SIGHTINGS
    rejects: pl.DataFrame  # schema.REJECTS
    rows_read: int  # mails, or rows of a table
    notes: tuple[str, ...] = ()
    started: pl.DataFrame | None = None  # schema.STARTED
    decisions: pl.DataFrame | None = None  # schema.DECISIONS

    def __post_init__(self) -> None:
        _expect(self.handovers, HANDOVERS, what="hand-overs")
        if self.sightings is not None:
            _expect(self.sightings, SIGHTINGS, what="sightings")
        _expect(self.rejects, REJECTS, what="rejects")
        if self.started is not None:
            _expect(self.started, STARTED, what="clock starts")
        if self.decisions is not None:
            _expect(self.decisions, DECISIONS, what="decisions", may_be_null=_LOGGED_NULL)
        if self.rows_read != self.rows_stored + self.rejects.height:
            raise ValueError(
                f"{self.rows_read} rows read, but {self.rows_stored} rows to store and {self.rejects.height} rejects"
            )

    @property
    def rows_stored(self) -> int:
        """How many rows are kept, as whatever they are."""
        others = (self.started, self.decisions)
        return self.handovers.height + sum(other.height for other in others if other is not None)


def no_mail(
    rejects: pl.DataFrame,
    *,
    notes: tuple[str, ...] = (),
    started: pl.DataFrame | None = None,
    decisions: pl.DataFrame | None = None,
) -> Batch:
    """Give a batch of a source that holds no hand-overs, but clock starts or decisions.

    >>> no_mail(pl.DataFrame([(1, "no server", ",15.1.2507.6")], schema=dict(REJECTS), orient="row")).rows_read
    1
    """
    kept = sum(frame.height for frame in (started, decisions) if frame is not None)
    return Batch(
        handovers=pl.DataFrame(schema=dict(HANDOVERS)),
        sightings=None,
        rejects=rejects,
        rows_read=kept + rejects.height,
        notes=notes,
        started=started,
        decisions=decisions,
    )


def _expect(frame: pl.DataFrame, schema: Schema, *, what: str, may_be_null: tuple[str, ...] = _MAY_BE_NULL) -> None:
    as_text = {name: pl.String() if isinstance(kind, pl.Enum) else kind for name, kind in frame.schema.items()}
    if as_text != dict(schema):
        raise ValueError(f"{what}: columns {dict(frame.schema)}, expected {dict(schema)}")
    for name in frame.columns:
        if name not in may_be_null and frame[name].null_count():
            raise ValueError(f"{what}: {frame[name].null_count()} rows without {name}")
    for name in frame.columns:
        if (
            name in ("sent_at", "day", "first_detected_on", "decided_at")
            and not frame[name].cast(pl.Date).is_between(FIRST_ON, LAST_ON).all()
        ):
            raise ValueError(f"{what}: {name} before {FIRST_ON} or after {LAST_ON}")
        if name in ("messages", "hops") and not (frame[name] > 0).all():
            raise ValueError(f"{what}: {name} below 1")
