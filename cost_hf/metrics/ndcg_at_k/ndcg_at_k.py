"""NDCG@k of ranked lists with one relevant item each: 1 / log2(1 + rank) within the first k entries, else 0.

With one relevant item the ideal DCG is 1, so NDCG equals DCG (Järvelin and Kekäläinen 2002, "Cumulated gain-based
evaluation of IR techniques"). This `evaluate` module imports nothing of its package, because
`evaluate.load("path/to/ndcg_at_k")` copies this file alone.
"""

import math
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

DESCRIPTION = "NDCG@k of ranked lists with one relevant item each."
INPUTS = """
Args:
    predictions: ranked lists of items (integers or strings), best first, of any length.
    references: the relevant item of each list.
    k: number of entries that count, 10 by default.

Returns:
    `{"ndcg@k": float}`, the mean over lists, 0 to 1.
"""
CITATION = ""


def ndcg_at_k(predictions: Sequence[Sequence[Any]], references: Sequence[Any], k: int) -> np.ndarray:
    """Return 1 / log2(1 + rank) of the reference within the first `k` entries of its list, else 0.0, float64 `[M]`.

    Examples:
        >>> ndcg_at_k([["a", "b", "c"], ["a", "b", "c"]], ["c", "d"], k=3).tolist()
        [0.5, 0.0]
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k!r}")
    gains = []
    for ranked, wanted in zip(predictions, references, strict=True):
        first = list(ranked)[:k]
        gains.append(1.0 / math.log2(2 + first.index(wanted)) if wanted in first else 0.0)
    return np.array(gains)


class NdcgAtK(evaluate.Metric):
    """Mean NDCG@k."""

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
        return {f"ndcg@{k}": float(ndcg_at_k(predictions, references, k).mean())}
