"""The few statistics that interventions are reported with, on numpy alone.

Wilson's interval: E. B. Wilson, JASA 22 (1927), 209. The bootstrap is the percentile one over rows (Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
"""

from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atlas.errors import InputError


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a rate, `successes` of `n`; (0, 1) for none of none. Raises InputError."""
    if not 0 <= successes <= n:
        raise InputError(f"{successes} successes of {n}", "between none and all of them")
    z = NormalDist().inv_cdf((1 + _level(level)) / 2)
    if n == 0:
        return 0.0, 1.0
    rate, weight = successes / n, z * z / n
    middle = (rate + weight / 2) / (1 + weight)
    half = z * (rate * (1 - rate) / n + weight / (4 * n)) ** 0.5 / (1 + weight)
    return (0.0 if successes == 0 else middle - half), (1.0 if successes == n else middle + half)


def bootstrap(
    values: ArrayLike,
    statistic: Callable[[NDArray[Any]], Any] = np.mean,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of a statistic of `values` [n, ...]: rows are drawn anew with replacement, equal seeds give equal ends.

    `statistic` takes rows and gives one number. Raises InputError without rows, and for values that are not finite.
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim == 0 or len(rows) == 0 or not np.isfinite(rows).all():
        raise InputError(f"values of shape {list(rows.shape)}, or not finite", "one finite value at least")
    if draws < 1:
        raise InputError(f"{draws} draws", "1 or more")
    tail = (1 - _level(level)) / 2
    rng = np.random.default_rng(seed)
    drawn = [float(statistic(rows[rng.integers(len(rows), size=len(rows))])) for _ in range(draws)]
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Rank correlation of two series [n], equals sharing their mean rank; NaN if one is constant or n is under 2.

    Raises InputError for series of unlike length, and for values that are not finite.
    """
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise InputError(f"series of shapes {list(first.shape)} and {list(second.shape)}", "two of the same length")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("a series with NaN or infinity", "finite values")
    if len(first) < 2:
        return float("nan")
    one, other = (ranks - ranks.mean() for ranks in (mean_ranks(first), mean_ranks(second)))
    size = float(np.sqrt((one @ one) * (other @ other)))
    return float(np.clip(one @ other / size, -1.0, 1.0)) if size > 0 else float("nan")


def mean_ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """float64 [n] ranks from 1; equals get the mean of the ranks they take together."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[place]
    return ranks


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(f"level {level}", "a number between 0 and 1, as in 0.95")
    return level
