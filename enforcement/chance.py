"""Random numbers that are the same for ever, and choices made with them."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]


def stream(seed: int, *purpose: int) -> np.random.Generator:
    """Give the random numbers of a seed and a purpose, the same on every day and machine.

    Draw with random, standard_exponential and standard_normal only: numpy reserves the right to improve its
    other methods, which then give other numbers (NEP 19). What leaves a sample are whole numbers, so the last
    bit of a logarithm, in which processors differ, does not show.

    >>> stream(1).random() == stream(1).random(), stream(1).random() == stream(1, 0).random()
    (True, False)
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=purpose)))


def key(seed: int, *purpose: int) -> np.uint64:
    """Give what random numbers are hashed with, of a seed and a purpose.

    >>> bool(key(1) == key(1)), bool(key(1) == key(1, 0))
    (True, False)
    """
    return np.random.SeedSequence(seed, spawn_key=purpose).generate_state(1, np.uint64)[0]


def spread(n: int, rng: np.random.Generator) -> Floats:
    """Draw n numbers, one in each n-th of 0 to 1, in random order: shares of a small number come out right too.

    >>> sorted((spread(4, stream(1)) * 4).astype(int).tolist())
    [0, 1, 2, 3]
    """
    return (shuffled(n, rng) + rng.random(n)) / n


def shuffled(n: int, rng: np.random.Generator) -> Ints:
    """Give the numbers below n in random order.

    >>> sorted(shuffled(3, stream(1)).tolist())
    [0, 1, 2]
    """
    return rng.random(n).argsort(kind="stable")


def choose(shares: Sequence[float], at: Floats) -> Ints:
    """Give the place of the share in which each number from 0 to 1 falls; shares count among themselves.

    >>> choose([0.5, 0, 0.5], np.array([0.0, 0.4999, 0.5, 1.0])).tolist()
    [0, 0, 2, 2]
    """
    bounds = np.cumsum(shares)
    last = int(np.flatnonzero(shares)[-1])
    return np.minimum(np.searchsorted(bounds, at * bounds[-1], side="right"), last)


def power_law(at: Floats, *, exponent: float, largest: float) -> Floats:
    """Give the quantiles of a power law from 1 to the largest, the exponent being that of its density.

    >>> power_law(np.array([0.0, 0.5, 1.0]), exponent=2.0, largest=4).round(6).tolist()
    [1.0, 1.6, 4.0]
    """
    slope = exponent - 1
    return (1 - at * (1 - largest**-slope)) ** (-1 / slope)
