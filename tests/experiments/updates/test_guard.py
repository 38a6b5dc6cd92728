"""The guard refuses a model that is significantly or much worse on its cases."""

import numpy as np
import pytest

from cost_hf.data.splits import Targets
from cost_hf.experiments.updates.guard import METRICS, Guard


@pytest.mark.parametrize(
    ("shift", "tolerance", "reason"),
    [
        (0.0, 0.05, ""),
        (0.3, 0.05, ""),
        (-0.3, 1.0, "significantly worse"),
        (-0.03, 0.01, "worse by more than 1%"),
        (-0.03, 0.5, ""),
    ],
)
def test_the_guard_refuses_what_is_significantly_or_much_worse(shift, tolerance, reason):
    draws = np.random.default_rng(0)
    size = 60
    cases = Targets(np.array([f"u{n}" for n in range(size)], dtype=object), [], np.arange(size))
    judge = Guard(cases, np.arange(size) >= 40, batch_size=8, seed=0)
    before = draws.normal(0.5, 0.1, size)
    noise = draws.normal(0, 0.2, size)
    after = before + shift + noise - noise.mean()

    figures, found = judge.compare(
        {name: before for name in METRICS}, {name: after for name in METRICS}, tolerance=tolerance
    )

    assert reason in found and bool(reason) == bool(found)
    assert figures["all"]["ndcg@10"]["difference"] == pytest.approx(shift)
    assert figures["validation part of the run"]["cases"] == 40
