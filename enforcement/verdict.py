"""What a message meets: the verdict of its minute, and the fate of one that is deferred."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import NamedTuple


class Verdict(StrEnum):
    """What the service says to one try of a message."""

    ACCEPT = "accept"
    DEFER = "defer"  # the sender tries again
    REJECT = "reject"  # the mail is lost


class Outcome(StrEnum):
    """What becomes of a message in the end."""

    AT_ONCE = "at once"
    DELAYED = "delayed"
    REJECTED = "rejected"
    EXPIRED = "expired"  # its sender gave up


class Held(NamedTuple):
    """The minutes of each hour in which mail is rejected, and after them those in which it is deferred."""

    block: int
    throttle: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """How a share of the senders tries again: the waits between tries (the last repeats), and when it gives up."""

    name: str
    share: float
    retry_minutes: tuple[int, ...]
    gives_up_after_hours: float


class Fate(NamedTuple):
    """The end of one message: its outcome, the minutes it came late, and how many of its tries were deferred."""

    outcome: Outcome
    delay_minutes: int
    retries: int


def window_minute(minute: int, *, offset: int) -> int:
    """Count the minute of the hour from the server's own start of the window.

    >>> window_minute(5, offset=50)
    15
    """
    return (minute - offset) % 60


def verdict_at(k: int, *, throttle: int, block: int) -> Verdict:
    """Give the verdict at minute `k` of the window: first the blocked minutes, then the throttled ones.

    >>> [str(verdict_at(k, throttle=30, block=5)) for k in (4, 5, 34, 35)]
    ['reject', 'defer', 'defer', 'accept']
    """
    if k < block:
        return Verdict.REJECT
    if k < block + throttle:
        return Verdict.DEFER
    return Verdict.ACCEPT


@cache
def follow(k: int, *, throttle: int, block: int, sender: Sender) -> Fate:
    """Follow a message first tried at minute `k` until it is delivered, rejected, or given up.

    Every try meets the verdict of its own minute in the same stage. A try exactly when the sender gives up is still
    made.

    >>> exchange = Sender(name="Exchange", share=1.0, retry_minutes=(15,), gives_up_after_hours=48)
    >>> follow(7, throttle=20, block=5, sender=exchange)
    Fate(outcome=<Outcome.DELAYED: 'delayed'>, delay_minutes=30, retries=2)
    """
    waited, deferred = 0, 0
    while (verdict := verdict_at((k + waited) % 60, throttle=throttle, block=block)) is Verdict.DEFER:
        waited += sender.retry_minutes[min(deferred, len(sender.retry_minutes) - 1)]
        deferred += 1
        if waited > sender.gives_up_after_hours * 60:
            return Fate(Outcome.EXPIRED, 0, deferred)
    if verdict is Verdict.REJECT:
        return Fate(Outcome.REJECTED, 0, deferred)
    return Fate(Outcome.DELAYED if deferred else Outcome.AT_ONCE, waited, deferred)


class Reply(NamedTuple):
    """What an SMTP client is told: the code, the enhanced code, and the whole line."""

    code: int
    enhanced_code: str
    text: str


def reply(verdict: Verdict, *, throttle: int, block: int, service: str) -> Reply | None:
    """Give the reply to a try that is not accepted.

    >>> reply(Verdict.DEFER, throttle=5, block=0, service="Exchange Online").text[-54:]
    'connection to Exchange Online throttled for 5 mins/hr.'
    """
    # Codes and wording: Microsoft, 2023-12-12, "How to pause throttling and blocking of out-of-date servers".
    opening = f"Connecting Exchange server version is out-of-date; connection to {service}"
    if verdict is Verdict.DEFER:
        return Reply(450, "4.7.230", f"450 4.7.230 {opening} throttled for {throttle} mins/hr.")
    if verdict is Verdict.REJECT:
        return Reply(550, "5.7.230", f"550 5.7.230 {opening} blocked for {block} mins/hr.")
    return None
