"""A bulk job: Parquet files in, a folder of Parquet files out, continued where it was stopped.

The folder holds one file a unit and `_bulk.json`, which says what they are the results of. The same job on the same
folder computes what is missing; another job is refused.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from cost_hf.bulk import ENGINES
from cost_hf.bulk.engines import run_here, run_on_ray
from cost_hf.bulk.tasks import BulkTask
from cost_hf.bulk.units import Unit, plan_units
from cost_hf.files import LOCK, locked, read_object, remove_scratch, write_json

logger = logging.getLogger(__name__)

RECORD = "_bulk.json"  # readers of a folder of Parquet files pass over names like this
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
        ValueError: for another job's folder, wrong input, or an option that does not exist.
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
        options: dict[str, Any] = {"columns": renamed, "batch_size": batch_size}
        run = run_here
        if engine == "ray":
            run = run_on_ray
            options |= {"workers": workers, "address": address}
        rows = 0
        missing = 0
        with tqdm(total=sum(unit.rows for unit in units), desc=task.name, unit=" rows") as progress:
            for result in run(units, task, folder, **options):
                rows += result.rows
                missing += result.missing
                progress.update(result.rows)
        remove_scratch(folder)  # of workers that were lost
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
        "inputs": {path: _state(path) for path in dict.fromkeys(unit.path for unit in units)},
    }
    return json.loads(json.dumps(record))  # as it is read from a file


def _state(path: str) -> list[int]:
    """Return size in bytes and time of the last change of a file, in nanoseconds: another state is another input."""
    found = Path(path).stat()
    return [found.st_size, found.st_mtime_ns]


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
    others = sorted(entry.name for entry in folder.iterdir() if entry.name != LOCK)
    if others:
        raise ValueError(f"{folder} holds {others[0]!r} and no {RECORD}; give a folder that is empty or does not exist")
    write_json(path, record)
