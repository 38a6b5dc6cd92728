"""The rows of a comparison as they are measured: lists and costs of every finished run and baseline."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cost_hf.data.options import ItemVectorOptions
from cost_hf.evaluation.ranking import RankedLists, per_user_metrics
from cost_hf.evaluation.results import MAIN_ROW
from cost_hf.experiments.compare.runner import DONE, FAILED, NOT_STARTED, UNFINISHED, Job
from cost_hf.experiments.compare.systems import COUNTING, DENSE
from cost_hf.experiments.evaluation_stage import EXAMPLES, FOLDER, LISTS, ORACLE, SEEN, VALIDATION
from cost_hf.files import read_json, read_tensors
from cost_hf.methods.codes_stage import VECTORS

MINUTE = 60.0
EVALUATION = "evaluation"  # done for all systems alike, so no cost of one


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
    """One row of the table: what was run, what it cost, and its state where it is not finished.

    Attributes:
        name: of the row.
        family: of its method, `calibration` or `oracle`.
        description: what sets it apart.
        runs: those that are finished.
        status, message: of the runs together.
        cost: minutes of training, milliseconds of a request, memory and number of weights.
        results: results.json of the first run.
        examples: examples.json of the first run.
        seeds_of: row whose runs these runs are made of.
        without_generative: row that differs by the generative parts alone.
    """

    name: str
    family: str
    description: str
    runs: list[SeedRun]
    status: str = DONE
    message: str = ""
    cost: Mapping[str, float | int | None] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)
    seeds_of: str | None = None
    without_generative: str | None = None

    @property
    def parts(self) -> list[str]:
        """Names of what a hybrid combines; none for other rows, and without a finished run."""
        return list(self.results.get("protocol", {}).get("parts", []))

    def validation_score(self, metric: str, seen: str) -> float | None:
        """Return the mean of a metric over validation cases and runs: what choices are made on; None without a run."""
        cutoff = int(metric.partition("@")[2])
        ranks = [run.validation[seen].item_rank for run in self.runs]
        return float(np.mean([per_user_metrics(own, [cutoff])[metric] for own in ranks])) if ranks else None


def trained_rows(jobs: Sequence[Job], *, metric: str, seen: str) -> list[Row]:
    """Return a row for every system, with the runs that are done and the state of the others.

    Args:
        jobs: of all systems.
        metric, seen: by which the row is chosen that gives the runs of a hybrid their seeds.
    """
    systems = {job.system.name: job.system for job in jobs}
    rows: dict[str, Row] = {}
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
        row = Row(
            name,
            system.family,
            system.description,
            runs,
            status,
            message,
            _cost(results),
            results=results[0] if results else {},
            examples=read_json(done[0].directory / FOLDER / EXAMPLES) if done else [],
            without_generative=system.without_generative,
        )
        if row.parts:
            row = dataclasses.replace(
                row,
                description=f"{system.description}: {', '.join(row.parts)}",
                seeds_of=_leading_part(row.parts, rows, metric=metric, seen=seen),
            )
        rows[name] = row
    return list(rows.values())


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


def read_lists(folder: Path, row: str) -> dict[str, RankedLists]:
    """Return the lists of a row by setting of `exclude_seen`."""
    return {seen: RankedLists.from_arrays(read_tensors(folder / f"{row}-{seen}.safetensors")) for seen in SEEN}


def _leading_part(parts: Sequence[str], rows: Mapping[str, Row], *, metric: str, seen: str) -> str | None:
    """Return the trained part that is best on validation: a hybrid's runs vary with the seeds of its parts.

    Generative parts count where there are no others, so that a hybrid without them has the same one.
    """
    trained = [rows[name] for name in parts if name in rows and rows[name].runs]
    others = [row for row in trained if row.family in (COUNTING, DENSE)]
    best = max(others or trained, key=lambda row: row.validation_score(metric, seen) or 0.0, default=None)
    return None if best is None else best.name


def _state(jobs: Sequence[Job], num_done: int) -> tuple[str, str]:
    """Return the status of a row and a message about runs that are not done."""
    if num_done == len(jobs):
        return DONE, ""
    for status in (FAILED, UNFINISHED):
        for job in jobs:
            if job.record["status"] == status:
                seeds = f"seeds {job.label}: {job.record['message']}"
                return status, f"{num_done} of {len(jobs)} runs are done; {status}, {seeds}"
    # a run may say what it waits for
    reason = next((job.record["message"] for job in jobs if job.record["message"]), "the others not begun")
    return (UNFINISHED if num_done else NOT_STARTED), f"{num_done} of {len(jobs)} runs are done; {reason}"


def _common_stages(result: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the stages that cost all systems the same: the evaluation, and encoding texts, which trains nothing."""
    ItemVectorOptions.load_kinds()
    vectors = ItemVectorOptions.kinds[result["recipe"]["vectors"]["kind"]]
    return (EVALUATION,) if vectors.is_trained else (EVALUATION, VECTORS)


def _cost(results: Sequence[Mapping[str, Any]]) -> dict[str, float | int | None]:
    if not results:
        return {"training_minutes": None, "request_ms": None, "peak_mb": None, "parameters": None}
    seconds = [
        sum(stage["seconds"] for name, stage in result["stages"].items() if name not in _common_stages(result))
        for result in results
    ]
    return {
        "training_minutes": round(float(np.mean(seconds)) / MINUTE, 2),
        "request_ms": round(float(np.median([result["requests"][MAIN_ROW]["batch_1_ms"] for result in results])), 2),
        "peak_mb": max(stage["peak_mb"] for result in results for stage in result["stages"].values()),
        "parameters": results[0]["parameters"].get(MAIN_ROW, 0),
    }
