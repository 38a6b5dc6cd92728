"""Running the systems of a comparison one after the other, each in a process of its own, until the budget is used up.

A run that is stopped at the end of the budget resumes at the next call, bit for bit (its stages resume); one that fails
is reported in its row and tried again at the next call. All seeds of all systems are interleaved, so that an early end
leaves every system with equally many seeds. A hybrid follows the systems whose recommenders it combines, with their
seeds, and takes their stages from the shared folder: it trains no part itself, so it waits where one is not finished.
"""

import copy
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cost_hf.experiments.compare.systems import System, combined
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import (
    DamagedFileError,
    check_fields,
    content_digest,
    file_digest,
    read_object,
    write_json,
)
from cost_hf.stages import FINISHED, STATE, is_finished, require_finished

logger = logging.getLogger(__name__)
RECORD = "job.json"
RECIPE = "job.yaml"
LOG = "log.txt"
RESULTS = "evaluation/results.json"
DONE = "done"
FAILED = "failed"
UNFINISHED = "unfinished"
NOT_STARTED = "not_started"
FIELDS = {"status": str, "message": str, "seconds": int | float, "digest": str, "run": str}
QUANTIZER_SEED = "codes.seed"  # field of recipes that have a quantizer
GRACE = 20.0  # seconds that a stopped process has to end


@dataclass(frozen=True)
class Job:
    """One system with one quantizer seed and one generator seed.

    Attributes:
        system: the row.
        recipe: what is trained, the quantizer's seed included.
        quantizer_seed: of the codes; several generators may share a quantizer.
        generator_seed: of everything else.
        directory: the run directory.
        digest: of everything that the result depends on.
        parts: runs of the systems that it combines, with the same seeds.
    """

    system: System
    recipe: Recipe
    quantizer_seed: int
    generator_seed: int
    directory: Path
    digest: str
    parts: Sequence["Job"] = ()

    @property
    def label(self) -> str:
        """The seeds as they stand in reports."""
        return f"{self.quantizer_seed}.{self.generator_seed}"

    @property
    def record(self) -> dict[str, Any]:
        """`status`, `message` and `seconds` of the last attempt with the same inputs."""
        found = _read_record(self.directory / RECORD)
        is_there = is_finished(self.directory) and (self.directory / RESULTS).is_file()
        # the directory may hold another finished run, which was copied there
        is_lost = found.get("status") == DONE and not (is_there and found["run"] == _run_digest(self.directory))
        is_known = found.get("digest") == self.digest and not is_lost
        return found if is_known else {"status": NOT_STARTED, "message": "", "seconds": 0.0}


def plan_jobs(
    systems: Sequence[System],
    *,
    seeds: Sequence[int],
    generators_per_quantizer: int,
    data_digest: str,
    directory: Path,
) -> list[Job]:
    """Return all runs, the first seeds of all systems before the second ones.

    Seeds are nested: each quantizer seed q has generators q * G … q * G + G - 1. A system without a quantizer
    has seeds that stand on their own. The parts of a hybrid have the seeds of their own rows.
    """
    jobs: list[Job] = []
    for quantizer_seed in seeds:
        for number in range(generators_per_quantizer):
            generator_seed = quantizer_seed * generators_per_quantizer + number
            made: dict[str, Job] = {}
            for system in systems:
                recipe = _seeded(system.recipe, quantizer_seed)
                if system.parts:
                    parts = {name: _seeded(part, quantizer_seed) for name, part in system.parts.items()}
                    recipe = combined(recipe, parts)
                sources = [system.recipe, *system.parts.values()]
                has_quantizer = any(source.has_field(QUANTIZER_SEED) for source in sources)
                own = quantizer_seed if has_quantizer else generator_seed
                digest = content_digest(recipe.inputs(), generator_seed, data_digest, *outside_parts(recipe))
                target = directory / "runs" / f"{system.name}-{own}.{generator_seed}"
                before = [made[name] for name in system.parts if name in made]
                made[system.name] = Job(system, recipe, own, generator_seed, target, digest, before)
            jobs += made.values()
    return jobs


def _seeded(recipe: Recipe, quantizer_seed: int) -> Recipe:
    """Return a copy whose quantizer has a seed, where there is a quantizer."""
    own = copy.deepcopy(recipe)
    if own.has_field(QUANTIZER_SEED):
        own.set(QUANTIZER_SEED, quantizer_seed)
    return own


def outside_parts(recipe: Recipe) -> list[Any]:
    """Return what a recipe's names of models and files stand for now: their content, which no name determines."""
    return [*recipe.vectors.input_parts, *recipe.system.input_parts()]


def run_jobs(jobs: Sequence[Job], *, shared: Path, deadline: float | None) -> None:
    """Run what is not done, in order, until `deadline` (`time.monotonic`); records hold the outcome of each."""
    waiting = [job for job in jobs if job.record["status"] != DONE or not _is_whole(job)]
    for number, job in enumerate(waiting, start=1):
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            logger.info("the budget is used up: %d of %d runs are left", len(waiting) - number + 1, len(jobs))
            return
        logger.info("%s, seeds %s (%d of %d)", job.system.name, job.label, number, len(waiting))
        missing = [part for part in job.parts if part.record["status"] != DONE]
        if missing:
            record = _waits_for(missing)
            job.directory.mkdir(parents=True, exist_ok=True)
        else:
            with _sigterm_unwinds():
                record = _run(job, shared=shared, timeout=left)
        run = _run_digest(job.directory) if record["status"] == DONE else ""
        write_json(job.directory / RECORD, record | {"digest": job.digest, "run": run})
        logger.info("  %s after %.0f s%s", record["status"], record["seconds"], f": {record['message']}".rstrip(": "))


def _waits_for(parts: Sequence[Job]) -> dict[str, Any]:
    """Return the record of a hybrid whose parts are not all there: it would train them a second time."""
    names = ", ".join(f"{part.system.name} ({part.record['status'].replace('_', ' ')})" for part in parts)
    return {"status": NOT_STARTED, "message": f"it combines rows that are not finished: {names}", "seconds": 0.0}


def _read_record(path: Path) -> dict[str, Any]:
    """Return what became of a run; nothing, with a warning, where its record is damaged."""
    if not path.is_file():
        return {}
    try:
        found = read_object(path)
        check_fields(found, FIELDS, source=path)
    except DamagedFileError as error:
        logger.warning("the run is begun again: %s", error)
        return {}
    return found


def _run_digest(directory: Path) -> str:
    """Return the digest of a run's stages and files; empty where it is not finished."""
    path = directory / STATE / FINISHED
    return file_digest(path) if path.is_file() else ""


def _is_whole(job: Job) -> bool:
    """Return whether the lists and results of a finished run are those that it wrote."""
    try:
        require_finished(job.directory, checked=["evaluation"])
    except DamagedFileError as error:
        logger.warning("%s, seeds %s, is run again: %s", job.system.name, job.label, error)
        return False
    return True


def worker_command(job: Job, shared: Path) -> list[str]:
    """Return the command line of a run."""
    arguments = [str(job.directory / RECIPE), str(job.generator_seed), str(job.directory), str(shared)]
    return [sys.executable, "-m", "cost_hf.experiments.compare.worker", *arguments]


def _run(job: Job, *, shared: Path, timeout: float | None) -> dict[str, Any]:
    job.directory.mkdir(parents=True, exist_ok=True)
    job.recipe.save(job.directory / RECIPE)
    start = time.monotonic()
    is_stopped = False
    with (job.directory / LOG).open("a", encoding="utf-8") as log:
        process = subprocess.Popen(worker_command(job, shared), stdout=log, stderr=subprocess.STDOUT)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            is_stopped = process.poll() is None  # it may have ended in the last moment
        finally:
            _stop(process)
    status = DONE
    message = ""
    if is_stopped:
        status = UNFINISHED
        message = f"the budget ended in: {_last_line(job.directory / LOG)}"
    elif process.returncode != 0:
        status = FAILED
        message = _last_line(job.directory / LOG)
        if process.returncode < 0:  # the log of a process that was killed, as for memory, has no line about it
            message = f"ended by signal {-process.returncode} in: {message}"
    before = job.record["seconds"]
    return {"status": status, "message": message, "seconds": round(before + time.monotonic() - start, 1)}


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Let SIGTERM end this process by an exception, so that no run outlives it and writes beside the next attempt."""
    if threading.current_thread() is not threading.main_thread():  # no other may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_line(path: Path) -> str:
    """Return the last line of a log, progress bars left out."""
    text = path.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
    lines = [line.strip() for line in text.splitlines() if line.strip() and "it/s" not in line and "s/it" not in line]
    return lines[-1][:300] if lines else "its start, before the first line of its log"
