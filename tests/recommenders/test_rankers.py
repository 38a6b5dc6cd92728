import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.recommenders import rankers
from cost_hf.recommenders.rankers import ScoringRanker
from cost_hf.semantic_ids.catalog_mask import CatalogMask


class Table:
    """Gives fixed scores, whatever the histories are."""

    def __init__(self, scores):
        self.values = np.asarray(scores)

    def scores(self, histories):
        return self.values[: len(histories)]


def make_ranker(scores, popularity=None, item_ids=None):
    width = np.shape(scores)[1]
    popularity = np.zeros(width) if popularity is None else popularity
    item_ids = [f"i{number:03d}" for number in range(width)] if item_ids is None else item_ids
    return ScoringRanker(Table(scores), popularity=popularity, item_ids=item_ids)


def histories_of(batch):
    return torch.zeros((batch, 1), dtype=torch.int64)


def test_equal_scores_stand_by_popularity_then_item_id():
    ranker = make_ranker([[1.0, 1.0, 1.0, 2.0]], popularity=np.array([5, 9, 9, 0]), item_ids=["d", "c", "b", "a"])

    ranking = ranker.rank(histories_of(1), top_k=4)

    assert ranking.items.tolist() == [[3, 2, 1, 0]]
    assert ranking.scores.tolist() == [[2.0, 1.0, 1.0, 1.0]]


@st.composite
def cases(draw):
    batch, width = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    numbers = st.lists(st.integers(0, 3), min_size=width, max_size=width)
    flags = st.lists(st.booleans(), min_size=width, max_size=width)
    scores = np.array([draw(numbers) for _ in range(batch)], dtype=draw(st.sampled_from([np.float32, np.float64])))
    mask = np.array([draw(flags) for _ in range(batch)])
    return scores, mask, np.array(draw(numbers)), draw(st.integers(1, 15))


@given(cases())
def test_rank_equals_a_plain_sort(case):
    scores, mask, popularity, top_k = case
    ranker = make_ranker(scores, popularity)

    ranking = ranker.rank(histories_of(len(scores)), top_k=top_k, mask=torch.from_numpy(mask))

    for row, line in enumerate(ranking.items.tolist()):
        legal = np.flatnonzero(mask[row])
        expected = sorted(legal, key=lambda item: (-scores[row, item], -popularity[item], item))[:top_k]
        assert line == expected + [-1] * (top_k - len(expected))
        assert ranking.scores[row, : len(expected)].tolist() == [scores[row, item] for item in expected]


def test_one_mask_serves_the_whole_batch():
    ranker = make_ranker([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])

    ranking = ranker.rank(histories_of(2), top_k=3, mask=torch.tensor([True, False, True]))

    assert ranking.items.tolist() == [[0, 2, -1], [2, 0, -1]]
    assert ranking.scores[:, 2].tolist() == [-torch.inf, -torch.inf]


def test_the_scorers_own_table_is_left_alone():
    ranker = make_ranker([[3.0, 2.0]])

    ranker.rank(histories_of(1), top_k=1, mask=torch.tensor([False, True]))

    assert ranker.scorer.values.tolist() == [[3.0, 2.0]]


def test_whole_numbers_are_scores_too():
    ranking = make_ranker([[1, 7]]).rank(histories_of(1), top_k=2, mask=torch.tensor([True, False]))

    assert ranking.items.tolist() == [[0, -1]]


def test_nan_scores_are_an_error():
    with pytest.raises(ValueError, match=r"Table\.scores must be numbers or -inf, got NaN"):
        make_ranker([[1.0, np.nan, 2.0]]).rank(histories_of(1), top_k=1)


def test_scores_of_another_catalog_are_an_error():
    ranker = ScoringRanker(Table([[1.0, 2.0]]), popularity=np.zeros(3), item_ids=["a", "b", "c"])

    with pytest.raises(ValueError, match=r"\(1, 3\), got shape \(1, 2\); fit the scorer on the same catalog"):
        ranker.rank(histories_of(1), top_k=1)


def test_an_empty_list_cannot_be_asked_for():
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        make_ranker([[1.0]]).rank(histories_of(1), top_k=0)


def test_popularity_of_another_catalog_is_an_error():
    with pytest.raises(ValueError, match="one entry per catalog row, got 2 and 3"):
        ScoringRanker(Table([[1.0]]), popularity=np.zeros(2), item_ids=["a", "b", "c"])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.int8, np.float32, np.int64])
def test_ties_stand_by_popularity_whatever_type_counts_have(dtype):
    ranker = make_ranker(np.zeros((1, 4)), popularity=np.array([0, 3, 1, 2], dtype=dtype))

    assert ranker.rank(histories_of(1), top_k=4).items.tolist() == [[1, 3, 2, 0]]


@pytest.mark.parametrize(
    "popularity", [[1, -1], [0.5, 1], [np.nan, 1], [np.inf, 1], [True, False], ["1", "2"], np.ones((2, 1)), None, "ab"]
)
def test_popularity_that_counts_nothing_is_an_error(popularity):
    with pytest.raises(ValueError, match="popularity must be training clicks"):
        ScoringRanker(Table([[1.0, 2.0]]), popularity=popularity, item_ids=["a", "b"])


@pytest.mark.parametrize("dtype", [">f8", np.longdouble, np.uint8, object, np.float16])
def test_scores_of_every_real_type_rank_alike(dtype):
    ranker = make_ranker(np.array([[1, 3, 2]]).astype(dtype))

    assert ranker.rank(histories_of(1), top_k=3).items.tolist() == [[1, 2, 0]]


@pytest.mark.parametrize("scores", [[[1 + 1j, 2]], [["1", "2"]], [[2**53 + 1, 2**53 + 2]]])
def test_scores_that_no_float_tells_apart_are_an_error(scores):
    with pytest.raises(ValueError, match=r"Table\.scores must be real numbers that a float64 tells apart"):
        make_ranker(scores).rank(histories_of(1), top_k=1)


class Counted:
    """Scores histories by their first items, and keeps the largest number of histories that it was given at once."""

    def __init__(self, scores):
        self.values = np.asarray(scores)
        self.most = 0

    def scores(self, histories):
        self.most = max(self.most, len(histories))
        return self.values[histories[:, 0]]


@pytest.mark.parametrize("mask", ["none", "shared", "dense", "denied"])
@pytest.mark.parametrize("held", [1, 60, 10_000])
def test_parts_of_the_requests_are_ranked_as_all_of_them(monkeypatch, mask, held):
    draw = np.random.default_rng(0)
    scorer = Counted(draw.integers(0, 4, (7, 30)))  # many ties
    masks = {
        "none": None,
        "shared": torch.from_numpy(draw.random(30) < 0.5),
        "dense": torch.from_numpy(draw.random((7, 30)) < 0.5),
        "denied": CatalogMask(30, denied=torch.from_numpy(draw.integers(-1, 30, (7, 5)))),
    }
    ids = [f"i{number}" for number in range(30)]
    ranker = ScoringRanker(scorer, popularity=draw.integers(0, 3, 30), item_ids=ids)
    histories = torch.arange(7)[:, None]
    whole = ranker.rank_scores(ranker.scores(histories), top_k=12, mask=masks[mask])
    scorer.most = 0

    monkeypatch.setattr(rankers, "TILE_SCORES", held)
    ranking = ranker.rank(histories, top_k=12, mask=masks[mask])

    assert torch.equal(ranking.items, whole.items) and torch.equal(ranking.scores, whole.scores)
    assert scorer.most == {1: 1, 60: 2, 10_000: 7}[held]


def test_parts_of_requests_need_a_mask_for_all_of_them(monkeypatch):
    monkeypatch.setattr(rankers, "TILE_SCORES", 1)
    ranker = make_ranker(np.zeros((2, 3)))

    with pytest.raises(ValueError, match="mask is for 3 requests, got 2"):
        ranker.rank(histories_of(2), top_k=2, mask=torch.eye(3, dtype=torch.bool))


def test_no_requests_have_no_lists():
    assert make_ranker(np.zeros((2, 3))).rank(torch.zeros((0, 1), dtype=torch.int64), top_k=2).items.shape == (0, 2)
