"""Stages that train SASRec: as a recommender, and for its item vectors alone."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from accelerate.utils import set_seed

from cost_hf.data.encoders import ItemEncoder
from cost_hf.files import write_json
from cost_hf.generators.ranking_trainer import remove_checkpoints
from cost_hf.methods.base import Fitted, WarmStart, Workspace
from cost_hf.methods.sasrec.options import SasRecOptions
from cost_hf.methods.sasrec.recommender import SasRecRecommender
from cost_hf.methods.sasrec.training import fit_sasrec, train_sasrec
from cost_hf.methods.training_stages import (
    ENCODER,
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

STAGE = "sasrec"


def sasrec_stage(options: SasRecOptions, workspace: Workspace, *, seed: int) -> SasRecRecommender:
    """Train a SASRec as the row of the workspace."""
    table = _item_vectors(options, workspace)
    catalog = item_list(workspace, table)
    recommender = recommender_stage(
        workspace,
        workspace.key or STAGE,
        digest=_digest(options, workspace, seed),
        train=lambda folder: _train(folder, options, workspace, table, seed=seed),
        load=SasRecRecommender.read,
        catalog=catalog,
        shared_as=STAGE,
    )
    return as_fitted(recommender, catalog)


def warm_start(options: SasRecOptions, recommender: SasRecRecommender, start: WarmStart) -> Fitted:
    """Train a SASRec on from its weights."""
    split = start.split
    trained = fit_sasrec(
        recommender.model,
        split.train,
        item_vectors=recommender.catalog.vectors,
        options=dataclasses.replace(options, training=start.training(options.training)),
        validate=None,
        output_dir=start.folder,
        seed=start.seed,
        weights=split.label_weights(),
    )
    popularity = split.popularity(len(recommender.catalog))
    return Fitted(recommender.after_training(popularity), {"training": trained.history})


def collaborative_vectors(options: SasRecOptions, workspace: Workspace, *, seed: int) -> np.ndarray:
    """Return the item table of a SASRec of ids `[N, D]`, from a stage that runs may share; zero for unclicked items."""
    return collaborative_stage(
        workspace,
        digest=_digest(options, workspace, seed),
        train=lambda folder: _train(folder, options, workspace, None, seed=seed),
        load=SasRecRecommender.read,
        item_table=lambda recommender: recommender.model.item_table(),
    )


def _digest(options: SasRecOptions, workspace: Workspace, seed: int) -> str:
    vectors = "" if options.model.inputs == "ids" else workspace.text_vectors().digest
    return training_digest(workspace, vectors, options.model, options.training.content(), seed)


def _item_vectors(options: SasRecOptions, workspace: Workspace) -> np.ndarray | None:
    return None if options.model.inputs == "ids" else workspace.text_vectors().vectors


def _train(folder: Path, options: SasRecOptions, workspace: Workspace, table: np.ndarray | None, *, seed: int) -> None:
    set_seed(seed)
    catalog = item_list(workspace, table)
    popularity = training_clicks(workspace)

    def validate(model: Any) -> dict[str, float]:
        ranker = ScoringRanker(DenseScorer(model, table), popularity=popularity, item_ids=catalog.item_ids)
        return validation_metrics(ranker, workspace, users=options.training.validation_users, top_k=10)

    trained = train_sasrec(
        workspace.data.split.train,
        num_items=len(catalog),
        item_vectors=table,
        options=options,
        validate=validate,
        output_dir=folder,
        seed=seed,
        weights=workspace.data.split.label_weights(),
    )
    if not PartialState().is_main_process:
        return
    encoder = None if options.model.inputs == "ids" else ItemEncoder.load(workspace.stages.output_dir / ENCODER)
    SasRecRecommender(trained.model, catalog, popularity=popularity, encoder=encoder).save_pretrained(folder)
    write_json(folder / TRAINING_LOG, trained.history)
    remove_checkpoints(folder)
