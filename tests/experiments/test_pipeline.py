"""`cost_hf.train` in this process: what a run returns and writes, and what a change of the recipe makes it do again."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cost_hf
from cost_hf.data.prepare import prepare_data
from cost_hf.data.text_vectors import TextVectors
from cost_hf.experiments.commands import train_main
from cost_hf.experiments.pipeline import make_workspace
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import file_digest
from cost_hf.methods.codes_stage import codes_stage
from cost_hf.stages import Stages
from tests.runs import STAGES, TINY, command_line, stages_of, tiny_fields

pytestmark = [pytest.mark.trains, pytest.mark.usefixtures("vector_cache")]
BASELINES = ["popularity", "markov", "oracle"]
UNITS, SEEN = ("item", "sid"), ("seen_allowed", "seen_excluded")
METRICS = [f"{name}@{cutoff}" for name in ("recall", "ndcg", "mrr") for cutoff in (5, 10)]


@pytest.fixture(scope="module")
def reference(finished_run, tmp_path_factory) -> cost_hf.Run:
    directory = shutil.copytree(finished_run, tmp_path_factory.mktemp("reference") / "run")
    return cost_hf.train(overrides=TINY, output_dir=directory)  # every stage is there


@pytest.fixture
def finished(reference, tmp_path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(reference.output_dir, tmp_path / "run"))


@pytest.fixture
def computed(caplog):
    """Tell which stages were computed since the test began."""
    caplog.set_level(logging.INFO, logger="cost_hf")
    return lambda: stages_of(caplog.messages)


def tables(items: int = 30, users: int = 40) -> dict[str, pd.DataFrame]:
    """A catalog and a click log in which user u reads every third item from item u on."""
    themes, places = ["elections", "football", "theatre"], ["oslo", "quito", "dakar", "lima", "kyoto"]
    titles = [f"{themes[row % 3]} in {places[row % 5]}" for row in range(items)]
    clicks = [(f"u{user}", f"n{(user + 3 * step) % items}", step) for user in range(users) for step in range(5)]
    return {
        "items": pd.DataFrame({"item_id": [f"n{row}" for row in range(items)], "title": titles}),
        "interactions": pd.DataFrame(clicks, columns=["user_id", "item_id", "position"]),
    }


def is_number(value) -> bool:
    return isinstance(value, float) and np.isfinite(value)


def test_results_have_the_promised_shape(reference):
    results = json.loads((reference.output_dir / "evaluation" / "results.json").read_text())

    assert results == json.loads(json.dumps(reference.results))
    assert set(results["rows"]) == {"recommender", *BASELINES}
    assert set(results["differences"]) == {f"recommender-{name}" for name in BASELINES}
    for table in (results["rows"], results["differences"]):
        for cells in (table[name][unit][seen] for name in table for unit in UNITS for seen in SEEN):
            assert set(METRICS) <= set(cells)
            for metric in METRICS:
                assert set(cells[metric]) == {"value", "low", "high"}
                assert cells[metric]["low"] <= cells[metric]["value"] <= cells[metric]["high"]
    assert is_number(results["rows"]["recommender"]["item"]["seen_allowed"]["coverage@10"]["value"])
    assert set(results["stages"]) == set(STAGES)
    assert all(set(cost) == {"seconds", "peak_mb"} for cost in results["stages"].values())
    assert {"split", "exclude_seen", "num_beams", "constraint", "max_history", "unit_of_a_hit", "shares"} <= set(
        results["protocol"]
    )
    shares = {"invalid", "repeated_target", "unseen_target"}
    assert shares <= set(results["protocol"]["shares"])
    for proved in (results["protocol"]["proved"][seen] for seen in SEEN):
        assert set(proved) == {"5", "10"} and all(0 <= share <= 1 for share in proved.values())
    assert {"recipe", "seed", "data_digest", "versions", "device", "semantic_ids"} <= set(results)
    assert results["recipe"]["training"]["epochs"] == TINY["training.epochs"]


def test_metrics_above_the_beams_are_null(finished):
    run = cost_hf.train(overrides=TINY | {"evaluation.cutoffs": [10, 20]}, output_dir=finished)

    cells = run.results["rows"]["recommender"]["item"]["seen_allowed"]
    assert cells["recall@20"] == cells["coverage@20"] == {"value": None, "low": None, "high": None}
    assert is_number(cells["recall@10"]["value"])


def test_the_run_directory_holds_every_part(reference):
    parts = {str(path.relative_to(reference.output_dir)) for path in reference.output_dir.rglob("*") if path.is_file()}

    assert {
        "recipe.yaml",
        "vectors/vectors.safetensors",
        "vectors/encoder/vocabulary.json",
        "quantizer/config.json",
        "quantizer/model.safetensors",
        "recommender/recommender.json",
        "recommender/vocabulary.json",
        "recommender/model.safetensors",
        "evaluation/results.json",
        "evaluation/ranks.parquet",
    } <= parts
    assert not any("checkpoint" in part or part.endswith((".bin", ".pt", ".pkl")) for part in parts)
    assert Recipe.load(str(reference.output_dir / "recipe.yaml")).to_dict() == reference.results["recipe"]


def test_ranks_hold_every_case_of_every_row(reference):
    ranks = pd.read_parquet(reference.output_dir / "evaluation" / "ranks.parquet")

    assert list(ranks.columns) == ["user_id", "row", "unit", "seen", "rank"]
    sizes = ranks.groupby(["row", "unit", "seen"]).size()
    assert len(sizes) == 4 * 2 * 2
    assert set(sizes) == {reference.results["protocol"]["cases"]}
    mine = ranks[(ranks["row"] == "recommender") & (ranks["unit"] == "item") & (ranks["seen"] == "seen_allowed")]
    recall = reference.results["rows"]["recommender"]["item"]["seen_allowed"]["recall@10"]["value"]
    assert (mine["rank"] <= 10).fillna(False).mean() == pytest.approx(recall)


def test_a_repeated_call_computes_nothing_and_says_the_same(finished, reference, computed):
    run = cost_hf.train(overrides=TINY, output_dir=finished)

    assert computed() == []
    assert run.results == reference.results


@pytest.mark.parametrize(
    ("field", "value", "stages"),
    [
        ("evaluation.bootstrap_draws", 60, ["evaluation"]),
        ("training.weight_decay", 0.02, ["generator", "evaluation"]),
        ("codes.learning_rate", 2e-3, ["quantizer", "generator", "evaluation"]),
        ("vectors.dim", 64, ["vectors", "quantizer", "generator", "evaluation"]),
    ],
)
def test_a_changed_field_computes_its_stage_and_the_later_ones_again(finished, computed, field, value, stages):
    run = cost_hf.train(overrides=TINY | {field: value}, output_dir=finished)

    assert computed() == stages
    section, name = field.split(".")
    assert run.results["recipe"][section][name] == value


def test_another_search_in_the_evaluation_reaches_the_saved_recommender_without_training(finished, computed):
    weights = file_digest(finished / "recommender/model.safetensors")

    search = {"evaluation.num_beams": 12, "search.normalization": "level"}
    run = cost_hf.train(overrides=TINY | search, output_dir=finished)

    assert computed() == ["evaluation"]
    loaded = cost_hf.Recommender.from_pretrained(finished)
    assert run.recommender.num_beams == loaded.num_beams == 12
    assert run.recommender.normalization == loaded.normalization == "level"
    assert run.results["protocol"]["score"] == "sum of natural-log probabilities over the codes of each level"
    assert file_digest(finished / "recommender/model.safetensors") == weights


def test_another_method_with_the_same_stage_trains_again_in_the_same_directory(tmp_path, computed):
    cost_hf.train(overrides=tiny_fields(method="popularity"), output_dir=tmp_path)
    run = cost_hf.train(overrides=tiny_fields(method="item_knn"), output_dir=tmp_path)

    assert computed() == ["counting", "evaluation"] * 2
    assert run.results["methods"]["recommender"]["method"] == "item_knn"
    answers = run.recommender.recommend(run.examples[0][1], top_k=5)
    assert cost_hf.Recommender.from_pretrained(tmp_path).recommend(run.examples[0][1], top_k=5) == answers


def test_a_method_of_other_stages_does_not_overwrite_what_another_has_trained(finished, computed):
    with pytest.raises(ValueError, match=r"holds files of a run of another method \(stage generator\); give another"):
        cost_hf.train(overrides=tiny_fields(method="sasrec"), output_dir=finished)

    assert computed() == []
    cost_hf.train(overrides=TINY, output_dir=finished)
    assert computed() == []


def test_a_deleted_folder_is_made_again(finished, reference, computed):
    shutil.rmtree(finished / "evaluation")

    run = cost_hf.train(overrides=TINY, output_dir=finished)

    assert computed() == ["evaluation"]
    assert run.results["rows"] == reference.results["rows"]


def test_another_seed_gives_other_weights_on_the_same_split(reference, tmp_path):
    run = cost_hf.train(overrides=TINY, seed=1, output_dir=tmp_path)

    for name in ("quantizer/model.safetensors", "recommender/model.safetensors"):
        assert file_digest(tmp_path / name) != file_digest(reference.output_dir / name)
    assert run.results["seed"] == 1
    assert run.results["split_digest"] == reference.results["split_digest"]


def test_random_codes_are_drawn_again_for_other_ids_with_the_same_texts(tmp_path):
    recipe = Recipe.load("cost_quickstart", {"codes.kind": "random", "codes.level_sizes": [8, 8], "data.seed": 0})
    codes = []
    for prefix in ("a", "b"):
        given = {name: frame.assign(item_id=prefix + frame["item_id"]) for name, frame in tables().items()}
        workspace = make_workspace(Stages(tmp_path), recipe, prepare_data(recipe.data, **given))
        codes.append(codes_stage(workspace, recipe.options.codes, seed=0).codes)

    assert (codes[0] != codes[1]).any()


def test_tables_without_timestamps_or_titles_train(tmp_path):
    given = tables()
    given["items"] = given["items"].rename(columns={"title": "headline"})
    small = {name: TINY[name] for name in TINY if not name.startswith("data.")} | {"training.epochs": 1}

    run = cost_hf.train(**given, overrides=small, output_dir=tmp_path)

    assert run.results["recipe"]["data"]["reader"] == "tables"
    assert "oracle" not in run.results["rows"]
    (best,) = run.recommender.recommend(["n0", "n3"], top_k=1)
    assert best.fields == {"source": "generator"}


@pytest.mark.parametrize(("given", "missing"), [("items", "interactions"), ("interactions", "items")])
def test_one_table_without_the_other_is_an_error(given, missing, tmp_path):
    with pytest.raises(ValueError, match=f"{missing} is missing"):
        cost_hf.train(**{given: tables()[given]}, output_dir=tmp_path)


def test_collapsed_codes_end_the_command_with_advice_and_no_traceback(tmp_path, capsys):
    status = train_main(command_line(tmp_path, codes__min_perplexity_share=1.0))

    error = capsys.readouterr().err
    assert status == 2
    assert "the codebooks collapsed" in error and "Traceback" not in error


def test_a_run_and_its_parts_say_in_one_line_what_they_are(reference):
    recommender = reference.recommender
    value = reference.results["rows"]["recommender"]["item"]["seen_allowed"]["ndcg@10"]["value"]

    assert len(repr(reference)) < 400 and "\n" not in repr(reference)
    assert repr(reference).startswith("Run(cost_quickstart, seed 0, GenerativeRecommender(generator, 96 items")
    assert f"NDCG@10 {value:.4f}" in repr(reference) and recommender.catalog.digest[:12] in repr(reference)
    for part in parts_of(reference):
        assert len(repr(part)) < 400 and "\n" not in repr(part)


def parts_of(run: cost_hf.Run) -> list:
    """The prepared data of a finished run, and its vectors."""
    recipe = Recipe.load(str(run.output_dir / "recipe.yaml"))
    data = prepare_data(recipe.data, template=recipe.vectors.template)
    return [data, data.tables, data.split, data.split.test, TextVectors.load(run.output_dir / "vectors")]
