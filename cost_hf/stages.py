"""Stages of a run: skipped when nothing changed, continued when killed, measured always.

A stage owns a folder and a record under `.stages/`. The record is written `running` before the work and `done` behind
it, each with the digest of everything that the result depends on. Same digest and done: skip. Same digest and
running: the killed work goes on. Another digest: the folder is emptied first. The result is always read back from
disk, so a resumed run takes the same path as an undisturbed one.

Several runs may share what they have in common (vectors, a quantizer): with a `shared` folder, a stage that is asked
for as shared is looked up there by its digest before it is computed, and put there behind it.
"""

import logging
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from accelerate import PartialState

from cost_hf.files import atomic_path, content_digest, read_json, remove_scratch, write_json
from cost_hf.products import EXACT, Products

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
FILES, RECORD = "files", "record.json"  # of a shared stage


@dataclass(frozen=True)
class StageRecord:
    """What a stage cost when it was really computed: wall seconds and the highest resident memory in MiB."""

    seconds: float
    peak_mb: float


class Stages:
    """The stages of one run directory: what each cost (`records`), depends on (`digests`) and computes by (`products`).

    Args:
        output_dir: the run directory.
        shared: folder in which runs keep finished stages for each other; None shares nothing.
    """

    def __init__(self, output_dir: str | Path, *, shared: str | Path | None = None):
        self.output_dir = Path(output_dir)
        self.shared = None if shared is None else Path(shared)
        self.records: dict[str, StageRecord] = {}
        self.digests: dict[str, str] = {}
        self.products: dict[str, Products] = {}

    def run(
        self,
        name: str,
        *,
        digest: str,
        folder: str,
        compute: Callable[[Path], object],
        load: Callable[[Path], Result],
        on_every_process: bool = False,
        is_shared: bool = False,
        products: Products = EXACT,
    ) -> Result:
        """Bring the stage's folder up to date and return what `load` reads from it.

        Args:
            name: key of the stage in results.json.
            digest: digest of all inputs.
            folder: its folder below the run directory.
            compute: writes the result into the folder; it finds there what a killed run left.
            load: reads the result.
            on_every_process: true where the processes of a distributed run work together (training, evaluation).
            is_shared: other runs may use the result; a copy of it goes to, or comes from, the `shared` folder.
            products: matrix products that `compute` runs with. Faster ones in use are an input like others; refused
                ones change nothing.
        """
        state = PartialState()
        self.products[name] = products
        if products.used != "exact":
            digest = content_digest(digest, products.used)
        target = self.output_dir / folder
        store = self.shared / name / digest[:16] if is_shared and self.shared is not None else None
        if store is not None:
            with state.main_process_first():
                self._fetch(name, digest, target, store)
        if on_every_process:
            if not self._is_done(name, digest, target):
                state.wait_for_everyone()  # nobody may find the record done while another has not looked yet
                if state.is_main_process:
                    self._prepare(name, digest, target)
                state.wait_for_everyone()  # nor work in a folder that is still to be emptied
                self._compute(name, digest, target, compute, products)
        else:
            with state.main_process_first():
                if not self._is_done(name, digest, target):
                    self._prepare(name, digest, target)
                    self._compute(name, digest, target, compute, products)
        state.wait_for_everyone()
        record = read_json(self._path(name))
        if store is not None and state.is_main_process and not store.is_dir():
            _put(store, target, record)
        self.records[name], self.digests[name] = StageRecord(record["seconds"], record["peak_mb"]), digest
        return load(target)

    def _compute(
        self, name: str, digest: str, target: Path, compute: Callable[[Path], object], products: Products
    ) -> None:
        if PartialState().is_main_process:
            logger.info("stage %s", name)
        reset_peak_memory()
        start = time.perf_counter()
        with products.applied():
            compute(target)
        if PartialState().is_main_process:
            seconds, peak = round(time.perf_counter() - start, 3), round(peak_memory_mb(), 1)
            write_json(self._path(name), {"digest": digest, "status": "done", "seconds": seconds, "peak_mb": peak})

    def _fetch(self, name: str, digest: str, target: Path, store: Path) -> None:
        """Copy a stage that another run has finished, with the record of what it cost there."""
        if not (store / RECORD).is_file() or self._is_done(name, digest, target):
            return
        self._prepare(name, digest, target)
        shutil.copytree(store / FILES, target, dirs_exist_ok=True)
        write_json(self._path(name), read_json(store / RECORD))
        logger.info("stage %s is taken from %s", name, store)

    def _prepare(self, name: str, digest: str, target: Path) -> None:
        record = read_json(self._path(name)) if self._path(name).is_file() else {}
        if record.get("digest") == digest:
            logger.info("stage %s goes on where it was stopped", name)
            remove_scratch(target)
        elif not record and target.is_dir() and any(target.iterdir()):
            others = [path.stem for path in self._path(name).parent.glob("*.json")]
            made_by = f"a run of another method ({', '.join(sorted(others))})" if others else "no run of this package"
            raise ValueError(f"{target} holds files of {made_by}; give another output_dir, or move them away")
        else:
            if record:
                logger.info("stage %s is made again: something that it depends on changed", name)
            shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True, exist_ok=True)
        write_json(self._path(name), {"digest": digest, "status": "running"})

    def _is_done(self, name: str, digest: str, target: Path) -> bool:
        if not self._path(name).is_file() or not target.is_dir():  # a deleted folder is a wish to have it made again
            return False
        record = read_json(self._path(name))
        return record["digest"] == digest and record["status"] == "done"

    def _path(self, name: str) -> Path:
        return self.output_dir / ".stages" / f"{name}.json"


def _put(store: Path, target: Path, record: dict[str, Any]) -> None:
    with atomic_path(store) as temporary:
        shutil.copytree(target, temporary / FILES)
        write_json(temporary / RECORD, record)


def reset_peak_memory() -> None:
    """Start a new peak where the kernel allows it (Linux); otherwise the peak stays that of the whole process."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        logger.debug("the peak memory of single stages can't be told apart on this system")


def peak_memory_mb() -> float:
    """Return the highest resident memory since the last reset, in MiB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
