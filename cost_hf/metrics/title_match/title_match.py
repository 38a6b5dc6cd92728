"""Exact match and ROUGE of generated titles.

ROUGE (Lin 2004, "ROUGE: a package for automatic evaluation of summaries") is that of `rouge-score`, without stemming.
This `evaluate` module imports nothing of its package, because `evaluate.load("path/to/title_match")` copies this file
alone.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from rouge_score import rouge_scorer

KINDS = ("rouge1", "rouge2", "rougeL")
DESCRIPTION = "Exact match, ROUGE-1, ROUGE-2 and ROUGE-L (F measures) of short texts with one reference each."
INPUTS = """
Args:
    predictions: generated texts.
    references: the reference text of each.

Returns:
    `{"exact_match", "rouge1", "rouge2", "rougeL"}`, means over texts, 0 to 1. Exact match ignores case and the amount
    of white space.
"""
CITATION = ""


def title_match(predictions: Sequence[str], references: Sequence[str]) -> dict[str, np.ndarray]:
    """Return exact match and the ROUGE F measures of every pair, float64 `[M]` each.

    Examples:
        >>> {name: values.tolist() for name, values in title_match(["Red  kite"], ["red kite"]).items()}
        {'exact_match': [1.0], 'rouge1': [1.0], 'rouge2': [1.0], 'rougeL': [1.0]}
    """
    scorer = rouge_scorer.RougeScorer(KINDS)
    pairs = list(zip(predictions, references, strict=True))
    scores = [scorer.score(reference, prediction) for prediction, reference in pairs]
    values = {kind: np.array([score[kind].fmeasure for score in scores]) for kind in KINDS}
    exact = [_folded(prediction) == _folded(reference) for prediction, reference in pairs]
    return {"exact_match": np.array(exact, dtype=float), **values}


def _folded(text: str) -> str:
    return " ".join(text.split()).lower()


class TitleMatch(evaluate.Metric):
    """Mean exact match and ROUGE."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features({name: datasets.Value("string") for name in ("predictions", "references")}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {name: float(values.mean()) for name, values in title_match(predictions, references).items()}
