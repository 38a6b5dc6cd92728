"""The trainer of CoSeRec: SASRec's loss, and a contrastive loss over two augmented views of every sequence."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from cost_hf.data.splits import Split
from cost_hf.methods.contrastive import contrastive_loss, pooled
from cost_hf.methods.coserec.augmentation import Augmentation
from cost_hf.methods.coserec.correlation import MostSimilar, better_of, by_clicks, by_vectors
from cost_hf.methods.coserec.options import AugmentationOptions
from cost_hf.methods.sasrec.training import SequenceTrainer


class CoSeRecTrainer(SequenceTrainer):
    """Trainer that adds the contrastive loss of CoSeRec (arXiv 2108.06479, eq. 11) to that of a model of sequences.

    Views are further histories of the same forward pass. With a weight of 0 there are none, nothing is drawn, and the
    training is SASRec's bit for bit.

    Args:
        augmentation: recipe section.
        clicked: most similar items by clicks.
    """

    def __init__(self, *args: Any, augmentation: AugmentationOptions, clicked: MostSimilar, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._options = augmentation
        self._augmentation = Augmentation(
            augmentation.rates(), short=augmentation.short_operators, short_length=augmentation.short_length
        )
        device = self.args.device
        self._clicked = MostSimilar(clicked.items.to(device), clicked.scores.to(device))
        self._similar = self._clicked.items
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
        """Find the most similar items by the present item vectors, from the epoch on in which these count."""
        if self._options.correlation == "clicks" or not self._options.weight:
            return
        if self._options.correlation == "hybrid" and epoch < self._options.warm_up_epochs:
            return
        model = self.accelerator.unwrap_model(self.model)
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


def trainer_of(augmentation: AugmentationOptions, split: Split, num_items: int) -> "partial[CoSeRecTrainer]":
    """Return what makes a trainer for the training part of a split over N items."""
    return partial(CoSeRecTrainer, augmentation=augmentation, clicked=by_clicks(split.train, num_items))
