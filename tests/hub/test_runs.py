"""A run that is not finished is not exported, shown or published."""

import shutil

import pytest

from cost_hf.files import DamagedFileError
from cost_hf.hub.export import export_run
from cost_hf.hub.space.app import launch_demo
from cost_hf.hub.upload import upload
from cost_hf.stages import UnfinishedRunError


def test_an_unfinished_run_is_not_exported_shown_or_published(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / ".stages" / "finished.json").unlink()
    ways = (
        lambda: export_run(run, to="parquet", output=tmp_path / "out"),
        lambda: launch_demo(run, block=False),
        lambda: upload(run, namespace="me", dry_run=True),
    )
    for way in ways:
        with pytest.raises(UnfinishedRunError, match="is an unfinished run"):
            way()


def test_results_that_were_changed_are_not_shown(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    results = run / "evaluation" / "results.json"
    results.write_text(results.read_text().replace("0", "1", 1))

    with pytest.raises(DamagedFileError, match=r"results\.json has sha256"):
        launch_demo(run, block=False)
