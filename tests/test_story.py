"""What pages say: sentences, figures and the tables behind pictures, on a history small enough to work by hand."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from worlds import store_of

from enforcement import picture_tables, provenance, story, story_fleet, story_policy, story_sources, workbench
from enforcement.check import Lint, Severity
from enforcement.comparison import Comparison, compare
from enforcement.exporting import Order, export_policy
from enforcement.guardrails import State
from enforcement.history import Period
from enforcement.pieces import TABLE_MIME, table
from enforcement.shipped import load_assumptions, load_policy
from enforcement.workbench import Setting

CONTOSO, FABRIKAM = "mail.contoso.example", "mail.fabrikam.example"
EX2013 = "15.0.1497.48"  # out of support since 2023-04-12

# Contoso's clock begins on 2026-01-01. Of ninety-days it meets: day 0 report; day 60 and 61 (30 min throttled after
# 5 min blocked); day 90 and 91 everything blocked. Minute 10 of day 60 is deferred, again at minute 25, and comes at
# minute 40: 30 min late. Minute 2 of day 61 is blocked. Fabrikam's clock begins on its only day: at once.
ROWS = [
    ("2026-01-01T10:30", CONTOSO, EX2013),
    ("2026-03-02T10:10", CONTOSO, EX2013),
    ("2026-03-03T10:02", CONTOSO, EX2013),
    ("2026-04-01T10:30", CONTOSO, EX2013),
    ("2026-04-02T10:30", FABRIKAM, EX2013),
]


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return Setting(store=store_of(tmp_path_factory.mktemp("story") / "traffic.duckdb", ROWS))


@pytest.fixture(scope="module")
def compared(setting: Setting) -> Comparison:
    return compare(workbench.replay_policies(["ninety-days", "gentler"], setting))


def test_the_answer_is_worked_out_from_the_data(compared: Comparison) -> None:
    """1 of 5 delayed, 2 of 5 lost, all by one tenant. Gentler: minute 2 of day 61 is throttled, 15 min late."""
    assert story.answer(compared).text.replace("\xa0", " ") == (
        "Over 92 days (2026-01-01 to 2026-04-02) ninety-days would have delayed 20.0 % and lost 40.0 % of the 5 "
        "messages read; one tenant carries all of the loss. gentler would have delayed 20.0 % and lost 0.0 %."
    )


def test_figures_have_a_base_and_a_difference(compared: Comparison) -> None:
    """Risk left: 3 of 5 vulnerable messages are delivered, 2 fewer than without a policy."""
    lines = story.five_figures(compared).text.replace("\xa0", " ").splitlines()
    assert lines == [
        "delivered late: 20.0 % (1 of 5 messages read; +1 against no policy)",
        "lost: 40.0 % (2 of 5 messages read: rejected 2, expired 0; +2 against no policy)",
        "risk left: 60.0 % (3 of 5 messages of vulnerable builds are delivered all the same; −2 against no policy)",
        "tenants that lose mail: 1 (of 2 tenants; 1 lose more than a tenth; +1 against no policy)",
        "delay of 95 % at most: 30 min (of 1 delayed messages; 30.0 min on average, 0 more than 4 h late)",
    ]


def test_differences_are_against_the_baseline(setting: Setting) -> None:
    """The same two policies, the first of them the baseline: the gentler one delays as many and loses 2 fewer."""
    compared = compare(workbench.replay_policies(["ninety-days", "gentler"], setting), baseline="ninety-days")
    assert [each.name for each in compared.all] == ["ninety-days", "gentler"]
    assert compared.first.name == "gentler"
    lines = story.five_figures(compared).text.splitlines()
    assert lines[0].endswith("; as with ninety-days)")
    assert lines[1].endswith("; −2 against ninety-days)")
    assert lines[2].endswith("; +2 against ninety-days)")
    assert "ninety-days, the baseline, would have delayed" in story.answer(compared).text


def test_a_policy_that_touches_nothing_says_why(tmp_path: Path) -> None:
    """A patched server: the answer is that nothing is subject, and the reason with its count."""
    store = store_of(tmp_path / "traffic.duckdb", [("2026-10-30T10:00", CONTOSO, "15.2.2562.56")])
    compared = compare(workbench.replay_policies(["ninety-days"], Setting(store=store)))
    assert story.answer(compared).text == (
        "Over one day ninety-days would have touched none of the 1 messages in scope: 1 not vulnerable that day."
    )


def test_half_of_the_loss(compared: Comparison) -> None:
    """5 + 3 of 12 lost messages are more than half: two of four tenants."""
    tenants = pl.DataFrame({"tenant": ["a", "b", "c", "d", "e"], "lost": [3.0, 5.0, 2.0, 2.0, 0.0]})

    class Known:
        """A replay of which only the tenants are asked."""

    known = Known()
    known.tenants = tenants  # type: ignore[attr-defined]  # stands in for a replay
    said = story._half_of_the_loss(known)  # type: ignore[arg-type]  # the same
    assert said == "two of the 4 tenants that lose mail carry half of the loss"
    assert story._half_of_the_loss(compared.proposals[1].replay) == "no tenant loses any mail"


def test_days_without_mail_are_gaps_and_days_without_harm_are_zeros(compared: Comparison) -> None:
    """92 days, of which five have mail: 87 gaps a line, and zeros on days with mail that is not delayed."""
    delayed = picture_tables.outcome_by_day(compared).filter(policy="ninety-days", outcome="delayed")
    assert delayed.height == 92
    assert delayed["messages"].null_count() == 87
    known = delayed.drop_nulls("messages").select("when", "messages").rows()
    assert known == [
        ("2026-01-01", 0.0), ("2026-03-02", 1.0), ("2026-03-03", 0.0), ("2026-04-01", 0.0), ("2026-04-02", 0.0),
    ]  # fmt: skip


def test_an_outcome_that_never_comes_is_not_drawn(compared: Comparison) -> None:
    """No mail expires here, so no line lies on the axis for it."""
    drawn = picture_tables.outcome_by_day(compared)["outcome"].unique().to_list()
    assert set(drawn) == {"at once", "delayed", "rejected"}


def test_a_line_is_named_once_and_inside(compared: Comparison) -> None:
    """Each line that is not zero all along has one name, not at the ends where it would be cut."""
    lines = picture_tables.outcome_by_day(compared).filter(policy="ninety-days")
    named = lines.filter(pl.col("label") != "").select("outcome", "label", "when").rows()
    assert [(outcome, label) for outcome, label, _ in sorted(named)] == [
        ("delayed", "delayed"),
        ("rejected", "rejected"),
    ]
    assert {outcome: when for outcome, _, when in named} == {"delayed": "2026-03-02", "rejected": "2026-03-03"}


def test_risk_is_drawn_by_whole_weeks(compared: Comparison) -> None:
    """92 days are 13 weeks back from the last day; the first day of all is left over."""
    risk = picture_tables.risk_by_day(compared)
    assert risk["policy"].unique(maintain_order=True).to_list() == ["no policy", "ninety-days", "gentler"]
    none = risk.filter(policy="no policy")
    assert none["is_baseline"].all()
    assert none["on"].to_list() == [date(2026, 1, 2) + timedelta(days=7 * n) for n in range(13)]
    # 2026-03-02 and 03 are days 59 and 60 of them: week 9, counted from 0; 2026-04-01 and 02 are in the last.
    counted = dict(none.drop_nulls("read").select("when", "accepted_vulnerable").rows())
    assert counted == {"7 days from 2026-02-27": 2.0, "7 days from 2026-03-27": 2.0}
    with_policy = risk.filter(policy="ninety-days").drop_nulls("read")["accepted_vulnerable"].to_list()
    assert with_policy == [1.0, 1.0]


@pytest.mark.parametrize(
    ("n_days", "word", "points"), [(10, "day", 10), (200, "day", 200), (201, "week", 29), (1401, "month", 47)]
)
def test_long_histories_are_added_up(n_days: int, word: str, points: int, tmp_path: Path) -> None:
    """Up to 200 points a line; 201 days are weeks from Monday on, years are months; no message is dropped."""
    first = date(2024, 1, 1)  # a Monday
    rows = [(f"{first + timedelta(days=n)}T10:30", CONTOSO, EX2013) for n in (0, n_days - 1)]
    compared = compare(workbench.replay_policies(["ninety-days"], Setting(store=store_of(tmp_path / "t.duckdb", rows))))
    assert picture_tables.span_word(compared.period) == word
    drawn = picture_tables.outcome_by_day(compared)
    at_once = drawn.filter(outcome="at once")
    assert at_once.height == points
    assert drawn["messages"].sum() == 2


def test_a_strip_names_each_phase_once_and_has_sixty_minutes_everywhere() -> None:
    """Stage 5 of ninety-days: 5 minutes blocked, 30 throttled, 25 accepted, from day 60 to 69."""
    strip = picture_tables.schedule({"ninety-days": load_policy("ninety-days"), "stricter": load_policy("stricter")})
    fifth = strip.filter(policy="ninety-days", stage=5)
    parts = fifth.select("part", "from_minute", "until_minute").rows()
    assert parts == [("blocked", 0, 5), ("throttled", 5, 35), ("accepted", 35, 60)]
    assert fifth["days"].unique().to_list() == ["day 60 to 69"]
    length = (pl.col("until_minute") - pl.col("from_minute")).sum()
    assert strip.group_by("policy", "stage").agg(length)["until_minute"].unique().to_list() == [60]
    for policy in ("ninety-days", "stricter"):
        names = strip.filter((pl.col("policy") == policy) & (pl.col("label") != ""))["label"].to_list()
        assert names == ["report", "throttle", "block partly", "block more", "block all"]
    assert strip["until_day"].max() == round(90 / 0.82)  # the last stage of the longest has 18 % of the strip


def test_delays_are_counted_in_spans(compared: Comparison) -> None:
    """The one delayed message came 30 min late: in the second span; spans that are empty are zeros."""
    late = picture_tables.delays(compared)
    assert late.filter(policy="ninety-days").select("late", "messages").rows() == [
        ("≤ 15 min", 0.0), ("≤ 30 min", 1.0), ("≤ 45 min", 0.0), ("≤ 1 h", 0.0),
    ]  # fmt: skip


def test_harm_is_a_share_of_the_deciles_mail(compared: Comparison) -> None:
    """Contoso, the larger of two tenants, sent 4 messages: 1 came late, 2 were lost."""
    harm = picture_tables.harm_by_decile(compared).filter(policy="ninety-days")
    largest = harm.filter(pl.col("decile") == pl.col("decile").max())
    assert largest.sort("outcome").select("outcome", "messages", "read", "share").rows() == [
        ("delayed", 1.0, 4, 0.25), ("lost", 2.0, 4, 0.5),
    ]  # fmt: skip


def test_policies_of_one_name_are_kept_apart(setting: Setting) -> None:
    """Two versions of a policy under one name do not share a line."""
    compared = compare(workbench.replay_policies(["gentler", "gentler"], setting))
    assert [each.name for each in compared.all] == ["gentler", "gentler (2)"]


def test_guardrails_in_words(setting: Setting, tmp_path: Path) -> None:
    """2 of 5 lost is more than a tenth; no tenant has ten messages, so nothing about tenants can be judged."""
    text = Path("data/policies/ninety-days.toml").read_text(encoding="utf-8")
    bounds = "".join(
        f'\n[[guardrails]]\nmeasure = "lost_share_of_mail"\nper = "{per}"\nat_most = 0.1\nmin_messages = {least}\n'
        for per, least in (("total", 1), ("tenant", 10))
    )
    policy = tmp_path / "bounded.toml"
    policy.write_text(text + bounds, encoding="utf-8")
    compared = compare(workbench.replay_policies([str(policy)], setting))
    assert compared.first.replay.guardrails["state"].to_list() == [State.FAIL, State.INCONCLUSIVE]
    html = story.guardrails(compared).html.replace("\xa0", " ")
    assert "✗ fail" in html
    assert "lost: at most 10 % of all mail, in total" in html
    assert "40 %" in html
    assert "? inconclusive" in html
    assert "100 % of the mail not judged" in html


def test_guesses_are_marked(compared: Comparison) -> None:
    """What nobody knows is called a guess; what a source says has its source."""
    lines = story_sources.assumed(load_assumptions(), compared).text.splitlines()
    assert sum("Guess:" in line for line in lines) == 1
    assert "Source:" in lines[0]
    assert any("Nobody reacts" in line for line in lines)


def test_the_data_box_adds_up(compared: Comparison, setting: Setting) -> None:
    """Rows read = stored + rejected; messages in scope, subject, and by evidence, each with its share."""
    box = story_sources.data_box(provenance.read_sources(setting), compared.first.replay).text.replace("\xa0", " ")
    assert "rows imported: 5 = 5 stored + 0 rejected" in box
    assert "subject to ninety-days: 5 (100.0 %) in 2 spells" in box
    assert "build exact: 5 (100.0 %)" in box


def test_the_fleet_in_words(setting: Setting) -> None:
    """Both servers are vulnerable on the last day; Contoso was seen the day before."""
    fleet = workbench.fleet_on("ninety-days", setting)
    period = setting.period(fleet.history)
    assert story_fleet.answer(fleet.servers, fleet.policy, period).text.replace("\xa0", " ") == (
        "On 2026-04-02, 2 of the 2 servers seen in the 60 days before are vulnerable by the rules of ninety-days: "
        "100.0 %. 100.0 % of all mail read until then came from builds that are vulnerable on that day."
    )
    bars = story_fleet.standing_over_time(fleet.standing_by_day)
    assert bars["on"].max() == date(2026, 4, 2)
    assert (bars["high"] - bars["low"]).to_list() == bars["servers"].to_list()


def test_bars_of_a_long_history_are_thinned_to_the_last_day() -> None:
    """200 weeks are every third of them, and the last day is among these."""
    days = [date(2022, 1, 1) + timedelta(days=7 * n) for n in range(200)]
    by_day = pl.DataFrame({"day": days, "standing": ["current"] * 200, "servers": [1] * 200})
    bars = story_fleet.standing_over_time(by_day)
    assert bars.height == 67
    assert bars["on"].max() == days[-1]
    assert set((bars["until_on"] - bars["on"]).dt.total_days()) == {21}


def test_a_policy_in_words(setting: Setting) -> None:
    """Whom it holds, and from which day mail is lost."""
    fleet = workbench.fleet_on("ninety-days", setting)
    period = setting.period(fleet.history)
    told = story_policy.answer(fleet.policy, fleet.servers, period).text
    assert told.endswith("its cohorts take in 2 of them. Mail is lost from day 60 on, all of it from day 90 on.")
    rules = story_policy.rules(fleet.policy, fleet.servers, period).text.splitlines()
    assert rules[0] == (
        "- unsupported: a build is vulnerable as soon as the extended support of its product ended. "
        "It catches two servers now."
    )
    assert rules[1].startswith("- unpatched: a build is vulnerable 90 days after the first security update")
    lint = Lint(policy="p", key="stages[1]", message="stage 2 is weaker", severity=Severity.WARNING)
    assert story_policy.remarks([lint]).text == "- stages[1]: stage 2 is weaker."
    assert story_policy.remarks([]).text == "Nothing to remark."


def test_a_server_of_two_cohorts_loses_mail_when_either_is_blocked() -> None:
    """The one that is not blocked stands first in the calendar."""
    begins = {"server": "mx.t.example", "tenant": "t.example", "from_on": date(2026, 4, 3), "running": True}
    rows = [begins | {"cohort": "2013", "stage": 1, "phase": "report", "block": 0}]
    rows += [begins | {"cohort": "2016", "stage": 8, "phase": "block all", "block": 60}]
    manifest = {"valid_from": "2026-04-03", "not_after": "2026-04-16", "serial": 2026040200}
    lines = story_policy.export_figures(manifest, pl.DataFrame(rows)).text.splitlines()
    assert lines[1].startswith("lose mail now: 1 (of 1 servers")


def test_an_export_in_words(setting: Setting, tmp_path: Path) -> None:
    """Contoso is at the last stage on the day after; Fabrikam, at clock 0 on 2026-04-02, enters seven more."""
    made = export_policy("ninety-days", setting, Order(out=tmp_path / "out"))
    policy = load_policy("ninety-days")
    told = story_policy.sign_off(made.manifest, made.calendar, policy, "out", made.reach).text
    assert told.startswith("ninety-days is exported to out for two servers of two tenants. It holds from 2026-04-03 to")
    assert "No message of the last 30 days" not in told
    assert all(told_of in told for told_of in made.reach)
    lines = story_policy.export_figures(made.manifest, made.calendar).text.splitlines()
    assert lines[1].startswith("lose mail now: 1 (of 2 servers")
    coming = story_policy.coming(made.manifest, made.calendar)
    assert coming.select("server", "stage", "enters_on").rows() == [
        (FABRIKAM, stage + 2, date(2026, 4, 2) + timedelta(days=day))
        for stage, day in enumerate((30, 40, 50, 60, 70, 80, 90))
    ]
    drawn = picture_tables.stage_calendar(coming, policy)
    assert drawn["servers"].to_list() == [1] * 7
    assert drawn["stage_name"][0] == "stage 2: throttle (5 min throttled)"


def test_a_table_is_cut_and_says_so() -> None:
    """Three of five rows are shown, with the count; all five go along. A table that fits goes along only if asked."""
    frame = pl.DataFrame({"server": list("abcde"), "messages": [1_000, 2, 3, 4, 5]})
    piece = table(frame, name="servers", rows=3)
    assert "shown 3 of 5 rows" in piece.html
    assert piece.html.count("<tr>") == 4
    assert "1,000" in piece.html
    assert piece.table is not None
    assert piece.table.equals(frame)
    assert TABLE_MIME in piece._repr_mimebundle_()
    assert TABLE_MIME not in table(frame, name="servers")._repr_mimebundle_()


def test_a_builds_mail_counts_by_all_its_routes() -> None:
    """A build handed over directly until March and relayed until June: both rows, 7 messages; an older build: none."""
    seen = pl.DataFrame(
        {
            "server": ["mx.a.example"] * 3,
            "build": ["15.0.1497.48", "15.0.1497.48", "15.0.1497.2"],
            "route": ["direct", "relayed", "direct"],
            "last_seen_on": [date(2026, 5, 20), date(2026, 6, 1), date(2026, 5, 1)],
            "messages": [4, 3, 9],
        }
    )
    kept = story_fleet.present(seen, load_policy("ninety-days"), Period(date(2026, 1, 1), date(2026, 6, 2)))
    assert kept["messages"].to_list() == [4, 3]
