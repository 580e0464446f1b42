"""How ready administrators are to act: a hazard summed up since an update is missing, or support has ended."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from enforcement.chance import Floats, Ints
from enforcement.response import DrawnRates


@dataclass(frozen=True, slots=True, kw_only=True)
class Hazard:
    """The base hazard: since the first missing update, and since the end of support, which goes before.

    Summed up over the first n days, n being the place.
    """

    supported: Floats
    unsupported: Floats

    @classmethod
    def of(cls, drawn: DrawnRates, row: int, *, n_days: int) -> Self:
        """Sum up the rates of a draw over so many days, the oldest that is asked for."""
        return cls(
            supported=summed(drawn.supported_from_days, drawn.supported[row], n_days=n_days),
            unsupported=summed(drawn.unsupported_from_days, drawn.unsupported[row], n_days=n_days),
        )


def summed(from_days: Ints, rates: Floats, *, n_days: int) -> Floats:
    """Sum up rates a day that hold from their day on until the next one's.

    >>> summed(np.array([0, 7]), np.array([0.1, 0.01]), n_days=9).round(2).tolist()
    [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.71, 0.72]
    """
    sums = np.zeros(n_days + 1)
    np.cumsum(rates[np.searchsorted(from_days, np.arange(n_days), side="right") - 1], out=sums[1:])
    return sums


def places(since: Ints, ended: Ints, until: Ints) -> tuple[Ints, Ints]:
    """Count the days until a day with an update missing in support, and those out of support.

    >>> day = np.array([4])
    >>> places(day - 3, day - 1, day)
    (array([2]), array([2]))
    """
    return np.maximum(np.minimum(until, ended - 1) - since + 1, 0), np.maximum(until - ended + 1, 0)
