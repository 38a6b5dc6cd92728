"""A bulk job: Parquet files in, a folder of Parquet files out, continued where it was stopped.

The folder holds one file a unit, `_bulk.json`, which says what they are the results of, and `_bulk_files.jsonl`, which
gets a line with the digest of every file when that is there. The same job on the same folder computes the files that
are missing or differ from their line; another job is refused.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from cost_hf.bulk import ENGINES
from cost_hf.bulk.engines import run_here, run_on_ray
from cost_hf.bulk.tasks import BulkTask
from cost_hf.bulk.units import Unit, UnitResult, plan_units, result_digest
from cost_hf.files import LOCK, atomic_path, content_digest, is_scratch, locked, read_object, remove_scratch, write_json

logger = logging.getLogger(__name__)

RECORD = "_bulk.json"  # readers of a folder of Parquet files pass over names like this
FILES = "_bulk_files.jsonl"
RUNNING = "running"
DONE = "done"


def run_bulk(
    task: BulkTask,
    pattern: str,
    output_dir: str | Path,
    *,
    engine: str = "local",
    columns: Mapping[str, str] | None = None,
    batch_size: int = 256,
    workers: int = 2,
    address: str | None = None,
) -> dict[str, Any]:
    """Compute the results of all rows of Parquet files and return what has been written.

    Args:
        task: what is computed.
        pattern: path of a Parquet file, or several of them as in `items-*.parquet`.
        output_dir: gets a file for every row group.
        engine: `local`, or `ray` for several processes or machines. Both write the same bytes where they compute with
            the same kernels and number of threads.
        columns: name of ours -> name in the files, where these differ.
        batch_size: rows that a model gets at once.
        workers: processes of Ray.
        address: of a running Ray cluster; None starts one on this machine.

    Returns:
        `rows`, `rows_without_result` and `files`.

    Raises:
        ValueError: for another job's folder, wrong input, input or a recommender that changes meanwhile, or an option
            that does not exist.
        LockedError: where another process works on the folder.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    for name, value in {"batch_size": batch_size, "workers": workers}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value!r}")
    renamed = dict(columns or {})
    units = plan_units(pattern, task, renamed)
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        record = _record(task, units, renamed, batch_size)
        _claim(folder, record)
        remove_scratch(folder)
        options: dict[str, Any] = {
            "content": content_digest(record["options"]),
            "columns": renamed,
            "batch_size": batch_size,
        }
        run = run_here
        if engine == "ray":
            run = run_on_ray
            options |= {"workers": workers, "address": address}
        results = _finished(folder, units)
        with atomic_path(folder / FILES) as temporary:  # without lines that do not hold any more
            temporary.write_text("".join(map(_line, results)), encoding="utf-8")
        done = {result.target for result in results}
        left = [unit for unit in units if unit.target not in done]
        with (
            tqdm(
                total=sum(unit.rows for unit in units),
                initial=sum(result.rows for result in results),
                desc=task.name,
                unit=" rows",
            ) as progress,
            (folder / FILES).open("a", encoding="utf-8") as lines,
        ):
            for result in run(left, task, folder, **options) if left else ():
                lines.write(_line(result))
                lines.flush()
                results.append(result)
                progress.update(result.rows)
        _claim(folder, record | {"inputs": _inputs(units)})  # other files may have come meanwhile
        remove_scratch(folder)  # of workers that were lost
        rows = sum(result.rows for result in results)
        missing = sum(result.missing for result in results)
        summary = {"rows": rows, "rows_without_result": missing, "files": len(units)}
        write_json(folder / RECORD, record | {"status": DONE} | summary)
    if missing:
        logger.warning("%d of %d rows have nothing to compute from; their results are null", missing, rows)
    return summary


def _record(task: BulkTask, units: list[Unit], columns: dict[str, str], batch_size: int) -> dict[str, Any]:
    record = {
        "status": RUNNING,
        "task": task.name,
        "options": task.content(),
        "columns": columns,
        "batch_size": batch_size,
        "units": [asdict(unit) for unit in units],
        "inputs": _inputs(units),
    }
    return json.loads(json.dumps(record))  # as it is read from a file


def _inputs(units: Sequence[Unit]) -> dict[str, list[int]]:
    """Return size in bytes and time of the last change of every file, in nanoseconds: others are another input."""
    states = {path: Path(path).stat() for path in dict.fromkeys(unit.path for unit in units)}
    return {path: [found.st_size, found.st_mtime_ns] for path, found in states.items()}


def _claim(folder: Path, record: dict[str, Any]) -> None:
    """Tie a folder to a job; raise ValueError where it holds anything else."""
    path = folder / RECORD
    if path.is_file():
        found = read_object(path)
        changed = [name for name, value in record.items() if name != "status" and found.get(name) != value]
        if changed:
            raise ValueError(
                f"{folder} holds the results of a job with other {' and '.join(changed)}; delete it or give another "
                "output folder"
            )
        return
    others = sorted(entry.name for entry in folder.iterdir() if entry.name != LOCK and not is_scratch(entry.name))
    if others:
        raise ValueError(f"{folder} holds {others[0]!r} and no {RECORD}; give a folder that is empty or does not exist")
    write_json(path, record)


def _line(result: UnitResult) -> str:
    return json.dumps(asdict(result)) + "\n"


def _finished(folder: Path, units: Sequence[Unit]) -> list[UnitResult]:
    """Return the results of units whose files are as they were written; warn of files that are not."""
    path = folder / FILES
    if not path.is_file():
        return []
    rows = {unit.target: unit.rows for unit in units}
    finished = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            result = UnitResult(**json.loads(line))
            target = folder / result.target
            if result.rows != rows[result.target] or not target.is_file():
                continue
            if result_digest(target, result.missing) == result.digest:
                finished[result.target] = result
            else:
                logger.warning("%s is not as it was written; it is computed again", target)
        except (ValueError, TypeError, LookupError):  # half a line of a process that was killed, or a damaged one
            continue
    return list(finished.values())
