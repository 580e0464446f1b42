"""The share of servers that has not acted yet, expected over the multipliers of their tenants and half-years."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, lgamma, log
from typing import Final, Self

import numpy as np

from enforcement.assumptions import Multipliers
from enforcement.chance import Floats, Ints

_STEP: Final = 0.4  # between the logarithms of the values that stand for a multiplier
_LEAST_VALUE: Final = 1e-4  # below, a multiplier is as good as none
_PLACES: Final = 161  # of a table; straight lines between them are off by 1e-4 at most
_SCALE: Final = 1.0  # the hazard in the middle of the places


def gamma_nodes(shape: float) -> tuple[Floats, Floats]:
    """Give values and weights that stand for a Gamma multiplier of mean 1: the trapezoidal rule in its logarithm.

    >>> values, weights = gamma_nodes(2.0)
    >>> round(float(weights @ values), 6), round(float(weights @ values**2), 6)
    (1.0, 1.5)
    """
    if shape == inf:
        return np.ones(1), np.ones(1)
    spread = shape**-0.5
    step = min(_STEP, 0.7 * spread)
    low = max(log(_LEAST_VALUE), -14 / shape - 5 * spread)
    logs = np.arange(low, min(6 * spread + log(1 + 30 / shape), 6), step)
    density = np.exp(shape * (log(shape) + logs - np.exp(logs)) - lgamma(shape))
    values, weights = np.exp(logs), density * step
    none = max(0.0, 1 - float(weights.sum()))
    return np.append(values, 0.0), np.append(weights, none)


def gauss_nodes(shape: float, n: int) -> tuple[Floats, Floats]:
    """Give a few values and weights that stand for the same multiplier (Gauss-Laguerre: Golub and Welsch 1969).

    >>> values, weights = gauss_nodes(2.0, 2)
    >>> round(float(weights @ values), 9), round(float(weights @ values**2), 9)
    (1.0, 1.5)
    """
    if shape == inf:
        return np.ones(1), np.ones(1)
    place = np.arange(n)
    between = np.sqrt(place[1:] * (place[1:] + shape - 1))
    values, vectors = np.linalg.eigh(np.diag(2 * place + shape) + np.diag(between, 1) + np.diag(between, -1))
    return values / shape, vectors[0] ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival:
    """Expected survival as tables over the hazards summed in half-years, whose own multipliers are independent.

    rows: for each value of the lasting multiplier what is kept in one half-year, weights: how likely each is; first,
    second: what is kept by one half-year's hazard, and by those of two. Places of tables run evenly over
    hazard / (hazard + 1), from 0 to 1. never: the share that never responds.
    """

    weights: Floats
    rows: Floats
    first: Floats
    second: Floats
    never: float

    @classmethod
    def of(cls, multipliers: Multipliers | None, *, never: float = 0.0) -> Self:
        """Make the tables for the multipliers assumed, off ones being 1, and the share that never responds."""
        figures = (
            (multipliers.tenant_shape, multipliers.tenant_half_year_shape, multipliers.common_half_year_shape)
            if multipliers
            else (None, None, None)
        )
        lasting, *passing = (inf if figure is None else figure.value for figure in figures)
        values, weights = gamma_nodes(lasting)
        narrow, wide = max(passing), min(passing)
        place = np.linspace(0, 1, _PLACES)[:-1]
        hazard = _SCALE * place / (1 - place)
        common, common_weights = gamma_nodes(narrow)
        each = values[:, np.newaxis, np.newaxis] * hazard[:, np.newaxis] * common
        kept = np.exp(-each) if wide == inf else (1 + each / wide) ** -wide
        # The last place is a hazard without end, which only those keep whose multiplier is none.
        rows = np.concatenate([kept @ common_weights, (values == 0)[:, np.newaxis].astype(np.float64)], axis=1)
        return cls(weights=weights, rows=rows, first=weights @ rows, second=(weights * rows.T) @ rows, never=never)

    def course(self, hazard: Floats, half_years: Sequence[slice]) -> Floats:
        """Give the share kept: (rows, times) of the summed hazard, which rises along the times of a row.

        half_years: the times that lie in each; the hazard runs on through all of them.

        >>> alone = Survival.of(None)
        >>> alone.course(np.array([[0.0, 0.5, 2.0]]), [slice(0, 2), slice(2, 3)]).round(4).tolist()
        [[1.0, 0.6065, 0.1353]]
        """
        kept = np.empty_like(hazard)
        ends = [hazard[:, times.stop - 1] for times in half_years]
        own = np.diff(np.stack(ends, axis=1), axis=1, prepend=0.0)
        for number, times in enumerate(half_years):
            if number == 0:
                kept[:, times] = self._between(self.first, hazard[:, times])
                continue
            more = hazard[:, times] - ends[number - 1][:, np.newaxis]
            if number == 1:
                kept[:, times] = self._over_two(own[:, 0], more)
            else:
                kept[:, times] = self._later(own[:, :number], more)
        return kept if not self.never else self.never + (1 - self.never) * kept

    def _between(self, table: Floats, hazard: Floats) -> Floats:
        """Read a table at hazards."""
        place, least = self._places(hazard)
        found = table.take(least)
        found += place * (table.take(least + 1) - found)
        return found

    def _over_two(self, first: Floats, hazard: Floats) -> Floats:
        """Read the table of two half-years at a hazard of the first for each row, and hazards of the second."""
        upper, row = self._places(first)
        place, least = self._places(hazard)
        least += (row * _PLACES)[:, np.newaxis]
        low = self.second.take(least)
        low += place * (self.second.take(least + 1) - low)
        least += _PLACES
        high = self.second.take(least)
        high += place * (self.second.take(least + 1) - high)
        low += upper[:, np.newaxis] * (high - low)
        return low

    def _later(self, before: Floats, hazard: Floats) -> Floats:
        """Sum over the lasting multiplier what is kept by the half-years before and by the hazard of this one."""
        found = np.zeros_like(hazard)
        for weight, row in zip(self.weights, self.rows, strict=True):
            found += weight * self._between(row, before).prod(axis=1)[:, np.newaxis] * self._between(row, hazard)
        return found

    def _places(self, hazard: Floats) -> tuple[Floats, Ints]:
        """Give how far each hazard lies behind a place, and that place."""
        place = hazard / (hazard + _SCALE)
        place *= _PLACES - 1
        least = place.astype(np.int64)
        place -= least
        return place, least
