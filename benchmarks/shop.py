"""Run the page "from exports to production": every command in its order, with its seconds and what it prints.

    python benchmarks/shop.py [--directory DIR] [--only "cost-hf drift"]

Writes results/shop.json, which `benchmarks/readme.py` puts into the page. Every command is a process of its own, so its
seconds hold the start of the program; those of a server run until it is ready. Most of the time is the training.
`--only` runs the commands with one beginning again, in a directory where the page has run.
"""

import argparse
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from cost_hf.files import read_json, write_json
from tests.pages import Block, blocks_of, commands_of, commands_with_statuses

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "pages" / "from_exports_to_production.md"
RESULTS = ROOT / "benchmarks" / "results" / "shop.json"
READY_SECONDS = 120
KEPT_LINES = 150
PROGRESS = re.compile(r"\d%\|.*/s|s/it|^\{'")  # bars, and the log of a trainer


class PageRun:
    """One run of the page.

    Args:
        directory: in which its commands run.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self.steps: list[dict[str, Any]] = []
        self._servers: list[subprocess.Popen] = []
        paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self._environment = {**os.environ, "PYTHONPATH": paths}

    def run(self, blocks: list[Block], *, only: str = "") -> None:
        """Run the commands that begin with `only`; SystemExit for one with another status than the page says."""
        try:
            for block in blocks:
                if block.language == "bash":
                    for command, statuses in commands_with_statuses(block):
                        if command.startswith(only):
                            self._step(command, statuses, section=_section(block.line))
        finally:
            self._stop_servers()

    def _step(self, command: str, statuses: set[int], *, section: str) -> None:
        started = time.perf_counter()
        if command.startswith("kill "):
            self._stop_servers()
            status, output = 0, ""
        elif command.endswith("&"):
            status, output = self._start_server(command.removesuffix("&").strip())
        else:
            done = subprocess.run(
                _arguments(command),
                cwd=self.directory,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            status, output = done.returncode, done.stdout
        seconds = time.perf_counter() - started
        print(f"{seconds:7.1f} s  status {status}  {command[:100]}", flush=True)
        if status not in statuses:
            raise SystemExit(f"{command}\nstatus {status}, expected {sorted(statuses)}:\n{output[-4000:]}")
        lines = [line.rstrip() for line in output.splitlines() if not PROGRESS.search(line)][-KEPT_LINES:]
        self.steps.append(
            {"section": section, "command": command, "seconds": seconds, "status": status, "output": lines}
        )

    def _start_server(self, command: str) -> tuple[int, str]:
        """Start a server and wait until it is ready; return status and what it has printed where it was not."""
        port = re.search(r"--port (\d+)", command)
        if port is None:
            raise SystemExit(f"{command}: a server of the page needs --port")
        log = self.directory / f"server-{port[1]}.log"
        with log.open("w") as file:
            server = subprocess.Popen(
                _arguments(command), cwd=self.directory, env=self._environment, stdout=file, stderr=file
            )
        self._servers.append(server)
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end and server.poll() is None:
            if _is_ready(f"http://127.0.0.1:{port[1]}/ready"):
                return 0, ""
            time.sleep(0.05)
        return 1, log.read_text()

    def _stop_servers(self) -> None:
        for server in self._servers:
            server.send_signal(signal.SIGTERM)
        for server in self._servers:
            server.wait(timeout=60)
        self._servers = []


def _arguments(command: str) -> list[str]:
    arguments = shlex.split(command)
    if arguments[0] == "cost-hf":
        return [sys.executable, "-m", "cost_hf.cli", *arguments[1:]]
    if arguments[0] == "python":  # of this repository
        return [sys.executable, "-m", arguments[1].removesuffix(".py").replace("/", "."), *arguments[2:]]
    return arguments


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _section(line: int) -> str:
    """Return the heading above a line of the page."""
    above = PAGE.read_text(encoding="utf-8").splitlines()[:line]
    return next(text.removeprefix("## ") for text in reversed(above) if text.startswith("## "))


def main() -> None:
    """Run the page and write the results."""
    parser = argparse.ArgumentParser(description="Run the page of the made-up shop.")
    parser.add_argument("--directory", type=Path, default=None, help="empty; a temporary one by default")
    parser.add_argument("--only", default="", help="beginning of the commands to run again in --directory")
    known = parser.parse_args()
    load = os.getloadavg()[0]  # of what else runs here
    with tempfile.TemporaryDirectory() as temporary:
        directory = known.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        run = PageRun(directory)
        run.run(blocks_of(PAGE), only=known.only)
    processor = platform.processor() or platform.machine()
    results = {"machine": {"cores": os.cpu_count(), "processor": processor, "load": load}, "steps": run.steps}
    if known.only:
        results = read_json(RESULTS)
        results["steps"] = _in_page_order([*results["steps"], *run.steps])
    write_json(RESULTS, results)


def _in_page_order(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the last step of every command of the page, in its order."""
    found = {step["command"]: step for step in steps}
    commands = [command for block in blocks_of(PAGE) if block.language == "bash" for command in commands_of(block)]
    return [found[command] for command in commands if command in found]


if __name__ == "__main__":
    main()
