"""Runs beyond the plain generative one: SASRec as system, baseline and source of collaborative vectors; cold start."""

import logging

import pytest

import cost_hf
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import read_json
from cost_hf.methods.sasrec.recommender import SasRecRecommender
from tests.runs import TINY, stages_of, tiny_fields

pytestmark = pytest.mark.trains
SASREC = tiny_fields(method="sasrec", model__hidden_size=16)


@pytest.fixture
def computed(caplog):
    """Tell which stages were computed since the test began."""
    caplog.set_level(logging.INFO, logger="cost_hf")
    return lambda: stages_of(caplog.messages)


@pytest.fixture(scope="module")
def dense(tmp_path_factory) -> cost_hf.Run:
    return cost_hf.train(overrides=SASREC, output_dir=tmp_path_factory.mktemp("dense"))


def test_a_sasrec_recipe_makes_no_codes_and_no_sid_figures(dense):
    assert not (dense.output_dir / "quantizer").exists()
    assert set(dense.results["rows"]["recommender"]) == {"item"}
    assert "semantic_ids" not in dense.results
    assert dense.results["curves"]["sasrec"][-1]["epoch"] == 3


def test_a_sasrec_run_recommends_and_comes_back_from_disk(dense):
    history = list(dense.examples[0][1])
    answers = dense.recommender.recommend(history, top_k=5)

    assert len({answer.item_id for answer in answers} - set(history)) == 5
    loaded = cost_hf.Recommender.from_pretrained(dense.output_dir)
    assert type(loaded) is SasRecRecommender
    assert loaded.recommend(history, top_k=5) == answers


def test_a_repeated_sasrec_run_computes_nothing(dense, computed):
    again = cost_hf.train(overrides=SASREC, output_dir=dense.output_dir)

    assert computed() == []
    assert again.results["rows"] == dense.results["rows"]


def test_baselines_are_methods_their_variants_or_recipes(tmp_path):
    Recipe.load("sasrec_beauty", {"training.epochs": 2, "model.hidden_size": 16}).save(tmp_path / "small.yaml")
    baselines = ["popularity", "markov_text", "sasrec_ce", "sasrec_text", str(tmp_path / "small.yaml")]
    overrides = TINY | {"evaluation.baselines": baselines, "vectors.dim": 16}
    run = cost_hf.train(overrides=overrides, output_dir=tmp_path / "run")

    assert set(run.results["rows"]) == set(run.results["methods"])
    assert set(run.results["parameters"]) == {"recommender", "sasrec_ce", "sasrec_text", "small"}
    assert run.results["parameters"]["small"] < run.results["parameters"]["sasrec_ce"]
    assert {"sasrec_ce", "sasrec_text", "small"} <= set(run.results["stages"])
    families = {name: entry["family"] for name, entry in run.results["methods"].items()}
    assert families == {
        "recommender": "generative",
        "popularity": "counting",
        "markov_text": "counting",
        "sasrec_ce": "dense",
        "sasrec_text": "dense",
        "small": "dense",
        "oracle": "oracle",
    }


def test_letter_learns_from_a_sasrec_of_the_training_part(tmp_path, computed):
    overrides = tiny_fields(codes__kind="letter", codes__latent_dim=16)
    run = cost_hf.train(overrides=overrides, output_dir=tmp_path / "one", shared_dir=tmp_path / "shared")
    cost_hf.train(overrides=overrides, output_dir=tmp_path / "two", shared_dir=tmp_path / "shared")

    assert [computed().count(stage) for stage in ("collaborative", "quantizer", "generator")] == [1, 1, 1]
    assert all("collaborative_loss" in entry for entry in run.results["curves"]["quantizer"] if "loss" in entry)


def test_cold_items_are_seen_by_nothing_that_is_fitted(finished_run, tmp_path):
    warm = cost_hf.Recommender.from_pretrained(finished_run)
    warm_slices = read_json(finished_run / "evaluation" / "results.json")["slices"]["recommender"]
    cold = cost_hf.train(overrides=TINY | {"data.cold_share": 0.2}, output_dir=tmp_path)

    counts = cold.results["protocol"]["counts"]
    hidden = cold.recommender.popularity == 0
    assert counts["cold_items"] > 0
    assert set(cold.results["slices"]["recommender"]["seen_allowed"]["cold_start"]) == {"in_set", "cold"}
    assert "cold_start" not in warm_slices["seen_allowed"]
    assert hidden.sum() >= counts["cold_items"]
    assert len(cold.recommender.catalog) == len(warm.catalog)
    assert cold.recommender.catalog.quantizer_digest != warm.catalog.quantizer_digest  # other codebooks


def test_the_report_of_a_run_is_written_beside_it(dense):
    page = (dense.output_dir / "report.html").read_text(encoding="utf-8")

    assert "<html" in page
    assert "sasrec" in page.lower()
