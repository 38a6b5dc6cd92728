"""Runs in processes of their own: order, nested seeds, budget, failures, going on."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from cost_hf.experiments.compare import runner
from cost_hf.experiments.compare.runner import DONE, FAILED, NOT_STARTED, UNFINISHED, plan_jobs, run_jobs
from cost_hf.experiments.compare.systems import PUBLISHED, plan_systems
from cost_hf.experiments.pipeline import train
from cost_hf.experiments.recipe import Recipe
from tests.runs import TINY, child_environment, stages_of


def jobs_of(directory, names=("cost", "sasrec_ce"), seeds=(0, 1), generators=1, data_digest="data"):
    """Runs of the named systems; hybrids alone have tests of their own."""
    return [
        job
        for job in all_jobs(directory, names, seeds, generators, data_digest)
        if not job.system.recipe.system.combines_methods
    ]


def all_jobs(directory, names=("cost", "sasrec_ce"), seeds=(0, 1), generators=1, data_digest="data"):
    systems = plan_systems(Recipe.load("cost_quickstart"), names).systems
    return plan_jobs(
        systems, seeds=seeds, generators_per_quantizer=generators, data_digest=data_digest, directory=directory
    )


FINISHES = """
import pathlib, sys
run = pathlib.Path(sys.argv[1])
for name, text in {"evaluation/results.json": "{}", ".stages/finished.json": '{"stages": {}, "files": {}}'}.items():
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text(text)
"""


@pytest.fixture
def worker(monkeypatch):
    """Replace the work of a run by a line of Python; the function sets it."""

    def becomes(code):
        def command(job, shared):
            return [sys.executable, "-c", code, str(job.directory)]

        monkeypatch.setattr(runner, "worker_command", command)

    return becomes


def test_all_systems_get_a_seed_before_any_gets_the_next(tmp_path):
    order = [(job.system.name, job.label) for job in jobs_of(tmp_path)]

    assert order == [("cost", "0.0"), ("sasrec_ce", "0.0"), ("cost", "1.1"), ("sasrec_ce", "1.1")]


def test_generator_seeds_are_nested_in_quantizer_seeds(tmp_path):
    jobs = jobs_of(tmp_path, names=["cost"], generators=2)

    assert [job.label for job in jobs] == ["0.0", "0.1", "1.2", "1.3"]
    assert [job.recipe.options.codes.seed for job in jobs] == [0, 0, 1, 1]


def test_a_dense_system_has_a_number_of_its_own_for_every_run(tmp_path):
    jobs = jobs_of(tmp_path, names=["sasrec_ce"], generators=2)

    assert [job.quantizer_seed for job in jobs] == [0, 1, 2, 3]


def test_hybrids_come_after_the_runs_of_the_same_seeds_that_they_combine(tmp_path):
    jobs = all_jobs(tmp_path, names=["fusion", "cost", "sasrec_ce", "random"], generators=2)
    order = [(job.system.name, job.generator_seed) for job in jobs]

    for job in jobs:
        assert {part.generator_seed for part in job.parts} <= {job.generator_seed}
        assert all(
            order.index((part.system.name, part.generator_seed)) < order.index((job.system.name, job.generator_seed))
            for part in job.parts
        )
    combined = {job.system.name: [part.system.name for part in job.parts] for job in jobs}
    assert combined["fusion"] == ["sasrec_ce"]
    assert combined["fusion_generative"] == ["cost", "sasrec_ce"]
    assert combined["cost"] == []


def test_parts_of_a_hybrid_have_the_seeds_of_their_rows(tmp_path):
    jobs = all_jobs(tmp_path, names=["cost", "sasrec_ce"], generators=2)
    hybrids = [job for job in jobs if job.system.name == "fusion_generative"]

    assert [job.label for job in hybrids] == ["0.0", "0.1", "1.2", "1.3"]
    for job in hybrids:
        row = next(other for other in jobs if (other.system.name, other.label) == ("cost", job.label))
        assert job.recipe.options.fusion.methods()["cost"].options == row.recipe.options
    dense = [job.label for job in jobs if job.system.name == "fusion"]
    assert dense == ["0.0", "1.1", "2.2", "3.3"]  # without a quantizer every run counts by itself


def test_a_hybrid_waits_for_its_parts_rather_than_training_them(tmp_path, worker):
    worker("raise ValueError('the codebooks collapsed')")
    run_jobs(all_jobs(tmp_path, seeds=[0]), shared=tmp_path, deadline=None)

    records = {job.system.name: job.record for job in all_jobs(tmp_path, seeds=[0])}
    assert records["fusion_generative"]["status"] == NOT_STARTED
    assert records["fusion_generative"]["message"] == (
        "it combines rows that are not finished: cost (failed), sasrec_ce (failed)"
    )
    worker(FINISHES)
    run_jobs(all_jobs(tmp_path, seeds=[0]), shared=tmp_path, deadline=None)
    assert {job.record["status"] for job in all_jobs(tmp_path, seeds=[0])} == {DONE}


def test_other_data_make_another_job(tmp_path):
    assert jobs_of(tmp_path)[0].digest != jobs_of(tmp_path, data_digest="other")[0].digest


def test_other_published_identifiers_make_another_job(tmp_path):
    path = tmp_path / "sids.parquet"

    def digests():
        systems = plan_systems(Recipe.load("cost_quickstart"), ["cost"], reference=str(path)).systems
        options = {"seeds": [0], "generators_per_quantizer": 1, "data_digest": "data", "directory": tmp_path}
        jobs = plan_jobs(systems, **options)
        return [job.digest for job in jobs if job.system.name in ("cost", PUBLISHED)]

    path.write_bytes(b"one")
    before = digests()
    path.write_bytes(b"other")

    assert digests()[0] == before[0]
    assert digests()[1] != before[1]


def test_a_finished_run_is_not_run_again(tmp_path, worker):
    worker(FINISHES)
    run_jobs(jobs_of(tmp_path), shared=tmp_path, deadline=None)
    worker("raise SystemExit(1)")
    run_jobs(jobs_of(tmp_path), shared=tmp_path, deadline=None)

    assert {job.record["status"] for job in jobs_of(tmp_path)} == {DONE}


@pytest.mark.parametrize("content", ["[]", "{", "{}", '{"digest": 1}', "digest alone"])
def test_a_damaged_record_counts_for_nothing(tmp_path, worker, content):
    worker(FINISHES)
    run_jobs(jobs_of(tmp_path), shared=tmp_path, deadline=None)
    first = jobs_of(tmp_path)[0]
    text = json.dumps({"digest": first.digest}) if content == "digest alone" else content
    (first.directory / "job.json").write_text(text)

    assert first.record["status"] == NOT_STARTED


def test_another_finished_run_in_the_place_of_a_run_is_not_taken_for_it(tmp_path, worker):
    worker(FINISHES)
    run_jobs(jobs_of(tmp_path), shared=tmp_path, deadline=None)
    first = jobs_of(tmp_path)[0]
    (first.directory / ".stages" / "finished.json").write_text('{"stages": {}, "files": {"report.html": "0"}}')

    assert first.record["status"] == NOT_STARTED


def test_a_run_whose_results_were_deleted_is_run_again(tmp_path, worker):
    worker(FINISHES)
    run_jobs(jobs_of(tmp_path), shared=tmp_path, deadline=None)
    first = jobs_of(tmp_path)[0]
    (first.directory / "evaluation" / "results.json").unlink()

    assert first.record["status"] == NOT_STARTED


def test_a_section_that_a_method_does_not_read_makes_no_other_job(tmp_path):
    def digests(field, value):
        systems = plan_systems(Recipe.load("cost_quickstart", {field: value}), ["cost", "sasrec_ce"]).systems
        options = {"seeds": [0], "generators_per_quantizer": 1, "data_digest": "data", "directory": tmp_path}
        return [job.digest for job in plan_jobs(systems, **options)]

    before = digests("training.epochs", 9)

    assert digests("training.epochs", 7)[0] != before[0]
    assert digests("training.epochs", 7)[1] == before[1]


def test_a_failed_run_says_why_and_leaves_the_others_alone(tmp_path, worker):
    worker("raise ValueError('the codebooks collapsed')")
    run_jobs(jobs_of(tmp_path), shared=tmp_path, deadline=None)

    records = [job.record for job in jobs_of(tmp_path)]
    assert {record["status"] for record in records} == {FAILED}
    assert {record["message"] for record in records} == {"ValueError: the codebooks collapsed"}


def test_a_run_that_was_killed_says_so(tmp_path, worker):
    worker("import os; print('stage quantizer', flush=True); os.kill(os.getpid(), 9)")
    run_jobs(jobs_of(tmp_path, names=["cost"], seeds=[0]), shared=tmp_path, deadline=None)

    (job,) = jobs_of(tmp_path, names=["cost"], seeds=[0])
    assert (job.record["status"], job.record["message"]) == (FAILED, "ended by signal 9 in: stage quantizer")


def test_a_terminated_comparison_leaves_no_run_behind(tmp_path):
    code = f"""
from pathlib import Path
from cost_hf.experiments.compare import runner
from tests.experiments.compare.test_runner import jobs_of
work = "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid()) + ' '); time.sleep(600)"
runner.worker_command = lambda job, shared: [runner.sys.executable, "-c", work]
runner.run_jobs(jobs_of(Path({str(tmp_path)!r})), shared=Path("."), deadline=None)
"""
    compare = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=child_environment())
    pid = tmp_path / "pid"
    while not (pid.is_file() and pid.read_text().endswith(" ")):
        assert compare.poll() is None
        time.sleep(0.05)
    compare.terminate()

    assert compare.wait(300) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_failed_run_is_tried_again(tmp_path, worker):
    worker("raise ValueError('once')")
    run_jobs(jobs_of(tmp_path), shared=tmp_path, deadline=None)
    worker(FINISHES)
    run_jobs(jobs_of(tmp_path), shared=tmp_path, deadline=None)

    assert {job.record["status"] for job in jobs_of(tmp_path)} == {DONE}


def test_a_budget_that_is_used_up_starts_nothing(tmp_path, worker):
    worker(FINISHES)
    run_jobs(jobs_of(tmp_path), shared=tmp_path, deadline=time.monotonic() - 1)

    assert {job.record["status"] for job in jobs_of(tmp_path)} == {NOT_STARTED}


def test_the_end_of_the_budget_stops_a_run_and_says_where(tmp_path, worker):
    worker("import time; print('stage generator', flush=True); time.sleep(600)")
    run_jobs(jobs_of(tmp_path), shared=tmp_path, deadline=time.monotonic() + 1)

    first, *others = [job.record for job in jobs_of(tmp_path)]
    assert first["status"] == UNFINISHED
    assert first["message"].startswith("the budget ended in")
    assert {record["status"] for record in others} == {NOT_STARTED}


@pytest.mark.trains
def test_a_hybrid_trains_no_part_that_a_row_with_its_seeds_has_trained(tmp_path, caplog):
    base = Recipe.load("cost_quickstart", TINY | {"training.epochs": 1, "codes.epochs": 2})
    systems = plan_systems(base, ["cost"]).systems
    jobs = plan_jobs(systems, seeds=[1], generators_per_quantizer=2, data_digest="data", directory=tmp_path)
    runs = {job.system.name: job for job in jobs if job.label == "1.3"}  # the quantizer's seed is not the generator's
    caplog.set_level("INFO", logger="cost_hf")
    computed = {}
    for name in ("cost", "fusion_generative"):
        caplog.clear()
        path = tmp_path / f"{name}.yaml"
        runs[name].recipe.save(path)
        train(
            recipe=str(path),
            seed=runs[name].generator_seed,
            output_dir=runs[name].directory,
            shared_dir=tmp_path / "shared",
        )
        computed[name] = stages_of(caplog.messages)

    assert computed["cost"] == ["vectors", "quantizer", "generator", "evaluation"]
    assert computed["fusion_generative"] == ["fusion", "evaluation"]
