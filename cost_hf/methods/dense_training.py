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
from cost_hf.recommenders.dense import DenseScorer
from cost_hf.recommenders.rankers import Scorer, ScoringRanker
from cost_hf.semantic_ids.item_list import ItemRows

COLLABORATIVE = "collaborative"


@dataclass(frozen=True)
class TrainedModel:
    """The chosen weights, in eval mode, and the log of the run (one dict a logging event)."""

    model: Any
    history: list[dict[str, float]]


@dataclass(frozen=True)
class DenseTraining:
    """One training, on the training part, of a model that scores the whole catalog.

    A method whose items are more than ids and vectors overrides `catalog`, `scorer`, `parts` and `inputs`.

    Attributes:
        name: of the stage, where the row has no name of its own.
        recommender_class: a `Recommender`, made of model, catalog, `popularity` and `parts`.
        content: all that the weights depend on beside the data and the seed.
        fit: trains in a folder for checkpoints, validates with models of the recommender's class, and returns the best.
        seed: of weights and of every draw.
        validation_users: size of the validation sample.
        item_vectors: those that the model reads, `[N, E]`; None where it reads none.
    """

    name: str
    recommender_class: type[Any]
    content: Any
    fit: Callable[[Path, Validate], TrainedModel]
    seed: int
    validation_users: int
    item_vectors: np.ndarray | None = None

    def catalog(self, workspace: Workspace) -> ItemRows:
        """Return the items of the data as the recommender holds them."""
        return item_list(workspace, self.item_vectors)

    def scorer(self, model: Any) -> Scorer:
        """Return what scores the catalog with a model in eval mode."""
        return DenseScorer(model, self.item_vectors)

    def parts(self, workspace: Workspace) -> dict[str, Any]:
        """Return what the recommender has besides model, catalog and popularity, as arguments of its class."""
        is_read = self.item_vectors is not None
        return {"encoder": ItemEncoder.load(workspace.stages.output_dir / ENCODER) if is_read else None}

    def inputs(self, workspace: Workspace) -> list[Any]:
        """Return what the weights depend on of the items beside their ids, for digests."""
        return ["" if self.item_vectors is None else workspace.text_vectors().digest]


def fit_dense(training: DenseTraining, workspace: Workspace) -> Fitted:
    """Train a model as the row of the workspace, and return its recommender."""
    catalog = training.catalog(workspace)
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
    return content_digest(
        training.name,
        data.tables.items["item_id"].tolist(),
        data.split.digest,
        workspace.data_seed,
        *training.inputs(workspace),
        training.content,
        training.seed,
    )


def _train(folder: Path, training: DenseTraining, workspace: Workspace) -> None:
    set_seed(training.seed)
    catalog = training.catalog(workspace)
    popularity = training_clicks(workspace)

    def validate(model: Any) -> dict[str, float]:
        ranker = ScoringRanker(training.scorer(model), popularity=popularity, item_ids=catalog.item_ids)
        return validation_metrics(ranker, workspace, users=training.validation_users, top_k=10)

    trained = training.fit(folder, validate)
    if not PartialState().is_main_process:
        return
    parts = training.parts(workspace)
    recommender = training.recommender_class(trained.model, catalog, popularity=popularity, **parts)
    recommender.save_pretrained(folder)
    write_json(folder / TRAINING_LOG, trained.history)
    remove_checkpoints(folder)
