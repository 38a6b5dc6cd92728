"""The guard of an update: fixed cases on which a new model may not be worse than the one that is served.

The cases are the validation part of the run as it was, which no update learns, and the latest of the new clicks, which
this update leaves out. Test cases of the run decide nothing.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cost_hf.data.row_lists import RowLists
from cost_hf.data.splits import Targets
from cost_hf.evaluation.ranking import evaluate_ranker, per_user_metrics
from cost_hf.evaluation.statistics import bootstrap_interval
from cost_hf.recommenders.base import Recommender

CUTOFF = 10
METRIC = f"ndcg@{CUTOFF}"  # that decides
METRICS = (METRIC, f"recall@{CUTOFF}")
DRAWS = 2000
# parts of the cases
ALL = "all"
RUN = "validation part of the run"
NEW = "latest new clicks"


@dataclass(frozen=True, eq=False)
class Guard:
    """Cases of both sorts.

    Attributes:
        cases: M of them, over the rows of today's catalog.
        is_new: which are of new clicks, bool `[M]`.
        batch_size: cases that are ranked at once.
        seed: of the bootstrap.
    """

    cases: Targets
    is_new: np.ndarray
    batch_size: int
    seed: int

    @classmethod
    def of(cls, old: Targets, new: Targets, *, most: int, batch_size: int, seed: int) -> "Guard":
        """Return the guard of the run's validation cases and those of new clicks, seeded samples of at most `most`."""
        chosen = [old.sample(most, seed=seed), new.sample(most, seed=seed)]
        cases = Targets(
            np.concatenate([part.user_ids for part in chosen]),
            RowLists.of([history for part in chosen for history in part.histories]),
            np.concatenate([part.items for part in chosen]),
        )
        return cls(cases, np.repeat([False, True], [len(part) for part in chosen]), batch_size, seed)

    def metrics(self, recommender: Recommender) -> dict[str, np.ndarray]:
        """Return NDCG@10 and Recall@10 of every case, seen items allowed, float64 `[M]` each."""
        ranked = evaluate_ranker(
            recommender.ranker_for(CUTOFF),
            self.cases,
            sid_keys=None,
            num_items=len(recommender.catalog),
            exclude_seen=False,
            top_k=CUTOFF,
            batch_size=self.batch_size,
            progress=False,
        )
        found = per_user_metrics(ranked.item_rank, cutoffs=[CUTOFF])
        return {name: found[name] for name in METRICS}

    def compare(
        self, before: dict[str, np.ndarray], after: dict[str, np.ndarray], *, tolerance: float
    ) -> tuple[dict[str, Any], str]:
        """Return the figures of two models, and why the second one is refused; "" where it is not.

        Args:
            before, after: what `metrics` returned for the model that is served and for the new one.
            tolerance: share of the value before that may be lost.
        """
        figures: dict[str, Any] = {}
        for part, chosen in ((ALL, np.ones(len(self.cases), dtype=bool)), (RUN, ~self.is_new), (NEW, self.is_new)):
            if not chosen.any():
                continue
            figures[part] = {"cases": int(chosen.sum())}
            for name in METRICS:
                difference = bootstrap_interval(
                    (after[name] - before[name])[chosen],
                    clusters=self.cases.user_ids[chosen],
                    draws=DRAWS,
                    seed=self.seed,
                )
                figures[part][name] = {
                    "before": float(before[name][chosen].mean()),
                    "after": float(after[name][chosen].mean()),
                    "difference": difference.value,
                    "low": difference.low,
                    "high": difference.high,
                }
        return figures, _reason(figures[ALL][METRIC], tolerance)


def _reason(found: dict[str, float], tolerance: float) -> str:
    change = f"NDCG@{CUTOFF} {found['before']:.4f} -> {found['after']:.4f}"
    if found["high"] < 0:
        return (
            f"the new model is significantly worse on the guard's cases: {change}, difference "
            f"{found['difference']:.4f} (95 % interval {found['low']:.4f} to {found['high']:.4f})"
        )
    if found["after"] < found["before"] * (1 - tolerance):
        return f"the new model is worse by more than {tolerance:.0%} on the guard's cases: {change}"
    return ""
