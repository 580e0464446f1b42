"""The slow twin: a policy carried out on a mail history day by day and message by message, in the plainest Python.

Written from the meaning of the words alone; it shares no code with the clock, the verdict, the exposure or the outcomes
of the package. A count is a whole number with one sender profile and an exact fraction with several.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import TypeAlias

from reference_builds import Facts, Standing, read_facts
from reference_clock import ClockStart, DayState, Fleet, Message, Pause, enforce

from enforcement.policy import Policy


@dataclass(frozen=True)
class Sender:
    """How a sending server tries again; the last interval repeats."""

    name: str
    share: float
    retry_minutes: tuple[int, ...]
    gives_up_after_hours: int


EXCHANGE = Sender("Exchange default", 1.0, (15,), 48)


@dataclass(frozen=True)
class Fate:
    """What becomes of a message: `deferrals` counts the tries that were answered with `defer`."""

    first_verdict: str
    outcome: str
    delay_minutes: int
    deferrals: int
    last_try_at: datetime


@dataclass(frozen=True)
class Judged:
    """A message and what the policy made of it; `fates` has one entry a sender, none for a message not subject."""

    message: Message
    standing: Standing
    is_in_scope: bool
    is_vulnerable: bool
    cohort: str | None = None
    state: DayState | None = None
    k: int | None = None
    fates: tuple[Fate, ...] = ()

    @property
    def is_subject(self) -> bool:
        return self.state is not None


Count: TypeAlias = Fraction | int


@dataclass
class Tally:
    """Messages counted by what became of them."""

    read: Count = 0
    in_scope: Count = 0
    vulnerable: Count = 0
    subject: Count = 0
    at_once: Count = 0
    delayed: Count = 0
    rejected: Count = 0
    expired: Count = 0
    retries: Count = 0
    accepted_vulnerable: Count = 0
    delays: dict[int, Count] = field(default_factory=dict)

    @property
    def lost(self) -> Count:
        return self.rejected + self.expired

    @property
    def delay_notices(self) -> Count:
        """Messages delayed by more than four hours."""
        return sum(n for minutes, n in self.delays.items() if minutes > 240)

    @property
    def mean_delay(self) -> Count | None:
        if not self.delayed:
            return None
        return Fraction(sum(minutes * n for minutes, n in self.delays.items())) / self.delayed

    def delay_at(self, percent: int) -> int | None:
        """Give the smallest delay at which the cumulated count reaches this share of the delayed messages."""
        cumulated = Fraction(0)
        for minutes in sorted(self.delays):
            cumulated += self.delays[minutes]
            if cumulated * 100 >= self.delayed * percent:
                return minutes
        return None

    def add(self, judged: Judged, senders: Sequence[Sender]) -> None:
        n = Fraction(judged.message.messages)
        self.read += n
        self.in_scope += n * judged.is_in_scope
        self.vulnerable += n * judged.is_vulnerable
        if not judged.is_subject:
            self.accepted_vulnerable += n * judged.is_vulnerable
            return
        self.subject += n
        for sender, fate in zip(senders, judged.fates, strict=True):
            part = n * Fraction(sender.share)
            self.retries += part * fate.deferrals
            if fate.outcome == "at once":
                self.at_once += part
            elif fate.outcome == "delayed":
                self.delayed += part
                self.delays[fate.delay_minutes] = self.delays.get(fate.delay_minutes, Fraction(0)) + part
            elif fate.outcome == "rejected":
                self.rejected += part
            else:
                self.expired += part
            if fate.outcome in ("at once", "delayed"):
                self.accepted_vulnerable += part


@dataclass
class ReferenceReplay:
    """All that a policy would have done to a history between two days (both included)."""

    judged: list[Judged]
    fleet: Fleet
    total: Tally = field(default_factory=Tally)
    evidence: dict[str, int] = field(default_factory=dict)
    by_day: dict[date, Tally] = field(default_factory=dict)
    by_stage: dict[int, Tally] = field(default_factory=dict)  # stages count from 1
    by_product_and_decile: dict[tuple[str, int], Tally] = field(default_factory=dict)
    by_tenant: dict[str, Tally] = field(default_factory=dict)
    by_server: dict[str, Tally] = field(default_factory=dict)
    # Server, cohort, number of the spells with a day in the period (by default from the first message to the last).
    spells: set[tuple[str, str, int]] = field(default_factory=set)
    guardrails: list[str] = field(default_factory=list)  # pass, fail or inconclusive

    def n_hit(self, units: Mapping[str, Tally]) -> dict[str, int]:
        """Count units (tenants or servers) by what they suffered; shares are of all mail of the unit."""
        tallies = units.values()
        return {
            "subject": sum(tally.subject > 0 for tally in tallies),
            "any_delayed": sum(tally.delayed > 0 for tally in tallies),
            "any_lost": sum(tally.lost > 0 for tally in tallies),
            "over_tenth_lost": sum(tally.lost * 10 > tally.read for tally in tallies),
        }


# --- the verdict -------------------------------------------------------------------------------------------------


def minute_of_window(at: datetime, server: str, policy: Policy) -> int:
    offset = zlib.crc32(server.encode()) % 60 if str(policy.window) == "spread" else 0
    return (at.minute - offset) % 60


def verdict(k: int, stage: int, policy: Policy) -> str:
    if k < policy.stages[stage].block:
        return "reject"
    if k < policy.stages[stage].block + policy.stages[stage].throttle:
        return "defer"
    return "accept"


def follow(
    message: Message, states: Mapping[date, DayState], sender: Sender, policy: Policy, *, real_time: bool
) -> Fate:
    """Follow one message until it is accepted or rejected, or its sender gives up.

    Every try meets the stage of the first one; in real time, that of its own day, and `accept` when the spell is over
    or stands still by then.
    """
    first_state = states[message.sent_at.date()]
    elapsed, deferrals, first_verdict = 0, 0, ""
    while True:
        try_at = message.sent_at + timedelta(minutes=elapsed)
        state = states.get(try_at.date()) if real_time else first_state
        met = "accept"
        if state is not None and state.is_running:
            met = verdict(minute_of_window(try_at, message.server, policy), state.stage, policy)
        first_verdict = first_verdict or met
        if met == "accept":
            return Fate(first_verdict, "delayed" if deferrals else "at once", elapsed, deferrals, try_at)
        if met == "reject":
            return Fate(first_verdict, "rejected", elapsed, deferrals, try_at)
        interval = sender.retry_minutes[min(deferrals, len(sender.retry_minutes) - 1)]
        deferrals += 1
        if elapsed + interval > sender.gives_up_after_hours * 60:  # a try at exactly that time is still made
            return Fate(first_verdict, "expired", elapsed, deferrals, try_at)
        elapsed += interval


# --- the whole ---------------------------------------------------------------------------------------------------


def replay_slowly(
    messages: Sequence[Message],
    servers: Mapping[str, str],
    policy: Policy,
    *,
    senders: Sequence[Sender] = (EXCHANGE,),
    pauses: Iterable[Pause] = (),
    clock_starts: Iterable[ClockStart] = (),
    from_on: date | None = None,
    to_on: date | None = None,
    real_time: bool = False,
    facts: Facts | None = None,
) -> ReferenceReplay:
    """Carry out a policy on a history; `servers` gives each server's tenant.

    The clock reads the whole history; messages are counted from `from_on` to `to_on`, both included.
    """
    days = [message.sent_at.date() for message in messages]
    first, last = from_on or min(days, default=date.min), to_on or max(days, default=date.min)
    # Retries come after the last message; silence ends nothing, so the clocks simply go on.
    days_more = max(sender.gives_up_after_hours for sender in senders) // 24 + 2
    starts = list(clock_starts)
    last_on = max([last, *days, *(start.first_detected_on for start in starts)]) + timedelta(days=days_more)
    fleet = enforce(
        messages, servers, policy, facts or read_facts(), pauses=pauses, clock_starts=starts, last_on=last_on
    )
    judged = [
        judge(message, fleet, policy, senders, real_time=real_time)
        for message in messages
        if first <= message.sent_at.date() <= last
    ]
    replay = count(judged, servers, policy, senders=senders, fleet=fleet)
    for (server, cohort), states in fleet.states.items():
        for day, state in states.items():
            if first <= day <= last:
                replay.spells.add((server, cohort, state.spell))
    return replay


def judge(message: Message, fleet: Fleet, policy: Policy, senders: Sequence[Sender], *, real_time: bool) -> Judged:
    """Say what becomes of one message."""
    day = message.sent_at.date()
    known = fleet.standing(message.build, message.hop)
    is_on_route = message.route in [str(route) for route in policy.routes]
    in_scope, vulnerable = known.is_known and is_on_route, known.is_vulnerable_on(day)
    cohort = fleet.cohort(message.server, message.build, message.hop, day)
    if cohort is None or not is_on_route:
        return Judged(message, known, in_scope, vulnerable)
    of_days = fleet.states[message.server, cohort]
    fates = tuple(follow(message, of_days, sender, policy, real_time=real_time) for sender in senders)
    k = minute_of_window(message.sent_at, message.server, policy)
    return Judged(message, known, in_scope, vulnerable, cohort, of_days[day], k, fates)


def count(
    judged: list[Judged], servers: Mapping[str, str], policy: Policy, *, senders: Sequence[Sender], fleet: Fleet
) -> ReferenceReplay:
    """Count the judged messages by day, stage, product, decile, tenant and server."""
    read_of: dict[str, int] = {}
    for one in judged:
        tenant = servers[one.message.server]
        read_of[tenant] = read_of.get(tenant, 0) + one.message.messages
    # Only tenants with a message in the period are ranked.
    ranked = sorted(read_of, key=lambda tenant: (read_of[tenant], tenant))
    decile_of = {tenant: rank * 10 // len(ranked) + 1 for rank, tenant in enumerate(ranked)}

    replay = ReferenceReplay(judged, fleet)
    for one in judged:
        tenant = servers[one.message.server]
        evidence = one.standing.evidence
        product = one.standing.product or ("Exchange Online" if evidence == "cloud" else "unknown")
        replay.evidence[evidence] = replay.evidence.get(evidence, 0) + one.message.messages
        tallies = [
            replay.total,
            replay.by_day.setdefault(one.message.sent_at.date(), Tally()),
            replay.by_product_and_decile.setdefault((product, decile_of[tenant]), Tally()),
            replay.by_tenant.setdefault(tenant, Tally()),
            replay.by_server.setdefault(one.message.server, Tally()),
        ]
        if one.state is not None:
            tallies.append(replay.by_stage.setdefault(one.state.stage + 1, Tally()))
        for tally in tallies:
            tally.add(one, senders)
    replay.guardrails = guardrails(replay, policy)
    return replay


def _within(unit: Tally, measure: str, base: str) -> Count:
    """A share is of its base: of subject mail, delivered messages that are not subject do not count."""
    if (measure, base) == ("accepted_vulnerable", "subject"):
        return unit.at_once + unit.delayed
    return getattr(unit, measure)


def guardrails(replay: ReferenceReplay, policy: Policy, *, slack: Fraction = Fraction(0)) -> list[str]:
    """Say of each guardrail whether the outcomes keep it, its bound moved by some slack."""
    results = []
    for guardrail in policy.guardrails:
        measure, _, base = guardrail.measure.rpartition("_share_of_")
        units: list[Tally] = {
            "day": list(replay.by_day.values()),
            "tenant": list(replay.by_tenant.values()),
            "total": [replay.total],
        }[str(guardrail.per)]
        # Each unit as messages of the measure, and messages of its base.
        pairs: list[tuple[Count, Count]] = [
            (Fraction(_within(unit, measure, base)), unit.read if base == "mail" else unit.subject) for unit in units
        ]
        pairs = [pair for pair in pairs if pair[1]]  # a unit without mail has no share
        small = [pair for pair in pairs if pair[1] < guardrail.min_messages]
        judged = [pair for pair in pairs if pair[1] >= guardrail.min_messages]
        pool = (sum(pair[0] for pair in small), sum(pair[1] for pair in small))
        n_unjudged: Count = 0
        if pool[1] >= guardrail.min_messages:
            judged.append(pool)
        else:
            n_unjudged = pool[1]
        n_all = sum(pair[1] for pair in pairs)
        # Bounds are meant as written in the file: 0.07 is 7 of 100.
        at_most, max_unjudged = Fraction(str(guardrail.at_most)) + slack, Fraction(str(guardrail.max_unjudged_share))
        if any(n > at_most * n_base for n, n_base in judged):
            results.append("fail")
        elif (Fraction(n_unjudged) / n_all if n_all else 1) > max_unjudged:  # where there is no mail, nothing is judged
            results.append("inconclusive")
        else:
            results.append("pass")
    return results
