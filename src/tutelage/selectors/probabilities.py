"""How likely each arm is to be chosen: by epsilon-greedy, or as the one whose worth is largest."""

import math
from collections.abc import Callable

import numpy as np
from scipy.special import ndtr

from tutelage.errors import UserError
from tutelage.types import Array, Floats


def epsilon_greedy(scores: Floats, epsilon: float) -> Floats:
    """Return p = epsilon / A + (1 - epsilon) 1[a = argmax scores], ``[..., A] -> [..., A]``.

    Of equal scores the first is the largest; epsilon = 0 is greedy.
    """
    if not 0.0 <= epsilon <= 1.0:
        raise UserError(f"epsilon {epsilon}, expected a number in [0, 1]")
    num_arms = scores.shape[-1]
    best = scores.argmax(axis=-1)[..., None] == np.arange(num_arms)
    mixture: Floats = epsilon / num_arms + (1.0 - epsilon) * best
    return mixture


def largest(cdf: Callable[[Floats], Array], low: Floats, high: Floats) -> Floats:
    """Return P(theta_k is the largest) of independent theta_k, ``[N,K]``, each row summing to 1.

    P_k = integral of F_k'(x) prod_{j != k} F_j(x) dx, summed over 16 cells. ``cdf`` takes
    ``x[G,N]`` and returns ``F[K,G,N]``; theta_k is all but certainly between ``low[K,N]`` and
    ``high[K,N]``. Within 0.02 of the integral, mostly within 0.003.
    """
    start, stop = np.maximum.reduce(low), np.maximum.reduce(high)
    x = start + (stop - start) * _EVEN
    row = np.arange(len(start))
    below = row + np.multiply.reduce(cdf(x))
    # Where an arm tried once meets arms known well, even cells are too wide for the latter: the
    # second look is at quantiles of the largest theta. All rows make one rising function.
    below[0], below[-1] = row, row + 1
    each = cdf(np.interp(row + _QUANTILES, below.T.ravel(), x.T.ravel()))
    each[:, 0], each[:, -1] = 0.0, 1.0
    lower, upper = each[:, :-1], each[:, 1:]
    twice = lower + upper  # what F is in the middle of a cell; a factor common to all arms cancels
    chance = upper - lower
    chance /= np.maximum(twice, 1e-30)
    chance *= np.multiply.reduce(twice)
    total: Floats = np.add.reduce(chance, axis=1, dtype=np.float64)
    total /= np.add.reduce(total)
    return total.T


_EVEN = np.linspace(0.0, 1.0, 17)[:, None]
_QUANTILES = np.clip(np.sin(_EVEN * np.pi / 2.0) ** 2, 1e-9, 1.0 - 1e-9)


def largest_gaussian(mean: Floats, sd: Floats) -> Floats:
    """Return P(theta_k is the largest) for theta_k ~ N(mean_k, sd_k^2), ``[N,K]``.

    Exact for two: Phi((mean_0 - mean_1) / sqrt(sd_0^2 + sd_1^2)).
    """
    if mean.shape[1] == 2:
        ahead = np.diff(mean) / np.hypot(sd[:, :1], sd[:, 1:])
        return np.asarray(ndtr(ahead * (-1.0, 1.0)))
    m, s = mean.T.astype(np.float32, order="C"), sd.T.astype(np.float32, order="C")
    middle, precision, reach = m[:, None], (1.0 / s)[:, None], 4.0 * s

    def cdf(x: Array) -> Array:
        z = x.astype(np.float32) - middle
        z *= precision
        return normal_cdf(z)

    return largest(cdf, m - reach, m + reach)


def normal_cdf(z: Array) -> Array:
    """Return Phi(z) within 2e-4: (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))) / 2, of floats.

    Page 1977, "Approximations to the cumulative normal function". In single precision six times as
    fast as the exact one, and less wrong than the sum over cells it is for.
    """
    curve = z * z
    curve *= 0.044715 * math.sqrt(2.0 / math.pi)
    curve += math.sqrt(2.0 / math.pi)
    curve *= z
    np.tanh(curve, out=curve)
    curve += 1.0
    curve *= 0.5
    return curve
