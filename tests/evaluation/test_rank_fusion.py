import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.evaluation.rank_fusion import ReciprocalRankScorer, choose_weights, fuse_lists, reciprocal_ranks
from cost_hf.evaluation.ranking import per_user_metrics, target_ranks


def plain_fusion(lists, weights, *, top_k, offset=10):
    """Fuse one case item by item."""
    scores, best = {}, {}
    for number, (items, weight) in enumerate(zip(lists, weights, strict=True)):
        for rank, item in enumerate(items, start=1):
            if item >= 0 and weight > 0:
                scores[item] = scores.get(item, 0.0) + weight / (offset + rank)
                best[item] = min(best.get(item, (rank, number)), (rank, number))
    order = sorted(scores, key=lambda item: (-round(scores[item], 12), best[item], item))[:top_k]
    return order + [-1] * (top_k - len(order))


@st.composite
def several_lists(draw):
    """Return S tables of lists over 8 items, of different widths, some with empty places."""
    seed = draw(st.integers(0, 2**32 - 1))
    generator = np.random.default_rng(seed)
    cases = draw(st.integers(1, 4))
    tables = []
    for _ in range(draw(st.integers(1, 4))):
        table = np.argsort(generator.random((cases, 8)), axis=1)[:, : draw(st.integers(1, 8))]
        lengths = generator.integers(0, table.shape[1] + 1, size=(cases, 1))
        tables.append(np.where(np.arange(table.shape[1]) < lengths, table, -1))
    return tables


@given(several_lists(), st.integers(1, 10), st.data())
def test_fused_lists_equal_a_plain_loop(lists, top_k, data):
    weights = data.draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=len(lists), max_size=len(lists)))
    if not any(weights):
        weights[0] = 1.0

    fused = fuse_lists(lists, weights, top_k=top_k)

    expected = [plain_fusion([table[case] for table in lists], weights, top_k=top_k) for case in range(len(lists[0]))]
    assert fused.tolist() == expected


def test_items_of_both_lists_come_first():
    fused = fuse_lists([np.array([[1, 2, 3]]), np.array([[4, 3, 5]])], [0.5, 0.5], top_k=4)

    # 3: 1/13 + 1/12; 1 and 4: 1/11, the first list first; 2: 1/12
    assert fused.tolist() == [[3, 1, 4, 2]]


def test_equal_evidence_ties_by_the_best_rank_then_by_list_then_by_row():
    first, second = np.array([[7, 5]]), np.array([[5, 7]])

    assert fuse_lists([first, second], [1, 1], top_k=2).tolist() == [[7, 5]]
    assert fuse_lists([second, first], [1, 1], top_k=2).tolist() == [[5, 7]]


def test_a_list_without_weight_leaves_no_trace():
    assert fuse_lists([np.array([[1]]), np.array([[2, 1]])], [1, 0], top_k=3).tolist() == [[1, -1, -1]]


def test_a_single_list_stays_as_it_is():
    lists = np.array([[3, 1, 2], [4, -1, -1]])

    assert fuse_lists([lists], [0.3], top_k=3).tolist() == lists.tolist()


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [1.0, -1.0], [1.0, np.nan]], ids=str)
def test_weights_that_do_not_fit_are_an_error(weights):
    with pytest.raises(ValueError, match="one number per list, 2, at least 0 and not all 0, got"):
        fuse_lists([np.array([[1]]), np.array([[2]])], weights, top_k=1)


def test_lists_of_other_cases_are_an_error():
    with pytest.raises(ValueError, match=r"of the same cases, got \[1, 2\]"):
        fuse_lists([np.array([[1]]), np.array([[2], [3]])], [1, 1], top_k=1)


@given(several_lists())
def test_chosen_weights_are_the_best_of_the_grid(lists):
    targets = np.arange(len(lists[0])) % 8
    grid = [np.array(line) / 5 for line in itertools.product(range(6), repeat=len(lists)) if sum(line) == 5]

    def gain(weights):
        ranks = target_ranks(fuse_lists(lists, weights, top_k=50), targets)
        return round(per_user_metrics(ranks, [10])["ndcg@10"].mean(), 12)

    chosen = choose_weights(lists, targets, step=0.2)

    best = max(map(gain, grid))
    assert gain(chosen) == best
    evenness = [round((weights**2).sum(), 12) for weights in grid if gain(weights) == best]
    assert round((chosen**2).sum(), 12) == min(evenness)


def test_useless_lists_get_no_weight():
    good, bad = np.array([[0, 9], [1, 9]]), np.array([[9, 0], [9, 1]])

    assert choose_weights([bad, good], np.array([0, 1]))[1] > 0.5


def test_equal_lists_share_the_weight():
    lists = np.array([[0, 1], [1, 0]])

    assert choose_weights([lists, lists], np.array([0, 1])).tolist() == [0.5, 0.5]


def test_a_step_that_misses_one_is_an_error():
    with pytest.raises(ValueError, match=r"step must divide 1, got 0\.3"):
        choose_weights([np.array([[0]])], np.array([0]), step=0.3)


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
