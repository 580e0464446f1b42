"""The rollout beside closed forms, and what must hold of its draws whatever the numbers."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from random import Random
from typing import Any

import numpy as np
import pytest
from agreement import Case
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_clock import Message
from test_rollout import looks, stands

from enforcement.acts import summed
from enforcement.assumptions import Assumptions
from enforcement.lives import _acts, _Wait
from enforcement.outlook import Outlook
from enforcement.policy import Policy, Stage
from enforcement.pressure import FAR, _ends
from enforcement.response import kept_after, kept_after_history
from enforcement.rollout import Rollout, Trial, rollout
from enforcement.shipped import load_assumptions, load_policy
from enforcement.standpoint import Standpoint

AS_OF = date(2024, 3, 1)
BEHIND = "15.1.2507.27"  # 2016 CU23 of June 2023, in support until 2025-10-14
OLD = "15.0.1497.42"  # 2013, out of support since 2023-04-12


def fleet(n_servers: int, n_tenants: int, policy: Policy, *, build: str = OLD) -> Case:
    """Servers first seen on the day of the forecast: their clocks begin that day."""
    servers = {f"mx{number}.t{number % n_tenants}.example": f"t{number % n_tenants}.example"
               for number in range(n_servers)}  # fmt: skip
    noon = datetime.combine(AS_OF, datetime.min.time()) + timedelta(hours=12)
    return Case(messages=[Message(noon, server, build) for server in servers], servers=servers, policy=policy)


def supposed(**parts: Any) -> Assumptions:
    """Assumptions of which all is off but some parts."""
    data = load_assumptions().model_dump() | dict.fromkeys(["hazards", "retirement", "factors", "multipliers"])
    data |= dict.fromkeys(["pauses", "landing", "patience_correlation", "never_responds", "updates_per_year"])
    return Assumptions.model_validate(data | parts)


def exact(value: float) -> dict[str, Any]:
    return {"value": value, "source": "guess"}


def flat(rate_per_week: float) -> dict[str, Any]:
    cell = {"from_weeks": 0, "rate_per_week": rate_per_week, "source": "guess"}
    return {"supported": [cell], "unsupported": [cell]}


def leaves() -> dict[str, Any]:
    """All who act get a supported build that misses nothing."""
    return {
        "ages": [{"weeks": 0, "share": 1.0, "source": "guess"}],
        "supported_leave_product": exact(0.0),
        "unsupported_leave_product": exact(0.999),
    }


def run(at: Standpoint, look: Outlook, assumptions: Assumptions, **trial: int) -> Rollout:
    return rollout(at, [("it", look)], assumptions, Trial(**trial))


@pytest.mark.parametrize("seed", range(20))
def test_the_mean_is_that_of_the_closed_form(seed: int) -> None:
    """Of 20 fleets, those still vulnerable are as many as a Gamma multiplier of known or unknown history leaves."""
    rng = Random(seed)
    case = fleet(rng.randrange(30, 80), rng.randrange(10, 25), load_policy(rng.choice(["ninety-days", "block-only"])),
                 build=BEHIND)  # fmt: skip
    at = stands(case, AS_OF)
    look = looks(at, case, n_days=180)
    rate, shape, events, expected = rng.uniform(0.02, 0.2), rng.uniform(0.7, 5), rng.randrange(6), rng.uniform(0.5, 5)
    is_known = bool(seed % 2)  # Gamma(a + N, a + E) is (a + N) / (a + E) times one of mean 1 and shape a + N
    of_mean_1 = shape + events if is_known else shape
    scale = of_mean_1 / (shape + expected) if is_known else 1.0
    which = rng.choice(["tenant_shape", "tenant_half_year_shape", "common_half_year_shape"])
    off = ["tenant_shape", "tenant_half_year_shape", "common_half_year_shape"]
    off.remove(which)
    factors = dict(zip(("noticed", "throttled", "partly_blocked", "fully_blocked"), (1.5, 2.0, 3.0, 5.0), strict=True))
    assumptions = supposed(
        hazards=flat(rate * scale),
        factors={name: exact(value) for name, value in factors.items()},
        multipliers={which: exact(of_mean_1)},
        landing=leaves(),
        off=tuple(f"multipliers.{name}" for name in off),
    )
    found = run(at, look, assumptions, n_draws=400, seed=seed).outcomes["vulnerable_servers"][0]
    # What a server meets on day t, its clock at t: worked out from the stages alone.
    hazard = np.zeros(181)
    for day in range(1, 181):
        phase = str(case.policy.phases[case.policy.stage_at(day)])
        measure = {"report": "noticed", "throttle": "throttled", "block all": "fully_blocked"}.get(
            phase, "partly_blocked"
        )
        hazard[day] = hazard[day - 1] + rate / 7 * factors[measure]
    kept = kept_after_history(hazard, shape=shape, n_events=events, expected_events=expected)
    share = kept if is_known else kept_after(hazard, shape=shape)
    # Where fewer than 20 are expected in all draws, their own spread says little of the error.
    told = [day for day in (10, 45, 90, 180) if len(case.servers) * share[day] * len(found) >= 20]
    assert len(told) >= 2
    for day in told:
        error = found[:, day].std(ddof=1) / np.sqrt(len(found))
        assert abs(found[:, day].mean() - len(case.servers) * share[day]) <= 3 * error + 1e-9, day


days = st.integers(-40, 25)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_more_pressure_never_delays_an_act(data: st.DataObject) -> None:
    """Where what is met is at least as hard on every day, no server acts later, and as a sum day by day says."""
    n = 30
    low = np.array([data.draw(st.lists(st.integers(0, 4), min_size=n + 1, max_size=n + 1))], dtype=np.int8)
    more = np.array([data.draw(st.lists(st.integers(0, 2), min_size=n + 1, max_size=n + 1))], dtype=np.int8)
    high = np.minimum(low + more, 4).astype(np.int8)
    since, ended = data.draw(days), data.draw(days | st.just(FAR))
    seen = data.draw(st.integers(-10, 0))
    factors = np.cumsum([1.0, *(data.draw(st.floats(0, 3)) for _ in range(4))])
    rates = st.floats(0, 0.5)
    sums = np.stack([summed(np.array([0, 7]), np.array([data.draw(rates), data.draw(rates)]), n_days=120)
                     for _ in range(2)])  # fmt: skip
    people = np.array([[data.draw(st.floats(0.01, 5))]])
    by = (sums, factors, people, np.array([182]), 0, FAR)
    patience = data.draw(st.floats(0.001, 6))
    acts = []
    for levels in (low, high):
        ends = _ends(levels)
        pieces = np.take_along_axis(levels, ends.T, axis=1).astype(np.int64)
        wait = _Wait(since, ended, seen, 0, 0, 0, 0, 0)
        acts.append(_acts(wait, patience, np.ascontiguousarray(ends.T), pieces, *by))
        slow = plainly(levels[0], (since, ended, seen), patience, by)
        assert slow is None or acts[-1] == slow
    assert acts[1] <= acts[0]


def plainly(levels: Any, dates: tuple[int, int, int], patience: float, by: Any) -> int | None:
    """Add up day by day; None where the sum comes so near that the last bits decide."""
    met, (since, ended, seen), (sums, factors, people, *_) = 0.0, dates, by
    for day in range(seen + 1, len(levels)):
        age = day - (ended if day >= ended else since)
        of = sums[int(day >= ended)]
        rate = float(of[age + 1] - of[age]) if age >= 0 else 0.0
        met += rate * float(factors[levels[day]] if day > 0 else 1.0) * float(people[0, 0])
        if abs(met - patience) < 1e-9:
            return None
        if met >= patience and rate > 0:
            return day
    return FAR


def longer_first_stage() -> Policy:
    policy = load_policy("ninety-days")
    return policy.model_copy(update={"stages": (Stage(days=37), *policy.stages[1:])})


def test_shared_draws_make_differences_sharp() -> None:
    """Between `ninety-days` and a first stage of 37 days, draws in common leave a tenth of the variance or less."""
    case = fleet(300, 150, load_policy("ninety-days"))
    at = stands(case, AS_OF)
    both = [("a", looks(at, case, n_days=90)), ("b", looks(at, replace(case, policy=longer_first_stage()), n_days=90))]
    shared = rollout(at, both, load_assumptions(), Trial(n_draws=300, seed=1)).outcomes["vulnerable_servers"][:, :, 90]
    apart = rollout(at, both, load_assumptions(), Trial(n_draws=300, seed=2)).outcomes["vulnerable_servers"][:, :, 90]
    assert np.var(shared[0] - shared[1]) <= 0.1 * np.var(shared[0] - apart[1])
    assert shared[0].mean() < shared[1].mean()


def test_a_part_of_the_draws_is_that_part_of_the_whole() -> None:
    """Fewer draws, one thread, another policy beside: the same numbers, bit for bit."""
    case = fleet(60, 20, load_policy("gentler"))
    at = stands(case, AS_OF)
    look = looks(at, case, n_days=200)
    whole = run(at, look, load_assumptions(), n_draws=7, seed=5)
    part = rollout(at, [("other", looks(at, case, n_days=200, enforced=False)), ("it", look)], load_assumptions(),
                   Trial(n_draws=4, seed=5, threads=1))  # fmt: skip
    for measure, values in whole.outcomes.items():
        np.testing.assert_array_equal(values[0, :4], part.outcomes[measure][1])
    np.testing.assert_array_equal(whole.times[0, :4], part.times[1])


def test_nothing_enforced_touches_no_mail() -> None:
    """Under none nothing is delayed or lost and nobody hit, and what is vulnerable is delivered."""
    case = fleet(40, 10, load_policy("ninety-days"))
    at = stands(case, AS_OF)
    found = run(at, looks(at, case, n_days=50, enforced=False), load_assumptions(), n_draws=3).outcomes
    for measure in ("delayed", "lost", "tenants_hit"):
        assert not found[measure].any()
    assert found["vulnerable_servers"][0, :, 0].tolist() == [40, 40, 40]


def test_bad_questions_get_a_clear_line() -> None:
    """No vulnerable server, no day to forecast, no draw: each is said in one line."""
    case = fleet(5, 5, load_policy("ninety-days"), build="15.2.2562.37")
    at = stands(case, AS_OF)
    with pytest.raises(LookupError, match="no server in sight is vulnerable on 2024-03-01"):
        run(at, looks(at, case, n_days=30), load_assumptions(), n_draws=2)
    with pytest.raises(ValueError, match=r"a forecast of 0 days \(expected 1 or more\)"):
        looks(at, case, n_days=0)
    old = fleet(5, 5, load_policy("ninety-days"))
    with pytest.raises(ValueError, match=r"0 draws \(expected 1 or more\)"):
        run(stands(old, AS_OF), looks(stands(old, AS_OF), old, n_days=30), load_assumptions(), n_draws=0)
    with pytest.raises(LookupError, match="no server in sight on 2025-03-01"):
        stands(old, date(2025, 3, 1))
