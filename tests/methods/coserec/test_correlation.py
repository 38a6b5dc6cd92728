from itertools import combinations
from math import log, sqrt

import numpy as np
import pytest
import torch

from cost_hf.methods.coserec import correlation
from cost_hf.methods.coserec.correlation import MostSimilar, better_of, by_clicks, by_vectors

ITEMS = 50


def clicks(users=80):
    generator = np.random.default_rng(0)
    return [generator.integers(ITEMS - 1, size=length) for length in generator.integers(1, 9, users)]


def pair_by_pair(train):
    """ItemCF-IUF written out: a dict of pairs."""
    users = [set(rows.tolist()) for rows in train]
    counts = [sum(item in rows for rows in users) for item in range(ITEMS)]
    scores = np.zeros((ITEMS, ITEMS))
    for rows in users:
        for one, other in combinations(rows, 2):
            share = 1 / log(1 + len(rows)) / sqrt(counts[one] * counts[other])
            scores[one, other] += share
            scores[other, one] += share
    return scores / scores.max()


@pytest.fixture(params=[7, 1024])
def blocks(request, monkeypatch):
    monkeypatch.setattr(correlation, "ITEMS_PER_BLOCK", request.param)


def test_similarity_by_clicks_is_item_cf_iuf(blocks):
    found = by_clicks(clicks(), ITEMS)

    expected = pair_by_pair(clicks())
    rows = np.arange(ITEMS)
    np.testing.assert_allclose(found.scores.numpy(), expected.max(1), rtol=1e-5)
    np.testing.assert_allclose(expected[rows, found.items.numpy()], expected.max(1), rtol=1e-5)
    has_any = expected.max(1) > 0
    assert (found.items.numpy()[has_any] != rows[has_any]).all()


def test_an_item_without_company_is_its_own_substitute_with_score_zero():
    found = by_clicks(clicks(), ITEMS)

    assert found.items[ITEMS - 1] == ITEMS - 1  # nobody clicked it
    assert found.scores[ITEMS - 1] == 0


def test_users_with_many_items_count_less():
    crowd = [np.array([0, 1, *range(10, 30)])]
    pair = [np.array([0, 2])]

    found = by_clicks(crowd + pair, ITEMS)

    assert found.items[0] == 2


@pytest.mark.parametrize("train", [[], [np.array([3])], [np.array([], dtype=np.int64)]])
def test_without_pairs_every_item_stands_for_itself(train):
    found = by_clicks(train, ITEMS)

    assert torch.equal(found.items, torch.arange(ITEMS))
    assert not found.scores.any()


def test_similarity_by_vectors_is_the_scaled_dot_product(blocks):
    table = torch.randn(ITEMS, 6, generator=torch.Generator().manual_seed(0))

    found = by_vectors(table)

    products = table @ table.T
    off_diagonal = ~torch.eye(ITEMS, dtype=torch.bool)
    least, most = products[off_diagonal].min(), products[off_diagonal].max()
    expected = products.masked_fill(~off_diagonal, -torch.inf).max(1)
    torch.testing.assert_close(found.scores, (expected.values - least) / (most - least))
    assert torch.equal(found.items, expected.indices)
    assert found.scores.max() == 1


def test_equal_vectors_have_no_scores_to_divide():
    assert not by_vectors(torch.zeros(5, 3)).scores.any()


def test_the_better_candidate_wins_and_clicks_win_ties():
    clicked = MostSimilar(torch.tensor([1, 2, 3]), torch.tensor([0.5, 0.5, 0.1]))
    learned = MostSimilar(torch.tensor([7, 8, 9]), torch.tensor([0.4, 0.5, 0.2]))

    best = better_of(clicked, learned)

    assert best.items.tolist() == [1, 2, 9]
    assert best.scores.tolist() == pytest.approx([0.5, 0.5, 0.2])
