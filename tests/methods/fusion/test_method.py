"""Fusion as a method of a run: its parts, the weights, the protocol and the whole recommender."""

import shutil

import pytest

import cost_hf
from cost_hf.files import read_json
from cost_hf.methods.base import methods, variants
from cost_hf.methods.fusion import Fusion
from cost_hf.methods.fusion.options import FusionOptions, FusionSection
from cost_hf.methods.fusion.recommender import FusionRecommender
from tests.runs import TINY, stages_of

TOY = {name: value for name, value in TINY.items() if name.partition(".")[0] in ("data", "evaluation")}
PARTS = ["random", "sasrec_text", "text_last"]
OVERRIDES = {
    "random.codes.level_sizes": [8, 8, 8],
    "random.training.epochs": 2,
    "random.training.batch_size": 16,
    "random.training.validation_users": 33,
    "sasrec_text.training.epochs": 2,
    "sasrec_text.training.batch_size": 16,
    "sasrec_text.training.validation_users": 33,
    "sasrec_text.model.hidden_size": 16,
}
FUSION = TOY | {"method": "fusion", "fusion.parts": PARTS, "fusion.overrides": OVERRIDES}


def test_the_method_is_a_hybrid_with_a_row_for_each_kind():
    assert methods()["fusion"] is Fusion and Fusion.family == "hybrid"
    rows = {name: row for name, row in variants().items() if row.method == "fusion"}
    assert {name: dict(row.overrides) for name, row in rows.items()} == {
        "fusion": {},
        "score_sum": {"fusion.kind": "score_sum"},
    }


def test_a_kind_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match=r"fusion\.kind must be one of reciprocal_rank, score_sum, got 'median'"):
        FusionSection(kind="median").validate()


@pytest.mark.parametrize(("kind", "words"), [("reciprocal_rank", "10 \\+ rank"), ("score_sum", "standardised")])
def test_the_protocol_says_how_lists_are_made(kind, words):
    options = FusionOptions()
    options.fusion.kind = kind
    options.fusion.parts = ["markov", "sasrec_ce"]

    protocol = Fusion(options).protocol(None, None, None)

    assert protocol["parts_selected_on_validation"] == ["sasrec_ce"]
    assert (
        protocol["score"]
        == {
            "reciprocal_rank": "sum of weight / (10 + rank) over the parts' lists",
            "score_sum": "weighted sum of the parts' scores, standardised over the candidates of a request",
        }[kind]
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> cost_hf.Run:
    return cost_hf.train(overrides=FUSION, output_dir=tmp_path_factory.mktemp("fusion"))


@pytest.mark.trains
def test_a_fusion_is_a_whole_run(run, caplog):
    loaded = cost_hf.Recommender.from_pretrained(run.output_dir)
    history = run.examples[0][1]
    weights = run.results["fusion"]["weights"]

    assert type(loaded) is FusionRecommender
    assert loaded.recommend(history, top_k=5) == run.recommender.recommend(history, top_k=5)
    assert set(weights) == set(PARTS) and sum(weights.values()) == pytest.approx(1)
    assert set(loaded.parts) == {name for name, weight in weights.items() if weight > 0}
    assert run.results["methods"]["recommender"]["family"] == "hybrid"
    assert run.results["protocol"]["parts"] == PARTS
    assert set(run.results["stages"]) == {
        "vectors",
        "parts-random-quantizer",
        "parts-random-generator",
        "parts-sasrec_text",
        "fusion",
        "evaluation",
    }
    assert read_json(run.output_dir / "recommender" / "weights.json") == weights
    caplog.set_level("INFO", logger="cost_hf")
    again = cost_hf.train(overrides=FUSION, output_dir=run.output_dir)
    assert not [line for line in caplog.messages if line.startswith("stage ")]
    assert again.results["rows"] == run.results["rows"]


@pytest.mark.trains
def test_a_new_item_reaches_all_parts_of_a_run(run, tmp_path):
    recommender = cost_hf.Recommender.from_pretrained(run.output_dir)
    text = recommender.catalog.titles[0]
    recommender.add_items(["new"], [text])
    recommender.save_pretrained(tmp_path)

    answers = cost_hf.Recommender.from_pretrained(tmp_path).recommend(
        [recommender.catalog.item_ids[0]], top_k=len(recommender.catalog)
    )

    assert "new" in {answer.item_id for answer in answers}


@pytest.mark.trains
def test_other_weights_are_chosen_without_training_the_parts_again(run, tmp_path, caplog):
    directory = shutil.copytree(run.output_dir, tmp_path / "run")
    caplog.set_level("INFO", logger="cost_hf")

    cost_hf.train(overrides=FUSION | {"fusion.kind": "score_sum"}, output_dir=directory)

    assert stages_of(caplog.messages) == ["fusion", "evaluation"]


@pytest.mark.trains
def test_results_are_of_the_catalog_of_the_training(run, tmp_path, caplog):
    """Users may have changed the catalog in the run directory since."""
    directory = shutil.copytree(run.output_dir, tmp_path / "run")
    changed = cost_hf.Recommender.from_pretrained(directory)
    changed.add_items(["new"], [changed.catalog.titles[0]])
    changed.save_catalog(directory / "recommender")

    again = cost_hf.train(overrides=FUSION | {"evaluation.bootstrap_draws": 60}, output_dir=directory)

    assert "results are those of the catalog that was trained on" in caplog.text
    assert "new" not in again.recommender.catalog and "new" in cost_hf.Recommender.from_pretrained(directory).catalog
    figures = [
        {name: cell["value"] for name, cell in own.results["rows"]["recommender"]["item"]["seen_allowed"].items()}
        for own in (run, again)
    ]
    assert figures[0] == figures[1]


@pytest.mark.trains
def test_both_kinds_as_rows_of_one_run_fit_every_part_once(tmp_path, caplog):
    caplog.set_level("INFO", logger="cost_hf")
    counting = {"fusion.parts": ["markov", "sasrec_text"], "fusion.overrides": {"sasrec_text.training.epochs": 1}}

    run = cost_hf.train(
        overrides=TOY | {"method": "fusion", **counting, "evaluation.baselines": ["score_sum", "markov"]},
        output_dir=tmp_path / "run",
    )

    assert {"recommender", "score_sum", "markov"} <= set(run.results["rows"])
    assert stages_of(caplog.messages).count("parts-sasrec_text") == 1
