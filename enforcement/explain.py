"""Why a message is accepted, deferred or rejected, in words that an angry customer can follow."""

import difflib
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from enforcement.builds import Build, Evidence, Hop
from enforcement.catalogue import Catalogue, Placed
from enforcement.course import Background, Course, course
from enforcement.decision import Decision, State, Still, decide, still_on
from enforcement.history import History
from enforcement.names import server_name, shown
from enforcement.pauses import still_reasons
from enforcement.policy import Cohort, Policy, Since, Window
from enforcement.remedies import recommended, remedies
from enforcement.schema import BUILDS, SERVERS
from enforcement.standing import standings
from enforcement.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A hand-over as the store knows it, or as somebody asks about it; `server` is a row of SERVERS."""

    server: dict[str, Any]
    build: str | None
    hop: Hop
    route: str
    sent_at: datetime | None = None  # None: nobody saw it, it is asked about
    came: str | None = None  # the route by which it really came; `route` is the one it is judged by


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One message judged, with all that the judgement rests on."""

    policy: Policy
    catalogue: Catalogue
    seen: Seen
    at: datetime
    placed: Placed
    state: State
    decision: Decision

    def sentences(self) -> list[str]:
        """Say what was said, what was seen, what it proves, which rule, since when, which stage, and what ends it."""
        sentences = [_what_was_said(self), _what_was_seen(self), _what_it_proves(self)]
        if self.decision.stage is not None:
            sentences += [_which_rule(self), _which_stage(self), _what_ends_it(self)]
        return sentences


def explain(history: History, policy: Policy, background: Background, seen: Seen, at: datetime) -> Case:
    """Judge a message of a server at a UTC time; the history should reach to that day and no further."""
    way = course(history, policy, background)
    state = state_of(seen, way, policy, background.catalogue, at)
    return Case(
        policy=policy,
        catalogue=background.catalogue,
        seen=seen,
        at=at,
        placed=_placed(seen, background.catalogue),
        state=state,
        decision=decide(state, policy, at),
    )


def find_server(servers: pl.DataFrame, name: str) -> dict[str, Any]:
    """Find a server's row by its name; the error names the nearest ones."""
    known = servers["server"].to_list()
    try:
        spelt = server_name(name)
    except ValueError:
        spelt = name
    found = servers.filter(pl.col("server") == spelt)
    if found.height:
        return found.row(0, named=True)
    near = difflib.get_close_matches(spelt[:255], known, n=3)
    hint = f"did you mean {', '.join(near)}?" if near else f"the store knows {len(known):,} servers, see `fleet`"
    raise LookupError(f"no server {shown(name)} ({hint})")


def state_of(seen: Seen, way: Course, policy: Policy, catalogue: Catalogue, at: datetime) -> State:
    """Gather what a verdict needs to know of a message at a time."""
    build = pl.DataFrame([(0, seen.build, str(seen.hop))], schema=BUILDS, orient="row")
    proven = standings(build, catalogue, policy).row(0, named=True)
    server, product = seen.server, proven["product"]
    cohort = policy.cohort_for(product, server["tenant"]) if product else None
    still = still_reasons(pl.DataFrame([server], schema=SERVERS), policy, way.granted.pauses)
    return State(
        server=server["server"],
        tenant=server["tenant"],
        build=seen.build,
        evidence=Evidence(proven["evidence"]),
        product=product,
        vulnerable_from=proven["vulnerable_from"],
        rule=proven["rule"],
        route=seen.route,
        cohort=cohort.name if cohort else None,
        cohort_starts_on=cohort.starts_on if cohort else None,
        spell_from_on=_spell_from_on(way, server["server_id"], cohort, at.date()) if cohort else None,
        still=tuple(Still(*row) for row in still.select("from_on", "until_on", "why").iter_rows()),
        minute_offset=server["minute_offset"],
    )


def _spell_from_on(way: Course, server_id: int, cohort: Cohort, day: date) -> date | None:
    """Find the first day of the spell that a day lies in."""
    lasting = pl.col("until_on").is_null() | (pl.col("until_on") > day)
    spans = way.spans.filter((pl.col("server_id") == server_id) & (pl.col("cohort") == cohort.name))
    spell = spans.filter((pl.col("from_on") <= day) & lasting).select("spell").head(1)
    return next(iter(spans.join(spell, on="spell").sort("from_on")["from_on"]), None)


def _placed(seen: Seen, catalogue: Catalogue) -> Placed:
    return catalogue.place(Build.parse(seen.build) if seen.build else None)


def _what_was_said(case: Case) -> str:
    decision, state, when = case.decision, case.state, f"{case.at:%Y-%m-%d %H:%M} UTC"
    if decision.text is None:
        return f"A message of {state.server} at {when} is accepted: {decision.why}."
    meaning = {Verdict.DEFER: "deferred; its sender tries again", Verdict.REJECT: "rejected; the mail is lost"}
    return f"A message of {state.server} at {when} is {meaning[decision.verdict]}. The reply: {decision.text}"


def _what_was_seen(case: Case) -> str:
    state, seen = case.state, case.seen
    shows = f"shows the build {seen.build}" if seen.build else "shows no build"
    if seen.sent_at is None:
        return f"Asked about: a message of {state.server} ({state.tenant}) that {shows}; nobody has to have seen it."
    return (
        f"Seen: the last hand-over of {state.server} ({state.tenant}), on {seen.sent_at:%Y-%m-%d} at "
        f"{seen.sent_at:%H:%M} UTC, {shows} in its {seen.hop} hop. "
        f"It came {seen.came}; it is judged as if it came {seen.route}."
    )


def _what_it_proves(case: Case) -> str:
    placed = case.placed
    if placed.evidence is Evidence.UNKNOWN:
        return "It proves nothing: the catalogue knows no such line of builds, and what is unknown is never enforced."
    if placed.evidence is Evidence.CLOUD:
        return "It is Exchange Online itself, which no policy takes in."
    if placed.release is None:
        return f"It proves {placed.product} {placed.line}, newer than every build of that line in the catalogue."
    release = placed.release
    proof = f"It proves at least {release.name} ({placed.release.build}, released on {placed.release.released_on})"
    if placed.evidence is Evidence.ROUNDED_UP:
        proof += "; the number lies between two builds of its line, and the later one is believed"
    if case.seen.hop is Hop.SMTP:
        proof += "; updates that an smtp hop cannot show are not held against it"
    return proof + "."


def _which_rule(case: Case) -> str:
    state = case.state
    rule = next(rule for rule in case.policy.rules if rule.name == state.rule)
    assert state.vulnerable_from is not None
    since = state.vulnerable_from - timedelta(days=rule.after_days)
    happened = {
        Since.UNSUPPORTED_SINCE: f"support for {state.product} ended the day before {since}",
        Since.MISSING_SINCE: f"a security update of {since} shows no sign of being installed",
        Since.EXPLOITED_SINCE: f"since {since} a vulnerability of it is known to be exploited and could be fixed",
        Since.BELOW_MINIMUM_SINCE: f"since {since} it is below the oldest accepted build",
    }[rule.since]
    after = f"; {rule.after_days} days later it counts as vulnerable" if rule.after_days else ""
    return f"Rule {rule.name!r}: {happened}{after}: vulnerable since {state.vulnerable_from}."


def _which_stage(case: Case) -> str:
    decision, state, policy = case.decision, case.state, case.policy
    assert decision.stage is not None
    stage = policy.stages[decision.stage - 1]
    begun = state.spell_from_on
    clock = (
        f"The clock of cohort {state.cohort!r} started on {begun} and stands at day {decision.clock}"
        if begun
        else f"With this message the clock of cohort {state.cohort!r} starts"
    )
    offset = state.minute_offset if policy.window is Window.SPREAD else 0
    minutes = [
        f"{length} min {what} (from :{(offset + first) % 60:02} to :{(offset + first + length - 1) % 60:02})"
        for length, what, first in ((stage.block, "blocked", 0), (stage.throttle, "throttled", stage.block))
        if length
    ]
    still = still_on(state, case.at.date())
    paused = f"; on this day it stands still ({still.why})" if still else ""
    then = (
        f" The next change is on {decision.next_change_on}." if decision.next_change_on else " Nothing changes later."
    )
    return (
        f"{clock}{paused}: stage {decision.stage} of {len(policy.stages)} ({decision.phase}), "
        f"of each hour {' and '.join(minutes) or 'no minute is touched'}.{then}"
    )


def _what_ends_it(case: Case) -> str:
    known = remedies(case.catalogue, case.policy, case.at.date())
    found = recommended(Build.parse(case.seen.build) if case.seen.build else None, case.catalogue, known)
    install = (
        f"install {'; or '.join(each.told for each in found)}"
        if found
        else "no public build of that day is accepted: retire the server or take it out of the mail path"
    )
    return (
        f"What ends it: {install}. A message of an accepted build is never touched; the clock is cleared by "
        f"the first hand-over of an accepted build on a day without a vulnerable one, at least "
        f"{case.policy.clear_after_days} days after the last vulnerable message. Silence clears nothing."
    )
