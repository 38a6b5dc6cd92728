"""What `t5_study.py` tried on T5 and the package left out: prompts, examples, optimizers and a start."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel

from cost_hf.generators.collation import PrefixDataset, pad_rows
from cost_hf.generators.generator_training import GeneratorTrainer
from cost_hf.generators.prompts import IGNORED_LABEL, Example, PromptBuilder
from cost_hf.generators.ranking_trainer import LengthGroupedSampler


@dataclass(frozen=True)
class AgePrompts(PromptBuilder):
    """Sources in which a token before every item says how many items ago it was: `[age] item [age] item … </s>`.

    The first `max_history` user tokens of the vocabulary serve as ages.
    """

    def inputs(self, histories: Tensor, *, user_ids: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
        """Return left-padded `input_ids` and `attention_mask`, both `[B, S]`."""
        rows = self._recent(histories.cpu())
        age_ids = self.vocabulary.end_id + 1 + torch.arange(rows.shape[1] - 1, -1, -1)
        tokens = torch.cat([age_ids.expand(rows.shape)[..., None], self.item_tokens[rows.clamp_min(0)]], dim=2)
        tokens = tokens.masked_fill((rows < 0)[..., None], self.vocabulary.pad_id).flatten(1)
        present = (rows >= 0).repeat_interleave(1 + self.item_tokens.shape[1], dim=1)
        end = torch.full((len(rows), 1), self.vocabulary.eos_id)
        return torch.cat([tokens, end], 1), torch.cat([present, torch.ones_like(end, dtype=torch.bool)], 1).long()

    def pair(self, user_id: str, history: np.ndarray, target: int) -> Example:
        """Return the example that learns one item behind a history."""
        source, _ = self.inputs(torch.from_numpy(history)[None])
        return Example(np.empty(0, np.int64), source[0].numpy(), self.item_tokens[target].numpy())


class NextItems(Dataset):
    """The examples of `prefixes` with the next `count` items, where there are so many, instead of one."""

    def __init__(self, prefixes: PrefixDataset, count: int):
        self.prefixes = prefixes
        self.count = count
        self.lengths = prefixes.lengths

    def __len__(self) -> int:
        return len(self.prefixes)

    def __getitem__(self, index: int) -> tuple[str, np.ndarray, np.ndarray]:
        index %= len(self)
        user, history, _ = self.prefixes[index]
        end = int(self.prefixes.ends[index])
        return user, history, self.prefixes.sequences[self.prefixes.owners[index]][end : end + self.count]


class NextItemsCollator:
    """Writes the tokens of all items that follow into one decoder row: `labels` are `[B, k * L]`."""

    def __init__(self, prompts: PromptBuilder):
        self.prompts = prompts

    def __call__(self, examples: Sequence[tuple[str, np.ndarray, Any]]) -> dict[str, Tensor]:
        """Return `input_ids` and `attention_mask` `[B, S]` and `labels` `[B, k * L]`, k targets at most."""
        users, histories, targets = zip(*examples, strict=True)
        input_ids, attention_mask = self.prompts.inputs(pad_rows(histories), user_ids=users)
        rows = pad_rows(targets)
        labels = self.prompts.labels(rows.clamp_min(0)).masked_fill((rows < 0)[..., None], IGNORED_LABEL)
        return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels.flatten(1)}


class OnePrefixSampler(LengthGroupedSampler):
    """One random prefix of every user an epoch, neighbours of similar length; a function of (seed, epoch) alone."""

    def __init__(self, prefixes: PrefixDataset, *, batch_size: int, seed: int):
        super().__init__(prefixes.lengths, batch_size=batch_size, seed=seed)
        _, self.firsts, self.counts = np.unique(prefixes.owners, return_index=True, return_counts=True)

    def __len__(self) -> int:
        return len(self.firsts)

    def __iter__(self) -> Iterator[int]:
        draw = np.random.default_rng([self.seed, self.epoch, 1])
        chosen = self.firsts + draw.integers(self.counts)
        order = LengthGroupedSampler(self.lengths[chosen], batch_size=self.batch_size, seed=self.seed)
        order.set_epoch(self.epoch)
        return iter(chosen[list(order)].tolist())


class OnePrefixTrainer(GeneratorTrainer):
    """Takes one random prefix of every user an epoch instead of all."""

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        mixture: Any = self.train_dataset
        return OnePrefixSampler(mixture.tasks[0].rows, batch_size=self.args.train_batch_size, seed=self.args.seed)


class AdafactorTrainer(GeneratorTrainer):
    """Steps relative to the size of a weight, as T5X trains: torch's Adafactor, for Trainer's makes other steps."""

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Build the optimizer once, without decay."""
        if self.optimizer is None:
            weights = (self.model if model is None else model).parameters()
            self.optimizer = torch.optim.Adafactor(weights, lr=self.args.learning_rate, weight_decay=0.0)
        return self.optimizer


def start_small(model: PreTrainedModel) -> None:
    """Shrink the shared embedding of a new T5 to deviation 0.05 and drop the factor d_model^-0.5 on its outputs."""
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(0.05)  # drawn with standard deviation 1
    model.config.scale_decoder_outputs = False
