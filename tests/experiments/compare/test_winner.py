"""The recommended system as a recipe and a command."""

import json
import shlex
from pathlib import Path

import pytest
from huggingface_hub.utils import validate_repo_id

from cost_hf.experiments.compare.runner import DONE, RECORD, plan_jobs
from cost_hf.experiments.compare.systems import plan_systems
from cost_hf.experiments.compare.winner import RECIPE, check_target, describe_winner, train_recommended
from cost_hf.experiments.recipe import MAX_NAME, Recipe
from cost_hf.files import file_digest, write_json

COST = {"request_ms": 2.5, "peak_mb": None, "training_minutes": 0.0}


@pytest.fixture
def comparison(tmp_path):
    """The plan and runs of a comparison in a directory with a blank in its name; nothing is done yet."""
    base = Recipe.load("cost_quickstart", {"evaluation.baselines": ["popularity", "markov", "sasrec_ce"]})
    plan = plan_systems(base, ["cost"])
    directory = tmp_path / "a comparison"
    directory.mkdir()
    jobs = plan_jobs(plan.systems, seeds=[3, 4], generators_per_quantizer=2, data_digest="data", directory=directory)
    return base, plan, jobs, directory


def finish(job):
    write_json(job.directory / ".stages" / "finished.json", {"stages": {}, "files": {}})
    write_json(job.directory / "evaluation" / "results.json", {})
    digest = file_digest(job.directory / ".stages" / "finished.json")
    record = {"status": DONE, "message": "", "seconds": 1.0, "digest": job.digest, "run": digest}
    write_json(job.directory / RECORD, record)


def described(comparison, row):
    base, plan, jobs, directory = comparison
    return describe_winner(row, {row: {"cost": COST}}, base, plan, jobs, directory)


def recipe_of(command):
    """Return the recipe that a command line trains, as a shell would read it, and its seed."""
    program, action, _, path, _, seed = shlex.split(command)
    assert (program, action) == ("cost-hf", "train")
    return Recipe.load(path), int(seed)


def test_a_row_that_counts_is_a_command_alone(comparison):
    found = described(comparison, "markov")
    recipe, seed = recipe_of(found["command"])

    assert (recipe.method, seed) == ("markov", 0)
    assert recipe.name == "cost_quickstart-markov"
    assert recipe.baselines == ["popularity"]
    assert recipe.data == comparison[0].data
    assert (found["directory"], found["latency_ms"], found["peak_mb"]) == (None, 2.5, None)


@pytest.mark.parametrize("row", ["cost", "fusion_generative"])
def test_a_trained_row_is_the_recipe_and_seed_of_its_first_finished_run(comparison, row):
    jobs = [job for job in comparison[2] if job.system.name == row]
    finish(jobs[1])
    finish(jobs[2])
    found = described(comparison, row)
    recipe, seed = recipe_of(found["command"])

    assert (seed, found["seed"]) == (7, 7)
    assert recipe.options == jobs[1].recipe.options  # the seed of its quantizer included
    assert (recipe.data, recipe.vectors) == (jobs[1].recipe.data, jobs[1].recipe.vectors)
    assert recipe.baselines == ["popularity", "markov"]
    assert found["directory"] == str(jobs[1].directory)


@pytest.mark.parametrize("name", ["x" * MAX_NAME, "my shop, ü", "..", "-a--b"])
def test_the_recipe_names_a_directory_and_a_repository(comparison, name):
    comparison[0].name = name
    recipe, _ = recipe_of(described(comparison, "markov")["command"])

    recipe.validate()
    validate_repo_id(f"org/{recipe.name}-recommender")
    assert recipe.name.endswith("markov")


def test_where_nothing_is_recommended_there_is_no_recipe(comparison):
    described(comparison, "markov")
    base, plan, jobs, directory = comparison
    found = describe_winner(None, {}, base, plan, jobs, directory)

    assert found == dict.fromkeys(("command", "seed", "directory", "latency_ms", "peak_mb"))
    assert not (directory / RECIPE).exists()
    assert train_recommended(found, directory, directory / "out", overwrite=False) is None


def test_the_description_is_content_of_a_json_file(comparison):
    found = described(comparison, "markov")

    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("name", ["", "runs/cost-0.0", "../a comparison"])
def test_the_recommended_system_is_not_written_into_the_comparison(tmp_path, name):
    directory = tmp_path / "a comparison"

    with pytest.raises(ValueError, match="give a directory elsewhere"):
        check_target(directory / name, directory)
    check_target(tmp_path / "elsewhere", directory)
    check_target(Path("elsewhere"), directory)
