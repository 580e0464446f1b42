"""The rollout beside a plain loop over days, beside closed forms, and held to what must be so."""

from dataclasses import replace
from datetime import date, datetime, time, timedelta
from random import Random

import numpy as np
import pytest
from agreement import Case, background, history_of
from fleets import FIRST, LAST, TENANTS, lively
from reference_clock import Message
from reference_rollout import MEASURES, Slow, World, roll_slowly

from enforcement.assumptions import Assumptions
from enforcement.outlook import Outlook, outlook
from enforcement.policy import Cohort, Notice, Policy, Rule, Since, Stage
from enforcement.response import Size, draw
from enforcement.rollout import Rollout, Trial, rollout
from enforcement.shipped import load_assumptions
from enforcement.standing import standings
from enforcement.standpoint import Standpoint, standpoint

N_DAYS = (400, 690)  # the second reaches beyond the end of support of 2016 and 2019


def until(case: Case, day: date) -> Case:
    """The case as it was known on a day."""
    return Case(
        messages=[one for one in case.messages if one.sent_at.date() <= day],
        servers=case.servers,
        policy=case.policy,
        senders=case.senders,
        pauses=case.pauses,
        clock_starts=[one for one in case.clock_starts if one.first_detected_on <= day],
    )


def stands(case: Case, as_of: date) -> Standpoint:
    known = background(case.senders, case.pauses)
    history = history_of(case.messages, case.servers, case.clock_starts)
    proven = standings(history.builds, known.catalogue, case.policy)
    return standpoint(history, as_of, silent_after_days=case.policy.silent_after_days, known=proven)


def looks(
    at: Standpoint, case: Case, *, n_days: int = 365, enforced: bool = True, risk_by: Policy | None = None
) -> Outlook:
    known = background(case.senders, case.pauses)
    return outlook(at, case.policy, known, n_days=n_days, enforced=enforced, risk_by=risk_by)


def other_rules(rng: Random, policy: Policy) -> Policy:
    """A policy by whose rules other servers count as vulnerable."""
    rules = [
        Rule(name="unpatched", since=Since.MISSING_SINCE, after_days=rng.choice([0, 20, 200])),
        Rule(name="unsupported", since=Since.UNSUPPORTED_SINCE, after_days=rng.choice([0, 30, 500])),
    ]
    return policy.model_copy(update={"rules": tuple(rng.sample(rules, rng.randrange(1, 3)))})


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("enforced", [True, False])
def test_equals_a_plain_loop_over_days(seed: int, *, enforced: bool) -> None:
    """Cohorts, pauses, exemptions, updates, landings and retirements: the same days, servers, tenants and mail."""
    rng = Random(seed)
    as_of = FIRST + timedelta(days=rng.randrange(8, (LAST - FIRST).days))
    case = until(lively(rng), as_of)
    if seed % 4 >= 2:  # the end of support alone makes nobody vulnerable
        case = replace(case, policy=case.policy.model_copy(update={"rules": case.policy.rules[1:]}))
    if seed % 3 == 0:  # no tenant has paused before, so any may: in the first year, the next, or over its turn
        case = replace(case, pauses=[])
        if not seed % 2:
            stages = (Stage(days=rng.randrange(100, 330)), *case.policy.stages)
            case = replace(case, policy=case.policy.model_copy(update={"stages": stages}))
    if seed % 5 == 0:  # a cohort that starts later, and a notice before it
        notice = Notice(announcement_url="https://x.example", targeted_days_before=rng.randrange(40))
        later = Cohort(name="later", starts_on=as_of + timedelta(days=rng.randrange(1, 60)), tenants=(TENANTS[2],))
        cohorts = (later, *case.policy.cohorts)
        case = replace(case, policy=case.policy.model_copy(update={"notice": notice, "cohorts": cohorts}))
    assumptions = busy(rng)
    if seed % 8 == 3:  # an update that comes when support has ended is for nobody
        updates = [{"date": date(2025, 11, 1), "source": "guess"}]
        data = assumptions.model_dump() | {"updates_per_year": None, "updates": updates}
        assumptions = Assumptions.model_validate(data)
    try:
        at = stands(case, as_of)
    except LookupError:  # the twin sees nobody either
        assert not World(case, as_of, 1, enforced=enforced, risk_by=case.policy).servers
        return
    n_days = N_DAYS[seed % 2]
    risk_by = other_rules(rng, case.policy) if seed % 7 in (2, 4, 5) else None
    look = looks(at, case, n_days=n_days, enforced=enforced, risk_by=risk_by)
    if not look.is_vulnerable.any():  # which is refused, and the twin sees none either
        servers = World(case, as_of, n_days, enforced=enforced, risk_by=risk_by or case.policy).servers
        assert all(server.risk_from > 0 for server in servers)
        with pytest.raises(LookupError, match="no server in sight is vulnerable"):
            rollout(at, [("it", look)], assumptions, Trial(n_draws=1))
        return
    found = rollout(at, [("it", look)], assumptions, Trial(n_draws=3, seed=seed))
    size = Size(n_draws=3, n_tenants=len(at.tenants), horizon_days=n_days)
    for number in range(3):
        drawn = draw(assumptions, size, as_of=as_of, seed=seed, draws=slice(number, number + 1))
        same(roll_slowly(case, as_of, n_days, drawn, enforced=enforced, risk_by=risk_by), found, number)


def same(slow: Slow, found: Rollout, number: int) -> None:
    for measure in MEASURES:
        fast = found.outcomes[measure][0, number]
        np.testing.assert_allclose(fast, slow.by_day[measure], rtol=1e-6, atol=1e-6, err_msg=measure)
    np.testing.assert_array_equal(found.times[0, number], slow.times)


def busy(rng: Random) -> Assumptions:
    """The shipped assumptions, with everything quicker, so that much happens in a year."""
    assumptions = load_assumptions(rng.choice(["default", "optimistic", "pessimistic"]))
    data = assumptions.model_dump()
    for rates in (data["hazards"], data["retirement"]):
        for state in ("supported", "unsupported"):
            for cell in rates[state]:
                times = rng.choice([1, 3, 8])
                for key in ("rate_per_week", "low", "high"):
                    cell[key] = None if cell[key] is None else cell[key] * times
    data["pauses"]["share_of_tenants"] = {"value": 0.6, "source": "guess"}
    data["landing"]["unsupported_leave_product"] = {"value": 0.5, "source": "guess"}
    return Assumptions.model_validate(data)


@pytest.mark.parametrize("n_known", [1, 3, 8, 30, 55, 56, 57, 100])
def test_mail_ahead_is_that_of_the_days_known(n_known: int) -> None:
    """A server that sends a message a day is expected to send one, however long it has been known."""
    last = date(2026, 3, 18)
    messages = [
        Message(server="mx.a.example", build="15.1.2507.6", hop="smtp", route="direct", messages=1,
                sent_at=datetime.combine(last - timedelta(days=day), time(10)))
        for day in range(n_known)
    ]  # fmt: skip
    case = replace(lively(Random(1)), messages=messages, servers={"mx.a.example": "a.example"}, clock_starts=[])
    volume = stands(case, last).volume
    assert volume.sum(axis=0).tolist() == [[1.0]] * 7
