"""The learned ranker as a method of a run: options, results, files, and what happens without LightGBM."""

import shutil
import subprocess
import sys
import tomllib

import pytest

import cost_hf
from cost_hf.data import DataError
from cost_hf.files import read_json
from cost_hf.methods.base import Estimate, methods, variants
from cost_hf.methods.ranker import Ranker, options
from cost_hf.methods.ranker.fitting import FOLDS
from cost_hf.methods.ranker.options import RankerOptions, RankerSection
from cost_hf.methods.ranker.recommender import RankerRecommender
from tests.methods.ranker.ranker_toys import toy_ranker
from tests.runs import ROOT, TINY, child_environment, command_line, run_train, stages_of

TOY = {name: value for name, value in TINY.items() if name.partition(".")[0] in ("data", "evaluation")}
PARTS = ["random", "markov", "text_last"]
RANKER = TOY | {
    "method": "ranker",
    "ranker.parts": PARTS,
    "ranker.overrides": {
        "random.codes.level_sizes": [8, 8, 8],
        "random.training.epochs": 1,
        "random.training.batch_size": 16,
        "random.training.validation_users": 33,
    },
    "ranker.columns": ["topic"],
    "ranker.rounds": 10,
    "ranker.folds": 3,
}


def test_the_method_is_a_hybrid():
    assert methods()["ranker"] is Ranker and Ranker.family == "hybrid"
    assert variants()["ranker"].is_compared


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cases": 0}, r"ranker\.cases must be at least 1, got 0"),
        ({"folds": 1}, r"ranker\.folds must be at least 2, got 1"),
        ({"folds": 101}, r"ranker\.folds must be at most 100, got 101"),
        ({"rounds": 0}, r"ranker\.rounds must be at least 1, got 0"),
        ({"leaves": 1}, r"ranker\.leaves must be at least 2, got 1"),
        ({"learning_rate": 0.0}, r"ranker\.learning_rate must be in \(0, 1\], got 0\.0"),
        ({"learning_rate": 1.5}, r"ranker\.learning_rate must be in \(0, 1\], got 1\.5"),
        ({"new_item_share": -0.1}, r"ranker\.new_item_share must be in \[0, 1\), got -0\.1"),
        ({"new_item_share": 1.0}, r"ranker\.new_item_share must be in \[0, 1\), got 1\.0"),
        ({"columns": ["a", "a"]}, r"ranker\.columns must be different names, got \['a', 'a'\]"),
        ({"parts": ["markov"]}, "two or more parts with different names"),
    ],
)
def test_values_that_no_run_can_have_are_an_error(fields, message):
    with pytest.raises(ValueError, match=message):
        RankerSection(**fields).validate()


def test_all_validation_cases_may_be_used():
    RankerSection(cases=None).validate()


def test_what_a_published_ranker_needs_is_what_the_extra_installs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert project["optional-dependencies"]["rank"] == list(RankerRecommender.packages)


def test_without_lightgbm_a_run_is_refused_before_it_begins(monkeypatch):
    monkeypatch.setattr(options, "find_spec", lambda name: None)

    with pytest.raises(ValueError, match=r"needs LightGBM, which is not installed; pip install cost-hf\[rank\]"):
        RankerSection().validate()
    assert not next(iter(Ranker.variants())).is_compared


def test_without_lightgbm_everything_else_works_and_a_stored_ranker_names_it(tmp_path):
    toy_ranker().save_pretrained(tmp_path)
    program = (
        "import sys; sys.modules['lightgbm'] = None\n"
        "from cost_hf.methods.base import methods\n"
        "assert 'ranker' in methods()\n"
        "from cost_hf import Recommender\n"
        "try:\n    Recommender.from_pretrained(sys.argv[1])\n"
        "except ValueError as error:\n    print(error)\n"
        "print(len(Recommender.from_pretrained(sys.argv[1] + '/parts/markov').catalog))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=child_environment(), capture_output=True, text=True
    )

    assert done.stdout.splitlines() == [
        "recommenders of kind 'ranker' need the package lightgbm, which is not installed; pip install it",
        "20",
    ], done.stderr


class Facts:
    class split:
        validation = range(500)


def test_costs_are_those_of_the_parts_and_of_the_trees(monkeypatch):
    method = Ranker(RankerOptions())
    own = Estimate({"a": 1.0, "evaluation": 2.0}, 8.0, ["few epochs"])
    monkeypatch.setattr("cost_hf.methods.parts.estimate_parts", lambda parts, facts: own)

    found = method.estimate(Facts())

    assert found.seconds.keys() == {"a", "evaluation", "ranker"} and found.seconds["ranker"] > 0
    assert (found.memory_mb, found.assumptions) == (8.0, ["few epochs"])
    method.options.ranker.new_item_share = 0.1
    assert method.estimate(Facts()).seconds["ranker"] == 2 * found.seconds["ranker"]
    monkeypatch.setattr("cost_hf.methods.parts.estimate_parts", lambda parts, facts: "part a: no")
    assert method.estimate(Facts()) == "part a: no"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> cost_hf.Run:
    return cost_hf.train(overrides=RANKER, output_dir=tmp_path_factory.mktemp("ranker"))


@pytest.mark.trains
def test_a_ranker_is_a_whole_run(run, caplog):
    loaded = cost_hf.Recommender.from_pretrained(run.output_dir)
    history = run.examples[0][1]
    found = run.results["ranker"]

    assert type(loaded) is RankerRecommender
    assert loaded.recommend(history, top_k=5) == run.recommender.recommend(history, top_k=5)
    assert 0 < found["cases_with_target"] <= found["cases"] and found["rounds"] >= 1
    shares = [share for _, share in found["importances"]]
    assert shares == sorted(shares, reverse=True)
    features = {name for name, _ in found["importances"]}
    assert features == set(loaded.features)
    expected = {"random_prefix_last", "random_prefix_recent", "trend", "column_topic", "same_column_topic"}
    assert expected | {"markov_score", "text_last_rank", "cosine_last", "popularity", "times_in_history"} <= features
    assert run.results["protocol"]["parts_selected_on_validation"] == ["random"]
    assert "folds without this user" in run.results["protocol"]["validation"]
    assert set(run.results["stages"]) == {
        "vectors",
        "parts-random-quantizer",
        "parts-random-generator",
        "ranker",
        "evaluation",
    } | {stage for stage in run.results["stages"] if stage.startswith("parts-")}
    caplog.set_level("INFO", logger="cost_hf")
    again = cost_hf.train(overrides=RANKER, output_dir=run.output_dir)
    assert stages_of(caplog.messages) == [] and again.results["rows"] == run.results["rows"]


@pytest.mark.trains
def test_other_trees_are_grown_without_training_the_parts_again(run, tmp_path, caplog):
    directory = shutil.copytree(run.output_dir, tmp_path / "run")
    caplog.set_level("INFO", logger="cost_hf")

    cost_hf.train(overrides=RANKER | {"ranker.leaves": 7}, output_dir=directory)

    assert stages_of(caplog.messages) == ["ranker", "evaluation"]


@pytest.mark.trains
def test_a_column_that_the_catalog_does_not_have_is_an_error_before_any_part_is_fitted(tmp_path):
    with pytest.raises(DataError, match=r"ranker\.columns names 'price', expected columns that stay .*: topic"):
        cost_hf.train(overrides=RANKER | {"ranker.columns": ["price"]}, output_dir=tmp_path)

    assert not (tmp_path / "parts").exists()


@pytest.mark.trains
def test_a_row_beside_another_system_has_files_of_its_own(tmp_path):
    recipe = tmp_path / "small.yaml"
    recipe.write_text("method: ranker\nranker: {parts: [markov, text_last], rounds: 5, folds: 2}\n")
    fields = TOY | {"method": "markov", "evaluation.baselines": [str(recipe)]}

    run = cost_hf.train(overrides=fields, output_dir=tmp_path / "run")

    assert {"recommender", "small"} <= set(run.results["rows"])
    folder = tmp_path / "run" / "baselines" / "small"
    assert len(read_json(folder / FOLDS)) == 2
    assert type(cost_hf.Recommender.from_pretrained(folder)) is RankerRecommender


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path):
    for processes in (1, 2):
        directory = tmp_path / str(processes)
        run_train(command_line(directory, fields=RANKER), processes=processes)
    one, two = (read_json(tmp_path / name / "evaluation" / "results.json") for name in "12")

    assert set(one["rows"]) == set(two["rows"])
    loaded = cost_hf.Recommender.from_pretrained(tmp_path / "2")
    assert type(loaded) is RankerRecommender and loaded.recommend([loaded.catalog.item_ids[0]], top_k=3)
