"""What a row of a table means: a hand-over, a count of like ones, or a reject that says why."""

from collections.abc import Callable, Sequence
from datetime import datetime, time, timedelta
from typing import Final

import numpy as np
import polars as pl

from enforcement.builds import Build, Hop
from enforcement.importers.batch import FIRST_ON, LAST_ON, column_of, names_and_places
from enforcement.importers.table_columns import COLUMNS, OPTIONAL, REQUIRED
from enforcement.importers.table_times import utc_times
from enforcement.names import excerpt, read_each, server_name, shown, tenant_name
from enforcement.received import Route
from enforcement.schema import HANDOVERS, REJECTS

ROUTES: Final = tuple(route.value for route in Route)

_MOST_MESSAGES: Final = 2**31 - 1
_MOST_KNOWN: Final = 1_000_000  # texts of a column; about 200 MB
_STORABLE: Final = (datetime.combine(FIRST_ON, time()), datetime.combine(LAST_ON, time()) + timedelta(days=1))
_CALENDAR: Final = (datetime(1, 1, 1), datetime(9999, 12, 31))  # noqa: DTZ001 - times are UTC without a zone
_USUAL: Final = {"hop": Hop.SMTP.value, "route": Route.DIRECT.value}


class Meanings:
    """What the texts of a source mean; each distinct one is read once, however many rows have it."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, str | None]] = {name: {} for name in _MEANINGS}

    def of(self, name: str, given: pl.Series) -> pl.Series:
        """Give the meaning of each text of a column; null where it has none, and for blanks that have no default."""
        n_blank = given.null_count()
        usual = _USUAL.get(name)
        if n_blank == len(given):
            return pl.repeat(usual, n_blank, dtype=pl.Enum([usual] if usual else []), eager=True).alias(name)
        texts, places = names_and_places(given)
        known = self._known[name]
        if len(known) > _MOST_KNOWN:
            known.clear()
        new = [text for text in texts if text not in known]
        if new:
            meant, reasons = read_each(new, _MEANINGS[name])
            known.update(meant)
            known.update(dict.fromkeys(reasons))
        meanings = [known[text] for text in texts]
        if isinstance(given.dtype, pl.Enum) and not (n_blank and usual):
            others = [place for place, text in enumerate(texts) if meanings[place] != text]
            if all(meanings[place] is None for place in others):  # each text means itself, or nothing
                return _without(given, others).alias(name)
        distinct = dict.fromkeys([usual, *meanings])
        distinct.pop(None, None)
        place_of: dict[str | None, int] = dict(zip(distinct, range(len(distinct)), strict=True)) | {None: -1}
        # The last one is where blanks look.
        new_places = np.fromiter(map(place_of.__getitem__, [*meanings, usual]), dtype=np.int64, count=len(texts) + 1)
        return column_of([text for text in distinct if text is not None], new_places[places]).alias(name)


def _without(given: pl.Series, places: list[int]) -> pl.Series:
    """Put null for some of the names of an Enum, by their places."""
    if not places:
        return given
    is_none = pl.col(given.name).to_physical().is_in(places)
    return given.to_frame().select(pl.when(~is_none).then(pl.col(given.name))).to_series()


def judged(rows: pl.DataFrame, meanings: Meanings | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Tell the rows that can be used, as HANDOVERS, from the others, as REJECTS.

    Takes `position` and COLUMNS, of which the optional ones may be missing: text, or `sent_at` as times of any unit and
    `messages` as whole numbers. Null is blank.

    >>> row = {"position": 1, "sent_at": "2026-01-31T07:05+02:00", "server": "MAIL.example", "build": "15.01.2507.061"}
    >>> good, bad = judged(pl.DataFrame([row, row | {"position": 2, "build": "15"}]))
    >>> good.row(0)
    (datetime.datetime(2026, 1, 31, 5, 5), 'mail.example', '15.1.2507.61', None, 'smtp', 'direct', 1)
    >>> bad["reason"].to_list()
    ["not a build number: '15' (expected e.g. '15.2.1544.36')"]
    """
    meanings = meanings or Meanings()
    given = rows.with_columns(
        pl.lit(None, dtype=pl.String).alias(name) for name in OPTIONAL if name not in rows.columns
    )
    read = given.select(
        _times(given["sent_at"]),
        *(meanings.of(name, given[name]) for name in _MEANINGS),
        _counts(given["messages"]),
    )
    # A blank has a meaning in the optional columns, and none in the others.
    is_bad = read.select(
        pl.any_horizontal(
            *(pl.col(name).is_null() for name in REQUIRED),
            *(pl.col(name).is_null() & given[name].is_not_null() for name in OPTIONAL),
        )
    ).to_series()
    if not is_bad.any():
        return _filled(read), pl.DataFrame(schema=dict(REJECTS))
    shown_times = given.filter(is_bad).with_columns(_times_as_text(given["sent_at"].filter(is_bad)))
    bad = pl.concat([shown_times, read.filter(is_bad).select(pl.all().name.suffix("_read"))], how="horizontal")
    rejects = [(row["position"], excerpt(_reason(row)), excerpt(_as_text(row))) for row in bad.iter_rows(named=True)]
    return _filled(read.filter(~is_bad)), pl.DataFrame(rejects, schema=dict(REJECTS), orient="row")


def _filled(read: pl.DataFrame) -> pl.DataFrame:
    return read.select(pl.col("messages").fill_null(1) if name == "messages" else name for name in HANDOVERS)


def _build(text: str) -> str:
    return str(Build.parse(text.strip()))


def _hop(text: str) -> str:
    return _one_of(text, tuple(hop.value for hop in Hop), what="kind of hop")


def _route(text: str) -> str:
    return _one_of(text, ROUTES, what="route")


def _one_of(text: str, allowed: Sequence[str], *, what: str) -> str:
    value = text.strip().lower()
    if value not in allowed:
        raise ValueError(f"not a {what}: {shown(text)} (expected {', '.join(allowed)})")
    return value


_MEANINGS: Final[dict[str, Callable[[str], str]]] = {
    "server": server_name,
    "build": _build,
    "tenant": tenant_name,
    "hop": _hop,
    "route": _route,
}


def _times(given: pl.Series) -> pl.Series:
    """Read times as UTC; what is none, or cannot be that of a mail, is null."""
    utc = (utc_times(given) if given.dtype == pl.String else given).alias("sent_at")
    at = pl.col("sent_at")
    is_storable = at.is_between(*_STORABLE, closed="left")
    return utc.to_frame().select(pl.when(is_storable).then(at).cast(pl.Datetime("us"))).to_series()


def _times_as_text(given: pl.Series) -> pl.Series:
    """Write times as people read them; those that no calendar has, as their number."""
    if not isinstance(given.dtype, pl.Datetime):
        return given
    at = pl.col("sent_at")
    written = pl.when(at.is_between(*_CALENDAR)).then(at).dt.to_string("%Y-%m-%d %H:%M:%S%.f")
    number = pl.format(f"{{}} {given.dtype.time_unit} from 1970", at.to_physical())
    return given.to_frame("sent_at").select(written.fill_null(number)).to_series()


def _counts(given: pl.Series) -> pl.Series:
    """Read numbers of messages, whole and from 1; what is none is null."""
    count = pl.col("messages")
    if given.dtype == pl.String:
        text = count.str.strip_chars()
        count = pl.when(text.str.contains("^[0-9]{1,12}$")).then(text).cast(pl.Int64)
    is_storable = count.is_between(1, _MOST_MESSAGES)
    return given.to_frame().select(pl.when(is_storable).then(count).cast(pl.Int32).alias("messages")).to_series()


def _reason(row: dict[str, object]) -> str:
    """Say what is wrong with the first column that cannot be used."""
    for name in COLUMNS:
        value = row[name]
        if row[f"{name}_read"] is not None or (value is None and name in OPTIONAL):
            continue
        if value is None:
            return f"no {name}"
        if name == "sent_at":
            return f"not a time of a mail: {shown(str(value))} (expected e.g. 2026-01-31T07:05:09Z)"
        if name == "messages":
            return f"not a number of messages: {shown(str(value))} (expected a whole number from 1)"
        try:
            _MEANINGS[name](str(value))
        except ValueError as problem:
            return str(problem)
    raise AssertionError(f"nothing is wrong with {row}")


def _as_text(row: dict[str, object]) -> str:
    return ",".join("" if row[name] is None else str(row[name]) for name in COLUMNS).rstrip(",")
