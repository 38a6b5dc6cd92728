"""Rows with lists that a test can predict."""

import numpy as np

from cost_hf.data.splits import Targets
from cost_hf.evaluation.ranking import ranked_lists
from cost_hf.experiments.compare.rows import Row, SeedRun

NUM_ITEMS = 30


def targets(cases: int = 60, seed: int = 0) -> Targets:
    """Cases of users with two cases each; targets are items 0 … 29 in turn."""
    generator = np.random.default_rng(seed)
    histories = [generator.integers(0, NUM_ITEMS, size=3) for _ in range(cases)]
    users = np.array([f"u{case // 2}" for case in range(cases)], dtype=object)
    return Targets(users, histories, np.arange(cases, dtype=np.int64) % NUM_ITEMS)


def run(label: str, cases: Targets, *, share: float, seed: int, quantizer: int = 0) -> SeedRun:
    """A run that puts the target first in `share` of the cases and has it nowhere in the others."""
    generator = np.random.default_rng(seed)

    def lists(wanted: Targets):
        hits = generator.random(len(wanted)) < share
        items = (wanted.items[:, None] + 1 + np.arange(12)) % NUM_ITEMS
        items[hits, 0] = wanted.items[hits]
        ranked = ranked_lists(items.astype(np.int32), wanted.items, sid_keys=None)
        return {"seen_allowed": ranked, "seen_excluded": ranked}

    return SeedRun(label, quantizer, lists(cases), lists(cases))


def row(name: str, family: str, cases: Targets, shares: list[float], **fields) -> Row:
    """A row with one run for every share."""
    runs = [
        run(f"{number}.{number}", cases, share=share, seed=len(name) * 100 + number, quantizer=number)
        for number, share in enumerate(shares)
    ]
    return Row(name, family, f"{name} in words", runs, **fields)
