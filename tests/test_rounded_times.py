"""Rounded times are noticed, and the minutes that stand in are those of the rule."""

import zlib
from collections import defaultdict
from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enforcement import rounded_times
from enforcement.rounded_times import MinuteZero, Spread, spread_over_hours
from enforcement.schema import HANDOVERS

START = datetime(2026, 1, 31, 7)


def _rows(*rows: tuple[datetime, str, str, int]) -> pl.DataFrame:
    """Hand-overs from time, server, build and messages."""
    return pl.DataFrame(
        [(at, server, build, None, "smtp", "direct", messages) for at, server, build, messages in rows],
        schema=dict(HANDOVERS),
        orient="row",
    )


def _one_by_one(handovers: pl.DataFrame) -> list[tuple[object, ...]]:
    """The rule, message by message."""
    numbers: dict[tuple[str, str], int] = defaultdict(int)
    spread: list[tuple[object, ...]] = []
    for sent_at, server, build, tenant, hop, route, messages in handovers.iter_rows():
        hour = f"{sent_at:%Y-%m-%dT%H}"
        for _ in range(messages):
            minute = zlib.crc32(f"{server}\n{hour}\n{numbers[server, hour]}".encode()) % 60
            numbers[server, hour] += 1
            at = sent_at.replace(minute=minute, second=0, microsecond=0)
            spread.append((at, server, build, tenant, hop, route, 1))
    return spread


def _expanded(handovers: pl.DataFrame) -> list[tuple[object, ...]]:
    return [(*row[:-1], 1) for row in handovers.iter_rows() for _ in range(row[-1])]


@settings(deadline=None, max_examples=60)  # the time of a shared machine proves nothing
@given(
    st.lists(
        st.tuples(
            st.integers(0, 5 * 3600 - 1).map(lambda seconds: START + timedelta(seconds=seconds)),
            st.sampled_from(["mail.example", "ex01", "2001:db8::1"]),
            st.sampled_from(["15.1.2507.61", "8.3.298.1"]),
            st.one_of(st.integers(1, 3), st.integers(90, 300)),
        ),
        max_size=8,
    ),
    st.integers(20, 500),
)
def test_each_message_gets_the_minute_of_the_rule(rows: list[tuple[datetime, str, str, int]], at_once: int) -> None:
    """Counted out at once, in pieces of any size, the minutes are those of counting message by message."""
    handovers = _rows(*rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounded_times, "_AT_ONCE", at_once)
        spread = spread_over_hours(handovers)
        source = Spread()
        cut = len(rows) // 2
        in_pieces = [some for part in (handovers[:cut], handovers[cut:]) for some in source.pieces(part)]
    pieces = [row for some in in_pieces for row in _expanded(some)]
    assert sorted(pieces, key=str) == sorted(_one_by_one(handovers), key=str)
    assert sorted(_expanded(spread), key=str) == sorted(_one_by_one(handovers), key=str)
    assert dict(spread.schema) == dict(HANDOVERS)


def test_a_worked_example() -> None:
    """The second message of an hour is numbered 1, whatever row it stands in, and a new hour begins at 0."""
    spread = spread_over_hours(
        _rows(
            (START, "a", "8.3.298.1", 1),
            (START, "a", "15.1.2507.61", 1),
            (START + timedelta(hours=1), "a", "8.3.298.1", 1),
        )
    )
    minutes = [
        zlib.crc32(text) % 60 for text in (b"a\n2026-01-31T07\n0", b"a\n2026-01-31T07\n1", b"a\n2026-01-31T08\n0")
    ]
    assert spread["sent_at"].dt.minute().to_list() == minutes
    assert spread["sent_at"].dt.hour().to_list() == [7, 7, 8]


def test_many_messages_fall_on_all_minutes_alike() -> None:
    """A million messages of an hour come to about as many in each minute."""
    spread = spread_over_hours(_rows((START, "mail.example", "15.1.2507.61", 1_000_000)))
    assert spread.height == 60
    assert spread["messages"].sum() == 1_000_000
    assert 16_000 < int(spread["messages"].min() or 0) <= int(spread["messages"].max() or 0) < 17_400  # type: ignore[arg-type]  # polars may give anything, here a count


def test_beyond_measure_is_an_error() -> None:
    """More messages than can be numbered in some minutes are refused before any work, also in pieces."""
    many = _rows((START, "a", "8.3.298.1", 2_000_000_000))
    with pytest.raises(ValueError, match=r"2,000,000,000 messages: too many"):
        spread_over_hours(many)
    with pytest.raises(ValueError, match=r"2,000,000,000 messages: too many"):
        list(Spread().pieces(many))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounded_times, "_MOST_HOURS", 1)
        with pytest.raises(ValueError, match="more than 1 hours × servers: too many to number"):
            list(Spread().pieces(_rows((START, "a", "8.3.298.1", 1), (START, "b", "8.3.298.1", 1))))


def test_the_share_on_minute_zero() -> None:
    """Messages are counted, not rows, over all pieces; too few tell nothing."""
    half = _rows((START, "a", "8.3.298.1", 30), (START + timedelta(minutes=59, seconds=59), "a", "8.3.298.1", 30))
    sent = MinuteZero()
    assert sent.share is None
    sent.count(half.head(1))
    assert sent.share is None
    sent.count(half.tail(1))
    assert sent.share == 0.5
    sent.count(half.head(0))
    assert sent.share == 0.5
