"""Lints: what each one finds, and that it finds nothing else."""

from dataclasses import replace
from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_examples import EVERY_KEY, SHORTEST

from enforcement.check import Lint, Severity, lints
from enforcement.policy import Policy, Stage
from enforcement.policy_text import parse_policy
from enforcement.shipped import load_catalogue, load_policy, shipped_policies
from enforcement.verdict import Outcome, Sender, Verdict, follow, verdict_at

TODAY = date(2026, 11, 24)
SMALL = replace(load_catalogue(), releases=load_catalogue().releases[-3:], exploits=())  # for many random policies
CLEAN = """
schema_version = 1
name    = "clean"
rules   = [{ name = "unpatched", since = "missing_since", after_days = 90 }]
cohorts = [{ name = "all", starts_on = 2026-01-01 }]
stages  = [
  { days = 30 },
  { days = 10, throttle = 30 },
  { days = 10, throttle = 30, block = 10 },
  { days = 10, throttle = 30, block = 20 },
  { block = 60 },
]
"""


def of(text: str) -> tuple[Lint, ...]:
    return lints(parse_policy(text, source="mine.toml"), load_catalogue(), today=TODAY)


def found(text: str) -> list[tuple[str, str]]:
    """Give key and message of each lint of a policy."""
    return [(lint.key, lint.message) for lint in of(text)]


def with_stages(*stages: str) -> str:
    return CLEAN[: CLEAN.index("stages")] + f"stages = [{', '.join(stages)}]\n"


def with_cohorts(*cohorts: str) -> str:
    return CLEAN.replace('{ name = "all", starts_on = 2026-01-01 }', ", ".join(cohorts))


def test_a_policy_with_nothing_odd_has_no_lint() -> None:
    """The base of all tests here is clean, so each of them finds what it changes."""
    assert found(CLEAN) == []


def test_a_weaker_stage_is_found() -> None:
    """Fewer blocked minutes, or fewer blocked and throttled ones together; not fewer throttled ones alone."""
    report, block_all = "{ days = 30 }", "{ block = 60 }"
    assert found(
        with_stages(
            report,
            "{ days = 9, throttle = 30 }",
            "{ days = 9, throttle = 10, block = 10 }",  # 20 min after 30
            "{ days = 9, throttle = 40, block = 5 }",  # blocks 5 after 10
            "{ days = 9, throttle = 5, block = 40 }",  # 45 min after 45: the throttled ones are now blocked
            block_all,
        )
    ) == [
        ("stages[2]", "stage 3 is weaker than the one before: it throttles or blocks 20 min of each hour after 30"),
        ("stages[3]", "stage 4 is weaker than the one before: it blocks 5 min of each hour after 10"),
    ]


MINUTES = st.integers(0, 60).flatmap(lambda block: st.tuples(st.integers(0, 60 - block), st.just(block)))
SEVERITY = [Verdict.ACCEPT, Verdict.DEFER, Verdict.REJECT]


@settings(deadline=None)
@given(st.lists(MINUTES, min_size=1, max_size=5))
def test_weaker_means_that_some_minute_is_met_more_mildly(minutes: list[tuple[int, int]]) -> None:
    """The lint agrees with the verdicts of all 60 minutes, before and after."""
    stages = [Stage(days=10, throttle=throttle, block=block) for throttle, block in minutes]
    policy = parse_policy(CLEAN, source="clean").model_copy(update={"stages": tuple(stages)})
    weaker = [
        f"stages[{index}]"
        for index, (before, stage) in enumerate(pairwise(stages), start=1)
        if any(severity(stage, k) < severity(before, k) for k in range(60))
    ]
    told = [lint.key for lint in lints(policy, SMALL, today=TODAY) if "is weaker than" in lint.message]
    assert told == weaker


def severity(stage: Stage, k: int) -> int:
    return SEVERITY.index(verdict_at(k, throttle=stage.throttle, block=stage.block))


def test_a_skipped_phase_is_found() -> None:
    """Report, throttle, block partly, block more, block all: each is missed by name."""
    assert found(with_stages("{ days = 9, block = 10 }", "{ block = 60 }")) == [
        ("stages[0]", "stage 1 (block partly) skips the phase report"),
        ("stages[0]", "stage 1 (block partly) skips the phase throttle"),
        ("stages[1]", "stage 2 (block all) skips the phase block more"),
    ]


def test_a_phase_gone_back_to_is_found() -> None:
    """Reporting again after throttling goes back; so it is weaker too, and the second throttling is no skip."""
    stages = ("{ days = 9 }", "{ days = 9, throttle = 5 }", "{ days = 9 }", "{ days = 9, throttle = 5 }")
    rest = ("{ days = 9, throttle = 5, block = 5 }", "{ days = 9, block = 10 }", "{ block = 60 }")
    assert found(with_stages(*stages, *rest)) == [
        ("stages[2]", "stage 3 is weaker than the one before: it throttles or blocks 0 min of each hour after 5"),
        ("stages[2]", "stage 3 (report) goes back from throttle"),
    ]


def test_an_end_without_a_full_block_is_found() -> None:
    """A last stage of 59 minutes lets some mail through for ever."""
    stages = ("{ days = 9 }", "{ days = 9, throttle = 5 }", "{ days = 9, block = 10 }", "{ block = 59 }")
    assert found(with_stages(*stages)) == [
        (
            "stages[3].block",
            "stage 4, the last, does not block 60 min of each hour: vulnerable mail is accepted for ever",
        )
    ]


def test_an_hour_without_an_open_minute_is_found() -> None:
    """Throttled and blocked minutes that fill the hour lose what they delay."""
    assert found(CLEAN.replace("throttle = 30, block = 20", "throttle = 40, block = 20")) == [
        ("stages[3]", "stage 4 leaves no minute of the hour: mail that it delays is never delivered")
    ]


@pytest.mark.parametrize("throttle", [45, 46, 59])
def test_throttling_that_a_sender_always_meets_is_found(throttle: int) -> None:
    """With a try every 15 min, 46 throttled minutes can expire a message and 45 cannot; followed minute by minute."""
    sender = Sender(name="Exchange default", share=1.0, retry_minutes=(15,), gives_up_after_hours=48)
    expires = any(follow(k, throttle=throttle, block=0, sender=sender).outcome is Outcome.EXPIRED for k in range(60))
    told = found(
        with_stages(
            "{ days = 9 }",
            f"{{ days = 9, throttle = {throttle} }}",
            "{ days = 9, block = 59 }",
            "{ days = 9, block = 59 }",
            "{ block = 60 }",
        )
    )
    assert expires == (throttle > 45)
    message = (
        f"stage 2 throttles {throttle} min of each hour: "
        "a sender that tries every 15 min can meet it each time until its mail expires"
    )
    assert told == ([("stages[1].throttle", message)] if expires else [])


def test_a_first_stage_shorter_than_the_notice_is_found() -> None:
    """30 days of report are enough for a notice of 30 days, and not for one of 45."""
    notice = '[notice]\nannouncement_url = "https://example.org"\n'
    assert found(CLEAN + notice) == []
    assert found(CLEAN + notice + "general_days_before = 45\ntargeted_days_before = 45\n") == [
        (
            "stages[0].days",
            (
                "stage 1 lasts 30 days, less than the 45 days of the targeted notice: "
                "a server first seen after its cohort has started has less warning than others"
            ),
        )
    ]
    assert [key for key, _ in found(CLEAN + notice + "general_days_before = 10\n")] == ["notice.general_days_before"]


def test_a_rule_without_builds_is_found() -> None:
    """A condition that no build of the catalogue meets, and a rule on minimum builds where there are none."""
    rules = """rules = [
      { name = "typo", since = "missing_since", when = "product = 'Exchange 2016'" },
      { name = "never", since = "unsupported_since", when = "product = 'Exchange Server SE'" },
      { name = "minimum", since = "below_minimum_since" },
      { name = "good", since = "exploited_since", when = "product LIKE '%2016'" },
      { name = "mapi", since = "missing_since", when = "hop = 'mapi'" },
    ]
    """
    text = CLEAN[: CLEAN.index("rules")] + rules + CLEAN[CLEAN.index("cohorts") :]
    matches_none = "matches no build of the catalogue"
    assert found(text) == [
        ("rules[0]", f"rule 'typo' {matches_none}: when = \"product = 'Exchange 2016'\""),
        ("rules[1]", f"rule 'never' {matches_none}: when = \"product = 'Exchange Server SE'\""),
        ("rules[2]", f"rule 'minimum' {matches_none}: the policy has no minimum_builds"),
    ]


def minimum_build(entry: str, *, rule: bool = True) -> str:
    with_rule = CLEAN.replace("rules   = [", 'rules   = [{ name = "minimum", since = "below_minimum_since" }, ')
    return (with_rule if rule else CLEAN) + f"minimum_builds = [{{ {entry}, from = 2026-09-08 }}]\n"


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ('product = "Exchange Server 2016", build = "15.1.2507.61"', None),
        ('product = "Exchange Server 2016", build = "15.1.2507.61", line = "CU23"', None),
        (
            'product = "Exchange Server 2016", build = "15.2.1748.39"',
            "15.2.1748.39 is a build of Exchange Server 2019, not of Exchange Server 2016",
        ),
        (
            'product = "Exchange Server 2016", build = "15.1.2507.61", line = "CU22"',
            "15.1.2507.61 is a build of CU23, not of CU22",
        ),
        (
            'product = "Exchange Server 2016", build = "15.1.2507.60"',
            "15.1.2507.60 is no build of the catalogue (the next is 15.1.2507.61, Exchange Server 2016 CU23 Oct25SU)",
        ),
        (
            'product = "Exchange Server 2016", build = "15.1.2507.999"',
            "15.1.2507.999 is no build of the catalogue (it is newer than every one of its line)",
        ),
        ('product = "Exchange Server 2016", build = "15.1.9999.1"', "the catalogue knows no line of 15.1.9999.1"),
        ('product = "Exchange Server SE", build = "15.20.7228.32"', "the catalogue knows no line of 15.20.7228.32"),
    ],
)
def test_a_misplaced_minimum_build_is_found(entry: str, told: str | None) -> None:
    """Another product's build, another line's, or none that the catalogue knows."""
    misplaced = [(key, message) for key, message in found(minimum_build(entry)) if key.startswith("minimum_builds")]
    assert misplaced == ([("minimum_builds[0].build", f"minimum build 1: {told}")] if told else [])


def test_minimum_builds_without_a_rule_are_found() -> None:
    """They do nothing unless a rule counts from them."""
    entry = 'product = "Exchange Server 2016", build = "15.1.2507.61"'
    assert found(minimum_build(entry, rule=True)) == []
    assert found(minimum_build(entry, rule=False)) == [
        ("minimum_builds", "no rule counts from below_minimum_since: the minimum builds do nothing")
    ]


EX2016, EX2019 = '"Exchange Server 2016"', '"Exchange Server 2019"'


@pytest.mark.parametrize(
    ("cohorts", "told"),
    [
        # A wider cohort before a narrower one takes all of it, whatever it names.
        (["", f"products = [{EX2016}]"], "cohort '1' takes no server: before it stands '0', which takes all of them"),
        (["", 'tenants = ["a.example"]'], "cohort '1' takes no server: before it stands '0', which takes all of them"),
        (["", "share_of_tenants = 0.5"], "cohort '1' takes no server: before it stands '0', which takes all of them"),
        (["share_of_tenants = 1.0", ""], "cohort '1' takes no server: before it stands '0', which takes all of them"),
        # Two cohorts together hide a third.
        (
            [f"products = [{EX2016}]", f"products = [{EX2019}]", f"products = [{EX2019}, {EX2016}]"],
            "cohort '2' takes no server: before it stands '1', '0', which takes all of them",
        ),
        # One product of two is hidden.
        (
            [f"products = [{EX2016}]", f"products = [{EX2016}, {EX2019}]"],
            "cohort '1' takes no Exchange Server 2016: before it stands '0'",
        ),
        # Named tenants are hidden when each of them is taken before.
        (
            ['tenants = ["a.example", "b.example"]', 'tenants = ["b.example"]'],
            "cohort '1' takes no server: before it stands '0', which takes all of them",
        ),
        # The narrower one first, the rest after it: nothing is hidden.
        ([f"products = [{EX2016}]", ""], None),
        (["share_of_tenants = 0.5", ""], None),
        (["share_of_tenants = 0.5", "share_of_tenants = 0.5"], None),  # other names draw other tenants
        (['tenants = ["a.example"]', 'tenants = ["b.example"]'], None),
        ([f'tenants = ["a.example"], products = [{EX2016}]', 'tenants = ["a.example"]'], None),
        (['tenants = ["a.example"]', "share_of_tenants = 0.9"], None),
    ],
)
def test_cohorts_that_hide_another_are_found(cohorts: list[str], told: str | None) -> None:
    """The first match wins, so what stands behind a wider cohort never takes anyone."""
    entries = [f'{{ name = "{n}", starts_on = 2026-01-01{", " + c if c else ""} }}' for n, c in enumerate(cohorts)]
    assert [message for _, message in found(with_cohorts(*entries))] == ([told] if told else [])


def test_a_named_tenant_in_a_share_is_found_hidden() -> None:
    """A tenant that an earlier share has drawn is not left for the cohort that names it; one not drawn is."""
    pilot = parse_policy(
        with_cohorts('{ name = "pilot", share_of_tenants = 0.5, starts_on = 2026-01-01 }'), source="pilot"
    ).cohorts[0]
    tenants = [f"t{number}.example" for number in range(20)]
    drawn = [tenant for tenant in tenants if pilot.takes("Exchange Server 2016", tenant)]
    assert 0 < len(drawn) < 20
    for tenant in tenants:
        named = f'{{ name = "named", tenants = ["{tenant}"], starts_on = 2026-01-01 }}'
        told = found(with_cohorts('{ name = "pilot", share_of_tenants = 0.5, starts_on = 2026-01-01 }', named))
        assert bool(told) == (tenant in drawn)


def test_a_share_of_nobody_is_found() -> None:
    """Share 0 takes no tenant, and hides nobody."""
    nobody = '{ name = "pilot", starts_on = 2026-01-01, share_of_tenants = 0.0 }'
    assert found(with_cohorts(nobody, '{ name = "all", starts_on = 2026-01-01 }')) == [
        ("cohorts[0].share_of_tenants", "cohort 'pilot' takes no tenant: its share is 0")
    ]


def test_an_expired_exemption_is_found() -> None:
    """The last exempt day still counts; the day after it is over."""
    text = CLEAN + '[[exemptions]]\nserver = "MX.Example."\nuntil = 2026-11-24\n'
    policy = parse_policy(text, source="mine.toml")
    assert lints(policy, load_catalogue(), today=date(2026, 11, 24)) == ()
    assert lints(policy, load_catalogue(), today=date(2026, 11, 25)) == (
        Lint(
            policy="clean",
            key="exemptions[0].until",
            message="the exemption of mx.example ended on 2026-11-24",
            severity=Severity.WARNING,
        ),
    )


def test_a_short_clearing_is_found() -> None:
    """13 days are short, 14 are not."""
    assert found(CLEAN + "clear_after_days = 14\n") == []
    assert [key for key, _ in found(CLEAN + "clear_after_days = 13\n")] == ["clear_after_days"]


def test_routes_that_no_server_enforces_are_found() -> None:
    """Without direct hand-overs the exported policy does nothing."""
    assert [key for key, _ in found(CLEAN + 'routes = ["relayed"]\n')] == ["routes"]
    assert found(CLEAN + 'routes = ["direct", "relayed"]\n') == []


def test_a_policy_compared_with_itself_is_noted() -> None:
    """It is allowed, so it is a note and no warning."""
    (lint,) = of(CLEAN + 'baseline = "clean"\n')
    assert (lint.key, lint.severity) == ("baseline", Severity.NOTE)


@pytest.mark.parametrize("name", shipped_policies())
def test_shipped_policies_have_only_the_lints_that_they_explain(name: str) -> None:
    """None but two: one blocks without throttling, one throttles without a report, and their files say so."""
    meant = {
        "block-only": [("stages[1]", "stage 2 (block partly) skips the phase throttle")],
        "four-steps": [("stages[0]", "stage 1 (throttle) skips the phase report")],
    }
    policy = load_policy(name)
    told = [(lint.key, lint.message) for lint in lints(policy, load_catalogue(), today=TODAY)]
    assert told == meant.get(name, [])


def test_the_shortest_policy_is_told_what_it_leaves_out() -> None:
    """A policy of one stage, block all, skips four phases; the example of every key has no lint."""
    assert [message for _, message in found(SHORTEST)] == [
        f"stage 1 (block all) skips the phase {phase}" for phase in ("report", "throttle", "block partly", "block more")
    ]
    assert found(EVERY_KEY) == []


@settings(deadline=None)
@given(st.integers(1, 400), st.lists(MINUTES, min_size=1, max_size=6), st.integers(0, 60))
def test_linting_never_fails(days: int, minutes: list[tuple[int, int]], clear: int) -> None:
    """Any valid policy has its lints, each with a key, a message of one line and the policy's name."""
    stages = tuple(Stage(days=days, throttle=throttle, block=block) for throttle, block in minutes)
    base = parse_policy(CLEAN, source="clean")
    policy: Policy = base.model_copy(update={"stages": stages, "clear_after_days": clear})
    for lint in lints(policy, SMALL, today=TODAY):
        assert lint.policy == "clean"
        assert lint.key
        assert lint.message.isprintable()
