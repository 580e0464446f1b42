"""The frontier: nobody on it is beaten, all others are; and the command, from a space file to a policy that checks."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import answer, refused, run, store_of

from enforcement.expected import Totals
from enforcement.frontier import Frontier, beaten_by, frontier, non_dominated
from enforcement.policy_text import parse_policy
from enforcement.shipped import load_policy
from enforcement.space import Bounds

SMALL = """
base = "ninety-days"
stages = [
  { days = [14, 30] },
  { days = [7, 14], throttle = [10, 30] },
  { days = 10, throttle = 20, block = [10, 40] },
  { block = 60 },
]
"""


def totals(rows: list[tuple[float, float, float]], **more: list[float]) -> Totals:
    risk, late, gone = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    zero = np.zeros(len(rows))
    return Totals(
        accepted_vulnerable=risk,
        delayed=late,
        lost=gone,
        vulnerable_servers=zero,
        highest_delayed_of_a_week=zero,
        highest_lost_of_a_week=np.array(more.get("highest_lost_of_a_week", zero)),
        mail=1000.0,
    )


def a_frontier(bounds: Bounds | None = None) -> Frontier:
    rows = [(5.0, 5.0, 5.0), (4.0, 6.0, 5.0), (5.0, 5.0, 6.0), (9.0, 9.0, 9.0), (6.0, 6.0, 6.0), (8.0, 5.0, 7.0)]
    shipped = [load_policy(name) for name in ("ninety-days", "gentler", "stricter", "block-only", "four-steps")]
    policies = [*shipped, load_policy("exploited-first")]
    others = [load_policy("ninety-days"), load_policy("gentler")]
    judged = totals(rows, highest_lost_of_a_week=[0.3, 0.1, 0.1, 0.1, 0.1, 0.1])
    return frontier(policies, judged, bounds or Bounds(), others, totals([(5.0, 5.0, 5.0), (5.0, 7.0, 5.0)]))


points = st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=60)


@given(points)
def test_the_front_is_that_of_the_plain_definition(rows: list[tuple[int, int, int]]) -> None:
    """A point is on it exactly when no other is as good everywhere and better somewhere."""
    found = non_dominated(np.array(rows, dtype=float))
    for place, one in enumerate(rows):
        beaten = any(
            all(a <= b for a, b in zip(other, one, strict=True)) and any(a < b for a, b in zip(other, one, strict=True))
            for other in rows
        )
        assert found[place] == (not beaten)
        assert bool(len(beaten_by(np.array(one), np.array(rows)))) == beaten


def test_policies_are_placed_among_the_candidates() -> None:
    """One as good as a candidate of the front is beaten by none; a worse one names a candidate that beats it."""
    found = a_frontier()
    assert found.table.filter("on_front")["number"].to_list() == [1, 2]
    assert found.placed["beaten_by"].to_list() == [None, 1]
    assert found.front["lost_share"].to_list() == [0.005, 0.005]


def test_who_breaks_a_bound_is_not_on_the_front_and_beats_nobody() -> None:
    """Without the first candidate, the third, as good but in mail lost, comes on."""
    found = a_frontier(Bounds(lost_share_of_a_week=0.2))
    assert found.table["keeps_bounds"].to_list() == [False, True, True, True, True, True]
    assert found.table.filter("on_front")["number"].to_list() == [2, 3]
    with pytest.raises(LookupError, match=r"none of 6 candidates keeps the bounds .* least lost is 0\.50 %"):
        a_frontier(Bounds(lost_share_of_mail=0.001))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        (f"2026-0{month}-{day:02d} 10:{minute:02d}", f"mx{server}.t{server % 7}.example", build)
        for month in (3, 4)
        for day in range(1, 29)
        for server, build in enumerate(["15.1.2507.35", "15.0.1497.48", "15.2.1544.9", "15.1.2507.6"] * 6)
        for minute in (server,)
    ]
    return store_of(tmp_path_factory.mktemp("store") / "s.duckdb", rows)


def test_from_a_space_to_a_policy_file_that_checks(store: Path, tmp_path: Path) -> None:
    """The search finds a front, writes tables that hold it, and saves a candidate that is the policy it says."""
    space, out, mine = tmp_path / "s.toml", tmp_path / "out", tmp_path / "mine.toml"
    space.write_text(SMALL)
    found = answer("frontier", space, "--store", store, "--out", out, "--save", "3", mine)
    table, front = pl.read_parquet(out / "candidates.parquet"), pl.read_csv(out / "front.csv")
    assert table.height == 8 * 2
    assert table.filter("on_front").height == front.height == len(found["front"]) >= 1
    assert {each["name"] for each in found["placed"]} >= {"ninety-days", "gentler", "stricter"}
    checked = run("check", mine)
    assert checked.returncode == 0, checked.stderr
    policy = parse_policy(mine.read_text(), source="mine.toml")
    assert policy.stages[0].days == 14
    assert policy.name == table["name"][2]
    assert policy.rules == load_policy("ninety-days").rules
    again = answer("frontier", space, "--store", store)
    assert again["front"] == found["front"]
    told = run("frontier", space, "--store", store)
    assert "beaten by no other" in told.stdout
    assert "risk left" in told.stdout
    # What it writes has the names that measures have everywhere.
    assert {"accepted_vulnerable", "delayed", "lost", "vulnerable_servers"} <= set(front.columns) & set(
        found["front"][0]
    )
    assert "guesses" in told.stdout
    assert max(map(len, told.stdout.splitlines())) <= 100


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base = 'ninety-days'\nstages = [{ days = 7, throtle = 5 }, { block = 60 }]", "did you mean 'throttle'?"),
        ("base = 'ninety-days'\nbound = 1", "did you mean 'bounds'?"),
        ("base = 'none-such'", "no policy 'none-such'"),
        ("base = 'ninety-days'\n[cohorts]\nal = 2026-01-01", "did you mean 'all'?"),
        ("base = 'ninety-days'\ntargeted_notice_days = 14", "asks for no notices"),
        (
            "base = 'ninety-days'\nstages = [{ days = 7, throttle = 50, block = 20 }, { block = 60 }]",
            "no valid candidate",
        ),
        ("base = 'ninety-days'\n[bounds]\ndays_before_throttle = 60", "no valid candidate in the space: all 1"),
        ("base = 'ninety-days'\n[bounds]\nlost_share_of_mail = 0.0", "none of 1 candidates keeps the bounds"),
        ("base = ", "not TOML"),
    ],
)
def test_a_space_that_cannot_be_searched_is_one_clear_line(store: Path, tmp_path: Path, text: str, said: str) -> None:
    """Unknown keys name the nearest one; nothing valid says what became of the combinations."""
    space = tmp_path / "s.toml"
    space.write_text(text)
    assert said in refused("frontier", space, "--store", store)


def test_other_bad_input(store: Path, tmp_path: Path) -> None:
    """A file that is not there, a candidate that is not there, a day without servers."""
    space = tmp_path / "s.toml"
    space.write_text(SMALL)
    assert "No such file" in refused("frontier", tmp_path / "no.toml", "--store", store)
    line = refused("frontier", space, "--store", store, "--save", "99", tmp_path / "x.toml")
    assert "no candidate 99 (expected 1 to 16" in line
    assert "holds no hand-over" in refused("frontier", space, "--store", store, "--as-of", "2020-01-01")
    assert "holds no hand-over" in refused("sensitivity", "ninety-days", "--store", store, "--as-of", "2020-01-01")


@pytest.mark.parametrize("target", ["space.toml", "folder", "nowhere/mine.toml"])
def test_a_file_that_a_policy_cannot_go_to_is_refused_first(target: str, tmp_path: Path) -> None:
    """The space is not written over, and nothing is searched: there is no store either."""
    space = tmp_path / "space.toml"
    space.write_text('base = "ninety-days"\n', encoding="utf-8")
    (tmp_path / "folder").mkdir()
    told = refused("frontier", space, "--store", tmp_path / "none.duckdb", "--save", "1", tmp_path / target)
    assert target in told
    assert space.read_text(encoding="utf-8") == 'base = "ninety-days"\n'
