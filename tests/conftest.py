"""Fixtures shared by all tests: offline environment, seeds, threads, a trained toy run, the real data sets."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# caches of this process and its children alone, named before a library looks for them: nothing that an earlier session
# or another worker left may be read, and nothing may stay behind
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="cost-hf-tests-")
os.environ["COST_HF_CACHE"] = f"{os.environ['HF_HOME']}/cost_hf"
os.environ["MPLCONFIGDIR"] = f"{os.environ['HF_HOME']}/matplotlib"

import pytest
import torch
from filelock import FileLock
from hypothesis import settings

import cost_hf
from tests.runs import TINY

settings.register_profile("suite", deadline=None)  # a loaded machine is no failure
settings.load_profile("suite")

SHARED_DATA = Path(os.environ.get("COST_HF_DATA", Path(__file__).parents[2] / "shared" / "data"))
MakeOnce = Callable[[str, Callable[[Path], object]], Path]


def pytest_unconfigure() -> None:
    """Remove the caches."""
    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the trained toy run as training, and let the files that train come first.

    They take longest: begun first, they let the processes that share the files out end together.
    """
    for item in items:
        if "finished_run" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.trains)
    long = {item.path for item in items if item.get_closest_marker("trains")}
    items.sort(key=lambda item: item.path not in long)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Seed torch for every test, as pytest-randomly seeds random and numpy: another seed each run, which it prints."""
    seed = item.config.getoption("randomly_seed", 0)
    torch.manual_seed((seed + crc32(item.nodeid.encode())) % 2**32)


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Let files stay in the cache of the system: tests write thousands, and no power failure is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def vector_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the tests of a file a cache of text vectors that no other file has filled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COST_HF_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Directory of the real data sets; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data sets not found at {SHARED_DATA}; set COST_HF_DATA to their directory")
    return SHARED_DATA


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """Fill a directory once for all workers of a session: `make_once(name, fill)` calls `fill(directory)` if need be.

    Tests that change what lies there take a copy.
    """
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        directory, is_done = root / "made_once" / name, root / f"{name}.done"
        with FileLock(root / f"{name}.lock"):
            if not is_done.exists():
                shutil.rmtree(directory, ignore_errors=True)  # of a worker that failed
                directory.mkdir(parents=True)
                fill(directory)
                is_done.touch()
        return directory

    return make


@pytest.fixture(scope="session")
def finished_run(make_once: MakeOnce) -> Path:
    """The directory of a tiny run on toy data (`tests.runs.TINY`); tests that change it take a copy."""
    return make_once("finished_run", lambda directory: cost_hf.train(overrides=TINY, output_dir=directory))


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two threads for torch's own loops, whatever the environment gives."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
