"""How people react: everything that chance decides, drawn first and shared by all policies."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from enforcement.assumption_values import LEAST_EVENTS, Cell, Figure
from enforcement.assumptions import Assumptions, Rates
from enforcement.chance import Bools, Floats, Ints, key, stream
from enforcement.gamma import gamma_of_mean_1

DAYS_PER_WEEK: Final = 7
HALF_YEAR_DAYS: Final = 26 * DAYS_PER_WEEK
_DAYS_PER_YEAR: Final = 365.25


class _Purpose(IntEnum):
    """What a stream of random numbers is for."""

    HAZARDS = 1
    RETIREMENT = 2
    FIGURES = 3
    TENANT = 4
    TENANT_HALF_YEAR = 5
    COMMON = 6
    UPDATES = 7
    PAUSES = 8
    SERVERS = 9  # patience, landings and the like, of each server and round


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is drawn."""

    n_draws: int
    n_tenants: int
    horizon_days: int

    @property
    def n_half_years(self) -> int:
        """Half-years of 26 weeks that the horizon reaches into."""
        return max(1, -(-self.horizon_days // HALF_YEAR_DAYS))


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnRates:
    """Rates a day, (draws, cells); a cell holds from its day (since the missing update, or the end of support) on."""

    supported_from_days: Ints
    supported: Floats
    unsupported_from_days: Ints
    unsupported: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """What chance decides for some draws of a forecast; arrays have one row a draw.

    keys: of the numbers of servers, which are drawn when they are needed. factors: (draws, 5), of nothing, noticed,
    throttled, partly and fully blocked. tenant: (draws, tenants), tenant_half_year: (draws, tenants, half-years),
    common: (draws, half-years): of mean 1. updates: days after the day of the forecast, rising, an array a draw.
    pauses: (draws, tenants), whether the tenant pauses, for pause_days.
    landing_days: ages of the missing update on arrival, 0: nothing is missing; landing_shares go with them.
    """

    keys: npt.NDArray[np.uint64]
    hazards: DrawnRates
    retirement: DrawnRates
    factors: Floats
    tenant: Floats
    tenant_half_year: Floats
    common: Floats
    patience_correlation: Floats
    never_responds: Floats
    updates: tuple[Ints, ...]
    landing_days: Ints
    landing_shares: Floats
    supported_leave_product: Floats
    unsupported_leave_product: Floats
    pauses: Bools
    pause_days: Ints


def draw(assumptions: Assumptions, size: Size, *, as_of: date, seed: int, draws: slice = slice(None)) -> Draws:
    """Draw what chance decides; any slice of the draws is the same drawn alone or with the others.

    >>> from enforcement.assumptions import parse_assumptions
    >>> text = 'senders = [{name = "x", share = 1, retry_minutes = [15], gives_up_after_hours = 48, source = "guess"}]'
    >>> text += chr(10)
    >>> assumed = parse_assumptions(text + 'multipliers = {tenant_shape = {value = 2, source = "guess"}, '
    ...     'tenant_half_year_shape = "off", common_half_year_shape = "off"}', source="mine.toml")
    >>> size = Size(n_draws=20, n_tenants=3, horizon_days=200)
    >>> whole = draw(assumed, size, as_of=date(2026, 1, 1), seed=7)
    >>> part = draw(assumed, size, as_of=date(2026, 1, 1), seed=7, draws=slice(5, 9))
    >>> bool((whole.tenant[5:9] == part.tenant).all()), whole.tenant_half_year.shape
    (True, (20, 3, 2))
    """
    numbers = range(size.n_draws)[draws]
    if numbers.step != 1:
        raise ValueError(f"draws in steps of {numbers.step} (expected consecutive ones)")
    n, half_years = len(numbers), size.n_half_years
    landing, pauses, shapes = assumptions.landing, assumptions.pauses, assumptions.multipliers
    figures = {
        "never": assumptions.never_responds,
        "correlation": assumptions.patience_correlation,
        "tenant": shapes.tenant_shape if shapes else None,
        "tenant_half_year": shapes.tenant_half_year_shape if shapes else None,
        "common": shapes.common_half_year_shape if shapes else None,
        "supported_leave": landing.supported_leave_product if landing else None,
        "unsupported_leave": landing.unsupported_leave_product if landing else None,
        "pausing": pauses.share_of_tenants if pauses else None,
        "pause_days": pauses.days if pauses else None,
        "updates": assumptions.updates_per_year,
    }
    drawn: dict[str, Floats] = {name: np.zeros(n) for name in figures}
    factors = np.ones((n, 5))
    for row, number in enumerate(numbers):
        rng = stream(seed, _Purpose.FIGURES, number)
        # Every figure takes its numbers whether it is there or not, so that others stay the same without it.
        deviates = rng.standard_normal(len(figures) + 1)
        for deviate, (name, figure) in zip(deviates[1:], figures.items(), strict=True):
            if figure is not None:
                drawn[name][row] = _one(figure, deviate)
        if assumptions.factors is not None:  # one number for all: who reacts strongly to one measure does so to others
            factors[row, 1:] = [_one(figure, deviates[0]) for figure in assumptions.factors.in_order]
    by_draw = list(zip(range(n), numbers, strict=True))

    def multipliers(name: str, purpose: _Purpose, shape: tuple[int, ...]) -> Floats:
        filled = np.ones((n, *shape))
        for row, number in by_draw if figures[name] is not None else ():
            filled[row] = gamma_of_mean_1(max(0.01, drawn[name][row]), shape, stream(seed, purpose, number))
        return filled

    pausing = np.zeros((n, size.n_tenants), dtype=np.bool_)
    for row, number in by_draw if pauses else ():
        pausing[row] = stream(seed, _Purpose.PAUSES, number).random(size.n_tenants) < drawn["pausing"][row]
    ages = landing.ages if landing else ()
    return Draws(
        keys=np.array([key(seed, _Purpose.SERVERS, number) for number in numbers], dtype=np.uint64),
        hazards=_rates(assumptions.hazards, seed, _Purpose.HAZARDS, numbers),
        retirement=_rates(assumptions.retirement, seed, _Purpose.RETIREMENT, numbers),
        factors=np.maximum.accumulate(np.maximum(1, factors), axis=1),
        tenant=multipliers("tenant", _Purpose.TENANT, (size.n_tenants,)),
        tenant_half_year=multipliers("tenant_half_year", _Purpose.TENANT_HALF_YEAR, (size.n_tenants, half_years)),
        common=multipliers("common", _Purpose.COMMON, (half_years,)),
        patience_correlation=np.clip(drawn["correlation"], 0, 0.999),
        never_responds=np.clip(drawn["never"], 0, 0.999),
        updates=tuple(
            _updates(assumptions, as_of, size, drawn["updates"][row], stream(seed, _Purpose.UPDATES, number))
            for row, number in by_draw
        ),
        landing_days=np.array([age.weeks * DAYS_PER_WEEK for age in ages] or [0], dtype=np.int64),
        landing_shares=np.array([age.share for age in ages] or [1.0]),
        supported_leave_product=np.clip(drawn["supported_leave"], 0, 1),
        unsupported_leave_product=np.clip(drawn["unsupported_leave"], 0, 1),
        pauses=pausing,
        pause_days=np.rint(drawn["pause_days"]).astype(np.int64),
    )


def kept_after(hazard: Floats, *, shape: float) -> Floats:
    """Give the expected share that has not acted after a summed hazard times a Gamma multiplier of mean 1.

    >>> kept_after(np.array([1.0]), shape=1.0).tolist(), kept_after(np.array([1.0]), shape=np.inf).round(4).tolist()
    ([0.5], [0.3679])
    """
    return np.exp(-hazard) if np.isinf(shape) else (1 + hazard / shape) ** -shape


def kept_after_history(hazard: Floats, *, shape: float, n_events: float, expected_events: float) -> Floats:
    """Give the same for a tenant of known history: its multiplier is Gamma(shape + events, shape + expected events).

    >>> kept_after_history(np.array([1.0]), shape=1.0, n_events=1, expected_events=0).tolist()
    [0.25]
    """
    rate = shape + expected_events
    return (rate / (rate + hazard)) ** (shape + n_events)


def _one(figure: Figure, deviate: float) -> float:
    return float(figure.at(np.array([deviate]))[0])


def _rates(rates: Rates | None, seed: int, purpose: _Purpose, numbers: range) -> DrawnRates:
    """Draw rates a day; without rates nobody acts."""
    if rates is None:
        zero, never = np.zeros(1, dtype=np.int64), np.zeros((len(numbers), 1))
        return DrawnRates(supported_from_days=zero, supported=never, unsupported_from_days=zero, unsupported=never)
    alike = rates.rate_correlation.value if rates.rate_correlation else 0.0
    common = [float(stream(seed, purpose, number).standard_normal()) for number in numbers] if alike else numbers
    drawn = {
        state: np.array([
            [
                _drawn_rate(cell, stream(seed, purpose, number, place, index), alike, of_all)
                for index, cell in enumerate(cells)
            ]
            for number, of_all in zip(numbers, common, strict=True)
        ]).reshape(len(numbers), len(cells)) / DAYS_PER_WEEK
        for place, (state, cells) in enumerate((("supported", rates.supported), ("unsupported", rates.unsupported)))
    }  # fmt: skip
    return DrawnRates(
        supported_from_days=_from_days(rates.supported),
        supported=drawn["supported"],
        unsupported_from_days=_from_days(rates.unsupported),
        unsupported=drawn["unsupported"],
    )


def _drawn_rate(cell: Cell, rng: np.random.Generator, alike: float, of_all: float) -> float:
    """Draw a rate a week; a counted one from its Gamma posterior, whose mean is the cell's rate.

    Where rates are alike, each is the quantile at a normal deviate of which the share `alike` is that of all rates.
    """
    if alike:
        deviate = np.sqrt(alike) * of_all + np.sqrt(1 - alike) * rng.standard_normal(1)
        return float(cell.figure.at(deviate)[0])
    if cell.low is None and cell.events is not None:
        return cell.rate_per_week * float(gamma_of_mean_1(cell.events + LEAST_EVENTS, 1, rng)[0])
    return float(cell.figure.at(rng.standard_normal(1))[0])


def _from_days(cells: Sequence[Cell]) -> Ints:
    return np.array([cell.from_weeks * DAYS_PER_WEEK for cell in cells], dtype=np.int64)


def _updates(assumptions: Assumptions, as_of: date, size: Size, per_year: float, rng: np.random.Generator) -> Ints:
    """Give the days after the day of the forecast on which security updates come, rising."""
    if assumptions.updates is not None:
        days = sorted({(update.date - as_of).days for update in assumptions.updates})
        return np.array([day for day in days if 0 < day <= size.horizon_days], dtype=np.int64)
    days_between = _DAYS_PER_YEAR / per_year if per_year > 0 else np.inf
    at, found = 0.0, []
    while (at := at + float(rng.standard_exponential()) * days_between) <= size.horizon_days:
        found.append(int(np.ceil(at)))
    return np.array(sorted(set(found)), dtype=np.int64)
