"""Stages that train LightGCN: as a recommender, and for its item vectors alone."""

from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from accelerate.utils import set_seed

from cost_hf.files import write_json
from cost_hf.generators.ranking_trainer import remove_checkpoints
from cost_hf.methods.base import Workspace
from cost_hf.methods.lightgcn.options import LightGcnOptions
from cost_hf.methods.lightgcn.recommender import LightGcnRecommender
from cost_hf.methods.lightgcn.training import train_lightgcn
from cost_hf.methods.training_stages import (
    TRAINING_LOG,
    as_fitted,
    collaborative_stage,
    item_list,
    recommender_stage,
    training_clicks,
    training_digest,
    validation_metrics,
)
from cost_hf.recommenders.dense import DenseScorer
from cost_hf.recommenders.rankers import ScoringRanker

STAGE = "lightgcn"


def lightgcn_stage(options: LightGcnOptions, workspace: Workspace, *, seed: int) -> LightGcnRecommender:
    """Train a LightGCN as the row of the workspace."""
    catalog = item_list(workspace)
    recommender = recommender_stage(
        workspace,
        workspace.key or STAGE,
        digest=_digest(options, workspace, seed),
        train=lambda folder: _train(folder, options, workspace, seed=seed),
        load=LightGcnRecommender.read,
        catalog=catalog,
        shared_as=STAGE,
    )
    return as_fitted(recommender, catalog)


def collaborative_vectors(options: LightGcnOptions, workspace: Workspace, *, seed: int) -> np.ndarray:
    """Return the item vectors of a LightGCN `[N, D]`, from a stage that runs may share; zero for unclicked items."""
    return collaborative_stage(
        workspace,
        digest=_digest(options, workspace, seed),
        train=lambda folder: _train(folder, options, workspace, seed=seed),
        load=LightGcnRecommender.read,
        item_table=lambda recommender: recommender.model.items.weight,
    )


def _digest(options: LightGcnOptions, workspace: Workspace, seed: int) -> str:
    return training_digest(workspace, STAGE, options.model, options.training.content(), seed)


def _train(folder: Path, options: LightGcnOptions, workspace: Workspace, *, seed: int) -> None:
    set_seed(seed)
    catalog = item_list(workspace)
    popularity = training_clicks(workspace)

    def validate(model: Any) -> dict[str, float]:
        scorer = DenseScorer(model.item_side())
        ranker = ScoringRanker(scorer, popularity=popularity, item_ids=catalog.item_ids)
        return validation_metrics(ranker, workspace, users=options.training.validation_users, top_k=10)

    trained = train_lightgcn(
        workspace.data.split.train,
        num_items=len(catalog),
        options=options,
        validate=validate,
        output_dir=folder,
        seed=seed,
        weights=workspace.data.split.label_weights(),
    )
    if not PartialState().is_main_process:
        return
    LightGcnRecommender(trained.model, catalog, popularity=popularity).save_pretrained(folder)
    write_json(folder / TRAINING_LOG, trained.history)
    remove_checkpoints(folder)
