"""The sum of reciprocal ranks of several scorers, against plain counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.methods.counting.reciprocal_rank import ReciprocalRankScorer, reciprocal_ranks


def test_equal_scores_share_the_mean_of_their_ranks():
    ranks = reciprocal_ranks(np.array([[3.0, 1.0, 3.0, 2.0, 1.0]]), depth=5, offset=10)

    assert ranks[0] == pytest.approx([1 / 11.5, 1 / 14.5, 1 / 11.5, 1 / 13, 1 / 14.5])


def test_scores_below_the_depth_count_nothing():
    ranks = reciprocal_ranks(np.array([[5.0, 4.0, 3.0, 3.0, 1.0], [1.0, 2.0, 3.0, 4.0, 5.0]]), depth=3, offset=0)

    # all that equal the last one are in
    assert ranks[0] == pytest.approx([1, 1 / 2, 1 / 3.5, 1 / 3.5, 0])
    assert ranks[1] == pytest.approx([0, 0, 1 / 3, 1 / 2, 1])


@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_reciprocal_ranks_equal_a_plain_count(seed, depth):
    scores = np.random.default_rng(seed).integers(0, 4, size=(3, 7)).astype(np.float64)

    ranks = reciprocal_ranks(scores, depth=depth, offset=2)

    for row, line in zip(scores, ranks, strict=True):
        is_in = row >= np.sort(row)[::-1][min(depth, 7) - 1]
        mean_rank = [(row > score).sum() + ((row == score).sum() + 1) / 2 for score in row]
        assert line == pytest.approx(np.where(is_in, 1 / (2 + np.array(mean_rank)), 0.0))


class FixedScores:
    def __init__(self, scores):
        self.table = np.array([scores], dtype=np.float64)

    def scores(self, histories):
        return np.repeat(self.table, len(histories), axis=0)


def test_a_reciprocal_rank_scorer_adds_up_its_parts():
    scorer = ReciprocalRankScorer([FixedScores([3, 2, 1]), FixedScores([0, 5, 1])])

    expected = [1 / 11 + 1 / 13, 1 / 12 + 1 / 11, 1 / 13 + 1 / 12]
    assert scorer.scores(np.zeros((2, 1), dtype=np.int64)) == pytest.approx(np.array([expected] * 2))


def test_no_histories_have_no_scores():
    scorer = ReciprocalRankScorer([FixedScores([3, 2, 1])])

    assert scorer.scores(np.empty((0, 1), dtype=np.int64)).shape == (0, 3)
