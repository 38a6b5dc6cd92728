"""The trainer of CoSeRec: SASRec's loss, and a contrastive loss over two augmented views of every sequence."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback

from cost_hf.data.splits import Split
from cost_hf.methods.contrastive import contrastive_loss, pooled
from cost_hf.methods.coserec.augmentation import Augmentation
from cost_hf.methods.coserec.correlation import MostSimilar, better_of, by_clicks, by_vectors
from cost_hf.methods.coserec.options import AugmentationOptions
from cost_hf.methods.sasrec.training import SequenceTrainer
from cost_hf.semantic_ids.catalog_files import read_reference
from cost_hf.semantic_ids.prefix_groups import PrefixGroups


class CoSeRecTrainer(SequenceTrainer):
    """Trainer that adds the contrastive loss of CoSeRec (arXiv 2108.06479, eq. 11) to that of a model of sequences.

    Views are further histories of the same forward pass. With a weight of 0 there are none, nothing is drawn, and the
    training is SASRec's bit for bit.

    Args:
        augmentation: recipe section.
        clicked: most similar items by clicks.
        groups: items whose semantic IDs begin alike, for similar items by prefix.
    """

    def __init__(
        self,
        *args: Any,
        augmentation: AugmentationOptions,
        clicked: MostSimilar,
        groups: PrefixGroups | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._options = augmentation
        self._augmentation = Augmentation(
            augmentation.rates(), short=augmentation.short_operators, short_length=augmentation.short_length
        )
        device = self.args.device
        self._clicked = MostSimilar(clicked.items.to(device), clicked.scores.to(device))
        self._similar = self._clicked.items
        self._groups = groups
        self.add_callback(_AtEpochs(self))

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch."""
        if not self._options.weight:
            return super().compute_loss(model, inputs, *args, **kwargs)
        return_outputs = kwargs.pop("return_outputs", False)
        histories = inputs["histories"]
        first = self._augmentation.views(histories, self._similar)
        second = self._augmentation.views(histories, self._similar)
        everything = inputs | {"histories": torch.cat([histories, first.rows, second.rows])}
        loss, outputs = super().compute_loss(model, everything, *args, return_outputs=True, **kwargs)
        lengths = torch.cat([first.lengths, second.lengths])
        views = pooled(outputs.hidden_states[len(histories) :], lengths, self._options.pooling)
        loss = loss + self._options.weight * contrastive_loss(
            *views.chunk(2), similarity=self._options.similarity, temperature=self._options.temperature
        )
        return (loss, outputs) if return_outputs else loss

    def update_similar(self, epoch: int) -> None:
        """Find similar items anew before an epoch: by prefix, or by the present item vectors where these count."""
        if self._groups is not None:
            generator = np.random.default_rng([self.args.seed, epoch])
            drawn = self._groups.others(np.arange(len(self._similar)), generator)
            self._similar = torch.from_numpy(drawn).to(self.args.device)
            return
        if self._options.correlation == "clicks" or not self._options.weight:
            return
        if self._options.correlation == "hybrid" and epoch < self._options.warm_up_epochs:
            return
        model = self.accelerator.unwrap_model(self.model)
        with torch.no_grad():
            learned = by_vectors(model.item_table(self._item_vectors))
        is_hybrid = self._options.correlation == "hybrid"
        self._similar = (better_of(self._clicked, learned) if is_hybrid else learned).items


class _AtEpochs(TrainerCallback):
    """Updates the most similar items before every epoch; a continued run does so from the weights of its checkpoint."""

    def __init__(self, trainer: CoSeRecTrainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Update before an epoch."""
        self.trainer.update_similar(int(state.epoch or 0))


def trainer_of(augmentation: AugmentationOptions, split: Split, item_ids: Sequence[str]) -> "partial[CoSeRecTrainer]":
    """Return what makes a trainer for the training part of a split over the items of a catalog."""
    groups = None
    if augmentation.identifiers is not None:
        _, codes = read_reference(augmentation.identifiers, item_ids)
        groups = PrefixGroups(codes, prefix=augmentation.shared_codes)
    clicked = by_clicks(split.train, len(item_ids))
    return partial(CoSeRecTrainer, augmentation=augmentation, clicked=clicked, groups=groups)
