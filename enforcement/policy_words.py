"""What policies say, in words side by side: only what differs between them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import polars as pl

from enforcement.pieces import plural
from enforcement.policy import Cohort, Exemption, Guardrail, Phase, Policy, Since, Stage

ABSENT: Final = "-"
SINCE: Final = {
    Since.UNSUPPORTED_SINCE: "the extended support of its product ended",
    Since.MISSING_SINCE: "the first security update that it lacks came out",
    Since.EXPLOITED_SINCE: "a vulnerability that it has was known to be exploited and a fix was there",
    Since.BELOW_MINIMUM_SINCE: "it fell below the policy's minimum build",
}
_MINUTES: Final = 60  # of an hour
_FEW: Final = 2  # stages that are named one by one
_LOSSY: Final = (Phase.BLOCK_PARTLY, Phase.BLOCK_MORE, Phase.BLOCK_ALL)


def what_differs(policies: Mapping[str, Policy]) -> pl.DataFrame:
    """Say where policies differ: a row a point, in words (what), and a column a policy; ABSENT: it has no such thing.

    Names, titles, authors, references and baselines are no difference: they change nothing for a message.
    Stages that only start on another day are one row, with how much later or earlier than in the first policy.

    >>> from enforcement.shipped import load_policy
    >>> found = what_differs({name: load_policy(name) for name in ("ninety-days", "gentler")})
    >>> found.columns, found["what"].to_list()[:2]
    (['what', 'ninety-days', 'gentler'], ['mail is first delayed', 'mail is first lost'])
    """
    said = {name: _by_point(policy) for name, policy in policies.items()}
    keys = dict.fromkeys(key for of in said.values() for key in of)
    moved = _moved(list(policies.values()))
    rows = [row for key in keys for row in moved.get(key, [(key, *(of.get(key, ABSENT) for of in said.values()))])]
    return pl.DataFrame(
        [row for row in rows if len(set(row[1:])) > 1],
        schema=dict.fromkeys(["what", *said], pl.String),
        orient="row",
    )


def _moved(policies: Sequence[Policy]) -> dict[str, list[tuple[str, ...]]]:
    """Give what stands in place of stages that all policies have, but on other days: a row for those moved alike."""
    found: dict[str, list[tuple[str, ...]]] = {}
    together: dict[tuple[int, ...], list[int]] = {}
    for at in range(min(len(policy.stages) for policy in policies)):
        starts = [policy.stage_starts[at] for policy in policies]
        if len(set(starts)) > 1 and len({policy.stages[at] for policy in policies}) == 1:
            together.setdefault(tuple(start - starts[0] for start in starts), []).append(at)
            found[f"stage {at + 1}"] = []
    for shifts, stages in together.items():
        is_run = len(stages) > _FEW and stages == list(range(stages[0], stages[-1] + 1))
        which = f"{stages[0] + 1} to {stages[-1] + 1}" if is_run else ", ".join(str(at + 1) for at in stages)
        what = f"start of stage{'s' if len(stages) > 1 else ''} {which}"
        starts = [policy.stage_starts[stages[0]] for policy in policies]
        found[f"stage {stages[0] + 1}"] = [(what, *map(_start, starts, shifts))]
    return found


def _start(start: int, shift: int) -> str:
    when = f"from day {start} on"
    return f"{when}: {plural(abs(shift), 'day')} {'later' if shift > 0 else 'earlier'}" if shift else when


def _by_point(policy: Policy) -> dict[str, str]:
    """Give what a policy says by point; several of one point, e.g. minimum builds of a product, stand together."""
    found: dict[str, str] = {}
    for key, value in _said(policy):
        found[key] = f"{found[key]}; {value}" if key in found else value
    return found


def beside_the_schedule(policy: Policy) -> list[tuple[str, str]]:
    """Say what a policy holds beside its stages, window, rules, cohorts and pauses: what, and in which words.

    >>> from enforcement.shipped import load_policy
    >>> beside_the_schedule(load_policy("ninety-days"))[1]
    ('routes', 'direct, relayed, through cloud')
    """
    return list(_beside(policy))


def _said(policy: Policy) -> Iterator[tuple[str, str]]:
    """Give what a policy says, a point each."""
    yield "mail is first delayed", _first(policy, (Phase.THROTTLE, *_LOSSY), is_delayed=True)
    yield "mail is first lost", _first(policy, _LOSSY)
    yield "all mail is refused", _first(policy, (Phase.BLOCK_ALL,))
    for index, (stage, start) in enumerate(zip(policy.stages, policy.stage_starts, strict=True), start=1):
        yield f"stage {index}", stage_words(stage, start)
    yield "window", str(policy.window)
    yield "order of the rules", ", ".join(rule.name for rule in policy.rules)
    for rule in policy.rules:
        after = f"{plural(rule.after_days, 'day')} after" if rule.after_days else "as soon as"
        yield f"rule {rule.name}", f"{after} {SINCE[rule.since]}" + (f", if {rule.when}" if rule.when else "")
    yield "order of the cohorts", ", ".join(cohort.name for cohort in policy.cohorts)
    for cohort in policy.cohorts:
        yield f"cohort {cohort.name}", _cohort(cohort)
    yield "a spell ends after", f"{plural(policy.clear_after_days, 'day')} without a subject message"
    if policy.pause:
        yield "pauses", f"{plural(policy.pause.days_per_year, 'day')} per tenant and year"
    yield from _beside(policy)


def _beside(policy: Policy) -> Iterator[tuple[str, str]]:
    for minimum in policy.minimum_builds:
        yield (
            " ".join(["minimum build of", minimum.product, *([minimum.line] if minimum.line else [])]),
            f"{minimum.build} from {minimum.from_on} on",
        )
    yield "updates only for buyers of extended support", "count" if policy.count_private_updates else "do not count"
    yield "routes", ", ".join(sorted(policy.routes))
    yield "silent after", plural(policy.silent_after_days, "day")
    if policy.notice:
        yield "notice to all", f"{plural(policy.notice.general_days_before, 'day')} before"
        yield "notice to those concerned", f"{plural(policy.notice.targeted_days_before, 'day')} before"
        yield "notice of a stage", f"{plural(policy.notice.stage_days_before, 'day')} before"
        yield "announcement", policy.notice.announcement_url
    for key, value in _numbered("exemption", [_exemption(exemption) for exemption in policy.exemptions]):
        yield key, value
    for key, value in _numbered("guardrail", [_guardrail(guardrail) for guardrail in policy.guardrails]):
        yield key, value
    yield "service named in replies", policy.export.service_name
    yield "without valid files, mail servers", str(policy.export.on_failure)
    yield "an export holds for", plural(policy.export.valid_days, "day")


def _first(policy: Policy, phases: Sequence[Phase], *, is_delayed: bool = False) -> str:
    """Say on which day of a server's clock mail first meets one of some phases."""
    for stage, start, phase in zip(policy.stages, policy.stage_starts, policy.phases, strict=True):
        if phase in phases and (stage.throttle or not is_delayed):
            return f"from day {start} on"
    return "never"


def stage_words(stage: Stage, start: int) -> str:
    """Say what a stage does and when.

    >>> stage_words(Stage(days=10, throttle=5), 30)
    'days 30 to 39: 5 minutes of each hour deferred'
    """
    when = f"from day {start} on" if stage.days is None else f"days {start} to {start + stage.days - 1}"
    held = [
        f"{minutes} minutes of each hour {what}"
        for minutes, what in ((stage.throttle, "deferred"), (stage.block, "refused"))
        if minutes
    ]
    does = "everything refused" if stage.block == _MINUTES else ", ".join(held) or "reported only"
    return f"{when}: {does}"


def _cohort(cohort: Cohort) -> str:
    parts = [f"from {cohort.starts_on} on", ", ".join(cohort.products) if cohort.products else "all products"]
    tenants = "all tenants" if cohort.tenants is None else f"tenants {', '.join(cohort.tenants)}"
    parts.append(tenants if cohort.share_of_tenants is None else f"{100 * cohort.share_of_tenants:g} % of {tenants}")
    return "; ".join(parts)


def _exemption(exemption: Exemption) -> str:
    who = f"tenant {exemption.tenant}" if exemption.tenant else f"server {exemption.server}"
    since = f" from {exemption.from_on}" if exemption.from_on else ""
    return f"{who}{since} until {exemption.until_on}" + (f" ({exemption.reason})" if exemption.reason else "")


def _guardrail(guardrail: Guardrail) -> str:
    measure = str(guardrail.measure).replace("_", " ")
    return (
        f"{measure} at most {100 * guardrail.at_most:g} % per {guardrail.per}, of {guardrail.min_messages:,} messages "
        f"or more; at most {100 * guardrail.max_unjudged_share:g} % in units too small"
    )


def _numbered(what: str, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    for number, text in enumerate(texts, start=1):
        yield f"{what} {number}", text
