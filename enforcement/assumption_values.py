"""What a number in an assumptions file is: a value, how uncertain it is, and where it is from."""

from collections.abc import Callable
from math import exp, lgamma, log
from statistics import NormalDist
from typing import Annotated, Final, Self, TypeAlias

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from enforcement.chance import Floats
from enforcement.policy_values import by, problem

RANGE_Z: Final = NormalDist().inv_cdf(0.95)  # low and high are the ends of a 90 % range
LEAST_EVENTS: Final = 0.5  # added to events: the Gamma prior of a rate has half an event, as Jeffreys' has
_LONGEST_SOURCE: Final = 1_000
_LARGEST: Final = 1e9


def _is_filled(text: str) -> str:
    if not text.strip():
        raise ValueError("expected a source, or the word guess")
    if not text.isprintable():
        raise ValueError("expected printable characters in one line")
    return text


Source = Annotated[str, Field(max_length=_LONGEST_SOURCE), by(_is_filled)]
Number = Annotated[float, Field(ge=0, le=_LARGEST, allow_inf_nan=False)]


def is_guess(source: str) -> bool:
    """Whether a source calls its number a guess.

    >>> is_guess("A guess; the analogue is DNS resolvers"), is_guess("CERT-Bund 2026")
    (True, False)
    """
    return "guess" in source.lower()


class Figure(BaseModel):
    """A number: its value, its 90 % range (or the events and weeks that it was counted from), and its source.

    Without a range it is exact. With a range the value is the median: on each side of it the logarithm is half of a
    normal distribution (the number itself where `low` is 0). With `events` and no range it is a Gamma distribution of
    mean `value`; with both, events and weeks only tell what the range rests on.

    >>> low, high = Figure(value=0.05, events=58, server_weeks=1032, source="lists").range90
    >>> round(low, 4), round(high, 4)
    (0.0398, 0.0612)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    value: Number
    low: Number | None = None
    high: Number | None = None
    events: Number | None = None
    server_weeks: Number | None = None
    weeks: Number | None = None
    source: Source

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        check_range(self.value, low=self.low, high=self.high)
        if self.events is not None and self.server_weeks is None and self.weeks is None:
            raise problem("events without the time they were counted in (expected server_weeks or weeks too)", "events")
        return self

    @property
    def is_guess(self) -> bool:
        """Whether the file calls this a guess."""
        return is_guess(self.source)

    @property
    def range90(self) -> tuple[float, float]:
        """The 90 % range; both ends are the value when it is exact."""
        low, high = self.at(np.array([-RANGE_Z, RANGE_Z]))
        return float(low), float(high)

    def at(self, z: Floats) -> Floats:
        """Give the quantiles at standard normal deviates.

        >>> Figure(value=2, low=1, high=8, source="guess").at(np.array([-RANGE_Z, 0.0, RANGE_Z])).round(9).tolist()
        [1.0, 2.0, 8.0]
        """
        if self.low is None and self.events is not None:
            return self.value * _gamma_of_mean_1(self.events + LEAST_EVENTS, z)
        if self.low is None or self.high is None:
            return np.full(z.shape, self.value)
        if self.low == 0:
            return np.maximum(0, self.value + z / RANGE_Z * np.where(z > 0, self.high - self.value, self.value))
        upward, downward = log(self.high / self.value), log(self.value / self.low)
        return self.value * np.exp(z / RANGE_Z * np.where(z > 0, upward, downward))

    def with_value(self, value: float) -> "Figure":
        """Give the same figure with another value, exact."""
        return Figure(value=value, source=self.source)


class Cell(BaseModel):
    """A rate a week from so many weeks on, until the next cell begins."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    from_weeks: Annotated[int, Field(ge=0, le=1_000)]
    rate_per_week: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
    low: Number | None = None
    high: Number | None = None
    events: Number | None = None
    server_weeks: Number | None = None
    source: Source

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        check_range(self.rate_per_week, low=self.low, high=self.high)
        if (self.events is None) != (self.server_weeks is None):
            raise problem("expected events and server_weeks together")
        return self

    @property
    def figure(self) -> Figure:
        """The rate as a figure."""
        return Figure(
            value=self.rate_per_week,
            low=self.low,
            high=self.high,
            events=self.events,
            server_weeks=self.server_weeks,
            source=self.source,
        )


def check_range(value: float, *, low: float | None, high: float | None) -> None:
    """Hold a number to its range; a problem otherwise.

    >>> check_range(2, low=1, high=3)
    """
    if (low is None) != (high is None):
        raise problem("expected low and high together", "low" if high is None else "high")
    if low is not None and high is not None and not low <= value <= high:
        raise problem(f"expected low <= value <= high, found {low:g}, {value:g}, {high:g}")


def _gamma_of_mean_1(shape: float, z: Floats) -> Floats:
    """Give quantiles of a Gamma distribution of mean 1 (Wilson and Hilferty 1931; within 1 % from shape 2 on).

    For smaller shapes the cube of a normal is poor below: the quantile near 0 is then (P Γ(k + 1))^(1/k).
    """
    cube = 1 - 1 / (9 * shape) + z / (3 * np.sqrt(shape))
    small = (_below(z) * _gamma(shape + 1)) ** (1 / shape) / shape
    return np.where(cube > 1 / 3, np.maximum(cube, 0) ** 3, small)


def _below(z: Floats) -> Floats:
    normal = NormalDist()
    return np.array([normal.cdf(float(each)) for each in z.ravel()]).reshape(z.shape)


def _gamma(x: float) -> float:
    return exp(min(lgamma(x), 700.0))


def bounded(low: float, high: float, words: str) -> Callable[[Figure], Figure]:
    """Hold the value and the range of a figure to bounds.

    >>> bounded(0, 1, "a share")(Figure(value=0.5, source="guess")).value
    0.5
    """

    def checked(figure: Figure) -> Figure:
        for key in ("value", "low", "high"):
            found = getattr(figure, key)
            if found is not None and not low <= found <= high:
                raise problem(f"expected {words}", key)
        return figure

    return checked


def _exact(figure: Figure) -> Figure:
    if figure.low is not None or figure.events is not None:
        raise problem("expected a value and a source alone: it is no number that is drawn")
    return figure


Share: TypeAlias = Annotated[Figure, AfterValidator(bounded(0, 0.999, "a share from 0 to 0.999"))]
Factor: TypeAlias = Annotated[Figure, AfterValidator(bounded(1, 1_000, "a factor from 1 to 1000"))]
Shape: TypeAlias = Annotated[Figure, AfterValidator(bounded(0.01, 1e6, "a Gamma shape from 0.01 to 1000000"))]
Correlation: TypeAlias = Annotated[
    Figure, AfterValidator(_exact), AfterValidator(bounded(0, 1, "a correlation from 0 to 1"))
]
Days: TypeAlias = Annotated[Figure, AfterValidator(bounded(1, 3_660, "a number of days from 1 to 3660"))]
