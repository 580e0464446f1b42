"""Policies against each other, draw by draw: bands of the difference, and in how many draws one has less."""

from datetime import date

import numpy as np
import pytest

from enforcement.rollout import MEASURES, Rollout
from enforcement.rollout_differences import COMPARED, differences_frame, wholes


def rolled(policies: tuple[str, ...], n_draws: int, n_days: int, seed: int = 1) -> Rollout:
    """A rollout of numbers that chance alone gives, a part of them common to all policies."""
    rng = np.random.default_rng(seed)
    shape = (len(policies), n_draws, n_days + 1)
    common = 100 * rng.random((1, n_draws, 1))
    return Rollout(
        policies=policies,
        as_of=date(2026, 3, 1),
        n_days=n_days,
        n_draws=n_draws,
        seed=seed,
        n_servers=50,
        n_tenants=9,
        n_vulnerable=(40,) * len(policies),
        n_vulnerable_tenants=(9,) * len(policies),
        outcomes={measure: common + rng.random(shape) for measure in MEASURES},
        times=np.zeros((len(policies), n_draws, 2)),
    )


def test_differences_are_taken_draw_by_draw() -> None:
    """What both policies share falls out: the band of the difference is not the difference of the bands."""
    of = rolled(("none", "a", "b"), n_draws=101, n_days=10)
    frame = differences_frame(of, "none")
    assert frame.select("policy", "measure").rows() == [(name, measure) for name in ("a", "b") for measure in COMPARED]
    for place, policy in ((1, "a"), (2, "b")):
        lost = of.outcomes["lost"][:, :, 1:].sum(axis=2)
        less = np.sort(lost[place] - lost[0])
        row = frame.filter(policy=policy, measure="lost").row(0, named=True)
        # The quantiles of 101 draws are draws: the 6th, 26th, 51st, 76th and 96th.
        found = [row[name] for name in ("low_90", "low_50", "median", "high_50", "high_90")]
        assert found == pytest.approx(less[[5, 25, 50, 75, 95]].tolist())
        assert row["mean"] == pytest.approx(less.mean())
        assert row["share_of_draws"] == (less < 0).mean()
        assert row["high_90"] - row["low_90"] < 0.1 * (np.quantile(lost[place], 0.95) - np.quantile(lost[place], 0.05))


def test_what_counts_of_each_measure() -> None:
    """Messages of all days to come, not of the first; tenants on the day with most; servers on the last day."""
    of = rolled(("a",), n_draws=3, n_days=2)
    whole = wholes(of)
    assert whole["delayed"][0].tolist() == (of.outcomes["delayed"][0, :, 1] + of.outcomes["delayed"][0, :, 2]).tolist()
    assert whole["tenants_hit"][0].tolist() == of.outcomes["tenants_hit"][0, :, 1:].max(axis=1).tolist()
    assert whole["vulnerable_servers"][0].tolist() == of.outcomes["vulnerable_servers"][0, :, 2].tolist()


def test_ties_count_half() -> None:
    """A policy that changes nothing has less in half of the draws."""
    of = rolled(("a", "b"), n_draws=5, n_days=3)
    for values in of.outcomes.values():
        values[1] = values[0]
    assert set(differences_frame(of, "a")["share_of_draws"]) == {0.5}
    assert differences_frame(rolled(("a",), n_draws=2, n_days=1), "a").is_empty()
