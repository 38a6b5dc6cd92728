"""Trainings of models of sequences, as stages and as warm starts."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from cost_hf.generators.ranking_trainer import Validate
from cost_hf.methods.base import Fitted, WarmStart, Workspace
from cost_hf.methods.dense_training import DenseTraining, TrainedModel
from cost_hf.methods.sasrec.options import SequenceOptions
from cost_hf.methods.sasrec.training import SequenceTrainer, build_model, train_sequences
from cost_hf.recommenders.dense import DenseRecommender


def _itself(model: Any) -> Any:
    return model


def sequence_training(
    name: str,
    recommender_class: type[DenseRecommender],
    options: SequenceOptions,
    workspace: Workspace,
    *,
    seed: int,
    model_class: type[PreTrainedModel] | None = None,
    fields: Mapping[str, Any] | None = None,
    recommends: Callable[[Any], Any] = _itself,
    inputs: Sequence[Any] = (),
    make_trainer: Callable[..., SequenceTrainer] | None = None,
) -> DenseTraining:
    """Return the training of a model of sequences on the training part of a workspace.

    Args:
        name: of the method.
        recommender_class: whose model is trained.
        options: of the recipe.
        workspace: its data.
        seed: of weights, order of users, dropout and negatives.
        model_class: trained, where it is not the recommender's.
        fields: of its configuration, beside those of section `model`.
        recommends: returns the recommender's model from the one that is trained.
        inputs: content of files that weights depend on, too.
        make_trainer: as in `train_sequences`.
    """
    vectors = None if options.model.inputs == "ids" else workspace.text_vectors().vectors
    split = workspace.data.split

    def fit(folder: Path, validate: Validate) -> TrainedModel:
        model: Any = build_model(
            model_class or recommender_class.model_class,
            options.model,
            num_items=workspace.data.tables.num_items,
            text_dim=None if vectors is None else vectors.shape[1],
            seed=seed,
            **(fields or {}),
        )
        trained = train_sequences(
            model,
            split.train,
            item_vectors=vectors,
            options=options,
            validate=lambda model: validate(recommends(model)),
            output_dir=folder,
            seed=seed,
            weights=split.label_weights(),
            make_trainer=make_trainer,
        )
        return TrainedModel(recommends(trained.model), trained.history)

    return DenseTraining(
        name,
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
