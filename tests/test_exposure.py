"""The exposure pass: the same counts whatever engine holds the traffic, and all that a schedule needs."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from examples import policy
from stores import days_of

from enforcement import exposed, sample, shipped
from enforcement.course import Background, course
from enforcement.exposure import Exposure, _Tally, exposure, exposure_by_server
from enforcement.fleet import handed_over, last_days, standing_by_day, steps
from enforcement.history import History, Period, Traffic, polars_traffic
from enforcement.importers.batch import Batch
from enforcement.outcomes import Judge, server_outcomes
from enforcement.policy import Stage
from enforcement.replay import replay
from enforcement.schema import PAUSES, REJECTS
from enforcement.store import create_store, open_store

BACKGROUND = Background(
    catalogue=shipped.load_catalogue(),
    senders=shipped.load_assumptions().sender_mix,
    pauses=pl.DataFrame(schema=dict(PAUSES)),
)
NEW_YEAR = date(2026, 1, 1)
PERIOD = Period(date(2026, 8, 15), date(2026, 10, 20))


def risk_of(history: History) -> pl.DataFrame:
    """Every build is at risk from the beginning."""
    return history.builds.select("build_id", risk_from=pl.lit(NEW_YEAR))


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """A small sample in a real store."""
    made = sample.make_sample(
        BACKGROUND.catalogue, shipped.load_sample_shape(), sample.Extent(messages=20_000, servers=300, seed=3)
    )
    path: Path = tmp_path_factory.mktemp("store") / "traffic.duckdb"
    batch = Batch(
        handovers=made.handovers,
        sightings=made.sightings,
        rejects=pl.DataFrame(schema=dict(REJECTS)),
        rows_read=made.handovers.height,
    )
    with create_store(path) as store:
        store.add(source="sample", sha256="0", options={}, batches=[batch])
    with open_store(path) as store:
        yield store.history()


def groups_of(history: History) -> pl.DataFrame:
    """Groups of all that handed over: ten deciles of one product."""
    return (
        days_of(history)
        .select("server_id", "build_id")
        .unique()
        .with_columns(
            product=pl.lit("Exchange Server 2019"),
            decile=(pl.col("server_id") % 10 + 1).cast(pl.Int8),
            risk_from=NEW_YEAR,
        )
    )


@pytest.mark.parametrize("window", ['"top of the hour"', '"spread"'])
def test_duckdb_and_polars_count_alike(history: History, window: str) -> None:
    """The one narwhals expression gives the same rows on both engines, in both windows, with both kinds of pass."""
    to = policy(window=window)
    traffic = polars_traffic(history.traffic.frame.collect(backend="polars").to_native())
    segments = course(history, to, BACKGROUND).segments
    groups = groups_of(history)
    duckdb = exposure(history.traffic, segments, groups, to, PERIOD)
    polars = exposure(traffic, segments, groups, to, PERIOD)
    assert duckdb.by_day.rows().equals(polars.by_day.rows())
    assert duckdb.by_group.rows().equals(polars.by_group.rows())
    assert duckdb.by_day.messages.sum() == duckdb.by_group.messages.sum() > 1_000
    by_server = exposure_by_server(history.traffic, segments, risk_of(history), to, PERIOD)
    assert by_server.equals(exposure_by_server(traffic, segments, risk_of(history), to, PERIOD))
    assert by_server["messages"].sum() == duckdb.by_day.messages.sum()


def test_both_passes_judge_alike(history: History) -> None:
    """Judging stages on counts by clock gives what judging each server's counts by stage gives."""
    to = policy()
    segments = course(history, to, BACKGROUND).segments
    groups = (
        days_of(history)
        .select("server_id", "build_id")
        .unique()
        .with_columns(product=pl.lit(""), decile=pl.lit(1, pl.Int8), risk_from=NEW_YEAR)
    )
    counted = exposure(history.traffic, segments, groups, to, PERIOD)
    by_stage = Judge(counted, BACKGROUND.senders).judge(to).outcomes().by_stage
    by_server = server_outcomes(
        exposure_by_server(history.traffic, segments, risk_of(history), to, PERIOD), to, BACKGROUND.senders
    )
    columns = ("at_once", "delayed", "rejected", "expired", "retries")
    again = by_server.group_by("stage").agg(pl.col(columns).sum()).sort("stage")
    assert again.select(columns).equals(by_stage.select(columns))


def test_a_period_counts_its_days_alone_but_knows_the_clocks(history: History) -> None:
    """Outcomes of two halves add up to those of the whole: the second half's clocks began in the first."""
    first, last = history.period()
    middle = first + timedelta(days=90)
    halves = [
        replay(history, policy(), BACKGROUND, Period(*days)).totals
        for days in ((first, middle), (middle + timedelta(days=1), last))
    ]
    whole = replay(history, policy(), BACKGROUND).totals
    assert {name: halves[0][name] + halves[1][name] for name in whole} == whole


def test_no_period_reaches_behind_the_day_a_history_was_cut_at(history: History) -> None:
    """What a history knows of servers and days ends there, its rows may not: a longer period is an error."""
    cut = replace(history, to_on=PERIOD.to_on)
    assert exposed.expose(cut, policy(), BACKGROUND, PERIOD).period == PERIOD
    longer = Period(PERIOD.from_on, PERIOD.to_on + timedelta(days=1))
    with pytest.raises(
        ValueError, match="the history ends on 2026-10-20, where it was cut, and the period on 2026-10-21"
    ):
        exposed.expose(cut, policy(), BACKGROUND, longer)


def test_a_clock_past_400_counts_as_400() -> None:
    """A segment that began two years before the day still counts, in the last stage."""
    day = date(2026, 1, 1)
    traffic = polars_traffic(
        pl.DataFrame(
            {
                "day": [(day - date(1970, 1, 1)).days],
                "minute": [7],
                "minute_spread": [9],
                "server_id": [1],
                "build_id": [1],
                "route": ["direct"],
                "messages": [5],
            }
        )
    )
    segments = pl.DataFrame(
        {
            "server_id": [1],
            "build_id": [1],
            "cohort": ["all"],
            "spell": [1],
            "from_on": [day - timedelta(days=730)],
            "until_on": [None],
            "clock_at_start": [0],
            "running": [True],
        },
        schema_overrides={"until_on": pl.Date},
    )
    groups = pl.DataFrame({"server_id": [1], "build_id": [1], "product": ["p"], "decile": [1], "risk_from": [day]})
    counted = exposure(traffic, segments, groups, policy(), Period(day, day))
    assert isinstance(counted, Exposure)
    assert counted.by_day.rows().rows() == [(day, True, 400, True, 7, 5)]
    assert counted.by_group.rows().rows() == [("p", 1, True, 400, True, 7, 5)]


@pytest.mark.parametrize("dense_cells", [0, 2**25])
@pytest.mark.parametrize("rows_at_once", [1, 250, 8_000_000])
def test_rows_may_come_in_any_pieces(
    history: History, rows_at_once: int, dense_cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is counted together, and whether cells have a place each or are rows, the counts are the same."""
    to = policy()
    segments, groups = course(history, to, BACKGROUND).segments, groups_of(history)
    whole = exposure(history.traffic, segments, groups, to, PERIOD)
    by_server = exposure_by_server(history.traffic, segments, risk_of(history), to, PERIOD)

    def in_pieces(frame: nw.LazyFrame[Any]) -> Iterator[pa.RecordBatch]:
        for batch in history.traffic.batches(frame):
            yield from (batch.slice(start, 100) for start in range(0, batch.num_rows, 100))

    monkeypatch.setattr("enforcement.exposure._ROWS_AT_ONCE", rows_at_once)
    monkeypatch.setattr("enforcement.exposure._DENSE_CELLS", dense_cells)
    traffic = replace(history.traffic, batches=in_pieces)
    counted = exposure(traffic, segments, groups, to, PERIOD)
    assert counted.by_day.rows().equals(whole.by_day.rows())
    assert counted.by_group.rows().equals(whole.by_group.rows())
    assert by_server.equals(exposure_by_server(traffic, segments, risk_of(history), to, PERIOD))


def test_an_engine_that_sums_itself_reads_once_for_each_count(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives the same counts, and reads as often as the README of the engines says: three times a policy."""
    to = policy()
    segments, groups = course(history, to, BACKGROUND).segments, groups_of(history)
    traffic = replace(polars_traffic(history.traffic.frame.collect(backend="polars").to_native()), sums_itself=True)
    n_read = 0
    collect = Traffic.collected

    def counted(traffic: Traffic, frame: nw.LazyFrame[Any]) -> pl.DataFrame:
        nonlocal n_read
        n_read += 1
        return collect(traffic, frame)

    monkeypatch.setattr(Traffic, "collected", counted)
    near, far = (exposure(one, segments, groups, to, PERIOD) for one in (history.traffic, traffic))
    assert far.by_day.rows().equals(near.by_day.rows())
    assert far.by_group.rows().equals(near.by_group.rows())
    by_server = [exposure_by_server(one, segments, risk_of(history), to, PERIOD) for one in (history.traffic, traffic)]
    assert by_server[0].equals(by_server[1])
    assert n_read == 3


def test_what_is_counted_as_rows_does_not_grow_with_the_traffic() -> None:
    """A tally of rows keeps at most two for each cell, and what came last."""
    tally = _Tally(2**40)
    cells = np.arange(1_000) * 1_000_000
    for n in range(50):
        tally.add(cells + n // 25, None if n % 2 else np.full(1_000, 3))
        assert tally._sparse.height <= 2 * 2_000
    found, messages = tally.totals()
    assert found.tolist() == sorted([*cells, *(cells + 1)])
    assert sorted(set(messages.tolist())) == [12 * 3 + 13, 13 * 3 + 12]


def test_cells_may_be_more_than_an_int32_counts(history: History) -> None:
    """However many groups there are, each message is counted in its own, as among few."""
    to = policy()
    segments = course(history, to, BACKGROUND).segments
    groups = groups_of(history)
    more = pl.DataFrame({"server_id": -1, "build_id": -1, "product": [f"A {n}" for n in range(100_000)]}).with_columns(
        decile=pl.lit(1, pl.Int8), risk_from=NEW_YEAR
    )
    many = pl.concat([groups, more.cast(groups.schema)])
    expected = exposure(history.traffic, segments, groups, to, PERIOD).by_group.rows()
    assert exposure(history.traffic, segments, many, to, PERIOD).by_group.rows().equals(expected)
    traffic = polars_traffic(history.traffic.frame.collect(backend="polars").to_native())
    assert exposure(traffic, segments, many, to, PERIOD).by_group.rows().equals(expected)


def test_the_fleet_is_the_same_from_few_rows_as_from_all(history: History) -> None:
    """The engine's first and last days, and the last days before each step, stand for all hand-overs."""
    table = course(history, policy(), BACKGROUND).standings
    on = steps(history.period())
    few = last_days(history.traffic, on)
    assert few.height < days_of(history).height / 2
    assert standing_by_day(few, table, policy(), on).equals(standing_by_day(days_of(history), table, policy(), on))
    seen = (
        days_of(history)
        .group_by("server_id", "build_id", "route")
        .agg(first_seen_on=pl.col("day").min(), last_seen_on=pl.col("day").max(), messages=pl.col("messages").sum())
    )
    assert handed_over(history.traffic).equals(seen.sort("server_id", "build_id", "route"))


@pytest.mark.parametrize("n_stages", [1, 2, 401])
def test_the_second_pass_knows_any_number_of_stages(history: History, n_stages: int) -> None:
    """Each message is counted in the stage that its clock has reached, on both engines."""
    to = policy().model_copy(update={"stages": (*(Stage(days=1) for _ in range(n_stages - 1)), Stage(block=60))})
    segments = course(history, to, BACKGROUND).segments
    by_server = exposure_by_server(history.traffic, segments, risk_of(history), to, PERIOD)
    polars = polars_traffic(history.traffic.frame.collect(backend="polars").to_native())
    assert by_server.equals(exposure_by_server(polars, segments, risk_of(history), to, PERIOD))
    groups = (
        days_of(history)
        .select("server_id", "build_id")
        .unique()
        .with_columns(product=pl.lit(""), decile=pl.lit(1), risk_from=NEW_YEAR)
    )
    rows = exposure(history.traffic, segments, groups, to, PERIOD).by_day.rows()
    stage = rows["clock"].map_elements(lambda clock: to.stage_at(clock) + 1, return_dtype=pl.Int16)
    keys = ["stage", "running", "k"]
    by_clock = rows.with_columns(stage=stage).group_by(keys).agg(pl.col("messages").sum()).sort(keys)
    assert by_server.group_by(keys).agg(pl.col("messages").sum()).sort(keys).equals(by_clock.select(*keys, "messages"))
