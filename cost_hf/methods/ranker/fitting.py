"""Fitting of a learned ranker: candidates of validation cases, one model a fold of users, one model of all."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor

from cost_hf.data.splits import Split, fold_of
from cost_hf.files import content_digest, read_json, write_json
from cost_hf.methods.base import Fitted, Workspace
from cost_hf.methods.parts import part_stages, recommenders_of
from cost_hf.methods.ranker.booster import RankingCases, importances, read_booster, train_boosters
from cost_hf.methods.ranker.features import TREND, ItemTable, candidate_features, click_trend, feature_names
from cost_hf.methods.ranker.model_text import model_text
from cost_hf.methods.ranker.new_items import TrainingCatalog
from cost_hf.methods.ranker.options import RankerOptions
from cost_hf.methods.ranker.recommender import RankerRecommender, score_by
from cost_hf.methods.training_stages import as_fitted, candidate_batches, item_list, recommender_stage
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.candidates import Candidates
from cost_hf.recommenders.hybrid import CandidateLists
from cost_hf.recommenders.rankers import Ranking
from cost_hf.semantic_ids.catalog_mask import CatalogMask

STAGE = "ranker"
PURPOSE = "ranker"  # of the folds of users
FOLDS = "folds.json"  # models of the folds, in the folder of the recommender
TRAINING = "training.json"  # cases and importances


def ranker_stage(
    workspace: Workspace, options: RankerOptions, fitted: Mapping[str, Fitted], table: ItemTable, *, seed: int
) -> RankerRecommender:
    """Train the ranker in a stage of its own, and return it as it is stored.

    Args:
        fitted: the parts, fitted on the same data, by name.
        table: what features know of the items of the data.
    """
    data = workspace.data
    evaluation = workspace.evaluation
    parts = recommenders_of(fitted)
    items = item_list(workspace)

    def write(folder: Path) -> None:
        if not PartialState().is_main_process:
            return
        cases, names, counts = ranking_cases(parts, table, workspace, options)
        boosters = train_boosters(cases, names, table.categories, options.ranker, seed=seed)
        RankerRecommender.combine(parts, model_text(boosters.final), table).save_pretrained(folder)
        write_json(folder / FOLDS, list(map(model_text, boosters.folds)))
        rounds = {"rounds": boosters.final.current_iteration()}
        write_json(folder / TRAINING, {**counts, **rounds, "importances": importances(boosters.final, names)})

    recommender = recommender_stage(
        workspace,
        workspace.stage_of(STAGE),
        digest=content_digest(
            data.tables.items["item_id"].tolist(),
            data.split.digest,
            workspace.text_vectors().digest,
            workspace.data_seed,
            dataclasses.asdict(options),
            *[part for name, column in table.columns.items() for part in (name, column)],
            {name: list(texts) for name, texts in table.values.items()},
            part_stages(fitted, workspace),
            [evaluation.num_beams],
            seed,
        ),
        train=write,
        load=RankerRecommender.read,
        catalog=items,
        shared_as=STAGE,
    )
    return as_fitted(recommender, recommender.fitted_catalog(items))


def ranking_cases(
    parts: Mapping[str, Recommender], table: ItemTable, workspace: Workspace, options: RankerOptions
) -> tuple[RankingCases, list[str], dict[str, int]]:
    """Return the candidates of validation cases whose target is among them, the features' names, and counts of cases.

    With `ranker.new_item_share` every case is ranked a second time, in a catalog with copies that stand in as new ones.
    Nothing of the test part is read: histories of validation cases end before the target, parts and popularity know
    the training part alone.
    """
    targets = workspace.data.split.validation.sample(options.ranker.cases, seed=workspace.data_seed)
    trained = TrainingCatalog.of(parts, table)
    catalogs = [trained]
    if options.ranker.new_item_share:
        vectors = workspace.text_vectors().vectors
        catalogs.append(trained.with_new_items(options.ranker.new_item_share, vectors, seed=workspace.data_seed))
    features: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    sizes: list[int] = []
    folds: list[int] = []
    for catalog in catalogs:
        batches = candidate_batches(
            catalog.parts, targets, workspace, description="candidates", rows=catalog.rows, mask=catalog.mask
        )
        for batch, histories, candidates in batches:
            columns = candidates.columns_of(catalog.rows[targets.items[batch]][:, None])[:, 0]
            width = candidates.items.shape[1]
            found = candidate_features(histories, candidates, catalog.facts)
            for number, column in enumerate(columns.tolist()):
                if column >= 0:
                    is_candidate = candidates.items[number] >= 0
                    features.append(found[number][is_candidate])
                    labels.append((np.arange(width) == column)[is_candidate])
                    sizes.append(int(is_candidate.sum()))
                    user_id = targets.user_ids[batch[number]]
                    folds.append(fold_of(user_id, options.ranker.folds, seed=workspace.data_seed, purpose=PURPOSE))
    counts = {"cases": len(targets) * len(catalogs), "cases_with_target": len(sizes)}
    names = feature_names(list(parts), trained.facts)
    if not sizes:
        raise ValueError(
            f"no part lists the target of any of {len(targets)} validation cases, so there is nothing to learn from; "
            "add parts, or use more data"
        )
    cases = RankingCases(
        np.concatenate(features),
        np.concatenate(labels).astype(np.int8),
        np.array(sizes, dtype=np.int64),
        np.array(folds, dtype=np.int64),
    )
    return cases, names, counts


class HeldOutRanker(CandidateLists):
    """Ranks validation users by the models that have not seen them; a `Ranker`.

    The model of all cases was trained on validation targets, so a comparison on validation that used it would be
    flattered.

    Args:
        recommender: of the run.
        boosters: one a fold.
        seed: of the folds.
        top_k: longest list.
    """

    def __init__(self, recommender: RankerRecommender, boosters: Sequence[Any], *, seed: int, top_k: int):
        lists = recommender.ranker_for(top_k)
        super().__init__(lists.parts, num_items=lists.num_items)
        self.boosters = list(boosters)
        self.seed = seed
        self.facts = recommender.snapshot.facts

    def rank(
        self,
        histories: Tensor,
        *,
        top_k: int,
        mask: Tensor | CatalogMask | None = None,
        user_ids: Sequence[str] | None = None,
    ) -> Ranking:
        """Return the best `top_k` items of every history `[B, T]`; the ids of the users decide which model ranks."""
        if user_ids is None:
            raise ValueError("the models of the folds rank users by their ids, got none; pass user_ids=")
        found = self.candidates(histories, top_k=top_k, mask=mask, user_ids=user_ids)
        folds = np.array(
            [fold_of(user, len(self.boosters), seed=self.seed, purpose=PURPOSE) for user in user_ids], dtype=np.int64
        )
        rows = histories.cpu().numpy()
        scores = np.zeros(found.items.shape)
        for fold in np.unique(folds).tolist():
            own = folds == fold
            some = Candidates(found.items[own], found.ranks[own], found.scores[own])
            scores[own] = score_by(self.boosters[fold], self.facts, rows[own], some)
        items, best = found.ranked(scores, top_k)
        return Ranking(torch.from_numpy(items), torch.from_numpy(best))


def held_out_ranker(workspace: Workspace, recommender: RankerRecommender, *, top_k: int) -> HeldOutRanker:
    """Return the ranker of validation users of a fitted run."""
    texts = read_json(workspace.stages.output_dir / workspace.folder / FOLDS)
    return HeldOutRanker(recommender, [read_booster(text) for text in texts], seed=workspace.data_seed, top_k=top_k)


def with_trend(recommender: Any, split: Split) -> RankerRecommender:
    """Return a ranker whose items have the trend of other training clicks, where it reads one and they have times."""
    if TREND not in recommender.table.columns or split.train_times is None:
        return recommender
    trend = click_trend(np.concatenate(split.train), split.train_times, len(recommender.catalog))
    table = dataclasses.replace(recommender.table, columns={**recommender.table.columns, TREND: trend})
    return recommender.with_table(table)


def training_facts(workspace: Workspace) -> dict[str, Any]:
    """Return the number of cases, rounds, and the importance of every feature."""
    return read_json(workspace.stages.output_dir / workspace.folder / TRAINING)
