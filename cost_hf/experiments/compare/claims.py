"""The claims of a comparison and the smallest difference that it could have detected."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cost_hf.evaluation.statistics import Claim, apply_holm, compare_systems, detectable_difference
from cost_hf.experiments.compare.evidence import family_winners, selected_rows
from cost_hf.experiments.compare.rows import Row
from cost_hf.reporting import words

PRIMARY = "ndcg@10"
CLAIM = "claim"
DECISION = "decision"


def claims_of(
    rows: Sequence[Row], means: Mapping[str, np.ndarray], values: Mapping[str, float], *, seen: str
) -> list[Claim]:
    """Return all claims of a comparison, corrected together.

    The first generative row, or without one the first dense row, is compared with every other row, a hybrid with
    generative parts with the same one without them, and the rows that validation selects with each other.

    Args:
        rows: with at least one finished run.
        means: bootstrap draws of the primary metric by row, `[draws]`.
        values: its mean by row.
        seen: `seen_allowed` or `seen_excluded`.
    """
    pairs: dict[tuple[str, str], str] = {}
    first = {row.family: row.name for row in reversed(rows)}
    main = first.get("generative", first.get("dense"))
    if main is not None:
        pairs = {(main, row.name): CLAIM for row in rows if row.name != main}
    without = {row.name: row.without_generative for row in rows}
    pairs |= {(name, other): CLAIM for name, other in without.items() if other is not None and other in without}
    selected = selected_rows(winners_of(rows, seen), without)
    for number, name in enumerate(selected):
        for cheaper in selected[:number]:
            if (name, cheaper) not in pairs and (cheaper, name) not in pairs:
                pairs[name, cheaper] = DECISION
    claims = [
        compare_systems(a, b, means[a], means[b], values[a], values[b], metric=PRIMARY, seen=seen, purpose=purpose)
        for (a, b), purpose in pairs.items()
    ]
    return apply_holm(claims)


def winners_of(rows: Sequence[Row], seen: str) -> dict[str, str]:
    """Return the row of every family that is best on validation."""
    scores = {row.name: row.validation_score(PRIMARY, seen) for row in rows}
    known = {name: score for name, score in scores.items() if score is not None}
    return family_winners({row.name: row.family for row in rows}, known)


def detectable(claims: Sequence[Claim], value: float) -> dict[str, Any] | None:
    """Return the difference that the median claim could have detected, and `text`; None without claims.

    Args:
        claims: of the comparison.
        value: of the best system, to which the relative difference refers.
    """
    if not claims:
        return None
    error = float(np.median([claim.standard_error for claim in claims]))
    found = dataclasses.asdict(detectable_difference(error, value, num_claims=len(claims)))
    text = words.detectable_difference(found, value=value, num_claims=len(claims), metric=PRIMARY)
    return found | {"text": text}
