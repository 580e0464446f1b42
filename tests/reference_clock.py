"""The slow twin, second part: where each server's clock stands, day by day, in the plainest Python."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache
from hashlib import sha256
from typing import TypeAlias

from reference_builds import Facts, Standing, stand

from enforcement.policy import Policy


@dataclass(frozen=True)
class Message:
    """A hand-over, or a count of hand-overs in the same minute."""

    sent_at: datetime
    server: str
    build: str | None
    hop: str = "smtp"
    route: str = "direct"
    messages: int = 1


@dataclass(frozen=True)
class ClockStart:
    server: str
    build: str | None
    first_detected_on: date
    hop: str = "smtp"


@dataclass(frozen=True)
class Pause:
    tenant: str
    from_on: date
    days: int


@dataclass(frozen=True)
class DayState:
    """Where a server's clock in a cohort stands on a day of a spell; it stands still on a paused or exempt day."""

    spell: int
    clock: int
    is_running: bool
    stage: int  # from 0

    @property
    def seen(self) -> tuple[int, int, bool]:
        """All of it that does not depend on the stages."""
        return self.spell, self.clock, self.is_running


# --- pauses and exemptions ---------------------------------------------------------------------------------------


def plain_name(name: str) -> str:
    return name.lower().rstrip(".")


def grant(pauses: Iterable[Pause], days_per_year: int) -> tuple[dict[str, set[date]], dict[str, list[date]]]:
    """Grant each tenant its days in order of date, so many a calendar year; return the granted and the others."""
    asked: dict[str, list[date]] = {}
    for pause in pauses:
        days = asked.setdefault(plain_name(pause.tenant), [])
        for i in range(pause.days):
            day = pause.from_on + timedelta(days=i)
            if day in days:
                raise ValueError(f"two pauses of {pause.tenant!r} overlap on {day}")
            days.append(day)
    granted: dict[str, set[date]] = {}
    not_granted: dict[str, list[date]] = {}
    for tenant, days in asked.items():
        used: dict[int, int] = {}
        for day in sorted(days):
            if used.get(day.year, 0) < days_per_year:
                used[day.year] = used.get(day.year, 0) + 1
                granted.setdefault(tenant, set()).add(day)
            else:
                not_granted.setdefault(tenant, []).append(day)
    return granted, not_granted


def is_exempt(server: str, tenant: str, day: date, policy: Policy) -> bool:
    for exemption in policy.exemptions:
        named = (exemption.tenant is not None and plain_name(exemption.tenant) == tenant) or (
            exemption.server is not None and plain_name(exemption.server) == server
        )
        begun = exemption.from_on is None or exemption.from_on <= day
        if named and begun and day <= exemption.until_on:
            return True
    return False


# --- the clock ---------------------------------------------------------------------------------------------------


def cohort_of(product: str | None, tenant: str, policy: Policy) -> tuple[str, date] | None:
    """Give the name and first day of the first cohort that takes this product of this tenant."""
    for cohort in policy.cohorts:
        if cohort.products is not None and product not in cohort.products:
            continue
        if cohort.tenants is not None and tenant not in [plain_name(name) for name in cohort.tenants]:
            continue
        if cohort.share_of_tenants is not None:
            # The cohort's name is taken as it is written, the tenant's in its plain form.
            digest = sha256(f"{cohort.name}\n{tenant}".encode()).digest()
            if not int.from_bytes(digest[:8], "big") / 2**64 < cohort.share_of_tenants:
                continue
        return cohort.name, cohort.starts_on
    return None


def stage_at(clock: int, policy: Policy) -> int:
    """Give the number, from 0, of the last stage that has started by this clock."""
    found, start = 0, 0
    for number, stage in enumerate(policy.stages):
        if start <= clock:
            found = number
        start += stage.days or 0
    return found


@dataclass
class Spell:
    count: int
    clock: int
    last_subject_on: date


def walk(
    subject_on: Mapping[date, set[str]], clean_on: set[date], still_on: Mapping[date, bool], policy: Policy
) -> dict[str, dict[date, DayState]]:
    """Walk over the days of one server; `subject_on` names the cohorts with a subject message or clock start."""
    spells: dict[str, Spell] = {}  # those that last
    counts: dict[str, int] = {}
    states: dict[str, dict[date, DayState]] = {}
    for day, stands_still in still_on.items():
        subject = subject_on.get(day, set())
        for cohort in subject:
            if cohort not in spells:
                counts[cohort] = counts.get(cohort, 0) + 1
                spells[cohort] = Spell(counts[cohort], 0, day)
            spells[cohort].last_subject_on = day
        if day in clean_on:
            # Even with `clear_after_days = 0`, no cohort's own subject day ends its spell.
            for cohort in spells.keys() - subject:
                if (day - spells[cohort].last_subject_on).days >= policy.clear_after_days:
                    del spells[cohort]
        for cohort, spell in spells.items():
            state = DayState(spell.count, spell.clock, not stands_still, stage_at(spell.clock, policy))
            states.setdefault(cohort, {})[day] = state
            if not stands_still:
                spell.clock += 1
    return states


# --- the whole fleet -----------------------------------------------------------------------------------------------


StandingOf: TypeAlias = Callable[[str | None, str], Standing]  # of a build and a hop
# Of a server, a build, a hop and a day: where it is enforced, whatever the route.
CohortOf: TypeAlias = Callable[[str, str | None, str, date], str | None]


@dataclass(frozen=True)
class Fleet:
    """A fleet under a policy: what each build is, in which cohort it is enforced, and each server's clocks."""

    standing: StandingOf
    cohort: CohortOf
    stands_still: Callable[[str, date], bool]  # server, day: paused or exempt
    states: dict[tuple[str, str], dict[date, DayState]]  # server, cohort → day → where the clock stands
    days_not_granted: dict[str, list[date]]  # tenant → days


def enforce(
    messages: Sequence[Message],
    servers: Mapping[str, str],
    policy: Policy,
    facts: Facts,
    *,
    pauses: Iterable[Pause],
    clock_starts: Iterable[ClockStart],
    last_on: date,
) -> Fleet:
    """Run the clocks of all servers, from the first day of each to the last one asked for."""

    @cache
    def standing(build: str | None, hop: str) -> Standing:
        return stand(build, hop, policy, facts)

    def cohort(server: str, build: str | None, hop: str, day: date) -> str | None:
        known = standing(build, hop)
        found = cohort_of(known.product, plain_name(servers[server]), policy)
        return found[0] if known.is_vulnerable_on(day) and found and found[1] <= day else None

    granted, not_granted = grant(pauses, policy.pause.days_per_year if policy.pause else 0)

    def stands_still(server: str, day: date) -> bool:
        tenant = plain_name(servers[server])
        return day in granted.get(tenant, set()) or is_exempt(plain_name(server), tenant, day, policy)

    states: dict[tuple[str, str], dict[date, DayState]] = {}
    for server, seen in look(messages, servers, policy, clock_starts, standing=standing, cohort=cohort).items():
        still_on: dict[date, bool] = {}
        day = min(seen.days, default=date.max)
        while day <= last_on:
            still_on[day] = stands_still(server, day)
            day += timedelta(days=1)
        for name, of_days in walk(seen.subject_on, seen.clean_on, still_on, policy).items():
            states[server, name] = of_days
    return Fleet(standing, cohort, stands_still, states, not_granted)


@dataclass
class Seen:
    """What the clock reads of one server."""

    days: set[date] = field(default_factory=set)
    subject_on: dict[date, set[str]] = field(default_factory=dict)  # day → cohorts
    clean_on: set[date] = field(default_factory=set)


def look(
    messages: Sequence[Message],
    servers: Mapping[str, str],
    policy: Policy,
    clock_starts: Iterable[ClockStart],
    *,
    standing: StandingOf,
    cohort: CohortOf,
) -> dict[str, Seen]:
    """Read every hand-over and every clock start of another system.

    A clock start is a subject day without a message, so it does not keep a day from being clean.
    """
    routes = [str(route) for route in policy.routes]
    found = {server: Seen() for server in servers}
    for message in messages:
        seen, day = found[message.server], message.sent_at.date()
        seen.days.add(day)
        known = standing(message.build, message.hop)
        name = cohort(message.server, message.build, message.hop, day)
        if name is not None and message.route in routes:
            seen.subject_on.setdefault(day, set()).add(name)
        if known.is_known and not known.is_vulnerable_on(day):
            seen.clean_on.add(day)
    for seen in found.values():
        seen.clean_on -= seen.subject_on.keys()
    for start in clock_starts:
        seen, day = found[start.server], start.first_detected_on
        name = cohort(start.server, start.build, start.hop, day)
        if name is not None:
            seen.days.add(day)
            seen.subject_on.setdefault(day, set()).add(name)
    return found
