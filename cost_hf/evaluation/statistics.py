"""Bootstrap intervals over users and seeds: how far a number would move with other users, and trained once more.

Whole users are drawn, not cases, because the cases of one user are not independent. One set of draws serves all columns
of a table, so differences of columns are paired for free. The draws of a run are a few matrix products with counts.
`bootstrap_means` covers the sampling of users alone; `nested_means` adds the spread between training runs.

The two parts of a nested draw are drawn independently and added. Resampling runs and users in one product would count
the noise of single (run, user) cells three times (Owen 2007, "The pigeonhole bootstrap"); the sum counts it twice,
which errs on the careful side and makes up for the few seeds there are. Quantizers are resampled with all their
generators: the spread of quantizer means already holds that of the generators, so a second draw within them would count
it twice (Davison and Hinkley 1997, section 3.8). A mean of Q resampled numbers has (Q - 1) / Q of the variance that it
should have, so deviations are stretched by sqrt(Q / (Q - 1)) (Rao and Wu 1988, "Resampling inference with complex
survey data").
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

CHUNK_ENTRIES = 2**21  # counts held at once: 16 MiB
CONFIDENCE = 0.95
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Interval:
    """A value with the bounds of its interval, 95 % unless said otherwise."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class SystemValues:
    """A metric of the S runs of one system on the same M cases.

    Attributes:
        values: float `[S, M]`, or `[S, M, C]` for C metrics at once. A system without training has S = 1.
        quantizer_of: which quantizer each run used, S numbers: generators that share a quantizer share a number. Runs
            of a system without a quantizer have a number each.
        seeds_of: system whose draws of runs this one shares, because its runs are made of that one's (an ensemble and
            its part); None draws for itself.
    """

    values: np.ndarray
    quantizer_of: Sequence[int]
    seeds_of: Hashable | None = None

    def __post_init__(self) -> None:
        if self.values.ndim not in (2, 3) or len(self.values) != len(self.quantizer_of) or not self.values.size:
            raise ValueError(
                f"expected values [runs, cases] or [runs, cases, metrics] with one quantizer per run, got shape "
                f"{self.values.shape!r} and quantizer_of={list(self.quantizer_of)!r}; stack the finished runs"
            )

    @property
    def covers(self) -> str:
        """What an interval of this system covers, in words."""
        if len(self.values) == 1:
            return "users"
        return "users and seeds" if len(set(self.quantizer_of)) > 1 else "users and generator seeds of one quantizer"

    def by_quantizer(self) -> np.ndarray:
        """Return the mean of every quantizer's runs, `[Q, M]` or `[Q, M, C]`, in order of first appearance."""
        quantizers = np.asarray(self.quantizer_of)
        return np.stack([self.values[quantizers == one].mean(axis=0) for one in dict.fromkeys(self.quantizer_of)])

    def per_case(self) -> np.ndarray:
        """Return the system's value of every case, `[M]` or `[M, C]`: the mean over quantizers of their runs' mean."""
        return self.by_quantizer().mean(axis=0)


def nested_means(
    systems: Mapping[Name, SystemValues],
    *,
    clusters: Sequence | np.ndarray | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> dict[Name, np.ndarray]:
    """Return the mean of every system in every draw of users and seeds, float64 `[draws]` or `[draws, C]`.

    Users are drawn once for all systems, so the difference of two results is paired by user. The seeds of a system are
    drawn for it alone, by its name, whatever other systems there are. With one quantizer its generators are resampled
    instead; with one run there is no spread to draw from (`SystemValues.covers` says which).
    With two or three runs their spread is itself hardly known: where it outweighs that of the users, 95 % intervals
    may cover only 75 - 90 %; where it does not, they cover 92 - 98 %.

    Args:
        systems: by name (text, or a tuple of texts), all on the same M cases.
        clusters: label of every case, `[M]` (user ids); cases are their own clusters without it.
        draws: bootstrap samples.
        seed: of the draws; the users drawn are those of `bootstrap_means` with this seed.

    Raises:
        ValueError: for no systems, different numbers of cases, or what `bootstrap_means` refuses.
    """
    cases = {name: system.values.shape[1] for name, system in systems.items()}
    if len(set(cases.values())) != 1:
        raise ValueError(f"expected systems on the same cases, got cases {cases!r}; rank all on the same targets")
    tables = [_as_table(system.per_case()) for system in systems.values()]  # [M, C] each
    drawn = bootstrap_means(np.concatenate(tables, axis=1), clusters=clusters, draws=draws, seed=seed)
    parts = np.split(drawn, np.cumsum([table.shape[1] for table in tables])[:-1], axis=1)
    means = {}
    for (name, system), part in zip(systems.items(), parts, strict=True):
        key = name if system.seeds_of is None else system.seeds_of
        total = part + _seed_deviations(system, draws, np.random.default_rng([seed, *repr(key).encode()]))
        means[name] = total.reshape(draws, *system.values.shape[2:])
    return means


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
        groups = numbered(clusters)
        sizes = np.bincount(groups).astype(np.float64)
        sums = np.zeros((len(sizes), values.shape[1]))
        np.add.at(sums, groups, _on_grid(values))
    table = np.column_stack([_on_grid(sums), sizes])  # sizes are small integers: exact as they are
    totals = np.concatenate([counts @ table for counts in _draw_counts(len(sizes), draws, seed)])
    return totals[:, :-1] / totals[:, -1:]


def interval_of(value: float, means: np.ndarray, *, confidence: float = CONFIDENCE) -> Interval:
    """Return `value` with the percentile interval of its bootstrap `means` `[draws]`."""
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(value, float(low), float(high))


def _seed_deviations(system: SystemValues, draws: int, generator: np.random.Generator) -> np.ndarray:
    """Return how far resampled runs move the mean of a system, float64 `[draws, C]`; 0 where there is one run."""
    has_one_quantizer = len(set(system.quantizer_of)) == 1
    units = system.values if has_one_quantizer else system.by_quantizer()  # [Q, M, ...]
    means = np.stack([_on_grid(_as_table(unit)).sum(axis=0) / len(unit) for unit in units])  # [Q, C]
    count = len(means)
    if count == 1:
        return np.zeros((draws, means.shape[1]))
    picks = generator.integers(0, count, size=(draws, count))
    return np.sqrt(count / (count - 1)) * (means[picks].mean(axis=1) - means.mean(axis=0))


def _as_table(values: np.ndarray) -> np.ndarray:
    """Return `[M]` or `[M, C]` as a table `[M, C]`."""
    return values.reshape(len(values), -1)


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


def numbered(labels: Sequence | np.ndarray) -> np.ndarray:
    """Return the number of each label among the distinct ones in ascending order, `[M]` int64.

    Texts stay objects: an array of strings would give each the width of the longest.
    """
    table = labels if isinstance(labels, np.ndarray) else np.array(list(labels), dtype=object)
    return np.unique(table, return_inverse=True)[1]


def _check(values: np.ndarray, clusters: Sequence | np.ndarray | None, draws: int) -> None:
    if values.ndim != 2 or len(values) == 0:
        raise ValueError(f"expected a table [cases, columns] with at least one case, got shape {values.shape!r}")
    if not np.isfinite(values).all():
        raise ValueError("expected finite values, got nan or inf; turn ranks into metrics before the bootstrap")
    if clusters is not None and len(clusters) != len(values):
        raise ValueError(f"expected one cluster label per case, {len(values)!r}, got {len(clusters)!r}; pass user ids")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws!r}")
