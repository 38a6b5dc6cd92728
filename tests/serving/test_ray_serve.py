"""Replicas on Ray: a killed one loses no request but those it was answering, and changes arrive at all of them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import psutil
import pytest

from cost_hf.recommenders.base import Recommender
from cost_hf.serving import ray_serve
from cost_hf.serving.options import ServeOptions
from cost_hf.serving.serve_command import serve_main
from tests.near_ties import assert_same_list
from tests.ray_cluster import ENVIRONMENT, started_cluster
from tests.serving.running import Clients, HttpClient, Reply, saved_example, wait_until

HISTORIES = (["kettle"], ["teapot", "teacup"], ["press", "grinder", "filter"])
SECONDS = 600.0  # to come up: every replica is a process that imports torch
CLIENTS = 4


@pytest.mark.parametrize("argument", ["--replicas", "--address"])
def test_arguments_of_ray_need_the_engine(example, capsys, argument):
    assert serve_main([str(example), argument, "2"]) == 2

    assert f"{argument} is of the engine ray, and --engine is local" in capsys.readouterr().err


def test_a_replica_whose_threads_have_ended_is_not_healthy(example, monkeypatch):
    monkeypatch.setattr(ray_serve, "set_up_json_logs", lambda level: None)
    monkeypatch.setattr(ray_serve, "set_threads", lambda number: None)
    replica = ray_serve.Replica(str(example), ServeOptions(), threads=1, log_level="info")
    first, *others = replica.__serve_build_asgi_app__().state.serving.batchers
    for batcher in (first, *others):
        batcher.start()
    replica.check_health()

    first.stop()

    with pytest.raises(RuntimeError, match="the threads that answer have ended"):
        replica.check_health()
    for batcher in others:
        batcher.stop()


class Cluster:
    """`cost-hf serve --engine ray` as a process of its own, and its replicas."""

    def __init__(self, process: subprocess.Popen, port: int):
        self.process = process
        self.client = HttpClient(port)

    def replicas(self) -> set[int]:
        """Return the ids of the processes of the replicas."""
        found = set()
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if "ServeReplica:" in " ".join(child.cmdline()):
                    found.add(child.pid)
            except psutil.Error:  # it has ended meanwhile
                continue
        return found


@contextmanager
def cluster(
    directory: Path, log: Path, *, replicas: int = 2, port: int = 0, more: Sequence[str] = ()
) -> Iterator[Cluster]:
    command = [sys.executable, "-m", "cost_hf.cli", "serve", str(directory), "--engine", "ray", *more]
    command += ["--replicas", str(replicas), "--port", str(port), "--poll", "0.1"]
    with log.open("w") as written:
        process = subprocess.Popen(command, stderr=written, env=ENVIRONMENT)
    try:

        def listens_on() -> int | None:
            assert process.poll() is None, log.read_text()[-4000:]
            lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith('{"time"')]
            addresses = [line["address"] for line in lines if line["message"] == "listening"]
            return int(addresses[0].rpartition(":")[2]) if addresses else None

        wait_until(listens_on, seconds=SECONDS)
        yield Cluster(process, listens_on())
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0, log.read_text()[-4000:]
    finally:
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
            child.kill()
        process.kill()
        process.wait()


class Load(Clients):
    """Clients whose request is sent once more where a server fails to answer it."""

    def __init__(self, client: HttpClient):
        super().__init__(len(HISTORIES), CLIENTS, seconds=SECONDS)
        self.client = client
        self.replies: list[tuple[int, Reply]] = []
        self.failed: list[object] = []
        self.lost: list[object] = []

    def ask(self, number: int) -> None:
        reply = self._answer(number)
        if isinstance(reply, Reply) and reply.status == 200:
            self.replies.append((number, reply))
            return
        self.failed.append(reply)
        reply = self._answer(number)
        if isinstance(reply, Reply) and reply.status == 200:
            self.replies.append((number, reply))
        else:
            self.lost.append(reply)

    def _answer(self, number: int) -> Reply | Exception:
        try:
            return self.client.recommend(HISTORIES[number], top_k=3)
        except (OSError, HTTPException) as error:
            return error

    def go_on(self, count: int) -> None:
        """Wait for more answers."""
        before = len(self.replies)
        wait_until(lambda: len(self.replies) >= before + count, seconds=SECONDS)


@pytest.mark.slow  # starts Ray and two replicas, whose processes take seconds to come up
def test_a_killed_replica_loses_only_what_it_was_answering_and_changes_arrive_at_both(tmp_path):
    pytest.importorskip("ray.serve", reason="replicas need the extra `ray`")
    directory = saved_example(tmp_path / "served")
    writer = Recommender.from_pretrained(directory)
    lists = writer.recommend(list(HISTORIES), top_k=3)
    expected = [[(answer.item_id, answer.score) for answer in answers] for answers in lists]
    with cluster(directory, tmp_path / "log") as found:
        before = found.replicas()
        assert len(before) == 2
        with Load(found.client) as load:
            load.go_on(20)
            killed = min(before)
            os.kill(killed, signal.SIGKILL)
            load.go_on(20)
            wait_until(lambda: len(found.replicas() - {killed}) == 2, seconds=SECONDS)
            load.go_on(20)

        assert load.lost == []
        assert len(load.failed) <= CLIENTS  # what the killed replica was answering
        for number, reply in load.replies:
            (answers,) = reply.json["recommendations"]
            assert_same_list([(answer["item_id"], answer["score"]) for answer in answers], expected[number])

        writer.remove_items(["press"])
        writer.save_catalog(directory)
        in_a_row = 0
        end = time.monotonic() + SECONDS
        while in_a_row < 40:  # the two replicas take turns
            assert time.monotonic() < end
            reply = found.client.recommend(["kettle"])
            in_a_row = in_a_row + 1 if reply.headers.get("x-catalog-digest") == writer.catalog.version else 0
        assert found.client.get("/ready").json == {"status": "ready"}
        assert found.client.get("/nothing").status == 404


@pytest.mark.slow  # starts Ray, and Ray Serve twice
def test_a_cluster_that_goes_on_is_left_without_our_port(tmp_path):
    pytest.importorskip("ray.serve", reason="replicas need the extra `ray`")
    directory = saved_example(tmp_path / "served")
    port = 0
    with started_cluster() as address:
        for name in ("first", "second"):
            with cluster(directory, tmp_path / name, replicas=1, port=port, more=["--address", address]) as found:
                port = found.client.port
                assert found.client.recommend(["kettle"]).status == 200
            if name == "first":
                with pytest.raises(ConnectionError):
                    found.client.get("/ready")
