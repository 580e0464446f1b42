"""Times written in a table, ISO 8601 with a date and at least minutes, as UTC; without a zone they are UTC."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

_TIME: Final = (
    r"^(?<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ](?<minute>[0-9]{2}:[0-5][0-9])"
    r"(?::(?<second>[0-5][0-9])(?:[.,](?<fraction>[0-9]{1,9}))?)?"
    r" ?(?:[Zz]|UTC|(?<sign>[+-])(?<hours>[01][0-9]|2[0-3])(?::?(?<minutes>[0-5][0-9]))?)?$"
)
# How nearly all sources write them: `2026-01-31T07:05:09`, with a fraction or without, with Z or without.
_PLAIN: Final = "0000-00-00T00:00:00"
_DIGITS: Final = [place for place, sign in enumerate(_PLAIN) if sign == "0"]
_MARKS: Final = [(place, sign) for place, sign in enumerate(_PLAIN) if sign in "-:"]
_BETWEEN: Final = 10  # T, t or a blank
_SECOND: Final = 1_000_000  # microseconds
_UNITS: Final = (100_000, 10_000, 1_000, 100, 10, 1)  # of the digits of a fraction; what follows is cut off
_MOST_DIGITS: Final = 9  # of a fraction


def utc_times(given: pl.Series) -> pl.Series:
    """Read a column of texts as times; null where a text is none.

    >>> utc_times(pl.Series(["2026-01-31T07:05:09Z", "2026-01-31 07:05 +02:00", "noon"])).dt.hour().to_list()
    [7, 5, None]
    """
    quick = _plain_times(given)
    if quick is None:
        return _any_times(given)
    left = quick.is_null() & given.is_not_null()
    if not left.any():
        return quick
    places = left.arg_true()
    return quick.scatter(places, _any_times(given.gather(places)))


def _any_times(given: pl.Series) -> pl.Series:
    parts = given.str.strip_chars().str.extract_groups(_TIME).struct.unnest()
    whole = pl.format("{} {}:{}", "date", "minute", pl.col("second").fill_null("00"))
    fraction = pl.col("fraction").str.pad_end(6, "0").str.slice(0, 6).cast(pl.Int64).fill_null(0)
    ahead = 60 * pl.col("hours").cast(pl.Int64) + pl.col("minutes").cast(pl.Int64).fill_null(0)
    signed = pl.when(pl.col("sign") == "-").then(-ahead).otherwise(ahead).fill_null(0)
    return parts.select(
        whole.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us")
        + pl.duration(microseconds=fraction)
        - pl.duration(minutes=signed)
    ).to_series()


def _plain_times(given: pl.Series) -> pl.Series | None:
    """Read the plain ones, null for the others, when all texts are of a plain one's length; else None."""
    if given.null_count() or not len(given):
        return None
    lengths = given.str.len_bytes()
    length = int(lengths[0])
    has_zone = str(given[0])[-1:] in "Zz"
    n_fraction = length - len(_PLAIN) - has_zone  # a point and digits
    if n_fraction not in (0, *range(2, _MOST_DIGITS + 2)) or not (lengths == length).all():
        return None
    texts = pa.array(given.to_arrow(), pa.large_string())
    start = int(np.frombuffer(texts.buffers()[1], dtype=np.int64)[texts.offset])
    octets = np.frombuffer(texts.buffers()[2], dtype=np.uint8)[start : start + length * len(given)]
    signs = np.ascontiguousarray(octets.reshape(len(given), length).T)
    is_plain = np.isin(signs[_BETWEEN], np.frombuffer(b"Tt ", dtype=np.uint8))
    for place, sign in _MARKS:
        is_plain &= signs[place] == ord(sign)
    of_fraction = range(len(_PLAIN) + 1, len(_PLAIN) + n_fraction)
    digits = {place: signs[place] - np.uint8(ord("0")) for place in (*_DIGITS, *of_fraction)}
    for digit in digits.values():
        is_plain &= digit <= 9
    if has_zone:
        is_plain &= (signs[-1] == ord("Z")) | (signs[-1] == ord("z"))
    if n_fraction:
        is_plain &= (signs[len(_PLAIN)] == ord(".")) | (signs[len(_PLAIN)] == ord(","))

    def pair(place: int) -> npt.NDArray[np.int32]:
        return digits[place].astype(np.int32) * 10 + digits[place + 1]

    year, month, day = pair(0) * 100 + pair(2), pair(5), pair(8)
    hour, minute, second = pair(11), pair(14), pair(17)
    is_plain &= (hour < 24) & (minute < 60) & (second < 60) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    days, is_there = _days(year, month, day)
    seconds = days * 86_400 + (hour * 3600 + minute * 60 + second)
    microseconds = np.zeros(len(given), dtype=np.int64)
    for place, unit in zip(of_fraction, _UNITS, strict=False):
        microseconds += digits[place] * np.int64(unit)
    known = pl.Series(np.where(is_plain & is_there, seconds * _SECOND + microseconds, np.iinfo(np.int64).min))
    return (
        known.to_frame("at")
        .select(pl.when(pl.col("at") > np.iinfo(np.int64).min).then(pl.col("at").cast(pl.Datetime("us"))))
        .to_series()
    )


def _days(
    year: npt.NDArray[Any], month: npt.NDArray[Any], day: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Count the days from 1970 to a date, and tell whether the calendar has it."""
    months = np.arange("0000-01", "10000-02", dtype="datetime64[M]")
    firsts = months.astype("datetime64[D]").astype(np.int64)
    place = np.clip(year * 12 + month - 1, 0, len(firsts) - 2)
    return firsts[place] + day - 1, day <= (firsts[place + 1] - firsts[place])
