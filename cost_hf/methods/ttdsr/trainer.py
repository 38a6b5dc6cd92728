"""The trainer of TTDSR: examples with the codes of the moment, and the alignment of semantic IDs with texts."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from cost_hf.generators.generator_training import GeneratorTrainer
from cost_hf.generators.options import TrainingOptions
from cost_hf.generators.prompts import Example
from cost_hf.methods.ttdsr.dynamic_index import DynamicIndex, DynamicIndexCallback
from cost_hf.methods.ttdsr.options import AlignmentOptions
from cost_hf.methods.ttdsr.text_states import mean_states

NUMBERS = "numbers"  # of the examples of a batch


class ExampleNumbers(Dataset):
    """The numbers of the examples of a data set, in place of the examples."""

    def __init__(self, examples: Any):
        self.lengths = examples.lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> int:
        return number


class IndexedTrainer(GeneratorTrainer):
    """Generator trainer whose examples have the codes of an index that changes.

    The loader draws a batch ahead of its step. So it draws numbers of examples, which become tokens when their step
    begins: a refresh then acts on the next step, in a resumed run, too.

    Args:
        model, options: as for `GeneratorTrainer`.
        dataset: examples by number.
        collator: of these examples.
        index: that the examples read.
        alignment: section `alignment`.
        others: arguments of `GeneratorTrainer`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        options: TrainingOptions,
        *,
        dataset: Any,
        collator: Callable[[Sequence[Example]], dict[str, Tensor]],
        index: DynamicIndex,
        alignment: AlignmentOptions,
        **others: Any,
    ):
        super().__init__(model, options, dataset=ExampleNumbers(dataset), collator=_numbers, **others)
        self._examples = dataset
        self._collate = collator
        self._index = index
        self._alignment = alignment
        self._sums: dict[str, Any] = {}
        self._batches = 0
        self._since: tuple[int, float] | None = None
        self.add_callback(DynamicIndexCallback(index, self.log))

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """Return the batches of a step, made with the codes that hold now."""
        if self._since is None:  # the first step, of a resumed run too, or the one after a log
            self._since = (self.state.global_step, time.perf_counter())
        return super().get_batch_samples(map(self._batch, epoch_iterator), num_batches, device)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the loss of the tasks, and the weighted terms of the alignment."""
        first = int(inputs.pop(NUMBERS)[0])
        self._batches += 1
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if self._alignment.is_used:
            # the loss of the tasks is a sum over the labels of all batches of a step, that of the alignment a mean
            parts = self.current_gradient_accumulation_steps if self.model_accepts_loss_kwargs else 1
            loss = loss + self._alignment_loss(model, first) / parts
        return (loss, outputs) if return_outputs else loss

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write weights and, into a checkpoint, the index; the file that makes the checkpoint whole comes after it."""
        super().save_model(output_dir, _internal_call)
        if _internal_call and output_dir is not None and self.args.should_save:
            self._index.save(output_dir)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log; with a loss, also seconds a step and the mean terms of the alignment."""
        if "loss" in logs:
            logs = {**logs, **self._means()}
        super().log(logs, start_time)

    def _batch(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        numbers = drawn[NUMBERS].tolist()
        return {**self._collate([self._examples[number] for number in numbers]), NUMBERS: drawn[NUMBERS]}

    def _alignment_loss(self, model: Any, first: int) -> Tensor:
        """Return the weighted terms of seeded draws from all towers.

        Args:
            model: in training.
            first: number of the first example of the batch, which no other batch has.
        """
        weights = {"infonce": self._alignment.infonce_weight, "mse": self._alignment.mse_weight}
        draws = np.random.default_rng([self.args.seed, first])
        total: Any = 0.0
        for name in self._index.towers:
            learned = self._index.rows_to_learn(name)
            rows = draws.choice(learned, size=min(self._alignment.entities, len(learned)), replace=False)
            sids = self._index.tokens(name)[torch.from_numpy(rows)].to(self.args.device)
            entity_texts = self._index.texts[name]
            texts = entity_texts.batch(rows, self.args.device)
            begin_ids = entity_texts.begin_ids
            self.count_tokens(sids.numel() + texts[1].sum() + 2 * len(rows) * len(begin_ids))
            with self.accelerator.autocast():  # accelerate autocasts `model.forward` alone
                own = mean_states(model, sids, torch.ones_like(sids), begin_ids=begin_ids)
                wanted = _detached_states(model, *texts, begin_ids)
            terms = alignment_terms(own, wanted, temperature=self._alignment.temperature)
            for term, value in terms.items():
                self._sums[f"{name}_{term}"] = self._sums.get(f"{name}_{term}", 0.0) + value.detach()
                if weights[term]:
                    total = total + weights[term] * value
        return total

    def _means(self) -> dict[str, float]:
        """Return means since the last call: terms by batch, seconds by step.

        Refreshes are in the seconds; validations and checkpoints, which come between a log and the next step, are not.
        """
        now = time.perf_counter()
        step, then = self._since or (0, now)
        steps = max(self.state.global_step - step, 1)
        found = {name: float(value) / max(self._batches, 1) for name, value in self._sums.items()}
        found["seconds_per_step"] = (now - then) / steps
        self._sums = {}
        self._batches = 0
        self._since = None
        return found


def alignment_terms(sids: Tensor, texts: Tensor, *, temperature: float) -> dict[str, Tensor]:
    """Return InfoNCE and mean squared error between the states of semantic IDs and of their texts.

    Args:
        sids: `[n, D]`.
        texts: of the same items or users, without gradient, `[n, D]`; the others of the batch are negatives.
        temperature: of the softmax over cosines.
    """
    cosines = functional.normalize(sids, dim=-1) @ functional.normalize(texts, dim=-1).T  # [n, n]
    own = torch.arange(len(sids), device=sids.device)
    return {
        "infonce": functional.cross_entropy(cosines / temperature, own),
        "mse": functional.mse_loss(sids, texts),
    }


@torch.no_grad()
def _detached_states(model: Any, input_ids: Tensor, attention_mask: Tensor, begin_ids: Sequence[int]) -> Tensor:
    return mean_states(model, input_ids, attention_mask, begin_ids=begin_ids)


def _numbers(examples: Sequence[int]) -> dict[str, Tensor]:
    return {NUMBERS: torch.tensor(examples)}
