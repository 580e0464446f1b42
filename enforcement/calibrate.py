"""How fast people patch, estimated from sightings: an assumptions file with what its numbers rest on."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Final

import numpy as np

from enforcement.assumption_values import Cell, Figure
from enforcement.assumptions import Assumptions, Landing, LandingAge, Multipliers, Rates
from enforcement.chance import Floats, stream
from enforcement.hazards import (
    N_CELLS,
    N_SUPPORTED,
    SUPPORTED_WEEKS,
    UNSUPPORTED_WEEKS,
    Risk,
    at_risk,
    blocks,
    gaps,
)
from enforcement.patch_forecast import MULTIPLIERS_FROM, Landings, landings
from enforcement.patching import NEVER, WEEK, Histories
from enforcement.posterior import SHAPES, Posterior, posterior, range90
from enforcement.schema import day_from_number, day_number

FEWEST_EVENTS: Final = 30
FEWEST_OF_CELL: Final = 5  # with fewer, a rate is more of the prior than of the data
N_DRAWS: Final = 2_000
DATA: Final = "data"
_A_CHANGE: Final = 0.05  # what is written 0.0 is none
# Ages on arrival, in weeks: 0 is nothing missing; the others stand for spans that end at these weeks.
_AGES: Final = (0, 1, 3, 8, 19, 39, 78)
_AGES_UNTIL: Final = (2.0, 4.0, 13.0, 26.0, 52.0)
_UPDATES_FROM_WEEKS: Final = 260
_LEAST_UPDATES_WEEKS: Final = 26  # a rate counted in less than that says nothing
_LEAST_RATE: Final = 1e-12  # a week: draws of a rate without events come down to nothing, which has no logarithm
_WEEKS_PER_YEAR: Final = 365.25 / 7
_Z: Final = 1.6448536269514722


class Definition(StrEnum):
    """When a change happens of which only the sightings before and after are known."""

    AS_SEEN = "as seen"  # at the first sighting of the new build: for forecasts of what is seen
    INTERVAL = "interval"  # somewhere between the two sightings: nearer to the true day


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a history tells of rates and multipliers in a period, and what that rests on."""

    definition: Definition
    from_on: date
    to_on: date
    n_servers: int
    n_tenants: int
    events: Floats  # by cell
    server_weeks: Floats
    believed: Posterior
    supported: Landings
    unsupported: Landings
    updates_from_on: date
    n_updates: int
    n_weeks: float


def calibrate(
    known: Histories, *, definition: Definition = Definition.AS_SEEN, from_on: date | None = None, seed: int = 1
) -> Calibration:
    """Estimate rates and multipliers from a day on (default: all); too short a history is a ValueError.

    Rates are those of a tenant and half-year whose multipliers are 1. Servers long behind are mostly those of slow
    tenants: there these rates are up to twice the crude ones (events over server-weeks, as default.toml holds them); in
    the first weeks, where fast tenants are, they are lower.
    """
    if not len(known.server):
        raise ValueError(f"no sighting of a known Exchange build: 0 changes (expected {FEWEST_EVENTS} or more)")
    first = float(np.floor(known.first.min())) if from_on is None else float(day_number(from_on))
    last = float(np.floor(known.seen_at.max())) + 1
    if first >= last:
        raise ValueError(
            f"the history ends on {day_from_number(int(last) - 1)}, before {from_on} (give an earlier day)"
        )
    bounds = blocks(first, last)
    seen = at_risk(known, bounds)
    n_events = int(seen.events.sum())
    if n_events < FEWEST_EVENTS:
        raise ValueError(
            f"{n_events} changes of a missing update in {seen.weeks.sum():,.0f} server-weeks"
            f" (expected {FEWEST_EVENTS} or more: take a longer history, or the shipped assumptions)"
        )
    data = seen if definition is Definition.AS_SEEN else gaps(known, bounds)
    believed = posterior(data, rng=stream(seed), n_draws=N_DRAWS)
    counted = seen if isinstance(data, Risk) else data.filled(_mean_rates(believed, seen), stream(seed, 1))
    events, weeks = counted.by_cell
    recently = _updates_from(first, last)
    n_updates = int(((known.updates >= recently) & (known.updates < last)).sum())
    at_risk_tenants = seen.weeks.sum(axis=(1, 2)) > 0
    is_in = known.seen_at >= first
    return Calibration(
        definition=definition,
        from_on=day_from_number(int(first)),
        to_on=day_from_number(int(last) - 1),
        n_servers=len(np.unique(known.server[known.seen_spell[is_in]])),
        n_tenants=int(at_risk_tenants.sum()),
        events=events,
        server_weeks=weeks,
        believed=believed,
        supported=landings(known, first, is_supported=True),
        unsupported=landings(known, first, is_supported=False),
        updates_from_on=day_from_number(int(recently)),
        n_updates=n_updates,
        n_weeks=(last - recently) / WEEK,
    )


def assumptions_of(found: Calibration, base: Assumptions, *, history: str) -> Assumptions:
    """Put what was found in place of the same numbers of other assumptions, which keep the rest."""
    source = (
        f"{history}, {found.from_on} to {found.to_on}, {found.n_servers} servers, {found.n_tenants} tenants at risk;"
        f" {found.definition}"
    )
    cells = _cells(found, source)
    shapes = {f"{name}_shape": _figure(found.believed.shapes[:, place], source) for place, name in enumerate(SHAPES)}
    updates = Figure(
        value=_rounded(found.n_updates / found.n_weeks * _WEEKS_PER_YEAR),
        events=found.n_updates,
        weeks=_rounded(found.n_weeks),
        source=f"security updates that smtp hops show, {found.updates_from_on} to {found.to_on}: the catalogue",
    )
    return base.model_copy(update={
        "hazards": Rates(
            supported=cells[:N_SUPPORTED],
            unsupported=cells[N_SUPPORTED:],
            rate_correlation=_figure_of_correlation(found, source),
        ),
        "multipliers": Multipliers(**shapes),
        "landing": _landing(found, base, source),
        "updates": None,
        "updates_per_year": updates,
        "off": tuple(key for key in base.off if key.split(".")[0] not in ("hazards", "multipliers", "updates")),
    })  # fmt: skip


def calibration_answer(found: Calibration) -> dict[str, Any]:
    """Give a calibration as scripts read it."""
    middle, low, high = range90(found.believed.rates)
    shape_middle, shape_low, shape_high = range90(found.believed.shapes)
    return {
        "definition": str(found.definition),
        "from": found.from_on,
        "to": found.to_on,
        "servers": found.n_servers,
        "tenants": found.n_tenants,
        "events": float(round(found.events.sum(), 1)),
        "server_weeks": float(round(found.server_weeks.sum(), 1)),
        "hazards": [
            {
                "state": "supported" if cell < N_SUPPORTED else "unsupported",
                "from_weeks": (*SUPPORTED_WEEKS, *UNSUPPORTED_WEEKS)[cell],
                "rate_per_week": float(middle[cell]),
                "low": float(low[cell]),
                "high": float(high[cell]),
                "events": float(round(found.events[cell], 1)),
                "server_weeks": float(round(found.server_weeks[cell], 1)),
                "rests_on": rests_on(float(found.events[cell])),
            }
            for cell in range(N_CELLS)
        ],
        "rate_correlation": rate_correlation(found),
        "multipliers": {
            f"{name}_shape": {
                "value": float(shape_middle[place]), "low": float(shape_low[place]), "high": float(shape_high[place])
            }
            for place, name in enumerate(SHAPES)
        },
        "updates": {"from": found.updates_from_on, "n": found.n_updates, "weeks": float(round(found.n_weeks, 1))},
    }  # fmt: skip


def _updates_from(first: float, last: float) -> float:
    """Give the day from which updates are counted: hops showed few of those released before MULTIPLIERS_FROM."""
    recently = max(first, last - _UPDATES_FROM_WEEKS * WEEK)
    return max(recently, MULTIPLIERS_FROM) if last - MULTIPLIERS_FROM >= _LEAST_UPDATES_WEEKS * WEEK else recently


def _mean_rates(believed: Posterior, like: Risk) -> Floats:
    return np.broadcast_to(believed.tenant.mean(axis=0)[:, None, None] * believed.rates.mean(axis=0), like.weeks.shape)


def _cells(found: Calibration, source: str) -> tuple[Cell, ...]:
    weeks = (*SUPPORTED_WEEKS, *UNSUPPORTED_WEEKS)
    made = []
    for cell, from_weeks in enumerate(weeks):
        figure = _figure(found.believed.rates[:, cell], source)
        told = rests_on(float(found.events[cell]))
        made.append(
            Cell(
                from_weeks=from_weeks,
                rate_per_week=figure.value,
                low=figure.low,
                high=figure.high,
                events=round(float(found.events[cell]), 1),
                server_weeks=round(float(found.server_weeks[cell]), 1),
                source=f"{source}{'' if told == DATA else f'; {told}'}",
            )
        )
    return tuple(made)


def rests_on(events: float) -> str:
    """Say what a rate rests on, by the changes that it was learnt from.

    >>> rests_on(40), rests_on(3.2), rests_on(0)
    ('data', 'thin: 3.2 changes', 'no change seen: the prior alone')
    """
    if events >= FEWEST_OF_CELL:
        return DATA
    return f"thin: {events:.1f} changes" if events >= _A_CHANGE else "no change seen: the prior alone"


def rate_correlation(found: Calibration) -> float:
    """Give how alike rates are off their values: the mean correlation of their logarithms, over pairs of cells.

    A pair counts by what it adds to the spread of the mean rate: by server-weeks times the standard deviations.
    """
    weights = found.server_weeks * found.believed.rates.std(axis=0)
    pairs = np.outer(weights, weights)
    np.fill_diagonal(pairs, 0)
    alike = np.corrcoef(np.log(np.maximum(found.believed.rates, _LEAST_RATE)), rowvar=False)
    return float(np.clip((alike * pairs).sum() / pairs.sum(), 0, 1)) if pairs.any() else 0.0


def _figure_of_correlation(found: Calibration, source: str) -> Figure:
    return Figure(value=_rounded(rate_correlation(found)), source=f"mean correlation of logarithms of rates: {source}")


def _figure(draws: Floats, source: str) -> Figure:
    low, middle, high = (_rounded(float(q)) for q in np.quantile(draws, [0.05, 0.5, 0.95]))
    return Figure(value=middle, low=low, high=high, source=source)


def _rounded(value: float) -> float:
    """Round to four figures: more say nothing, and the file stays readable."""
    return float(f"{value:.4g}")


def _landing(found: Calibration, base: Assumptions, source: str) -> Landing | None:
    ages, out = found.supported, found.unsupported
    if not len(ages.age):
        return base.landing
    span = np.where(ages.age < NEVER, 1 + np.searchsorted(_AGES_UNTIL, ages.age / WEEK), 0)
    shares = [round(float(count) / len(span), 4) for count in np.bincount(span, minlength=len(_AGES))]
    shares[0] = round(1 - sum(shares[1:]), 4)
    leave = _share(int(ages.is_other_product.sum()), len(ages.age), source)
    arrive = int(out.is_supported.sum())
    return Landing(
        ages=tuple(
            LandingAge(weeks=age, share=share, source=f"{len(span)} changes: {source}")
            for age, share in zip(_AGES, shares, strict=True)
        ),
        supported_leave_product=leave,
        unsupported_leave_product=_share(arrive, len(out.age), source),
    )


def _share(part: int, whole: int, source: str) -> Figure:
    """Give a share with its 90 % range (Wilson 1927, half a case added on each side)."""
    n, k = whole + 1, part + 0.5
    share = k / n
    half = _Z * float(np.sqrt(share * (1 - share) / n + (_Z / (2 * n)) ** 2)) / (1 + _Z**2 / n)
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    low, high = max(0.0, min(share, middle - half)), min(0.999, max(share, middle + half))
    return Figure(
        value=_rounded(share), low=_rounded(low), high=_rounded(high), source=f"{part} of {whole} changes: {source}"
    )
