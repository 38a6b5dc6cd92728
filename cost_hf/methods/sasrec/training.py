"""Training models of sequences with `Trainer`, selected by ranking; a killed run continues bit for bit.

Every item of a user is a label once, all positions in one pass. Item vectors are the same for every batch and stay on
the device; negatives of the sampled losses are drawn there too, from the random state that checkpoints restore.
"""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from cost_hf.checkpoints import forget_generation_settings
from cost_hf.data.row_lists import RowLists
from cost_hf.generators.collation import SequenceDataset, pad_rows
from cost_hf.generators.options import RankingTrainingOptions
from cost_hf.generators.prompts import IGNORED_LABEL
from cost_hf.generators.ranking_trainer import RankingTrainer, Validate, checkpoints_of
from cost_hf.methods.dense_training import TrainedModel
from cost_hf.methods.negatives import SharedNegatives, draw_negatives
from cost_hf.methods.sasrec.objectives_sasrec import POSITIONS_PER_CHUNK
from cost_hf.methods.sasrec.options import AUTO, FULL_LOSS_BYTES, SequenceModelOptions, SequenceOptions

logger = logging.getLogger(__name__)
WEIGHTED = 4  # members of an example with weights
ModelT = TypeVar("ModelT", bound=PreTrainedModel)


def train_sequences(
    model: PreTrainedModel,
    sequences: Sequence[np.ndarray],
    *,
    item_vectors: np.ndarray | None,
    options: SequenceOptions,
    validate: Validate | None,
    output_dir: str | Path,
    seed: int,
    weights: Sequence[np.ndarray] | None = None,
    make_trainer: "Callable[..., SequenceTrainer] | None" = None,
) -> TrainedModel:
    """Train a model in place, keep the checkpoint with the best validation NDCG@10, continue a killed run.

    Args:
        model: for the items of the sequences, a fresh one or one that was trained before; its configuration is that of
            `options.model`.
        sequences: catalog rows of every training user, oldest first; users with one item teach nothing.
        item_vectors: frozen item vectors `[N, E]`; used with inputs text or both alone.
        options: sizes and training.
        validate: ranks the validation sample with a model and returns metrics, `ndcg@10` among them; None trains the
            given epochs and keeps the last weights.
        output_dir: holds `checkpoints/` while the run is going on.
        seed: of the order of users, of dropout and of negatives.
        weights: of the loss of every item, float32 arrays like `sequences`, of mean 1; 0 is no label. None where all
            are 1.
        make_trainer: called as `SequenceTrainer`, which is the default; a method that adds to the loss has its own.
    """
    options.validate()
    own = options.model
    vectors = _checked_vectors(item_vectors, own, model.config.num_items if model.config.has_ids else None)
    lists = RowLists.of(sequences)
    shared = None
    if model.config.loss == "sampled_softmax":
        clicks = np.zeros(model.config.num_items if vectors is None else len(vectors), dtype=np.int64)
        for rows in lists.blocks():
            clicks += np.bincount(rows, minlength=len(clicks))
        shared = (clicks, own.shared_negatives)
    make = partial(
        make_trainer or SequenceTrainer,
        item_vectors=vectors,
        num_negatives=own.num_negatives,
        shared_negatives=shared,
    )
    return fit_sequences(
        make,
        model,
        lists,
        training=options.training,
        max_history=own.max_history,
        draws_negatives=model.config.loss == "binary",
        validate=validate,
        output_dir=output_dir,
        seed=seed,
        weights=weights,
    )


def fit_sequences(
    make_trainer: Callable[..., RankingTrainer],
    model: PreTrainedModel,
    sequences: Sequence[np.ndarray],
    *,
    training: RankingTrainingOptions,
    max_history: int,
    validate: Validate | None,
    output_dir: str | Path,
    seed: int,
    weights: Sequence[np.ndarray] | None = None,
    draws_negatives: bool = False,
) -> TrainedModel:
    """Train a model in place on histories and the item behind every position; a killed run continues.

    Args:
        make_trainer: called as `RankingTrainer`; adds to batches what a method's loss reads besides.
        model: its `forward` takes `histories` and `labels`, and `label_weights` where there are weights.
        sequences, validate, output_dir, seed, weights: as for `train_sequences`.
        training: of the optimisation.
        max_history: most recent items that are read.
        draws_negatives: whether batches hold all items of their users, from which negatives are drawn.
    """
    lists = RowLists.of(sequences)
    teaches = lists.lengths > 1
    lists = lists.take(teaches)
    # users have names where their known items are looked up, and else none: a million strings are 50 MB
    names = [str(number) for number in range(len(lists))] if draws_negatives else [""] * len(lists)
    dataset = SequenceDataset(
        lists,
        names,
        max_items=max_history + 1,
        weights=None if weights is None else RowLists.of(weights).take(teaches),
        num_unlabelled=1,
    )
    if not len(dataset):
        raise ValueError(
            f"the training part holds no user with two items, or none whose later ones are learned ({len(sequences)} "
            "users); lower data.min_user_interactions, give longer histories, or raise data.event_weights"
        )
    trainer = make_trainer(
        model,
        training,
        dataset=dataset if weights is None else WeightedSequences(dataset),
        collator=HistoryCollator(dict(zip(names, lists, strict=True)) if draws_negatives else None),
        directory=checkpoints_of(output_dir),
        seed=seed,
        validate=validate,
    )
    trained = trainer.fit()
    forget_generation_settings(trained)
    return TrainedModel(trained, trainer.state.log_history)


def build_model(
    model_class: type[ModelT],
    options: SequenceModelOptions,
    *,
    num_items: int,
    text_dim: int | None,
    seed: int,
    **fields: Any,
) -> ModelT:
    """Return an untrained model whose weights depend on `seed` alone.

    Args:
        model_class: its configuration has the fields of `options`.
        options: recipe section `model`.
        num_items: N.
        text_dim: width of the item vectors that it reads; None for ids alone.
        seed: of the weights.
        fields: of the configuration beside those of `options`.
    """
    sizes = dataclasses.asdict(options)
    for name in ("num_negatives", "shared_negatives"):  # of the training alone
        del sizes[name]
    sizes["loss"] = chosen_loss(options, num_items=num_items)
    config = model_class.config_class(num_items=num_items, text_dim=text_dim, **sizes, **fields)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_class(config)


def chosen_loss(options: SequenceModelOptions, *, num_items: int) -> str:
    """Return the loss of the options; for `auto`, that by the memory which the full softmax over N items would take."""
    if options.loss != AUTO:
        return options.loss
    needed = full_loss_bytes(options, num_items=num_items)
    loss = "cross_entropy" if needed <= FULL_LOSS_BYTES else "sampled_softmax"
    logger.info(
        "model.loss auto is %s: the softmax over all %d items would take about %d MB a step besides the weights, and "
        "at most %d MB are allowed",
        loss,
        num_items,
        needed >> 20,
        FULL_LOSS_BYTES >> 20,
    )
    return loss


def full_loss_bytes(options: SequenceModelOptions, *, num_items: int) -> int:
    """Return about how much memory a step of the full softmax over N items takes besides the weights.

    It holds logits of a chunk of positions, their probabilities and a copy in the precision of the gradients, and the
    table of targets with its gradient. Where texts are encoded, there are the hidden layer of their network before and
    behind its activation, a gradient of it, and two parts of the table. A sampled loss holds none of these.
    """
    numbers = 3 * POSITIONS_PER_CHUNK + 2 * options.hidden_size  # of an item
    if options.inputs != "ids":
        numbers += 3 * options.text_hidden_size + 2 * options.hidden_size
    return torch.float32.itemsize * num_items * numbers


class WeightedSequences(Dataset):
    """Sequences with the weight of every item, 0 where it is no label."""

    def __init__(self, sequences: SequenceDataset):
        self.sequences = sequences
        self.lengths = sequences.lengths

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> tuple[str, np.ndarray, int, np.ndarray]:
        user, rows, first = self.sequences[index]
        weights = np.zeros(len(rows), dtype=np.float32)
        weights[first:] = self.sequences.label_weights(index)
        return user, rows, first, weights


class HistoryCollator:
    """Histories and the item behind every position, right-padded.

    Args:
        known: all items of every user, by the user's id; given where negatives are to be drawn.
    """

    def __init__(self, known: dict[str, np.ndarray] | None = None):
        self.known = known

    def __call__(self, examples: Sequence[Any]) -> dict[str, Tensor]:
        """Return `histories` and `labels` `[B, T]`, and `known` `[B, S]`, padded with -1, where negatives are drawn.

        Args:
            examples: of `SequenceDataset` or, for `label_weights` `[B, T]` beside the labels, of `WeightedSequences`.
        """
        rows = pad_rows([example[1] for example in examples])
        following = rows[:, 1:]
        first = torch.tensor([example[2] for example in examples])[:, None]
        is_label = (following >= 0) & (torch.arange(1, rows.shape[1]) >= first)
        batch = {"histories": rows[:, :-1]}
        if len(examples[0]) == WEIGHTED:
            weights = [torch.from_numpy(example[3]) for example in examples]
            batch["label_weights"] = nn.utils.rnn.pad_sequence(weights, batch_first=True)[:, 1:]
            is_label &= batch["label_weights"] > 0
        batch["labels"] = following.masked_fill(~is_label, IGNORED_LABEL)
        if self.known is not None:
            batch["known"] = pad_rows([self.known[example[0]] for example in examples])
        return batch


class SequenceTrainer(RankingTrainer):
    """Ranking trainer that adds what batches do not hold: item vectors and sampled negatives.

    Args:
        item_vectors: frozen item vectors `[N, E]`, for models with text inputs.
        num_negatives: K, sampled items per position, where batches hold `known` items.
        shared_negatives: clicks of every item in the training part, `[N]`, and draws of a step, for the sampled
            softmax; None for other losses.
    """

    def __init__(
        self,
        *args: Any,
        item_vectors: Tensor | None,
        num_negatives: int,
        shared_negatives: tuple[np.ndarray, int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._shared_negatives = None
        if shared_negatives is not None:
            self._shared_negatives = SharedNegatives(*shared_negatives, device=self.args.device)
        self._item_vectors = None if item_vectors is None else item_vectors.to(self.args.device)
        self._num_negatives = num_negatives

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch."""
        known = inputs.pop("known", None)
        if known is not None:
            num_items = self.accelerator.unwrap_model(model).config.num_items
            length = inputs["labels"].shape[1]
            drawn = draw_negatives(known, length * self._num_negatives, num_items=num_items)
            inputs["negatives"] = drawn.view(len(known), length, self._num_negatives)
        if self._shared_negatives is not None:
            inputs["negatives"], inputs["log_expected"] = self._shared_negatives.draw()
        found = super().compute_loss(model, inputs | {"item_vectors": self._item_vectors}, *args, **kwargs)
        return self.over_all_labels(found, inputs["labels"])


def _checked_vectors(
    item_vectors: np.ndarray | None, options: SequenceModelOptions, num_items: int | None
) -> Tensor | None:
    """Return the item vectors that a model reads; raise ValueError where it has none, or those of other items."""
    if options.inputs == "ids":
        return None
    if item_vectors is None or len(item_vectors) != (len(item_vectors) if num_items is None else num_items):
        raise ValueError(
            f"model.inputs={options.inputs!r} needs one item vector for each of {num_items!r} items, got "
            f"{None if item_vectors is None else len(item_vectors)!r}; give those of the vectors section"
        )
    return torch.from_numpy(np.ascontiguousarray(item_vectors, dtype=np.float32))
