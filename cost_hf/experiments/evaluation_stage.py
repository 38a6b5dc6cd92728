"""Every ranker of a run on the same cases, judged on items, with paired intervals.

Lists of each (row, `exclude_seen`) pair are written as soon as they are known, so a killed evaluation goes on with the
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
from torch import nn

from cost_hf.data.prepare import PreparedData
from cost_hf.data.splits import Targets
from cost_hf.data.text_vectors import TextVectors
from cost_hf.evaluation.options import TRAINED_BASELINES, EvaluationOptions
from cost_hf.evaluation.ranking import RankedLists, evaluate_ranker
from cost_hf.evaluation.results import MAIN_ROW, build_results, write_ranks
from cost_hf.evaluation.slices import slice_labels, slice_metrics
from cost_hf.experiments.protocol import identity, products_record, protocol
from cost_hf.experiments.recipe import Recipe
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
from cost_hf.methods.counting import build_baseline
from cost_hf.methods.generated_titles import title_scores
from cost_hf.methods.sid_description import describe_identifiers, neighbour_examples
from cost_hf.products import measure_products
from cost_hf.quantizers.fit import CodesResult
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.recommenders.rankers import Ranker, ScoringRanker
from cost_hf.reporting import write_run_report
from cost_hf.stages import Stages

logger = logging.getLogger(__name__)
SEEN = {"seen_allowed": False, "seen_excluded": True}
FOLDER, LISTS, VALIDATION, EXAMPLES = "evaluation", "lists", "validation", "examples.json"
REPORT = "report.html"


@dataclasses.dataclass(frozen=True)
class Candidates:
    """What a run trained.

    Attributes:
        recommender: the system of the run, the row `recommender`.
        rivals: trained baselines by row name.
        curves: training logs by stage.
        codes: the fitted quantizer, where there is one.
    """

    recommender: Recommender
    rivals: Mapping[str, Recommender]
    curves: Mapping[str, list[dict[str, Any]]]
    codes: CodesResult | None = None


def judge(
    stages: Stages, recipe: Recipe, data: PreparedData, vectors: TextVectors, candidates: Candidates, *, seed: int
) -> dict[str, Any]:
    """Rank, score and compare; return the content of `evaluation/results.json` and write the report beside it."""
    made_from = sorted(stages.digests.items())
    digest = content_digest(
        made_from, data.tables.digest, data.split.digest, dataclasses.asdict(recipe.evaluation), seed
    )

    def compute(folder: Path) -> None:
        rankers = {MAIN_ROW: candidates.recommender.ranker_for(recipe.evaluation.num_beams)}
        for name, rival in candidates.rivals.items():
            rankers[name] = rival.ranker_for(recipe.evaluation.num_beams)
        rankers |= untrained_rankers(data, vectors, recipe.evaluation)
        common: dict[str, Any] = {
            "sid_keys": candidates.recommender.sid_keys,
            "num_items": data.tables.num_items,
            "digest": digest,
        }
        test = data.split.test.sample(recipe.evaluation.max_users, seed=recipe.data.seed)
        ranked = rank_rows(folder / LISTS, rankers, test, recipe.evaluation, **common)
        validation = validation_cases(recipe, data)
        own = {MAIN_ROW: rankers[MAIN_ROW]}
        rank_rows(folder / VALIDATION, own, validation, recipe.evaluation, **common)
        if PartialState().is_main_process:
            _write_results(folder, recipe, data, vectors, candidates, rankers, ranked, seed)

    results = stages.run(
        "evaluation",
        digest=digest,
        folder=FOLDER,
        compute=compute,
        load=lambda folder: read_json(folder / "results.json"),
        on_every_process=True,
        # one arithmetic for all rows: that of the trained systems at hand
        products=measure_products(
            nn.ModuleList(system.network for system in _trained(candidates).values()), recipe.products
        ),
    )
    results["protocol"]["products"] = products_record(recipe, stages)  # what was asked for may have changed
    results["recipe"] = recipe.to_dict()  # fields that no stage depends on may have changed
    # what the evaluation itself cost is known only behind it
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
    data: PreparedData,
    vectors: TextVectors,
    candidates: Candidates,
    rankers: Mapping[str, Ranker],
    ranked: Mapping[tuple[str, str], RankedLists],
    seed: int,
) -> None:
    options = recipe.evaluation
    targets = data.split.test.sample(options.max_users, seed=recipe.data.seed)
    num_items = data.tables.num_items
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
    results["requests"] = {name: request_times(ranker, targets) for name, ranker in rankers.items()}
    results["parameters"] = {name: system.num_parameters for name, system in _trained(candidates).items()}
    results["curves"] = dict(candidates.curves)
    examples: list[dict[str, Any]] = []
    if isinstance(candidates.recommender, GenerativeRecommender):
        results["semantic_ids"] = describe_identifiers(candidates.recommender.catalog, candidates.codes, vectors, data)
        titles = title_scores(recipe, data, targets, candidates.recommender, seed=seed)
        results |= {"titles": titles} if titles else {}
        examples = neighbour_examples(candidates.recommender.catalog, vectors, seed=recipe.data.seed)
    results["protocol"] = protocol(recipe, data, targets, candidates.recommender)
    results |= identity(recipe, data, seed)
    write_json(folder / EXAMPLES, examples)
    write_json(folder / "results.json", results)


def _trained(candidates: Candidates) -> dict[str, Recommender]:
    return {MAIN_ROW: candidates.recommender, **candidates.rivals}


def untrained_rankers(data: PreparedData, vectors: TextVectors, options: EvaluationOptions) -> dict[str, Ranker]:
    """Return the baselines that need no gradient, and the toy set's oracle, by row name."""
    popularity = data.split.popularity(data.tables.num_items)
    item_ids = data.tables.items["item_id"].tolist()
    scorers = {
        name: build_baseline(name, data.split.train, data.tables.num_items, vectors=vectors.vectors)
        for name in options.baselines
        if name not in TRAINED_BASELINES
    }
    if data.oracle is not None:
        scorers["oracle"] = data.oracle
    return {name: ScoringRanker(scorer, popularity=popularity, item_ids=item_ids) for name, scorer in scorers.items()}


def validation_cases(recipe: Recipe, data: PreparedData) -> Targets:
    """Return the fixed seeded sample of validation cases on which systems are chosen and weighted."""
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
