"""Training FAMAE with `Trainer`, selected on its metric 1 on validation users; a killed run resumes bit for bit.

Every click of the training part with a click before it is the target of one window of at most `max_items` clicks. Which
of its fields are masked, and the negatives that a batch shares, are drawn from the random state that checkpoints
restore. Only items that are in a training sequence have an id embedding, and only their values are in the vocabulary:
an item that occurs as an evaluation target alone is not added to the training, which the paper does.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from torch import Tensor
from torch.utils.data import Dataset

from cost_hf.checkpoints import forget_generation_settings
from cost_hf.data.errors import DataError
from cost_hf.data.prepare import PreparedData
from cost_hf.data.splits import Split, Targets
from cost_hf.data.text_vectors import TextVectors
from cost_hf.files import content_digest, write_json
from cost_hf.generators.collation import PrefixDataset, pad_rows
from cost_hf.generators.ranking_trainer import (
    RankingTrainer,
    checkpoints_of,
    remove_checkpoints,
)
from cost_hf.item_vectors.famae.configuration_famae import FamaeConfig
from cost_hf.item_vectors.famae.encoder import FamaeItemEncoder
from cost_hf.item_vectors.famae.fields import FieldVocabulary, render_fields
from cost_hf.item_vectors.famae.modeling_famae import MISSING, PAD, FamaeModel
from cost_hf.item_vectors.famae.options import FamaeOptions

TRAINING_LOG = "training_log.json"
TOP_K = 10
METRIC_1 = f"target_recall@{TOP_K}"  # all fields of the target masked
METRIC_2 = f"item_id_recall@{TOP_K}"  # its id alone masked


def fit_famae(data: PreparedData, options: FamaeOptions, *, output_dir: str | Path) -> None:
    """Train FAMAE and write the vectors of all items, `[N, J * d]`, their encoder and the log of the training.

    Args:
        data: tables and split; the training part and, for the choice of the epoch, validation cases are read.
        options: recipe section `vectors`.
        output_dir: gets what `TextVectors.load` reads, and `encoder/`.

    Raises:
        DataError: for a field without values, or a training part without two clicks of a user.
    """
    folder = Path(output_dir)
    texts = render_fields(data.tables.items, options.fields)
    is_trained = trained_rows(data.split, len(texts))
    vocabulary = FieldVocabulary.of(options.fields, texts, is_trained)
    values = vocabulary.numbers(texts)  # [N, J]
    trainer = famae_trainer(data.split, values, vocabulary.sizes, options, output_dir=folder)
    model = trainer.fit()
    forget_generation_settings(model)
    metrics = famae_metrics(model, data.split.validation, values, batch_size=options.batch_size)
    if not PartialState().is_main_process:
        return
    encoder = FamaeItemEncoder(options, vocabulary, model.cpu())
    encoder.save(folder / "encoder")
    description = {
        "kind": options.kind,
        "fields": dict(zip(("item_id", *vocabulary.fields), map(len, vocabulary.values), strict=True)),
        "items_without_training_click": int((~is_trained).sum()),
        "epochs": trainer.state.epoch,
        "validation": {**metrics, "cases": len(data.split.validation)},
    }
    write_json(folder / TRAINING_LOG, trainer.state.log_history)
    TextVectors(encoder.encode(texts), tuple(texts), content_digest(texts), encoder.digest, description).save(folder)
    remove_checkpoints(folder)


def trained_rows(split: Split, num_items: int) -> np.ndarray:
    """Return which items are in a training sequence, bool `[N]`."""
    return np.bincount(np.concatenate([np.empty(0, np.int64), *split.train]), minlength=num_items) > 0


def famae_trainer(
    split: Split, values: np.ndarray, sizes: Sequence[int], options: FamaeOptions, *, output_dir: Path
) -> "FamaeTrainer":
    """Return the trainer of a fresh model.

    Args:
        split: training sequences and validation cases over catalog rows.
        values: of the fields of all items, int64 `[N, J]`.
        sizes: number of values of every field.
        options: of the model and its training.
        output_dir: holds `checkpoints/` while the run is going on.

    Raises:
        DataError: where no user has two training clicks.
    """
    prefixes = PrefixDataset(
        split.train,
        [str(user) for user in split.train_user_ids],
        max_history=options.max_items - 1,
        weights=split.label_weights(),
    )
    if not len(prefixes):
        raise DataError(
            f"the training part holds no user with two clicks ({len(split.train)} users), so FAMAE has no target; "
            "lower data.min_user_interactions, or give longer histories"
        )
    sample = split.validation.sample(options.validation_users, seed=options.seed)

    def validate(model: Any) -> dict[str, float]:
        return famae_metrics(model, sample, values, batch_size=options.batch_size)

    set_seed(options.seed)
    return FamaeTrainer(
        build_famae(options, sizes),
        options.training,
        dataset=WindowDataset(prefixes),
        collator=FieldCollator(values),
        directory=checkpoints_of(output_dir),
        seed=options.seed,
        validate=validate if len(sample) else None,
        selected_by=METRIC_1,
        num_negatives=options.num_negatives,
        full_softmax_values=options.full_softmax_values,
    )


def build_famae(options: FamaeOptions, sizes: Sequence[int]) -> FamaeModel:
    """Return an untrained model whose weights depend on the seed of the options alone."""
    config = FamaeConfig(
        vocab_sizes=list(sizes),
        hidden_size=options.dim,
        num_layers=options.num_layers,
        num_heads=options.num_heads,
        intermediate_size=options.intermediate_size,
        dropout=options.dropout,
        max_length=options.max_items,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        return FamaeModel(config)


class WindowDataset(Dataset):
    """Windows of clicks, oldest first, the target last, each with the weight of its loss."""

    def __init__(self, prefixes: PrefixDataset):
        self.prefixes = prefixes
        self.lengths = prefixes.lengths + 1

    def __len__(self) -> int:
        return len(self.prefixes)

    def __getitem__(self, index: int) -> tuple[np.ndarray, float]:
        _, history, target = self.prefixes[index]
        weights = self.prefixes.label_weights(index)
        return np.append(history, target), 1.0 if weights is None else float(weights[0])


class FieldCollator:
    """Makes windows of catalog rows the fields of items, padded at the old end.

    Args:
        values: of the fields of all items, int64 `[N, J]`.
    """

    def __init__(self, values: np.ndarray):
        self.values = torch.from_numpy(values)

    def __call__(self, examples: Sequence[tuple[np.ndarray, float]]) -> dict[str, Tensor]:
        """Return `fields` int64 `[B, T, J]`, -1 where there is no item, and `label_weights` `[B]`."""
        rows = pad_rows([rows for rows, _ in examples], on_the_left=True)
        weights = torch.tensor([weight for _, weight in examples], dtype=torch.float32)
        return {"fields": field_values(self.values, rows), "label_weights": weights}


def field_values(values: Tensor, rows: Tensor) -> Tensor:
    """Return the fields of items by their rows, int64 `[..., J]`, -1 where the row is -1."""
    return values[rows.clamp_min(0)].masked_fill((rows < 0)[..., None], PAD)


class FamaeTrainer(RankingTrainer):
    """Ranking trainer that draws what is masked and the negatives of a batch.

    Args:
        num_negatives: S, values that the targets of a field are compared with.
        full_softmax_values: fields with up to so many values are compared with all of them.
    """

    def __init__(self, *args: Any, num_negatives: int, full_softmax_values: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._num_negatives = num_negatives
        self._full_softmax_values = full_softmax_values

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch."""
        fields = inputs["fields"]
        config = self.accelerator.unwrap_model(model).config
        drawn = {
            "masked": draw_masks(fields[:, -1]),
            "negatives": [self._negatives(size - 1, fields.device) for size in config.vocab_sizes],
        }
        return super().compute_loss(model, inputs | drawn, *args, **kwargs)

    def _negatives(self, count: int, device: torch.device) -> Tensor | None:
        """Return values drawn uniformly from 1 … count, `[S]`; None where a field is compared with all."""
        if count <= max(self._full_softmax_values, self._num_negatives):
            return None
        return torch.randint(1, count + 1, (self._num_negatives,), device=device)


def draw_masks(targets: Tensor) -> Tensor:
    """Draw the fields of targets that are masked: K of 1 … J at random, then K fields; those that a target has.

    Args:
        targets: field values, int64 `[B, J]`, 0 where one is missing.

    Returns:
        bool `[B, J]`; at least one field of every target that has one.
    """
    is_known = targets != MISSING
    counts = is_known.sum(1)
    chosen = 1 + (torch.rand(len(targets), device=targets.device) * counts).long()  # K, uniform in 1 … counts
    order = torch.rand(targets.shape, device=targets.device).masked_fill(~is_known, 2.0)
    return (order.argsort(1).argsort(1) < chosen[:, None]) & is_known


@torch.inference_mode()
def famae_metrics(model: FamaeModel, cases: Targets, values: np.ndarray, *, batch_size: int) -> dict[str, float]:
    """Return both metrics of the paper: the share of targets whose id is among the 10 likeliest.

    Args:
        model: in eval mode.
        cases: of validation; a target that is in no training sequence has no id embedding and is a miss.
        values: of the fields of all items, int64 `[N, J]`.
        batch_size: cases at a time.

    Returns:
        `target_recall@10` (metric 1: all fields of the target masked) and `item_id_recall@10` (metric 2: its id alone);
        nothing without cases.
    """
    table = torch.from_numpy(values)
    most = model.config.max_length - 1
    hits = {METRIC_1: 0, METRIC_2: 0}
    for start in range(0, len(cases), batch_size):
        chosen = range(start, min(start + batch_size, len(cases)))
        windows = [np.append(cases.histories[case][-most:], cases.items[case]) for case in chosen]
        fields = field_values(table, pad_rows(windows, on_the_left=True)).to(model.device)
        ids = fields[:, -1, 0]
        hides_all = torch.ones_like(fields[:, -1], dtype=torch.bool)
        hides_id = torch.zeros_like(hides_all)
        hides_id[:, 0] = True
        for name, masked in ((METRIC_1, hides_all), (METRIC_2, hides_id)):
            hidden = model(fields, masked).hidden_states
            scores = model.scores(hidden, 0)  # [B, V - 1]
            own = scores.gather(1, (ids - 1).clamp_min(0)[:, None])
            is_hit = ((scores > own).sum(1) < TOP_K) & (ids != MISSING)
            hits[name] += int(is_hit.sum())
    return {name: count / len(cases) for name, count in hits.items()} if len(cases) else {}
