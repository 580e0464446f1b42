"""The expected course: closed forms by hand, what must hold whatever the numbers, and the simulation beside it."""

from dataclasses import replace
from datetime import date, timedelta
from itertools import product
from random import Random
from typing import Any

import numpy as np
import pytest
from agreement import Case, background
from fleets import FIRST, LAST, lively
from test_rollout import looks, stands, until
from test_rollout_forms import AS_OF, BEHIND, exact, flat, fleet, leaves, supposed

from enforcement.assumptions import Assumptions
from enforcement.expected import (
    MEASURES,
    Prepared,
    Schedule,
    course,
    courses,
    expected,
    expected_many,
    prepare,
    schedules,
)
from enforcement.expected_fleet import ExpectedFleet, Grid, expected_fleet
from enforcement.policy import PauseQuota, Policy, Stage
from enforcement.response import kept_after
from enforcement.rollout import Trial, rollout
from enforcement.rollout_bands import totals_frame
from enforcement.shipped import load_assumptions, load_policy
from enforcement.survival import Survival, gauss_nodes

FACTORS = {"noticed": 1.5, "throttled": 2.0, "partly_blocked": 3.0, "fully_blocked": 5.0}
GRACE = "who lands in its product while rules still let its end of support pass stays vulnerable with its old clock"
SHAPES = ("tenant_shape", "tenant_half_year_shape", "common_half_year_shape")


def fleet_of(case: Case, as_of: date, *, n_days: int = 200, step: int = 1, **more: Any) -> ExpectedFleet:
    known = background(case.senders, case.pauses)
    return expected_fleet(stands(case, as_of), case.policy, known, n_days=n_days, step=step, **more)


def stages_of(case: Case, *policies: Policy) -> list[Schedule]:
    return schedules(policies or [case.policy], background(case.senders, case.pauses).senders)


def multipliers(*shapes: float | None) -> dict[str, Any]:
    return {name: exact(shape) for name, shape in zip(SHAPES, shapes, strict=True) if shape is not None}


def off(*shapes: float | None) -> tuple[str, ...]:
    return tuple(f"multipliers.{name}" for name, shape in zip(SHAPES, shapes, strict=True) if shape is None)


def with_shapes(*shapes: float | None, **more: Any) -> Assumptions:
    parts = {"hazards": flat(0.3), "factors": {name: exact(value) for name, value in FACTORS.items()}} | more
    return supposed(**parts, landing=leaves(), multipliers=multipliers(*shapes), off=off(*shapes))


def hazard_by_hand(policy: Policy, n_days: int, rate: float, factors: dict[str, float]) -> np.ndarray[Any, Any]:
    """Sum up the hazard of a server whose clock is 0 on day 0, day by day from the stages alone."""
    summed = np.zeros(n_days + 1)
    for day in range(1, n_days + 1):
        phase = str(policy.phases[policy.stage_at(day)])
        level = {"report": "noticed", "throttle": "throttled", "block all": "fully_blocked"}.get(
            phase, "partly_blocked"
        )
        summed[day] = summed[day - 1] + rate / 7 * factors[level]
    return summed


@pytest.mark.parametrize("shapes", [(None, None, None), (0.7, None, None), (None, 1.3, None), (None, None, 4.0)])
def test_a_closed_form_by_hand(shapes: tuple[float | None, ...]) -> None:
    """Those that have not acted are as many as a Gamma multiplier leaves of the hazard summed up by hand."""
    case = fleet(30, 10, load_policy("ninety-days"), build=BEHIND)
    n_days = 180  # within a half-year, whatever multiplier it is has one form
    prepared = prepare(fleet_of(case, AS_OF, n_days=n_days), with_shapes(*shapes))
    found = expected(prepared, stages_of(case)[0])
    hazard = hazard_by_hand(case.policy, n_days, 0.3, FACTORS)
    shape = next((each for each in shapes if each is not None), np.inf)
    np.testing.assert_allclose(found["vulnerable_servers"], 30 * kept_after(hazard, shape=shape), atol=30 * 1e-4)
    # Mail: one message a server on the day's weekday in the one week known; on day 95 all of it is blocked.
    assert found["delayed"].sum() > 0
    blocked = found.filter(day=98)  # a Friday, as the first day
    assert blocked["lost"][0] == pytest.approx(30 * float(kept_after(hazard[98:99], shape=shape)[0]), abs=0.01)
    assert blocked["accepted_vulnerable"][0] == pytest.approx(0, abs=1e-9)


def test_survival_over_two_half_years_by_hand() -> None:
    """A lasting multiplier counts on, the passing ones begin anew."""
    passing = Survival.of(with_shapes(None, 1.3, None).multipliers)
    lasting = Survival.of(with_shapes(2.0, None, None).multipliers)
    hazard, halves = np.array([[0.4, 0.9, 1.9, 2.5]]), [slice(0, 2), slice(2, 3), slice(3, 4)]
    one = kept_after(np.array([0.4, 0.9, 1.0, 0.6]), shape=1.3)
    by_hand = [one[0], one[1], one[1] * one[2], one[1] * one[2] * one[3]]
    np.testing.assert_allclose(passing.course(hazard, halves)[0], by_hand, atol=1e-4)
    np.testing.assert_allclose(lasting.course(hazard, halves), kept_after(hazard, shape=2.0), atol=1e-4)
    deaf = Survival.of(None, never=0.2).course(np.array([[50.0]]), [slice(0, 1)])
    assert deaf[0, 0] == pytest.approx(0.2)


@pytest.mark.parametrize("shape", [0.3, 1.3, 7.0])
def test_all_multipliers_against_draws(shape: float) -> None:
    """With all three at work the table is the mean over draws of them."""
    rng = np.random.default_rng(3)
    n, hazard = 400_000, (0.8, 2.0)
    z = rng.gamma(2.5, 1 / 2.5, n)
    m = rng.gamma(shape, 1 / shape, (2, n)) * rng.gamma(5.0, 1 / 5.0, (2, n))
    drawn = np.exp(-z * (m[0] * hazard[0] + m[1] * (hazard[1] - hazard[0])))
    table = Survival.of(with_shapes(2.5, shape, 5.0).multipliers)
    found = table.course(np.array([hazard]), [slice(0, 1), slice(1, 2)])[0, 1]
    assert abs(found - drawn.mean()) < 4 * drawn.std() / np.sqrt(n) + 1e-4


def test_few_nodes_have_the_moments() -> None:
    """Two nodes have the first three moments of the multiplier."""
    values, weights = gauss_nodes(1.3, 2)
    moments = [float(weights @ values**power) for power in range(4)]
    assert moments == pytest.approx([1, 1, 1 + 1 / 1.3, (1 + 1 / 1.3) * (1 + 2 / 1.3)])


def quiet(rng: Random, times: tuple[int, ...] = (1, 4)) -> Assumptions:
    """Assumptions without ranges under which the expectation is exact: who lands is patched for good."""
    data = load_assumptions().model_dump()
    for rates in (data["hazards"], data["retirement"]):
        for state in ("supported", "unsupported"):
            for cell in rates[state]:
                rate = cell["rate_per_week"] * rng.choice(times)
                cell |= {"rate_per_week": rate, **dict.fromkeys(("low", "high", "events", "server_weeks"))}
    data["factors"] = {name: exact(value) for name, value in FACTORS.items()}
    data["multipliers"] = multipliers(3.27, 1.3, 7.18)
    data |= {"patience_correlation": exact(0.3), "never_responds": exact(0.05), "updates_per_year": None}
    data |= {"pauses": {"share_of_tenants": exact(0.6), "days": exact(25.0)}, "landing": leaves(), "off": ("updates",)}
    data["landing"]["unsupported_leave_product"] = exact(0.999)
    return Assumptions.model_validate(data)


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_the_simulation_where_it_is_exact(seed: int) -> None:
    """Cohorts, pauses, exemptions, ledgers, retirement: within 3.5 standard errors of the mean of draws, and 0.2 %."""
    rng = Random(seed)
    as_of = FIRST + timedelta(days=rng.randrange(60, (LAST - FIRST).days))
    case = until(lively(rng), as_of)
    case = replace(
        case, policy=case.policy.model_copy(update={"exemptions": (), "pause": PauseQuota(days_per_year=40)})
    )
    try:
        at = stands(case, as_of)
    except LookupError as none_in_sight:
        assert "no server in sight" in str(none_in_sight)  # noqa: PT017 - most of these cases have some
        return
    look = looks(at, case, n_days=200)
    assumptions, n = quiet(rng), 1500
    if not look.is_vulnerable.any():
        with pytest.raises(LookupError, match="no server in sight is vulnerable"):
            rollout(at, [("it", look)], assumptions, Trial(n_draws=1))
        return
    drawn = rollout(at, [("it", look)], assumptions, Trial(n_draws=n, seed=seed)).outcomes
    found = expected(
        prepare(expected_fleet(at, case.policy, background(case.senders, case.pauses), n_days=200), assumptions),
        stages_of(case)[0],
    )
    for measure in MEASURES:
        for day in (1, 40, 100, 200):
            values = drawn[measure][0, :, day]
            error = values.std() / np.sqrt(n)
            assert abs(found[measure][day] - values.mean()) <= 3.5 * error + 0.002 * max(1, abs(values.mean())), (
                measure,
                day,
            )


def test_pauses_move_delays_as_in_the_simulation() -> None:
    """Six in ten tenants pause 25 days once they are throttled: mail delayed and lost is that of the mean of draws."""
    policy = load_policy("ninety-days").model_copy(update={"pause": PauseQuota(days_per_year=40)})
    case = fleet(200, 200, policy, build=BEHIND)
    at, assumptions, n = stands(case, AS_OF), quiet(Random(1), (1,)), 400
    drawn = rollout(at, [("it", looks(at, case, n_days=120))], assumptions, Trial(n_draws=n, seed=2)).outcomes
    found = expected(prepare(fleet_of(case, AS_OF, n_days=120), assumptions), stages_of(case)[0])
    for measure in ("delayed", "lost"):
        for span in (slice(30, 56), slice(56, 90), slice(90, 121)):
            values = drawn[measure][0, :, span].sum(axis=1)
            error = values.std() / np.sqrt(n)
            assert abs(found[measure][span].sum() - values.mean()) <= 3 * error + 0.01, (measure, span)


def test_the_mean_field_of_those_who_come_back_is_near_the_simulation() -> None:
    """With landings and updates as shipped, sums over a year are within 10 % of the mean of draws, servers within 3."""
    data = quiet(Random(1), (2,)).model_dump() | {"updates_per_year": exact(6.1), "off": ()}
    data |= {"landing": load_assumptions().model_dump()["landing"], "patience_correlation": exact(0.0)}
    data["multipliers"] = multipliers(3.27, 1.3, 50.0)
    assumptions = Assumptions.model_validate(data)
    case = fleet(400, 200, load_policy("ninety-days"), build=BEHIND)
    at = stands(case, AS_OF)
    drawn = rollout(at, [("it", looks(at, case, n_days=365))], assumptions, Trial(n_draws=150, seed=5)).outcomes
    found = expected(prepare(fleet_of(case, AS_OF, n_days=365), assumptions), stages_of(case)[0])
    first_only = expected(
        prepare(
            fleet_of(case, AS_OF, n_days=365),
            Assumptions.model_validate(data | {"landing": leaves(), "updates_per_year": None, "off": ("updates",)}),
        ),
        stages_of(case)[0],
    )
    for measure, at_most in zip(MEASURES, (0.03, 0.10, 0.10, 0.05), strict=True):
        mean = drawn[measure][0].sum(axis=1).mean()
        assert found[measure].sum() == pytest.approx(mean, rel=at_most), measure
    # Left out, they would be missed by far: the mean field is what makes up for it.
    assert first_only["vulnerable_servers"][-1] < 0.6 * found["vulnerable_servers"][-1]


def lenient(case: Case) -> Case:
    """The same under rules that call builds vulnerable 400 days after the update that they miss."""
    rules = [
        rule.model_copy(update={"after_days": 400}) if rule.name == "unpatched" else rule for rule in case.policy.rules
    ]
    return replace(case, policy=case.policy.model_copy(update={"name": "lenient", "rules": tuple(rules)}))


def returning_as_shipped(seed: int) -> Assumptions:
    """People who land and miss updates as shipped, and all else without ranges."""
    data = quiet(Random(seed), (1, 2)).model_dump() | {"updates_per_year": exact(6.1), "off": ()}
    data |= {"landing": load_assumptions().model_dump()["landing"], "patience_correlation": exact(0.0)}
    data["multipliers"] = multipliers(3.27, 1.3, 50.0)
    return Assumptions.model_validate(data)


ON_THE_WAY = ("risk by another policy", "the end of support", "a cohort to come", "lively")
ROUGH = pytest.param("days of grace after it", 0, marks=pytest.mark.xfail(strict=True, reason=GRACE))


@pytest.mark.parametrize(("what", "seed"), [*product(ON_THE_WAY, range(3)), ROUGH])
def test_the_mean_field_where_it_is_rough(what: str, seed: int) -> None:
    """Whatever comes on the way, sums over the days to come are within 10 % of the mean of draws."""
    rng = Random(seed)
    policy = load_policy(rng.choice(["ninety-days", "gentler", "stricter"]))
    case, as_of, risk_by = fleet(200, 100, policy, build=BEHIND), AS_OF, None
    if what == "risk by another policy":
        case, risk_by = lenient(case), policy
    elif what in {"the end of support", "days of grace after it"}:
        policy = load_policy(rng.choice(["ninety-days", "stricter"]) if what == "the end of support" else "gentler")
        case = replace(case, policy=policy)
        as_of = date(2025, 10, 14) - timedelta(days=rng.randrange(60, 200))
    elif what == "a cohort to come":
        later = AS_OF + timedelta(days=rng.randrange(30, 150))
        cohorts = tuple(cohort.model_copy(update={"starts_on": later}) for cohort in policy.cohorts)
        case = replace(case, policy=policy.model_copy(update={"cohorts": cohorts}))
    else:
        as_of = FIRST + timedelta(days=rng.randrange(60, (LAST - FIRST).days))
        case = until(lively(rng), as_of)
        case = replace(case, policy=case.policy.model_copy(update={"exemptions": (), "pause": None}))
    moved = as_of - AS_OF if what != "lively" else timedelta()
    case = replace(case, messages=[replace(each, sent_at=each.sent_at + moved) for each in case.messages])
    try:
        at = stands(case, as_of)
    except LookupError as none_in_sight:
        assert "no server in sight" in str(none_in_sight)  # noqa: PT017 - most of these cases have some
        return
    look = looks(at, case, risk_by=risk_by)
    assumptions, n = returning_as_shipped(seed), 60
    if not look.is_vulnerable.any():
        with pytest.raises(LookupError, match="no server in sight is vulnerable"):
            rollout(at, [("it", look)], assumptions, Trial(n_draws=1))
        return
    drawn = rollout(at, [("it", look)], assumptions, Trial(n_draws=n, seed=seed)).outcomes
    base = None if risk_by is None else fleet_of(replace(case, policy=risk_by), as_of, n_days=365).rules
    known = fleet_of(case, as_of, n_days=365, risk_by=base)
    found = expected(prepare(known, assumptions), stages_of(case)[0])
    for measure in MEASURES:
        sums = drawn[measure][0][:, 1:].sum(axis=1)
        error = 3 * sums.std() / np.sqrt(n)
        assert abs(found[measure][1:].sum() - sums.mean()) <= 0.10 * sums.mean() + error, measure


@pytest.fixture(scope="module")
def busy() -> tuple[Case, Prepared, Prepared]:
    cases = (until(lively(Random(seed)), LAST) for seed in range(50))
    many = (case for case in cases if len({message.server for message in case.messages}) >= 5)
    case = next(case for case in many if fleet_of(case, LAST).n_vulnerable >= 2)
    return (
        case,
        prepare(fleet_of(case, LAST), load_assumptions()),
        prepare(fleet_of(case, LAST, step=7), load_assumptions()),
    )


@pytest.mark.parametrize("name", list(FACTORS))
def test_more_pressure_never_leaves_more_vulnerable(name: str, busy: tuple[Case, Prepared, Prepared]) -> None:
    """A larger factor leaves no more vulnerable servers, on no day."""
    case, prepared, _ = busy
    schedule = stages_of(case)[0]
    exits = Assumptions.model_validate(
        load_assumptions().model_dump() | {"landing": leaves(), "updates_per_year": None, "off": ("updates",)}
    )
    low, high = (
        course(prepare(prepared.fleet, exits.with_value(f"factors.{name}", value)), schedule)[0] for value in (1.2, 6.0)
    )
    assert (high <= low + 1e-9).all()


def test_mail_is_never_more_than_there_is(busy: tuple[Case, Prepared, Prepared]) -> None:
    """No outcome is negative, and delayed, lost and the risk left are parts of the mail of each piece."""
    case, *both = busy
    for prepared in both:
        found = course(prepared, stages_of(case)[0])
        grid = prepared.fleet.grid
        mail = np.add.reduceat(prepared.fleet.mail_a_day, grid.ends - grid.sizes + 1)
        assert (found >= -1e-9).all()
        assert (found[1:] <= mail + 1e-9).all()


def test_many_are_judged_as_each_alone(busy: tuple[Case, Prepared, Prepared]) -> None:
    """Judged together, in threads, schedules come out as one by one; totals are sums over the pieces to come."""
    case, _, prepared = busy
    policies = [case.policy, *map(load_policy, ("ninety-days", "gentler", "stricter", "block-only", "four-steps"))] * 3
    several = stages_of(case, *policies)
    alone = [course(prepared, schedule) for schedule in several]
    np.testing.assert_allclose(courses(prepared, several), alone, rtol=1e-9, atol=1e-9)
    done: list[int] = []
    totals = expected_many(prepared, several, done.append)
    np.testing.assert_allclose(totals.lost, [each[3, 1:].sum() for each in alone], rtol=1e-9)
    np.testing.assert_allclose(totals.accepted_vulnerable, [each[1, 1:].sum() for each in alone], rtol=1e-9, atol=1e-9)
    assert done[-1] == len(several)


@pytest.mark.parametrize("step", [1, 7])
@pytest.mark.parametrize(
    ("stages", "n_days", "n_lost", "highest"),
    [
        ((Stage(days=56, block=60), Stage()), 7, 0, 0.0),  # all is blocked until day 0
        ((Stage(days=63), Stage(block=60)), 10, 90, 0.0),  # and from day 8 on, in no whole week
        ((Stage(days=56), Stage(days=7, block=60), Stage()), 10, 210, 1.0),
        ((Stage(block=60),), 3, 90, 1.0),
    ],
)
def test_day_0_is_past(step: int, stages: tuple[Stage, ...], n_days: int, n_lost: int, highest: float) -> None:
    """Nobody acts, 30 messages a day, servers known for 55 days: totals are those of the days to come, as drawn."""
    case = fleet(30, 10, load_policy("ninety-days").model_copy(update={"stages": stages}), build=BEHIND)
    before = [timedelta(days=days) for days in range(56)]
    daily = [replace(message, sent_at=message.sent_at - ago) for message in case.messages for ago in before]
    case, nobody = replace(case, messages=daily), supposed(hazards=flat(0.0), landing=leaves())
    drawn = rollout(
        stands(case, AS_OF), [("it", looks(stands(case, AS_OF), case, n_days=n_days))], nobody, Trial(n_draws=1)
    )
    of_draws = dict(totals_frame(drawn).select("measure", "mean").iter_rows())
    totals = expected_many(prepare(fleet_of(case, AS_OF, n_days=n_days, step=step), nobody), stages_of(case))
    assert totals.mail == pytest.approx(30 * n_days)
    assert totals.lost[0] == pytest.approx(n_lost, abs=1e-9) == of_draws["lost"]
    assert totals.accepted_vulnerable[0] == pytest.approx(30 * n_days - n_lost) == of_draws["accepted_vulnerable"]
    assert totals.highest_lost_of_a_week[0] == pytest.approx(highest, abs=1e-9)


def test_a_policy_placed_counts_as_vulnerable_what_the_base_does() -> None:
    """Nobody acts: the lenient policy counts the base's vulnerable servers, now and on the way, as its rollout does."""
    case = fleet(30, 10, load_policy("ninety-days"), build=BEHIND)
    placed, nobody = lenient(case), supposed(hazards=flat(0.0), landing=leaves())
    known = fleet_of(placed, AS_OF, n_days=60, risk_by=fleet_of(case, AS_OF, n_days=60).rules)
    look = looks(stands(case, AS_OF), placed, n_days=60, risk_by=case.policy)
    drawn = rollout(stands(case, AS_OF), [("it", look)], nobody, Trial(n_draws=1)).outcomes
    found = expected(prepare(known, nobody), stages_of(placed)[0])
    assert known.n_vulnerable == 30
    np.testing.assert_allclose(found["vulnerable_servers"], drawn["vulnerable_servers"][0, 0])
    assert found["vulnerable_servers"][-1] == pytest.approx(30)


def test_a_coarse_grid_is_near_the_daily_one(busy: tuple[Case, Prepared, Prepared]) -> None:
    """Weeks instead of days move sums, of server-days too, by a few per cent even on a handful of servers."""
    case, daily, weekly = busy
    fine, coarse = (course(prepared, stages_of(case)[0]) for prepared in (daily, weekly))
    coarse[0] *= weekly.fleet.grid.sizes
    np.testing.assert_allclose(coarse.sum(axis=1), fine.sum(axis=1), rtol=0.05, atol=2)


def test_no_policy_delays_nothing(busy: tuple[Case, Prepared, Prepared]) -> None:
    """Under `none` all mail of vulnerable servers is delivered."""
    case, *_ = busy
    prepared = prepare(fleet_of(case, LAST, enforced=False), load_assumptions())
    found = course(prepared, stages_of(case)[0])
    assert found[2].sum() == found[3].sum() == 0
    assert found[1].sum() > 0


def test_the_grid_is_cut_at_half_years() -> None:
    """A rest of less than a week goes to the half-year before; every day is in one piece."""
    grid = Grid.of(365, 7)
    assert grid.sizes.sum() == 366
    assert grid.ends[[part.stop - 1 for part in grid.half_years]].tolist() == [182, 365]
    assert len(Grid.of(400, 1).half_years) == 3


def test_stages_that_never_harm_do_nothing_but_tell() -> None:
    """A policy that only reports delays and loses nothing."""
    case = fleet(30, 10, load_policy("ninety-days"), build=BEHIND)
    mild = case.policy.model_copy(update={"stages": (Stage(days=30), Stage())})
    prepared = prepare(fleet_of(case, AS_OF), load_assumptions())
    found = course(prepared, stages_of(case, mild)[0])
    assert found[2].sum() == found[3].sum() == 0
