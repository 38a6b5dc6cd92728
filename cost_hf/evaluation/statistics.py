"""Bootstrap intervals over users: how far a number would move with other users of the same kind.

Whole users are drawn, not cases, because the cases of one user are not independent. One set of draws serves all columns
of a table, so differences of columns are paired for free, and later statistics (nested seeds, corrections for several
claims) can start from the same draws. The draws of a run are a few matrix products with counts. Intervals cover the
sampling of users alone; the spread between training seeds comes on top.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

CHUNK_ENTRIES = 2**21  # counts held at once: 16 MiB
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A value with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap_interval(
    values: np.ndarray, *, clusters: Sequence | np.ndarray | None = None, draws: int = 2000, seed: int = 0
) -> Interval:
    """Return the mean of `values` `[M]` with its percentile interval over draws of clusters.

    Args:
        values: one number per case.
        clusters: whose case it is, `[M]` (user ids); cases are their own clusters without it.
        draws: bootstrap samples.
        seed: of the draws.
    """
    column = np.asarray(values, dtype=np.float64)[:, None]
    means = bootstrap_means(column, clusters=clusters, draws=draws, seed=seed)
    return interval_of(float(column.mean()), means[:, 0])


def paired_difference(
    a: np.ndarray,
    b: np.ndarray,
    *,
    clusters: Sequence | np.ndarray | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the mean of `a - b` `[M]` with its interval; both sides of a case are drawn together.

    Raises:
        ValueError: where `a` and `b` are not about the same number of cases.
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(
            f"a paired difference needs the same cases on both sides, got shapes {np.shape(a)!r} and {np.shape(b)!r}; "
            "rank both on the same targets"
        )
    return bootstrap_interval(np.asarray(a) - np.asarray(b), clusters=clusters, draws=draws, seed=seed)


def bootstrap_means(
    values: np.ndarray, *, clusters: Sequence | np.ndarray | None = None, draws: int = 2000, seed: int = 0
) -> np.ndarray:
    """Return the mean of every column in every bootstrap sample, float64 `[draws, C]`.

    A sample draws as many clusters as there are, with replacement; its mean is over the cases of the drawn clusters, so
    clusters of different sizes weigh by their cases, as in the plain mean.

    Args:
        values: M cases by C columns, `[M, C]`, finite.
        clusters: label of every case, `[M]`; the result does not depend on the order of cases within or between
        clusters. draws: bootstrap samples. seed: of the draws; equal seeds and clusters give equal samples, whatever
        the columns.

    Raises:
        ValueError: for no cases, values that are not finite, or labels of another length.
    """
    values = np.asarray(values, dtype=np.float64)
    _check(values, clusters, draws)
    if clusters is None:
        sums, sizes = values, np.ones(len(values))
    else:
        _, groups = np.unique(np.asarray(clusters), return_inverse=True)
        sizes = np.bincount(groups).astype(np.float64)
        sums = np.zeros((len(sizes), values.shape[1]))
        np.add.at(sums, groups, _on_grid(values))
    table = np.column_stack([_on_grid(sums), sizes])  # sizes are small integers: exact as they are
    totals = np.concatenate([counts @ table for counts in _draw_counts(len(sizes), draws, seed)])
    return totals[:, :-1] / totals[:, -1:]


def interval_of(value: float, means: np.ndarray) -> Interval:
    """Return `value` with the percentile interval of its bootstrap `means` `[draws]`."""
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(value, float(low), float(high))


def _draw_counts(size: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each of `size` clusters is in a sample, float64 `[chunk, size]`, `draws` rows in all."""
    generator = np.random.default_rng(seed)
    chunk = max(1, CHUNK_ENTRIES // size)
    for start in range(0, draws, chunk):
        rows = min(chunk, draws - start)
        picks = generator.integers(0, size, size=(rows, size))
        picks += np.arange(rows)[:, None] * size
        yield np.bincount(picks.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)


def _on_grid(values: np.ndarray) -> np.ndarray:
    """Round to a power-of-two grid so fine that nothing is lost and so coarse that weighted sums are exact in float64.

    Exact sums do not depend on the order of addition, so an interval is the same for one thread and for many.
    """
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0.0:
        return values
    # a sample's sum is at most M * largest in size: leave it 52 bits
    exponent = int(np.frexp(largest * len(values))[1]) - 52
    return np.ldexp(np.round(np.ldexp(values, -exponent)), exponent)


def _check(values: np.ndarray, clusters: Sequence | np.ndarray | None, draws: int) -> None:
    if values.ndim != 2 or len(values) == 0:
        raise ValueError(f"expected a table [cases, columns] with at least one case, got shape {values.shape!r}")
    if not np.isfinite(values).all():
        raise ValueError("expected finite values, got nan or inf; turn ranks into metrics before the bootstrap")
    if clusters is not None and len(clusters) != len(values):
        raise ValueError(f"expected one cluster label per case, {len(values)!r}, got {len(clusters)!r}; pass user ids")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws!r}")
