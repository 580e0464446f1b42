"""What notices say: to all, and to one tenant of its own servers, in our words and nobody else's markup."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from enforcement.export.letters import Block, Code, Grid, Heading, Items, Line, Link, Paragraph, Plain, Strip, line
from enforcement.pieces import in_words, plural
from enforcement.policy import Notice, Policy, Rule, Since, Stage
from enforcement.remedies import Remedy
from enforcement.verdict import Verdict, reply

_MICROSOFTS_OWN: Final = "Exchange Online"  # the service whose pauses are asked for as Microsoft documents it
_HOUR: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTold:
    """A server of a tenant with a build that has to go, and what to put in its place."""

    server: str
    build: str
    product: str
    proves: str | None  # None: newer than its line in the catalogue
    rule: str
    vulnerable_from: date
    last_seen_on: date
    remedies: Sequence[Remedy]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A span of days of a server's coming course; `stage` counts from 1, not running: paused or exempt."""

    from_on: date
    until_on: date | None
    stage: int
    running: bool
    is_now: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Servers of a cohort with the same dates; no steps: nothing has begun, the first such mail begins it."""

    cohort: str
    starts_on: date
    servers: Sequence[str]
    steps: Sequence[Step]


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantTold:
    """All that a tenant is told of, on a day; pause days of that calendar year."""

    tenant: str
    as_of: date
    servers: Sequence[ServerTold]
    timelines: Sequence[Timeline]
    pause_days: int
    pause_days_granted: int


def general(policy: Policy, notice: Notice, *, as_of: date) -> list[Block]:
    """Write what all customers are told."""
    service = Plain(policy.export.service_name)
    return [
        Heading(line("Mail from vulnerable Exchange servers will be throttled, then blocked"), 1),
        Paragraph(
            line(
                "If a server of yours that runs Exchange Server hands mail over to {}, please check that its updates "
                "are recent. Mail from servers that stay out of date is first reported to you, then delayed, then "
                "refused.",
                service,
            ),
            "answer",
        ),
        Paragraph(line("The announcement: {}", Link(notice.announcement_url))),
        Heading(line("Who is meant")),
        Paragraph(line("Servers that hand mail over to us and run a build of Exchange Server of which this is true:")),
        Items([_rule(rule) for rule in policy.rules]),
        *_minimum_builds(policy),
        Paragraph(line("We begin with each group of servers on its day:")),
        Grid(
            ("From", "Products", "Tenants", "Group"), [_cohort(policy, index) for index in range(len(policy.cohorts))]
        ),
        Heading(line("What happens")),
        Strip(policy),
        Grid(
            ("Stage", "Days since the first such mail", "Of each hour"),
            [_stage(policy, number) for number in range(1, len(policy.stages) + 1)],
        ),
        *_replies(policy),
        *_how_it_ends(policy),
        *_pause(policy, notice, granted=None),
        Paragraph(line(f"As of {as_of}. All days are days of UTC.")),
    ]


def to_tenant(told: TenantTold, policy: Policy, notice: Notice) -> list[Block]:
    """Write what a tenant is told of its own servers."""
    n = len({each.server for each in told.servers})
    return [
        Heading(line("Exchange servers of {} need updates", Code(told.tenant)), 1),
        Paragraph(
            line(
                f"{in_words(n).capitalize()} of your servers hand{'s' if n == 1 else ''} mail over to {{}} with a "
                f"vulnerable build of Exchange Server. {_next(told, policy)}",
                Plain(policy.export.service_name),
            ),
            "answer",
        ),
        Paragraph(line("The announcement: {}", Link(notice.announcement_url))),
        Heading(line("Your servers, and what to install")),
        Grid(("Server", "Shows", "Why", "Install"), [_server(each, policy) for each in told.servers]),
        Paragraph(
            line(
                "The build is the one that a server writes into its mail, and so the least that it can be. What to "
                "install is the nearest update of each line that is enough; a newer one is better still."
            )
        ),
        *_dates(told, policy),
        *_replies(policy),
        *_how_it_ends(policy),
        *_pause(policy, notice, granted=told.pause_days_granted, in_year=told.as_of.year),
        Paragraph(line(f"As of {told.as_of}. All days are days of UTC.")),
    ]


def _next(told: TenantTold, policy: Policy) -> str:
    """Say what comes next and worst, of all of a tenant's servers."""
    coming = [(step.from_on, step) for timeline in told.timelines for step in timeline.steps if step.running]
    touching = [each for each in coming if _touches(policy.stages[each[1].stage - 1])]
    if not touching:
        begins = min((timeline.starts_on for timeline in told.timelines if not timeline.steps), default=None)
        if begins is None or begins <= told.as_of:
            return "Their mail will be delayed, then refused, unless they are updated."
        return f"From {begins} on their mail comes under enforcement, unless they are updated before."
    now = [policy.stages[step.stage - 1] for _, step in touching if step.is_now]
    later = [(day, policy.stages[step.stage - 1]) for day, step in touching if not step.is_now]
    parts = []
    if now:
        worst = max(now, key=lambda stage: (stage.block, stage.throttle))
        does = "refused" if worst.block == _HOUR else "refused in part" if worst.block else "delayed in part"
        parts.append(f"mail of {'it' if len(told.servers) == 1 else 'some of them'} is {does} now")
    elif later:
        day, stage = min(later, key=lambda each: each[0])
        parts.append(f"their mail is first {'refused' if stage.block else 'delayed'} on {day}")
    if blocked := [day for day, stage in later if stage.block == _HOUR]:
        parts.append(f"all of it is refused from {min(blocked)} on")
    return f"Unless they are updated, {', and '.join(parts)}."


def _touches(stage: Stage) -> bool:
    return stage.throttle + stage.block > 0


def _rule(rule: Rule) -> Line:
    since = {
        Since.UNSUPPORTED_SINCE: "extended support for its product has ended",
        Since.MISSING_SINCE: "a security update for it is out and not installed",
        Since.EXPLOITED_SINCE: "it has a vulnerability that is known to be exploited and for which a fix is out",
        Since.BELOW_MINIMUM_SINCE: "it is older than the oldest build that is accepted of its product",
    }[rule.since]
    after = f", for {plural(rule.after_days, 'day')} or more" if rule.after_days else ""
    only = (", of builds with {}", (Code(" ".join(rule.when.split())),)) if rule.when else ("", ())
    return Line(f"{since}{after}{only[0]}", only[1])


def _minimum_builds(policy: Policy) -> list[Block]:
    if not policy.minimum_builds:
        return []
    rows = [
        (line(str(each.from_on)), line(each.product), line("{}", Code(each.line)) if each.line else line("all"),
         line("{}", Code(str(each.build))))
        for each in sorted(policy.minimum_builds, key=lambda each: (each.product, each.from_on, each.build))
    ]  # fmt: skip
    return [
        Paragraph(line("The oldest builds that are accepted:")),
        Grid(("From", "Product", "Line", "Oldest build"), rows),
    ]


def _cohort(policy: Policy, index: int) -> tuple[Line, ...]:
    cohort = policy.cohorts[index]
    who = "all" if cohort.tenants is None else "named ones"
    share = "" if cohort.share_of_tenants is None else f"{100 * cohort.share_of_tenants:g} % of them"
    return (
        line(str(cohort.starts_on)),
        line(", ".join(cohort.products) if cohort.products else "all" if index == 0 else "all others"),
        line(", ".join(filter(None, (who, share)))),
        line("{}", Code(cohort.name)),
    )


def _stage(policy: Policy, number: int) -> tuple[Line, ...]:
    stage, start = policy.stages[number - 1], policy.stage_starts[number - 1]
    days = f"{start} and later" if stage.days is None else f"{start} to {start + stage.days - 1}"
    return line(str(number)), line(days), line(_does(stage))


def _does(stage: Stage) -> str:
    """Say what a stage does to mail."""
    if stage.block == _HOUR:
        return "all mail is refused"
    parts = [
        f"{minutes} min: mail is {what}"
        for minutes, what in ((stage.block, "refused"), (stage.throttle, "delayed"))
        if minutes
    ]
    return "; ".join(parts) or "nothing: you are told, mail flows"


def _replies(policy: Policy) -> list[Block]:
    """Quote the replies of the first stages that give them."""
    lines = []
    for verdict, what in (
        (
            Verdict.DEFER,
            "Delayed means that your server gets a reply like this, keeps the mail and tries again by itself: {}",
        ),
        (
            Verdict.REJECT,
            "Refused means that your server gets a reply like this and returns the mail to its sender: {}",
        ),
    ):
        held = next((s for s in policy.stages if (s.throttle if verdict is Verdict.DEFER else s.block)), None)
        told = held and reply(verdict, throttle=held.throttle, block=held.block, service=policy.export.service_name)
        if told:
            lines.append(line(what, Code(told.text)))
    return [Items(lines)] if lines else []


def _how_it_ends(policy: Policy) -> list[Block]:
    return [
        Heading(line("How it ends")),
        Paragraph(
            line(
                "Update the server, replace it, or take it out of the way of mail. Each mail is judged by the build "
                "that its own server shows: mail from an updated server is taken at once, on the same day. After "
                f"{plural(policy.clear_after_days, 'day')} without mail of a vulnerable build, the first mail of an "
                "updated one closes the case; a vulnerable build that is seen later begins at stage 1 again."
            )
        ),
    ]


def _pause(policy: Policy, notice: Notice, *, granted: int | None, in_year: int | None = None) -> list[Block]:
    """Say how to pause, and how many days of it are left."""
    if policy.pause is None or not policy.pause.days_per_year:
        return [Heading(line("Pausing")), Paragraph(line("There are no pauses under this policy."))]
    quota = policy.pause.days_per_year
    lines = [
        line(
            f"Your organisation can pause throttling and blocking for up to {plural(quota, 'day')} in each calendar "
            "year, in one piece or in several. Days count as they are asked for, also those that you turn out not to "
            "need: so ask for few and extend. Meanwhile all mail is taken; afterwards it goes on at the stage where it "
            "stood."
        )
    ]
    if granted is not None:
        left = max(quota - granted, 0)
        lines.append(line(f"In {in_year}, {granted:,} of {quota:,} days are asked for and granted; {left:,} are left."))
    if policy.export.service_name == _MICROSOFTS_OWN:
        # Microsoft, 2023-12-12, "How to Pause Throttling and Blocking of Out-of-Date On-premises Exchange Servers"
        lines.append(
            line(
                "In the Exchange admin center: Reports, Mail flow, the report on out-of-date connecting on-premises "
                "Exchange servers, Enforcement Pause. Or in PowerShell: {} (it makes a pause or extends one; {} lists "
                "them).",
                Code("New-TenantExemptionInfo -BlockingScenario UnpatchedOnPremServer -NumberOfDays 30"),
                Code("Get-TenantExemptionInfo -BlockingScenario UnpatchedOnPremServer"),
            )
        )
    else:
        lines.append(
            line(
                "Ask for it where the announcement says, with your organisation, the first day and the number of days: "
                "{}",
                Link(notice.announcement_url),
            )
        )
    return [Heading(line("Pausing")), *map(Paragraph, lines)]


def _server(each: ServerTold, policy: Policy) -> tuple[Line, ...]:
    rule = next(rule for rule in policy.rules if rule.name == each.rule)
    why = _rule(rule)
    proves = f"at least {each.proves}" if each.proves else f"{each.product}, newer than all builds known of its line"
    return (
        line("{}", Code(each.server)),
        line(f"{{}}, that is {proves} (last seen {each.last_seen_on})", Code(each.build)),
        Line(f"{why.words}; counted since {each.vulnerable_from}", why.values),
        line(_install(each)),
    )


def _install(each: ServerTold) -> str:
    """Name the nearest lasting update of each line, or what to move to."""
    if not each.remedies:
        return f"no release that is enough is known: take this {each.product} out of the way of mail"
    told = "; or ".join(remedy.told for remedy in each.remedies)
    if any(remedy.release.product == each.product for remedy in each.remedies):
        return told
    return f"no update of {each.product} is enough: move to {told}"


def _dates(told: TenantTold, policy: Policy) -> Iterator[Block]:
    """Show what comes when, for each group of servers with the same dates."""
    yield Heading(line("What happens when"))
    yield Strip(policy)
    for timeline in told.timelines:
        names = Line(", ".join(["{}"] * len(timeline.servers)), tuple(map(Code, timeline.servers)))
        if timeline.steps:
            yield Paragraph(
                Line(f"{names.words} (group {{}}), unless updated:", (*names.values, Code(timeline.cohort)))
            )
            yield Grid(("From", "Stage", "Of each hour"), [_step(step, policy) for step in timeline.steps])
            continue
        begins = max(timeline.starts_on, told.as_of + timedelta(days=1))
        yield Paragraph(
            Line(
                f"{names.words} (group {{}}), with the first such mail on {begins} or later; at the earliest:",
                (*names.values, Code(timeline.cohort)),
            )
        )
        steps = [
            Step(from_on=begins + timedelta(days=start), until_on=None, stage=number, running=True)
            for number, start in enumerate(policy.stage_starts, start=1)
        ]
        yield Grid(("From", "Stage", "Of each hour"), [_step(step, policy) for step in steps])


def _step(step: Step, policy: Policy) -> tuple[Line, ...]:
    does = _does(policy.stages[step.stage - 1]) if step.running else "nothing: paused or exempt, all mail is taken"
    when = f"now, until {step.until_on - timedelta(days=1)}" if step.is_now and step.until_on else str(step.from_on)
    return line("now" if step.is_now and not step.until_on else when), line(str(step.stage)), line(does)
