"""Limits of the statistics of drift, from samples of held-out training items that are as large as the new data.

Half of the samples are drawn at random, half are stretches of the catalog in its order: new items come together, and
where the catalog was filled over time, such stretches show how much it changes by itself.

A statistic has its usual value, the median over the samples, and a spread. The first limit (`watch`) is beyond all
samples, and so many spreads away from the usual value that all statistics together give about one false alarm in a
hundred checks; the second limit (`retrain`) is twice as far away. So false alarms do not grow with the number of
statistics, and rare values of one of them do not widen the limits of others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from cost_hf.experiments.drift.statistics import BOTH, FINE, HIGH, LOW, RETRAIN, WATCH

DRAWS = 400
FALSE_ALARMS = 0.01  # share of checks of data like those of the training that give one, over all statistics
SECOND = 2.0  # distance of the second limit, in distances of the first one
OUTER = 0.975  # quantile that a spread is measured at,
OUTER_DEVIATION = 1.96  # and how many spreads of a normal distribution lie between it and the median
MIN_SPREAD = 0.01  # share of the usual value, and for shares and distances of the whole: less is no difference


@dataclass(frozen=True)
class Limits:
    """What is usual for a statistic, and what is not; None where a side does not matter.

    Attributes:
        usual: median over the samples of training items.
        low, high: range of their middle 95 %.
        watch: limits (low, high) beyond which a value is unusual.
        retrain: limits beyond which it is far from usual.
    """

    usual: float
    low: float
    high: float
    watch: tuple[float | None, float | None]
    retrain: tuple[float | None, float | None]

    def status(self, value: float) -> str:
        """Return `fine`, `watch` or `retrain`."""
        for verdict, (low, high) in ((RETRAIN, self.retrain), (WATCH, self.watch)):
            if (low is not None and value < low) or (high is not None and value > high):
                return verdict
        return FINE

    def distance(self, value: float) -> float:
        """Return how far a value is from the usual one, in distances of the first limit; 0 on a side that is fine."""
        for limit, sign in zip(self.watch, (-1, 1), strict=True):
            if limit is not None and sign * (value - self.usual) > 0:
                return (value - self.usual) / (limit - self.usual)
        return 0.0

    def at_least(self, high: float) -> "Limits":
        """Return the limits with an upper one that is not below `high`, and the second one not below twice that."""
        watch = None if self.watch[1] is None else max(self.watch[1], high)
        retrain = None if self.retrain[1] is None else max(self.retrain[1], SECOND * high)
        return Limits(self.usual, self.low, self.high, (self.watch[0], watch), (self.retrain[0], retrain))


def limits_of(samples: Mapping[str, np.ndarray], sides: Mapping[str, str]) -> dict[str, Limits]:
    """Return the limits of every statistic.

    Args:
        samples: values of D samples of training items by statistic, `[D]`.
        sides: `high`, `low` or `both` by statistic: where a value is drift.

    Examples:
        >>> values = np.random.default_rng(0).normal(10, 1, 400)
        >>> limits = limits_of({"length": values}, {"length": "both"})["length"]
        >>> limits.status(10), limits.status(14), limits.status(20)
        ('fine', 'watch', 'retrain')
    """
    if not samples:
        return {}
    factor = NormalDist().inv_cdf(1 - FALSE_ALARMS / (2 * len(samples)))
    return {name: _limits(values, sides[name], factor) for name, values in samples.items()}


def _limits(values: np.ndarray, side: str, factor: float) -> Limits:
    """Return the limits of one statistic, `factor` spreads or more away from its median."""
    usual = float(np.median(values))
    low, high = np.quantile(values, [1 - OUTER, OUTER])
    least = MIN_SPREAD * max(abs(usual), MIN_SPREAD)
    below = max(factor * max((usual - low) / OUTER_DEVIATION, least), usual - float(values.min()))
    above = max(factor * max((high - usual) / OUTER_DEVIATION, least), float(values.max()) - usual)

    def at(times: float) -> tuple[float | None, float | None]:
        return (
            float(usual - times * below) if side in (LOW, BOTH) else None,
            float(usual + times * above) if side in (HIGH, BOTH) else None,
        )

    return Limits(usual, float(low), float(high), at(1), at(SECOND))


def item_samples(num_items: int, size: int, *, draws: int = DRAWS, seed: int = 0) -> Sequence[np.ndarray]:
    """Return samples of training items, int64 `[size]` each: first those drawn at random, then stretches in order."""
    generator = np.random.default_rng(seed)
    random = [generator.permutation(num_items)[:size] for _ in range(draws // 2)]
    starts = generator.integers(0, num_items, draws - len(random))
    return [*random, *((start + np.arange(size)) % num_items for start in starts)]


def share_samples(count: int, total: int, size: int, *, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Return shares that samples of `size` may have where `count` of `total` held-out ones had it, float64 `[draws]`.

    They are drawn from the posterior predictive distribution under Jeffreys' prior: where few were counted, more is
    possible.

    Examples:
        >>> samples = share_samples(50, 100, 1000)
        >>> bool(0.45 < np.median(samples) < 0.55)
        True
    """
    generator = np.random.default_rng([seed, count, total, size])
    rates = generator.beta(count + 0.5, total - count + 0.5, draws)
    return generator.binomial(size, rates) / size
