"""What the numbers that `benchmarks/publish.py` publishes are made of."""

import pytest

from benchmarks.publish import tokens_per_step


def test_tokens_of_a_step_are_a_mean_over_steps_and_not_over_logs():
    log = [
        {"step": 10, "loss": 2.0, "tokens_per_step": 100.0},
        {"step": 10, "eval_ndcg@10": 0.1},
        {"step": 40, "loss": 1.0, "tokens_per_step": 200.0},
    ]

    assert tokens_per_step(log) == pytest.approx((10 * 100 + 30 * 200) / 40)
