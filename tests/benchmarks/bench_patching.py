"""Simulated truth, whole: 200 histories from the priors, estimated and forecast; and how long all of it takes.

Ranges of 90 % must hold the truth in 84 to 96 % for each parameter and in 86 to 94 % of all, forecasts in 86 to 98 %
at week 26. Give a number of histories to run fewer: python tests/benchmarks/bench_patching.py 20
"""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from simulated_patching import CENSORED, END, FULLY, HORIZON, IN_GAPS, WEEKS, holds, simulate

from enforcement.backtest import what_came
from enforcement.hazards import BLOCK_WEEKS, N_CELLS, at_risk, blocks, gaps
from enforcement.patch_forecast import courses, learn, standings_on
from enforcement.patching import WEEK, Histories
from enforcement.posterior import SHAPES, posterior

CASES = {"fully seen": FULLY, "heavily censored": CENSORED, "changes in gaps": IN_GAPS}
N_DRAWS = 1_000


def calibrated(case: str, n_histories: int) -> bool:
    """Print how often ranges of parameters and forecasts hold; tell whether that is as it must be."""
    held, forecast = [], []
    started = time.perf_counter()
    for number in range(n_histories):
        rng = np.random.default_rng([number, list(CASES).index(case)])
        truth = simulate(rng, CASES[case])
        known = truth.history.known_on(END)
        bounds = blocks(END - WEEKS * WEEK, END)
        found = posterior((at_risk if CASES[case].all_changes else gaps)(known, bounds), rng=rng, n_draws=N_DRAWS)
        held.append(np.concatenate([holds(found.rates, truth.rates), holds(found.shapes, truth.shapes)]))
        if CASES[case].all_changes:
            forecast.extend(forecast_holds(truth.history, rng))
    names = [*(f"cell {k}" for k in range(N_CELLS)), *SHAPES]
    share = 100 * np.mean(held, axis=0)
    print(f"{case}: {n_histories} histories, {time.perf_counter() - started:.0f} s")
    print("  " + ", ".join(f"{name} {each:.1f}" for name, each in zip(names, share, strict=True)))
    told = f"  all parameters {share.mean():.1f} % (86 to 94)"
    is_right = 86 <= share.mean() <= 94 and bool(((share >= 84) & (share <= 96)).all())
    if forecast:
        told += f"; forecasts at week {HORIZON} {100 * np.mean(forecast):.1f} % (86 to 98) of {len(forecast)}"
        is_right &= 86 <= 100 * np.mean(forecast) <= 98
    print(told)
    return is_right


def forecast_holds(history: Histories, rng: np.random.Generator) -> list[bool]:
    """Tell whether the 90 % band at the last week holds what came; nothing when too few are in sight."""
    known = history.known_on(END)
    fleet = standings_on(known, END)
    came = what_came(history, fleet, END)
    if came.in_sight[-1].sum() < 8:
        return []
    learnt = learn(known, END, rng=rng, n_draws=300)
    drawn = courses(fleet, learnt, HORIZON, rng=rng, correlation=0.0)[:, -1, came.in_sight[-1]].sum(axis=1)
    low, high = np.quantile(drawn, [0.05, 0.95])
    return [bool(low <= came.vulnerable[-1, came.in_sight[-1]].sum() <= high)]


if __name__ == "__main__":
    assert BLOCK_WEEKS == HORIZON
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    results = [calibrated(case, n) for case in CASES]  # all of them are printed, whatever the first one says
    sys.exit(not all(results))
