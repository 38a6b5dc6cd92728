"""Bulk jobs on Ray: the bytes of the local engine, although a worker is killed."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cost_hf.bulk import engines
from cost_hf.bulk.job import run_bulk
from cost_hf.bulk.tasks import EmbedTask, EncodeTask, RecommendTask
from cost_hf.data import VectorOptions
from cost_hf.recommenders.example import example_recommender
from tests.data.encoder_toys import tiny_encoder
from tests.ray_cluster import ENVIRONMENT, started_cluster

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow  # starts Ray, whose processes take seconds to come up
LOAD = "the model is loaded"


@contextmanager
def cluster():
    """Ray for several jobs, which takes as long to come up as for one."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class Killing:
    """A task whose worker is killed at one batch, or `LOAD`, as often as said; `marker` has a byte for every time."""

    name: ClassVar[str] = "kill"
    task: Any
    killed_at: str
    marker: str
    times: int = 1

    def content(self):
        return self.task.content()

    def check(self, columns):
        self.task.check(columns)

    def load(self):
        self._come_to(LOAD)
        transform = self.task.load()

        def killed(rows: pa.Table) -> pa.Table:
            self._come_to((rows["history"].to_pylist()[0] or [None])[0])
            return transform(rows)

        return killed

    def _come_to(self, place: str | None) -> None:
        marker = Path(self.marker)
        if place == self.killed_at and (not marker.exists() or marker.stat().st_size < self.times):
            with marker.open("ab") as file:
                file.write(b"x")
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Failing:
    """A task that refuses every row."""

    name: ClassVar[str] = "fail"

    def content(self):
        return {}

    def check(self, columns):
        pass

    def load(self):
        return self._refuse

    def _refuse(self, rows):
        raise ValueError("expected another row, got this one; change it")


@pytest.fixture
def histories(tmp_path):
    items = ["kettle", "teapot", "teacup", "grinder", "filter", "press"]
    rows = {"user_id": list(range(24)), "history": [[items[n % 6], items[n % 5]] for n in range(24)]}
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table(rows), tmp_path / "in" / "a.parquet", row_group_size=4)
    return str(tmp_path / "in" / "*.parquet")


def digests(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def test_a_killed_worker_leaves_the_bytes_of_the_local_engine(tmp_path, histories):
    example_recommender().save_pretrained(tmp_path / "model")
    task = RecommendTask(str(tmp_path / "model"), top_k=3)
    local = run_bulk(task, histories, tmp_path / "local", batch_size=2)

    killing = Killing(task, "teacup", str(tmp_path / "killed"))
    summary = run_bulk(killing, histories, tmp_path / "ray", engine="ray", batch_size=2)

    assert (tmp_path / "killed").exists()
    assert summary == local == {"rows": 24, "rows_without_result": 0, "files": 6}
    assert digests(tmp_path / "ray") == digests(tmp_path / "local")
    assert sorted(path.name for path in (tmp_path / "ray").iterdir() if path.is_dir()) == []


@pytest.mark.parametrize("killed_at", ["teacup", LOAD])
def test_what_always_kills_a_worker_ends_the_job(tmp_path, histories, killed_at):
    example_recommender().save_pretrained(tmp_path / "model")
    task = RecommendTask(str(tmp_path / "model"), top_k=3)
    killing = Killing(task, killed_at, str(tmp_path / "killed"), times=1_000)

    with pytest.raises(
        ValueError, match=r"^a worker of Ray was killed 4 times, probably since no memory was left; run the same"
    ):
        run_bulk(killing, histories, tmp_path / "out", engine="ray", batch_size=2, workers=1)

    assert (tmp_path / "killed").stat().st_size == engines.RETRIES + 1
    Path(tmp_path / "killed").write_bytes(b"x" * 1_000)
    summary = run_bulk(killing, histories, tmp_path / "out", engine="local", batch_size=2)
    assert summary == {"rows": 24, "rows_without_result": 0, "files": 6}


def test_vectors_and_codes_are_those_of_the_local_engine(tmp_path):
    encoder = tiny_encoder(tmp_path / "encoder", ["red", "green", "lamp"])
    example_recommender().save_pretrained(tmp_path / "model")
    titles = ["red lamp", None, "green", "lamp", "green lamp", "red"]
    items = {"item_id": list("abcdef"), "title": titles}
    pq.write_table(pa.table(items), tmp_path / "items.parquet", row_group_size=2)
    tasks = {
        "vectors": EmbedTask(VectorOptions(model=str(encoder), template="{title}")),
        "codes": EncodeTask(str(tmp_path / "model"), "{title}"),
    }
    with cluster():
        for name, task in tasks.items():
            local = run_bulk(task, str(tmp_path / "items.parquet"), tmp_path / name / "local", batch_size=2)
            summary = run_bulk(
                task, str(tmp_path / "items.parquet"), tmp_path / name / "ray", engine="ray", batch_size=2
            )

            assert summary == local == {"rows": 6, "rows_without_result": 1, "files": 3}
            assert digests(tmp_path / name / "ray") == digests(tmp_path / name / "local")


def test_a_cluster_that_is_running_computes_one_command_after_the_other(tmp_path, histories):
    example_recommender().save_pretrained(tmp_path / "model")
    run_bulk(RecommendTask(str(tmp_path / "model"), top_k=3), histories, tmp_path / "local", batch_size=2)

    def run(name: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "cost_hf.cli", "recommend", str(tmp_path / "model"), "--input", histories]
        command += ["--output", str(tmp_path / name), "--top-k", "3", "--batch-size", "2"]
        command += ["--engine", "ray", "--address", address]
        return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)

    with started_cluster() as address:
        for name in ("first", "second"):
            done = run(name)

            assert done.returncode == 0, done.stderr[-4000:]
            assert digests(tmp_path / name) == digests(tmp_path / "local")


def test_an_error_of_a_worker_is_the_one_that_the_user_sees(tmp_path, histories):
    with pytest.raises(ValueError, match=r"^expected another row, got this one; change it$"):
        run_bulk(Failing(), histories, tmp_path / "out", engine="ray")


def test_without_ray_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)

    with pytest.raises(ValueError, match=r"pip install 'cost-hf\[ray\]'"):
        list(engines.run_on_ray([], Failing(), tmp_path, content="", columns={}, batch_size=1))
