"""The evaluation stage: every ranker of a run on the same cases, judged on items, with paired intervals.

Ranks of each (row, `exclude_seen`) pair are written as soon as they are known, so a killed evaluation goes on with
the next pair. `results.json` is the one source of every number that is shown anywhere.
"""

import dataclasses
import logging
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from safetensors.numpy import load_file, save_file

import cost_hf
from cost_hf.data.prepare import PreparedData
from cost_hf.data.splits import Targets
from cost_hf.data.text_vectors import TextVectors
from cost_hf.evaluation.baselines import build_baseline
from cost_hf.evaluation.ranking import RankedLists, evaluate_ranker
from cost_hf.evaluation.results import build_results, write_ranks
from cost_hf.evaluation.semantic_ids import sid_health
from cost_hf.files import atomic_path, content_digest, read_json, write_json
from cost_hf.quantizer_training.fit import CodesResult
from cost_hf.recipe import Recipe
from cost_hf.recommender.rankers import Ranker, ScoringRanker
from cost_hf.recommender.recommender import Recommender
from cost_hf.recommender.validity import invalid_shares
from cost_hf.stages import Stages

logger = logging.getLogger(__name__)
SEEN = {"seen_allowed": False, "seen_excluded": True}
MAIN_ROW = "recommender"
INVALID_SAMPLE = 256
PACKAGES = ("torch", "transformers", "datasets", "accelerate", "numpy")


def judge(
    stages: Stages,
    recipe: Recipe,
    data: PreparedData,
    vectors: TextVectors,
    codes: CodesResult | None,
    recommender: Recommender,
    *,
    seed: int,
) -> dict[str, Any]:
    """Rank, score and compare; return the content of `evaluation/results.json`."""
    digest = content_digest(
        stages.digests["generator"], vectors.digest, data.tables.digest, dataclasses.asdict(recipe.evaluation), seed
    )

    def compute(folder: Path) -> None:
        targets = data.split.test.sample(recipe.evaluation.max_users, seed=recipe.data.seed)
        ranked = {
            (name, seen): _ranked(folder / "parts", name, seen, ranker, targets, recipe, recommender)
            for name, ranker in _rankers(recipe, data, vectors, recommender).items()
            for seen in SEEN
        }
        if not PartialState().is_main_process:
            return
        write_ranks(folder / "ranks.parquet", ranked, targets.user_ids)
        results = build_results(
            ranked,
            user_ids=targets.user_ids,
            num_items=data.tables.num_items,
            cutoffs=recipe.evaluation.cutoffs,
            draws=recipe.evaluation.bootstrap_draws,
            seed=seed,
        )
        results["semantic_ids"] = _health(codes, vectors, recommender)
        results["protocol"] = _protocol(recipe, data, targets, recommender)
        results |= _identity(recipe, data, seed)
        write_json(folder / "results.json", results)

    results = stages.run(
        "evaluation",
        digest=digest,
        folder="evaluation",
        compute=compute,
        load=lambda folder: read_json(folder / "results.json"),
        on_every_process=True,
    )
    results["recipe"] = recipe.to_dict()  # fields that no stage depends on may have changed
    # what the evaluation itself cost is known only behind it
    results["stages"] = {name: dataclasses.asdict(record) for name, record in stages.records.items()}
    if PartialState().is_main_process:
        write_json(stages.output_dir / "evaluation" / "results.json", results)
    return results


def _rankers(recipe: Recipe, data: PreparedData, vectors: TextVectors, recommender: Recommender) -> dict[str, Ranker]:
    popularity = data.split.popularity(data.tables.num_items)
    item_ids = data.tables.items["item_id"].tolist()
    scorers = {
        name: build_baseline(name, data.split.train, data.tables.num_items, vectors=vectors.vectors)
        for name in recipe.evaluation.baselines
    }
    if data.oracle is not None:
        scorers["oracle"] = data.oracle
    rankers: dict[str, Ranker] = {MAIN_ROW: recommender.ranker(num_beams=recipe.evaluation.num_beams)}
    for name, scorer in scorers.items():
        rankers[name] = ScoringRanker(scorer, popularity=popularity, item_ids=item_ids)
    return rankers


def _ranked(
    folder: Path, name: str, seen: str, ranker: Ranker, targets: Targets, recipe: Recipe, recommender: Recommender
) -> RankedLists:
    path = folder / f"{name}-{seen}.safetensors"
    if not path.is_file():
        lists = evaluate_ranker(
            ranker,
            targets,
            sid_keys=recommender.catalog.sid_keys,
            num_items=len(recommender.catalog),
            exclude_seen=SEEN[seen],
            top_k=recipe.evaluation.num_beams,
            batch_size=recipe.evaluation.batch_size,
            description=f"{name}, {seen.replace('_', ' ')}",
        )
        if PartialState().is_main_process:
            with atomic_path(path) as temporary:
                save_file(lists.arrays(), temporary)
        logger.debug("ranked %s %s", name, seen)
    PartialState().wait_for_everyone()
    return RankedLists(**load_file(path))


def _health(codes: CodesResult | None, vectors: TextVectors, recommender: Recommender) -> dict[str, Any]:
    catalog = recommender.catalog
    reconstruction = None
    if codes is not None and codes.model is not None:
        with torch.inference_mode():
            table = torch.from_numpy(np.array(catalog.codes[:, : catalog.model_levels]))
            reconstruction = codes.model.decode(table).float().numpy()
    health = sid_health(
        catalog.codes[:, : catalog.model_levels],
        catalog.level_sizes[: catalog.model_levels],
        vectors=vectors.vectors,
        reconstruction=reconstruction,
    )
    return health | {"catalog": catalog.report}


def _protocol(recipe: Recipe, data: PreparedData, targets: Targets, recommender: Recommender) -> dict[str, Any]:
    sample = np.sort(np.random.default_rng(recipe.data.seed).permutation(len(targets))[:INVALID_SAMPLE])
    histories = torch.from_numpy(targets.histories_matrix(sample))
    users = [str(targets.user_ids[case]) for case in sample]
    return {
        "split": recipe.data.split,
        "exclude_seen": "both settings; see the row names",
        "num_beams": recipe.evaluation.num_beams,
        "constraint": "trie",
        "score": "sum of natural-log probabilities over the full vocabulary",
        "max_history": recipe.generator.max_history,
        "unit_of_a_hit": "item; the sid rows count any item with the target's model-level codes",
        "ties": f"in time: blake2b(user_id, item_id, {recipe.data.seed}); in scores: training popularity, then item_id",
        "cases": len(targets),
        "users": len(set(targets.user_ids)),
        "note": _leakage_note(recipe.data.split),
        "counts": data.tables.counts | data.split.counts,
        "shares": data.split.shares() | invalid_shares(recommender, histories, user_ids=users),
    }


def _leakage_note(split: str) -> str:
    if split == "leave_one_out":
        return "leave-one-out: training may hold clicks of other users later than a test click"
    if split == "source":
        return "the source marks the training clicks; those behind a target of the same user do not train"
    return "every training click is older than every target"


def _identity(recipe: Recipe, data: PreparedData, seed: int) -> dict[str, Any]:
    is_cuda = torch.cuda.is_available()
    return {
        "recipe": recipe.to_dict(),
        "seed": seed,
        "data_digest": data.tables.digest,
        "split_digest": data.split.digest,
        "versions": {"python": platform.python_version(), "cost_hf": cost_hf.__version__}
        | {name: version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name() if is_cuda else f"cpu, {torch.get_num_threads()} threads",
    }
