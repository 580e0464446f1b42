"""The slow twin of the rollout: each server lived day by day in plain Python, from the meaning of the words.

It shares the draws with the package (rates, multipliers, updates …), what builds prove, and nothing of how servers' own
numbers are made or the days are found: whole numbers hashed in plain Python, no summed tables, no pieces, no inversion.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
from agreement import Case, background, history_of
from reference_builds import read_facts
from reference_clock import cohort_of, enforce, grant, is_exempt, stage_at

from enforcement.builds import Build
from enforcement.builds_to_come import SUCCESSOR
from enforcement.catalogue import Catalogue
from enforcement.policy import Policy
from enforcement.response import Draws
from enforcement.standing import standings
from enforcement.verdict import Sender, follow

MEASURES = ("vulnerable_servers", "vulnerable_tenants", "accepted_vulnerable", "delayed", "lost", "tenants_hit")
NEVER = 10**9
NOTHING, NOTICED, THROTTLED, PARTLY, FULLY = range(5)
WORD = 2**64 - 1
PATIENCE, PATIENCE_OF_TENANT, NEVER_RESPONDS, RETIRING, LANDING, LEAVING = 1, 3, 5, 6, 7, 8


@dataclass
class Server:
    """A server on a day: its build (dates counted from day 0), its cohort and clock, and how near it is to acting."""

    name: str
    tenant: str
    place: int
    tenant_place: int
    product: str
    since: int
    ended: int
    vulnerable_from: int
    risk_from: int  # by the rules that say who counts as vulnerable
    last_seen: int
    mail: list[float]  # by weekday
    subject_mail: list[float]  # of the policy's routes
    clock: int | None = None  # of its spell; None: in none
    is_first_spell: bool = True
    noticed_from: int = NEVER
    round: int = 0
    taken_in: int = -1  # the round that patience is drawn for
    taken: float = math.inf
    stays: float = math.inf
    met: float = 0.0
    retiring: float = 0.0
    is_retired: bool = False
    was_vulnerable_first: bool = False
    patched_on: int | None = None
    pause_from: int = NEVER


@dataclass
class Slow:
    """What came out: (measure → value by day), and the day by which 50 and 90 % were patched or retired."""

    by_day: dict[str, list[float]]
    times: list[float]
    first_acts: dict[str, int] = field(default_factory=dict)


def rate(days: Any, rates: Any, age: int) -> float:
    """Give the rate a day of the last cell that has begun."""
    return float(rates[max(place for place, start in enumerate(days) if start <= age)])


def known_on(catalogue: Catalogue, day: date) -> Catalogue:
    """Leave out the updates that came after a day."""
    exploits = [replace(one, fixes=tuple(f for f in one.fixes if f.released_on <= day)) for one in catalogue.exploits]
    return replace(
        catalogue,
        releases=tuple(
            one if one.released_on <= day else replace(one, is_security=False) for one in catalogue.releases
        ),
        exploits=tuple(one for one in exploits if one.listed_on <= day),
    )


class World:
    """A case as of a day: who is there, and what the policy does to whom on which day."""

    def __init__(self, case: Case, as_of: date, n_days: int, *, enforced: bool, risk_by: Policy) -> None:
        self.case, self.as_of, self.n_days, self.enforced, self.risk_by = case, as_of, n_days, enforced, risk_by
        self.policy: Policy = case.policy
        quota = self.policy.pause.days_per_year if self.policy.pause else 0
        self.granted, _ = grant(case.pauses, quota)
        self.catalogue = known_on(background(case.senders).catalogue, as_of)
        self.servers = self._servers()
        self.senders = [Sender(name=s.name, share=s.share, retry_minutes=s.retry_minutes,
                               gives_up_after_hours=s.gives_up_after_hours) for s in case.senders]  # fmt: skip
        self.shares = [self._share(place) for place in range(len(self.policy.stages))]

    def day(self, number: int) -> date:
        return self.as_of + timedelta(days=number)

    def number(self, day: date | None) -> int:
        return NEVER if day is None else (day - self.as_of).days

    def _share(self, stage: int) -> tuple[float, float]:
        """Give the share of mail of a stage that is delayed and lost, over all minutes of the hour."""
        held = self.policy.stages[stage]
        delayed = lost = 0.0
        for minute in range(60):
            for sender in self.senders:
                fate = follow(minute, throttle=held.throttle, block=held.block, sender=sender)
                delayed += sender.share / 60 * (fate.outcome == "delayed")
                lost += sender.share / 60 * (fate.outcome in ("rejected", "expired"))
        return delayed, lost

    def _servers(self) -> list[Server]:
        case, policy = self.case, self.policy
        history = history_of(case.messages, case.servers, case.clock_starts)
        table = {(row["build"] or "", row["hop"]): row
                 for row in standings(history.builds, self.catalogue, policy).iter_rows(named=True)}  # fmt: skip
        risks = {(row["build"] or "", row["hop"]): row["vulnerable_from"]
                 for row in standings(history.builds, self.catalogue, self.risk_by).iter_rows(named=True)}  # fmt: skip
        states = enforce(case.messages, case.servers, policy, read_facts(), pauses=case.pauses,
                         clock_starts=case.clock_starts, last_on=self.as_of).states  # fmt: skip
        found = []
        for name, tenant in case.servers.items():
            mail = [one for one in case.messages if one.server == name]
            recent = [one for one in mail if (self.as_of - one.sent_at.date()).days <= policy.silent_after_days]
            last = max((one.sent_at.date() for one in recent), default=None)
            rows = [table[one.build or "", one.hop] for one in recent if one.sent_at.date() == last]
            rows = [row for row in rows if row["evidence"] not in ("unknown", "cloud")]
            if not rows or last is None:
                continue
            row = max(rows, key=lambda one: (Build.parse(one["build"]), one["build_id"]))
            begun = max(min(one.sent_at.date() for one in mail), self.as_of - timedelta(days=55))
            known = [begun + timedelta(days=n) for n in range((self.as_of - begun).days + 1)]
            taken = [(one, one.route in [str(route) for route in policy.routes])
                     for one in mail if begun <= one.sent_at.date()]  # fmt: skip
            volumes = []
            for subject in (False, True):
                counted = [one for one, is_subject in taken if is_subject or not subject]
                on = {weekday: [day for day in known if day.weekday() == weekday] for weekday in range(7)}
                volumes.append([
                    sum(one.messages for one in counted if one.sent_at.weekday() == weekday) / len(on[weekday])
                    if on[weekday] else sum(one.messages for one in counted) / len(known)
                    for weekday in range(7)
                ])  # fmt: skip
            server = Server(
                name=name, tenant=tenant, place=0, tenant_place=0, product=row["product"],
                since=self.number(row["missing_since"]), ended=self.number(row["unsupported_since"]),
                vulnerable_from=self.number(row["vulnerable_from"]),
                risk_from=self.number(risks[row["build"] or "", row["hop"]]), last_seen=min(0, self.number(last)),
                mail=volumes[0], subject_mail=volumes[1],
            )  # fmt: skip
            cohort = cohort_of(server.product, tenant, policy)
            if self.enforced and sum(volumes[1]) > 0 and cohort:
                state = states.get((name, cohort[0]), {}).get(self.as_of)
                if state is not None and server.vulnerable_from <= 0:
                    server.clock = state.clock
                else:
                    starts = self.number(cohort[1])
                    begins = max(server.vulnerable_from, starts, 1)
                    if policy.notice and begins == starts:
                        server.noticed_from = max(server.vulnerable_from, starts - policy.notice.targeted_days_before)
            found.append(server)
        found.sort(key=lambda one: (one.tenant, one.name))
        tenants = sorted({one.tenant for one in found})
        for place, server in enumerate(found):
            server.place, server.tenant_place = place, tenants.index(server.tenant)
        return found

    def starts(self, server: Server) -> int:
        """Give the day on which the server's cohort starts."""
        cohort = cohort_of(server.product, server.tenant, self.policy)
        return self.number(cohort[1]) if self.enforced and cohort and sum(server.subject_mail) > 0 else NEVER

    def begins(self, server: Server, day: int) -> bool:
        """Whether the clock of a server in no spell begins on a day."""
        return day >= 1 and server.vulnerable_from <= day and self.starts(server) <= day

    def is_still(self, server: Server, day: int, pause_days: int) -> bool:
        """Whether the server is paused or exempt that day."""
        today = self.day(day)
        if today in self.granted.get(server.tenant, set()) or is_exempt(server.name, server.tenant, today, self.policy):
            return True
        first = server.pause_from
        if not server.is_first_spell or not first <= day < first + pause_days or self.policy.pause is None:
            return False
        this_year = [n for n in range(first, day) if self.day(n).year == today.year]
        return len(this_year) < self.policy.pause.days_per_year

    def level(self, server: Server, *, is_still: bool, day: int) -> int:
        """Give what the server meets that day, its clock having begun or not."""
        if server.clock is None:
            return NOTICED if day >= server.noticed_from else NOTHING
        if is_still:
            return NOTICED
        stage = self.policy.stages[stage_at(server.clock, self.policy)]
        if stage.block == 60:
            return FULLY
        return PARTLY if stage.block else THROTTLED if stage.throttle else NOTICED

    def plan_pauses(self, servers: Sequence[Server]) -> None:
        """Find for each tenant the first day on which a server of it is throttled or blocked if nobody acts."""
        had = {pause.tenant for pause in self.case.pauses}
        first: dict[str, int] = defaultdict(lambda: NEVER)
        for server in servers:
            clock = server.clock
            for day in range(self.n_days + 1):
                if server.clock is None and self.begins(server, day):
                    server.clock = 0
                is_still = self.is_still(server, day, 0)
                if server.clock is not None:
                    if self.level(server, is_still=is_still, day=day) >= THROTTLED:
                        first[server.tenant] = min(first[server.tenant], day)
                        break
                    server.clock += not is_still
            server.clock = clock
        for server in servers:
            if self.policy.pause and server.tenant not in had and first[server.tenant] > 0:
                server.pause_from = first[server.tenant]


class Chance:
    """What chance says of a server in a round of a draw: hashes of what each number is for, in whole numbers."""

    def __init__(self, draws: Draws, sizes: dict[int, int]) -> None:
        self.draws, self.sizes = draws, sizes  # servers of each tenant

    def uniform(self, lot: int, round_: int, who: int) -> float:
        bits = int(self.draws.keys[0]) + ((lot << 56) + (round_ << 32) + who) * 0x9E3779B97F4A7C15 & WORD
        bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & WORD
        bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & WORD
        return ((bits ^ bits >> 31) // 4096 + 0.5) / 2**52

    def normal(self, lot: int, round_: int, who: int) -> float:
        first, second = (self.uniform(lot + place, round_, who) for place in range(2))
        return math.sqrt(-2 * math.log(first)) * math.cos(2 * math.pi * second)

    def patience(self, server: Server) -> float:
        if self.uniform(NEVER_RESPONDS, 0, server.place) < self.draws.never_responds[0]:
            return math.inf
        alike, round_ = float(self.draws.patience_correlation[0]), server.round
        if self.sizes[server.tenant_place] == 1 or alike == 0:
            return -math.log(self.uniform(PATIENCE, round_, server.place))
        own = self.normal(PATIENCE, round_, server.place)
        common = self.normal(PATIENCE_OF_TENANT, round_, server.tenant_place)
        z = math.sqrt(1 - alike) * own + math.sqrt(alike) * common
        return -math.log(math.erfc(z / math.sqrt(2)) / 2)

    def stays(self, server: Server) -> float:
        return -math.log(self.uniform(RETIRING, server.round, server.place))

    def leaves(self, server: Server) -> float:
        return self.uniform(LEAVING, server.round, server.place)

    def age(self, server: Server) -> int:
        at = self.uniform(LANDING, server.round, server.place) * sum(self.draws.landing_shares)
        for share, days in zip(self.draws.landing_shares, self.draws.landing_days, strict=True):
            if at < share:
                return int(days)
            at -= share
        raise AssertionError(at)


def roll_slowly(  # noqa: C901, PLR0912, PLR0915 - a plain loop
    case: Case, as_of: date, n_days: int, draws: Draws, *, enforced: bool = True, risk_by: Policy | None = None
) -> Slow:
    """Live one draw day by day."""
    world = World(case, as_of, n_days, enforced=enforced, risk_by=risk_by or case.policy)
    servers = world.servers
    chance = Chance(draws, Counter(server.tenant_place for server in servers))
    world.plan_pauses(servers)
    for server in servers:
        if not draws.pauses[0, server.tenant_place]:
            server.pause_from = NEVER
        server.was_vulnerable_first = server.risk_from <= 0
    pause_days = int(draws.pause_days[0])
    updates = set(draws.updates[0].tolist())
    after_missing, after_unsupported = _after(world, world.policy)
    risk_missing, risk_unsupported = _after(world, world.risk_by)
    by_day: dict[str, list[float]] = {measure: [] for measure in MEASURES}
    first_acts: dict[str, int] = {}
    for day in range(min(0, *(server.last_seen + 1 for server in servers)), n_days + 1):
        half = (max(day, 1) - 1) // 182
        weekday = world.day(day).weekday()
        counts: dict[str, float] = dict.fromkeys(MEASURES, 0)
        tenants_vulnerable, tenants_hit = set(), set()
        for server in servers:
            if server.is_retired:
                continue
            if day >= 1 and day in updates and server.since == NEVER and day < server.ended:
                server.since = day
                sooner = min(server.vulnerable_from, day + after_missing[server.product])
                starts = max(world.starts(server), 1)
                if max(sooner, starts) < max(server.vulnerable_from, starts):  # a spell that nobody planned for
                    server.is_first_spell, server.noticed_from = False, NEVER
                server.vulnerable_from = sooner
                server.risk_from = min(server.risk_from, day + risk_missing[server.product])
            if server.clock is None and world.begins(server, day):
                server.clock = 0
            is_still = world.is_still(server, day, pause_days)
            if day > server.last_seen and (server.since <= day or server.ended <= day):
                out = server.ended <= day
                age = day - (server.ended if out else server.since)
                of = draws.hazards
                base = (rate(of.unsupported_from_days, of.unsupported[0], age) if out
                        else rate(of.supported_from_days, of.supported[0], age))  # fmt: skip
                factor = draws.factors[0, world.level(server, is_still=is_still, day=day)] if day >= 1 else 1.0
                tenant = server.tenant_place
                people = draws.tenant[0, tenant] * draws.tenant_half_year[0, tenant, half] * draws.common[0, half]
                server.met += base * factor * people
                of = draws.retirement
                server.retiring += (rate(of.unsupported_from_days, of.unsupported[0], age) if out
                                    else rate(of.supported_from_days, of.supported[0], age))  # fmt: skip
                if server.taken_in != server.round:
                    server.taken_in, server.taken, server.stays = (
                        server.round, chance.patience(server), chance.stays(server)
                    )  # fmt: skip
                if server.met >= server.taken:
                    first_acts.setdefault(server.name, day)
                    was_vulnerable, product = server.vulnerable_from <= max(day, 0), server.product
                    old_cohort = cohort_of(product, server.tenant, world.policy)
                    share = (draws.unsupported_leave_product if out else draws.supported_leave_product)[0]
                    if chance.leaves(server) < share:
                        server.product = SUCCESSOR
                        ends = world.catalogue.support_ends.get(SUCCESSOR)
                        server.ended = NEVER if ends is None else world.number(ends) + 1
                    age = chance.age(server)
                    server.since = day - age if age else NEVER
                    server.vulnerable_from = min(
                        server.since + after_missing[server.product] if age else NEVER,
                        server.ended + after_unsupported[server.product] if server.ended < NEVER else NEVER,
                    )
                    server.risk_from = min(
                        server.since + risk_missing[server.product] if age else NEVER,
                        server.ended + risk_unsupported[server.product] if server.ended < NEVER else NEVER,
                    )
                    is_same = product == server.product or old_cohort == cohort_of(
                        server.product, server.tenant, world.policy
                    )
                    is_still_vulnerable = was_vulnerable and server.vulnerable_from <= day
                    server.noticed_from = NEVER
                    if not (is_still_vulnerable and is_same and server.clock is not None):
                        server.clock, server.is_first_spell = None, False
                        if world.begins(server, day):
                            server.clock = 0
                        is_still = world.is_still(server, day, pause_days)
                    server.round, server.met, server.retiring = server.round + 1, 0.0, 0.0
                    server.last_seen = day
                elif server.retiring >= server.stays:
                    server.is_retired = True
            is_vulnerable = server.risk_from <= max(day, 0) and not server.is_retired
            if server.was_vulnerable_first and server.patched_on is None and not is_vulnerable:
                server.patched_on = max(day, 0)
            if server.is_retired or day < 0:
                continue
            delayed = lost = 0.0
            if server.clock is not None:
                if not is_still:
                    delayed, lost = world.shares[stage_at(server.clock, world.policy)]
                    server.clock += 1
                if delayed + lost > 0:
                    tenants_hit.add(server.tenant)
                counts["delayed"] += server.subject_mail[weekday] * delayed
                counts["lost"] += server.subject_mail[weekday] * lost
            if is_vulnerable:
                counts["vulnerable_servers"] += 1
                tenants_vulnerable.add(server.tenant)
                counts["accepted_vulnerable"] += server.mail[weekday] - server.subject_mail[weekday] * lost
        if day >= 0:
            counts["vulnerable_tenants"], counts["tenants_hit"] = len(tenants_vulnerable), len(tenants_hit)
            for measure in MEASURES:
                by_day[measure].append(counts[measure])
    first = [server for server in servers if server.was_vulnerable_first]
    gone = sorted(server.patched_on for server in first if server.patched_on is not None)
    times = []
    for share in (0.5, 0.9):
        days = [day for place, day in enumerate(gone, start=1) if place >= share * len(first)]
        times.append(float(days[0]) if days else np.inf if first else np.nan)
    return Slow(by_day, times, first_acts)


def _after(world: World, policy: Policy) -> tuple[dict[str, int], dict[str, int]]:
    """Give the days until a missing update, and the end of support, make a build vulnerable (rules without `when`)."""
    every = {server.product for server in world.servers} | {SUCCESSOR}
    found = []
    for since in ("missing_since", "unsupported_since"):
        days = min((rule.after_days for rule in policy.rules if rule.since == since), default=NEVER)
        found.append(dict.fromkeys(every, days))
    return found[0], found[1]
