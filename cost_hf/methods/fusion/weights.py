"""What the parts of a fusion give to the score of a candidate, and the weights of the parts."""

from collections.abc import Sequence

import numpy as np

from cost_hf.evaluation.ranking import per_user_metrics
from cost_hf.recommenders.candidates import Candidates

OFFSET = 10  # added to every rank; Cormack, Clarke and Büttcher (2009) have 60, for lists of a thousand items
CUTOFF = 10  # weights are chosen on NDCG@10
ROUNDS = 20  # of the selection: weights are multiples of 1 / 20 or coarser
DIGITS = 12  # sums are rounded, so equal ones tie whatever the order of their terms


def part_values(kind: str, candidates: Candidates) -> np.ndarray:
    """Return what every part gives to the score of a candidate, float64 `[B, C, P]`.

    `reciprocal_rank`: `1 / (10 + rank)`, 0 where the part does not list the item (Cormack, Clarke and Büttcher 2009).
    `score_sum`: the part's score less the mean over its scored candidates of the request, over their standard deviation
    (EnsRec, arXiv 2512.17820, adds standardised scores); an item without a score has the lowest one of the request.
    """
    if kind == "reciprocal_rank":
        return np.nan_to_num(1.0 / (OFFSET + candidates.ranks), nan=0.0)
    return candidates.standardised()


def weighted_sum(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the scores of the candidates, float64 `[B, C]`."""
    return (values @ np.asarray(weights, dtype=np.float64)).round(DIGITS)


def choose_weights(batches: Sequence[tuple[np.ndarray, Candidates, np.ndarray]]) -> np.ndarray:
    """Return weights `[P]` that sum to 1, chosen for NDCG@10 by greedy selection of parts with replacement.

    Every round adds the part that makes the sum of those chosen so far best; the best round of all counts, the first
    of equals (Caruana et al. 2004, "Ensemble selection from libraries of models"). A part that is never added has
    weight 0.

    Args:
        batches: validation cases: the result of `part_values` `[B, C, P]`, the candidates, and the target catalog rows
            `[B]`.

    Examples:
        >>> import numpy as np
        >>> from cost_hf.recommenders.candidates import merge_lists
        >>> good, bad = np.array([[0, 9], [1, 9]]), np.array([[9, 8], [9, 8]])
        >>> found = merge_lists([good, bad], [-good, -bad])
        >>> choose_weights([(part_values("reciprocal_rank", found), found, np.array([0, 1]))]).tolist()
        [1.0, 0.0]
    """
    parts = batches[0][0].shape[2]
    columns = [candidates.columns_of(targets[:, None])[:, 0] for _, candidates, targets in batches]
    totals = [np.zeros(values.shape[:2]) for values, _, _ in batches]
    chosen = np.zeros(parts)
    best = -np.inf
    weights = chosen
    for _ in range(ROUNDS):
        gains = []
        for part in range(parts):
            own = [
                _gains(total + values[:, :, part], candidates, column)
                for total, (values, candidates, _), column in zip(totals, batches, columns, strict=True)
            ]
            gains.append(float(np.concatenate(own).mean()))
        part = int(np.argmax(np.round(gains, DIGITS)))
        chosen = chosen + (np.arange(parts) == part)
        totals = [total + values[:, :, part] for total, (values, _, _) in zip(totals, batches, strict=True)]
        if round(gains[part], DIGITS) > best:
            best = round(gains[part], DIGITS)
            weights = chosen / chosen.sum()
    return weights


def check_weights(weights: np.ndarray, count: int) -> None:
    """Raise ValueError unless there is one finite weight a part, none negative and not all 0."""
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (count,) or not (np.isfinite(given).all() and (given >= 0.0).all() and (given > 0.0).any()):
        raise ValueError(
            f"weights must be one number per part, {count!r}, at least 0 and not all 0, got {given.tolist()!r}"
        )


def _gains(scores: np.ndarray, candidates: Candidates, columns: np.ndarray) -> np.ndarray:
    """Return NDCG@10 of cases `[B]` whose targets are in these columns, -1 where they are no candidates."""
    scores = scores.round(DIGITS)
    if not scores.shape[1]:
        return np.zeros(len(scores))
    own = np.take_along_axis(scores, np.maximum(columns, 0)[:, None], axis=1)
    is_before = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < columns[:, None]))
    ranks = np.where(columns >= 0, 1.0 + (is_before & (candidates.items >= 0)).sum(axis=1), np.nan)
    return per_user_metrics(ranks, [CUTOFF])[f"ndcg@{CUTOFF}"]
