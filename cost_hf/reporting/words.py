"""The words of the reports: what metrics, settings, families, slices and verdicts are called, and what they mean."""

METRICS = {"ndcg": "NDCG", "recall": "Recall", "mrr": "MRR", "coverage": "Coverage"}
SEEN = {"seen_allowed": "Seen items allowed", "seen_excluded": "Seen items excluded"}
SEEN_MEANING = {
    "seen_allowed": "Items of the user's own history may be recommended again; a repeated target can be hit.",
    "seen_excluded": "Items of the user's own history are never recommended; a repeated target is a miss.",
}
REFERENCE_NOTES = {
    "calibration": "published identifiers: those who made them may have seen the test clicks of this data",
    "oracle": "knows the rule that made the toy data: the ceiling, not a system",
}
STATUSES = {"failed": "failed", "unfinished": "unfinished", "not_started": "not started"}
VERDICTS = {"better": "▲ better", "worse": "▼ worse", "equivalent": "≈ equivalent", "undecided": "? undecided"}
OPPOSITE = {"better": "worse", "worse": "better"}
SLICES = {
    "target_in_training": "Training clicks of the target item",
    "transition": "Step from the last click to the target",
    "target": "Target within the user's own history",
    "history": "Length of the history",
    "popularity": "Popularity of the target",
    "cold_start": "Items taken out of training",
}
LABELS = {"in_set": "in set", "1-5": "1–5", "seen": "seen in training", "unseen": "never seen"}
SHARES = {
    "repeated_target": "targets that repeat the history",
    "unseen_target": "targets never seen in training",
    "invalid": "invalid beams under the trie",
    "invalid_unconstrained": "invalid beams without it",
}
COUNTS = ("users", "items", "interactions")


def metric_name(metric: str) -> str:
    """Return `NDCG@10` for `ndcg@10`."""
    kind, _, cutoff = metric.partition("@")
    name = METRICS.get(kind, kind)
    return f"{name}@{cutoff}" if cutoff else name


def verdict(word: str | None) -> str:
    """Return a verdict with its sign, so that it is read without color; nothing where there is none."""
    return VERDICTS.get(word, word) if word else ""


def spaced(name: str) -> str:
    """Return a key as words: `train_users` as `train users`."""
    return name.replace("_", " ")


def plural(number: int, noun: str) -> str:
    """Return `1 row`, `3 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
