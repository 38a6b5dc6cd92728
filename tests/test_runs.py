"""Whole runs as child processes: killed and resumed, repeated, and shared among processes.

The tests share one undisturbed run, so they stay in one file (`pytest --dist loadfile`).
"""

import logging
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from cost_hf.experiments.commands import train_main
from cost_hf.files import file_digest, read_json
from tests.runs import (
    STAGES,
    command_line,
    records_of,
    results_of,
    run_train,
    run_until_killed,
    run_until_one_is_killed,
    stages_of,
    steps,
)

pytestmark = [pytest.mark.trains, pytest.mark.usefixtures("vector_cache")]
WEIGHTS = ("quantizer/model.safetensors", "recommender/model.safetensors")
STEPS_PER_EPOCH = {"quantizer": 3, "recommender": 5}  # 96 items in batches of 32, 75 users in batches of 16
CHECKPOINT = {"quantizer": 6, "recommender": 5}  # steps: every 2 epochs, every epoch


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """A finished run of seed 0."""
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    log = run_train(command_line(directory))
    assert stages_of(log) == list(STAGES)
    # whichever epoch was the best one: a killed run has to repeat the losses of all of them
    losses = [entry["epoch"] for entry in training_log(directory) if "loss" in entry]
    assert losses == [1.0, 2.0, 3.0]
    return directory


@pytest.fixture
def finished(undisturbed, tmp_path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(undisturbed, tmp_path / "run"))


def training_log(directory: Path) -> list[dict[str, float]]:
    """Return the generator's log without its last line, which holds timings."""
    return read_json(directory / "recommender" / "training_log.json")[:-1]


def files_of(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def assert_same_run(left: Path, right: Path) -> None:
    assert results_of(left) == results_of(right)
    for name in (*WEIGHTS, "evaluation/ranks.parquet"):
        assert file_digest(left / name) == file_digest(right / name), name
    assert training_log(left) == training_log(right)
    assert files_of(left) == files_of(right)  # a killed run leaves nothing behind


def test_a_run_killed_in_every_stage_ends_like_an_undisturbed_one(undisturbed, tmp_path):
    command = command_line(tmp_path / "run")

    first = run_until_killed(command, point="^step 8 of quantizer$")
    second = run_until_killed(command, point="^step 8 of recommender$")
    third = run_until_killed(command, point="^ranked popularity seen_allowed$")
    last = run_train(command)

    assert stages_of(first) == ["vectors", "quantizer"]
    assert stages_of(second) == ["quantizer", "generator"]
    assert "stage quantizer resumes where it was stopped" in second
    assert steps(second, "quantizer")[0] == CHECKPOINT["quantizer"] + 1
    assert stages_of(third) == ["generator", "evaluation"]
    assert "stage generator resumes where it was stopped" in third
    assert steps(second, "recommender")[-1] // STEPS_PER_EPOCH["recommender"] == 1  # in the second epoch
    assert steps(third, "recommender")[0] == CHECKPOINT["recommender"] + 1
    assert stages_of(last) == ["evaluation"]
    assert "recommender, seen" not in last and "markov, seen" in last  # the finished ranks were kept
    assert_same_run(tmp_path / "run", undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "stages_left"),
    [
        ("^lsa vectors get", STAGES),
        (r"^Saving model checkpoint to .*quantizer.checkpoints.checkpoint-12$", STAGES[1:]),
        (r"^Model weights saved in .*quantizer.checkpoints.checkpoint-12.", STAGES[1:]),
        (r"^Model weights saved in .*quantizer.\.model-", STAGES[1:]),
        ("^stage generator$", STAGES[2:]),
        (r"^Configuration saved in .*recommender.checkpoints.checkpoint-10.config.json$", STAGES[2:]),
        ("^Loading best model from ", STAGES[2:]),
        (r"^Model weights saved in .*recommender.\.generator-", STAGES[2:]),
        ("^stage evaluation$", STAGES[3:]),
    ],
)
def test_a_run_killed_while_it_writes_ends_like_an_undisturbed_one(
    undisturbed, tmp_path, monkeypatch, point, stages_left
):
    monkeypatch.setenv("COST_HF_CACHE", str(tmp_path / "cache"))
    command = command_line(tmp_path / "run")

    run_until_killed(command, point=point)
    log = run_train(command)

    assert stages_of(log) == list(stages_left)
    assert_same_run(tmp_path / "run", undisturbed)


def test_two_runs_of_one_seed_are_bit_equal(undisturbed, tmp_path, monkeypatch):
    monkeypatch.setenv("COST_HF_CACHE", str(tmp_path / "cache"))  # the vectors are made anew, too

    run_train(command_line(tmp_path / "run"))

    assert_same_run(tmp_path / "run", undisturbed)


def test_a_repeated_command_computes_nothing_and_says_the_same(finished, caplog):
    records, results = records_of(finished), (finished / "evaluation" / "results.json").read_text()
    caplog.set_level(logging.INFO, logger="cost_hf")

    assert train_main(command_line(finished)) == 0

    assert stages_of(caplog.messages) == []
    assert records_of(finished) == records
    assert (finished / "evaluation" / "results.json").read_text() == results


@pytest.mark.slow
def test_two_processes_evaluate_a_checkpoint_like_one(finished, undisturbed):
    shutil.rmtree(finished / "evaluation")
    (finished / ".stages" / "evaluation.json").unlink()

    log = run_train(command_line(finished), processes=2)

    assert stages_of(log) == ["evaluation"]
    assert len(load_file(finished / "evaluation/lists/recommender-seen_allowed.safetensors")["item_rank"]) == 75
    assert_same_run(finished, undisturbed)


@pytest.fixture(scope="module")
def twofold(tmp_path_factory) -> Path:
    """A finished run of two processes."""
    directory = tmp_path_factory.mktemp("twofold") / "run"
    assert stages_of(run_train(command_line(directory), processes=2)) == list(STAGES)
    return directory


@pytest.mark.slow
def test_two_processes_run_the_whole_pipeline_and_one_judges_it_the_same(twofold, tmp_path):
    directory = Path(shutil.copytree(twofold, tmp_path / "run"))
    shutil.rmtree(directory / "evaluation")
    (directory / ".stages" / "evaluation.json").unlink()

    log = run_train(command_line(directory))

    assert stages_of(log) == ["evaluation"]
    assert_same_run(directory, twofold)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["step 8 of quantizer", "step 8 of recommender"])
def test_a_launch_of_which_one_process_is_killed_ends_and_goes_on(twofold, tmp_path, point):
    command = command_line(tmp_path / "run")

    failed = run_until_one_is_killed(command, point=point)
    log = run_train(command, processes=2)

    assert "Signal 9" in failed
    stage = "generator" if "recommender" in point else "quantizer"
    assert f"stage {stage} resumes where it was stopped" in log
    assert_same_run(tmp_path / "run", twofold)
