"""Every method and every kind of codes trains in two processes, on users and items that these can't share evenly."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

import cost_hf
from cost_hf.files import read_json
from cost_hf.methods.base import methods
from cost_hf.quantizers.base import CodesOptions
from tests.experiments.test_every_method import fields_of
from tests.generators.backbone_toys import causal_backbone
from tests.runs import run_module, stages_of

pytestmark = [pytest.mark.slow, pytest.mark.trains, pytest.mark.usefixtures("vector_cache")]
CodesOptions.load_kinds()
FLAGS = [*(("method", name) for name in methods()), *(("codes__kind", name) for name in CodesOptions.kinds)]
ONE_PROCESS = "runs in one process, got 2"  # of the error of a method that refuses several


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> Path:
    return causal_backbone(tmp_path_factory.mktemp("backbone") / "base")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, backbone) -> Path:
    """A directory with a run of two processes for every flag, all by one launch: processes start slowly."""
    directory = tmp_path_factory.mktemp("runs")
    flags = [f"{field}={name}" for field, name in FLAGS]
    run_module("tests.experiments.process_runs", [str(directory), str(backbone), *flags], processes=2)
    return directory


def rows_of(directory: Path) -> Any:
    return read_json(directory / "evaluation" / "results.json")["rows"]


@pytest.mark.parametrize(("field", "name"), FLAGS, ids=[name for _, name in FLAGS])
def test_one_process_ranks_as_the_two_that_trained_did(runs, backbone, caplog, field, name):
    directory = runs / f"{field}-{name}"
    error = directory.with_suffix(".error")
    if error.exists():
        assert ONE_PROCESS in error.read_text(), error.read_text()
        return
    together = rows_of(directory)
    shutil.rmtree(directory / "evaluation")
    (directory / ".stages" / "evaluation.json").unlink()
    caplog.set_level(logging.INFO, logger="cost_hf")

    cost_hf.train(recipe="cost_quickstart", overrides=fields_of(backbone, **{field: name}), output_dir=directory)

    assert stages_of(caplog.messages) == ["evaluation"]
    assert rows_of(directory) == together
