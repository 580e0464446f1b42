"""The clock: the slow twin against examples worked by hand, and the package against the twin."""

from datetime import date, timedelta
from fractions import Fraction

import pytest
from examples import EX2013, EX2016, NEW_YEAR, PATCHED, SERVER, TENANT, at, clock, days, policy, replayed, told
from reference_clock import ClockStart, Message, Pause

from enforcement.history import Period


def test_patched_in_stage_5() -> None:
    """Mail of 10:02 each day from clock 0 to 64, then from a patched server: the spell ends 14 days later."""
    patched_on = date(2024, 3, 6)  # 31 + 29 + 5 days on: clock 65
    messages = [*days(NEW_YEAR, 65, EX2013), *days(patched_on, 40, PATCHED)]
    replay = replayed(messages, policy())
    # Stage 1, report only: at once. Stages 2 and 3, 5 and 10 minutes from the full hour: minute 2 is deferred, minute
    # 17 is accepted. Stage 4, 20 minutes: 2 and 17 are deferred, 32 is accepted. Stage 5: minute 2 is blocked.
    outcomes = [("at once", 0)] * 30 + [("delayed", 15)] * 20 + [("delayed", 30)] * 10 + [("rejected", 0)] * 5
    assert [(outcome, minutes) for _, outcome, minutes in told(replay)] == outcomes
    assert {stage: tally.subject for stage, tally in replay.by_stage.items()} == {1: 30, 2: 10, 3: 10, 4: 10, 5: 5}
    # Deferred tries: 20 messages once, 10 twice.
    assert (replay.total.delayed, replay.total.retries, replay.total.rejected) == (30, 40, 5)
    assert replay.total.mean_delay == Fraction(20 * 15 + 10 * 30, 30)  # 20 minutes
    assert replay.total.accepted_vulnerable == 60
    # The last subject day is 5 March; the first clean day 14 or more days later is the 19th, no longer in the spell.
    assert clock(replay, date(2024, 3, 18)) == 77
    assert clock(replay, date(2024, 3, 19)) is None


def test_patched_and_regressed() -> None:
    """Back to the old build within 14 days, the clock has run on; after a clean day that ended the spell it is 0."""
    old, patched = days(NEW_YEAR, 31, EX2013), days(date(2024, 2, 1), 5, PATCHED)
    soon = replayed([*old, *patched, *days(date(2024, 2, 8), 1, EX2013)], policy())
    assert (clock(soon, date(2024, 2, 8)), len(soon.spells)) == (38, 1)
    # 14 February lies 14 days after 31 January.
    late = replayed([*old, *days(date(2024, 2, 14), 1, PATCHED), *days(date(2024, 2, 20), 1, EX2013)], policy())
    assert clock(late, date(2024, 2, 14)) is None
    assert (clock(late, date(2024, 2, 20)), len(late.spells)) == (0, 2)
    # On the 13th it is one day too early, and silence after it ends nothing.
    silent = replayed([*old, *days(date(2024, 2, 13), 1, PATCHED), *days(date(2024, 6, 1), 1, EX2013)], policy())
    assert (clock(silent, date(2024, 6, 1)), len(silent.spells)) == (152, 1)


def test_paused_in_stage_3_with_an_exemption_that_overlaps() -> None:
    """30 days of pause and 16 exempt days overlap by 9: the clock stands still for 37 days, then goes on."""
    pause = Pause(TENANT, date(2024, 2, 13), 30)  # at clock 43; 17 days of February, 13 of March: until 13 March
    exempt = """
    [pause]
    days_per_year = 90
    [[exemptions]]
    server = "mail.contoso.example"
    from = 2024-03-05
    until = 2024-03-20
    """
    replay = replayed(days(NEW_YEAR, 100, EX2013), policy(exempt), pauses=[pause])
    assert [clock(replay, date(2024, 2, day)) for day in (12, 13, 14)] == [42, 43, 43]
    assert [clock(replay, date(2024, 3, day)) for day in (13, 14, 20, 21, 22)] == [43, 43, 43, 43, 44]
    # Stage 3 defers minute 2, but no paused or exempt day does; its messages count at the stage of their clock.
    by_day = {day: outcome for day, outcome, _ in told(replay)}
    assert by_day[date(2024, 2, 12)] == by_day[date(2024, 3, 21)] == "delayed"
    still = [date(2024, 2, 13) + timedelta(days=i) for i in range(37)]
    assert still[-1] == date(2024, 3, 20)
    assert {by_day[day] for day in still} == {"at once"}
    assert replay.by_stage[3].subject == 10 + 37
    assert (replay.by_stage[3].delayed, replay.by_stage[3].at_once) == (10, 37)


def test_vulnerable_mail_every_8th_day_from_a_name_that_is_patched_in_between() -> None:
    """A name with a patched and a vulnerable server behind it: clean days less than 14 days apart end nothing."""
    vulnerable = days(NEW_YEAR, 97, EX2013, every=8)  # clocks 0, 8, … 96
    patched = [
        message for message in days(NEW_YEAR, 97, PATCHED) if message.sent_at not in {m.sent_at for m in vulnerable}
    ]
    replay = replayed([*vulnerable, *patched], policy())
    assert len(replay.spells) == 1
    assert [one.state.clock for one in replay.judged if one.state] == list(range(0, 97, 8))
    assert told(replay)[-1] == (date(2024, 4, 6), "rejected", 0)  # clock 96: all is blocked
    # The patched server's own mail is never touched.
    assert replay.total.subject == 13
    # Every 15th day, the clean day before has ended the spell each time.
    rare = days(NEW_YEAR, 97, EX2013, every=15)
    replay = replayed([*rare, *days(NEW_YEAR, 97, PATCHED)], policy())
    assert [one.state.clock for one in replay.judged if one.state] == [0] * 7


def test_upgraded_from_a_vulnerable_2013_to_a_vulnerable_2016() -> None:
    """The cohort of the new version starts its own clock; in one cohort for both the clock goes on."""
    messages = [
        *days(NEW_YEAR, 70, EX2013),
        *days(NEW_YEAR + timedelta(days=70), 30, EX2016),
        *days(NEW_YEAR + timedelta(days=100), 1, EX2013),
    ]
    apart = policy(
        cohorts="""[
          { name = "2013", products = ["Exchange Server 2013"], starts_on = 2024-01-01 },
          { name = "2016", products = ["Exchange Server 2016"], starts_on = 2024-01-01 },
        ]"""
    )
    replay = replayed(messages, apart)
    assert replay.spells == {(SERVER, "2013", 1), (SERVER, "2016", 1)}
    assert [one.state.clock for one in replay.judged if one.state and one.cohort == "2016"] == list(range(30))
    # The 2013 clock was never cleared: no day of mail from the 2016 was a clean one.
    assert clock(replay, NEW_YEAR + timedelta(days=100), "2013") == 100
    together = replayed(messages, policy())
    assert [one.state.clock for one in together.judged if one.state] == list(range(101))


def test_a_clean_day_ends_the_spells_of_all_cohorts_that_are_due() -> None:
    """The 2013 spell is 20 days old in silence, the 2016 spell 10: a clean day ends the first alone."""
    cohorts = """[
      { name = "2013", products = ["Exchange Server 2013"], starts_on = 2000-01-01 },
      { name = "2016", products = ["Exchange Server 2016"], starts_on = 2000-01-01 },
    ]"""
    messages = [
        *days(date(2024, 1, 1), 1, EX2013),
        *days(date(2024, 1, 11), 1, EX2016),
        *days(date(2024, 1, 21), 1, PATCHED),
    ]
    replay = replayed(messages, policy(cohorts=cohorts))
    assert clock(replay, date(2024, 1, 20), "2013") == 19
    assert clock(replay, date(2024, 1, 21), "2013") is None
    assert clock(replay, date(2024, 1, 21), "2016") == 10


def test_a_cohort_that_has_not_started_still_takes_its_servers() -> None:
    """First match wins: a later cohort for all products does not enforce 2013 before its own cohort starts."""
    cohorts = """[
      { name = "2013", products = ["Exchange Server 2013"], starts_on = 2024-01-06 },
      { name = "rest", starts_on = 2000-01-01 },
    ]"""
    replay = replayed(days(NEW_YEAR, 10, EX2013), policy(cohorts=cohorts))
    assert [one.cohort for one in replay.judged] == [None] * 5 + ["2013"] * 5
    # Vulnerable mail that the policy does not touch is still accepted, and counted as such.
    assert (replay.total.subject, replay.total.accepted_vulnerable) == (5, 10)


def test_a_share_of_tenants_is_drawn_by_name() -> None:
    """`printf 'pilot\\ncontoso.example' | sha256sum` starts with 8292ceb1: place 0.51005 of 1."""
    for share, taken in ((0.51, []), (0.5101, ["pilot"])):
        cohorts = f'[{{ name = "pilot", share_of_tenants = {share}, starts_on = 2000-01-01 }}]'
        replay = replayed(days(NEW_YEAR, 1, EX2013), policy(cohorts=cohorts))
        assert [one.cohort for one in replay.judged if one.is_subject] == taken


def test_only_the_routes_of_the_policy_are_subject() -> None:
    """A relayed hand-over is read and its build can make a clean day, but it is neither in scope nor subject."""
    direct = days(NEW_YEAR, 1, EX2013)
    relayed = [
        Message(at("2024-01-10 10:02"), SERVER, EX2013, route="relayed"),
        Message(at("2024-01-20 10:02"), SERVER, PATCHED, route="relayed"),
    ]
    replay = replayed([*direct, *relayed], policy(routes='["direct"]'))
    assert (replay.total.read, replay.total.in_scope, replay.total.subject) == (3, 1, 1)
    assert clock(replay, date(2024, 1, 19)) == 18  # the relayed vulnerable mail has not renewed the spell
    assert clock(replay, date(2024, 1, 20)) is None


def test_a_clock_start_of_another_system_is_a_subject_day() -> None:
    """Detected on 1 January, first mail on 11 February: clock 41; a build not vulnerable that day starts nothing."""
    mail = days(date(2024, 2, 11), 1, EX2013)
    start = ClockStart(SERVER, EX2013, NEW_YEAR)
    assert clock(replayed(mail, policy(), clock_starts=[start]), date(2024, 2, 11)) == 41
    start = ClockStart(SERVER, PATCHED, NEW_YEAR)
    assert clock(replayed(mail, policy(), clock_starts=[start]), date(2024, 2, 11)) == 0


def test_pauses_are_granted_in_order_of_date_and_by_calendar_year() -> None:
    """10 days from 28 December are 4 of 2023 and 6 of 2024; of 5 a year, only 6 January is not granted."""
    pauses = [Pause("Contoso.example", date(2024, 3, 1), 1), Pause(TENANT, date(2023, 12, 28), 10)]
    replay = replayed(days(date(2023, 12, 27), 12, EX2013), policy("[pause]\ndays_per_year = 5"), pauses=pauses)
    assert replay.fleet.days_not_granted == {TENANT: [date(2024, 1, 6), date(2024, 3, 1)]}
    assert [clock(replay, date(2024, 1, day)) for day in (5, 6, 7)] == [1, 1, 2]
    # A policy without pauses grants none.
    replay = replayed(days(NEW_YEAR, 1, EX2013), policy(), pauses=pauses)
    assert len(replay.fleet.days_not_granted[TENANT]) == 11


def test_pauses_of_a_tenant_must_not_overlap() -> None:
    """Two rows that both hold 5 January are an error that names the day."""
    pauses = [Pause(TENANT, NEW_YEAR, 5), Pause(TENANT, date(2024, 1, 5), 1)]
    with pytest.raises(ValueError, match=r"'contoso\.example' overlap on 2024-01-05"):
        replayed(days(NEW_YEAR, 1, EX2013), policy(), pauses=pauses)


def test_the_clock_reads_what_came_before_the_period() -> None:
    """Counted from 1 February, the spell of 1 January is at clock 31."""
    replay = replayed(days(NEW_YEAR, 60, EX2013), policy(), period=Period(date(2024, 2, 1), date(2024, 2, 10)))
    assert replay.total.read == replay.total.subject == 10
    assert {stage: tally.subject for stage, tally in replay.by_stage.items()} == {2: 9, 3: 1}
