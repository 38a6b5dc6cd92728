"""What a request costs: wall time of a ranker on real histories, one at a time and in batches."""

import time
from typing import Any

import numpy as np
import torch

from cost_hf.data.splits import Targets
from cost_hf.recommenders.rankers import Ranker, takes_user_ids

TOP_K = 10
SINGLE_REQUESTS = 20
BATCH = 64
BATCHES = 3


def request_times(ranker: Ranker, targets: Targets) -> dict[str, float]:
    """Return the median wall milliseconds per request of ten items, `batch_1_ms` and `batch_64_ms`.

    The first cases serve as requests, after one that does not count; seen items are allowed.
    """
    cases = np.arange(len(targets))
    singles = [cases[[number]] for number in range(min(SINGLE_REQUESTS, len(targets)))]
    batches = [cases[:BATCH]] * BATCHES
    return {"batch_1_ms": _median(ranker, targets, singles), "batch_64_ms": _median(ranker, targets, batches)}


def _median(ranker: Ranker, targets: Targets, requests: list[np.ndarray]) -> float:
    seconds = []
    for chosen in [requests[0], *requests]:
        histories = torch.from_numpy(targets.histories_matrix(chosen))
        extra: dict[str, Any] = {}
        if takes_user_ids(ranker):
            extra["user_ids"] = [str(user) for user in targets.user_ids[chosen]]
        start = time.perf_counter()
        ranker.rank(histories, top_k=TOP_K, **extra)
        seconds.append((time.perf_counter() - start) / len(chosen))
    return round(1000 * float(np.median(seconds[1:])), 3)
