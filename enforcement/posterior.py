"""What a history says of rates and multipliers together: draws from their joint posterior, by Gibbs sampling.

Changes of tenant j in half-year b and cell k are Poisson with mean h_k z_j w_jb g_b T_jbk. The rates h and the
multipliers z (tenant, lasting), w (tenant and half-year) and g (half-year, common to all) have Gamma priors, so each
is Gamma given the others; each Gamma shape is drawn on a grid with its multipliers integrated out (negative binomial).
Estimating all of it at once keeps the ranges of rates honest: changes of one tenant come together.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from enforcement.chance import Floats, Ints
from enforcement.gamma import gamma_draws
from enforcement.hazards import PRIOR_EVENTS, PRIOR_WEEKS, Gaps, Risk

SHAPES: Final = ("tenant", "tenant_half_year", "common_half_year")
# Priors of the Gamma shapes: log-normal with these medians and standard deviation 1 of the logarithm. Guesses.
PRIOR_MEDIANS: Final = (3.0, 2.0, 4.0)
PRIOR_SD: Final = 1.0
GRID: Final = np.exp(np.linspace(np.log(0.1), np.log(100.0), 60))
_BURN_IN: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """Draws, one a row. rates: a week, of the last era; tenant: z; shapes: in the order of SHAPES."""

    rates: Floats
    tenant: Floats
    shapes: Floats


@dataclass(slots=True)
class _State:
    rates: Floats  # (eras, cells)
    z: Floats  # (tenants,)
    w: Floats  # (pairs,)
    g: Floats  # (blocks,)
    shapes: Floats  # (3,)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    """The same as Risk for those tenants and half-years that were at risk, a pair each."""

    tenant: Ints
    block: Ints
    era: Ints
    events: Floats  # (pairs, cells)
    weeks: Floats  # (pairs, cells)
    n_tenants: int
    n_blocks: int
    n_eras: int


def posterior(
    risk: Risk | Gaps,
    *,
    rng: np.random.Generator,
    n_draws: int,
    recent_blocks: int | None = None,
    with_multipliers: bool = True,
) -> Posterior:
    """Draw rates, lasting multipliers and shapes given changes and time at risk.

    Where changes lie in gaps, when they happened is drawn along with the rest. With `recent_blocks` the rates are those
    of so many last half-years; older ones have rates of their own, and tell of multipliers only. Without multipliers
    all of them are 1, and rates are Gamma.

    >>> risk = Risk(events=np.full((3, 2, 11), 4.0), weeks=np.full((3, 2, 11), 100.0))
    >>> found = posterior(risk, rng=np.random.default_rng(1), n_draws=100)
    >>> found.rates.shape, found.tenant.shape, found.shapes.shape
    ((100, 11), (100, 3), (100, 3))
    """
    first = risk if isinstance(risk, Risk) else risk.filled(np.full(risk.certain.weeks.shape, 0.04), rng)
    counts = _counts(first, recent_blocks, reached=None if isinstance(risk, Risk) else risk)
    state = _State(
        rates=np.full((counts.n_eras, counts.weeks.shape[1]), 0.04),
        z=np.ones(counts.n_tenants),
        w=np.ones(len(counts.tenant)),
        g=np.ones(counts.n_blocks),
        shapes=np.array(PRIOR_MEDIANS),
    )
    burn_in = int(_BURN_IN * n_draws)
    rising = tuple(_log_rising(GRID, n) for n in _grouped(counts))
    rates = np.empty((n_draws, counts.weeks.shape[1]))
    tenant, shapes = np.empty((n_draws, counts.n_tenants)), np.empty((n_draws, len(SHAPES)))
    for number in range(-burn_in, n_draws):
        if isinstance(risk, Gaps):
            counts = _refilled(counts, risk, state, rng)
            rising = tuple(_log_rising(GRID, n) for n in _grouped(counts))
        _draw_rates(state, counts, rng)
        if with_multipliers:
            _draw_multipliers(state, counts, rising, rng)
        if number >= 0:
            rates[number], tenant[number], shapes[number] = state.rates[-1], state.z, state.shapes
    return Posterior(rates=rates, tenant=tenant, shapes=shapes)


def range90(draws: Floats) -> tuple[Floats, Floats, Floats]:
    """Give median and 90 % range of each column of draws.

    >>> [end.tolist() for end in range90(np.arange(101.0)[:, None])]
    [[50.0], [5.0], [95.0]]
    """
    low, middle, high = np.quantile(draws, [0.05, 0.5, 0.95], axis=0)
    return middle, low, high


def rate_posterior(events: Floats, weeks: Floats) -> tuple[Floats, Floats]:
    """Give shape and rate of the Gamma posterior of rates a week where nothing comes together.

    >>> rate_posterior(np.array([3.0]), np.array([87.5]))
    (array([3.5]), array([100.]))
    """
    return events + PRIOR_EVENTS, weeks + PRIOR_WEEKS


def shape_log_likelihood(shapes: Floats, events: Floats, expected: Floats) -> Floats:
    """Give the negative binomial log-likelihood of each shape: counts whose means have a Gamma multiplier of mean 1.

    Without what does not depend on the shape.

    >>> shape_log_likelihood(np.array([1.0]), np.array([0.0]), np.array([1.0])).round(6).tolist()
    [-0.693147]
    """
    return _log_rising(shapes, events) + _log_dampened(shapes, events, expected)


def _counts(risk: Risk, recent_blocks: int | None, *, reached: Gaps | None) -> _Counts:
    is_there = risk.weeks.sum(axis=2) + risk.events.sum(axis=2) > 0
    if reached is not None:  # a gap reaches into half-years in which nothing has been drawn yet
        in_gaps = np.zeros_like(risk.weeks).reshape(len(is_there), -1)
        np.add.at(in_gaps, reached.tenant, reached.weeks)
        is_there |= in_gaps.reshape(risk.weeks.shape).sum(axis=2) > 0
    tenant, block = np.nonzero(is_there)
    n_tenants, n_blocks, _ = risk.weeks.shape
    n_old = max(0, n_blocks - recent_blocks) if recent_blocks else 0
    era = (block >= n_old).astype(np.int64) if n_old else np.zeros(len(block), dtype=np.int64)
    return _Counts(
        tenant=tenant,
        block=block,
        era=era,
        events=risk.events[tenant, block],
        weeks=risk.weeks[tenant, block],
        n_tenants=n_tenants,
        n_blocks=n_blocks,
        n_eras=2 if n_old else 1,
    )


def _refilled(counts: _Counts, gaps: Gaps, state: _State, rng: np.random.Generator) -> _Counts:
    """Draw anew when the changes in gaps happened; pairs of tenant and half-year stay those that could be at risk."""
    multipliers = np.ones((counts.n_tenants, counts.n_blocks))
    multipliers[counts.tenant, counts.block] = state.w
    multipliers *= state.z[:, None] * state.g
    eras = np.zeros(counts.n_blocks, dtype=np.int64)
    eras[counts.block] = counts.era
    filled = gaps.filled(multipliers[:, :, None] * state.rates[eras][None], rng)
    return replace(
        counts,
        events=filled.events[counts.tenant, counts.block],
        weeks=filled.weeks[counts.tenant, counts.block],
    )


def _grouped(counts: _Counts) -> tuple[Floats, Floats, Floats]:
    """Count changes by tenant, by pair, and by half-year."""
    of_pair = counts.events.sum(axis=1)
    return (
        _summed(counts.tenant, of_pair, counts.n_tenants),
        of_pair,
        _summed(counts.block, of_pair, counts.n_blocks),
    )


def _summed(at: Ints, values: Floats, n: int) -> Floats:
    return np.bincount(at, values, minlength=n).astype(np.float64)


def _draw_rates(state: _State, counts: _Counts, rng: np.random.Generator) -> None:
    """Draw rates given multipliers."""
    together = state.z[counts.tenant] * state.w * state.g[counts.block]
    for era in range(counts.n_eras):
        is_in = counts.era == era
        shape, rate = rate_posterior(counts.events[is_in].sum(axis=0), together[is_in] @ counts.weeks[is_in])
        state.rates[era] = gamma_draws(shape, rng) / rate


def _draw_multipliers(state: _State, counts: _Counts, rising: tuple[Floats, ...], rng: np.random.Generator) -> None:
    """Draw each shape with its multipliers integrated out, then these, given the rest."""
    of_tenant, of_pair, of_block = _grouped(counts)
    expected = np.einsum("pk,pk->p", counts.weeks, state.rates[counts.era])
    for place, (n, at, size) in enumerate((
        (of_tenant, counts.tenant, counts.n_tenants),
        (of_pair, None, len(of_pair)),
        (of_block, counts.block, counts.n_blocks),
    )):  # fmt: skip
        others = expected * (1 if place == 0 else state.z[counts.tenant])
        others = others * (1 if place == 1 else state.w) * (1 if place == 2 else state.g[counts.block])
        mean = others if at is None else _summed(at, others, size)
        drawn = _drawn_shape(place, rising[place], n, mean, rng)
        multipliers = gamma_draws(drawn + n, rng) / (drawn + mean)
        state.shapes[place] = drawn
        if place == 0:
            state.z = multipliers
        elif place == 1:
            state.w = multipliers
        else:
            state.g = multipliers


def _drawn_shape(place: int, rising: Floats, events: Floats, mean: Floats, rng: np.random.Generator) -> float:
    counted = mean > 0
    logs = rising + _log_dampened(GRID, events[counted], mean[counted])
    logs -= (np.log(GRID / PRIOR_MEDIANS[place]) / PRIOR_SD) ** 2 / 2  # the grid is even in the logarithm
    cumulated = np.cumsum(np.exp(logs - logs.max()))
    chosen = int(np.searchsorted(cumulated, rng.random() * cumulated[-1]))
    return float(GRID[chosen] * np.exp((rng.random() - 0.5) * _GRID_STEP))


_GRID_STEP: Final = float(np.log(GRID[1] / GRID[0]))


def _log_rising(shapes: Floats, events: Floats) -> Floats:
    """Sum log Γ(shape + n) - log Γ(shape) over counts, for each shape."""
    most = int(events.max(initial=0))
    terms = np.log(shapes[:, None] + np.arange(most)[None, :])
    at_least = (events[:, None] > np.arange(most)[None, :]).sum(axis=0)
    return terms @ at_least


def _log_dampened(shapes: Floats, events: Floats, expected: Floats) -> Floats:
    a = shapes[:, None]
    return (a * np.log(a) - (a + events) * np.log(a + expected)).sum(axis=1)
