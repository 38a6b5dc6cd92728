"""Whole runs of a tiny recipe, as child processes that can be killed at a chosen moment, and what to compare of them.

A child pauses itself at a logged point (`tests/paused_run.py`) and is then killed from outside, so that the moment does
not depend on how fast the machine is.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cost_hf.experiments.recipe import Recipe

ROOT = Path(__file__).parent.parent
# sizes are odd on purpose: nothing divides evenly among batches or processes
TINY: dict[str, Any] = {
    "data.synthetic_users": 75,
    "data.synthetic_items": 96,
    "codes.level_sizes": [8, 8, 8],
    "codes.batch_size": 32,
    "codes.epochs": 6,
    "codes.save_epochs": 2,
    "training.batch_size": 16,
    "training.epochs": 3,
    "training.learning_rate": 2e-3,
    "training.warmup_steps": 2,
    "training.validate_every": 1,
    "training.validation_users": 33,
    "evaluation.num_beams": 10,
    "evaluation.cutoffs": [5, 10],
    "evaluation.bootstrap_draws": 50,
    "evaluation.baselines": ["popularity", "markov"],
    "evaluation.batch_size": 16,
}
STAGES = ("vectors", "quantizer", "generator", "evaluation")


def tiny_fields(**chosen: Any) -> dict[str, Any]:
    """Return the fields of a tiny run of any method and kind: those chosen, and those of `TINY` that there are.

    `codes__kind="random"` stands for `codes.kind`.
    """
    own = {name.replace("__", "."): value for name, value in chosen.items()}
    recipe = Recipe.load("cost_quickstart", own)
    return {name: value for name, value in TINY.items() if recipe.has_field(name)} | own


def command_line(
    directory: Path, *, seed: int = 0, fields: Mapping[str, Any] | None = None, **overrides: Any
) -> list[str]:
    """Return the arguments of train.py for a run with `fields`, those of `TINY` by default.

    `training__epochs=2` stands for `--training.epochs 2`.
    """
    values = dict(TINY if fields is None else fields)
    values |= {name.replace("__", "."): value for name, value in overrides.items()}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    pairs = [part for name, text in texts.items() for part in (f"--{name}", text)]
    return ["--recipe", "cost_quickstart", "--seed", str(seed), "--output_dir", str(directory), *pairs]


def child_environment() -> dict[str, str]:
    """Return an environment in which every child computes in the same way, with as many threads as this process."""
    threads = str(torch.get_num_threads())
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": threads, "CUDA_VISIBLE_DEVICES": ""}


def launcher(processes: int) -> list[str]:
    """Return how a module or script is started in so many processes."""
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return [sys.executable, *(several if processes > 1 else [])]


def run_module(name: str, arguments: list[str], *, processes: int) -> None:
    """Run a module of the tests to its end in several processes."""
    command = [*launcher(processes), "-m", name, *arguments]
    done = subprocess.run(command, env=child_environment(), cwd=ROOT, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr[-5000:]


def run_train(arguments: list[str], *, processes: int = 1) -> str:
    """Run train.py to its end, by torchrun where several processes are asked for; return what it printed."""
    command = [*launcher(processes), str(ROOT / "train.py"), *arguments]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stdout + done.stderr


def run_until_killed(arguments: list[str], *, point: str) -> list[str]:
    """Run the same command, kill it by SIGKILL at the first log line that matches `point`; return its log lines."""
    command = [sys.executable, "-m", "tests.paused_run", point, *arguments]
    lines: list[str] = []
    with subprocess.Popen(
        command, env=child_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    ) as child:
        for line in child.stdout or ():
            lines.append(line.rstrip("\n"))
            if lines[-1].startswith("paused: "):
                child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL, f"the run passed no point {point!r}; its log: {lines[-20:]}"
    return lines


def run_until_one_is_killed(arguments: list[str], *, point: str) -> str:
    """Run the same command in two processes, of which the second is killed at a log line; return what it printed."""
    command = [*launcher(2), "-m", "tests.paused_run", "--kill-process-1", point, *arguments]
    done = subprocess.run(command, env=child_environment(), cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode != 0, f"the run passed no point {point!r}; its log: {done.stdout[-2000:]}"
    return done.stdout + done.stderr


def steps(log: list[str], folder: str) -> list[int]:
    """Return the training steps that a paused child took in a stage's folder, in order."""
    found = (re.fullmatch(rf"(?:paused: )?step (\d+) of {folder}", line) for line in log)
    return [int(match.group(1)) for match in found if match]


def results_of(directory: Path) -> dict[str, Any]:
    """Return results.json without what stages and requests cost."""
    results = json.loads((directory / "evaluation" / "results.json").read_text())
    assert set(results.pop("requests")) == set(results["rows"])
    assert set(results.pop("stages")) == set(STAGES)
    return results


def records_of(directory: Path) -> dict[str, str]:
    """Return the records of the stages as they lie on disk; a stage that runs again writes another one."""
    return {name: (directory / ".stages" / f"{name}.json").read_text() for name in STAGES}


def stages_of(log: str | list[str]) -> list[str]:
    """Return the stages that a log tells of, in order."""
    lines = log.splitlines() if isinstance(log, str) else log
    return [match.group(1) for line in lines if (match := re.search(r"\bstage ([\w-]+)$", line))]
