"""Draws: shared, the same in parts as whole, of the distributions that the assumptions say."""

from dataclasses import fields
from datetime import date

import numpy as np
import pytest

from enforcement.assumption_values import Figure
from enforcement.response import Size, draw, kept_after, landing, leaving, patience, retirement_patience
from enforcement.shipped import load_assumptions

AS_OF = date(2026, 9, 1)
SIZE = Size(n_draws=400, n_tenants=30, horizon_days=365)
WHOLE = draw(load_assumptions(), SIZE, as_of=AS_OF, seed=3)


def test_a_part_is_that_part_of_the_whole() -> None:
    """Draws 100 to 130 drawn alone are bit for bit those of all draws, patience included."""
    part = draw(load_assumptions(), SIZE, as_of=AS_OF, seed=3, draws=slice(100, 130))
    for field in fields(part):
        whole, alone = getattr(WHOLE, field.name), getattr(part, field.name)
        if isinstance(alone, np.ndarray) and len(whole) == SIZE.n_draws:
            np.testing.assert_array_equal(whole[100:130], alone, err_msg=field.name)
    assert [each.tolist() for each in WHOLE.updates[100:130]] == [each.tolist() for each in part.updates]
    tenants = np.arange(50) % 30
    np.testing.assert_array_equal(patience(WHOLE, tenants, 1)[100:130], patience(part, tenants, 1))
    for drawn in (landing, leaving, retirement_patience):
        np.testing.assert_array_equal(drawn(WHOLE, 20, 0)[100:130], drawn(part, 20, 0))


def test_patience_is_exponential_and_alike_within_tenants() -> None:
    """Patience has mean 1 and a third of it lasts past log 3; servers of a tenant are correlated; 2 % never respond."""
    taken = patience(WHOLE, np.repeat(np.arange(30), 4), 0)
    responds = np.isfinite(taken)
    assert 0.95 < responds.mean() < 0.999
    assert taken[responds].mean() == pytest.approx(1, abs=0.03)
    assert (taken > np.log(3)).mean() == pytest.approx(1 / 3 * 0.98 + 0.02, abs=0.01)
    both = responds[:, 0] & responds[:, 1] & responds[:, 4]
    within = np.corrcoef(taken[both, 0], taken[both, 1])[0, 1]
    across = np.corrcoef(taken[both, 0], taken[both, 4])[0, 1]
    assert within > 0.25 > abs(across)
    # Whoever never responds does so in every round.
    np.testing.assert_array_equal(np.isinf(taken), np.isinf(patience(WHOLE, np.repeat(np.arange(30), 4), 2)))


def test_multipliers_have_mean_1_and_keep_what_the_closed_form_says() -> None:
    """The mean of exp(-z H) over drawn multipliers is the closed form."""
    assumed = load_assumptions().with_value("multipliers.tenant_shape", 2.0)
    drawn = draw(assumed, Size(n_draws=400, n_tenants=200, horizon_days=30), as_of=AS_OF, seed=5).tenant
    assert drawn.mean() == pytest.approx(1, abs=0.01)
    hazard = np.array([0.1, 1.0, 3.0])
    kept = np.exp(-hazard[:, None, None] * drawn).mean(axis=(1, 2))
    np.testing.assert_allclose(kept, kept_after(hazard, shape=2.0), atol=0.01)


def test_rates_are_as_alike_as_the_file_says() -> None:
    """Rates of one draw go up and down together, across states, each within its own range; without, by themselves."""
    assumed = load_assumptions()
    assert assumed.hazards is not None
    counted = assumed.hazards.supported[0].model_copy(update={"low": None, "high": None})
    mixed = assumed.hazards.model_copy(update={"supported": (counted, *assumed.hazards.supported[1:])})
    for alike in (0.0, 0.6):
        figure = Figure(value=alike, source="guess")
        hazards = mixed.model_copy(update={"rate_correlation": figure if alike else None})
        size = Size(n_draws=2_000, n_tenants=1, horizon_days=7)
        drawn = draw(assumed.model_copy(update={"hazards": hazards}), size, as_of=AS_OF, seed=3).hazards
        rates = np.concatenate([drawn.supported, drawn.unsupported], axis=1)
        pairs = np.corrcoef(np.log(rates), rowvar=False)[np.triu_indices(rates.shape[1], 1)]
        np.testing.assert_allclose(pairs, alike, atol=0.1)
        below, above = np.quantile(rates * 7, [0.05, 0.95], axis=0)
        for place, cell in enumerate((*hazards.supported, *hazards.unsupported)):
            np.testing.assert_allclose([below[place], above[place]], cell.figure.range90, rtol=0.12)


def test_factors_never_fall() -> None:
    """In every draw a harder measure has at least the factor of a milder one, and nothing has 1."""
    assert (WHOLE.factors[:, 0] == 1).all()
    assert (np.diff(WHOLE.factors, axis=1) >= 0).all()
