"""Which statements a comparison makes, and what it could have seen at all."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cost_hf.evaluation.verdicts import Claim, compare_systems, detectable_difference, settle
from cost_hf.experiments.compare.evidence import FAMILIES, family_winners
from cost_hf.experiments.compare.rows import Row
from cost_hf.experiments.compare.systems import GENERATIVE

PRIMARY = "ndcg@10"
CLAIM, DECISION = "claim", "decision"


def claims_of(
    rows: Sequence[Row], means: Mapping[str, np.ndarray], values: Mapping[str, float], *, seen: str
) -> list[Claim]:
    """Return all claims of a comparison with verdicts under one correction.

    Args:
        rows: with at least one finished run; the first generative one is what the claims are about.
        means: draws of the primary metric by row, `[draws]`.
        values: its mean by row.
        seen: setting of `exclude_seen`.
    """
    pairs: dict[tuple[str, str], str] = {}
    main = next((row.name for row in rows if row.family == GENERATIVE), None)
    if main is not None:
        pairs = {(main, row.name): CLAIM for row in rows if row.name != main}
    winners = winners_of(rows, seen)
    for place, dearer in enumerate(FAMILIES):
        for cheaper in FAMILIES[:place]:
            pair = (winners.get(dearer), winners.get(cheaper))
            if pair[0] is not None and pair[1] is not None and pair not in pairs and pair[::-1] not in pairs:
                pairs[pair[0], pair[1]] = DECISION
    claims = [
        compare_systems(a, b, means[a], means[b], values[a], values[b], metric=PRIMARY, seen=seen, purpose=purpose)
        for (a, b), purpose in pairs.items()
    ]
    return settle(claims)


def winners_of(rows: Sequence[Row], seen: str) -> dict[str, str]:
    """Return the row of every family that is best on validation."""
    scores = {row.name: row.validation_score(PRIMARY, seen) for row in rows}
    known = {name: score for name, score in scores.items() if score is not None}
    return family_winners({row.name: row.family for row in rows}, known)


def detectable(claims: Sequence[Claim], value: float) -> dict[str, Any] | None:
    """Return the difference that the median claim could have found; the share refers to `value`, the best system's."""
    if not claims:
        return None
    error = float(np.median([claim.standard_error for claim in claims]))
    return dataclasses.asdict(detectable_difference(error, value, num_claims=len(claims), metric=PRIMARY))
