"""Fixtures shared by all tests: offline environment, the real data sets where they are present."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from hypothesis import settings

settings.register_profile("suite", deadline=None)  # a loaded machine is no failure
settings.load_profile("suite")

SHARED_DATA = Path(os.environ.get("COST_HF_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Directory of the real data sets; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data sets not found at {SHARED_DATA}; set COST_HF_DATA to their directory")
    return SHARED_DATA
