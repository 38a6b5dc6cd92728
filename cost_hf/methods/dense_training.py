"""Stages of methods that train a dense model: as a recommender, and for its item vectors alone."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import set_seed

from cost_hf.data.encoders import ItemEncoder
from cost_hf.files import content_digest, read_json, write_json
from cost_hf.generators.ranking_trainer import Validate, remove_checkpoints
from cost_hf.methods.base import Fitted, Workspace
from cost_hf.methods.training_stages import (
    ENCODER,
    TRAINING_LOG,
    as_fitted,
    item_list,
    recommender_stage,
    training_clicks,
    validation_metrics,
)
from cost_hf.recommenders.dense import DenseRecommender, DenseScorer
from cost_hf.recommenders.rankers import ScoringRanker

COLLABORATIVE = "collaborative"


@dataclass(frozen=True)
class TrainedModel:
    """The chosen weights, in eval mode, and the log of the run (one dict a logging event)."""

    model: Any
    history: list[dict[str, float]]


@dataclass(frozen=True)
class DenseTraining:
    """One training of a dense model on the training part.

    Attributes:
        name: of the stage, where the row has no name of its own.
        recommender_class: of what is kept.
        content: all that the weights depend on beside the data and the seed.
        fit: trains in a folder for checkpoints, validates with models of the recommender's class, and returns the best.
        seed: of weights and of every draw.
        validation_users: size of the validation sample.
        item_vectors: those that the model reads, `[N, E]`; None where it reads none.
    """

    name: str
    recommender_class: type[DenseRecommender]
    content: Any
    fit: Callable[[Path, Validate], TrainedModel]
    seed: int
    validation_users: int
    item_vectors: np.ndarray | None = None


def fit_dense(training: DenseTraining, workspace: Workspace) -> Fitted:
    """Train a dense model as the row of the workspace, and return its recommender."""
    catalog = item_list(workspace, training.item_vectors)
    recommender = recommender_stage(
        workspace,
        workspace.key or training.name,
        digest=_digest(training, workspace),
        train=lambda folder: _train(folder, training, workspace),
        load=training.recommender_class.read,
        catalog=catalog,
        shared_as=training.name,
    )
    log = read_json(workspace.stages.output_dir / workspace.folder / TRAINING_LOG)
    return Fitted(as_fitted(recommender, catalog), {"training": log})


def collaborative_vectors(training: DenseTraining, workspace: Workspace) -> np.ndarray:
    """Return the item table of a trained model `[N, D]`, from a stage that runs may share.

    A row of zeros is an item without a training click.
    """
    trained = workspace.stages.run(
        workspace.stage_of(COLLABORATIVE),
        digest=_digest(training, workspace),
        folder=workspace.folder_of(COLLABORATIVE),
        compute=lambda folder: _train(folder, training, workspace),
        load=lambda folder: training.recommender_class.read(folder).to(PartialState().device),
        on_every_process=True,
        shared_as=COLLABORATIVE,
    )
    with torch.inference_mode():
        table = trained.model.item_table().float().cpu().numpy().copy()
    table[training_clicks(workspace) == 0] = 0.0
    return table


def _digest(training: DenseTraining, workspace: Workspace) -> str:
    data = workspace.data
    vectors = "" if training.item_vectors is None else workspace.text_vectors().digest
    return content_digest(
        training.name,
        data.tables.items["item_id"].tolist(),
        data.split.digest,
        workspace.data_seed,
        vectors,
        training.content,
        training.seed,
    )


def _train(folder: Path, training: DenseTraining, workspace: Workspace) -> None:
    set_seed(training.seed)
    catalog = item_list(workspace, training.item_vectors)
    popularity = training_clicks(workspace)

    def validate(model: Any) -> dict[str, float]:
        scorer = DenseScorer(model, training.item_vectors)
        ranker = ScoringRanker(scorer, popularity=popularity, item_ids=catalog.item_ids)
        return validation_metrics(ranker, workspace, users=training.validation_users, top_k=10)

    trained = training.fit(folder, validate)
    if not PartialState().is_main_process:
        return
    encoder = None if training.item_vectors is None else ItemEncoder.load(workspace.stages.output_dir / ENCODER)
    recommender = training.recommender_class(trained.model, catalog, popularity=popularity, encoder=encoder)
    recommender.save_pretrained(folder)
    write_json(folder / TRAINING_LOG, trained.history)
    remove_checkpoints(folder)
