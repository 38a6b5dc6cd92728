"""Trainings of models of sequences, as stages and as warm starts."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel

from cost_hf.generators.ranking_trainer import Validate
from cost_hf.methods.base import Fitted, WarmStart, Workspace
from cost_hf.methods.dense_training import DenseTraining, TrainedModel
from cost_hf.methods.sasrec.options import SequenceOptions
from cost_hf.methods.sasrec.training import SequenceTrainer, train_sequences
from cost_hf.recommenders.dense import DenseRecommender

if TYPE_CHECKING:
    from cost_hf.methods.sasrec.method import SequenceMethod


def sequence_training(
    method: "SequenceMethod[Any]",
    recommender_class: type[DenseRecommender],
    workspace: Workspace,
    *,
    seed: int,
    inputs: Sequence[Any] = (),
    make_trainer: Callable[..., SequenceTrainer] | None = None,
) -> DenseTraining:
    """Return the training of a method's model on the training part of a workspace.

    Args:
        method: gives the model and the options.
        recommender_class: of the part of the model that recommends.
        workspace: its data.
        seed: of weights, order of users, dropout and negatives.
        inputs: content of files that weights depend on, too.
        make_trainer: as in `train_sequences`.
    """
    options = method.options
    vectors = None if options.model.inputs == "ids" else workspace.text_vectors().vectors
    split = workspace.data.split

    def fit(folder: Path, validate: Validate) -> TrainedModel:
        text_dim = None if vectors is None else vectors.shape[1]
        trained = train_sequences(
            method.untrained(num_items=workspace.data.tables.num_items, text_dim=text_dim, seed=seed),
            split.train,
            item_vectors=vectors,
            options=options,
            validate=lambda model: validate(method.recommended(model)),
            output_dir=folder,
            seed=seed,
            weights=split.label_weights(),
            make_trainer=make_trainer,
        )
        return TrainedModel(method.recommended(trained.model), trained.history)

    return DenseTraining(
        method.name,
        recommender_class,
        content=[dataclasses.asdict(options) | {"training": options.training.content()}, list(inputs)],
        fit=fit,
        seed=seed,
        validation_users=options.training.validation_users,
        item_vectors=vectors,
    )


def warm_start(
    options: SequenceOptions,
    recommender: DenseRecommender,
    start: WarmStart,
    make_trainer: Callable[..., SequenceTrainer] | None = None,
) -> Fitted:
    """Train a model of sequences on from its weights."""
    model: PreTrainedModel = recommender.model
    trained = train_sequences(
        model,
        start.split.train,
        item_vectors=recommender.catalog.vectors,
        options=dataclasses.replace(options, training=start.training(options.training)),
        validate=None,
        output_dir=start.folder,
        seed=start.seed,
        weights=start.split.label_weights(),
        make_trainer=make_trainer,
    )
    popularity = start.split.popularity(len(recommender.catalog))
    return Fitted(recommender.after_training(popularity), {"training": trained.history})
