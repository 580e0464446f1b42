"""Draws: shared, the same in parts as whole, of the distributions that the assumptions say."""

from dataclasses import fields
from datetime import date

import numpy as np
import pytest

from enforcement.assumption_values import Figure
from enforcement.chance import Floats, Ints, stream
from enforcement.gamma import gamma_draws
from enforcement.lives import LANDING, LEAVING, RETIRING, _patience_of, _uniform
from enforcement.luck import luck
from enforcement.response import Size, draw, kept_after
from enforcement.shipped import load_assumptions

AS_OF = date(2026, 9, 1)
SIZE = Size(n_draws=400, n_tenants=30, horizon_days=365)
WHOLE = draw(load_assumptions(), SIZE, as_of=AS_OF, seed=3)


def test_a_part_is_that_part_of_the_whole() -> None:
    """Draws 100 to 130 drawn alone are bit for bit those of all draws, the keys of servers' numbers included."""
    part = draw(load_assumptions(), SIZE, as_of=AS_OF, seed=3, draws=slice(100, 130))
    for field in fields(part):
        whole, alone = getattr(WHOLE, field.name), getattr(part, field.name)
        if isinstance(alone, np.ndarray) and len(whole) == SIZE.n_draws:
            np.testing.assert_array_equal(whole[100:130], alone, err_msg=field.name)
    assert [each.tolist() for each in WHOLE.updates[100:130]] == [each.tolist() for each in part.updates]


def patience(tenants: Ints, round_: int) -> Floats:
    """The patience of servers in all draws: (draws, servers)."""
    odds = [luck(WHOLE, row, n_days=10, oldest=20).odds for row in range(SIZE.n_draws)]
    is_alone = (np.bincount(tenants) == 1)[tenants]
    return np.array([
        [_patience_of(of, server, tenant, round_, bool(is_alone[server])) for server, tenant in enumerate(tenants)]
        for of in odds
    ])  # fmt: skip


def test_numbers_of_servers_are_even_and_apart() -> None:
    """Of every purpose, round, server and draw: even between 0 and 1, and of no others' kind."""
    keys = WHOLE.keys[:20]
    drawn = np.array([[[[_uniform(key, lot, round_, who) for who in range(200)] for round_ in (0, 1, 2**10)]
                       for lot in (LANDING, LEAVING, RETIRING)] for key in keys])  # fmt: skip
    assert drawn.min() > 0
    assert drawn.max() < 1
    count = np.histogram(drawn, bins=20, range=(0, 1))[0]
    assert ((count - drawn.size / 20) ** 2 / (drawn.size / 20)).sum() < 43.8  # chi-squared, 19 degrees: 0.999
    most = 4 / np.sqrt(drawn.size)
    for axis in range(4):
        pairs = (
            np.take(drawn, range(1, drawn.shape[axis]), axis=axis),
            np.take(drawn, range(drawn.shape[axis] - 1), axis=axis),
        )
        assert abs(np.corrcoef(pairs[0].ravel(), pairs[1].ravel())[0, 1]) < most * 1.5


def test_patience_is_exponential_and_alike_within_tenants() -> None:
    """Patience has mean 1 and a third of it lasts past log 3; servers of a tenant are correlated; 2 % never respond."""
    taken = patience(np.repeat(np.arange(30), 4), 0)
    responds = np.isfinite(taken)
    assert 0.95 < responds.mean() < 0.999
    assert taken[responds].mean() == pytest.approx(1, abs=0.03)
    assert (taken > np.log(3)).mean() == pytest.approx(1 / 3 * 0.98 + 0.02, abs=0.01)
    both = responds[:, 0] & responds[:, 1] & responds[:, 4]
    within = np.corrcoef(taken[both, 0], taken[both, 1])[0, 1]
    across = np.corrcoef(taken[both, 0], taken[both, 4])[0, 1]
    assert within > 0.25 > abs(across)
    # Whoever never responds does so in every round.
    np.testing.assert_array_equal(np.isinf(taken), np.isinf(patience(np.repeat(np.arange(30), 4), 2)))


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


@pytest.mark.parametrize("shape", [0.4, 1.0, 3.3])
def test_the_squeeze_takes_what_the_logarithms_take(shape: float) -> None:
    """The same numbers as by the rule of Marsaglia and Tsang without its short cut."""
    n = 20_000
    rng, d = stream(5), shape + (shape < 1) - 1 / 3
    plain, left = np.empty(n), np.arange(n)
    while len(left):
        z, u = rng.standard_normal(len(left)), rng.random(len(left))
        v = (1 + z / np.sqrt(9 * d)) ** 3
        with np.errstate(divide="ignore", invalid="ignore"):
            is_taken = (v > 0) & (np.log(u) < z * z / 2 + d * (1 - v + np.log(v)))
        plain[left[is_taken]] = d * v[is_taken]
        left = left[~is_taken]
    if shape < 1:
        plain *= rng.random(n) ** (1 / shape)
    np.testing.assert_allclose(gamma_draws(np.full(n, shape), stream(5)), plain, rtol=1e-9)
