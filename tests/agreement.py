"""The package beside its slow twin: the same history given to both, and all they say of it compared."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from reference import EXCHANGE, Count, Judged, ReferenceReplay, Sender, Tally, follow, guardrails, replay_slowly
from reference_clock import ClockStart, DayState, Fleet, Message, Pause, stage_at

from enforcement import schema, verdict
from enforcement.builds import Hop
from enforcement.course import Background, Course
from enforcement.decision import decide
from enforcement.explain import Seen, state_of
from enforcement.history import History, Period, polars_traffic
from enforcement.importers.batch import Batch
from enforcement.outcomes import delay_figures, late_notices
from enforcement.pauses import read_ledger
from enforcement.policy import Policy
from enforcement.replay import Replay, replay
from enforcement.shipped import load_catalogue

COUNTS = ("subject", "at_once", "delayed", "rejected", "expired", "retries", "lost", "accepted_vulnerable")


def history_of(
    messages: Sequence[Message], servers: Mapping[str, str], clock_starts: Iterable[ClockStart] = ()
) -> History:
    """Give messages the form in which a store hands them to the package."""
    starts = list(clock_starts)
    server_ids = {server: number for number, server in enumerate(sorted(servers), start=1)}
    shown = {(one.build or "", one.hop) for one in messages} | {(one.build or "", one.hop) for one in starts}
    build_ids = {pair: number for number, pair in enumerate(sorted(shown), start=1)}
    offsets = {server: zlib.crc32(server.encode()) % 60 for server in servers}
    traffic = [
        (
            schema.day_number(one.sent_at.date()),
            one.sent_at.minute,
            (one.sent_at.minute - offsets[one.server]) % 60,
            server_ids[one.server],
            build_ids[one.build or "", one.hop],
            one.route,
            one.messages,
        )
        for one in messages
    ]
    return History(
        servers=pl.DataFrame(
            [(server_ids[name], name, servers[name], offsets[name]) for name in server_ids],
            schema=dict(schema.SERVERS),
            orient="row",
        ),
        builds=pl.DataFrame(
            [(number, build or None, hop) for (build, hop), number in build_ids.items()],
            schema=dict(schema.BUILDS),
            orient="row",
        ),
        clock_starts=pl.DataFrame(
            [(server_ids[one.server], build_ids[one.build or "", one.hop], one.first_detected_on) for one in starts],
            schema=dict(schema.CLOCK_STARTS),
            orient="row",
        ),
        traffic=polars_traffic(
            pl.DataFrame(
                traffic,
                schema={
                    "day": pl.Int16,
                    "minute": pl.UInt8,
                    "minute_spread": pl.UInt8,
                    "server_id": pl.Int32,
                    "build_id": pl.Int32,
                    "route": pl.String,
                    "messages": pl.Int32,
                },
                orient="row",
            )
        ),
        imports=pl.DataFrame(),
        are_times_rounded=False,
        fingerprint="",
    )


def batch_of(messages: Sequence[Message], servers: Mapping[str, str]) -> Batch:
    """Give messages the form in which an importer hands them to a store."""
    handovers = [
        (
            one.sent_at,
            one.server,
            one.build,
            servers[one.server],
            one.hop,
            one.route,
            one.messages,
        )
        for one in messages
    ]
    return Batch(
        handovers=pl.DataFrame(handovers, schema=dict(schema.HANDOVERS), orient="row"),
        sightings=pl.DataFrame(schema=dict(schema.SIGHTINGS)),
        rejects=pl.DataFrame(schema=dict(schema.REJECTS)),
        rows_read=len(handovers),
    )


def background(senders: Sequence[Sender], pauses: Iterable[Pause] = ()) -> Background:
    """Give the twin's senders and pauses to the package."""
    ledger = [f"{one.tenant},{one.from_on},{one.days}" for one in pauses]
    return Background(
        catalogue=load_catalogue(),
        senders=[
            verdict.Sender(
                name=one.name,
                share=one.share,
                retry_minutes=one.retry_minutes,
                gives_up_after_hours=one.gives_up_after_hours,
            )
            for one in senders
        ],
        pauses=read_ledger("\n".join(["tenant,from,days", *ledger]), source="pauses.csv"),
    )


@dataclass(frozen=True, kw_only=True)
class Case:
    """A history, a policy, and what else a replay is given."""

    messages: list[Message]
    servers: dict[str, str]  # server → tenant
    policy: Policy
    senders: list[Sender] = field(default_factory=lambda: [EXCHANGE])
    pauses: list[Pause] = field(default_factory=list)
    clock_starts: list[ClockStart] = field(default_factory=list)
    period: Period | None = None

    def slowly(self, *, real_time: bool = False) -> ReferenceReplay:
        return replay_slowly(
            self.messages,
            self.servers,
            self.policy,
            senders=self.senders,
            pauses=self.pauses,
            clock_starts=self.clock_starts,
            from_on=self.period.from_on if self.period else None,
            to_on=self.period.to_on if self.period else None,
            real_time=real_time,
        )

    def agree(self, *, history: History | None = None, every: int = 1) -> ReferenceReplay:
        """Hold the package to the twin; of the messages, one in so many is also judged by `decide`."""
        slow = self.slowly()
        history = history or history_of(self.messages, self.servers, self.clock_starts)
        known = background(self.senders, self.pauses)
        fast = replay(history, self.policy, known, self.period)
        same_totals(slow, fast, self)
        same_clocks(slow, history, fast.course, self.policy)
        same_entries(slow, fast)
        same_verdicts(slow, history, fast.course, known, self, every=every)
        return slow

    def differ_in_real_time(self, slow: ReferenceReplay) -> Count:
        """Count the subject messages that end otherwise when each retry meets the stage of its own day.

        Each of them must have met a change of stage, a pause or the end of a spell between sending and its last try.
        """
        differ: Count = 0
        for one in slow.judged:
            if not one.is_subject:
                continue
            states = slow.fleet.states[one.message.server, str(one.cohort)]
            for sender, fate in zip(self.senders, one.fates, strict=True):
                real = follow(one.message, states, sender, self.policy, real_time=True)
                if (fate.outcome, fate.delay_minutes) != (real.outcome, real.delay_minutes):
                    differ += Fraction(sender.share) * one.message.messages
                    sent_on, tried_on = one.message.sent_at.date(), max(fate.last_try_at, real.last_try_at).date()
                    met = [states.get(sent_on + timedelta(days=i)) for i in range((tried_on - sent_on).days + 1)]
                    assert len({state and (state.spell, state.stage, state.is_running) for state in met}) > 1
        return differ


def same(slow: Count | None, fast: float | None, case: Case, what: object) -> None:
    """With one sender counts are exact; with several they are sums of fractions."""
    if slow is None or fast is None:
        assert slow is fast, what
    elif len(case.senders) == 1:
        assert slow == fast, what
    else:
        assert float(slow) == pytest.approx(fast, rel=1e-9, abs=1e-12), what


def same_tallies(slow: Mapping[Any, Tally], fast: Mapping[Any, dict[str, Any]], case: Case) -> None:
    """Compare two tables of counts; a row that only one has counts nothing."""
    for key in slow.keys() | fast.keys():
        tally = slow.get(key, Tally())
        row = fast.get(key, {})
        for name in ("read", "in_scope", "vulnerable", *COUNTS):
            if not row or name in row:
                same(getattr(tally, name), row.get(name, 0), case, (key, name))


def same_totals(slow: ReferenceReplay, fast: Replay, case: Case) -> None:
    """Compare all that is counted."""
    by_stage = {row["stage"]: row | {"subject": row["messages"]} for row in fast.by_stage.to_dicts()}
    same_tallies(slow.by_stage, by_stage, case)
    same_tallies(slow.by_day, {row["day"]: row for row in fast.by_day.to_dicts()}, case)
    groups = {(row["product"], row["decile"]): row for row in fast.by_group.to_dicts()}
    same_tallies(slow.by_product_and_decile, groups, case)
    same_tallies(slow.by_tenant, {row["tenant"]: row for row in fast.tenants.to_dicts()}, case)
    same_tallies(slow.by_server, {row["server"]: row for row in fast.servers.to_dicts()}, case)
    same_delays(slow.total, fast, case)
    assert slow.evidence == {row["evidence"]: row["messages"] for row in fast.evidence.to_dicts() if row["messages"]}
    assert len(slow.spells) == fast.n_spells
    assert fast.untouched["messages"].sum() == slow.total.read - slow.total.subject
    # With several senders, what just keeps a bound may just exceed it in floating point.
    slack = Fraction(0) if len(case.senders) == 1 else Fraction(1, 10**9)
    strict, lenient = (guardrails(slow, case.policy, slack=sign * slack) for sign in (-1, 1))
    for allowed, found in zip(zip(strict, lenient, strict=True), fast.guardrails["state"].to_list(), strict=True):
        assert found in allowed
    assert {(tenant, day) for tenant, days in slow.fleet.days_not_granted.items() for day in days} == {
        (row["tenant"], row["from"] + timedelta(days=i))
        for row in fast.course.granted.ungranted.to_dicts()
        for i in range(row["days"])
    }


def same_delays(slow: Tally, fast: Replay, case: Case) -> None:
    """Compare how late the delayed messages came, one by one and in figures."""
    found: dict[int, float] = {}
    for row in fast.delays.to_dicts():
        found[row["delay_minutes"]] = found.get(row["delay_minutes"], 0) + row["messages"]
    for minutes in slow.delays.keys() | found.keys():
        same(slow.delays.get(minutes, 0), found.get(minutes, 0), case, minutes)
    figures = delay_figures(fast.delays)
    mean, expected = figures["mean"], slow.mean_delay
    assert (mean is None) == (expected is None)
    if mean is not None and expected is not None:
        assert mean == pytest.approx(float(expected), rel=1e-12 if len(case.senders) == 1 else 1e-9)
    same(slow.delay_notices, late_notices(fast.delays), case, "late notices")
    for percent in (50, 95, 99):
        figure = figures[f"p{percent}"]
        if len(case.senders) == 1:
            assert figure == slow.delay_at(percent), percent
        elif figure is not None:  # a share that is just reached may be just missed in floating point
            upto = float(sum(n for minutes, n in slow.delays.items() if minutes <= figure))
            below = float(sum(n for minutes, n in slow.delays.items() if minutes < figure))
            reach = float(slow.delayed) * percent / 100
            assert upto >= reach * (1 - 1e-9)
            assert below <= reach * (1 + 1e-9)


def same_clocks(slow: ReferenceReplay, history: History, course: Course, policy: Policy) -> None:
    """Compare cohort, spell and clock of each message, and the whole of each spell up to the twin's last day."""
    server_ids = {row["server"]: row["server_id"] for row in history.servers.to_dicts()}
    build_ids = {(row["build"], row["hop"]): row["build_id"] for row in history.builds.to_dicts()}
    of_pair: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in course.segments.to_dicts():
        of_pair.setdefault((row["server_id"], row["build_id"]), []).append(row)
    routes = {str(route) for route in policy.routes}
    for one in slow.judged:
        message = one.message
        pair = (server_ids[message.server], build_ids[message.build, message.hop])
        day = message.sent_at.date()
        found = [state_in(row, day) for row in of_pair.get(pair, ()) if covers(row, day) and message.route in routes]
        assert found == ([(one.cohort, *one.state.seen)] if one.state else []), message
    spans: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in course.spans.to_dicts():
        spans.setdefault((row["server_id"], row["cohort"]), []).append(row)
    names = {number: server for server, number in server_ids.items()}
    assert {(names[number], cohort) for number, cohort in spans} == slow.fleet.states.keys()
    for (server, cohort), states in slow.fleet.states.items():
        of_cohort = spans[server_ids[server], cohort]
        first, last = min(states), max(states)
        for i in range((last - first).days + 1):
            day = first + timedelta(days=i)
            found = [state_in(row, day) for row in of_cohort if covers(row, day)]
            assert found == ([(cohort, *states[day].seen)] if day in states else []), (server, cohort, day)


def covers(row: Mapping[str, Any], day: date) -> bool:
    return bool(row["from_on"] <= day and (row["until_on"] is None or day < row["until_on"]))


def state_in(row: Mapping[str, Any], day: date) -> tuple[str, int, int, bool]:
    """Give cohort, spell, clock, and whether it runs, of a span or segment on a day in it."""
    clock = row["clock_at_start"] + ((day - row["from_on"]).days if row["running"] else 0)
    return row["cohort"], row["spell"], clock, row["running"]


def same_verdicts(
    slow: ReferenceReplay, history: History, course: Course, known: Background, case: Case, *, every: int
) -> None:
    """Compare the decision on the first try of messages, and what becomes of them with each sender."""
    rows = {row["server"]: row for row in history.servers.to_dicts()}
    for one in slow.judged[::every]:
        message = one.message
        seen = Seen(
            server=rows[message.server],
            build=message.build,
            hop=Hop(message.hop),
            route=message.route,
            sent_at=message.sent_at,
        )
        state = state_of(seen, course, case.policy, known.catalogue, message.sent_at)
        decision = decide(state, case.policy, message.sent_at)
        if one.state is None or one.k is None:
            assert (str(decision.verdict), decision.stage, decision.clock) == ("accept", None, None), message
            continue
        told = (str(decision.verdict), decision.stage, decision.clock, decision.rule)
        expected = (one.fates[0].first_verdict, one.state.stage + 1, one.state.clock, one.standing.rule)
        assert told == expected, message
        assert decision.next_change_on == next_change(one.state, message, slow.fleet, case.policy), message
        if one.state.is_running:
            same_fates(one, known.senders, case.policy)


def next_change(state: DayState, message: Message, fleet: Fleet, policy: Policy) -> date | None:
    """Walk on, as if the spell lasts, to the day on which the stage changes or the clock stops or goes on."""
    day, clock, is_running = message.sent_at.date(), state.clock, state.is_running
    for _ in range(1000):  # beyond all stages, pauses and exemptions of these tests
        day, clock = day + timedelta(days=1), clock + is_running
        is_running = not fleet.stands_still(message.server, day)
        if is_running != state.is_running or stage_at(clock, policy) != state.stage:
            return day
    return None


def same_entries(slow: ReferenceReplay, fast: Replay) -> None:
    """Compare the calendar: the day on which each spell enters each stage, up to the twin's last day."""
    expected: dict[tuple[str, str, int, int], date] = {}
    last = max((day for states in slow.fleet.states.values() for day in states), default=date.min)
    for (server, cohort), states in slow.fleet.states.items():
        for day, state in states.items():
            expected.setdefault((server, cohort, state.spell, state.stage + 1), day)
    found = {
        (row["server"], row["cohort"], row["spell"], row["stage"]): row["enters_on"]
        for row in fast.entries.to_dicts()
        if row["enters_on"] <= last
    }
    assert found == expected


def same_fates(one: Judged, senders: Sequence[verdict.Sender], policy: Policy) -> None:
    assert one.state is not None
    assert one.k is not None
    stage = policy.stages[one.state.stage]
    for sender, expected in zip(senders, one.fates, strict=True):
        found = verdict.follow(one.k, throttle=stage.throttle, block=stage.block, sender=sender)
        assert (str(found.outcome), found.retries) == (expected.outcome, expected.deferrals)
        if expected.outcome == "delayed":
            assert found.delay_minutes == expected.delay_minutes
