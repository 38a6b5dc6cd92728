"""The parts of benchmarks/training.py: generators beside batches of real histories, and trainers beside bare loops."""

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import clock, zipf_codes
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, T5Config, T5ForConditionalGeneration, TrainerCallback

from cost_hf.data import DataOptions, read_tables, split_interactions
from cost_hf.recommender.backbones import GeneratorOptions, build_backbone
from cost_hf.recommender.collation import (
    CausalCollator,
    LengthGroupedSampler,
    PrefixCollator,
    PrefixDataset,
    SequenceDataset,
    ShuffledSampler,
)
from cost_hf.recommender.dropout import add_residual_dropout
from cost_hf.recommender.generator_training import GeneratorTrainer, TrainingOptions
from cost_hf.recommender.prompts import IGNORED_LABEL, PromptBuilder
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.vocabulary import SidVocabulary

SHAPES = {"amazon_industrial": (64, 64), "amazon_games": (128, 256)}  # of the recipes: batch size, codes a level
LEVELS, MAX_HISTORY, DROPOUT = 4, 20, 0.2
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
        self.kind, self.batch_size = kind, batch_size or data.batch_size
        vocabulary = SidVocabulary.for_catalog(data.catalog)
        if size in EQUAL_T5:
            self.model: PreTrainedModel = _equal_t5(vocabulary, **EQUAL_T5[size])
        else:
            options = GeneratorOptions(kind=kind, size=size, max_history=MAX_HISTORY, dropout=DROPOUT)
            self.model = build_backbone(options, data.catalog, seed=0).model
        is_causal = kind == "causal"
        self.prompts = PromptBuilder.for_catalog(data.catalog, vocabulary, is_causal=is_causal, max_history=MAX_HISTORY)
        sequences, owners = data.sequences[:users], data.user_ids[:users]
        self.dataset: Any
        self.collate: Callable[..., dict[str, Tensor]]
        if is_causal:
            add_residual_dropout(self.model, DROPOUT)
            self.dataset = SequenceDataset(sequences, owners, max_items=MAX_HISTORY + 1)
            self.collate = CausalCollator(self.prompts)
        else:
            self.dataset = PrefixDataset(sequences, owners, max_history=MAX_HISTORY)
            self.collate = PrefixCollator(self.prompts)
        self.model.config.use_cache = False

    @property
    def steps_per_epoch(self) -> int:
        """Batches of all examples, the last one short."""
        return math.ceil(len(self.dataset) / self.batch_size)

    def order(self, *, is_grouped: bool) -> Any:
        """Return a sampler of all examples."""
        if is_grouped:
            return LengthGroupedSampler(self.dataset.lengths, batch_size=self.batch_size, seed=0)
        return ShuffledSampler(len(self.dataset), seed=0)


class PaddedCollator:
    """The reference: one user a row, padded to the batch's longest."""

    def __init__(self, prompts: PromptBuilder):
        self.single, self.pad_id = CausalCollator(prompts), prompts.vocabulary.pad_id

    def __call__(self, examples: Sequence[Any]) -> dict[str, Tensor]:
        """Return `input_ids`, `attention_mask` and `labels`, each `[B, S]`."""
        rows = [self.single([example]) for example in examples]

        def padded(name: str, fill: int) -> Tensor:
            tokens = [row[name][0] for row in rows]
            return torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=fill)

        input_ids = padded("input_ids", self.pad_id)
        labels = padded("labels", IGNORED_LABEL)
        return {"input_ids": input_ids, "attention_mask": (input_ids != self.pad_id).long(), "labels": labels}


class TrainingRun:
    """Steps over a fixed choice of an epoch's batches; a call makes all of them, collation included."""

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
        self.setup, self.collate, self.device, self.is_bf16 = setup, collate, device, is_bf16
        order = np.array(list(setup.order(is_grouped=is_grouped)))
        batches = [order[start : start + setup.batch_size] for start in range(0, len(order), setup.batch_size)]
        # evenly over the lengths of an epoch's batches: grouped ones differ widely
        full = sorted(batches[:-1], key=lambda batch: setup.dataset.lengths[batch].sum())
        chosen = ((np.arange(steps) + 0.5) * len(full) / steps).astype(int)
        self.batches = [[setup.dataset[int(row)] for row in full[number]] for number in chosen]
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
        """Return cells of the input, real tokens in them, targets (labels with a history) and labels, over a call."""
        cells = sum(self.collate(examples)["input_ids"].numel() for examples in self.batches)
        examples = [example for batch in self.batches for example in batch]
        tokens = sum(1 + LEVELS * len(rows) for _, rows, _ in examples)
        if self.setup.kind == "seq2seq":
            return cells, tokens, len(examples), len(examples)
        targets = sum(len(rows) - max(first, 1) for _, rows, first in examples)
        return cells, tokens, targets, sum(len(rows) - first for _, rows, first in examples)


def bare_step(model: PreTrainedModel, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Go back through the loss, clip and update."""
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def trainer_seconds(setup: Setup, device: str) -> float:
    """Return the seconds a step takes in GeneratorTrainer, over one epoch of the setup's examples."""
    options = TrainingOptions(epochs=1, batch_size=setup.batch_size, precision="fp32")
    with tempfile.TemporaryDirectory() as directory:
        trainer = GeneratorTrainer(
            setup.model.to(device),
            options,
            dataset=setup.dataset,
            collator=setup.collate,
            groups_by_length=setup.kind == "seq2seq",
            directory=Path(directory),
            seed=0,
            validate=None,
        )
        ticks = StepTicks(setup.steps_per_epoch)
        trainer.add_callback(ticks)
        trainer.train()
    return ticks.seconds_per_step()


def bare_seconds(setup: Setup, device: str) -> float:
    """Return the seconds a step takes in a plain loop over the same batches."""
    sampler = setup.order(is_grouped=setup.kind == "seq2seq")
    loader = DataLoader(setup.dataset, setup.batch_size, sampler=sampler, collate_fn=setup.collate)
    model = setup.model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01, fused=True)
    ticks = StepTicks(setup.steps_per_epoch)
    for batch in loader:
        loss = model(**{name: values.to(device) for name, values in batch.items()}).loss
        bare_step(model, optimizer, loss)
        ticks.on_step_end()
    return ticks.seconds_per_step()


class StepTicks(TrainerCallback):
    """Notes the time at the end of the first step, which warms up, and of the last: a look at it drains a GPU."""

    def __init__(self, steps: int) -> None:
        self.steps, self.done = steps, 0
        self.times: list[float] = []

    def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
        """Count a step."""
        self.done += 1
        if self.done in (1, self.steps):
            self.times.append(clock())

    def seconds_per_step(self) -> float:
        """Return the mean of all steps but the first."""
        return (self.times[-1] - self.times[0]) / (self.steps - 1)


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
