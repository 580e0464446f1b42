"""What the examples worked by hand share: a server, three builds of it, and short ways to write policies and mail."""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

from agreement import Case
from reference import ReferenceReplay
from reference_clock import Message

from enforcement.policy import Policy
from enforcement.policy_text import parse_policy

SERVER, TENANT = "mail.contoso.example", "contoso.example"
NEW_YEAR = date(2024, 1, 1)  # clock 0 of the examples; 2024 has a 29 February

# 2013 is unsupported from 2023-04-12: vulnerable all through 2024.
EX2013 = "15.0.1497.48"
# 2016 CU23 Nov23SU; the next security update came on 2024-03-12, so 90 days later, from 2024-06-10, it is vulnerable.
PATCHED = "15.1.2507.35"
# 2016 CU23 without an update; the next one came on 2022-05-10, so it is vulnerable from 2022-08-08.
EX2016 = "15.1.2507.6"

NINETY_DAYS = """
schema_version = 1
name = "ninety-days"
rules = [
  { name = "unsupported", since = "unsupported_since", after_days = 0 },
  { name = "unpatched", since = "missing_since", after_days = 90 },
]
cohorts = [{ name = "all", starts_on = 2000-01-01 }]
stages = [
  { days = 30 },
  { days = 10, throttle = 5 },
  { days = 10, throttle = 10 },
  { days = 10, throttle = 20 },
  { days = 10, throttle = 30, block = 5 },
  { days = 10, throttle = 30, block = 10 },
  { days = 10, throttle = 30, block = 20 },
  { block = 60 },
]
"""


def policy(more: str = "", **instead: str) -> Policy:
    """Write a policy like ninety-days with other values of some keys, and more sections after them."""
    lines, keep = [], True
    for line in NINETY_DAYS.strip().splitlines():
        key = line.partition(" = ")[0]
        if not line.startswith((" ", "]")):
            keep = key not in instead
        if keep:
            lines.append(line)
    return parse_policy("\n".join([*lines, *(f"{key} = {value}" for key, value in instead.items()), more]), source="")


def at(text: str) -> datetime:
    """Read a time of the examples; like all times here it is UTC."""
    return datetime.fromisoformat(text)


def days(first: date, n: int, build: str | None, *, at_time: str = "10:02", every: int = 1) -> list[Message]:
    """Write one message of the example server every so many days."""
    return [
        Message(datetime.combine(first + timedelta(days=i), time.fromisoformat(at_time)), SERVER, build)
        for i in range(0, n, every)
    ]


def example(messages: Sequence[Message], to: Policy, **more: Any) -> Case:
    return Case(messages=list(messages), servers={SERVER: TENANT}, policy=to, **more)


def replayed(messages: Sequence[Message], to: Policy, **more: Any) -> ReferenceReplay:
    """Replay a policy on the example server's mail in the slow twin, and hold the package to it."""
    return example(messages, to, **more).agree()


def clock(replay: ReferenceReplay, day: date, cohort: str = "all") -> int | None:
    state = replay.fleet.states[SERVER, cohort].get(day)
    return state.clock if state else None


def told(replay: ReferenceReplay) -> list[tuple[date, str, int]]:
    """Give day, outcome and delay of each subject message."""
    return [
        (one.message.sent_at.date(), one.fates[0].outcome, one.fates[0].delay_minutes)
        for one in replay.judged
        if one.is_subject
    ]
