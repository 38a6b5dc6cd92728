"""compare.json from evaluated rows: intervals over users and seeds, claims with verdicts, and a recommendation.

The claims are fixed before the runs, under one primary metric: the first generative system (without one, the first
dense one) against every other row, and every hybrid with generative parts against the same one without them. Decisions
(which family to use) compare the best rows of all families on validation. Both kinds are corrected together.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cost_hf.data.events import target_text, weights_text
from cost_hf.data.prepare import PreparedData
from cost_hf.data.splits import Targets
from cost_hf.evaluation.ranking import RankedLists, per_user_metrics
from cost_hf.evaluation.results import MAIN_ROW, NULL
from cost_hf.evaluation.slices import slice_labels, slice_metrics
from cost_hf.evaluation.statistics import (
    ALPHA,
    EQUIVALENCE_MARGIN,
    POWER,
    SystemValues,
    interval_of,
    nested_means,
)
from cost_hf.experiments.compare.claims import PRIMARY, claims_of, detectable, winners_of
from cost_hf.experiments.compare.recommendation import recommend
from cost_hf.experiments.compare.rows import Row
from cost_hf.experiments.evaluation_stage import SEEN
from cost_hf.experiments.protocol import device_name, leakage, versions
from cost_hf.experiments.recipe import Recipe
from cost_hf.methods.base import FAMILIES

FORMAT = 1
KINDS = ("recall", "ndcg")
SLICE_DRAWS = 500
Key = tuple[str, str, str]  # row, unit, seen


def summarize(
    rows: Sequence[Row], base: Recipe, data: PreparedData, *, settings: Mapping[str, Any], is_complete: bool
) -> dict[str, Any]:
    """Return the content of compare.json without digest and seconds.

    Args:
        rows: evaluated, in the order of the table; unfinished ones have fewer runs or none.
        base: recipe with the data and evaluation of all rows.
        data: that all rows were evaluated on.
        settings: `seeds`, `generators_per_quantizer` and the primary `seen` setting.
        is_complete: whether all runs are done.
    """
    targets = data.split.test.sample(base.evaluation.max_users, seed=base.data.seed)
    seen = settings["seen"]
    length = base.evaluation.num_beams
    cutoffs = [cutoff for cutoff in base.evaluation.cutoffs if cutoff <= length]
    metrics = _metric_names(cutoffs)
    undefined = _metric_names([cutoff for cutoff in base.evaluation.cutoffs if cutoff > length])
    values = {key: system for row in rows for key, system in _systems(row, cutoffs, metrics).items()}
    draws = base.evaluation.bootstrap_draws
    means = nested_means(values, clusters=targets.user_ids, draws=draws, seed=base.data.seed)
    primary = metrics.index(PRIMARY)
    tested = [row for row in rows if row.runs and row.family in FAMILIES]
    drawn = {row.name: means[row.name, "item", seen][:, primary] for row in tested}
    own = {row.name: float(values[row.name, "item", seen].per_case()[:, primary].mean()) for row in tested}
    claims = claims_of(tested, drawn, own, seen=seen)
    best = max((own[name] for name in winners_of(tested, seen).values()), default=0.0)
    report: dict[str, Any] = {
        "format": FORMAT,
        "name": base.name,
        "complete": is_complete,
        "data": _data(base, data),
        "protocol": _protocol(base, targets, seen),
        "seeds": {
            "quantizer": settings["seeds"],
            "generators_per_quantizer": settings["generators_per_quantizer"],
        },
        "rows": {row.name: _entry(row, values, means, metrics, undefined, targets, data, seen) for row in rows},
        "claims": [claim.to_dict() for claim in claims],
        "hybrid_differences": _hybrid_differences(tested, values, means, metrics),
        "detectable_difference": detectable(claims, best),
        "codes": {row.name: row.results["semantic_ids"] for row in rows if "semantic_ids" in row.results},
        "curves": {row.name: row.results["curves"] for row in rows if row.results.get("curves")},
        "recipes": {row.name: row.description for row in rows},
        "versions": versions(),
        "device": device_name(),
    }
    return report | {"recommendation": recommend(report)}


def _hybrid_differences(
    rows: Sequence[Row], values: Mapping[Key, SystemValues], means: Mapping[Key, np.ndarray], metrics: Sequence[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what every hybrid of other rows has more than every other row: paired differences with intervals.

    They are not corrected for their number, and no decision is made on them: `claims` are for that.

    Returns:
        By `<hybrid>-<row>`, seen setting and metric, hits on items: value, low and high.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for hybrid in (row for row in rows if row.parts):
        for other in (row for row in rows if row.name != hybrid.name):
            cells: dict[str, dict[str, Any]] = {}
            for seen in SEEN:
                keys = ((hybrid.name, "item", seen), (other.name, "item", seen))
                own, base = (values[key].per_case().mean(axis=0) for key in keys)
                drawn = means[keys[0]] - means[keys[1]]
                cells[seen] = {
                    metric: dataclasses.asdict(interval_of(float(own[column] - base[column]), drawn[:, column]))
                    for column, metric in enumerate(metrics)
                }
            found[f"{hybrid.name}-{other.name}"] = cells
    return found


def _metric_names(cutoffs: Sequence[int]) -> list[str]:
    return [f"{kind}@{cutoff}" for kind in KINDS for cutoff in cutoffs]


def _systems(row: Row, cutoffs: Sequence[int], metrics: Sequence[str]) -> dict[Key, SystemValues]:
    """Return the metrics of a row's runs, `[S, M, metrics]`, by unit and seen setting; none without a finished run."""
    if not row.runs:
        return {}
    quantizers = [run.quantizer for run in row.runs]
    systems = {}
    for seen in SEEN:
        tables = {"item": [_table(run.test[seen].item_rank, cutoffs, metrics) for run in row.runs]}
        if all(run.test[seen].sid_rank is not None for run in row.runs):
            tables["sid"] = [_table(run.test[seen].sid_rank, cutoffs, metrics) for run in row.runs]
        for unit, parts in tables.items():
            systems[row.name, unit, seen] = SystemValues(np.stack(parts), quantizers, row.seeds_of or row.name)
    return systems


def _table(ranks: np.ndarray | None, cutoffs: Sequence[int], metrics: Sequence[str]) -> np.ndarray:
    by_name = per_user_metrics(np.asarray(ranks), cutoffs)
    return np.stack([by_name[metric] for metric in metrics], axis=1)  # [M, metrics]


def _entry(
    row: Row,
    values: Mapping[Key, SystemValues],
    means: Mapping[Key, np.ndarray],
    metrics: Sequence[str],
    undefined: Sequence[str],
    targets: Targets,
    data: PreparedData,
    seen: str,
) -> dict[str, Any]:
    # metrics above the length of the lists are null, as in results.json
    nulls: dict[str, Any] = {metric: NULL | {"per_seed": []} for metric in undefined}
    # what the system of the row's runs is; a row without runs of its own is described by itself
    about = row.results.get("methods", {}).get(MAIN_ROW) or {"method": row.name, "summary": row.description}
    entry: dict[str, Any] = {
        "method": about["method"],
        "family": row.family,
        "summary": about["summary"],
        "status": row.status,
        "message": row.message,
        "description": row.description,
        "seeds": [run.label for run in row.runs if run.label],
        "validation": {PRIMARY: row.validation_score(PRIMARY, seen)},
        "cost": dict(row.cost),
        "metrics": {},
    }
    for seen_name in SEEN:
        for unit, section in (("item", "metrics"), ("sid", "sid")):
            key = (row.name, unit, seen_name)
            if key in values:
                entry.setdefault(section, {})[seen_name] = _cells(values[key], means[key], metrics) | nulls
    if row.parts:
        entry["parts"] = row.parts
    if row.without_generative is not None:
        entry["without_generative"] = row.without_generative
    if row.runs:
        entry["covers"] = values[row.name, "item", seen].covers
        entry["slices"] = _slices(row, targets, data, seen)
    return entry


def _cells(system: SystemValues, means: np.ndarray, metrics: Sequence[str]) -> dict[str, Any]:
    per_run = system.values.mean(axis=1)  # [S, metrics]
    cells = {}
    for column, metric in enumerate(metrics):
        interval = interval_of(float(system.per_case()[:, column].mean()), means[:, column])
        cells[metric] = dataclasses.asdict(interval) | {"per_seed": per_run[:, column].tolist()}
    return cells


def _slices(row: Row, targets: Targets, data: PreparedData, seen: str) -> dict[str, Any]:
    """Return the slices of a row over the cases of all its runs; the bootstrap draws users with all their cases."""
    labels = slice_labels(targets, data.split.train, num_items=data.tables.num_items, cold_items=data.split.cold_items)
    times = len(row.runs)
    lists = RankedLists(
        item_rank=np.concatenate([run.test[seen].item_rank for run in row.runs]),
        sid_rank=None,
        items=np.concatenate([run.test[seen].items for run in row.runs]),
    )
    tiled = {name: np.tile(column, times) for name, column in labels.items()}
    users = np.tile(targets.user_ids, times)
    found = slice_metrics({(row.name, seen): lists}, tiled, user_ids=users, draws=SLICE_DRAWS)[row.name][seen]
    for cells in found.values():
        for cell in cells.values():
            cell["cases"] //= times
    return found


def _data(base: Recipe, data: PreparedData) -> dict[str, Any]:
    return {
        "counts": data.tables.counts | data.split.counts,
        "digest": data.tables.digest,
        "split": base.data.split,
        "split_digest": data.split.digest,
        "shares": data.split.shares(),
        "note": leakage(base.data),
        "is_toy": base.data.reader == "synthetic",
    }


def _protocol(base: Recipe, targets: Targets, seen: str) -> dict[str, Any]:
    return {
        "primary": {"metric": PRIMARY, "unit": "item", "seen": seen},
        "cases": len(targets),
        "users": len(set(targets.user_ids)),
        "targets": target_text(base.data),
        "event_weights": weights_text(base.data),
        "num_beams": base.evaluation.num_beams,
        "cutoffs": base.evaluation.cutoffs,
        "bootstrap_draws": base.evaluation.bootstrap_draws,
        "alpha": ALPHA,
        "power": POWER,
        "equivalence_margin": EQUIVALENCE_MARGIN,
    }
