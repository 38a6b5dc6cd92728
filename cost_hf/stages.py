"""Stages of a run: skipped when nothing changed, continued when killed, measured always.

A stage owns a folder and a record under `.stages/`. The record is written `running` before the work and `done` after
it, each with the digest of everything that the result depends on; the second one names the sha256 of every file of the
result. Same digest, done and the same files: skip. Same digest and running: the killed work resumes. Another digest or
other files: the folder is emptied first. The result is always read back from disk, so a resumed run takes the same path
as an undisturbed one.

`.stages/finished.json` is written last of all and names the stages and files of one finished run. Whatever takes
several parts of a run (publishing, export, demo, loading) asks for it, so parts of different runs are never mixed.

Work is done once for the same inputs: a stage with a `shared_as` takes the result of another one of the same sort and
digest, in this run or, with a `shared` folder, of other runs. Its own result is put there.
"""

import logging
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState

from cost_hf.files import (
    DamagedFileError,
    LockedError,
    atomic_path,
    check_fields,
    check_file_digests,
    file_digest,
    file_digests,
    is_inside,
    locked,
    plain_name,
    read_object,
    readable_os_errors,
    remove_scratch,
    write_json,
)
from cost_hf.run_updates import RECOMMENDER, is_updated

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
# of a shared stage
FILES = "files"
RECORD = "record.json"
# entries of a record that stay where the result is copied; its folder is another one there, notes are of the place
KEPT = ("digest", "status", "folder", "seconds", "peak_mb", "files", "shared_as")
# status of a stage
RUNNING = "running"
DONE = "done"
# in a run directory
STATE = ".stages"
DATA = "data.json"
FINISHED = "finished.json"
MARKS = ("recipe.yaml", "vectors", "evaluation")  # what a run directory holds besides
OWN = (DATA, FINISHED)  # files of the state folder that are no records of stages
LOCK_SECONDS = 2.0  # a run takes long: a second one on its directory is refused rather than kept waiting


class UnfinishedRunError(ValueError):
    """The parts of a run directory do not come from one finished run."""


@dataclass(frozen=True)
class StageRecord:
    """What a stage cost when it was really computed: wall seconds and the highest resident memory in MiB."""

    seconds: float
    peak_mb: float


class Stages:
    """The stages of one run directory: what each cost (`records`) and depends on (`digests`).

    Args:
        output_dir: the run directory.
        shared: folder in which runs keep finished stages for each other; None shares nothing.
    """

    def __init__(self, output_dir: str | Path, *, shared: str | Path | None = None):
        self.output_dir = Path(output_dir)
        self.shared = None if shared is None else Path(shared)
        self.records: dict[str, StageRecord] = {}
        self.digests: dict[str, str] = {}
        self.overwrite = False

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the run directory for this run; other processes of the same launch share it.

        Raises:
            LockedError: where another run is writing to the directory.
        """
        if not PartialState().is_main_process:
            yield
            return
        with readable_os_errors():
            self._state.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self._state, seconds=LOCK_SECONDS))
            except LockedError as error:
                raise LockedError(
                    f"another process is writing to {self.output_dir}; wait for it, stop it, or give another "
                    "--output_dir"
                ) from error
            yield

    def claim(self, source_digest: str, *, overwrite: bool) -> None:
        """Tie the run directory to the data that it is made from.

        Args:
            source_digest: of both source tables as they were read; settings do not change it.
            overwrite: allow a directory that was made from other data, and the loss of what users did there.

        Raises:
            ValueError: where the directory was made from other data. Nothing has changed then.
        """
        self.overwrite = overwrite
        if not overwrite:
            self.check_source(source_digest)
        known = source_digest_of(self.output_dir)
        PartialState().wait_for_everyone()  # nobody may find the new record before all have compared the old one
        if PartialState().is_main_process and known != source_digest:
            write_json(self._state / DATA, {"source_digest": source_digest})

    def check_source(self, source_digest: str) -> None:
        """Raise ValueError where the run directory was made from other data, or it is not known from which."""
        known = source_digest_of(self.output_dir)
        if known is None and self._records():
            raise ValueError(
                f"{self.output_dir} has lost its record {self._state / DATA}, so what data it was made from is not "
                "known; give another --output_dir, or --overwrite (overwrite=True) to use it all the same"
            )
        if known is not None and known != source_digest:
            raise ValueError(
                f"{self.output_dir} was made from other data (digest {known}, this data has {source_digest}); give "
                "another --output_dir, or --overwrite (overwrite=True) to replace what is there"
            )

    def run(
        self,
        name: str,
        *,
        digest: str,
        folder: str,
        compute: Callable[[Path], object],
        load: Callable[[Path], Result],
        on_every_process: bool = False,
        shared_as: str | None = None,
        mutable: Sequence[str] = (),
        work_lost: Callable[[Path], str] | None = None,
    ) -> Result:
        """Bring the stage's folder up to date and return what `load` reads from it.

        Args:
            name: key of the stage in results.json.
            digest: digest of all inputs.
            folder: its folder below the run directory.
            compute: writes the result into the folder; it finds there what a killed run left.
            load: reads the result.
            on_every_process: true where the processes of a distributed run work together (training, evaluation).
            shared_as: sort of stage whose results serve each other where digests are equal, in this run and, through
                the `shared` folder, in others; None shares nothing.
            mutable: glob patterns of files that may change after the stage and are checked by whoever loads them.
            work_lost: describes work of users in the folder that can't be made again, empty for none; such a
                folder is only emptied where the run may overwrite.
        """
        state = PartialState()
        target = self.output_dir / folder
        if shared_as is not None:
            with state.main_process_first():
                self._fetch(name, digest, folder, shared_as, work_lost)
        if on_every_process:
            if not self._is_done(name, digest, target):
                state.wait_for_everyone()  # nobody may find the record done while another has not looked yet
                if state.is_main_process:
                    self._prepare(name, digest, folder, work_lost)
                state.wait_for_everyone()  # nor work in a folder that is still to be emptied
                self._compute(name, digest, folder, compute, mutable, shared_as)
        else:
            with state.main_process_first():
                if not self._is_done(name, digest, target):
                    self._prepare(name, digest, folder, work_lost)
                    self._compute(name, digest, folder, compute, mutable, shared_as)
        state.wait_for_everyone()
        record = self._record(name)
        if shared_as is not None and state.is_main_process:
            self._put(shared_as, target, record, work_lost)
        self.records[name] = StageRecord(record["seconds"], record["peak_mb"])
        self.digests[name] = digest
        return load(target)

    def rewrite(self, name: str, path: Path, write: Callable[[Path], object]) -> None:
        """Replace one file of a finished stage, and its sha256 in the record.

        Args:
            path: of the file.
            write: writes it, to the path that it is given.
        """
        record = self._record(name)
        self.reopen()
        write(path)
        record["files"][path.relative_to(self.output_dir / record["folder"]).as_posix()] = file_digest(path)
        write_json(self._path(name), record)

    def write(self, name: str, write: Callable[[Path], object]) -> None:
        """Write a file of the run directory that no stage owns; where its content changes, the run is not finished.

        Args:
            name: path below the run directory.
            write: writes it, to the path that it is given.
        """
        path = self.output_dir / name
        with atomic_path(path) as temporary:
            write(temporary)
            if not path.is_file() or file_digest(path) != file_digest(temporary):
                self.reopen()

    def note(self, name: str, **facts: str) -> None:
        """Keep facts in the record of a finished stage that decide nothing of its result."""
        record = self._record(name)
        if record | facts != record:
            write_json(self._path(name), record | facts)

    def noted(self, name: str, fact: str) -> str | None:
        """Return a fact that `note` kept, None where there is none."""
        value = self._record(name).get(fact)
        return value if isinstance(value, str) else None

    def reopen(self) -> None:
        """Take back that the run is finished: before anything changes in it that no stage begins again."""
        (self._state / FINISHED).unlink(missing_ok=True)

    def finish(self, files: Sequence[str]) -> None:
        """Record that the stages of this run and these files of the run directory belong together.

        Args:
            files: paths below the run directory that no stage owns.
        """
        written = {name: file_digest(self.output_dir / name) for name in files}
        content = {"stages": dict(self.digests), "files": written}
        path = self._state / FINISHED
        try:
            is_written = path.is_file() and read_object(path) == content
        except DamagedFileError:
            is_written = False
        if not is_written:
            write_json(path, content)

    def _compute(
        self,
        name: str,
        digest: str,
        folder: str,
        compute: Callable[[Path], object],
        mutable: Sequence[str],
        shared_as: str | None,
    ) -> None:
        if PartialState().is_main_process:
            logger.info("stage %s", name)
        reset_peak_memory()
        start = time.perf_counter()
        target = self.output_dir / folder
        with readable_os_errors(target):
            compute(target)
        if PartialState().is_main_process:
            record = {
                "digest": digest,
                "status": DONE,
                "folder": folder,
                "seconds": round(time.perf_counter() - start, 3),
                "peak_mb": round(peak_memory_mb(), 1),
                "files": file_digests(target, excluded=mutable),
            }
            if shared_as is not None:
                record["shared_as"] = shared_as
            write_json(self._path(name), record)

    def _fetch(
        self, name: str, digest: str, folder: str, shared_as: str, work_lost: Callable[[Path], str] | None
    ) -> None:
        """Copy the finished result of another stage, with the record of what it cost there."""
        if self._is_done(name, digest, self.output_dir / folder):
            return
        sources = self._own_results(name, digest, shared_as, work_lost)
        store = self._store(shared_as, digest)
        if store is not None and (store / RECORD).is_file():
            sources.append((store / FILES, store / RECORD))
        for files, path in sources:
            try:
                record = _read_record(path)
                if (record["digest"], record["status"]) != (digest, DONE):
                    raise DamagedFileError(f"{path} is of another stage: {record['digest']}, expected {digest}")
                check_file_digests(files, record["files"])
            except DamagedFileError as error:
                logger.warning("the result of stage %s in %s is not used: %s", name, files, error)
                if store is not None and files.is_relative_to(store):
                    shutil.rmtree(store)
                continue
            self._prepare(name, digest, folder, work_lost)
            _empty(self.output_dir / folder)  # what a killed attempt left does not belong to the result
            shutil.copytree(files, self.output_dir / folder, dirs_exist_ok=True)
            write_json(self._path(name), {key: record[key] for key in KEPT if key in record} | {"folder": folder})
            logger.info("stage %s is taken from %s", name, files)
            return

    def _own_results(
        self, name: str, digest: str, shared_as: str, work_lost: Callable[[Path], str] | None
    ) -> list[tuple[Path, Path]]:
        """Return folder and record of other stages of this run with the same result, as they were computed."""
        found = []
        for other, record in self._records().items():
            folder = self.output_dir / record["folder"]
            is_same = (record["digest"], record["status"], record.get("shared_as")) == (digest, DONE, shared_as)
            if other != name and is_same and folder.is_dir() and not _work_in(folder, work_lost):
                found.append((folder, self._path(other)))
        return found

    def _put(
        self, shared_as: str, target: Path, record: Mapping[str, Any], work_lost: Callable[[Path], str] | None
    ) -> None:
        """Copy a result into the shared folder, unless it is there or users have changed it."""
        store = self._store(shared_as, record["digest"])
        if store is None or store.is_dir() or _work_in(target, work_lost):
            return
        with atomic_path(store) as temporary:
            shutil.copytree(target, temporary / FILES)
            write_json(temporary / RECORD, {key: record[key] for key in KEPT if key in record})

    def _store(self, shared_as: str, digest: str) -> Path | None:
        return None if self.shared is None else self.shared / shared_as / digest[:16]

    def _prepare(self, name: str, digest: str, folder: str, work_lost: Callable[[Path], str] | None) -> None:
        """Make the folder of a stage ready for the work: as a killed run left it, or empty."""
        target = self.output_dir / folder
        record = self._record(name)
        is_same = record.get("digest") == digest
        if is_same and record["status"] == RUNNING:
            logger.info("stage %s resumes where it was stopped", name)
            remove_scratch(target)
        elif not record and target.is_dir() and any(target.iterdir()):
            raise ValueError(self._foreign(name, folder))
        else:
            lost = "" if self.overwrite else _work_in(target, work_lost)
            if lost:
                raise ValueError(
                    f"stage {name} of {self.output_dir} would be made again, and with it {lost} would be lost; give "
                    "another --output_dir, or --overwrite (overwrite=True)"
                )
            if record and not is_same:
                logger.info("stage %s is made again: something that it depends on changed", name)
            _empty(target)
        with readable_os_errors():
            target.mkdir(parents=True, exist_ok=True)
        write_json(self._path(name), {"digest": digest, "status": RUNNING, "folder": folder})

    def _foreign(self, name: str, folder: str) -> str:
        """Return what a folder without the record of its stage seems to be, and what to do."""
        target = self.output_dir / folder
        records = self._records()
        others = sorted(stage for stage, record in records.items() if record["folder"] == folder)
        if others:
            made_by = f"holds files of a run of another method (stage {', '.join(others)})"
        elif records:
            made_by = f"has lost its record {self._path(name)}, so what it was made from is not known"
        else:
            made_by = "holds files of no run of this package"
        return f"{target} {made_by}; give another output_dir, or move the folder away"

    def _is_done(self, name: str, digest: str, target: Path) -> bool:
        """Return whether the stage is done with this digest and its files are still those that it wrote."""
        record = self._record(name)
        if record.get("digest") != digest or record["status"] != DONE or not target.is_dir():
            return False  # a deleted folder is a wish to have it made again
        try:
            check_file_digests(target, record["files"])
        except DamagedFileError as error:
            if PartialState().is_main_process:
                logger.warning("stage %s is damaged and is made again: %s", name, error)
            return False
        return True

    def _record(self, name: str) -> dict[str, Any]:
        """Return the record of a stage, empty where there is none."""
        return _read_record(self._path(name)) if self._path(name).is_file() else {}

    def _records(self) -> dict[str, dict[str, Any]]:
        return {path.stem: _read_record(path) for path in self._state.glob("*.json") if path.name not in OWN}

    @property
    def _state(self) -> Path:
        return self.output_dir / STATE

    def _path(self, name: str) -> Path:
        return self._state / f"{name}.json"


def require_one_process(what: str) -> None:
    """Raise ValueError in a launch of several processes.

    Args:
        what: is refused, for the message.
    """
    # on machines without an accelerator a plain PartialState() finds one process, however many torchrun started
    count = PartialState(cpu=not torch.cuda.is_available()).num_processes
    if count > 1:
        raise ValueError(f"{what} runs in one process, got {count}; start it without a launcher")


def require_finished(directory: str | Path, *, checked: Sequence[str] | None = ()) -> None:
    """Raise unless all parts of a run directory come from one finished run.

    Args:
        directory: of the run.
        checked: stages whose files are compared with their recorded sha256; None compares those of all stages and the
            files that no stage owns (recipe, report).

    Raises:
        UnfinishedRunError: where the run was not finished, or was begun again with other settings and not finished.
        DamagedFileError: where a file is not the one that the run wrote.
    """
    root = Path(directory)
    path = root / STATE / FINISHED
    if not path.is_file():
        raise UnfinishedRunError(
            f"{root} is an unfinished run ({path.relative_to(root)} is missing); run the command that made it to its "
            "end, or copy the whole directory, hidden files too"
        )
    finished = _read_fields(path, {"stages": dict[str, str], "files": dict[str, str]})
    for name, digest in finished["stages"].items():
        place = root / STATE / f"{plain_name(name, source=path)}.json"
        if not place.is_file():
            raise DamagedFileError(f"{place} is missing, the record of a stage that {path} names; copy the run again")
        record = _read_record(place)
        if record["digest"] != digest or record["status"] != DONE:
            raise UnfinishedRunError(
                f"{root} is an unfinished run: stage {name} was begun again with other settings after the results were "
                "written, so weights, results and recipe would be those of different runs; run the last command again "
                "to its end, or load its recommender/ folder for the weights alone"
            )
        # what an update has put in place of a recommender is compared with its manifest and the record of the update
        is_replaced = record["folder"] == RECOMMENDER and is_updated(root)
        if (checked is None or name in checked) and not is_replaced:
            check_file_digests(root / record["folder"], record["files"])
    if checked is None:
        check_file_digests(root, finished["files"])


def check_file(directory: str | Path, name: str) -> None:
    """Raise `DamagedFileError` where a file of a finished run that no stage owns is not the one that the run wrote.

    Args:
        directory: of the run.
        name: path below it.
    """
    root = Path(directory)
    finished = _read_fields(root / STATE / FINISHED, {"files": dict[str, str]})["files"]
    check_file_digests(root, {name: finished[name]} if name in finished else {})


def check_folder(directory: str | Path, folder: str) -> None:
    """Raise `DamagedFileError` where a folder of a run holds other files than its stage wrote there.

    Args:
        directory: of the run.
        folder: of a finished stage, below the run directory.
    """
    root = Path(directory)
    for record in Stages(root)._records().values():
        if (record["folder"], record["status"]) == (folder, DONE):
            check_file_digests(root / folder, record["files"])


def is_run(directory: str | Path) -> bool:
    """Return whether a directory is that of a run, also where it was copied without its records."""
    return any((Path(directory) / name).exists() for name in (STATE, *MARKS))


def source_digest_of(directory: str | Path) -> str | None:
    """Return the digest of the source tables that a run directory was made from; None where it has no record of it."""
    path = Path(directory) / STATE / DATA
    return _read_fields(path, {"source_digest": str})["source_digest"] if path.is_file() else None


def require_own(directory: str | Path, folder: str, files: Mapping[str, str], *, mutable: Sequence[str] = ()) -> None:
    """Raise `DamagedFileError` where a folder of a finished run was put there from elsewhere.

    Args:
        directory: of the run.
        folder: of one of its stages.
        files: path → sha256 of what the folder records of itself; paths that the stage did not write are not compared.
        mutable: files that may change after the stage.
    """
    root = Path(directory)
    finished = _read_fields(root / STATE / FINISHED, {"stages": dict[str, str]})
    for name in finished["stages"]:
        record = _read_record(root / STATE / f"{name}.json")
        own = record["files"] if record["folder"] == folder else {}
        for path, digest in own.items():
            found = files.get(path)
            if path not in mutable and found != digest and (found is not None or path.endswith(".safetensors")):
                raise DamagedFileError(
                    f"{root / folder} is not what the run wrote there: {path} has sha256 {found}, stage {name} wrote "
                    f"{digest}; copy the whole directory of one run, or load {root / folder} itself for these weights "
                    "alone"
                )


def is_finished(directory: str | Path) -> bool:
    """Return whether a directory holds one finished run; damaged records are errors. Files are not compared."""
    try:
        require_finished(directory)
    except UnfinishedRunError:
        return False
    return True


def _read_fields(path: Path, kinds: Mapping[str, Any]) -> dict[str, Any]:
    content = read_object(path)
    check_fields(content, kinds, source=path)
    return content


def _read_record(path: Path) -> dict[str, Any]:
    record = _read_fields(path, {"digest": str, "status": str, "folder": str})
    if record["status"] == DONE:
        check_fields(record, {"seconds": int | float, "peak_mb": int | float, "files": dict[str, str]}, source=path)
    if not is_inside(record["folder"]):
        raise DamagedFileError(
            f"{path} names the folder {record['folder']!r:.80}, which leads out of the run directory"
        )
    return record


def _empty(target: Path) -> None:
    """Delete what is in the folder of a stage; a link to a folder elsewhere stays one."""
    with readable_os_errors():
        if target.is_symlink() and target.is_dir():
            for path in target.iterdir():
                _empty(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        elif target.is_dir():
            shutil.rmtree(target)


def _work_in(folder: Path, work_lost: Callable[[Path], str] | None) -> str:
    """Describe the work of users in a folder; empty for none."""
    return "" if work_lost is None else work_lost(folder)


def reset_peak_memory() -> None:
    """Start a new peak where the kernel allows it (Linux); otherwise the peak stays that of the whole process."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        logger.debug("the peak memory of single stages can't be measured on this system")


def peak_memory_mb() -> float:
    """Return the highest resident memory since the last reset, or since the start of the process, in MiB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        line = next(line for line in lines if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
