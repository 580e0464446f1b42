"""Calibration: what a written file says is what the history says, put together."""

from datetime import date

import numpy as np
import pytest
from simulated_patching import CENSORED, END, simulate

from enforcement.assumptions import parse_assumptions
from enforcement.assumptions_text import assumptions_text
from enforcement.calibrate import assumptions_of, calibrate
from enforcement.response import Size, draw
from enforcement.shipped import load_assumptions


@pytest.mark.parametrize("number", [0, 1, 2])
def test_rates_drawn_from_a_file_spread_as_the_posterior_does(number: int) -> None:
    """The mean rate over the servers' time varies as much, within 20 %, as where rates are estimated together."""
    truth = simulate(np.random.default_rng([3, number]), CENSORED)
    found = calibrate(truth.history.known_on(END))
    text = assumptions_text(assumptions_of(found, load_assumptions(), history="made up"))
    made = parse_assumptions(text, source="mine.toml")
    size = Size(n_draws=2_000, n_tenants=1, horizon_days=7)
    drawn = draw(made, size, as_of=date(2026, 1, 1), seed=1).hazards
    believed, by_file = (
        rates @ found.server_weeks
        for rates in (found.believed.rates, np.concatenate([drawn.supported, drawn.unsupported], axis=1))
    )
    assert by_file.std() / by_file.mean() == pytest.approx(believed.std() / believed.mean(), rel=0.2)
