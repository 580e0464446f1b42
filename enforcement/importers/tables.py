"""Traffic tables, CSV and Parquet: each row a hand-over, or a count of like ones."""

import difflib
import gzip
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa
from pyarrow import compute, parquet

from enforcement.builds import Build, Hop
from enforcement.importers.batch import FIRST_ON, LAST_ON, Batch
from enforcement.importers.csv_text import csv_rows
from enforcement.names import excerpt, printable, read_each, server_name, shown, tenant_name
from enforcement.schema import HANDOVERS, REJECTS, SIGHTINGS, conform

REQUIRED: Final = ("sent_at", "server", "build")
OPTIONAL: Final = ("tenant", "hop", "route", "messages")
COLUMNS: Final = (*REQUIRED, *OPTIONAL)
ROUTES: Final = ("direct", "relayed", "through cloud")

_ROWS_AT_ONCE: Final = 500_000
_LARGEST_TEXT: Final = 4 * 1024**3  # octets, unpacked; Parquet takes a tenth of the room
_MOST_MESSAGES: Final = 2**31 - 1
_SHOWN_COLUMNS: Final = 12

# ISO 8601, a date and at least minutes; without a zone it is UTC.
_TIME: Final = (
    r"^(?<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ](?<minute>[0-9]{2}:[0-5][0-9])"
    r"(?::(?<second>[0-5][0-9])(?:[.,](?<fraction>[0-9]{1,9}))?)?"
    r" ?(?:[Zz]|UTC|(?<sign>[+-])(?<hours>[01][0-9]|2[0-3])(?::?(?<minutes>[0-5][0-9]))?)?$"
)

Report = Callable[[int, int], None]


def read_table(path: Path, report: Report | None = None) -> Batch:
    """Read a CSV (.csv, .csv.gz) or Parquet file of hand-overs; what is wrong with the file itself is a ValueError.

    `report` is told how many rows have been read, and of how many.
    """
    is_parquet = path.suffix.lower() == ".parquet"
    rows, broken, notes = _parquet_rows(path) if is_parquet else _csv_file_rows(path)
    kept, rejected = [pl.DataFrame(schema=dict(HANDOVERS))], [broken]
    for part in rows.iter_slices(_ROWS_AT_ONCE):
        good, bad = judged(part)
        kept.append(good)
        rejected.append(bad)
        if report is not None:
            report(sum(frame.height for frame in kept + rejected), rows.height + broken.height)
    handovers = pl.concat(kept)
    rejects = pl.concat(rejected).sort("position")
    return Batch(
        handovers=handovers,
        sightings=_sightings(handovers),
        rejects=rejects,
        rows_read=rows.height + broken.height,
        notes=notes,
    )


def judged(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Tell the rows that can be used, as HANDOVERS, from the others, as REJECTS.

    Takes `position` and COLUMNS, of which the optional ones may be missing: text, or `sent_at` as times and `messages`
    as whole numbers. Null is blank.

    >>> row = {"position": 1, "sent_at": "2026-01-31T07:05+02:00", "server": "MAIL.example", "build": "15.01.2507.061"}
    >>> good, bad = judged(pl.DataFrame([row, row | {"position": 2, "build": "15"}]))
    >>> good.row(0)
    (datetime.datetime(2026, 1, 31, 5, 5), 'mail.example', '15.1.2507.61', None, 'smtp', 'direct', 1)
    >>> bad["reason"].to_list()
    ["not a build number: '15' (expected e.g. '15.2.1544.36')"]
    """
    given = rows.with_columns(
        pl.lit(None, dtype=pl.String).alias(name) for name in OPTIONAL if name not in rows.columns
    )
    read = given.select(
        _times(given["sent_at"]),
        *(_meant(given[name], meaning) for name, meaning in _MEANINGS.items()),
        _counts(given["messages"]),
    )
    # A blank has a meaning in the optional columns, and none in the others.
    is_bad = read.select(
        pl.any_horizontal(
            *(pl.col(name).is_null() for name in REQUIRED),
            *(pl.col(name).is_null() & given[name].is_not_null() for name in OPTIONAL),
        )
    ).to_series()
    good = read.filter(~is_bad).with_columns(
        pl.col("hop").fill_null(Hop.SMTP.value), pl.col("route").fill_null("direct"), pl.col("messages").fill_null(1)
    )
    bad = pl.concat([given.filter(is_bad), read.filter(is_bad).select(pl.all().name.suffix("_read"))], how="horizontal")
    rejects = [(row["position"], excerpt(_reason(row)), excerpt(_as_text(row))) for row in bad.iter_rows(named=True)]
    return conform(good, HANDOVERS, what="hand-overs"), pl.DataFrame(rejects, schema=dict(REJECTS), orient="row")


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


def _meant(given: pl.Series, meaning: Callable[[str], str]) -> pl.Series:
    """Give each text its meaning, reading each distinct one once; null where it has none."""
    meant, _ = read_each(given.drop_nulls().unique(), meaning)
    return given.replace_strict(list(meant), list(meant.values()), default=None, return_dtype=pl.String)


def _times(given: pl.Series) -> pl.Series:
    """Read times as UTC; what is none, or cannot be that of a mail, is null."""
    if given.dtype == pl.String:
        parts = given.str.strip_chars().str.extract_groups(_TIME).struct.unnest()
        whole = pl.format("{} {}:{}", "date", "minute", pl.col("second").fill_null("00"))
        fraction = pl.col("fraction").str.pad_end(6, "0").str.slice(0, 6).cast(pl.Int64).fill_null(0)
        ahead = 60 * pl.col("hours").cast(pl.Int64) + pl.col("minutes").cast(pl.Int64).fill_null(0)
        signed = pl.when(pl.col("sign") == "-").then(-ahead).otherwise(ahead).fill_null(0)
        utc = parts.select(
            whole.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us")
            + pl.duration(microseconds=fraction)
            - pl.duration(minutes=signed)
        ).to_series()
    else:
        utc = given
    at = pl.col("sent_at")
    is_storable = at.dt.date().is_between(FIRST_ON, LAST_ON)
    return utc.alias("sent_at").to_frame().select(pl.when(is_storable).then(at.cast(pl.Datetime("us")))).to_series()


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


def _sightings(handovers: pl.DataFrame) -> pl.DataFrame:
    """Count what on-premises servers showed, day by day."""
    cloud = [build for build in handovers["build"].unique() if Build.parse(build).is_cloud]
    counted = (
        handovers.filter(~pl.col("build").is_in(cloud))
        .group_by("server", "build", "tenant", "hop", pl.col("sent_at").dt.date().alias("day"))
        .agg(hops=pl.col("messages").cast(pl.Int64).sum())
    )
    return conform(counted, SIGHTINGS, what="sightings").sort("server", "build", "hop", "day", "tenant")


def _csv_file_rows(path: Path) -> tuple[pl.DataFrame, pl.DataFrame, tuple[str, ...]]:
    header, rows, broken = csv_rows(_unpacked(path))
    if not header:
        raise ValueError(f"{path}: no header in its first line (expected {', '.join(REQUIRED)})")
    places, notes = _chosen(header, path)
    return rows.select("position", **{name: pl.col(str(place)) for name, place in places.items()}), broken, notes


def _unpacked(path: Path) -> bytes:
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rb") as stream:
            data: bytes = stream.read(_LARGEST_TEXT + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise ValueError(f"{path}: damaged or cut off ({problem})") from None
    if len(data) > _LARGEST_TEXT:
        raise ValueError(f"{path}: more than {_LARGEST_TEXT // 1024**3} GB of text (split it, or make it Parquet)")
    return data


def _parquet_rows(path: Path) -> tuple[pl.DataFrame, pl.DataFrame, tuple[str, ...]]:
    try:  # by Arrow: on a damaged file polars would print traces of its threads
        with parquet.ParquetFile(path) as file:
            header = file.schema_arrow.names
            places, notes = _chosen(header, path)
            read = file.read(columns=[header[place] for place in places.values()])
        read.validate(full=True)  # polars trusts that text is text
        rows = pl.DataFrame({name: _column(path, name, read.column(header[place])) for name, place in places.items()})
    except (pa.ArrowException, OSError, UnicodeError, pl.exceptions.PolarsError) as problem:
        told = printable(str(problem).partition("\n")[0][:200])
        raise ValueError(f"{path}: no Parquet file, or a damaged one ({told})") from None
    text = pl.selectors.by_dtype(pl.Categorical, pl.Enum, pl.Null).cast(pl.String)
    numbered = rows.with_columns(text).with_row_index("position", offset=1)
    return numbered.with_columns(pl.col("position").cast(pl.Int64)), pl.DataFrame(schema=dict(REJECTS)), notes


def _column(path: Path, name: str, column: pa.ChunkedArray) -> pl.Series:
    """Take over a column of the right type, times as UTC without a zone."""
    found = column.type
    inner = found.value_type if pa.types.is_dictionary(found) else found
    is_text = pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_string_view(inner)
    is_right, expected = {
        "sent_at": (is_text or pa.types.is_timestamp(found), "times, or text"),
        "messages": (pa.types.is_integer(found) or pa.types.is_null(found), "whole numbers"),
    }.get(name, (is_text or pa.types.is_null(found), "text"))
    if not is_right:
        raise ValueError(f"{path}: column {name!r} holds {found} (expected {expected})")
    if pa.types.is_timestamp(found):
        column = column.cast(options=compute.CastOptions(pa.timestamp("us"), allow_time_truncate=True))
    return pl.Series(name, column)


def _chosen(header: Sequence[str], path: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """Find the columns by name, whatever their case, and note those that are not read."""
    names = [name.strip().lower() for name in header]
    found = _listed(header)
    for name in COLUMNS:
        if names.count(name) > 1:
            raise ValueError(f"{path}: {names.count(name)} columns {name!r} (found: {found})")
    for name in REQUIRED:
        if name not in names:
            nearest = difflib.get_close_matches(name, set(names) - set(COLUMNS), n=1)
            hint = f"; is it {shown(nearest[0])}?" if nearest else ""
            expected = f"{', '.join(REQUIRED)}[, {', '.join(OPTIONAL)}]"
            raise ValueError(f"{path}: no column {name!r} (found: {found}; expected: {expected}{hint})")
    unread = [name for name in header if name.strip().lower() not in COLUMNS]
    notes = (f"{path.name}: columns not read: {_listed(unread)}",) if unread else ()
    return {name: names.index(name) for name in COLUMNS if name in names}, notes


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
    return ", ".join(shown(name)[1:-1] for name in names[:_SHOWN_COLUMNS]) + more
