"""The parts of benchmarks/training.py: generators, batches of real histories that stand for an epoch, and steps."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import zipf_codes
from torch import Tensor
from transformers import PreTrainedModel, T5Config, T5ForConditionalGeneration

from cost_hf.data import DataOptions, read_tables, split_interactions
from cost_hf.generators.backbones import GeneratorOptions, build_backbone
from cost_hf.generators.collation import CausalCollator, PrefixDataset, Seq2SeqCollator, SequenceDataset
from cost_hf.generators.dropout import add_residual_dropout
from cost_hf.generators.packing import pack
from cost_hf.generators.prompts import PromptBuilder
from cost_hf.generators.ranking_trainer import LengthGroupedSampler, ShuffledSampler
from cost_hf.generators.tasks import NextItemTask
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.vocabulary import SidVocabulary

SHAPES = {"amazon_industrial": (64, 64), "amazon_games": (128, 256)}  # of the recipes: batch size, codes a level
LEVELS = 4
MAX_HISTORY = 20
DROPOUT = 0.2
# random choices of batches, and how far the best may be from the epoch
CHOICES = 4_000
TOLERANCE = 0.02
EQUAL_T5: dict[
    str, dict[str, int]
] = {  # as many weights as causal `small`: as wide as it, or as deep as published ones
    "0.6 M, 2+2 layers": {"d_model": 128, "d_ff": 192, "d_kv": 32, "num_heads": 4, "num_layers": 2},
    "0.6 M, 4+4 layers": {"d_model": 64, "d_ff": 256, "d_kv": 32, "num_heads": 4, "num_layers": 4},
}


@dataclass(frozen=True)
class Histories:
    """Training sequences of a data set under made-up SIDs."""

    name: str
    batch_size: int
    sequences: list[np.ndarray]
    user_ids: list[str]
    catalog: Catalog

    @classmethod
    def read(cls, directory: Path, name: str, *, batch_size: int | None) -> "Histories":
        """Read and split one of the data sets below `directory`; a batch size of None is the recipe's."""
        recipe_batch_size, size = SHAPES[name]
        options = DataOptions(path=str(directory / name))
        tables = read_tables(options)
        split = split_interactions(tables, options)
        codes = zipf_codes(tables.num_items, levels=LEVELS, size=size)
        ids = [str(row) for row in range(tables.num_items)]
        catalog = Catalog.from_codes(ids, codes, level_sizes=[size] * LEVELS, collisions="none")
        return cls(name, batch_size or recipe_batch_size, list(split.train), list(split.train_user_ids), catalog)


class Setup:
    """A generator, its examples, their collator and the sampler of their order.

    Args:
        data: the histories.
        kind: causal or seq2seq.
        size: of the generator, or a key of EQUAL_T5.
        users: the first so many users alone; None takes all.
        batch_size: examples of a step; None takes the recipe's.
    """

    def __init__(
        self, data: Histories, kind: str, size: str, *, users: int | None = None, batch_size: int | None = None
    ):
        self.kind = kind
        self.batch_size = batch_size or data.batch_size
        vocabulary = SidVocabulary.for_catalog(data.catalog)
        if size in EQUAL_T5:
            self.model: PreTrainedModel = _equal_t5(vocabulary, **EQUAL_T5[size])
        else:
            options = GeneratorOptions(kind=kind, size=size, max_history=MAX_HISTORY, dropout=DROPOUT)
            self.model = build_backbone(options, data.catalog, seed=0).model
        is_causal = kind == "causal"
        self.prompts = PromptBuilder.for_catalog(data.catalog, vocabulary, is_causal=is_causal, max_history=MAX_HISTORY)
        sequences = data.sequences[:users]
        owners = data.user_ids[:users]
        self.rows: Any
        self.collate: Callable[..., dict[str, Tensor]]
        if is_causal:
            add_residual_dropout(self.model, DROPOUT)
            self.rows = SequenceDataset(sequences, owners, max_items=MAX_HISTORY + 1)
            self.collate = CausalCollator(vocabulary.pad_id)
        else:
            self.rows = PrefixDataset(sequences, owners, max_history=MAX_HISTORY)
            self.collate = Seq2SeqCollator(vocabulary.pad_id)
        self.dataset = NextItemTask(self.rows, [self.prompts])
        self.model.config.use_cache = False

    @property
    def steps_per_epoch(self) -> int:
        """Batches of all examples, the last one short."""
        return math.ceil(len(self.dataset) / self.batch_size)

    def order(self, *, is_grouped: bool) -> Any:
        """Return a sampler of all examples."""
        if is_grouped:
            return LengthGroupedSampler(self.rows.lengths, batch_size=self.batch_size, seed=0)
        return ShuffledSampler(len(self.dataset), seed=0)


class TrainingRun:
    """Steps over a choice of an epoch's batches that stands for all of them; a call makes every step.

    Args:
        setup: generator, examples and their order.
        collate: makes the batches, within the time that is measured.
        is_grouped: whether a batch holds examples of similar length.
        steps: batches of a call, or all where an epoch has fewer.
        device: cpu or cuda.
        is_bf16: trains under autocast.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        collate: Callable[..., dict[str, Tensor]],
        is_grouped: bool,
        steps: int,
        device: str,
        is_bf16: bool,
    ):
        self.setup = setup
        self.collate = collate
        self.device = device
        self.is_bf16 = is_bf16
        order = np.array(list(setup.order(is_grouped=is_grouped)))
        batches = [order[start : start + setup.batch_size] for start in range(0, len(order), setup.batch_size)]
        full = [batch for batch in batches if len(batch) == setup.batch_size] or batches
        chosen = representative(np.array([self._work(batch) for batch in full], dtype=np.float64), steps)
        self.rows = [full[number] for number in chosen]
        self.batches = [[setup.dataset[int(row)] for row in batch] for batch in self.rows]
        self.model = setup.model.to(device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)

    def __call__(self) -> None:
        """Make every step."""
        for examples in self.batches:
            batch = {name: values.to(self.device) for name, values in self.collate(examples).items()}
            with torch.autocast(self.device, torch.bfloat16, enabled=self.is_bf16):
                loss = self.model(**batch).loss
            bare_step(self.model, self.optimizer, loss)

    @property
    def steps(self) -> int:
        """Batches in a call."""
        return len(self.batches)

    def counts(self) -> tuple[int, int, int, int]:
        """Return cells of the input, real tokens in them, targets and targets with a history, over a call."""
        cells = sum(self.collate(examples)["input_ids"].numel() for examples in self.batches)
        tokens = sum(int(self.setup.dataset.lengths[batch].sum()) for batch in self.rows)
        return cells, tokens, *self._targets([example for batch in self.batches for example in batch])

    def _targets(self, examples: Sequence[Any]) -> tuple[int, int]:
        if self.setup.kind == "seq2seq":
            return len(examples), len(examples)
        targets = sum(len(example.target) for example in examples) // LEVELS
        return targets, targets - sum(len(example.source) == 1 for example in examples)  # firsts have no history

    def _work(self, batch: np.ndarray) -> tuple[int, ...]:
        """Return cells of a batch's input, as its collator lays it out, real tokens in them and both kinds of targets.

        Computed from lengths: collating an epoch would take longer than the steps that are timed.
        """
        tokens = self.setup.dataset.lengths[batch]
        cells = len(tokens) * int(tokens.max())
        if isinstance(self.collate, CausalCollator) and self.collate.packs:
            packing = pack(tokens)
            cells = packing.num_rows * packing.width
        return cells, int(tokens.sum()), *self._targets([self.setup.dataset[int(row)] for row in batch])


def representative(work: np.ndarray, steps: int) -> np.ndarray:
    """Choose batches whose mean work is that of the epoch within `TOLERANCE`, one of each stratum of their cells.

    Grouped batches differ by a factor of twenty, so a few of them would stand for the epoch by luck alone. Of many
    random choices the one nearest in all kinds of work is taken; times play no part.

    Args:
        work: by batch and kind, `[batches, kinds]`.
        steps: batches to choose; up to three more where so many do not meet the mean.
    """
    draw = np.random.default_rng(0)
    ranked = np.argsort(work[:, 0], kind="stable")
    for count in range(steps, steps + 4):
        if count >= len(work):
            return np.arange(len(work))
        borders = np.linspace(0, len(work), count + 1)
        places = np.floor(borders[:-1] + draw.random((CHOICES, count)) * np.diff(borders)).astype(int)
        chosen = ranked[places]  # [CHOICES, count]
        errors = np.abs(work[chosen].mean(axis=1) / work.mean(axis=0) - 1).max(axis=1)
        if errors.min() <= TOLERANCE:
            return chosen[errors.argmin()]
    raise ValueError(
        f"{steps} to {steps + 3} of {len(work)} batches must have the epoch's mean work within {TOLERANCE:.0%}, the "
        f"nearest choice is {errors.min():.1%} off; ask for more steps"
    )


def bare_step(model: PreTrainedModel, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Go back through the loss, clip and update."""
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def _equal_t5(vocabulary: SidVocabulary, **shape: int) -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=vocabulary.size,
        dropout_rate=DROPOUT,
        decoder_start_token_id=vocabulary.pad_id,
        pad_token_id=vocabulary.pad_id,
        eos_token_id=vocabulary.eos_id,
        **shape,
    )
    return T5ForConditionalGeneration(config)
