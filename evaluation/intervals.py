"""How sure a number is, and whether a difference is one: bootstrap intervals and paired tests.

Items are resampled, not tokens or sentences: the question is what another exam of the same kind would have shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import numpy.typing as npt

from iris.results import Estimate

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Values of shape (samples, items, columns) -> one number a sample."""

SAMPLES = 4000
SEED = 2223
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Difference:
    """``second - first`` with its interval and the p-value of no difference, two-sided."""

    value: float
    low: float
    high: float
    p: float
    items: int


def mean(values: Floats) -> Floats:
    """Of one column."""
    return np.asarray(values[..., 0].mean(axis=-1), np.float64)


def perplexity_of(values: Floats) -> Floats:
    """Columns: log-probability, tokens, bytes."""
    return np.asarray(np.exp(-values[..., 0].sum(axis=-1) / values[..., 1].sum(axis=-1)), np.float64)


def bits_of(values: Floats) -> Floats:
    """Columns: log-probability, tokens, bytes."""
    return np.asarray(-values[..., 0].sum(axis=-1) / values[..., 2].sum(axis=-1) / np.log(2), np.float64)


def estimate(values: Sequence[Sequence[float]], statistic: Statistic = mean, *, samples: int = SAMPLES) -> Estimate:
    """The statistic with its percentile bootstrap interval (Efron & Tibshirani, 1993, chapter 13).

    ``values`` has a row an item. The interval of a single item is the value itself: nothing is known about others.
    """
    table = np.asarray(values, np.float64)
    if not len(table):
        raise ValueError("there is nothing to average")
    whole = float(statistic(table[None])[0])
    drawn = _draws(table, statistic, samples)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(whole, float(low), float(high), len(table))


def _draws(table: Floats, statistic: Statistic, samples: int) -> Floats:
    chance = np.random.default_rng(SEED)
    drawn = []
    for start in range(0, samples, 500):  # bounded memory: 500 × items × columns
        places = chance.integers(0, len(table), (min(500, samples - start), len(table)))
        drawn.append(statistic(table[places]))
    return np.concatenate(drawn)


def paired(
    first: Sequence[Sequence[float]],
    second: Sequence[Sequence[float]],
    statistic: Statistic = mean,
    *,
    samples: int = SAMPLES,
) -> Difference:
    """Two models on the same items: the difference with a paired bootstrap interval, and a p-value.

    The p-value is McNemar's exact one where all values are 0 or 1 (McNemar, 1947), else that of the paired
    randomization test: the labels of each item's two values are swapped by chance (Fisher, 1935; for language systems
    Yeh, 2000). Both assume nothing about distributions.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape or not len(a):
        raise ValueError("paired tests need the same items from both")
    both = np.concatenate([a, b], axis=1)
    width = a.shape[1]

    def difference(values: Floats) -> Floats:
        return statistic(values[..., width:]) - statistic(values[..., :width])

    found = estimate(both.tolist(), difference, samples=samples)
    if width == 1 and np.isin(both, (0.0, 1.0)).all():
        p = mcnemar(int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum()))
    else:
        p = _randomized(a, b, statistic, abs(found.value), samples)
    return Difference(found.value, found.low, found.high, p, len(a))


def _randomized(a: Floats, b: Floats, statistic: Statistic, seen: float, samples: int) -> float:
    chance = np.random.default_rng(SEED)
    extreme = 0
    for start in range(0, samples, 500):
        swap = chance.random((min(500, samples - start), len(a), 1)) < 0.5
        drawn = np.abs(statistic(np.where(swap, a, b)) - statistic(np.where(swap, b, a)))
        extreme += int((drawn >= seen - 1e-12).sum())
    return (extreme + 1) / (samples + 1)


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value for that many items that only one of two models got right."""
    count = only_first + only_second
    fewer = min(only_first, only_second)
    tail = sum(comb(count, k) for k in range(fewer + 1)) / 2**count
    return float(min(1.0, 2 * tail))


def holm(p: Sequence[float]) -> list[float]:
    """P-values corrected for being several tests at once (Holm, 1979), in the given order."""
    order = sorted(range(len(p)), key=lambda number: p[number])
    adjusted = [0.0] * len(p)
    highest = 0.0
    for rank, number in enumerate(order):
        highest = max(highest, min(1.0, p[number] * (len(p) - rank)))
        adjusted[number] = highest
    return adjusted
