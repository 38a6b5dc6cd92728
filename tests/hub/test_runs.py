"""A run that is not finished is not exported, shown or published."""

import shutil

import pytest

from cost_hf.hub.export import export_run
from cost_hf.hub.runs import check_run
from cost_hf.hub.space.app import launch_demo
from cost_hf.hub.upload import upload


@pytest.fixture
def unfinished(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / "evaluation" / "results.json").unlink()
    return run


def test_every_way_out_says_that_the_run_is_not_finished(unfinished, tmp_path):
    ways = (
        lambda: export_run(unfinished, to="parquet", output=tmp_path / "out"),
        lambda: launch_demo(unfinished, block=False),
        lambda: upload(unfinished, namespace="me", dry_run=True),
    )
    for way in ways:
        with pytest.raises(FileNotFoundError, match=r"is a run that is not finished: it holds no evaluation/results"):
            way()


def test_a_finished_run_and_what_is_no_run_pass(finished_run, tmp_path):
    for source in (finished_run, finished_run / "recommender", tmp_path, "org/name"):
        check_run(source)
