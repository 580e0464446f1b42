"""What a designer may have overlooked in a policy that is valid."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from itertools import chain, pairwise
from typing import Final, NamedTuple

import polars as pl

from enforcement.builds import Build, Evidence, Hop
from enforcement.catalogue import PRODUCTS, Catalogue
from enforcement.policy import NO_POLICY, Cohort, MinimumBuild, Phase, Policy, Rule, Since
from enforcement.received import Route
from enforcement.schema import BUILDS
from enforcement.standing import standings

_PHASES: Final = tuple(Phase)  # in the order of a schedule
# A name that hides two servers, one of them patched, must not be cleared between two mails of the other one.
_CLEAR_AFTER_DAYS: Final = 14
# Exchange's own MessageRetryInterval: learn.microsoft.com/exchange/mail-flow/queues/message-intervals
_RETRY_MINUTES: Final = 15


class Severity(StrEnum):
    """How much a lint matters."""

    WARNING = "warning"  # probably not meant
    NOTE = "note"  # may well be meant


@dataclass(frozen=True, slots=True, kw_only=True)
class Lint:
    """Something in a policy that may not be meant; `key` is where, counted from 0, the message counts from 1."""

    policy: str
    key: str
    message: str
    severity: Severity


class _Finding(NamedTuple):
    key: str
    message: str
    severity: Severity = Severity.WARNING


def lints(policy: Policy, catalogue: Catalogue, *, today: date) -> tuple[Lint, ...]:
    """List what a designer may have overlooked, stages first.

    >>> from enforcement.shipped import load_catalogue, load_policy
    >>> ninety_days = load_policy("ninety-days")
    >>> lints(ninety_days, load_catalogue(), today=date(2026, 11, 24))
    ()
    >>> hasty = ninety_days.model_copy(update={"clear_after_days": 1})
    >>> [lint.key for lint in lints(hasty, load_catalogue(), today=date(2026, 11, 24))]
    ['clear_after_days']
    """
    findings = chain(
        _weaker_stages(policy),
        _phases_out_of_order(policy),
        _minutes_that_never_pass(policy),
        _short_notice(policy),
        _rules_without_builds(policy, catalogue),
        _minimum_builds(policy, catalogue),
        _empty_cohorts(policy.cohorts),
        _other_keys(policy, today),
    )
    return tuple(Lint(policy=policy.name, **finding._asdict()) for finding in findings)


def _weaker_stages(policy: Policy) -> Iterator[_Finding]:
    """Find stages under which some minute of the hour is met more mildly than in the stage before.

    Blocked minutes come first, then throttled ones; so no minute is, when neither count falls: that of the blocked
    ones and that of the blocked or throttled ones.
    """
    for index, (before, stage) in enumerate(pairwise(policy.stages), start=1):
        touched_before, touched = before.block + before.throttle, stage.block + stage.throttle
        falls = []
        if stage.block < before.block:
            falls.append(f"it blocks {stage.block} min of each hour after {before.block}")
        if touched < touched_before:
            falls.append(f"it throttles or blocks {touched} min of each hour after {touched_before}")
        if falls:
            yield _Finding(
                f"stages[{index}]", f"stage {index + 1} is weaker than the one before: {' and '.join(falls)}"
            )


def _phases_out_of_order(policy: Policy) -> Iterator[_Finding]:
    ranks = [_PHASES.index(phase) for phase in policy.phases]
    for index, (before, rank) in enumerate(pairwise([-1, *ranks])):
        key, phase = f"stages[{index}]", f"stage {index + 1} ({_PHASES[rank]})"
        if rank < before:
            yield _Finding(key, f"{phase} goes back from {_PHASES[before]}")
        for skipped in _PHASES[before + 1 : rank]:
            yield _Finding(key, f"{phase} skips the phase {skipped!s}", Severity.NOTE)
    if policy.phases[-1] is not Phase.BLOCK_ALL:
        last = len(policy.stages)
        message = f"stage {last}, the last, does not block 60 min of each hour: vulnerable mail is accepted for ever"
        yield _Finding(f"stages[{last - 1}].block", message)


def _minutes_that_never_pass(policy: Policy) -> Iterator[_Finding]:
    for index, stage in enumerate(policy.stages):
        if stage.block < 60 and stage.throttle + stage.block == 60:
            message = f"stage {index + 1} leaves no minute of the hour: mail that it delays is never delivered"
            yield _Finding(f"stages[{index}]", message)
        elif stage.throttle > 60 - _RETRY_MINUTES:
            message = (
                f"stage {index + 1} throttles {stage.throttle} min of each hour: "
                f"a sender that tries every {_RETRY_MINUTES} min can meet it each time until its mail expires"
            )
            yield _Finding(f"stages[{index}].throttle", message)


def _short_notice(policy: Policy) -> Iterator[_Finding]:
    if policy.notice is None:
        return
    days, targeted = policy.stages[0].days, policy.notice.targeted_days_before
    if days is not None and days < targeted:
        message = (
            f"stage 1 lasts {days} days, less than the {targeted} days of the targeted notice: "
            "a server first seen after its cohort has started has less warning than others"
        )
        yield _Finding("stages[0].days", message)
    if policy.notice.general_days_before < targeted:
        message = "the announcement to all comes later than the targeted notice, which points to it"
        yield _Finding("notice.general_days_before", message)


def _rules_without_builds(policy: Policy, catalogue: Catalogue) -> Iterator[_Finding]:
    builds = _builds_of(catalogue)
    for index, rule in enumerate(policy.rules):
        alone = policy.model_copy(update={"rules": (rule,)})
        if standings(builds, catalogue, alone)["vulnerable_from"].is_null().all():
            yield _Finding(
                f"rules[{index}]", f"rule {rule.name!r} matches no build of the catalogue{_why(rule, policy)}"
            )
    if policy.minimum_builds and not any(rule.since is Since.BELOW_MINIMUM_SINCE for rule in policy.rules):
        yield _Finding("minimum_builds", "no rule counts from below_minimum_since: the minimum builds do nothing")


def _why(rule: Rule, policy: Policy) -> str:
    if rule.since is Since.BELOW_MINIMUM_SINCE and not policy.minimum_builds:
        return ": the policy has no minimum_builds"
    return f": when = {rule.when!r}" if rule.when else ""


def _builds_of(catalogue: Catalogue) -> pl.DataFrame:
    """Give every build of the catalogue as BUILDS, on both kinds of hop."""
    rows = [(None, str(release.build), str(hop)) for release in catalogue.releases for hop in Hop]
    return pl.DataFrame(rows, schema=BUILDS, orient="row")


def _minimum_builds(policy: Policy, catalogue: Catalogue) -> Iterator[_Finding]:
    for index, minimum in enumerate(policy.minimum_builds):
        message = _misplaced(minimum, catalogue)
        if message:
            yield _Finding(f"minimum_builds[{index}].build", f"minimum build {index + 1}: {message}")


def _misplaced(minimum: MinimumBuild, catalogue: Catalogue) -> str | None:
    """Say what is wrong with where a minimum build stands in the catalogue; None: nothing."""
    placed = catalogue.place(minimum.build)
    if placed.product is None:
        return f"the catalogue knows no line of {minimum.build}"
    if placed.product != minimum.product:
        return f"{minimum.build} is a build of {placed.product}, not of {minimum.product}"
    if minimum.line is not None and minimum.line != placed.line:
        return f"{minimum.build} is a build of {placed.line}, not of {minimum.line}"
    if placed.evidence is not Evidence.EXACT:
        return f"{minimum.build} is no build of the catalogue ({_neighbour(minimum.build, catalogue)})"
    return None


def _neighbour(build: Build, catalogue: Catalogue) -> str:
    release = catalogue.place(build).release
    return f"the next is {release.build}, {release.name}" if release else "it is newer than every one of its line"


def _empty_cohorts(cohorts: Sequence[Cohort]) -> Iterator[_Finding]:
    for index, cohort in enumerate(cohorts):
        if cohort.share_of_tenants == 0:
            yield _Finding(
                f"cohorts[{index}].share_of_tenants", f"cohort {cohort.name!r} takes no tenant: its share is 0"
            )
            continue
        products = cohort.products or PRODUCTS
        hidden = {product: by for product in products if (by := _hiding(cohort, product, cohorts[:index])) is not None}
        names = ", ".join(repr(name) for name in dict.fromkeys(hidden.values()))
        if len(hidden) == len(products):
            message = f"cohort {cohort.name!r} takes no server: before it stands {names}, which takes all of them"
            yield _Finding(f"cohorts[{index}]", message)
        elif hidden and cohort.products is not None:
            message = f"cohort {cohort.name!r} takes no {' or '.join(hidden)}: before it stands {names}"
            yield _Finding(f"cohorts[{index}].products", message)


def _hiding(cohort: Cohort, product: str, earlier: Sequence[Cohort]) -> str | None:
    """Name an earlier cohort if earlier ones take all of a product that this one would take."""
    for other in earlier:
        if other.takes_all_tenants and (other.products is None or product in other.products):
            return other.name
    if cohort.tenants is None:
        return None
    takers = [next((o.name for o in earlier if o.takes(product, tenant)), None) for tenant in cohort.tenants]
    return takers[0] if all(taker is not None for taker in takers) else None


def _other_keys(policy: Policy, today: date) -> Iterator[_Finding]:
    for index, exemption in enumerate(policy.exemptions):
        if exemption.until_on < today:
            message = f"the exemption of {exemption.tenant or exemption.server} ended on {exemption.until_on}"
            yield _Finding(f"exemptions[{index}].until", message)
    if policy.clear_after_days < _CLEAR_AFTER_DAYS:
        message = (
            f"{policy.clear_after_days} days are short (usual: {_CLEAR_AFTER_DAYS} or more): "
            "a name that hides a patched and a vulnerable server is cleared between two mails of the vulnerable one"
        )
        yield _Finding("clear_after_days", message)
    if Route.DIRECT not in policy.routes:
        yield _Finding("routes", "mail servers enforce direct hand-overs only: this policy does nothing there")
    if policy.baseline == policy.name != NO_POLICY:
        yield _Finding("baseline", "the policy is compared with itself", Severity.NOTE)
