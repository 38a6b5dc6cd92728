import numpy as np
import pytest
import torch

from cost_hf.recommenders.dense import DenseScorer
from cost_hf.recommenders.rankers import ScoringRanker
from tests.methods.sasrec.sasrec_toys import ITEMS, item_vectors, tiny_model


@pytest.mark.parametrize("inputs", ["ids", "text", "both"])
def test_scores_are_those_of_one_history_at_a_time(inputs):
    model = tiny_model(inputs=inputs)
    vectors = None if inputs == "ids" else item_vectors()
    scorer = DenseScorer(model, None if vectors is None else vectors.numpy())
    histories = np.array([[3, 1, 4, 1], [9, 2, -1, -1], [8, -1, -1, -1]])

    scores = scorer.scores(histories)

    assert scores.shape == (3, ITEMS) and scores.dtype == np.float32
    for row, history in enumerate([[3, 1, 4, 1], [9, 2], [8]]):
        hidden = model(torch.tensor([history]), item_vectors=vectors).hidden_states[0, -1]
        table = model.item_table(vectors)
        expected = torch.cosine_similarity(hidden[None], table) / model.config.temperature
        np.testing.assert_allclose(scores[row], expected.detach().numpy(), rtol=1e-4, atol=1e-4)


def test_only_the_latest_items_of_a_long_history_count():
    scorer = DenseScorer(tiny_model(max_history=3))
    long, short = np.array([[7, 8, 9, 1, 2], [4, 5, -1, -1, -1]]), np.array([[9, 1, 2], [4, 5, -1]])

    np.testing.assert_allclose(scorer.scores(long), scorer.scores(short), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("width", [0, 3])
def test_an_empty_history_is_ranked_by_popularity(width):
    popularity = np.arange(ITEMS)[::-1]
    ranker = ScoringRanker(
        DenseScorer(tiny_model()), popularity=popularity, item_ids=[str(row) for row in range(ITEMS)]
    )

    ranking = ranker.rank(torch.full((2, width), -1), top_k=4)

    assert ranking.items.tolist() == [[0, 1, 2, 3]] * 2


def test_pads_to_the_right_change_no_score():
    scorer = DenseScorer(tiny_model())
    histories = np.array([[3, 1], [4, -1]])

    padded = scorer.scores(np.pad(histories, ((0, 0), (0, 2)), constant_values=-1))

    np.testing.assert_allclose(padded, scorer.scores(histories), rtol=1e-5, atol=1e-5)
