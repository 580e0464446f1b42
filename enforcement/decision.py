"""The decision on one try of a message: the one meaning of the product, which everything fast is checked against."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple

from enforcement.builds import Evidence
from enforcement.policy import Policy, Window
from enforcement.verdict import Verdict, reply, verdict_at, window_minute


class Still(NamedTuple):
    """Days on which a server's clock stands still, `until_on` the first day after them, and why."""

    from_on: date
    until_on: date
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that a verdict needs to know of a message besides its time: its build, its server, and that server's clock.

    The spell is the one of the server and the message's cohort that has begun last on or before the day; None: there
    is none, so that the message begins one.
    """

    server: str
    tenant: str
    build: str | None
    evidence: Evidence
    product: str | None
    vulnerable_from: date | None
    rule: str | None
    route: str
    cohort: str | None
    cohort_starts_on: date | None
    spell_from_on: date | None
    still: tuple[Still, ...] = ()
    minute_offset: int = 0

    def untouched(self, policy: Policy, day: date) -> tuple[str, date | None] | None:
        """Say why the policy may not touch the message on this day, and on which day that changes; None: it may."""
        starts_on = self.cohort_starts_on
        reasons: tuple[tuple[bool, str, date | None], ...] = (
            (self.evidence is Evidence.CLOUD, f"{self.build} is Exchange Online itself", None),
            (self.evidence is Evidence.UNKNOWN, f"the catalogue does not know {self.build or 'a missing build'}", None),
            (self.vulnerable_from is None, f"no rule calls {self.build} vulnerable", None),
            (
                self.vulnerable_from is not None and day < self.vulnerable_from,
                f"{self.build} is not vulnerable before {self.vulnerable_from}",
                self.vulnerable_from,
            ),
            (self.route not in policy.routes, f"the policy does not touch messages that come {self.route}", None),
            (starts_on is None, f"no cohort takes in {self.product} of {self.tenant}", None),
            (
                starts_on is not None and day < starts_on,
                f"cohort {self.cohort!r} starts on {starts_on}",
                starts_on,
            ),
        )
        return next(((why, changes_on) for holds, why, changes_on in reasons if holds), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A verdict that explains itself. Stages count from 1; what does not apply is None."""

    verdict: Verdict
    code: int | None = None
    enhanced_code: str | None = None
    text: str | None = None
    stage: int | None = None
    phase: str | None = None
    clock: int | None = None
    rule: str | None = None
    why: str
    next_change_on: date | None = None


def decide(state: State, policy: Policy, sent_at: datetime) -> Decision:
    """Decide on one try of a message at a UTC time.

    >>> from enforcement.policy import Cohort, Rule, Stage
    >>> policy = Policy(schema_version=1, name="small", rules=[Rule(name="unpatched", since="missing_since")],
    ...     cohorts=[Cohort(name="all", starts_on=date(2026, 1, 1))], stages=[Stage(days=30), Stage(block=60)])
    >>> state = State(server="mx", tenant="t", build="15.1.2507.6", evidence=Evidence.EXACT,
    ...     product="Exchange Server 2016", vulnerable_from=date(2026, 1, 1), rule="unpatched", route="direct",
    ...     cohort="all", cohort_starts_on=date(2026, 1, 1), spell_from_on=date(2026, 1, 1))
    >>> [str(decide(state, policy, datetime(2026, 1, day)).verdict) for day in (30, 31)]
    ['accept', 'reject']
    """
    day = sent_at.date()
    untouched = state.untouched(policy, day)
    if untouched is not None:
        why, changes_on = untouched
        return Decision(verdict=Verdict.ACCEPT, why=why, next_change_on=changes_on)
    clock = clock_on(state, day)
    index = policy.stage_at(clock)
    stage = policy.stages[index]
    standing_still = still_on(state, day)
    if standing_still is not None:
        verdict = Verdict.ACCEPT
        why = f"{standing_still.why} until {standing_still.until_on - timedelta(days=1)}: the clock stands still"
    else:
        offset = state.minute_offset if policy.window is Window.SPREAD else 0
        k = window_minute(sent_at.minute, offset=offset)
        verdict = verdict_at(k, throttle=stage.throttle, block=stage.block)
        why = (
            f"minute {k} of an hour with {stage.block} min blocked, then {stage.throttle} min throttled; "
            f"{state.build} is vulnerable since {state.vulnerable_from} by rule {state.rule!r}, "
            f"day {clock} on the clock of cohort {state.cohort!r}"
        )
    answer = reply(verdict, throttle=stage.throttle, block=stage.block, service=policy.export.service_name)
    return Decision(
        verdict=verdict,
        code=answer.code if answer else None,
        enhanced_code=answer.enhanced_code if answer else None,
        text=answer.text if answer else None,
        stage=index + 1,
        phase=policy.phases[index],
        clock=clock,
        rule=state.rule,
        why=why,
        next_change_on=next_change(state, policy, day),
    )


def joined(still: tuple[Still, ...]) -> list[Still]:
    """Join spans that meet into one that has all their reasons, in order.

    >>> exempt = Still(date(2026, 1, 5), date(2026, 1, 9), "exempt")
    >>> joined((exempt, Still(date(2026, 1, 1), date(2026, 1, 6), "paused")))
    [Still(from_on=datetime.date(2026, 1, 1), until_on=datetime.date(2026, 1, 9), why='paused; exempt')]
    """
    spans: list[Still] = []
    for span in sorted(still):
        if spans and span.from_on <= spans[-1].until_on:
            last = spans.pop()
            why = last.why if span.why in last.why.split("; ") else f"{last.why}; {span.why}"
            spans.append(Still(last.from_on, max(last.until_on, span.until_on), why))
        else:
            spans.append(span)
    return spans


def still_on(state: State, day: date) -> Still | None:
    """Give the whole span of paused or exempt days that a day lies in.

    >>> state = State(server="mx", tenant="t", build="15.1.2507.6", evidence=Evidence.EXACT,
    ...     product="Exchange Server 2016", vulnerable_from=date(2026, 1, 1), rule="unpatched", route="direct",
    ...     cohort="all", cohort_starts_on=date(2026, 1, 1), spell_from_on=date(2026, 1, 1),
    ...     still=(Still(date(2026, 1, 5), date(2026, 1, 8), "paused"),))
    >>> [still_on(state, date(2026, 1, day)) is not None for day in (4, 5, 7, 8)]
    [False, True, True, False]
    """
    return next((still for still in joined(state.still) if still.from_on <= day < still.until_on), None)


def clock_on(state: State, day: date) -> int:
    """Count the days of the spell before this day on which the clock did not stand still.

    >>> state = State(server="mx", tenant="t", build="8.3.83.6", evidence=Evidence.EXACT, product=None,
    ...     vulnerable_from=None, rule=None, route="direct", cohort="all", cohort_starts_on=None,
    ...     spell_from_on=date(2026, 1, 1), still=(Still(date(2026, 1, 5), date(2026, 1, 8), "paused"),))
    >>> [clock_on(state, date(2026, 1, day)) for day in (1, 5, 7, 8, 9)]
    [0, 4, 4, 4, 5]
    """
    start = state.spell_from_on
    if start is None or day <= start:
        return 0
    stood = ((min(end, day) - max(begin, start)).days for begin, end, _ in joined(state.still))
    return (day - start).days - sum(days for days in stood if days > 0)


def next_change(state: State, policy: Policy, day: date) -> date | None:
    """Give the next day on which the stage changes, or the clock stops or goes on, as far as is known today.

    >>> from enforcement.policy import Cohort, Rule, Stage
    >>> policy = Policy(schema_version=1, name="small", rules=[Rule(name="unpatched", since="missing_since")],
    ...     cohorts=[Cohort(name="all", starts_on=date(2026, 1, 1))], stages=[Stage(days=30), Stage(block=60)])
    >>> state = State(server="mx", tenant="t", build="15.1.2507.6", evidence=Evidence.EXACT,
    ...     product="Exchange Server 2016", vulnerable_from=date(2026, 1, 1), rule="unpatched", route="direct",
    ...     cohort="all", cohort_starts_on=date(2026, 1, 1), spell_from_on=date(2026, 1, 1))
    >>> next_change(state, policy, date(2026, 1, 1)), next_change(state, policy, date(2026, 1, 31))
    (datetime.date(2026, 1, 31), None)
    """
    clock = clock_on(state, day)
    left = next((start - clock for start in policy.stage_starts if start > clock), None)
    begun = day
    for start, end, _ in joined(state.still):
        if end <= day:
            continue
        runs = max((start - begun).days, 0)
        if left is not None and left <= runs:
            break
        return end if start <= day else start
    return None if left is None else begun + timedelta(days=left)
