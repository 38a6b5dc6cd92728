"""Rows as they are measured: the ensemble, and what is said of runs that are not done."""

import numpy as np
import pytest

from cost_hf.experiments.compare.rows import ensemble_row, trained_rows
from cost_hf.experiments.compare.runner import FAILED, NOT_STARTED, RECORD, UNFINISHED, plan_jobs
from cost_hf.experiments.compare.systems import COUNTING, DENSE, ENSEMBLE, GENERATIVE, HYBRID, plan_systems
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import write_json
from tests.experiments.compare.made_up import row, targets

SEEN = "seen_allowed"


def jobs_of(directory):
    systems = plan_systems(Recipe.load("cost_quickstart"), ["cost"])
    return plan_jobs(systems, seeds=[0, 1], generators_per_quantizer=1, data_digest="data", directory=directory)


def record(job, status, message=""):
    job.directory.mkdir(parents=True, exist_ok=True)
    write_json(
        job.directory / RECORD, {"status": status, "message": message, "seconds": 1.0, "digest": job.digest, "run": ""}
    )


def test_a_row_that_was_not_begun_says_so(tmp_path):
    (found,) = trained_rows(jobs_of(tmp_path))

    assert (found.status, found.runs) == (NOT_STARTED, [])
    assert found.message.startswith("0 of 2 runs are done")


@pytest.mark.parametrize("status", [FAILED, UNFINISHED])
def test_a_row_says_what_became_of_its_first_run_that_is_not_done(tmp_path, status):
    jobs = jobs_of(tmp_path)
    record(jobs[1], status, "the codebooks collapsed")
    (found,) = trained_rows(jobs)

    assert found.status == status
    assert found.message == f"0 of 2 runs are done; {status}, seeds 1.1: the codebooks collapsed"


def test_a_record_of_other_inputs_counts_for_nothing(tmp_path):
    jobs = jobs_of(tmp_path)
    write_json(
        jobs[0].directory / RECORD, {"status": FAILED, "message": "", "seconds": 1.0, "digest": "other", "run": ""}
    )

    assert trained_rows(jobs)[0].status == NOT_STARTED


def test_the_ensemble_gives_a_useless_part_no_say():
    cases = targets()
    good, useless = row("cost", GENERATIVE, cases, [1.0]), row("text_last", COUNTING, cases, [0.0])
    fused = ensemble_row([good, useless], test=cases, validation=cases, primary=SEEN)

    assert (fused.name, fused.family) == (ENSEMBLE, HYBRID)
    assert fused.validation_score("ndcg@10", SEEN) == good.validation_score("ndcg@10", SEEN) == 1.0
    assert fused.results["weights"] == {"cost": 1.0, "text_last": 0.0}


def test_the_ensemble_is_made_seed_by_seed_and_a_shorter_row_serves_again():
    cases = targets()
    parts = [row("cost", GENERATIVE, cases, [0.5, 0.6, 0.7]), row("sasrec_ce", DENSE, cases, [0.4])]
    fused = ensemble_row(parts, test=cases, validation=cases, primary=SEEN)

    assert len(fused.runs) == 3
    assert [run.label for run in fused.runs] == [run.label for run in parts[0].runs]
    assert fused.seeds_of == "cost"
    ranks = [run.test[SEEN].item_rank for run in fused.runs]
    assert not np.array_equal(ranks[0], ranks[1], equal_nan=True)


def test_there_is_no_ensemble_of_a_part_without_a_run():
    cases = targets()
    parts = [row("cost", GENERATIVE, cases, [0.5]), row("sasrec_ce", DENSE, cases, [])]

    assert ensemble_row(parts, test=cases, validation=cases, primary=SEEN) is None


@pytest.mark.parametrize(("weights", "request_ms"), [([0.5, 0.5], 21.0), ([1.0, 0.0], 20.0)])
def test_the_cost_of_an_ensemble_is_that_of_the_parts_with_a_say(weights, request_ms, monkeypatch):
    monkeypatch.setattr("cost_hf.experiments.compare.rows.choose_weights", lambda *_: np.array(weights))
    cases = targets()
    costs = [
        {"training_minutes": 2.0, "request_ms": 20.0, "peak_mb": 600.0, "parameters": 10},
        {"training_minutes": 0.0, "request_ms": 1.0, "peak_mb": None},
    ]
    parts = [
        row("cost", GENERATIVE, cases, [0.5], cost=costs[0]),
        row("text_last", COUNTING, cases, [0.1], cost=costs[1]),
    ]
    fused = ensemble_row(parts, test=cases, validation=cases, primary=SEEN)

    assert fused.cost == {"training_minutes": 2.0, "request_ms": request_ms, "peak_mb": 600.0, "parameters": 10}
