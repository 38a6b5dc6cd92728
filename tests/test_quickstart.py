"""The embedded toy recipe must keep the quality and the words that the README promises."""

import pytest

import cost_hf
from cost_hf.experiments.summary import run_summary

pytestmark = pytest.mark.trains
FEW = {"codes.epochs": 5, "training.epochs": 2, "training.validate_every": 1, "evaluation.num_beams": 10}
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> cost_hf.Run:
    """The recipe with few epochs and beams: what it says of data and form is the same as with all of them."""
    return cost_hf.train(recipe="cost_quickstart", overrides=FEW, output_dir=tmp_path_factory.mktemp("quickstart"))


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory) -> list[cost_hf.Run]:
    """The recipe as it is, for every seed."""
    folder = tmp_path_factory.mktemp("quickstarts")
    return [cost_hf.train(recipe="cost_quickstart", seed=seed, output_dir=folder / str(seed)) for seed in SEEDS]


def recall(run: cost_hf.Run, row: str) -> float:
    return run.results["rows"][row]["item"]["seen_allowed"]["recall@10"]["value"]


def is_far_above_text_and_popularity(run: cost_hf.Run) -> bool:
    gain = run.results["differences"]["recommender-popularity"]["item"]["seen_allowed"]["recall@10"]
    found = recall(run, "recommender")
    return found >= 0.50 and found >= 1.5 * recall(run, "text_last") and gain["low"] > 0.3


def has_living_codes(run: cost_hf.Run) -> bool:
    health = run.results["semantic_ids"]
    return health["unique_share"] > 0.9 and all(level["perplexity"] > 0.7 * 32 for level in health["levels"])


@pytest.mark.slow
@pytest.mark.parametrize("is_kept", [is_far_above_text_and_popularity, has_living_codes])
def test_the_promised_quality_is_reached_by_most_seeds(whole_runs, is_kept):
    assert sum(map(is_kept, whole_runs)) >= 2


def test_training_lowers_the_loss_of_the_generator(run):
    losses = [entry["loss"] for entry in run.results["curves"]["generator"] if entry.get("loss") is not None]

    assert len(losses) == FEW["training.epochs"]
    assert losses[-1] < losses[0]


def test_the_toy_world_is_the_documented_one(run):
    assert recall(run, "popularity") == pytest.approx(0.07, abs=0.02)
    assert recall(run, "text_last") == pytest.approx(0.14, abs=0.03)
    assert recall(run, "markov") == pytest.approx(0.475, abs=0.03)
    assert recall(run, "oracle") > recall(run, "markov") + 0.2


def test_the_trie_keeps_every_beam_in_the_catalog(run):
    assert run.results["protocol"]["shares"]["invalid"] == 0.0


def test_the_summary_shows_the_table_three_users_the_directory_and_says_toy_data(run):
    text = run_summary(run)

    assert all(row in text for row in ("recommender", "popularity", "item_knn", "text_last", "markov", "oracle"))
    assert text.count("recommended") == 3
    assert str(run.output_dir) in text
    assert "toy data made by this package" in text
