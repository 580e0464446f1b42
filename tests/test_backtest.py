"""Back-tests and calibration from the command line, on made-up and on real history."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest
from pages import small_store
from worlds import answer, refused, store_of

from enforcement import report
from enforcement.assumptions import parse_assumptions
from enforcement.backtest import pooled, shipped_cuts
from enforcement.shipped import load_assumptions

HEADER = "server,tenant,build,first_seen_at,last_seen_at,messages\n"


@pytest.fixture(scope="module")
def table(real_data: Path) -> Path:
    return real_data / "patch_history.csv"


@pytest.fixture(scope="module")
def scored(table: Path) -> pl.DataFrame:
    cuts = [part for cut in shipped_cuts() for part in ("--cut", str(cut))]
    return pl.DataFrame(answer("backtest", "--history", table, *cuts), infer_schema_length=None)


def test_bands_hold_on_real_history(scored: pl.DataFrame) -> None:
    """Over 14 quarterly cuts 90 % bands hold 75 to 99 % of all weeks, 50 % bands 30 to 70 %."""
    pooled = scored.row(-1, named=True)
    assert (scored["cut"][0], scored["cut"][13], pooled["cut"]) == (str(date(2022, 2, 1)), str(date(2025, 4, 29)), None)
    assert 75 <= pooled["cover_90"] <= 99
    assert 30 <= pooled["cover_50"] <= 70


def test_all_cuts_together_are_means_by_weeks(scored: pl.DataFrame) -> None:
    """Half a cut counts half; servers of overlapping cuts are not counted twice; effective numbers are below counts."""
    two = scored.head(2).with_columns(pl.Series("weeks", [26, 13]), cut=pl.col("cut").str.to_date())
    row, (first, second) = pooled(two).row(0, named=True), two.to_dicts()
    assert row["weeks"] == 39
    for name in ("cover_90", "cover_50", "crps", "bias", "width_90", "crps_last_value"):
        assert row[name] == pytest.approx((2 * first[name] + second[name]) / 3)
    for name in ("servers", "tenants", "events"):
        assert abs(row[name] - (first[name] + second[name]) / 2) <= 0.5
    for name in ("servers", "tenants", "events"):
        assert (scored[f"effective_{name}"] < scored[name]).all()
    assert (scored["effective_servers"] > scored["effective_tenants"]).all()


def test_forecasts_beat_naive_ones_on_real_history(scored: pl.DataFrame) -> None:
    """CRPS is at most 0.7 of the better naive forecast, whose own are known, and lower than each at 9 cuts or more."""
    pooled, cuts = scored.row(-1, named=True), scored.head(14)
    assert pooled["crps_last_value"] == pytest.approx(16.5, abs=0.5)
    assert pooled["crps_constant_rate"] == pytest.approx(28.3, abs=0.5)
    assert pooled["crps"] <= 0.7 * min(pooled["crps_last_value"], pooled["crps_constant_rate"])
    for naive in ("crps_last_value", "crps_constant_rate"):
        assert (cuts["crps"] < cuts[naive]).sum() >= 9


def test_a_page_shows_the_same_scores(table: Path, scored: pl.DataFrame, tmp_path: Path) -> None:
    """The notebook's table is the command's answer; what the page says of the bands is in it."""
    store = small_store(tmp_path / "traffic.duckdb")
    cuts = str([str(cut) for cut in shipped_cuts()[:2]])
    given = report.parse_parameters("backtest", {"history": str(table), "cuts": cuts})
    done = report.run_report("backtest", given, store=store, out=tmp_path / "reports")
    page = done.page
    text = page.read_text(encoding="utf-8")
    two = scored.head(2)
    held = round(two["cover_90"].to_numpy().mean())
    assert f"From two days in the past, 90 % bands held <b>{held} %</b>" in text
    assert "Guess: patience within a tenant is correlated by <b>0.5</b>" in text
    assert "a sibling of the rollout" in text
    found = pl.read_csv(page.parent / "tables" / "by_cut.csv", infer_schema_length=None)
    assert found["crps"].to_list()[:2] == pytest.approx(two["crps"].to_list(), rel=1e-12)


def test_calibrating_counts_what_the_prototype_counted(table: Path, tmp_path: Path) -> None:
    """1,053 changes in 26,185 server-weeks in support, 66 out of it; the file reads back; run twice, same bytes."""
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    found = answer("calibrate", "--history", table, "--out", one)
    states = pl.DataFrame(found["hazards"]).group_by("state").agg(pl.col("events", "server_weeks").sum()).sort("state")
    assert states["events"].to_list() == [1053, 66]
    assert states["server_weeks"].to_list() == pytest.approx([26_185, 2_611], abs=2)
    answer("calibrate", "--history", table, "--out", two)
    assert one.read_bytes() == two.read_bytes()
    made = parse_assumptions(one.read_text(encoding="utf-8"), source="one.toml")
    assert made.factors == load_assumptions().factors
    assert made.hazards is not None
    assert made.hazards.supported[0].events == 96
    assert "2019-04-29 to 2026-07-14" in made.hazards.supported[0].source


@pytest.mark.parametrize("to_on", [date(2022, 6, 30), date(2024, 6, 30)])
def test_updates_are_counted_since_they_can_be_seen(table: Path, tmp_path: Path, to_on: date) -> None:
    """Six in the year from July 2021, eighteen in three: 6 a year, however few hops showed in the years before."""
    out = tmp_path / "mine.toml"
    found = answer("calibrate", "--history", table, "--as-of", str(to_on), "--out", out)
    assert found["updates"]["n"] == 6 * (to_on.year - 2021)
    made = parse_assumptions(out.read_text(encoding="utf-8"), source="mine.toml").updates_per_year
    assert made is not None
    assert made.value == pytest.approx(6, abs=0.05)
    assert f"2021-07-01 to {to_on}" in made.source


def test_the_two_definitions_are_kept_apart(table: Path, tmp_path: Path) -> None:
    """In gaps changes come sooner after an update; the file says which definition its numbers have."""
    out = tmp_path / "interval.toml"
    found = answer("calibrate", "--history", table, "--definition", "interval", "--out", out)
    assert found["definition"] == "interval"
    assert found["hazards"][0]["rate_per_week"] > 0.08
    assert "; interval" in out.read_text(encoding="utf-8")


def test_too_short_a_history_says_so(tmp_path: Path) -> None:
    """One line tells how many changes there are and how many are wanted."""
    short = tmp_path / "short.csv"
    short.write_text(HEADER + "a,t,15.1.2507.9,2022-06-01,2022-09-01,5\n")
    said = refused("calibrate", "--history", short)
    assert "0 changes of a missing update in 3 server-weeks (expected 30 or more" in said
    short.write_text(HEADER)
    assert "0 changes (expected 30 or more)" in refused("calibrate", "--history", short)
    assert "too short" in refused("backtest", "--history", short)
    assert "is no day" in refused("backtest", "--history", short, "--cut", "soon")


def test_the_stores_sightings_are_taken(tmp_path: Path) -> None:
    """Without a table the store is asked; its few sightings are too few."""
    rows = [("2022-06-01T10:00", "mx.t.example", "15.1.2507.9"), ("2022-09-20T10:00", "mx.t.example", "15.1.2507.12")]
    store = store_of(tmp_path / "t.duckdb", [*rows])
    assert "changes" in refused("calibrate", "--store", store)
