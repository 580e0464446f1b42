"""Gamma and normal chance from uniform, exponential and normal numbers alone, which stay the same for ever."""

from typing import Final

import numpy as np

from enforcement.chance import Floats

# Coefficients of the complementary error function, relative error below 1.2e-7 everywhere: Press et al., Numerical
# Recipes, 2nd edition, 6.2 (erfcc).
_ERFC: Final = (
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806,
    0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277,
)  # fmt: skip

_AT_ONCE: Final = 8192  # numbers, which stay in a processor's nearer memory


def gamma_of_mean_1(shape: float, size: int | tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Draw from a Gamma distribution of mean 1 and variance 1 / shape.

    >>> drawn = gamma_of_mean_1(2.0, 10_000, np.random.default_rng(1))
    >>> bool(abs(drawn.mean() - 1) < 0.02), bool(abs(drawn.var() - 0.5) < 0.03)
    (True, True)
    """
    drawn = np.empty(size)
    flat = drawn.reshape(-1)
    for first in range(0, flat.size, _AT_ONCE):
        part = flat[first : first + _AT_ONCE]
        part[:] = gamma_draws(np.full(len(part), shape), rng)
    drawn /= shape
    return drawn


def gamma_draws(shapes: Floats, rng: np.random.Generator) -> Floats:
    """Draw one number for each shape from a Gamma distribution of rate 1 (Marsaglia and Tsang 2000).

    >>> gamma_draws(np.full(10_000, 0.5), np.random.default_rng(1)).mean().round(1).item()
    0.5
    """
    flat = shapes.ravel()
    is_small = flat < 1
    d = flat + is_small - 1 / 3
    c = 1 / np.sqrt(9 * d)
    drawn = np.empty(flat.size)
    left = np.arange(flat.size)
    while left.size:
        z, u, of_left = rng.standard_normal(left.size), rng.random(left.size), d[left]
        v = 1 + c[left] * z
        v *= v * v
        z *= z
        is_taken = u < 1 - 0.0331 * z * z  # their squeeze: what it takes, the logarithms would take too
        open_ = np.flatnonzero(~is_taken)
        with np.errstate(divide="ignore"):
            of_open, v_open = of_left[open_], v[open_]
            most = z[open_] / 2 + of_open * (1 - v_open + np.log(np.maximum(v_open, 0)))
            is_taken[open_] = np.log(u[open_]) < most
        drawn[left[is_taken]] = (of_left * v)[is_taken]
        left = left[~is_taken]
    if is_small.any():  # Γ(a) = Γ(a + 1) U^(1/a)
        drawn[is_small] *= rng.random(int(is_small.sum())) ** (1 / flat[is_small])
    return drawn.reshape(shapes.shape)


def log_survival(z: Floats) -> Floats:
    """Give the logarithm of the chance that a standard normal number exceeds each value.

    >>> np.exp(log_survival(np.array([-1.6448536, 0.0, 1.6448536, 40.0]))).round(6).tolist()
    [0.95, 0.5, 0.05, 0.0]
    """
    x = np.abs(z) / np.sqrt(2.0)
    t = 1 / (1 + 0.5 * x)
    poly = np.zeros_like(t)
    for coefficient in reversed(_ERFC):
        poly = poly * t + coefficient
    log_tail = np.log(t) - x * x + poly + np.log(0.5)
    return np.where(z >= 0, log_tail, np.log1p(-np.exp(np.minimum(log_tail, np.log(0.5)))))
