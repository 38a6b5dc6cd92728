"""Who computes the units of a job: this process, or workers of Ray."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from cost_hf.bulk.tasks import BulkTask, Transform
from cost_hf.bulk.units import Unit, UnitResult, run_unit
from cost_hf.files import content_digest
from cost_hf.ray_cluster import ray_cluster

RETRIES = 3  # of a unit whose worker was killed, and of a worker; Ray Data's own default is without end


def run_here(
    units: Sequence[Unit], task: BulkTask, folder: Path, *, content: str, columns: Mapping[str, str], batch_size: int
) -> Iterator[UnitResult]:
    """Compute one unit after the other in this process; yield each when its file is there."""
    transform = _load(task, content)
    for unit in units:
        yield run_unit(unit, transform, folder, columns=columns, batch_size=batch_size)


def run_on_ray(
    units: Sequence[Unit],
    task: BulkTask,
    folder: Path,
    *,
    content: str,
    columns: Mapping[str, str],
    batch_size: int,
    workers: int = 2,
    address: str | None = None,
) -> Iterator[UnitResult]:
    """Compute units on workers of Ray, each of which loads the model once; yield each when its file is there.

    Ray starts a lost worker anew and computes its unit again, `RETRIES` times at most. All nodes of a cluster need the
    same paths: those of the input, of the results, and of the model where it is a directory.

    Args:
        units: to compute.
        task: what is computed.
        folder: of the results.
        content: digest of the task's, as the job began.
        columns: as for `plan_units`.
        batch_size: rows that a model gets at once.
        workers: processes, one CPU each.
        address: of a running cluster; None starts one on this machine for the time of the work.

    Raises:
        ConnectionError: where no cluster can be reached at the address.
        ValueError: without Ray, where workers are killed again and again, or as the task raises.
    """
    with ray_cluster(address, num_cpus=workers, log_to_driver=False):
        import ray.data
        from ray.util.annotations import RayDeprecationWarning

        ray.data.DataContext.get_current().enable_progress_bars = False
        waiting = ray.data.from_items([asdict(unit) for unit in units], override_num_blocks=len(units))
        with warnings.catch_warnings():
            # of max_restarts and max_task_retries, which nothing replaces; pyproject.toml takes no Ray without them
            warnings.simplefilter("ignore", RayDeprecationWarning)
            rows = waiting.map(
                _Worker,
                fn_constructor_args=(task, content, str(folder), dict(columns), batch_size),
                compute=ray.data.ActorPoolStrategy(size=workers),
                max_restarts=RETRIES,
                max_task_retries=RETRIES,
            )
        try:
            for row in rows.iter_rows():
                if row["error"] is not None:
                    raise ValueError(row["error"])
                yield UnitResult(row["target"], row["rows"], row["missing"], row["digest"])
        except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
            raise ValueError(
                f"a worker of Ray was killed {RETRIES + 1} times, probably since no memory was left; run the same "
                "command with fewer --workers, or another --output with a lower --batch-size or smaller row groups"
            ) from error


def _load(task: BulkTask, content: str) -> Transform:
    """Load the model of a task, unless another one has come since the job began."""
    transform = task.load()
    if content_digest(task.content()) != content:
        raise ValueError(
            "the recommender has changed since the job began; give another output folder, or bring the old one back"
        )
    return transform


class _Worker:
    """Holds the model of a task in a worker process.

    What a user can mend is returned rather than raised: Ray would wrap it in errors of its own, and start the worker
    anew where the model can't be loaded.
    """

    def __init__(self, task: BulkTask, content: str, folder: str, columns: dict[str, str], batch_size: int):
        self._error: str | None = None
        try:
            transform = _load(task, content)
            self._run = partial(run_unit, transform=transform, folder=folder, columns=columns, batch_size=batch_size)
        except (ValueError, OSError) as error:
            self._error = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Compute the unit that a row describes."""
        result = {"target": row["target"], "rows": 0, "missing": 0, "digest": "", "error": self._error}
        if self._error is not None:
            return result
        try:
            return result | asdict(self._run(Unit(**row)))
        except (ValueError, OSError) as error:
            return result | {"error": str(error)}
