"""The decision on one try: what it says, and when it changes."""

from dataclasses import replace
from datetime import date, datetime

import pytest
from examples import policy

from enforcement.builds import Evidence
from enforcement.decision import Decision, State, Still, decide
from enforcement.verdict import Verdict

NINETY_DAYS = policy()
STATE = State(
    server="mail.contoso.example",
    tenant="contoso.example",
    build="15.0.1497.48",
    evidence=Evidence.EXACT,
    product="Exchange Server 2013",
    vulnerable_from=date(2023, 4, 12),
    rule="unsupported",
    route="direct",
    cohort="all",
    cohort_starts_on=date(2000, 1, 1),
    spell_from_on=date(2024, 1, 1),
)


def at(text: str, state: State = STATE) -> Decision:
    return decide(state, NINETY_DAYS, datetime.fromisoformat(text))


@pytest.mark.parametrize(
    ("when", "stage", "verdict"),
    [
        ("2024-01-30T10:00", 1, Verdict.ACCEPT),  # clock 29
        ("2024-01-31T10:04", 2, Verdict.DEFER),  # clock 30: 5 minutes throttled
        ("2024-01-31T10:05", 2, Verdict.ACCEPT),
        ("2024-03-01T10:04", 5, Verdict.REJECT),  # clock 60: 5 blocked, then 30 throttled
        ("2024-03-01T10:05", 5, Verdict.DEFER),
        ("2024-03-01T10:35", 5, Verdict.ACCEPT),
        ("2024-03-31T10:59", 8, Verdict.REJECT),  # clock 90
    ],
)
def test_stage_and_minute_decide(when: str, stage: int, verdict: Verdict) -> None:
    decision = at(when)
    assert (decision.stage, decision.verdict) == (stage, verdict)


def test_a_decision_carries_code_and_reasons() -> None:
    decision = at("2024-03-01T10:04")
    assert (decision.code, decision.enhanced_code) == (550, "5.7.230")
    assert decision.text is not None
    assert decision.text.endswith("blocked for 5 mins/hr.")
    assert (decision.phase, decision.clock, decision.rule) == ("block partly", 60, "unsupported")
    assert decision.next_change_on == date(2024, 3, 11)


def test_a_pause_accepts_and_holds_the_clock() -> None:
    """Paused from 2024-02-05 (clock 35) for ten days: the clock is 35 on each of them, and on the day after."""
    paused = replace(STATE, still=(Still(date(2024, 2, 5), date(2024, 2, 15), "paused by its tenant"),))
    first, last, after = (at(f"2024-02-{day}T10:00", paused) for day in ("05", "14", "15"))
    assert [one.clock for one in (first, last, after)] == [35, 35, 35]
    assert [one.verdict for one in (first, last, after)] == [Verdict.ACCEPT, Verdict.ACCEPT, Verdict.DEFER]
    assert first.next_change_on == last.next_change_on == date(2024, 2, 15)
    assert after.next_change_on == date(2024, 2, 20)  # clock 40
    assert at("2024-02-01T10:00", paused).next_change_on == date(2024, 2, 5)


def test_the_last_stage_never_changes() -> None:
    assert at("2024-06-01T10:00").next_change_on is None


def test_a_message_without_a_spell_begins_one() -> None:
    """Nothing was seen before: stage 1 at clock 0, and stage 2 after 30 days."""
    decision = at("2024-06-01T10:00", replace(STATE, spell_from_on=None))
    assert (decision.stage, decision.clock, decision.next_change_on) == (1, 0, date(2024, 7, 1))


@pytest.mark.parametrize(
    ("change", "why", "changes_on"),
    [
        ({"evidence": Evidence.CLOUD}, "Exchange Online itself", None),
        ({"evidence": Evidence.UNKNOWN}, "does not know", None),
        ({"vulnerable_from": None, "rule": None}, "no rule", None),
        ({"vulnerable_from": date(2024, 5, 1)}, "not vulnerable before 2024-05-01", date(2024, 5, 1)),
        ({"cohort": None, "cohort_starts_on": None}, "no cohort", None),
        ({"cohort_starts_on": date(2024, 5, 1)}, "starts on 2024-05-01", date(2024, 5, 1)),
        ({"route": "smuggled"}, "come smuggled", None),
    ],
)
def test_what_is_not_subject_is_accepted_with_the_reason(
    change: dict[str, object], why: str, changes_on: date | None
) -> None:
    decision = at("2024-03-31T10:00", replace(STATE, **change))  # type: ignore[arg-type]  # one field each
    assert decision.verdict is Verdict.ACCEPT
    assert why in decision.why
    assert (decision.stage, decision.text, decision.next_change_on) == (None, None, changes_on)


def test_a_spread_window_starts_at_the_servers_own_minute() -> None:
    """Stage 2 throttles 5 minutes; with offset 58 they are :58 to :02."""
    spread = policy(window='"spread"')
    state = replace(STATE, minute_offset=58)
    verdicts = [decide(state, spread, datetime(2024, 1, 31, 10, minute)).verdict for minute in (57, 58, 2, 3)]
    assert verdicts == [Verdict.ACCEPT, Verdict.DEFER, Verdict.DEFER, Verdict.ACCEPT]


def test_a_pause_and_an_exemption_that_meet_are_one_standstill() -> None:
    """Paused until 2024-02-10, exempt from 02-08 to 02-20: the next change is the end of both, not of the first."""
    spans = (
        Still(date(2024, 2, 8), date(2024, 2, 21), "exempt (move)"),
        Still(date(2024, 2, 5), date(2024, 2, 11), "paused by its tenant"),
    )
    decision = at("2024-02-06T10:00", replace(STATE, still=spans))
    assert decision.next_change_on == date(2024, 2, 21)
    assert decision.why == "paused by its tenant; exempt (move) until 2024-02-20: the clock stands still"


def test_a_stage_that_begins_before_a_known_pause_comes_first() -> None:
    """At clock 31 the next stage begins on 2024-02-10 (clock 40); the pause of March is later. A pause that begins on
    that very day changes both at once, and one that begins the day before comes first."""
    for first_day, next_change in ((date(2024, 3, 1), 10), (date(2024, 2, 10), 10), (date(2024, 2, 9), 9)):
        state = replace(STATE, still=(Still(first_day, date(2024, 3, 20), "paused by its tenant"),))
        assert at("2024-02-01T10:00", state).next_change_on == date(2024, 2, next_change)
