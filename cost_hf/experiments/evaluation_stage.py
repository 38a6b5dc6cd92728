"""The evaluation stage: all rankers of a run on the same cases, hits on items, with paired intervals.

Lists of each (row, `exclude_seen`) pair are written as soon as they are known, so a killed evaluation resumes with the
next pair. `results.json` is the one source of every number that is shown anywhere.
"""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from safetensors.numpy import save_file

from cost_hf.data.prepare import PreparedData
from cost_hf.data.splits import Targets
from cost_hf.evaluation.options import EvaluationOptions
from cost_hf.evaluation.ranking import RankedLists, evaluate_ranker, proved_shares
from cost_hf.evaluation.results import MAIN_ROW, build_results, write_ranks
from cost_hf.evaluation.slices import slice_labels, slice_metrics
from cost_hf.experiments.curves import epoch_curve
from cost_hf.experiments.protocol import identity, protocol
from cost_hf.experiments.recipe import Recipe, row_recipe
from cost_hf.experiments.request_times import request_times
from cost_hf.files import (
    DamagedFileError,
    atomic_path,
    content_digest,
    read_json,
    read_tensor_metadata,
    read_tensors,
    write_json,
)
from cost_hf.methods.base import Fitted, Method, Workspace
from cost_hf.methods.codes_stage import VECTORS
from cost_hf.recommenders.rankers import Ranker, ScoringRanker
from cost_hf.reporting import write_run_report

logger = logging.getLogger(__name__)
SEEN = {"seen_allowed": False, "seen_excluded": True}
FOLDER = "evaluation"
LISTS = "lists"
VALIDATION = "validation"
EXAMPLES = "examples.json"
REPORT = "report.html"
ORACLE = "oracle"  # row, and family, of the rule that made a toy data set


def evaluation_stage(
    recipe: Recipe,
    workspace: Workspace,
    fitted: Mapping[str, Fitted],
    *,
    seed: int,
    data_name: str | None = None,
) -> dict[str, Any]:
    """Rank, measure and compare; return the content of `evaluation/results.json` and write the report beside it.

    Args:
        recipe: of the run.
        workspace: of its system.
        fitted: the system as row `recommender`, and the baselines, by row name.
        seed: of the bootstrap.
        data_name: what the data are called in the report; None for the toy data and tables in memory.
    """
    stages = workspace.stages
    data = workspace.data
    made_from = sorted(stages.digests.items())
    options = dataclasses.asdict(recipe.evaluation)
    digest = content_digest(made_from, recipe.inputs(), data.tables.digest, data.split.digest, options, seed)

    def compute(folder: Path) -> None:
        rankers = rankers_of(fitted, data, recipe.evaluation)
        common: dict[str, Any] = {
            "sid_keys": fitted[MAIN_ROW].recommender.sid_keys,
            "num_items": data.tables.num_items,
            "digest": digest,
        }
        test = data.split.test.sample(recipe.evaluation.max_users, seed=recipe.data.seed)
        ranked = rank_rows(folder / LISTS, rankers, test, recipe.evaluation, **common)
        validation = validation_cases(recipe, data)
        own = {MAIN_ROW: recipe.system.validation_ranker(fitted[MAIN_ROW], workspace)}
        rank_rows(folder / VALIDATION, own, validation, recipe.evaluation, **common)
        if PartialState().is_main_process:
            _write_results(folder, recipe, workspace, fitted, rankers, ranked, seed)

    results = stages.run(
        "evaluation",
        digest=digest,
        folder=FOLDER,
        compute=compute,
        load=lambda folder: read_json(folder / "results.json"),
        on_every_process=True,
    )
    results["recipe"] = recipe.to_dict()  # fields that no stage depends on may have changed
    results["data_name"] = data_name
    # what the evaluation itself cost is known only after it
    results["stages"] = {name: dataclasses.asdict(record) for name, record in stages.records.items()}
    if PartialState().is_main_process:
        folder = stages.output_dir / FOLDER
        path = folder / "results.json"
        if results != read_json(path):
            stages.rewrite("evaluation", path, lambda target: write_json(target, results))
        examples = read_json(folder / EXAMPLES)
        stages.write(REPORT, lambda target: write_run_report(results, examples, target))
    return results


def _write_results(
    folder: Path,
    recipe: Recipe,
    workspace: Workspace,
    fitted: Mapping[str, Fitted],
    rankers: Mapping[str, Ranker],
    ranked: Mapping[tuple[str, str], RankedLists],
    seed: int,
) -> None:
    data = workspace.data
    options = recipe.evaluation
    targets = data.split.test.sample(options.max_users, seed=recipe.data.seed)
    num_items = data.tables.num_items
    system = recipe.system
    main = fitted[MAIN_ROW]
    write_ranks(folder / "ranks.parquet", ranked, targets.user_ids)
    results = build_results(
        ranked,
        user_ids=targets.user_ids,
        num_items=num_items,
        cutoffs=options.cutoffs,
        draws=options.bootstrap_draws,
        seed=seed,
    )
    labels = slice_labels(targets, data.split.train, num_items=num_items, cold_items=data.split.cold_items)
    results["slices"] = slice_metrics(
        ranked, labels, user_ids=targets.user_ids, draws=options.bootstrap_draws, seed=seed
    )
    results["methods"] = _methods(recipe, rankers)
    results["requests"] = {name: request_times(ranker, targets) for name, ranker in rankers.items()}
    results["parameters"] = {
        name: row.recommender.num_parameters for name, row in fitted.items() if row.recommender.num_parameters
    }
    results["curves"] = _curves(fitted)
    results |= system.describe(main, workspace, targets, seed=seed)
    if VECTORS in workspace.stages.digests and (described := workspace.text_vectors().description):
        results[VECTORS] = described
    results["protocol"] = protocol(recipe, workspace, system.protocol(main, workspace, targets), targets)
    proved = {seen: proved_shares(ranked[MAIN_ROW, seen], options.cutoffs) for seen in SEEN}
    if None not in proved.values():
        results["protocol"]["proved"] = proved
    results |= identity(recipe, data, seed)
    write_json(folder / EXAMPLES, system.examples(main, workspace))
    write_json(folder / "results.json", results)


def _methods(recipe: Recipe, rankers: Mapping[str, Ranker]) -> dict[str, dict[str, str]]:
    """Return name, family and summary of the method of every row."""
    systems = {Path(name).stem: row_recipe(name, recipe) for name in recipe.baselines} | {MAIN_ROW: recipe}
    described = {name: describe_method(systems[name].system) for name in rankers if name in systems}
    if ORACLE in rankers:
        described[ORACLE] = {"method": ORACLE, "family": ORACLE, "summary": "the rule that made the toy data"}
    return described


def describe_method(method: Method[Any]) -> dict[str, str]:
    """Return what tables and cards call a method."""
    return {"method": method.name, "family": method.family, "summary": method.summary}


def _curves(fitted: Mapping[str, Fitted]) -> dict[str, list[dict[str, Any]]]:
    """Return training logs by what they are of: `training` is the system, a row's name its training, the rest parts."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for row, own in fitted.items():
        for part, log in own.curves.items():
            if part == "training":
                curves[own.recommender.source if row == MAIN_ROW else row] = epoch_curve(log)
            elif row == MAIN_ROW:
                curves[part] = list(log)
    return curves


def rankers_of(fitted: Mapping[str, Fitted], data: PreparedData, options: EvaluationOptions) -> dict[str, Ranker]:
    """Return what ranks for each row, and the oracle of a toy data set."""
    rankers: dict[str, Ranker] = {name: own.recommender.ranker_for(options.num_beams) for name, own in fitted.items()}
    if data.oracle is not None:
        popularity = data.split.popularity(data.tables.num_items)
        item_ids = data.tables.items["item_id"].tolist()
        rankers[ORACLE] = ScoringRanker(data.oracle, popularity=popularity, item_ids=item_ids)
    return rankers


def validation_cases(recipe: Recipe, data: PreparedData) -> Targets:
    """Return the fixed seeded sample of validation cases on which methods are chosen and weighted."""
    return data.split.validation.sample(recipe.evaluation.validation_users, seed=recipe.data.seed)


def rank_rows(
    folder: Path,
    rankers: Mapping[str, Ranker],
    targets: Targets,
    options: EvaluationOptions,
    *,
    sid_keys: np.ndarray | None,
    num_items: int,
    digest: str,
) -> dict[tuple[str, str], RankedLists]:
    """Rank the cases by every ranker under both settings of `exclude_seen`.

    Lists that an interrupted evaluation left in `folder` are read, where they are whole and of the same row, cases and
    inputs; others are made again.

    Args:
        digest: of everything that the lists depend on.
    """
    return {
        (name, seen): _ranked(
            folder / f"{name}-{seen}.safetensors",
            ranker,
            targets,
            options,
            sid_keys=sid_keys,
            num_items=num_items,
            digest=digest,
        )
        for name, ranker in rankers.items()
        for seen in SEEN
    }


def _ranked(
    path: Path,
    ranker: Ranker,
    targets: Targets,
    options: EvaluationOptions,
    *,
    sid_keys: np.ndarray | None,
    num_items: int,
    digest: str,
) -> RankedLists:
    row, _, seen = path.stem.rpartition("-")
    part = " on validation" if path.parent.name == VALIDATION else ""
    origin = content_digest(digest, path.parent.name, path.stem)
    found = _read_lists(path, origin)
    PartialState().wait_for_everyone()  # no process may write before all have looked
    if found is None:
        lists = evaluate_ranker(
            ranker,
            targets,
            sid_keys=sid_keys,
            num_items=num_items,
            exclude_seen=SEEN[seen],
            top_k=options.num_beams,
            batch_size=options.batch_size,
            description=f"{row}{part}, {seen.replace('_', ' ')}",
        )
        if PartialState().is_main_process:
            arrays = lists.arrays()
            with atomic_path(path) as temporary:
                save_file(arrays, temporary, metadata={"digest": _lists_digest(origin, arrays)})
        logger.debug("ranked %s %s", row, seen)
    PartialState().wait_for_everyone()
    return RankedLists.from_arrays(read_tensors(path)) if found is None else found


def _read_lists(path: Path, origin: str) -> RankedLists | None:
    """Return lists that an interrupted evaluation wrote; None where there are none, or not those of this evaluation."""
    if not path.is_file():
        return None
    try:
        arrays = read_tensors(path)
        if read_tensor_metadata(path).get("digest") == _lists_digest(origin, arrays):
            return RankedLists.from_arrays(arrays)
        logger.warning("%s holds other lists than this evaluation wrote there; it is made again", path)
    except DamagedFileError as error:
        logger.warning("%s; it is made again", error)
    return None


def _lists_digest(origin: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Return the digest of lists and of what they were made from."""
    parts = [part for name in sorted(arrays) for part in (name, arrays[name])]
    return content_digest(origin, *parts)
