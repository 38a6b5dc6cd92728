"""Fixtures of the Hub tests: a finished run, a Hub on the loopback interface, an environment without this package."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import cost_hf
from tests.hub.loopback_hub import LoopbackHub
from tests.hub.second_environment import SecondEnvironment
from tests.runs import TINY


@pytest.fixture(scope="session")
def second_environment(tmp_path_factory) -> SecondEnvironment:
    """A virtual environment of its own that has all dependencies and not this package."""
    folder = tmp_path_factory.mktemp("second")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    site = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    # a path by itself runs no .pth file of that folder, so an editable installation is not found through it
    (Path(site.strip()) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    found = subprocess.run([python, "-c", "import cost_hf"], capture_output=True, text=True, cwd=folder)
    if found.returncode == 0:
        pytest.skip(f"cost_hf is installed as files in {sys.prefix}; install it editable (pip install -e .)")
    return SecondEnvironment(python, folder)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> Path:
    """The directory of a tiny run on toy data; tests that change it take a copy."""
    return cost_hf.train(overrides=TINY, output_dir=tmp_path_factory.mktemp("runs") / "toy").output_dir


@pytest.fixture
def hub():
    """A Hub of its own, running."""
    with LoopbackHub().running() as server:
        yield server
