"""The spool: whatever rows go in, in whatever pieces, come out in order, each day of a server in one range."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enforcement import store_spool
from enforcement.store_spool import Rows, Spool, by_day, in_order, packed, unpacked, who

Row = tuple[int, int, int, int, int]  # build, server, microseconds, route, messages

_DAY = 86_400_000_000
_START = 1_777_939_200_000_000  # 2026-05-05


def _rows(rows: list[Row]) -> Rows:
    build, server, sent_at, route, messages = (
        np.array([row[place] for row in rows], dtype=np.int64) for place in range(5)
    )
    return Rows(who(build, server), sent_at, route.astype(np.uint8), messages.astype(np.int32))


def _back(rows: Rows) -> list[Row]:
    columns = (rows.build_id, rows.server_id, rows.sent_at, rows.route, rows.messages)
    return list(zip(*(column.tolist() for column in columns), strict=True))


_SECONDS = st.integers(0, 40 * 86_400).map(lambda seconds: _START + seconds * 1_000_000)
_USUAL = st.tuples(st.integers(1, 4), st.integers(1, 5), _SECONDS, st.integers(0, 2), st.just(1))
_ANY = st.tuples(
    st.one_of(st.integers(1, 3), st.sampled_from([1023, 1024, 2**31 - 1])),
    st.one_of(st.integers(1, 3), st.sampled_from([2**20 - 1, 2**20, 2**31 - 1])),
    st.one_of(_SECONDS, st.integers(820_454_400_000_000, 2_808_604_799_999_999)),  # 1996 to 2058
    st.integers(0, 2),
    st.one_of(st.integers(1, 3), st.just(2**31 - 1)),
)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.one_of(st.lists(_USUAL, max_size=12), st.lists(_ANY, max_size=6)), max_size=5),
    st.sampled_from([0, 7, 1_000]),
    st.integers(1, 30),
    st.integers(1, 3),
)
def test_rows_come_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[list[Row]], held: int, at_once: int, sampled: int
) -> None:
    """From memory or a file, plain or odd, all rows come back once and sorted, and a server's day is never cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_spool, "_HELD", held)
        patch.setattr(store_spool, "_RANGE", at_once)
        patch.setattr(store_spool, "_SAMPLED", sampled)
        with Spool(tmp_path_factory.getbasetemp()) as spool:
            for piece in pieces:
                spool.add(_rows(piece))
            ranges = list(spool.ranges())
            assert spool.rows == sum(map(len, pieces))
    found = [row for rows in ranges for row in _back(rows)]
    assert found == sorted(row for piece in pieces for row in piece)
    days = [{(build, server, at // _DAY) for build, server, at, _, _ in _back(rows)} for rows in ranges]
    assert sum(map(len, days)) == len(set().union(*days))


@given(st.lists(_ANY, min_size=1, max_size=10))
def test_any_rows_are_put_in_order(rows: list[Row]) -> None:
    """However far apart their values, rows are sorted by build, server, time, route and messages."""
    assert _back(in_order(_rows(rows))) == sorted(rows)


@given(st.lists(st.one_of(_USUAL, _ANY), min_size=1, max_size=10))
def test_a_packed_row_is_the_row(rows: list[Row]) -> None:
    """What fits into numbers comes out of them; the numbers have the order of the rows."""
    numbers = packed(_rows(rows))
    if numbers is not None:
        assert _back(unpacked(numbers)) == rows
        assert _back(unpacked(np.sort(numbers))) == sorted(rows)


@given(st.lists(st.one_of(_USUAL, _ANY), min_size=1, max_size=20))
def test_days_are_counted(rows: list[Row]) -> None:
    """The messages of each build, server, day and route add up, also beyond 32 bits."""
    expected: dict[tuple[int, int, int], list[int]] = {}
    for build, server, at, route, messages in rows:
        expected.setdefault((build, server, at // _DAY), [0, 0, 0])[route] += messages
    days = by_day(in_order(_rows(rows)))
    keys: Any = zip(days.build_id.tolist(), days.server_id.tolist(), days.day.tolist(), strict=True)
    assert dict(zip(keys, days.messages.tolist(), strict=True)) == expected


def test_a_large_spool_is_a_file_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on disk has no name, so that nothing can stay behind."""
    monkeypatch.setattr(store_spool, "_HELD", 0)
    with Spool(tmp_path) as spool:
        spool.add(_rows([(1, 1, _START, 0, 1)]))
        assert spool._file is not None
        assert list(tmp_path.iterdir()) == []
