"""The training of LightGCN on the training part of a workspace."""

import dataclasses
from pathlib import Path

from cost_hf.generators.ranking_trainer import Validate
from cost_hf.methods.base import Workspace
from cost_hf.methods.dense_training import DenseTraining, TrainedModel
from cost_hf.methods.lightgcn.options import LightGcnOptions
from cost_hf.methods.lightgcn.recommender import LightGcnRecommender
from cost_hf.methods.lightgcn.training import train_lightgcn


def lightgcn_training(options: LightGcnOptions, workspace: Workspace, *, seed: int) -> DenseTraining:
    """Return the training of a LightGCN."""

    def fit(folder: Path, validate: Validate) -> TrainedModel:
        return train_lightgcn(
            workspace.data.split.train,
            num_items=workspace.data.tables.num_items,
            options=options,
            validate=validate,
            output_dir=folder,
            seed=seed,
            weights=workspace.data.split.label_weights(),
        )

    return DenseTraining(
        "lightgcn",
        LightGcnRecommender,
        content={"model": dataclasses.asdict(options.model), "training": options.training.content()},
        fit=fit,
        seed=seed,
        validation_users=options.training.validation_users,
    )
