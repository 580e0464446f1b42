"""Histories of patching: spells, time at risk, and estimates held against what is known to be true."""

from dataclasses import replace
from datetime import datetime
from math import lgamma, log

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_patching import CENSORED, END, FULLY, IN_GAPS, WEEKS, Observed, holds, simulate

from enforcement.backtest import crps, what_came
from enforcement.hazards import N_CELLS, at_risk, blocks, gaps
from enforcement.patch_forecast import courses, learn, standings_on
from enforcement.patching import NEVER, WEEK, Histories, histories, read_patch_history
from enforcement.posterior import posterior, rate_posterior, shape_log_likelihood
from enforcement.schema import PATCH_HISTORY
from enforcement.shipped import load_catalogue

HEADER = "server,tenant,build,first_seen_at,last_seen_at,messages\n"
# Exchange 2016 CU23 as of May and August 2022: the first misses the second, which misses that of October.
MAY, AUGUST = "15.1.2507.9", "15.1.2507.12"


def of(*rows: tuple[str, str, str]) -> Histories:
    """Make the history of one server: build, first and last day."""
    made = [
        ("a", "t", build, datetime.fromisoformat(first), datetime.fromisoformat(last), 2) for build, first, last in rows
    ]
    return histories(pl.DataFrame(made, schema=PATCH_HISTORY, orient="row"), load_catalogue())


def test_a_change_of_the_missing_update_ends_a_spell() -> None:
    """May's update until August 2022, then August's: one change, 5 weeks after August's update came out."""
    known = of((MAY, "2022-06-01", "2022-09-06"), (AUGUST, "2022-09-13", "2022-10-30"))
    assert known.end.tolist()[0] == known.first.tolist()[1]
    risk = at_risk(known, blocks(known.first[0], known.seen_at.max() + 1))
    events, weeks = risk.by_cell
    assert events.tolist()[:3] == [0, 0, 1]
    # Five weeks with May's build, then 19 days with August's, which misses that of 11 October.
    assert weeks[:3].tolist() == pytest.approx([2 + 2, 2 + 5 / 7, 1])


def test_a_lower_build_later_is_another_machine() -> None:
    """A server stands at the highest build seen so far."""
    known = of((AUGUST, "2022-09-13", "2022-09-14"), (MAY, "2022-09-20", "2022-09-21"))
    assert len(known.server) == 1


def test_what_a_day_knew_holds_nothing_later() -> None:
    """Sightings, changes and updates after a day are gone; what spans it is cut."""
    known = of((MAY, "2022-06-01", "2022-09-06"), (AUGUST, "2022-09-13", "2022-10-30"))
    early = known.known_on(known.first[0] + 10)
    assert len(early.server) == 1
    assert early.end.tolist() == [NEVER]
    assert early.seen_at.max() <= known.first[0] + 10
    assert early.updates.max() <= known.first[0] + 10


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a,t,15.1.1.1,2026-01-02,2026-01-01,1", "h.csv, line 2: last_seen_at 2026-01-01 is before"),
        ("a,t,x,2026-01-02,2026-01-02,1", "h.csv, line 2: not a build number: 'x'"),
        ("a,t,15.1.1.1,soon,2026-01-02,1", "first_seen_at = 'soon': expected a time"),
        ("a,t,15.1.1.1,2026-01-02,2026-01-02,-1", "messages = '-1': expected a whole number"),
        ("a b,t,15.1.1.1,2026-01-02,2026-01-02,1", "not a server name: 'a b'"),
        ("a,t,15.1.1.1,2026-01-02", "expected one value for each column"),
        ("a,t,15.1.1.1,9999-12-31T23:59:59-10:00,2026-01-02,1", "expected a time"),
    ],
)
def test_a_bad_row_is_refused_in_a_line(row: str, said: str) -> None:
    """Errors name file, line, what was found and what was expected."""
    with pytest.raises(ValueError, match=r"^h\.csv") as problem:
        read_patch_history(HEADER + row + "\n", source="h.csv")
    assert said in str(problem.value)


def test_columns_that_lack_are_named() -> None:
    """A table of something else is refused."""
    with pytest.raises(ValueError, match=r"^h\.csv, line 1: expected the columns server,"):
        read_patch_history("a,b\n1,2\n", source="h.csv")


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_time_at_risk_is_what_a_walk_day_by_day_counts(seed: int) -> None:
    """Time in cells and half-years adds up to the days between start and end of each spell, counted one by one."""
    known = simulate(np.random.default_rng(seed), CENSORED, n_tenants=3, largest=2).history.known_on(END)
    bounds = blocks(END - WEEKS * WEEK, END)
    risk = at_risk(known, bounds)
    start = np.maximum(np.maximum(known.first, np.minimum(known.missing, known.unsupported)), bounds[0])
    stop = np.minimum(np.where(known.end < NEVER, known.end, known.last), bounds[-1])
    assert risk.weeks.sum() == pytest.approx(np.maximum(stop - start, 0).sum() / WEEK)
    n_events = sum(
        bounds[0] <= end < bounds[-1] and end >= min(missing, out)
        for end, missing, out in zip(known.end, known.missing, known.unsupported, strict=True)
    )
    assert risk.events.sum() == n_events


def test_without_gaps_both_definitions_are_one() -> None:
    """Changes seen at once: nothing lies in a gap, and both definitions count and estimate the same."""
    known = simulate(np.random.default_rng(1), FULLY, n_tenants=6).history.known_on(END)
    last = np.where(known.end < NEVER, known.end, known.last)
    known = replace(known, last=last)
    bounds = blocks(END - WEEKS * WEEK, END)
    seen, placed = at_risk(known, bounds), gaps(known, bounds)
    assert len(placed.tenant) == 0
    np.testing.assert_array_equal(seen.events, placed.certain.events)
    np.testing.assert_allclose(seen.weeks, placed.certain.weeks, atol=1e-9)
    np.testing.assert_allclose(
        placed.filled(np.full(seen.weeks.shape, 0.05), np.random.default_rng(1)).weeks, seen.weeks, atol=1e-9
    )


def test_without_spread_the_posterior_of_a_rate_is_gamma() -> None:
    """Where every multiplier is 1, drawn rates have mean and variance of the conjugate Gamma posterior."""
    rng = np.random.default_rng(1)
    known = simulate(rng, FULLY, n_tenants=4).history.known_on(END)
    risk = at_risk(known, blocks(END - WEEKS * WEEK, END))
    drawn = posterior(risk, rng=rng, n_draws=4_000, with_multipliers=False).rates
    shape, rate = rate_posterior(*risk.by_cell)
    np.testing.assert_allclose(drawn.mean(axis=0), shape / rate, rtol=0.12)
    np.testing.assert_allclose(drawn.std(axis=0), np.sqrt(shape) / rate, rtol=0.15)


def test_the_likelihood_of_a_shape_is_the_negative_binomial_one() -> None:
    """Up to what does not depend on the shape, it is the logarithm of the textbook's probability."""

    def textbook(a: float, n: int, m: float) -> float:
        return lgamma(a + n) - lgamma(a) - lgamma(n + 1) + a * log(a / (a + m)) + n * log(m / (a + m))

    events, expected = np.array([0.0, 3.0, 7.0]), np.array([0.5, 2.0, 4.0])
    ours = shape_log_likelihood(np.array([0.7, 5.0]), events, expected)
    theirs = [sum(textbook(a, int(n), m) for n, m in zip(events, expected, strict=True)) for a in (0.7, 5.0)]
    assert ours[1] - ours[0] == pytest.approx(theirs[1] - theirs[0])


def test_an_ensemble_is_scored_as_the_definition_says() -> None:
    """CRPS is the mean distance to the truth less half the mean distance between members."""
    rng = np.random.default_rng(1)
    ensemble, truth = rng.random((7, 3)), rng.random(3)
    between = np.abs(ensemble[:, None] - ensemble[None]).mean(axis=(0, 1))
    np.testing.assert_allclose(crps(ensemble, truth), np.abs(ensemble - truth).mean(axis=0) - between / 2)


@pytest.mark.parametrize("seen", [FULLY, CENSORED, IN_GAPS], ids=["fully", "censored", "in gaps"])
def test_ranges_hold_the_truth(seen: Observed) -> None:
    """Of 8 histories x 14 parameters from the priors, 90 % ranges hold 78 to 98 % (whole: benchmarks)."""
    held = []
    for number in range(8):
        rng = np.random.default_rng([7, number])
        truth = simulate(rng, seen, n_tenants=20, largest=6)
        known = truth.history.known_on(END)
        bounds = blocks(END - WEEKS * WEEK, END)
        found = posterior((gaps if seen is IN_GAPS else at_risk)(known, bounds), rng=rng, n_draws=500)
        held += [*holds(found.rates, truth.rates), *holds(found.shapes, truth.shapes)]
    assert len(held) == 8 * (N_CELLS + 3)
    assert 0.78 <= np.mean(held) <= 0.98


def test_a_forecast_without_hazard_keeps_everyone_where_time_puts_them() -> None:
    """With rates of next to nothing servers only age: the share follows from dates alone."""
    known = simulate(np.random.default_rng(3), FULLY, n_tenants=10).history
    fleet = standings_on(known.known_on(END), END)
    learnt = learn(known.known_on(END), END, rng=np.random.default_rng(1), n_draws=10)
    learnt.believed.rates[:] = 0
    drawn = courses(fleet, learnt, 26, rng=np.random.default_rng(2))
    at = END + 5 * WEEK
    surely = (fleet.missing + 90 <= at) | (fleet.unsupported <= at)
    np.testing.assert_array_equal(drawn[:, 4], np.broadcast_to(surely, drawn[:, 4].shape))


def test_what_came_counts_those_in_sight() -> None:
    """A server is scored in the weeks after a sighting, by the last build seen."""
    known = of((MAY, "2022-06-01", "2022-09-06"), (AUGUST, "2022-11-29", "2022-11-30"))
    cut = known.first[0] + 7
    came = what_came(known, standings_on(known.known_on(cut), cut), cut)
    assert np.flatnonzero(came.in_sight[:, 0]).tolist() == [*range(11), *range(12, 26)]
    # August's update is missing for 90 days on 7 November; it is there, but October's missing, from 29 November on.
    assert np.flatnonzero(came.vulnerable[:, 0]).tolist() == [21, 22, 23]
