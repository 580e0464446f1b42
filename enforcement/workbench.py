"""What a notebook or a command asks of the workbench: each question one call on a store."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Final

import polars as pl

from enforcement import shipped
from enforcement.builds import Build, Hop
from enforcement.check import Lint, lints
from enforcement.comparison import Comparison, compare
from enforcement.course import Background
from enforcement.engines import lakes
from enforcement.explain import Case, Seen, explain, find_server
from enforcement.exposed import Exposed, expose
from enforcement.exposure import exposure_by_server
from enforcement.fleet import Reckoning, fleet, handed_over, last_days, standing_by_day, steps
from enforcement.history import History, Period
from enforcement.kept import Kept, key_of
from enforcement.pauses import read_ledger
from enforcement.policy import NO_POLICY, Policy
from enforcement.received import Route
from enforcement.replay import Replay, replayed
from enforcement.schema import PAUSES
from enforcement.standing import standings
from enforcement.store import Store, open_store


def _in_silence(*_: object) -> None:
    """Take what nobody wants to be told."""


DEFAULT_STORE: Final = shipped.DATA / "traffic.duckdb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where a question is asked: the store, the days, the assumptions, and the ledger of pauses taken.

    `traffic` is Parquet that an engine reads instead of the store.
    """

    store: Path = DEFAULT_STORE
    from_on: date | None = None
    to_on: date | None = None
    assumptions: str = "default"
    pauses: Path | None = None
    traffic: str | None = None
    engine: str | None = None
    master: str | None = None

    def background(self) -> Background:
        """Load what is the same for all policies."""
        return Background(
            catalogue=shipped.load_catalogue(),
            senders=shipped.load_assumptions(self.assumptions).sender_mix,
            pauses=_ledger(self.pauses),
        )

    def period(self, history: History) -> Period:
        """Give the days asked for, left out ones from the history; a day that it does not have holds no mail."""
        known = history.period()
        asked = Period(self.from_on or known.from_on, self.to_on or known.to_on)
        if asked.from_on > asked.to_on:
            raise ValueError(f"no day from {asked.from_on} to {asked.to_on} (the history has {known[0]} to {known[1]})")
        return asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The fleet as it stood on a day, and how it came there."""

    as_of: date
    policy: Policy
    servers: pl.DataFrame
    standing_by_day: pl.DataFrame
    history: History


def ended(store: Store, setting: Setting) -> tuple[History, Setting]:
    """Give the history of a setting cut at its last day, which the setting then names: nothing later is known.

    A clock that another system starts after the last hand-over is of a later day too.
    """
    history = store.history(to_on=setting.to_on)
    if setting.to_on is not None:
        return history, setting
    as_of = setting.period(history).to_on
    return store.history(to_on=as_of), replace(setting, to_on=as_of)


@contextmanager
def opened_history(setting: Setting, tell: Callable[[str], None] = _in_silence) -> Iterator[History]:
    """Give the history of a setting, from its store or from Parquet; what that does not use is told."""
    if setting.traffic is None and setting.engine is None and setting.master is None:
        with open_store(setting.store) as store:
            yield store.history(to_on=setting.to_on)
        return
    with lakes.open_traffic(setting.traffic, setting.engine, master=setting.master, to_on=setting.to_on) as history:
        for line in lakes.said(history):
            tell(line)
        yield history


def replay_policies(
    policies: Sequence[str | Policy],
    setting: Setting,
    *,
    risk_by: str | Policy | None = None,
    tell: Callable[[str], None] = _in_silence,
    report: Callable[[str, int, int], None] = _in_silence,
) -> list[Replay]:
    """Replay policies, given by name, path, or value, over the same history.

    The rules of `risk_by` say which builds are a risk (default: each policy's own do). What cannot be used of Parquet
    is told; what is being done is reported, with how many policies are done of how many.
    """
    loaded = [_loaded(policy) for policy in policies]
    measure = None if risk_by is None else _loaded(risk_by)
    background = setting.background()
    report("opening the history", 0, len(loaded))
    replays: list[Replay] = []
    with opened_history(setting, tell) as history:
        for policy in loaded:
            report(f"replaying {policy.name}", len(replays), len(loaded))
            replays.append(replayed_on(history, policy, background, setting, risk_by=measure))
    return replays


def compare_policies(
    policies: Sequence[str | Policy],
    setting: Setting,
    *,
    baseline: str | None = None,
    tell: Callable[[str], None] = _in_silence,
    report: Callable[[str, int, int], None] = _in_silence,
) -> Comparison:
    """Hold policies against a baseline over the same history; without one, against the first of them."""
    if baseline is None and len(policies) < 2:
        raise ValueError("one policy has nothing to be compared with (name two or more, or give --baseline)")
    proposals = [*policies] if baseline in (None, NO_POLICY) else [str(baseline), *policies]
    replays = replay_policies(proposals, setting, risk_by=proposals[0], tell=tell, report=report)
    return compare(replays, baseline=NO_POLICY if baseline == NO_POLICY else replays[0].policy.name)


def exposed_to(policy: str | Policy, setting: Setting, *, risk_by: str | Policy | None = None) -> Exposed:
    """Give what a policy's rules, cohorts and pauses make of the history; every schedule can be judged on it."""
    measure = None if risk_by is None else _loaded(risk_by)
    with opened_history(setting) as history:
        return _exposed(history, _loaded(policy), setting.background(), setting, risk_by=measure)


def _loaded(policy: str | Policy) -> Policy:
    return policy if isinstance(policy, Policy) else shipped.load_policy(policy)


def replayed_on(
    history: History, policy: Policy, background: Background, setting: Setting, *, risk_by: Policy | None = None
) -> Replay:
    """Replay a policy on what is kept of the history; what is not kept is read."""
    exposed = _exposed(history, policy, background, setting, risk_by=risk_by)
    key = _key(history, policy, setting, exposed.period, risk_by)
    by_server = _kept(setting).by_server(
        key,
        policy.stage_starts,
        lambda: exposure_by_server(history.traffic, exposed.course.segments, exposed.risk, policy, exposed.period),
    )
    return replayed(history, policy, background, exposed, by_server, risk_by=risk_by)


def _exposed(
    history: History, policy: Policy, background: Background, setting: Setting, *, risk_by: Policy | None = None
) -> Exposed:
    period = setting.period(history)
    key = _key(history, policy, setting, period, risk_by)
    make = partial(expose, history, policy, background, period, risk_by=risk_by)
    return _kept(setting).exposed(key, period, make)


def _key(history: History, policy: Policy, setting: Setting, period: Period, risk_by: Policy | None) -> str:
    # Clock starts can lie behind the last hand-over: the last day known says more than the period.
    known = {"program": shipped.program_hash(), "known to": str(setting.to_on)}
    return key_of(policy, period, rests_on(setting, history) | known, risk_by=risk_by)


def _kept(setting: Setting) -> Kept:
    """Give what is kept beside the store; beside Parquet that others write, nothing is."""
    return Kept(None if setting.traffic else setting.store.with_name(f"{setting.store.name}.exposure"))


def fleet_on(policy: str | Policy, setting: Setting) -> Fleet:
    """List the fleet by a policy's rules on the last day asked for (default: the last day of the history)."""
    rules = policy if isinstance(policy, Policy) else shipped.load_policy(policy)
    with open_store(setting.store) as store:
        history = store.history(to_on=setting.to_on)
        period = setting.period(history)
        handed, sighted = handed_over(history.traffic), store.sighted(period.to_on)
        on = steps(period)
        days = last_days(history.traffic, on)
    table = standings(history.builds, shipped.load_catalogue(), rules)
    when = Reckoning(period.to_on, rules.silent_after_days)
    return Fleet(
        as_of=period.to_on,
        policy=rules,
        servers=fleet(handed, sighted, history.servers, table, when),
        standing_by_day=standing_by_day(days, table, rules, on),
        history=history,
    )


def check_policy(policy: str, today: date) -> list[Lint]:
    """Give what is allowed in a policy but rarely meant; an invalid one is a PolicyError."""
    return list(lints(shipped.load_policy(policy), shipped.load_catalogue(), today=today))


def check_policies(policies: Sequence[str], today: date) -> tuple[dict[str, list[Lint]], list[str]]:
    """Give what is allowed in each policy but rarely meant, and what is wrong with those that are not valid."""
    found: dict[str, list[Lint]] = {}
    problems: list[str] = []
    for policy in policies:
        try:
            found[policy] = check_policy(policy, today)
        except (ValueError, LookupError) as problem:
            problems.append(str(problem))
    return found, problems


def explain_message(policy: str | Policy, setting: Setting, *, server: str, at: datetime, build: str | None) -> Case:
    """Explain what a message of a server meets at a UTC time; without a build: its last hand-over until then."""
    rules = policy if isinstance(policy, Policy) else shipped.load_policy(policy)
    with open_store(setting.store) as store:
        history = store.history(to_on=at.date())
        row = find_server(store.servers(), server)
        if build is not None:
            seen = Seen(server=row, build=str(Build.parse(build)), hop=Hop.SMTP, route=Route.DIRECT)
        else:
            seen = _last_seen(store, row, at)
        return explain(history, rules, setting.background(), seen, at)


def _last_seen(store: Store, row: dict[str, object], at: datetime) -> Seen:
    found = store.last_hand_over(int(str(row["server_id"])), at)
    if found is None:
        raise LookupError(f"no hand-over of {row['server']} at or before {at:%Y-%m-%d %H:%M} UTC (or give --build)")
    sent_at, build, hop, came = found
    return Seen(server=row, build=build, hop=Hop(hop), route=Route.DIRECT, sent_at=sent_at, came=came)


def rests_on(setting: Setting, history: History) -> dict[str, str]:
    """Hash what the exposure rests on beside the policy."""
    hashes = {path.name: hash_of(path) for path in shipped.catalogue_files()}
    if setting.pauses is not None:
        hashes["pauses"] = hash_of(setting.pauses)
    return hashes | {"traffic": history.fingerprint}


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _ledger(path: Path | None) -> pl.DataFrame:
    if path is None:
        return pl.DataFrame(schema=PAUSES)
    return read_ledger(shipped.read_text(path), source=path.name)
