"""From bootstrap draws to verdicts: is one system better than another, and what could these data have shown at all?

A verdict is `better` or `worse` where the difference stays significant after Holm's correction over all claims of a
comparison, else `equivalent` where two one-sided tests place it within the margin (Schuirmann 1987: the 90 % interval
lies inside), else `undecided`. An undecided claim is no sign of equality; `detectable_difference` says how large a
difference would have been found.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from cost_hf.evaluation.statistics import Interval, interval_of

logger = logging.getLogger(__name__)
ALPHA = 0.05
EQUIVALENCE_MARGIN = 0.05  # relative to the value of b
POWER = 0.8


@dataclass(frozen=True)
class Claim:
    """A statement about two systems, a minus b, on one metric.

    Attributes:
        a, b: names of the systems.
        metric: such as `ndcg@10`.
        seen: `seen_allowed` or `seen_excluded`.
        purpose: `claim` (reported) or `decision` (the recommendation rests on it).
        difference: mean of a - b with its 95 % interval.
        relative: the difference as a share of b's value; None where that is 0.
        standard_error: of the difference.
        draws: bootstrap draws that p rests on; p is at least 2 / (draws + 1).
        p: two-sided, for this claim alone.
        p_holm: corrected for all claims of the family.
        is_within_margin: the two one-sided tests place the difference within the equivalence margin.
        verdict: `better`, `worse`, `equivalent` or `undecided`; about a.
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
    """The smallest true difference that a test finds with the given power.

    Attributes:
        absolute: in units of the metric.
        relative: as a share of the value it is measured at; None where that is 0.
        power: share of repetitions that would find it.
        alpha: level of a single test that the correction leaves in the worst case.
        text: all of it as a sentence.
    """

    absolute: float
    relative: float | None
    power: float
    alpha: float
    text: str


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
    """Compare two systems by their paired draws; the verdict is that of a family of one, see `settle`.

    Args:
        a: name of the first system.
        b: name of the one it is measured against.
        means_a: mean of a in every draw, `[draws]`.
        means_b: mean of b in the same draws, `[draws]`.
        value_a: mean of a over all cases.
        value_b: mean of b over all cases.
        metric: what the means are means of.
        seen: setting of seen items.
        purpose: `claim` or `decision`.
        alpha: level of the test.
        margin: relative difference from b that still counts as equal.

    Raises:
        ValueError: where the draws do not pair.
    """
    if means_a.shape != means_b.shape or means_a.ndim != 1:
        raise ValueError(
            f"claim {a!r} - {b!r} needs the same draws on both sides, got shapes {means_a.shape!r} and "
            f"{means_b.shape!r}; take both from one call of nested_means"
        )
    draws, value = means_a - means_b, value_a - value_b
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
    """Return the share of draws on the far side of 0, twice the smaller one, at most 1.

    The observed sample counts as one more draw (Davison & Hinkley 1997, eq. 4.11), so p is never 0: with 2,000 draws it
    is at least .001, which survives Holm's correction over up to 50 claims.

    Args:
        differences: of the paired draws, `[draws]`.
    """
    tail = min(int((differences <= 0.0).sum()), int((differences >= 0.0).sum()))
    return min(1.0, 2.0 * (tail + 1) / (len(differences) + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for all of them together, in their order.

    The i-th smallest of m is multiplied by m - i + 1 and is never below a smaller one's (Holm 1979): the chance of any
    false finding stays below the level, whatever the dependence between claims.
    """
    raw = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    factors = np.arange(len(raw), 0, -1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(raw[order] * factors))
    return adjusted.tolist()


def settle(claims: Sequence[Claim], *, alpha: float = ALPHA) -> list[Claim]:
    """Return the claims with `p_holm` and `verdict` of one family: all claims of a comparison."""
    needed = round(2 * len(claims) / alpha)  # the smallest p, 2 / (draws + 1), must survive the correction
    if any(claim.draws < needed for claim in claims):
        fewest = min(claim.draws for claim in claims)
        logger.warning(
            "%d bootstrap draws are too few to show a difference among %d claims; set evaluation.bootstrap_draws to at "
            "least %d",
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
    metric: str = "ndcg@10",
    alpha: float = ALPHA,
    power: float = POWER,
) -> DetectableDifference:
    """Return the true difference that a two-sided test would find with the given power.

    `(z(1 - alpha / 2m) + z(power)) * standard_error`: the level is what Holm's correction leaves for the first of m
    claims, its worst case.

    Args:
        standard_error: of a difference between two systems.
        value: of the system that the relative figure refers to.
        num_claims: m, size of the family.
        metric: named in the sentence.
        alpha: level of the whole family.
        power: wanted chance of finding the difference.
    """
    if num_claims < 1 or standard_error < 0.0:
        raise ValueError(
            f"expected at least one claim and a standard error of at least 0, got num_claims={num_claims!r} and "
            f"standard_error={standard_error!r}; settle the claims first"
        )
    level = alpha / num_claims
    normal = NormalDist()
    absolute = (normal.inv_cdf(1.0 - level / 2.0) + normal.inv_cdf(power)) * standard_error
    relative = absolute / abs(value) if value else None
    share = "" if relative is None else f" ({100 * relative:.0f} % of {value:.4f})"
    family = "one claim tested" if num_claims == 1 else f"{num_claims} claims tested together"
    text = (
        f"With {family}, a true difference of {absolute:.4f} in {metric.upper()}{share} would be found in "
        f"{100 * power:.0f} % of repetitions; smaller ones mostly stay undecided."
    )
    return DetectableDifference(absolute, relative, power, level, text)


def _verdict(value: float, p: float, is_within_margin: bool, alpha: float) -> str:
    if p < alpha:
        return "better" if value > 0.0 else "worse"
    return "equivalent" if is_within_margin else "undecided"
