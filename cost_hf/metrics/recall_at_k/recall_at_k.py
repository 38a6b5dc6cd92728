"""Recall@k of ranked lists with one relevant item each: the share of lists with the item in the first k entries.

This `evaluate` module imports nothing of its package, because `evaluate.load("path/to/recall_at_k")` copies this file
alone.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

DESCRIPTION = "Recall@k (hit rate) of ranked lists with one relevant item each."
INPUTS = """
Args:
    predictions: ranked lists of items (integers or strings), best first, of any length.
    references: the relevant item of each list.
    k: number of entries that count, 10 by default.

Returns:
    `{"recall@k": float}`, the mean over lists, 0 to 1.
"""
CITATION = ""


def recall_at_k(predictions: Sequence[Sequence[Any]], references: Sequence[Any], k: int) -> np.ndarray:
    """Return 1.0 for every list with its reference in the first `k` entries, else 0.0, float64 `[M]`.

    Examples:
        >>> recall_at_k([["a", "b"], ["a", "b"]], ["b", "c"], k=2).tolist()
        [1.0, 0.0]
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k!r}")
    pairs = zip(predictions, references, strict=True)
    return np.array([float(wanted in list(ranked)[:k]) for ranked, wanted in pairs])


class RecallAtK(evaluate.Metric):
    """Mean recall@k."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=[
                datasets.Features(
                    {"predictions": datasets.Sequence(datasets.Value(kind)), "references": datasets.Value(kind)}
                )
                for kind in ("int64", "string")
            ],
        )

    def _compute(self, predictions: Any, references: Any, k: int = 10) -> dict[str, float]:
        return {f"recall@{k}": float(recall_at_k(predictions, references, k).mean())}
