"""The command and its end: wrong arguments, and a stop that drops no request."""

import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cost_hf.serving.access import TOKEN
from cost_hf.serving.serve_command import serve_main
from tests.serving.running import SECONDS, gated, running, wait_until


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "65536"], "argument --port: expected a whole number from 0 to 65535, got '65536'"),
        (["--max-batch", "0"], "argument --max-batch: expected a whole number from 1"),
        (["--max-wait", "nan"], "argument --max-wait: expected a number from 0"),
        (["--timeout", "soon"], "argument --timeout: expected a number"),
        (["--log-level", "loud"], "argument --log-level"),
    ],
)
def test_a_wrong_argument_is_an_error_in_one_line(example, capsys, arguments, message):
    assert serve_main([str(example), *arguments]) == 2

    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_a_missing_directory_is_an_error(capsys, tmp_path):
    assert serve_main([str(tmp_path / "nothing")]) == 2

    assert "nothing" in capsys.readouterr().err


def test_a_token_that_no_header_can_hold_is_an_error(example, capsys, monkeypatch):
    monkeypatch.setenv(TOKEN, "two words")

    assert serve_main([str(example)]) == 2

    error = capsys.readouterr().err
    assert TOKEN in error and "two words" not in error


def test_a_port_that_is_taken_is_an_error_before_anything_is_loaded(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # the command sets it for its process
    monkeypatch.setattr("cost_hf.serving.logs.set_up_json_logs", lambda level: None)  # those of pytest stay
    (tmp_path / "recommender.json").write_text("{}")  # loading it would be another error
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert serve_main([str(tmp_path), "--port", str(port)]) == 2

    assert f"port {port} at 127.0.0.1 can't be used (another program uses it)" in capsys.readouterr().err


def test_the_command_is_read_before_torch_is_loaded():
    """Only then can the command say how the threads of torch wait."""
    code = "import sys; from cost_hf.serving.serve_command import serve_parser; assert 'torch' not in sys.modules"

    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_stop_answers_what_it_has_taken(example):
    with running(example, drain=0.0) as server, gated(server) as gate, ThreadPoolExecutor(6) as clients:
        first = clients.submit(server.recommend, ["kettle"])
        assert gate.entered.acquire(timeout=SECONDS)
        others = [clients.submit(server.recommend, ["teapot"]) for _ in range(5)]
        wait_until(lambda: len(server.state.batcher) == 5)

        server.server.handle_exit(signal.SIGTERM, None)
        wait_until(lambda: not is_listening(server.port))
        assert server.state.is_draining
        gate.go_on.set()

        assert [future.result().status for future in (first, *others)] == [200] * 6
        wait_until(lambda: not any(batcher.is_alive for batcher in server.state.batchers))


def test_while_it_drains_it_answers_and_is_not_ready(example):
    with running(example, drain=60.0) as server:
        ready = server.get("/ready")
        server.server.handle_exit(signal.SIGTERM, None)
        draining = [server.get("/ready").status, server.get("/health").status, server.recommend(["kettle"]).status]
        server.server.handle_exit(signal.SIGTERM, None)  # a second signal ends the delay
        wait_until(lambda: not is_listening(server.port))

    assert (ready.status, ready.json) == (200, {"status": "ready"})
    assert draining == [503, 200, 200]


def is_listening(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS):
            return True
    except OSError:
        return False


def test_the_process_ends_with_status_0_after_a_signal(example):
    command = [sys.executable, "-m", "cost_hf.cli", "serve", str(example), "--port", "0", "--drain", "0.1"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        lines = [json.loads(process.stderr.readline())]
        while lines[-1]["message"] != "listening":
            lines.append(json.loads(process.stderr.readline()))
        port = int(lines[-1]["address"].rpartition(":")[2])
        assert is_listening(port)
        process.send_signal(signal.SIGTERM)

        assert process.wait(60) == 0
        lines += [json.loads(line) for line in process.stderr]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert lines[-1]["message"] == "stopped"  # and every line is JSON
    assert not is_listening(port)
