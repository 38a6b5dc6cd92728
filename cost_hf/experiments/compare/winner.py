"""The recommended system as a recipe and a command, where it is trained already, and its training.

`recommended.yaml` beside compare.json is the resolved recipe of the first finished run of the row, with the baselines
of the comparison. Its stages are those of that run, so with the shared folder nothing is trained again.
"""

import copy
import logging
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cost_hf.experiments.compare.runner import DONE, Job
from cost_hf.experiments.compare.systems import Plan
from cost_hf.experiments.pipeline import Run, row_name, train
from cost_hf.experiments.recipe import Recipe

logger = logging.getLogger(__name__)
RECIPE = "recommended.yaml"
MAX_BASE = 40  # characters of the name of the data or recipe: names on the Hub have 96 at most


def describe_winner(
    row: str | None, rows: Mapping[str, Any], base: Recipe, plan: Plan, jobs: Sequence[Job], directory: Path
) -> dict[str, Any]:
    """Write the recipe of the recommended row and return how to train it, where it is, and what a request costs.

    Args:
        row: that is recommended; None deletes the recipe of an earlier recommendation.
        rows: of compare.json.
        base: of the comparison.
        plan, jobs: the rows and their runs.
        directory: of the comparison.

    Returns:
        `command`, a line for a shell; `seed` of the run; `directory` of the finished run, None for a row that trains
        nothing; `latency_ms`, median of single requests, and `peak_mb`, None where it was not measured. All are None
        where nothing is recommended.
    """
    path = directory / RECIPE
    if row is None:
        path.unlink(missing_ok=True)
        return dict.fromkeys(("command", "seed", "directory", "latency_ms", "peak_mb"))
    job = next((job for job in jobs if job.system.name == row and job.record["status"] == DONE), None)
    recipe = copy.deepcopy(plan.untrained[row] if job is None else job.recipe)
    recipe.name = _repository_name(f"{base.name[:MAX_BASE]}-{row}")
    recipe.evaluation.baselines = [name for name in base.baselines if row_name(name) in plan.untrained.keys() - {row}]
    recipe.save(path)
    seed = 0 if job is None else job.generator_seed
    cost = rows[row]["cost"]
    return {
        "command": shlex.join(["cost-hf", "train", "--recipe", str(path), "--seed", str(seed)]),
        "seed": seed,
        "directory": None if job is None else str(job.directory),
        "latency_ms": cost["request_ms"],
        "peak_mb": cost["peak_mb"],
    }


def _repository_name(text: str) -> str:
    """Return a text as the name of a directory, and of a repository on the Hub."""
    return re.sub(r"([-.])[-.]+", r"\1", re.sub(r"[^A-Za-z0-9_.-]+", "-", text)).strip("-.")


def check_target(target: str | Path, directory: Path) -> None:
    """Raise ValueError where the recommended system would be written into the comparison itself."""
    if Path(target).resolve().is_relative_to(directory.resolve()):
        raise ValueError(
            f"the recommended system can't be trained in {str(target)!r}, which is in the directory of the comparison, "
            f"{str(directory)!r}; give a directory elsewhere"
        )


def train_recommended(
    recommendation: Mapping[str, Any], directory: Path, target: str | Path, *, overwrite: bool
) -> Run | None:
    """Train the recommended system in a run directory of its own; None where nothing is recommended.

    Stages that the comparison has computed are taken from it; a repeated call resumes.

    Args:
        recommendation: of compare.json.
        directory: of the comparison.
        target: run directory.
        overwrite: as in `train`.
    """
    if recommendation["command"] is None:
        return None
    logger.info("the recommended system, %s, is made ready in %s", recommendation["row"], target)
    return train(
        recipe=str(directory / RECIPE),
        seed=recommendation["seed"],
        output_dir=target,
        shared_dir=directory / "shared",
        overwrite=overwrite,
    )
