"""What parts give to a score, and weights chosen by greedy selection, against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.evaluation.ranking import per_user_metrics, target_ranks
from cost_hf.methods.fusion.options import KINDS
from cost_hf.methods.fusion.weights import ROUNDS, check_weights, choose_weights, part_values, weighted_sum
from cost_hf.recommenders.candidates import merge_lists
from tests.recommenders.test_candidates import several_lists


def plain_fusion(lists, weights, *, top_k, offset=10):
    """Fuse one case item by item."""
    scores, best = {}, {}
    for number, (items, weight) in enumerate(zip(lists, weights, strict=True)):
        for rank, item in enumerate(items.tolist(), start=1):
            if item >= 0:
                scores[item] = scores.get(item, 0.0) + weight / (offset + rank)
                best[item] = min(best.get(item, (rank, number)), (rank, number))
    order = sorted(scores, key=lambda item: (-round(scores[item], 12), best[item]))[:top_k]
    return order + [-1] * (top_k - len(order))


def fused(kind, found, weights, top_k):
    return found.ranked(weighted_sum(part_values(kind, found), np.array(weights)), top_k)[0]


@given(several_lists(), st.integers(1, 10), st.data())
def test_fused_lists_equal_a_plain_loop(case, top_k, data):
    lists, scores = case
    weights = data.draw(st.lists(st.sampled_from([0.25, 0.5, 1.0]), min_size=len(lists), max_size=len(lists)))

    found = fused("reciprocal_rank", merge_lists(lists, scores), weights, top_k)

    expected = [plain_fusion([table[row] for table in lists], weights, top_k=top_k) for row in range(len(lists[0]))]
    assert found.tolist() == expected


def test_items_of_both_lists_come_first():
    found = merge_lists([np.array([[1, 2, 3]]), np.array([[4, 3, 5]])], [np.zeros((1, 3))] * 2)

    # 3: 1/13 + 1/12; 1 and 4: 1/11, the first list first; 2: 1/12
    assert fused("reciprocal_rank", found, [0.5, 0.5], 4).tolist() == [[3, 1, 4, 2]]


def test_equal_sums_stand_in_the_order_of_the_parts_whatever_the_order_of_their_terms():
    first, second = np.array([[7, 5]]), np.array([[5, 7]])
    scores = [np.zeros((1, 2))] * 2

    assert fused("reciprocal_rank", merge_lists([first, second], scores), [1, 1], 2).tolist() == [[7, 5]]
    assert fused("reciprocal_rank", merge_lists([second, first], scores), [1, 1], 2).tolist() == [[5, 7]]


def test_a_score_sum_adds_standardised_scores():
    lists = [np.array([[1, 2, 3]]), np.array([[3, 4, -1]])]
    found = merge_lists(lists, [np.array([[3.0, 2.0, 1.0]]), np.array([[50.0, 10.0, -np.inf]])])

    values = part_values("score_sum", found)[0]

    assert found.items.tolist() == [[1, 3, 2, 4]]
    unit = 1.5**0.5
    assert values[:, 0].tolist() == pytest.approx([unit, -unit, 0.0, -unit])  # 4 has no score: the lowest one
    assert values[:, 1].tolist() == pytest.approx([-1.0, 1.0, -1.0, -1.0])


def plain_choice(kind, batches):
    """Choose by a loop over rounds and parts; `batches` are lists and scores of the parts with targets."""
    tables = [merge_lists(lists, scores) for lists, scores, _ in batches]
    parts = tables[0].ranks.shape[2]

    def gain(weights):
        ranks = [
            target_ranks(fused(kind, found, weights, 50), targets)
            for found, (_, _, targets) in zip(tables, batches, strict=True)
        ]
        return round(float(per_user_metrics(np.concatenate(ranks), [10])["ndcg@10"].mean()), 12)

    chosen, best, weights = [0] * parts, -1.0, None
    for _ in range(ROUNDS):
        gains = [gain([count + (part == own) for own, count in enumerate(chosen)]) for part in range(parts)]
        part = gains.index(max(gains))
        chosen[part] += 1
        if gains[part] > best:
            best, weights = gains[part], [count / sum(chosen) for count in chosen]
    return weights


@pytest.mark.parametrize("kind", KINDS)
@given(case=several_lists())
@settings(max_examples=20)
def test_chosen_weights_are_those_of_a_plain_loop(kind, case):
    lists, scores = case
    targets = np.arange(len(lists[0])) % 8
    found = merge_lists(lists, scores)

    chosen = choose_weights([(part_values(kind, found), found, targets)])

    assert chosen.tolist() == pytest.approx(plain_choice(kind, [(lists, scores, targets)]))
    assert chosen.sum() == pytest.approx(1)


def test_batches_of_other_sizes_count_by_their_cases():
    generator = np.random.default_rng(0)
    batches = []
    for size in (5, 1, 3):
        lists = [np.argsort(generator.random((size, 8)), axis=1)[:, :5] for _ in range(2)]
        batches.append((lists, [-table.astype(float) for table in lists], generator.integers(0, 8, size)))
    tables = [merge_lists(lists, scores) for lists, scores, _ in batches]
    triples = [
        (part_values("score_sum", found), found, targets)
        for found, (_, _, targets) in zip(tables, batches, strict=True)
    ]

    assert choose_weights(triples).tolist() == pytest.approx(plain_choice("score_sum", batches))


def test_a_useless_part_has_weight_0():
    good, bad = np.array([[0, 9], [1, 9]]), np.array([[9, 8], [9, 8]])
    found = merge_lists([bad, good], [-bad.astype(float), -good.astype(float)])

    for kind in KINDS:
        assert choose_weights([(part_values(kind, found), found, np.array([0, 1]))]).tolist() == [0.0, 1.0]


def test_targets_that_no_part_lists_decide_nothing():
    lists = np.array([[0, 1], [1, 0]])
    found = merge_lists([lists, lists], [np.zeros((2, 2))] * 2)

    chosen = choose_weights([(part_values("reciprocal_rank", found), found, np.array([5, 6]))])

    assert chosen.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf]], ids=str)
def test_weights_that_do_not_fit_are_an_error(weights):
    with pytest.raises(ValueError, match="one number per part, 2, at least 0 and not all 0, got"):
        check_weights(np.array(weights), 2)
