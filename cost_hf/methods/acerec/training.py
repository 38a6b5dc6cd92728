"""Training of ACERec on the clicks of the training part, chosen by ranking the whole catalog."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cost_hf.data.encoders import ItemEncoder
from cost_hf.generators.ranking_trainer import RankingTrainer, Validate
from cost_hf.methods.acerec.configuration_acerec import AceRecConfig
from cost_hf.methods.acerec.modeling_acerec import AceRecModel
from cost_hf.methods.acerec.options import AceRecModelOptions, AceRecOptions
from cost_hf.methods.acerec.recommender import AceRecRecommender, DigitScorer
from cost_hf.methods.base import Fitted, WarmStart, Workspace
from cost_hf.methods.dense_training import DenseTraining, TrainedModel
from cost_hf.methods.sasrec.training import fit_sequences
from cost_hf.methods.training_stages import ENCODER, training_clicks
from cost_hf.quantizers.base import Quantizer
from cost_hf.recommenders.rankers import Scorer
from cost_hf.semantic_ids.catalog import Catalog


class AceRecTrainer(RankingTrainer):
    """Ranking trainer that adds what batches do not hold: digits and popularity of the catalog.

    Args:
        codes: digits of the catalog, int64 `[N, m]`.
        popularity: training clicks of every item, `[N]`.
    """

    def __init__(
        self, model: AceRecModel, *args: Any, codes: np.ndarray, popularity: np.ndarray, **kwargs: Any
    ) -> None:
        super().__init__(model, *args, **kwargs)
        self._item_tokens = model.item_tokens(torch.from_numpy(codes.copy())).to(self.args.device)
        self._popularity = torch.from_numpy(popularity).to(self.args.device)

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch."""
        shared = {"item_tokens": self._item_tokens, "popularity": self._popularity}
        return self.over_all_labels(super().compute_loss(model, inputs | shared, *args, **kwargs), inputs["labels"])


@dataclass(frozen=True, kw_only=True)
class AceRecTraining(DenseTraining):
    """A training on the items of a catalog with codes.

    Attributes:
        coded: the catalog.
        quantizer: of its codes; None for codes that came without a model.
    """

    coded: Catalog
    quantizer: Quantizer | None

    def catalog(self, workspace: Workspace) -> Catalog:
        """Return the items with their codes."""
        return self.coded

    def scorer(self, model: AceRecModel) -> Scorer:
        """Return the look-up of digits."""
        return DigitScorer(model, self.coded.codes)

    def parts(self, workspace: Workspace) -> dict[str, Any]:
        """Return quantizer and text encoder; codes without a model need neither."""
        has_model = self.quantizer is not None
        encoder = ItemEncoder.load(workspace.stages.output_dir / ENCODER) if has_model else None
        return {"quantizer": self.quantizer, "encoder": encoder}

    def inputs(self, workspace: Workspace) -> list[Any]:
        """Return the digests of catalog and codes."""
        return [self.coded.digest, self.coded.quantizer_digest, list(self.coded.level_sizes)]


def acerec_training(
    options: AceRecOptions, workspace: Workspace, catalog: Catalog, quantizer: Quantizer | None, *, seed: int
) -> AceRecTraining:
    """Return the training of ACERec on the training part of a workspace.

    Args:
        options: of the recipe.
        workspace: its data.
        catalog: the items with their codes.
        quantizer: of these codes.
        seed: of weights, order of users and dropout.
    """
    split = workspace.data.split

    def fit(folder: Path, validate: Validate) -> TrainedModel:
        return train_acerec(
            build_acerec(options.model, catalog, seed=seed),
            split.train,
            catalog.codes,
            training_clicks(workspace),
            options=options,
            validate=validate,
            output_dir=folder,
            seed=seed,
            weights=split.label_weights(),
        )

    return AceRecTraining(
        "acerec",
        AceRecRecommender,
        content={"model": dataclasses.asdict(options.model), "training": options.training.content()},
        fit=fit,
        seed=seed,
        validation_users=options.training.validation_users,
        coded=catalog,
        quantizer=quantizer,
    )


def warm_start(options: AceRecOptions, recommender: AceRecRecommender, start: WarmStart) -> Fitted:
    """Train a model on from its weights; codes and quantizer stay."""
    popularity = start.split.popularity(len(recommender.catalog))
    trained = train_acerec(
        recommender.model,
        start.split.train,
        recommender.catalog.codes,
        popularity,
        options=dataclasses.replace(options, training=start.training(options.training)),
        validate=None,
        output_dir=start.folder,
        seed=start.seed,
        weights=start.split.label_weights(),
    )
    return Fitted(recommender.after_training(popularity), {"training": trained.history})


def train_acerec(
    model: AceRecModel,
    sequences: Sequence[np.ndarray],
    codes: np.ndarray,
    popularity: np.ndarray,
    *,
    options: AceRecOptions,
    validate: Validate | None,
    output_dir: str | Path,
    seed: int,
    weights: Sequence[np.ndarray] | None = None,
) -> TrainedModel:
    """Train a model in place on all positions of all users; a killed run continues.

    Args:
        model: a fresh one, or one that was trained before.
        sequences, validate, output_dir, seed, weights: as for `fit_sequences`.
        codes: digits of the catalog, int64 `[N, m]`.
        popularity: training clicks of every item, `[N]`.
        options: of the recipe.
    """
    options.validate()
    return fit_sequences(
        partial(AceRecTrainer, codes=codes, popularity=popularity),
        model,
        sequences,
        training=options.training,
        max_history=options.model.max_history,
        validate=validate,
        output_dir=output_dir,
        seed=seed,
        weights=weights,
    )


def build_acerec(options: AceRecModelOptions, catalog: Catalog, *, seed: int) -> AceRecModel:
    """Return an untrained model whose weights depend on `seed` alone.

    Args:
        options: recipe section `model`.
        catalog: gives the sizes of the levels.
        seed: of the weights.
    """
    config = AceRecConfig(
        level_sizes=catalog.level_sizes, assignment_digest=catalog.quantizer_digest, **dataclasses.asdict(options)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AceRecModel(config)
