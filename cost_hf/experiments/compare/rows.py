"""The rows of a comparison as they are measured: lists and costs of every finished run, baseline and ensemble."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from cost_hf.data.splits import Targets
from cost_hf.evaluation.rank_fusion import choose_weights, fuse_lists
from cost_hf.evaluation.ranking import RankedLists, per_user_metrics, ranked_lists
from cost_hf.evaluation.results import MAIN_ROW
from cost_hf.experiments.compare.runner import DONE, FAILED, NOT_STARTED, UNFINISHED, Job
from cost_hf.experiments.compare.systems import ENSEMBLE, HYBRID
from cost_hf.experiments.evaluation_stage import EXAMPLES, FOLDER, LISTS, ORACLE, SEEN, VALIDATION
from cost_hf.files import read_json

MINUTE = 60.0
NOT_TRAINING = ("evaluation", "vectors")  # shared by all systems, so no cost of one


@dataclass(frozen=True)
class SeedRun:
    """One finished run of a row.

    Attributes:
        label: its seeds, as in `Job.label`.
        quantizer: group of runs with one quantizer.
        test: lists by `seen_allowed` and `seen_excluded`.
        validation: the same on validation cases.
    """

    label: str
    quantizer: int
    test: Mapping[str, RankedLists]
    validation: Mapping[str, RankedLists]


@dataclass(frozen=True)
class Row:
    """One row of the table: what was run, what it cost, and its state where it is not finished."""

    name: str
    family: str
    description: str
    runs: list[SeedRun]
    status: str = DONE
    message: str = ""
    cost: Mapping[str, float | int | None] = field(default_factory=dict)
    # results.json of the first run; of an ensemble, the `weights` of its parts
    results: Mapping[str, Any] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)
    seeds_of: str | None = None  # row whose runs these runs are made of

    def validation_score(self, metric: str, seen: str) -> float | None:
        """Return the mean of a metric over validation cases and runs: what choices are made on; None without a run."""
        cutoff = int(metric.partition("@")[2])
        ranks = [run.validation[seen].item_rank for run in self.runs]
        return float(np.mean([per_user_metrics(own, [cutoff])[metric] for own in ranks])) if ranks else None


def trained_rows(jobs: Sequence[Job]) -> list[Row]:
    """Return a row for every system, with the runs that are done and the state of the others."""
    systems = {job.system.name: job.system for job in jobs}
    rows = []
    for name, system in systems.items():
        own = [job for job in jobs if job.system.name == name]
        done = [job for job in own if job.record["status"] == DONE]
        runs = [
            SeedRun(
                job.label,
                job.quantizer_seed,
                read_lists(job.directory / FOLDER / LISTS, MAIN_ROW),
                read_lists(job.directory / FOLDER / VALIDATION, MAIN_ROW),
            )
            for job in done
        ]
        status, message = _state(own, len(done))
        results = [read_json(job.directory / FOLDER / "results.json") for job in done]
        examples = read_json(done[0].directory / FOLDER / EXAMPLES) if done else []
        first = results[0] if results else {}
        rows.append(
            Row(name, system.family, system.description, runs, status, message, _cost(results), first, examples)
        )
    return rows


def baseline_rows(
    folder: Path, requests: Mapping[str, Mapping[str, float]], described: Mapping[str, Mapping[str, str]]
) -> list[Row]:
    """Return the rows of the baselines that train nothing, and of the oracle of a toy data set.

    Args:
        folder: with their lists.
        requests: milliseconds of a request by row.
        described: family and summary of the methods by row.
    """
    oracle = {"family": ORACLE, "summary": "the rule that made the toy data"}
    return [
        Row(
            name,
            described.get(name, oracle)["family"],
            described.get(name, oracle)["summary"],
            [SeedRun("", 0, read_lists(folder / LISTS, name), read_lists(folder / VALIDATION, name))],
            cost={"training_minutes": 0.0, "request_ms": requests[name]["batch_1_ms"], "peak_mb": None},
        )
        for name in requests
    ]


def ensemble_row(parts: Sequence[Row], *, test: Targets, validation: Targets, primary: str) -> Row | None:
    """Return the reciprocal-rank sum of the parts, seed by seed, with weights chosen on validation.

    A part with fewer runs serves with its last one again; None where a part has no finished run. The first part with
    most runs gives the runs their seeds.
    """
    if not all(part.runs for part in parts):
        return None
    runs, weights = [], []
    leader = max(parts, key=lambda part: len(part.runs))
    for number, seeds in enumerate(leader.runs):
        chosen = [part.runs[min(number, len(part.runs) - 1)] for part in parts]
        own = choose_weights([run.validation[primary].items for run in chosen], validation.items)
        weights.append(own)
        lists = {
            part: {seen: _fused([getattr(run, part)[seen] for run in chosen], own, targets) for seen in SEEN}
            for part, targets in (("test", test), ("validation", validation))
        }
        runs.append(SeedRun(seeds.label, seeds.quantizer, lists["test"], lists["validation"]))
    mean = np.mean(weights, axis=0)
    shares = ", ".join(f"{part.name} {weight:.2f}" for part, weight in zip(parts, mean, strict=True))
    return Row(
        ENSEMBLE,
        HYBRID,
        f"reciprocal-rank sum, mean weights chosen on validation: {shares}",
        runs,
        cost=_summed([part.cost for part, weight in zip(parts, mean, strict=True) if weight > 0]),
        results={"weights": {part.name: float(weight) for part, weight in zip(parts, mean, strict=True)}},
        seeds_of=leader.name,
    )


def read_lists(folder: Path, row: str) -> dict[str, RankedLists]:
    """Return the lists of a row by setting of `exclude_seen`."""
    return {seen: RankedLists.from_arrays(load_file(folder / f"{row}-{seen}.safetensors")) for seen in SEEN}


def _fused(lists: Sequence[RankedLists], weights: Sequence[float] | np.ndarray, targets: Targets) -> RankedLists:
    width = max(part.list_length for part in lists)
    items = fuse_lists([part.items for part in lists], weights, top_k=width)
    return ranked_lists(items, targets.items, sid_keys=None)


def _state(jobs: Sequence[Job], num_done: int) -> tuple[str, str]:
    """Return the status of a row and a message about runs that are not done."""
    if num_done == len(jobs):
        return DONE, ""
    for status in (FAILED, UNFINISHED):
        for job in jobs:
            if job.record["status"] == status:
                seeds = f"seeds {job.label}: {job.record['message']}"
                return status, f"{num_done} of {len(jobs)} runs are done; {status}, {seeds}"
    return (UNFINISHED if num_done else NOT_STARTED), f"{num_done} of {len(jobs)} runs are done, the others not begun"


def _cost(results: Sequence[Mapping[str, Any]]) -> dict[str, float | int | None]:
    if not results:
        return {"training_minutes": None, "request_ms": None, "peak_mb": None, "parameters": None}
    seconds = [
        sum(stage["seconds"] for name, stage in result["stages"].items() if name not in NOT_TRAINING)
        for result in results
    ]
    return {
        "training_minutes": round(float(np.mean(seconds)) / MINUTE, 2),
        "request_ms": round(float(np.median([result["requests"][MAIN_ROW]["batch_1_ms"] for result in results])), 2),
        "peak_mb": max(stage["peak_mb"] for result in results for stage in result["stages"].values()),
        "parameters": results[0]["parameters"].get(MAIN_ROW, 0),
    }


def _summed(costs: Sequence[Mapping[str, float | int | None]]) -> dict[str, float | int | None]:
    """Return the cost of asking all parts one after the other; memory is that of the largest."""
    total: dict[str, float | int | None] = {}
    for name in ("training_minutes", "request_ms", "peak_mb", "parameters"):
        known = [value for cost in costs if (value := cost.get(name)) is not None]
        total[name] = None if not known else max(known) if name == "peak_mb" else round(sum(known), 2)
    return total
