"""A policy: which servers it takes in, what makes a build vulnerable, and what happens to it day by day."""

import hashlib
from bisect import bisect_right
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from itertools import accumulate
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from enforcement.policy_values import (
    SERVICE_NAME,
    URL,
    BuildNumber,
    Condition,
    Day,
    Days,
    Minutes,
    Name,
    Product,
    Server,
    Share,
    Slug,
    Tenant,
    Text,
    distinct,
    problem,
)
from enforcement.received import Route
from enforcement.verdict import Held

SCHEMA_VERSION: Final = 1
NO_POLICY: Final = "none"  # the baseline under which nothing is enforced
MOST_DAYS: Final = 400  # of all stages together: what counts of exposure reach to


class Since(StrEnum):
    """The date of a build that a rule counts from."""

    UNSUPPORTED_SINCE = "unsupported_since"  # the day after its product's extended support ended
    MISSING_SINCE = "missing_since"  # the first security update it lacks was released
    EXPLOITED_SINCE = "exploited_since"  # a vulnerability it has was known to be exploited, and a fix was there
    BELOW_MINIMUM_SINCE = "below_minimum_since"  # one of the policy's minimum builds lies above it


class Window(StrEnum):
    """Where the hour of a server begins."""

    TOP = "top of the hour"
    SPREAD = "spread"  # at each server's own minute


class Phase(StrEnum):
    """What a stage does."""

    REPORT = "report"
    THROTTLE = "throttle"
    BLOCK_PARTLY = "block partly"
    BLOCK_MORE = "block more"  # a second or later partial block
    BLOCK_ALL = "block all"


class Unit(StrEnum):
    """What a guardrail judges one by one."""

    DAY = "day"
    TENANT = "tenant"
    TOTAL = "total"


class Measure(StrEnum):
    """An outcome as a share of a base: all mail of the unit, or the mail that the policy may touch."""

    DELAYED_OF_MAIL = "delayed_share_of_mail"
    DELAYED_OF_SUBJECT = "delayed_share_of_subject"
    LOST_OF_MAIL = "lost_share_of_mail"
    LOST_OF_SUBJECT = "lost_share_of_subject"
    REJECTED_OF_MAIL = "rejected_share_of_mail"
    REJECTED_OF_SUBJECT = "rejected_share_of_subject"
    EXPIRED_OF_MAIL = "expired_share_of_mail"
    EXPIRED_OF_SUBJECT = "expired_share_of_subject"
    ACCEPTED_VULNERABLE_OF_MAIL = "accepted_vulnerable_share_of_mail"
    ACCEPTED_VULNERABLE_OF_SUBJECT = "accepted_vulnerable_share_of_subject"


class OnFailure(StrEnum):
    """What a mail server does when its policy files are missing or damaged."""

    ACCEPT = "accept"
    DEFER = "defer"


# Strict: an int is no text, a bool no int. What TOML can only write as text or as a list is let in by its type.
_STRICT: Final = ConfigDict(
    frozen=True,
    extra="forbid",
    strict=True,
    use_attribute_docstrings=True,
    validate_by_name=True,
    validate_by_alias=True,
)
_LET_IN: Final = Field(strict=False)
_SOME: Final = Field(strict=False, min_length=1)


class Rule(BaseModel):
    """What makes a build vulnerable: a date of the build, and after how many days."""

    model_config = _STRICT

    name: Name
    """What replies, reports and explanations call the rule."""
    since: Annotated[Since, _LET_IN]
    """The date the rule counts from."""
    after_days: Days = 0
    """Days from that date until the build is vulnerable."""
    when: Condition | None = None
    """Only builds for which this SQL condition is true, e.g. product <> 'Exchange Server SE'."""


class MinimumBuild(BaseModel):
    """The oldest build of a product that is accepted from a day on."""

    model_config = _STRICT

    product: Product
    """The product, e.g. Exchange Server 2016."""
    build: BuildNumber
    """The oldest build that is accepted, e.g. 15.1.2507.61."""
    from_on: Annotated[Day, Field(alias="from")]
    """The first day on which builds below are below the minimum."""
    line: Name | None = None
    """Only builds of this line (cumulative update or service pack), e.g. CU23."""


class Cohort(BaseModel):
    """Servers that the policy takes in from a day on."""

    model_config = _STRICT

    name: Name
    """What reports call the cohort; the share of tenants is drawn by it."""
    starts_on: Day
    """The first day on which its servers can be enforced."""
    products: Annotated[tuple[Product, ...], _SOME, AfterValidator(distinct)] | None = None
    """Only these products; all when left out."""
    tenants: Annotated[tuple[Tenant, ...], _SOME, AfterValidator(distinct)] | None = None
    """Only these tenants; all when left out."""
    share_of_tenants: Share | None = None
    """Only this share of the tenants, from 0 to 1, drawn by their names: always the same ones."""

    @cached_property
    def named_tenants(self) -> frozenset[str] | None:
        """The tenants by name, to look up; None: all."""
        return None if self.tenants is None else frozenset(self.tenants)

    @property
    def takes_all_tenants(self) -> bool:
        """Whether no tenant is left out."""
        return self.tenants is None and self.share_of_tenants in (None, 1)

    def takes(self, product: str, tenant: str) -> bool:
        """Whether the cohort is for builds of this product that this tenant runs.

        >>> from datetime import date
        >>> pilot = Cohort(name="pilot", starts_on=date(2024, 3, 1), share_of_tenants=0.05)
        >>> pilot.takes("Exchange Server 2016", "contoso.example")
        False
        """
        return (
            (self.products is None or product in self.products)
            and (self.named_tenants is None or tenant in self.named_tenants)
            and (self.share_of_tenants is None or _draw(self.name, tenant) < self.share_of_tenants)
        )


def _draw(cohort: str, tenant: str) -> float:
    """Give a tenant its place from 0 to 1 in a cohort's draw."""
    return int.from_bytes(hashlib.sha256(f"{cohort}\n{tenant}".encode()).digest()[:8], "big") / 2**64


Named = TypeVar("Named", Rule, Cohort)


class Stage(BaseModel):
    """A span of days with its minutes of throttling and of blocking in each hour."""

    model_config = _STRICT

    days: Annotated[int, Field(ge=1, le=MOST_DAYS)] | None = None
    """How long it lasts; only the last stage has no days, because it has no end."""
    throttle: Minutes = 0
    """Minutes of each hour in which mail is deferred, after the blocked ones."""
    block: Minutes = 0
    """Minutes of each hour in which mail is rejected."""

    @model_validator(mode="after")
    def _within_an_hour(self) -> Self:
        if self.throttle + self.block > 60:
            raise problem(f"throttle + block = {self.throttle + self.block}: expected at most 60")
        return self


class Notice(BaseModel):
    """The days of warning without which no stage may come."""

    model_config = _STRICT

    announcement_url: Annotated[str, Field(pattern=URL, max_length=500)]
    """The page that the notices point to."""
    general_days_before: Days = 30
    """Days between the announcement to all and the start of a cohort."""
    targeted_days_before: Days = 30
    """Days between the notice to tenants with an unremediated server of a cohort and its start."""
    stage_days_before: Days = 0
    """Days between a notice of a stage and the stage; 0: no such notice."""


class PauseQuota(BaseModel):
    """How long a tenant may pause."""

    model_config = _STRICT

    days_per_year: Annotated[int, Field(ge=0, le=366)]
    """Days of pause for each tenant and calendar year."""


class Exemption(BaseModel):
    """A tenant or a server that is not enforced for a while; its clock stands still."""

    model_config = _STRICT

    tenant: Tenant | None = None
    """The exempt tenant, or name a server."""
    server: Server | None = None
    """The exempt server, or name a tenant."""
    reason: Text = ""
    """Why, for those who come later."""
    from_on: Annotated[Day | None, Field(alias="from")] = None
    """The first exempt day; from the beginning when left out."""
    until_on: Annotated[Day, Field(alias="until")]
    """The last exempt day."""

    @model_validator(mode="after")
    def _of_one_for_some_days(self) -> Self:
        if (self.tenant is None) == (self.server is None):
            raise problem("expected either a tenant or a server")
        if self.from_on is not None and self.until_on < self.from_on:
            raise problem(f"expected {self.from_on} (its first day) or later", "until")
        return self


class Guardrail(BaseModel):
    """A bound on an outcome that the policy must keep."""

    model_config = _STRICT

    measure: Annotated[Measure, _LET_IN]
    """The outcome and its base."""
    per: Annotated[Unit, _LET_IN]
    """What is judged one by one."""
    at_most: Share
    """The bound."""
    min_messages: Annotated[int, Field(ge=0, le=10**12)]
    """A unit with fewer messages is small; small units are pooled into one."""
    max_unjudged_share: Share = 0.05
    """The share of the base's messages that may be in units too small to judge."""


class ExportSettings(BaseModel):
    """What the exported files say and do beside the verdicts."""

    model_config = _STRICT

    # Printable ASCII: it goes into SMTP replies, whose lines are at most 512 octets (RFC 5321, 4.5.3.1.5).
    service_name: Annotated[str, Field(pattern=SERVICE_NAME)] = "Exchange Online"
    """The name of the service in the replies."""
    on_failure: Annotated[OnFailure, _LET_IN] = OnFailure.ACCEPT
    """What a mail server does when its policy files are missing or damaged."""
    valid_days: Annotated[int, Field(ge=1, le=3_660)] = 14
    """Days after which an exported policy does nothing any more."""


class Policy(BaseModel):
    """Rules, cohorts, stages, and all that belongs to them."""

    model_config = _STRICT

    schema_version: Annotated[int, Field(ge=SCHEMA_VERSION, le=SCHEMA_VERSION)]
    """The version of this file format."""
    name: Slug
    """The name of the policy, also of its files."""
    title: Text = ""
    """The name for readers."""
    author: Text = ""
    """Who made it."""
    reference: Text = ""
    """Where the numbers come from."""
    baseline: Slug = NO_POLICY
    """The policy it is compared with, or none."""
    count_private_updates: bool = False
    """Whether updates that only buyers of extended support got count as missing."""
    routes: Annotated[tuple[Annotated[Route, _LET_IN], ...], _SOME, AfterValidator(distinct)] = tuple(Route)
    """The routes whose messages the policy may touch."""
    rules: Annotated[tuple[Rule, ...], Field(strict=False, min_length=1, max_length=100)]
    """A build is vulnerable from the earliest date that a rule gives."""
    minimum_builds: Annotated[tuple[MinimumBuild, ...], _LET_IN] = ()
    """The oldest accepted builds, for rules that count from below_minimum_since."""
    cohorts: Annotated[tuple[Cohort, ...], Field(strict=False, min_length=1, max_length=200)]
    """The first that matches a server's product and tenant takes it in; no match: reported, never enforced."""
    stages: Annotated[tuple[Stage, ...], _SOME]
    """What happens, one stage after the other."""
    window: Annotated[Window, _LET_IN] = Window.TOP
    """Where the blocked and throttled minutes lie in the hour."""
    clear_after_days: Days = 14
    """Days without a subject message after which a clean day ends a spell."""
    silent_after_days: Days = 60
    """Days after which a server that is not seen counts as perhaps retired."""
    notice: Notice | None = None
    """The days of warning; left out: none are asked for."""
    pause: PauseQuota | None = None
    """How long tenants may pause; left out: not at all."""
    exemptions: Annotated[tuple[Exemption, ...], _LET_IN] = ()
    """Tenants and servers that are not enforced for a while."""
    guardrails: Annotated[tuple[Guardrail, ...], _LET_IN] = ()
    """Bounds on outcomes that the policy must keep."""
    export: ExportSettings = ExportSettings()
    """What the exported files say and do beside the verdicts."""

    @field_validator("name")
    @classmethod
    def _not_none(cls, name: str) -> str:
        if name == NO_POLICY:
            raise problem(f"expected another name: {NO_POLICY!r} means no policy")
        return name

    @field_validator("rules", "cohorts")
    @classmethod
    def _named_apart(cls, parts: tuple[Named, ...]) -> tuple[Named, ...]:
        seen: set[str] = set()
        for index, part in enumerate(parts):
            if part.name in seen:
                raise problem("expected a name that no other one has", index, "name")
            seen.add(part.name)
        return parts

    @field_validator("stages")
    @classmethod
    def _only_the_last_without_days(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        for index, stage in enumerate(stages[:-1]):
            if stage.days is None:
                raise problem("missing (only the last stage has no days)", index, "days")
        if stages[-1].days is not None:
            raise problem("expected none: the last stage has no end", len(stages) - 1, "days")
        if (days := sum(stage.days or 0 for stage in stages)) > MOST_DAYS:
            raise problem(f"days sum to {days} (expected at most {MOST_DAYS})")
        return stages

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Give a copy with other values, which are not checked; what was worked out of the old ones is forgotten."""
        copy = super().model_copy(update=update, deep=deep)
        for name in ("stage_starts", "stage_minutes", "phases"):
            copy.__dict__.pop(name, None)
        return copy

    @cached_property
    def stage_starts(self) -> tuple[int, ...]:
        """The clock on which each stage starts; the first at 0."""
        return (0, *accumulate(stage.days or 0 for stage in self.stages[:-1]))

    @cached_property
    def stage_minutes(self) -> tuple[Held, ...]:
        """The minutes of each stage."""
        return tuple(Held(block=stage.block, throttle=stage.throttle) for stage in self.stages)

    @cached_property
    def phases(self) -> tuple[Phase, ...]:
        """What each stage does."""
        found: list[Phase] = []
        for stage in self.stages:
            if stage.block == 60:
                found.append(Phase.BLOCK_ALL)
            elif stage.block:
                found.append(Phase.BLOCK_MORE if Phase.BLOCK_PARTLY in found else Phase.BLOCK_PARTLY)
            else:
                found.append(Phase.THROTTLE if stage.throttle else Phase.REPORT)
        return tuple(found)

    def cohort_for(self, product: str, tenant: str) -> Cohort | None:
        """Give the first cohort that takes in builds of a product that a tenant runs, whether it has started or not."""
        return next((cohort for cohort in self.cohorts if cohort.takes(product, tenant)), None)

    def stage_at(self, clock: int) -> int:
        """Give the index, from 0, of the stage that a clock has reached: the last that starts at or before it."""
        return bisect_right(self.stage_starts, clock) - 1
