"""Candidates of several lists: the union, standardised scores and their order, against plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.recommenders.candidates import Candidates, merge_lists

ITEMS = 8


@st.composite
def several_lists(draw):
    """Return the lists of P parts over 8 items with their scores: of different widths, some with empty ends."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    requests = draw(st.integers(1, 4))
    lists = []
    for _ in range(draw(st.integers(1, 4))):
        table = np.argsort(generator.random((requests, ITEMS)), axis=1)[:, : draw(st.integers(0, ITEMS))]
        lengths = generator.integers(0, table.shape[1] + 1, size=(requests, 1))
        lists.append(np.where(np.arange(table.shape[1]) < lengths, table, -1))
    return lists, [generator.integers(-3, 4, size=table.shape).astype(np.float64) for table in lists]


def plain_candidates(lists, scores):
    """Return the candidates of one request in order, each as (item, rank by part, score by part)."""
    found = {}
    for part, (items, own) in enumerate(zip(lists, scores, strict=True)):
        for rank, (item, score) in enumerate(zip(items.tolist(), own.tolist(), strict=True), start=1):
            if item >= 0:
                found.setdefault(item, {})[part] = (rank, score)
    return sorted(found.items(), key=lambda entry: min((rank, part) for part, (rank, _) in entry[1].items()))


@given(several_lists())
def test_merged_lists_equal_a_plain_loop(case):
    lists, scores = case

    found = merge_lists(lists, scores)

    for request in range(len(lists[0])):
        expected = plain_candidates([part[request] for part in lists], [part[request] for part in scores])
        width = len(expected)
        assert found.items[request].tolist() == [item for item, _ in expected] + [-1] * (found.items.shape[1] - width)
        for column, (_, own) in enumerate(expected):
            for part in range(len(lists)):
                rank, score = own.get(part, (np.nan, np.nan))
                np.testing.assert_equal(found.ranks[request, column, part], rank)
                np.testing.assert_equal(found.scores[request, column, part], score)
        assert np.isnan(found.ranks[request, width:]).all() and np.isnan(found.scores[request, width:]).all()


@given(several_lists())
def test_a_request_has_the_same_candidates_in_a_batch_as_alone(case):
    lists, scores = case
    together = merge_lists(lists, scores)

    for request in range(len(lists[0])):
        one = [request]
        alone = merge_lists([part[one] for part in lists], [part[one] for part in scores])
        width = alone.items.shape[1]
        assert alone.items[0].tolist() == together.items[request, :width].tolist()
        assert (together.items[request, width:] == -1).all()
        np.testing.assert_array_equal(alone.ranks[0], together.ranks[request, :width])
        np.testing.assert_allclose(alone.standardised()[0], together.standardised()[request, :width], atol=1e-12)


def test_an_item_of_several_lists_stands_where_its_best_rank_is():
    found = merge_lists([np.array([[1, 2, 3]]), np.array([[4, 3, 5]])], [np.zeros((1, 3))] * 2)

    assert found.items.tolist() == [[1, 4, 2, 3, 5]]
    assert repr(found) == "Candidates(1 requests, at most 5 items of 2 parts)" and len(found) == 1


def test_no_lists_at_all_leave_no_candidates():
    for empty in (np.empty((2, 0), dtype=np.int64), np.full((2, 3), -1)):
        found = merge_lists([empty, empty], [np.zeros(empty.shape)] * 2)

        assert found.items.shape == (2, 0) and found.standardised().shape == (2, 0, 2)
        items, scores = found.ranked(np.zeros((2, 0)), 3)
        assert items.tolist() == [[-1] * 3] * 2 and (scores == -np.inf).all()


def test_no_requests_have_no_candidates():
    found = merge_lists([np.empty((0, 3), dtype=np.int64)], [np.empty((0, 3))])

    assert found.items.shape == (0, 0) and found.standardised().shape == (0, 0, 1)


def test_lists_of_other_requests_are_an_error():
    with pytest.raises(ValueError, match=r"of the same requests, got \[1, 2\]"):
        merge_lists([np.array([[1]]), np.array([[2], [3]])], [np.zeros((1, 1)), np.zeros((2, 1))])


def with_scores(scores) -> Candidates:
    """Return candidates `[B, C]` of one part with these scores; nan for none."""
    table = np.asarray(scores, dtype=np.float64)[:, :, None]
    return Candidates(np.tile(np.arange(table.shape[1]), (len(table), 1)), np.ones(table.shape), table)


def test_standardised_scores_have_mean_0_and_deviation_1_and_missing_ones_are_the_lowest():
    found = with_scores([[1.0, 2.0, 3.0, np.nan, 6.0]]).standardised()[0, :, 0]

    known = found[[0, 1, 2, 4]]
    assert known == pytest.approx((np.array([1, 2, 3, 6]) - 3) / np.sqrt(3.5))
    assert found[3] == known.min()


@pytest.mark.parametrize("value", [0.1, 1e-30, 3e37, -0.3])
@pytest.mark.parametrize("count", [1, 3, 7, 10])
def test_equal_scores_are_0_whatever_their_mean_is_rounded_to(value, count):
    scores = [[np.float32(value)] * count + [np.nan]]

    assert with_scores(scores).standardised()[0, :, 0].tolist() == [0.0] * (count + 1)


@pytest.mark.parametrize("factor", [1e-40, 1e-6, 1.0, 1e12, 1e38])
def test_the_scale_of_scores_does_not_matter(factor):
    scores = np.array([[3.0, 1.0, 2.0, 7.0]], dtype=np.float64)

    np.testing.assert_allclose(
        with_scores(scores * factor).standardised(), with_scores(scores).standardised(), rtol=1e-9
    )


def test_a_part_without_any_score_gives_0():
    assert with_scores([[np.nan, np.nan]]).standardised()[0, :, 0].tolist() == [0.0, 0.0]


def test_padding_is_0():
    found = Candidates(np.array([[3, -1]]), np.ones((1, 2, 1)), np.array([[[-5.0], [np.nan]]]))

    assert found.standardised()[0, :, 0].tolist() == [0.0, 0.0]


@given(several_lists(), st.integers(1, 10), st.data())
def test_ranked_candidates_equal_a_plain_sort(case, top_k, data):
    found = merge_lists(*case)
    shape = found.items.shape
    scores = np.array(data.draw(st.lists(st.integers(0, 3), min_size=found.items.size, max_size=found.items.size)))
    scores = scores.reshape(shape).astype(np.float64)

    items, best = found.ranked(scores, top_k)

    assert items.shape == best.shape == (shape[0], top_k)
    for request in range(shape[0]):
        columns = [column for column in range(shape[1]) if found.items[request, column] >= 0]
        order = sorted(columns, key=lambda column: -scores[request, column])[:top_k]  # a stable sort
        missing = top_k - len(order)
        assert items[request].tolist() == [found.items[request, column] for column in order] + [-1] * missing
        assert best[request].tolist() == [scores[request, column] for column in order] + [-np.inf] * missing


def test_the_column_of_an_item_is_found():
    found = merge_lists([np.array([[5, 2], [7, -1]])], [np.zeros((2, 2))])

    assert found.columns_of(np.array([[2, 5], [7, 2]])).tolist() == [[1, 0], [0, -1]]
    assert found.columns_of(np.array([[9], [-1]])).tolist() == [[-1], [-1]]
    assert (
        merge_lists([np.full((2, 1), -1)], [np.zeros((2, 1))]).columns_of(np.array([[0], [-1]])).tolist() == [[-1]] * 2
    )
