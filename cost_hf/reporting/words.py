"""Names of metrics, settings, families, slices and verdicts in reports, and what they mean."""

from collections.abc import Mapping
from typing import Any

from cost_hf.reporting import numbers

METRICS = {"ndcg": "NDCG", "recall": "Recall", "mrr": "MRR", "coverage": "Coverage"}
SEEN = {"seen_allowed": "Seen items allowed", "seen_excluded": "Seen items excluded"}
SEEN_MEANING = {
    "seen_allowed": "Items of the history may be recommended again; a repeated target can be a hit.",
    "seen_excluded": "Items of the history are never recommended; a repeated target is a miss.",
}
REFERENCE_NOTES = {
    "calibration": "published identifiers, which may have been fitted to the test clicks of this data",
    "oracle": "uses the rule that generated the toy data: an upper bound, not a system",
}
STATUSES = {"failed": "failed", "unfinished": "unfinished", "not_started": "not started"}
VERDICTS = {"better": "▲ better", "worse": "▼ worse", "equivalent": "≈ equivalent", "inconclusive": "? inconclusive"}
OPPOSITE = {"better": "worse", "worse": "better"}
SLICES = {
    "target_in_training": "Training clicks of the target item",
    "transition": "Transition from the last click to the target",
    "target": "Target in the history",
    "history": "Length of the history",
    "popularity": "Popularity of the target",
    "cold_start": "Cold-start items",
}
LABELS = {"in_set": "in set", "1-5": "1–5", "seen": "seen in training", "unseen": "not seen"}
SHARES = {
    "repeated_target": "targets in the history",
    "unseen_target": "targets without training clicks",
    "invalid": "invalid beams with the trie",
    "invalid_unconstrained": "invalid beams without the trie",
}
COUNTS = ("users", "items", "interactions")


def metric_name(metric: str) -> str:
    """Return `NDCG@10` for `ndcg@10`."""
    kind, _, cutoff = metric.partition("@")
    name = METRICS.get(kind, kind)
    return f"{name}@{cutoff}" if cutoff else name


def verdict(name: str | None) -> str:
    """Return a verdict with its sign; nothing where there is none."""
    return VERDICTS.get(name, name) if name else ""


def spaced(name: str) -> str:
    """Return a key with spaces: `train users` for `train_users`."""
    return name.replace("_", " ")


def plural(number: int, noun: str) -> str:
    """Return `1 row`, `3 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def detectable_difference(found: Mapping[str, Any], *, value: float, num_claims: int, metric: str) -> str:
    """Return the smallest detectable difference as a sentence.

    Args:
        found: `absolute`, `relative` and `power`.
        value: reference of the relative difference.
        num_claims: number of claims that are tested together.
        metric: such as `ndcg@10`.
    """
    relative = numbers.percent(found["relative"], digits=0)
    share = "" if found["relative"] is None else f" ({relative} of {numbers.score(value)})"
    return (
        f"With {plural(num_claims, 'claim')} tested, a true difference of {numbers.score(found['absolute'])} in "
        f"{metric_name(metric)}{share} is detected with a power of {numbers.percent(found['power'], digits=0)}; "
        "smaller ones mostly remain inconclusive."
    )
