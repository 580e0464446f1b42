"""The verdict of a minute and the fate of a deferred message."""

import pytest

from enforcement.verdict import Fate, Outcome, Sender, Verdict, follow, reply, verdict_at

EXCHANGE = Sender(name="Exchange default", share=1.0, retry_minutes=(15,), gives_up_after_hours=48)


def test_blocked_minutes_come_first_then_throttled_ones() -> None:
    verdicts = [verdict_at(k, throttle=30, block=10) for k in range(60)]
    assert verdicts == [Verdict.REJECT] * 10 + [Verdict.DEFER] * 30 + [Verdict.ACCEPT] * 20


@pytest.mark.parametrize(
    ("k", "fate"),
    [
        (9, Fate(Outcome.REJECTED, 0, 0)),
        (10, Fate(Outcome.DELAYED, 30, 2)),  # :25 deferred, :40 accepted
        (39, Fate(Outcome.DELAYED, 15, 1)),  # :54 accepted
        (40, Fate(Outcome.AT_ONCE, 0, 0)),
    ],
)
def test_a_message_is_followed_in_its_stage(k: int, fate: Fate) -> None:
    assert follow(k, throttle=30, block=10, sender=EXCHANGE) == fate


def test_a_retry_may_be_rejected() -> None:
    """Deferred at :12, tried again 50 minutes later at :02 of the next hour, which is blocked."""
    slow = Sender(name="slow", share=1.0, retry_minutes=(50,), gives_up_after_hours=48)
    assert follow(12, throttle=10, block=5, sender=slow) == Fate(Outcome.REJECTED, 0, 1)


def test_who_always_meets_the_same_minute_gives_up() -> None:
    """Every 60 minutes in the same throttled minute: the first try and those after 1, 2, … 48 h are deferred."""
    hourly = Sender(name="hourly", share=1.0, retry_minutes=(60,), gives_up_after_hours=48)
    assert follow(0, throttle=5, block=0, sender=hourly) == Fate(Outcome.EXPIRED, 0, 49)


@pytest.mark.parametrize(("hours", "outcome"), [(0.75, Outcome.DELAYED), (0.74, Outcome.EXPIRED)])
def test_a_try_exactly_when_the_sender_gives_up_is_made(hours: float, outcome: Outcome) -> None:
    """Throttled until :40; tried at :00, :20 and, after 45 minutes, at :45, which is accepted if it is still made."""
    sender = Sender(name="patient", share=1.0, retry_minutes=(20, 25), gives_up_after_hours=hours)
    assert follow(0, throttle=40, block=0, sender=sender).outcome is outcome


def test_replies_are_word_for_word() -> None:
    deferred = reply(Verdict.DEFER, throttle=5, block=0, service="Exchange Online")
    rejected = reply(Verdict.REJECT, throttle=30, block=10, service="Exchange Online")
    assert deferred == (
        450,
        "4.7.230",
        (
            "450 4.7.230 Connecting Exchange server version is out-of-date; "
            "connection to Exchange Online throttled for 5 mins/hr."
        ),
    )
    assert rejected == (
        550,
        "5.7.230",
        (
            "550 5.7.230 Connecting Exchange server version is out-of-date; "
            "connection to Exchange Online blocked for 10 mins/hr."
        ),
    )
    assert reply(Verdict.ACCEPT, throttle=30, block=10, service="Exchange Online") is None
