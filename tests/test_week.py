"""A week told: what comes next and when, who moved, a forecast and what came; short and odd histories too."""

from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from pages import own_policy, small_store
from test_drift import DAYS, World, everything
from worlds import store_of

from enforcement import story, story_week
from enforcement.coming import coming
from enforcement.fleet import SILENT
from enforcement.history import Period
from enforcement.rollout import Trial
from enforcement.schema import SERVERS, SPELL_SPANS
from enforcement.shipped import load_policy
from enforcement.week import about_to_be_vulnerable, moves, newly_silent
from enforcement.weekly import Weekly, week_of
from enforcement.workbench import Setting, fleet_on

NINETY = load_policy("ninety-days")
TRIAL = Trial(n_draws=20, seed=1)


def _coming(*spans: tuple[object, ...], as_of: date) -> pl.DataFrame:
    servers = pl.DataFrame(
        [(1, "mx.a.example", "a.example", 0), (2, "mx.b.example", "b.example", 0)], schema=SERVERS, orient="row"
    )
    return coming(pl.DataFrame(spans, schema=SPELL_SPANS, orient="row"), servers, NINETY, as_of=as_of)


def test_a_pause_puts_the_next_stage_off() -> None:
    """On day 20 of its clock a server pauses for ten days: day 30 comes ten days later, and nothing is touched."""
    first = date(2026, 3, 1)
    spans = [
        (1, "all", 1, first, date(2026, 3, 21), 0, True),
        (1, "all", 1, date(2026, 3, 21), date(2026, 3, 31), 20, False),
        (1, "all", 1, date(2026, 3, 31), None, 20, True),
    ]
    columns = ("clock", "running", "resumes_on", "stage", "next_stage", "next_on", "days_left")
    before = _coming(*spans, as_of=date(2026, 3, 20)).select(columns).row(0)
    assert before == (19, True, None, 1, 2, date(2026, 4, 10), 21)
    inside = _coming(*spans, as_of=date(2026, 3, 25)).select(columns).row(0)
    assert inside == (20, False, date(2026, 3, 31), 1, 2, date(2026, 4, 10), 16)
    after = _coming(*spans, as_of=date(2026, 4, 10)).select(columns).row(0)
    assert after == (30, True, None, 2, 3, date(2026, 4, 20), 10)


def test_who_is_through_and_who_is_last() -> None:
    """A spell that has ended is under no enforcement; in the last stage nothing comes next; the soonest is first."""
    ended = (1, "all", 1, date(2026, 1, 1), date(2026, 2, 1), 0, True)
    again = (1, "all", 2, date(2026, 5, 1), None, 0, True)
    last = (2, "all", 1, date(2025, 1, 1), None, 0, True)
    found = _coming(ended, again, last, as_of=date(2026, 5, 3))
    assert found.select("server", "first_detected_on", "stage", "next_on").rows() == [
        ("mx.a.example", date(2026, 5, 1), 1, date(2026, 5, 31)),
        ("mx.b.example", date(2025, 1, 1), 8, None),
    ]
    assert _coming(ended, as_of=date(2026, 5, 3)).is_empty()


def test_who_moved() -> None:
    before = pl.DataFrame({"server": ["a", "b", "c"], "standing": ["vulnerable", "vulnerable", "behind"]})
    now = pl.DataFrame({"server": ["a", "b", "c", "d"], "standing": ["current", SILENT, "behind", "vulnerable"]})
    assert set(moves(before, now).rows()) == {
        ("vulnerable", "current", 1), ("vulnerable", SILENT, 1), ("not seen yet", "vulnerable", 1),
    }  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_store(tmp_path_factory.mktemp("week") / "traffic.duckdb")


@pytest.fixture(scope="module")
def week(store: Path) -> Weekly:
    return week_of("ninety-days", Setting(store=store), TRIAL)


def test_the_week_is_the_fleet_twice(week: Weekly, store: Path) -> None:
    """How servers stand now and stood before is what `fleet` says on either day; every move is between the two."""
    assert week.stands_before is not None
    for day, stands in ((week.as_of, week.stands), (week.before, week.stands_before)):
        known = fleet_on("ninety-days", Setting(store=store, to_on=day))
        handed = known.servers.filter(pl.col("route").is_not_null())
        assert set(stands["server"]) == set(handed["server"])
    change = moves(week.stands_before, week.stands)
    gained = sum(change.filter(now="vulnerable")["servers"]) - sum(change.filter(before="vulnerable")["servers"])
    now, then = (int((each["standing"] == "vulnerable").sum()) for each in (week.stands, week.stands_before))
    assert now - then == gained
    assert f"{abs(gained)} {'more' if gained > 0 else 'fewer'} than on {week.before}" in story_week.answer(week).text


def test_what_came_is_what_a_replay_counts(week: Weekly) -> None:
    """The forecast's other side: the week's own mail; the band holds its middle."""
    assert week.forecast is not None
    lost = week.replay.by_day.filter(pl.col("day") > week.before)["lost"].sum()
    row = week.forecast.filter(measure="messages lost").row(0, named=True)
    assert row["came"] == pytest.approx(lost)
    assert row["low"] <= row["middle"] <= row["high"]
    assert "nine of ten" in story_week.forecast(week).text


def test_without_a_decision_log_the_page_says_so(week: Weekly) -> None:
    assert "No decision log was imported" in story_week.drift(week).text


def test_a_history_of_three_days_has_no_week_before(tmp_path: Path) -> None:
    """No comparison and no forecast, each with its reason; all else is told."""
    rows = [(f"2026-10-{day}T10:00", "mx.contoso.example", "15.1.2507.35") for day in (28, 29, 30)]
    short = week_of("ninety-days", Setting(store=store_of(tmp_path / "s.duckdb", rows)), TRIAL)
    assert (short.stands_before, short.forecast) == (None, None)
    assert "no mail of 7 days before" in story_week.forecast(short).text
    assert "no mail of 7 days before" in story_week.standing(short).text
    assert "1 of 1 servers in sight are vulnerable" in story_week.answer(short).text
    for tell in (story_week.five_figures, story_week.next_stages, story_week.days_left, story_week.silent):
        assert tell(short).text


def test_days_without_mail_are_told(tmp_path: Path) -> None:
    """A timer goes on when imports have stopped: the page says since when."""
    rows = [(f"2026-10-{day:02}T10:00", "mx.contoso.example", "15.1.2507.35") for day in range(1, 20)]
    late = week_of("ninety-days", Setting(store=store_of(tmp_path / "s.duckdb", rows), to_on=date(2026, 10, 31)), TRIAL)
    text = story_week.answer(late).text
    assert "The last mail is of 2026-10-19: twelve days before 2026-10-31 there is none." in text


def test_who_falls_silent_and_who_runs_out_of_days(tmp_path: Path) -> None:
    """Silent since the day after 60 days out of sight; vulnerable in the week in which the 90 days run out."""
    start = datetime(2026, 6, 1, 10)
    seen = [((start + timedelta(days=n)).isoformat(), "mx.gone.example", "15.2.2562.46") for n in range(10)]
    # SE RTM Aug26SU misses the update of 2026-09-08, whose 90 days end on 2026-12-07.
    seen += [((start + timedelta(days=n)).isoformat(), "mx.late.example", "15.2.2562.46") for n in range(0, 186, 3)]
    store = store_of(tmp_path / "s.duckdb", seen)
    for day, silent, late in ((date(2026, 8, 10), 1, 0), (date(2026, 8, 9), 0, 0), (date(2026, 8, 17), 0, 0),
                              (date(2026, 12, 1), 0, 1), (date(2026, 11, 29), 0, 0)):  # fmt: skip
        known = fleet_on("ninety-days", Setting(store=store, to_on=day))
        period = Period(date(2026, 6, 1), day)
        fell = newly_silent(known.servers, known.policy, period)
        soon = about_to_be_vulnerable(known.servers, known.policy, period)
        assert (fell.height, soon.height) == (silent, late), day


def test_guardrails_are_judged_over_four_weeks(store: Path, tmp_path: Path) -> None:
    rail = '\n[[guardrails]]\nmeasure = "lost_share_of_mail"\nper = "total"\nat_most = 0.0\nmin_messages = 1\n'
    week = week_of(str(own_policy(tmp_path, guardrail=rail)), Setting(store=store), TRIAL)
    assert (week.replay.period.to_on - week.replay.period.from_on).days == 27
    assert "✗ fail" in story.guardrails(week.compared).text


def test_production_is_held_against_the_policy(tmp_path: Path) -> None:
    """With a decision log of the week the page says whether it is as expected; with another policy it is not."""
    world = World(tmp_path)
    store = world.with_log("logged", everything(world))
    setting = Setting(store=store, to_on=DAYS[-1], pauses=world.pauses)
    text = story_week.drift(week_of(str(world.policy), setting, TRIAL)).text
    assert text.startswith("As expected: all ")
    other = tmp_path / "other.toml"
    other.write_text(
        world.policy.read_text(encoding="utf-8").replace("throttle = 20", "throttle = 40"), encoding="utf-8"
    )
    text = story_week.drift(week_of(str(other), setting, TRIAL)).text
    assert text.startswith("Not as expected: ")
    assert "disagreements" in text
