"""A policy: its defaults, the clock and the phases of its stages, whom its cohorts take."""

from datetime import date
from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_examples import EVERY_KEY, SHORTEST
from pydantic import ValidationError

from enforcement.builds import Build
from enforcement.policy import (
    Cohort,
    Exemption,
    ExportSettings,
    Guardrail,
    Measure,
    Notice,
    OnFailure,
    PauseQuota,
    Phase,
    Policy,
    Since,
    Stage,
    Unit,
    Window,
)
from enforcement.policy_text import parse_policy
from enforcement.received import Route
from enforcement.shipped import load_policy, shipped_policies
from enforcement.verdict import Outcome, Sender, follow


def schedule(*stages: tuple[int | None, int, int]) -> Policy:
    """Write a policy of stages given as days, throttle, block."""
    parts = tuple(Stage(days=days, throttle=throttle, block=block) for days, throttle, block in stages)
    return parse_policy(SHORTEST, source="shortest").model_copy(update={"stages": parts})


def test_the_example_of_every_key_means_what_it_says() -> None:
    """Each key of the example arrives in the model, by its own name."""
    policy = parse_policy(EVERY_KEY, source="example.toml")
    assert policy.name == "example-of-every-key"
    assert policy.routes == (Route.DIRECT,)
    assert [(rule.name, rule.since, rule.after_days) for rule in policy.rules] == [
        ("unsupported", Since.UNSUPPORTED_SINCE, 0),
        ("unpatched", Since.MISSING_SINCE, 90),
        ("exploited", Since.EXPLOITED_SINCE, 14),
        ("minimum", Since.BELOW_MINIMUM_SINCE, 0),
    ]
    assert policy.rules[2].when == "product <> 'Exchange Server SE'"
    assert policy.minimum_builds[0].build == Build(15, 1, 2507, 61)
    assert policy.minimum_builds[0].from_on == date(2026, 9, 8)
    assert [cohort.share_of_tenants for cohort in policy.cohorts] == [None, 0.05, None]
    assert [(stage.days, stage.throttle, stage.block) for stage in policy.stages] == [
        (30, 0, 0),
        (10, 5, 0),
        (10, 10, 0),
        (10, 20, 0),
        (10, 30, 5),
        (10, 30, 10),
        (10, 30, 20),
        (None, 0, 60),
    ]
    assert policy.window is Window.TOP
    assert policy.notice == Notice(announcement_url="https://...", targeted_days_before=30)
    assert policy.pause == PauseQuota(days_per_year=90)
    assert policy.exemptions == (
        Exemption(
            tenant="hospital.example", reason="...", from_on=date(2026, 12, 1), until_on=date(2027, 3, 31), server=None
        ),
    )
    assert policy.guardrails == (
        Guardrail(measure=Measure.LOST_OF_MAIL, per=Unit.DAY, at_most=0.02, min_messages=1000, max_unjudged_share=0.05),
    )
    assert policy.export == ExportSettings(service_name="Exchange Online", on_failure=OnFailure.ACCEPT, valid_days=14)


def test_what_is_left_out_has_its_default() -> None:
    """The five required keys are enough; all others have the documented defaults."""
    policy = parse_policy(SHORTEST, source="shortest.toml")
    assert policy.routes == (Route.DIRECT, Route.RELAYED, Route.THROUGH_CLOUD)
    assert (policy.window, policy.clear_after_days, policy.silent_after_days) == (Window.TOP, 14, 60)
    assert (policy.rules[0].after_days, policy.rules[0].when) == (0, None)
    assert (policy.notice, policy.pause, policy.exemptions, policy.minimum_builds, policy.guardrails) == (
        None,
        None,
        (),
        (),
        (),
    )
    assert (policy.baseline, policy.count_private_updates) == ("none", False)
    assert (policy.export.on_failure, policy.export.valid_days) == (OnFailure.ACCEPT, 14)


def test_a_policy_cannot_be_changed() -> None:
    """What was checked stays so."""
    policy = parse_policy(SHORTEST, source="shortest.toml")
    with pytest.raises(ValidationError):
        policy.clear_after_days = 0


def test_stages_start_at_the_sum_of_the_days_before() -> None:
    """Days 30, 10, 10: the stages start at clock 0, 30, 40, and each begins on that very day."""
    policy = schedule((30, 0, 0), (10, 5, 0), (10, 10, 0), (None, 0, 60))
    assert policy.stage_starts == (0, 30, 40, 50)
    assert [policy.stage_at(clock) for clock in (0, 29, 30, 39, 40, 49, 50, 10_000)] == [0, 0, 1, 1, 2, 2, 3, 3]


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), max_size=10), st.integers(0, 500))
def test_the_stage_is_the_last_that_has_started(days: list[int], clock: int) -> None:
    """`stage_at` agrees with counting the days off one stage after the other."""
    policy = schedule(*((n, 0, 0) for n in days), (None, 0, 60))
    left, index = clock, 0
    while index < len(days) and left >= days[index]:
        left -= days[index]
        index += 1
    assert policy.stage_at(clock) == index


@pytest.mark.parametrize(
    ("stages", "phases"),
    [
        (
            [(30, 0, 0), (10, 5, 0), (10, 30, 5), (10, 0, 5), (None, 0, 60)],
            "report,throttle,block partly,block more,block all",
        ),
        ([(10, 15, 0), (10, 0, 15), (10, 0, 30), (None, 0, 60)], "throttle,block partly,block more,block all"),
        ([(10, 0, 5), (10, 5, 0), (None, 0, 59)], "block partly,throttle,block more"),  # gone back to, then the second
        ([(10, 0, 60), (None, 0, 5)], "block all,block partly"),
        ([(None, 60, 0)], "throttle"),
    ],
)
def test_a_phase_follows_from_the_minutes(stages: list[tuple[int | None, int, int]], phases: str) -> None:
    """No minutes report, throttled ones throttle, the first partial block is partly, later ones more, 60 is all."""
    assert schedule(*stages).phases == tuple(Phase(phase) for phase in phases.split(","))


def test_cohorts_take_by_product_tenant_and_share() -> None:
    """A cohort takes a server when each of the three that it names holds; what it does not name holds for all."""
    start = date(2024, 1, 1)
    everyone = Cohort(name="all", starts_on=start)
    named = Cohort(
        name="named",
        starts_on=start,
        products=("Exchange Server 2016",),
        tenants=("Contoso.Example.", "fabrikam.example"),
    )
    assert everyone.takes("Exchange Server 2019", "x.example")
    assert named.takes("Exchange Server 2016", "contoso.example")  # spelt as servers' tenants are
    assert not named.takes("Exchange Server 2019", "contoso.example")
    assert not named.takes("Exchange Server 2016", "x.example")


def test_a_share_is_drawn_from_the_names() -> None:
    """The draw is the hash of cohort and tenant, worked out here in another way: as a hexadecimal fraction."""
    cohort = Cohort(name="Pilot é", starts_on=date(2024, 1, 1), share_of_tenants=0.3)
    taken = 0
    for number in range(2_000):
        tenant = f"tenant{number}.example"
        digest = sha256("Pilot é\n".encode() + tenant.encode()).hexdigest()
        taken += cohort.takes("Exchange Server 2016", tenant)
        assert cohort.takes("Exchange Server 2016", tenant) == (int(digest[:16], 16) < 0.3 * 16**16)
    assert 0.27 < taken / 2_000 < 0.33  # three standard deviations: 3 * sqrt(0.3 * 0.7 / 2000) = 0.031


@settings(deadline=None)
@given(st.text("abc.", min_size=1, max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_who_is_in_stays_in_when_the_share_grows(tenant: str, one: float, other: float) -> None:
    """A larger share of the same cohort takes all tenants of the smaller one."""
    smaller, larger = (
        Cohort(name="pilot", starts_on=date(2024, 1, 1), share_of_tenants=share) for share in sorted((one, other))
    )
    if smaller.takes("Exchange Server 2016", tenant):
        assert larger.takes("Exchange Server 2016", tenant)


def test_a_share_of_none_and_of_all() -> None:
    """Share 0 takes nobody, share 1 everybody."""
    nobody, everybody = (Cohort(name="c", starts_on=date(2024, 1, 1), share_of_tenants=share) for share in (0, 1))
    tenants = [f"{number}.example" for number in range(100)]
    assert not any(nobody.takes("Exchange Server 2016", tenant) for tenant in tenants)
    assert all(everybody.takes("Exchange Server 2016", tenant) for tenant in tenants)
    assert (nobody.takes_all_tenants, everybody.takes_all_tenants) == (False, True)


def refused_minutes(stage: Stage) -> int:
    return sum(k < stage.block for k in range(60))


def touched_minutes(stage: Stage) -> int:
    return sum(k < stage.block or k < stage.block + stage.throttle for k in range(60))


def lost_minutes(stage: Stage) -> int:
    """Count the minutes whose mail is lost in the end, for a sender that tries every 15 minutes for 48 hours."""
    sender = Sender(name="Exchange default", share=1.0, retry_minutes=(15,), gives_up_after_hours=48)
    fates = [follow(k, throttle=stage.throttle, block=stage.block, sender=sender) for k in range(60)]
    return sum(fate.outcome in (Outcome.REJECTED, Outcome.EXPIRED) for fate in fates)


@pytest.mark.parametrize("name", shipped_policies())
def test_in_shipped_policies_no_share_falls_along_the_clock(name: str) -> None:
    """Minute by minute: the share refused, the share touched, and the share lost in the end never fall."""
    stages = load_policy(name).stages
    for before, stage in pairwise(stages):
        assert refused_minutes(before) <= refused_minutes(stage)
        assert touched_minutes(before) <= touched_minutes(stage)
        assert lost_minutes(before) <= lost_minutes(stage)
    assert lost_minutes(stages[-1]) == 60


@pytest.mark.parametrize("name", shipped_policies())
def test_shipped_policies_say_where_they_come_from(name: str) -> None:
    """Each has a title, an author and a reference, and its baseline is none or shipped too."""
    policy = load_policy(name)
    assert policy.title
    assert policy.author == "enforcement workbench"
    assert len(policy.reference) > 20
    assert policy.name == name
    assert policy.baseline in ("none", *shipped_policies())


def test_the_policies_that_a_designer_compares_are_shipped() -> None:
    """The reference, Microsoft's, and one for each question a designer asks first."""
    assert set(shipped_policies()) >= {
        "ninety-days",
        "exchange-online",
        "gentler",
        "stricter",
        "exploited-first",
        "spread-windows",
        "block-only",
        "four-steps",
    }


def test_ninety_days_is_as_documented() -> None:
    """Its rules, its one cohort, its eight stages, no gate, no guardrail."""
    policy = load_policy("ninety-days")
    assert [(rule.name, rule.since, rule.after_days) for rule in policy.rules] == [
        ("unsupported", Since.UNSUPPORTED_SINCE, 0),
        ("unpatched", Since.MISSING_SINCE, 90),
    ]
    assert [(cohort.starts_on, cohort.products, cohort.takes_all_tenants) for cohort in policy.cohorts] == [
        (date(2000, 1, 1), None, True)
    ]
    assert policy.stages == parse_policy(EVERY_KEY, source="example.toml").stages
    assert policy.routes == tuple(Route)
    assert (policy.window, policy.clear_after_days) == (Window.TOP, 14)
    assert (policy.notice, policy.pause, policy.guardrails, policy.exemptions) == (None, None, (), ())
