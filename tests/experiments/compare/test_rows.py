"""Rows as they are measured: hybrids and their parts, and what is said of runs that are not done."""

import pytest
from safetensors.numpy import save_file

from cost_hf.experiments.compare.rows import trained_rows
from cost_hf.experiments.compare.runner import DONE, FAILED, NOT_STARTED, RECORD, UNFINISHED, plan_jobs
from cost_hf.experiments.compare.systems import plan_systems
from cost_hf.experiments.evaluation_stage import EXAMPLES, FOLDER, LISTS, VALIDATION
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import file_digest, write_json
from tests.experiments.compare.made_up import run, targets

SEEN = "seen_allowed"


def jobs_of(directory, names=("cost",)):
    systems = plan_systems(Recipe.load("cost_quickstart"), names).systems
    return plan_jobs(systems, seeds=[0, 1], generators_per_quantizer=1, data_digest="data", directory=directory)


def record(job, status, message=""):
    job.directory.mkdir(parents=True, exist_ok=True)
    write_json(
        job.directory / RECORD, {"status": status, "message": message, "seconds": 1.0, "digest": job.digest, "run": ""}
    )


def test_a_row_that_was_not_begun_says_so(tmp_path):
    found = rows_of(jobs_of(tmp_path))["cost"]

    assert (found.status, found.runs) == (NOT_STARTED, [])
    assert found.message == "0 of 2 runs are done; the others not begun"


def test_a_hybrid_that_waits_says_what_for(tmp_path):
    jobs = jobs_of(tmp_path)
    hybrid = next(job for job in jobs if job.system.name == "fusion_generative")
    record(hybrid, NOT_STARTED, "it combines rows that are not finished: cost (failed)")
    found = rows_of(jobs)["fusion_generative"]

    assert (found.status, found.parts) == (NOT_STARTED, [])
    assert found.message == "0 of 2 runs are done; it combines rows that are not finished: cost (failed)"


@pytest.mark.parametrize("status", [FAILED, UNFINISHED])
def test_a_row_says_what_became_of_its_first_run_that_is_not_done(tmp_path, status):
    jobs = jobs_of(tmp_path)
    second = [job for job in jobs if job.system.name == "cost"][1]
    record(second, status, "the codebooks collapsed")
    found = rows_of(jobs)["cost"]

    assert found.status == status
    assert found.message == f"0 of 2 runs are done; {status}, seeds 1.1: the codebooks collapsed"


def test_a_record_of_other_inputs_counts_for_nothing(tmp_path):
    jobs = jobs_of(tmp_path)
    write_json(
        jobs[0].directory / RECORD, {"status": FAILED, "message": "", "seconds": 1.0, "digest": "other", "run": ""}
    )

    assert rows_of(jobs)["cost"].status == NOT_STARTED


@pytest.fixture
def finished(tmp_path):
    """Write a finished run of a job, whose lists put the target first in a share of the cases."""

    def write(job, share, *, parts=()):
        lists = run(job.label, targets(), share=share, seed=job.generator_seed).test
        for folder in (LISTS, VALIDATION):
            for seen, ranked in lists.items():
                path = job.directory / FOLDER / folder / f"recommender-{seen}.safetensors"
                path.parent.mkdir(parents=True, exist_ok=True)
                save_file(ranked.arrays(), path)
        results = {
            "recipe": {"vectors": {"kind": "text"}},
            "stages": {"evaluation": {"seconds": 600.0, "peak_mb": 90.0}, "work": {"seconds": 120.0, "peak_mb": 80.0}},
            "requests": {"recommender": {"batch_1_ms": 3.0}},
            "parameters": {},
            "protocol": {"parts": list(parts)} if parts else {},
        }
        write_json(job.directory / FOLDER / "results.json", results)
        write_json(job.directory / FOLDER / EXAMPLES, [])
        write_json(job.directory / ".stages" / "finished.json", {"stages": {}, "files": {}})
        digest = file_digest(job.directory / ".stages" / "finished.json")
        done = {"status": DONE, "message": "", "seconds": 1.0, "digest": job.digest, "run": digest}
        write_json(job.directory / RECORD, done)

    return write


def rows_of(jobs):
    return {row.name: row for row in trained_rows(jobs, metric="ndcg@10", seen=SEEN)}


def test_a_hybrid_says_what_it_combines_and_draws_the_seeds_of_its_best_dense_part(tmp_path, finished):
    jobs = jobs_of(tmp_path, ["cost", "sasrec_ce", "sasrec_text"])
    shares = {"sasrec_ce": 0.3, "sasrec_text": 0.6, "cost": 0.9}
    for job in jobs:
        parts = [name for name in job.system.parts if name in shares]
        finished(job, shares.get(job.system.name, 0.95), parts=["markov", *parts] if parts else [])
    rows = rows_of(jobs)

    assert rows["fusion"].parts == ["markov", "sasrec_ce", "sasrec_text"]
    assert rows["fusion"].description.endswith(": markov, sasrec_ce, sasrec_text")
    assert rows["fusion_generative"].parts == ["markov", "cost", "sasrec_ce", "sasrec_text"]
    assert rows["fusion"].seeds_of == rows["fusion_generative"].seeds_of == "sasrec_text"
    assert rows["fusion_generative"].without_generative == "fusion"
    assert rows["cost"].seeds_of is None and rows["cost"].parts == []


def test_a_hybrid_of_a_generator_alone_draws_its_seeds(tmp_path, finished):
    jobs = jobs_of(tmp_path, ["cost"])
    for job in jobs:
        finished(job, 0.5, parts=["markov", "cost"] if job.system.name == "fusion_generative" else [])

    assert rows_of(jobs)["fusion_generative"].seeds_of == "cost"


def test_training_minutes_leave_out_the_evaluation(tmp_path, finished):
    jobs = jobs_of(tmp_path, ["cost"])
    for job in jobs:
        finished(job, 0.5)

    assert rows_of(jobs)["cost"].cost == {
        "training_minutes": 2.0,
        "request_ms": 3.0,
        "peak_mb": 90.0,
        "parameters": 0,
    }
