"""Bootstrap intervals over users and seeds, and paired significance tests between systems.

**Intervals.** Whole users are drawn, not cases, because the cases of one user are not independent. One set of draws
serves all columns of a table, so differences of columns are paired. `bootstrap_means` covers the sampling of users
alone; `nested_means` adds the variance between training runs.

The two parts of a nested draw are drawn independently and added. Resampling runs and users in one product would count
the noise of single (run, user) cells three times (Owen 2007, "The pigeonhole bootstrap"); the sum counts it twice,
which is conservative and compensates for the small number of seeds. Quantizers are resampled with all their generators:
the variance of quantizer means already includes that of the generators, so a second draw within them would count it
twice (Davison and Hinkley 1997, section 3.8). A mean of Q resampled numbers has (Q - 1) / Q of the variance that it
should have, so deviations are scaled by sqrt(Q / (Q - 1)) (Rao and Wu 1988, "Resampling inference with complex survey
data").

**Tests.** The verdict on a claim is `better` or `worse` where the difference is significant after Holm's correction
over all claims of a comparison, else `equivalent` where two one-sided tests place it within the margin (Schuirmann
1987: the 90 % interval is inside), else `inconclusive`. An inconclusive claim is no evidence of equality;
`detectable_difference` gives the size of a difference that would have been found.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, TypeVar

import numpy as np

logger = logging.getLogger(__name__)
CHUNK_ENTRIES = 2**21  # draws made at once: 16 MiB
COUNTED_ENTRIES = 2**26  # counts of draws held at once: 256 MiB
TILE_ENTRIES = 2**22  # values read at once: 32 MiB
CONFIDENCE = 0.95
ALPHA = 0.05
EQUIVALENCE_MARGIN = 0.05  # relative to the value of b
POWER = 0.8
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Interval:
    """A value with the bounds of its interval, 95 % by default."""

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
        seeds_of: system whose draws of runs this one shares, because its runs are combined from that one's (a
            hybrid and its part); None draws its own.
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
        """Sources of variance that an interval of this system covers."""
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
    drawn by its name, independently of the other systems. With one quantizer its generators are resampled instead; with
    one run there is no variance between runs to draw from (`SystemValues.covers` names the case).
    The variance of two or three runs is itself poorly estimated: where it dominates that of the users, the coverage of
    95 % intervals may be only 75 - 90 %; elsewhere it is 92 - 98 %.

    Args:
        systems: by name (text, or a tuple of texts), all on the same M cases.
        clusters: user of every case, `[M]`; without it every case is a cluster of its own.
        draws: number of bootstrap samples.
        seed: of the bootstrap; the users drawn are those of `bootstrap_means` with this seed.

    Raises:
        ValueError: for no systems, different numbers of cases, or inputs that `bootstrap_means` refuses.
    """
    cases = {name: system.values.shape[1] for name, system in systems.items()}
    if len(set(cases.values())) != 1:
        raise ValueError(f"expected systems on the same cases, got cases {cases!r}; rank all on the same targets")
    tables = [_as_table(system.per_case()) for system in systems.values()]  # [M, C] each
    drawn = bootstrap_means(Columns(tables), clusters=clusters, draws=draws, seed=seed)
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
        clusters: user of every case, `[M]`; without it every case is a cluster of its own.
        draws: number of bootstrap samples.
        seed: of the bootstrap.

    Examples:
        >>> bootstrap_interval(np.array([1.0, 1.0, 1.0]))
        Interval(value=1.0, low=1.0, high=1.0)
    """
    column = np.asarray(values, dtype=np.float64)[:, None]
    means = bootstrap_means(column, clusters=clusters, draws=draws, seed=seed)
    return interval_of(float(column.mean()), means[:, 0])


def bootstrap_means(
    values: "np.ndarray | CaseTable",
    *,
    clusters: Sequence | np.ndarray | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> np.ndarray:
    """Return the mean of every column in every bootstrap sample, float64 `[draws, C]`.

    A sample draws as many clusters as there are, with replacement; its mean is over the cases of the drawn clusters, so
    clusters of different sizes weigh by their cases, as in the plain mean. Values are read in parts, once for every few
    samples, so memory does not grow with the number of columns.

    Args:
        values: M cases by C columns, `[M, C]`, finite; a `CaseTable` where they would not fit the memory.
        clusters: label of every case, `[M]`; the result does not depend on the order of cases within or between
            clusters.
        draws: number of bootstrap samples.
        seed: of the bootstrap; equal seeds and clusters give equal samples for any columns.

    Raises:
        ValueError: for no cases, values that are not finite, or labels of another length.
    """
    table = values if isinstance(values, CaseTable) else Columns([np.asarray(values, dtype=np.float64)])
    _check(table, clusters, draws)
    sums = ClusterSums.of(table, clusters)
    totals = np.zeros((draws, table.shape[1] + 1))
    for part, counts in _draw_counts(len(sums.sizes), draws, seed):
        for tile, rows in sums.tiles():
            sized = np.column_stack([rows, sums.sizes[tile]])  # sizes are small integers: exact as they are
            totals[part] += counts[:, tile].astype(np.float64) @ sized
    return totals[:, :-1] / totals[:, -1:]


class CaseTable(ABC):
    """Values of M cases by C columns, float64, which are read in parts: the whole of them may not fit the memory.

    Attributes:
        shape: M and C.
    """

    shape: tuple[int, ...]

    @abstractmethod
    def rows(self, cases: np.ndarray | slice) -> np.ndarray:
        """Return the values of some cases, float64 `[n, C]`."""

    @abstractmethod
    def on_grid(self, exponent: int) -> "CaseTable":
        """Return the table with every value rounded to a multiple of `2 ** exponent`."""

    def largest(self) -> float:
        """Return the largest size of a value."""
        return max(float(np.abs(self.rows(part)).max(initial=0.0)) for part in self.tiles())

    def are_finite(self) -> bool:
        """Tell whether no value is nan or infinite."""
        return all(bool(np.isfinite(self.rows(part)).all()) for part in self.tiles())

    def tiles(self) -> Iterator[slice]:
        """Yield consecutive cases, as many as are read at once."""
        step = max(1, TILE_ENTRIES // max(self.shape[1], 1))
        for start in range(0, self.shape[0], step):
            yield slice(start, min(start + step, self.shape[0]))


class Columns(CaseTable):
    """A table of arrays that stand side by side.

    Args:
        parts: float64 `[M, c]` each.
        exponents: of the grids that values are rounded to as they are read, one after the other.
    """

    def __init__(self, parts: Sequence[np.ndarray], exponents: Sequence[int] = ()):
        self.parts = list(parts)
        self.exponents = tuple(exponents)
        first = self.parts[0].shape
        self.shape = (len(self.parts[0]), sum(part.shape[1] for part in self.parts)) if len(first) == 2 else first

    def rows(self, cases: np.ndarray | slice) -> np.ndarray:
        """Return the values of some cases."""
        found = np.concatenate([part[cases] for part in self.parts], axis=1)
        for exponent in self.exponents:
            found = on_grid(found, exponent)
        return found

    def on_grid(self, exponent: int) -> "Columns":
        """Return the table with rounded values."""
        return Columns(self.parts, [*self.exponents, exponent])


@dataclass(frozen=True, eq=False)
class ClusterSums:
    """Sums over the cases of every cluster, computed in parts whenever they are read.

    Attributes:
        table: values of all cases, on a grid on which sums of them are exact.
        order: cases in the order of their clusters, `[M]`; None where every case is its own cluster, in order.
        sizes: cases of every cluster, float64 `[G]`.
        exponent: of the grid of the sums; None where they are as they come.
    """

    table: CaseTable
    order: np.ndarray | None
    sizes: np.ndarray
    exponent: int | None = None

    @classmethod
    def of(cls, table: CaseTable, clusters: Sequence | np.ndarray | None) -> "ClusterSums":
        """Return the sums of the clusters that cases are labelled with, on a grid on which weighted sums are exact."""
        if clusters is None:
            sums = cls(table, None, np.ones(table.shape[0]))
        else:
            groups = numbered(clusters)
            exact = _grid_exponent(table.largest(), table.shape[0])
            own = table if exact is None else table.on_grid(exact)
            sums = cls(own, np.argsort(groups, kind="stable"), np.bincount(groups).astype(np.float64))
        exponent = _grid_exponent(sums.largest(), len(sums.sizes))
        if exponent is None:
            return sums
        if sums.are_cases:
            return replace(sums, table=sums.table.on_grid(exponent))
        return replace(sums, exponent=exponent)

    @property
    def are_cases(self) -> bool:
        """Whether no cluster has several cases."""
        return len(self.sizes) == self.table.shape[0]

    def largest(self) -> float:
        """Return the largest size of a sum."""
        if self.are_cases:
            return self.table.largest()
        return max(float(np.abs(rows).max(initial=0.0)) for _, rows in self.tiles())

    def tiles(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield consecutive clusters and their sums, float64 `[g, C]`."""
        ends = self.sizes.cumsum().astype(np.int64)
        step = max(1, TILE_ENTRIES // (self.table.shape[1] + 1))
        first = 0
        while first < len(ends):
            begin = int(ends[first] - self.sizes[first])
            last = max(first + 1, int(np.searchsorted(ends, begin + step, side="right")))
            cases = slice(begin, int(ends[last - 1]))
            rows = self.table.rows(cases if self.order is None else self.order[cases])
            if not self.are_cases:
                starts = ends[first:last] - self.sizes[first:last].astype(np.int64) - begin
                rows = np.add.reduceat(rows, starts, axis=0)
            yield slice(first, last), rows if self.exponent is None else on_grid(rows, self.exponent)
            first = last


def interval_of(value: float, means: np.ndarray, *, confidence: float = CONFIDENCE) -> Interval:
    """Return `value` with the percentile interval of its bootstrap `means` `[draws]`."""
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(value, float(low), float(high))


def numbered(labels: Sequence | np.ndarray) -> np.ndarray:
    """Return the number of each label among the distinct ones in ascending order, `[M]` int64.

    Texts stay objects: an array of strings would give each the width of the longest.
    """
    table = labels if isinstance(labels, np.ndarray) else np.array(list(labels), dtype=object)
    return np.unique(table, return_inverse=True)[1]


@dataclass(frozen=True)
class Claim:
    """A tested difference between two systems, a minus b, on one metric.

    Attributes:
        a, b: names of the systems.
        metric: such as `ndcg@10`.
        seen: `seen_allowed` or `seen_excluded`.
        purpose: `claim` (reported) or `decision` (used by the recommendation).
        difference: mean of a - b with its 95 % interval.
        relative: the difference as a share of b's value; None where that is 0.
        standard_error: of the difference.
        draws: number of bootstrap samples; p is at least 2 / (draws + 1).
        p: two-sided, uncorrected.
        p_holm: corrected for all claims that are tested together.
        is_within_margin: the two one-sided tests place the difference within the equivalence margin.
        verdict: on a: `better`, `worse`, `equivalent` or `inconclusive`.
    """

    a: str
    b: str
    metric: str
    seen: str
    purpose: str
    difference: Interval
    relative: float | None
    standard_error: float
    draws: int
    p: float
    p_holm: float
    is_within_margin: bool
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of compare.json."""
        names = ("a", "b", "metric", "seen", "relative", "p", "p_holm", "verdict", "purpose")
        difference = {"value": self.difference.value, "low": self.difference.low, "high": self.difference.high}
        return {name: getattr(self, name) for name in names} | {"difference": difference}


@dataclass(frozen=True)
class DetectableDifference:
    """The smallest true difference that a test detects with the given power.

    Attributes:
        absolute: in units of the metric.
        relative: as a share of the reference value; None where that is 0.
        power: probability of detecting it.
        alpha: level of a single test after the correction, in the worst case.
    """

    absolute: float
    relative: float | None
    power: float
    alpha: float


def compare_systems(
    a: str,
    b: str,
    means_a: np.ndarray,
    means_b: np.ndarray,
    value_a: float,
    value_b: float,
    *,
    metric: str,
    seen: str,
    purpose: str = "claim",
    alpha: float = ALPHA,
    margin: float = EQUIVALENCE_MARGIN,
) -> Claim:
    """Test the difference of two systems by their paired draws, without correction; see `apply_holm`.

    Args:
        a: name of the first system.
        b: name of the second system.
        means_a: mean of a in every draw, `[draws]`.
        means_b: mean of b in the same draws, `[draws]`.
        value_a: mean of a over all cases.
        value_b: mean of b over all cases.
        metric: name of the metric.
        seen: `seen_allowed` or `seen_excluded`.
        purpose: `claim` or `decision`.
        alpha: level of the test.
        margin: largest relative difference from b that counts as equivalent.

    Raises:
        ValueError: where the draws are not paired.
    """
    if means_a.shape != means_b.shape or means_a.ndim != 1:
        raise ValueError(
            f"claim {a!r} - {b!r} needs the same draws on both sides, got shapes {means_a.shape!r} and "
            f"{means_b.shape!r}; take both from one call of nested_means"
        )
    draws = means_a - means_b
    value = value_a - value_b
    narrow = interval_of(value, draws, confidence=1.0 - 2.0 * alpha)
    bound = margin * abs(value_b)
    p = two_sided_p(draws)
    is_within_margin = bool(-bound < narrow.low and narrow.high < bound)
    return Claim(
        a,
        b,
        metric,
        seen,
        purpose,
        difference=interval_of(value, draws),
        relative=value / value_b if value_b else None,
        standard_error=float(draws.std()),
        draws=len(draws),
        p=p,
        p_holm=p,
        is_within_margin=is_within_margin,
        verdict=_verdict(value, p, is_within_margin, alpha),
    )


def two_sided_p(differences: np.ndarray) -> float:
    """Return the two-sided bootstrap p value: twice the smaller share of draws beyond 0, at most 1.

    The observed sample counts as one more draw (Davison & Hinkley 1997, eq. 4.11), so p is never 0: with 2,000 draws it
    is at least .001, which can be significant after Holm's correction over up to 50 claims.

    Args:
        differences: of the paired draws, `[draws]`.

    Examples:
        >>> two_sided_p(np.array([-1.0] * 4 + [1.0] * 95))
        0.1
    """
    tail = min(int((differences <= 0.0).sum()), int((differences >= 0.0).sum()))
    return min(1.0, 2.0 * (tail + 1) / (len(differences) + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values with Holm's step-down correction, in the given order.

    The i-th smallest of m is multiplied by m - i + 1 and is never below a smaller one's (Holm 1979), which bounds the
    family-wise error rate under any dependence between the tests.

    Examples:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    raw = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    factors = np.arange(len(raw), 0, -1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(raw[order] * factors))
    return adjusted.tolist()


def apply_holm(claims: Sequence[Claim], *, alpha: float = ALPHA) -> list[Claim]:
    """Return the claims with `p_holm` and `verdict` corrected for all of them."""
    needed = round(2 * len(claims) / alpha)  # so that the smallest p, 2 / (draws + 1), can be significant
    if any(claim.draws < needed for claim in claims):
        fewest = min(claim.draws for claim in claims)
        logger.warning(
            "%d bootstrap draws are too few for any of %d claims to be significant; set evaluation.bootstrap_draws to "
            "at least %d",
            fewest,
            len(claims),
            needed,
        )
    adjusted = holm([claim.p for claim in claims])
    return [
        replace(claim, p_holm=p, verdict=_verdict(claim.difference.value, p, claim.is_within_margin, alpha))
        for claim, p in zip(claims, adjusted, strict=True)
    ]


def detectable_difference(
    standard_error: float,
    value: float,
    *,
    num_claims: int,
    alpha: float = ALPHA,
    power: float = POWER,
) -> DetectableDifference:
    """Return the true difference that a two-sided test detects with the given power.

    `(z(1 - alpha / 2m) + z(power)) * standard_error`: the level is that of Holm's correction for the first of m claims,
    its worst case.

    Args:
        standard_error: of a difference between two systems.
        value: reference of the relative difference.
        num_claims: m, number of claims tested together.
        alpha: family-wise level.
        power: wanted probability of detecting the difference.

    Raises:
        ValueError: for no claims or a negative standard error.

    Examples:
        >>> round(detectable_difference(0.002, 0.08, num_claims=1).relative, 3)
        0.07
    """
    if num_claims < 1 or standard_error < 0.0:
        raise ValueError(
            f"expected at least one claim and a standard error of at least 0, got num_claims={num_claims!r} and "
            f"standard_error={standard_error!r}"
        )
    level = alpha / num_claims
    normal = NormalDist()
    absolute = (normal.inv_cdf(1.0 - level / 2.0) + normal.inv_cdf(power)) * standard_error
    return DetectableDifference(absolute, absolute / abs(value) if value else None, power, level)


def _seed_deviations(system: SystemValues, draws: int, generator: np.random.Generator) -> np.ndarray:
    """Return the deviation of resampled runs from the mean of a system, float64 `[draws, C]`; 0 for a single run."""
    has_one_quantizer = len(set(system.quantizer_of)) == 1
    units = system.values if has_one_quantizer else system.by_quantizer()  # [Q, M, ...]
    means = np.stack([_exactly_summed(_as_table(unit)).sum(axis=0) / len(unit) for unit in units])  # [Q, C]
    count = len(means)
    if count == 1:
        return np.zeros((draws, means.shape[1]))
    picks = generator.integers(0, count, size=(draws, count))
    return np.sqrt(count / (count - 1)) * (means[picks].mean(axis=1) - means.mean(axis=0))


def _as_table(values: np.ndarray) -> np.ndarray:
    """Return `[M]` or `[M, C]` as a table `[M, C]`."""
    return values.reshape(len(values), -1)


def _draw_counts(size: int, draws: int, seed: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield some samples and how often each of `size` clusters is in them, int32 `[samples, size]`; `draws` in all."""
    generator = np.random.default_rng(seed)
    held = max(1, COUNTED_ENTRIES // size)
    chunk = max(1, CHUNK_ENTRIES // size)
    for first in range(0, draws, held):
        samples = slice(first, min(first + held, draws))
        counts = np.empty((samples.stop - first, size), dtype=np.int32)
        for start in range(0, len(counts), chunk):
            rows = min(chunk, len(counts) - start)
            picks = generator.integers(0, size, size=(rows, size))
            picks += np.arange(rows)[:, None] * size
            counts[start : start + rows] = np.bincount(picks.ravel(), minlength=rows * size).reshape(rows, size)
        yield samples, counts


def _grid_exponent(largest: float, terms: int) -> int | None:
    """Return the exponent of a power-of-two grid on which weighted sums are exact in float64; None for zeros alone.

    Exact sums do not depend on the order of addition, so an interval is the same for any number of threads and for
    parts of any size.

    Args:
        largest: size of a value.
        terms: number of values of a sum, whose weights add up to it.
    """
    if largest == 0.0:
        return None
    # the sum of a sample is at most terms * largest in size: 52 bits for it
    return int(np.frexp(largest * terms)[1]) - 52


def on_grid(values: np.ndarray, exponent: int) -> np.ndarray:
    """Return values rounded to multiples of `2 ** exponent`."""
    return np.ldexp(np.round(np.ldexp(values, -exponent)), exponent)


def _exactly_summed(values: np.ndarray) -> np.ndarray:
    """Return values `[M, …]` on the grid on which a weighted sum of M of them is exact."""
    exponent = _grid_exponent(float(np.abs(values).max(initial=0.0)), len(values))
    return values if exponent is None else on_grid(values, exponent)


def _check(table: CaseTable, clusters: Sequence | np.ndarray | None, draws: int) -> None:
    if len(table.shape) != 2 or table.shape[0] == 0:
        raise ValueError(f"expected a table [cases, columns] with at least one case, got shape {table.shape!r}")
    if not table.are_finite():
        raise ValueError("expected finite values, got nan or inf; turn ranks into metrics before the bootstrap")
    if clusters is not None and len(clusters) != table.shape[0]:
        raise ValueError(
            f"expected one cluster label per case, {table.shape[0]!r}, got {len(clusters)!r}; pass user ids"
        )
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws!r}")


def _verdict(value: float, p: float, is_within_margin: bool, alpha: float) -> str:
    if p < alpha:
        return "better" if value > 0.0 else "worse"
    return "equivalent" if is_within_margin else "inconclusive"
