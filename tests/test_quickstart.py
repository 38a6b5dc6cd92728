"""The embedded toy recipe must keep the quality and the words that the README promises."""

import pytest

import cost_hf
from cost_hf.summary import run_summary


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> cost_hf.Run:
    return cost_hf.train(recipe="cost_quickstart", seed=0, output_dir=tmp_path_factory.mktemp("quickstart"))


def recall(run: cost_hf.Run, row: str) -> float:
    return run.results["rows"][row]["item"]["seen_allowed"]["recall@10"]["value"]


def test_the_recommender_is_far_above_text_and_popularity(run):
    assert recall(run, "recommender") >= 0.50
    assert recall(run, "recommender") >= 1.5 * recall(run, "text_last")
    assert run.results["differences"]["recommender-popularity"]["item"]["seen_allowed"]["recall@10"]["low"] > 0.3


def test_the_toy_world_is_the_documented_one(run):
    assert recall(run, "popularity") == pytest.approx(0.04, abs=0.015)
    assert recall(run, "text_last") == pytest.approx(0.29, abs=0.03)
    assert recall(run, "markov") == pytest.approx(0.65, abs=0.03)
    assert recall(run, "oracle") > recall(run, "markov")


def test_the_trie_keeps_every_beam_in_the_catalog(run):
    assert run.results["protocol"]["shares"]["invalid"] == 0.0


def test_the_codes_are_alive(run):
    health = run.results["semantic_ids"]

    assert all(level["perplexity"] > 0.7 * 32 for level in health["levels"])
    assert health["unique_share"] > 0.9


def test_the_summary_shows_the_table_three_users_the_directory_and_says_toy_data(run):
    text = run_summary(run)

    assert all(row in text for row in ("recommender", "popularity", "item_knn", "text_last", "markov", "oracle"))
    assert text.count("recommended") == 3
    assert str(run.output_dir) in text
    assert "toy data made by this package" in text
