"""What happens to codebooks around the gradient steps of `Trainer`: initialisation, dead-code reset, utilization log.

Each callback is a function of (items, weights, seed, epoch) and keeps nothing of its own between epochs, so that a run
resumed from the checkpoint of an epoch ends bit for bit like an undisturbed one. In distributed runs every process
computes the same, and what is written into codebooks comes from process 0. Of a large table, dead-code reset and
utilization are measured on a sample of at most `MAX_SAMPLE` items.

The first parts of `seeded_generator` name random streams. They decide what is drawn, so they keep their old names.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast
from torch import Tensor
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from cost_hf.quantizers.cost import CostModel
from cost_hf.quantizers.residual import TrainedOptions
from cost_hf.quantizers.training.kmeans import residual_kmeans, seeded_generator
from cost_hf.semantic_ids.codebook_utilization import codebook_utilization

if TYPE_CHECKING:
    from cost_hf.quantizers.training.trainer import QuantizerTrainer

logger = logging.getLogger(__name__)
COLLAPSE_PATIENCE = 5  # epochs: a poor start recovers by dead-code reset, a collapse does not
MAX_SAMPLE = 2**16  # items that dead-code reset and utilization are measured on after each epoch
ITEMS_PER_BATCH = 8192


class ItemTable:
    """Item vectors `[N, E]` and the latents of a fixed seeded sample of them after each epoch."""

    def __init__(self, vectors: Tensor, *, seed: int) -> None:
        self.vectors = vectors
        self.sample = vectors
        if len(vectors) > MAX_SAMPLE:
            order = torch.randperm(len(vectors), generator=seeded_generator("health", seed))
            self.sample = vectors[order[:MAX_SAMPLE].sort().values]
        self._step = -1
        self._latents: Tensor | None = None

    def latents(self, model: CostModel, *, step: int) -> Tensor:
        """Return the latents of the sample, computed once a step."""
        if step != self._step or self._latents is None:
            self._step = step
            self._latents = latents_of(model, self.sample)
        return self._latents


@torch.no_grad()
def latents_of(model: CostModel, vectors: Tensor) -> Tensor:
    """Return the latents of item vectors `[N, E]`, batch by batch, on the model's device, `[N, D]`; without dropout."""
    was_training = model.training
    model.eval()
    latents = torch.cat([model.embed(part.to(model.device)) for part in vectors.split(ITEMS_PER_BATCH)])
    model.train(was_training)
    return latents


class InitializationCallback(TrainerCallback):
    """Start the codebooks from residual k-means++ over the untrained encoder's latents.

    The papers take the first batch; with few items per code a center is then hardly more than one item, so the
    default is the whole table. `none` leaves random codes, which collapse unless dead-code reset is on.
    """

    def __init__(self, table: ItemTable, options: TrainedOptions, *, seed: int) -> None:
        self._table = table
        self._options = options
        self._seed = seed

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the codebooks, unless a checkpoint brought trained ones."""
        if state.global_step > 0 or self._options.initialization == "none":
            return
        model = kwargs["model"]
        vectors = self._table.vectors
        if self._options.initialization == "first_batch":
            order = torch.randperm(len(vectors), generator=seeded_generator("first batch", self._seed))
            vectors = vectors[order[: self._options.batch_size]]
        set_codebooks(model, latents_of(model, vectors), seed=self._seed)


class DeadCodeResetCallback(TrainerCallback):
    """After each early epoch, move every code that no item has to the residual of a random item at its level."""

    def __init__(self, table: ItemTable, options: TrainedOptions, *, seed: int) -> None:
        self._table = table
        self._options = options
        self._seed = seed

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Reset the dead codes of every codebook and their optimizer moments."""
        epoch = round(state.epoch or 0)
        if not self._options.reset_dead_codes or epoch > self._options.dead_code_reset_share * args.num_train_epochs:
            return
        model: CostModel = kwargs["model"]
        latents = self._table.latents(model, step=state.global_step)
        levels = range(len(model.level_sizes))
        for shared in [list(levels)] if model.config.share_codebooks else [[level] for level in levels]:
            unused = self._reset(model, shared, latents, epoch)
            _reset_moments(kwargs["optimizer"], model.level_vectors(shared[0]), unused)
            logger.debug("epoch %d, level %d: %d dead codes reset", epoch, shared[0] + 1, len(unused))

    @torch.no_grad()
    def _reset(self, model: CostModel, levels: list[int], latents: Tensor, epoch: int) -> Tensor:
        """Replace the codes that none of `levels`, which have one codebook, uses; return which, `[n]`."""
        codes, residuals, _ = model.quantizer(latents)  # again: the level before may just have changed
        counts = torch.bincount(codes[:, levels].flatten(), minlength=model.level_sizes[levels[0]])
        candidates = residuals[:, levels].flatten(0, 1)
        unused = torch.nonzero(counts == 0).squeeze(1)[: len(candidates)]
        if len(unused):
            generator = seeded_generator("revival", self._seed, epoch, levels[0])
            drawn = torch.randperm(len(candidates), generator=generator)[: len(unused)]
            model.quantizer.replace_codes(levels[0], unused, candidates[drawn.to(candidates.device)])
        _copy_from_first_process(model, levels[0])
        return unused


class UtilizationCallback(TrainerCallback):
    """Log the codebook utilization after each epoch and stop a collapsed run.

    Args:
        table: the items.
        options: threshold, and what the advice depends on.
        trainer: its `log` reaches trackers and, with checkpoints, a resumed run.
    """

    def __init__(self, table: ItemTable, options: TrainedOptions, *, trainer: "QuantizerTrainer") -> None:
        self._table = table
        self._options = options
        self._trainer = trainer

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Log, and raise CodebookCollapse where the last epochs, or the last epoch of all, had too few codes."""
        model: CostModel = kwargs["model"]
        with torch.no_grad():
            codes = model.quantizer(self._table.latents(model, step=state.global_step)).codes
        utilization = codebook_utilization(codes.cpu().numpy(), model.level_sizes)
        self._trainer.log(utilization | self._trainer.take_mean_terms())
        recent = utilization_records(state.log_history)[-COLLAPSE_PATIENCE:]
        if state.global_step >= state.max_steps:
            recent = recent[-1:]  # no epoch is left to recover in
        elif len(recent) < COLLAPSE_PATIENCE:
            return
        self._options.check_collapse(recent, num_items=len(codes))


class CheckpointCallback(TrainerCallback):
    """Ask for a checkpoint after the other callbacks of every n-th epoch; stock saving by steps would precede them."""

    def __init__(self, every: int) -> None:
        self._every = every

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Set `should_save`."""
        control.should_save = round(state.epoch or 0) % self._every == 0
        return control


class QuantizerProgress(ProgressCallback):
    """The stock progress bar with the codebook utilization beside it instead of a printed line an epoch."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show perplexities and the unique share."""
        if self.training_bar is None or not logs or "perplexity_1" not in logs:
            return
        levels = [f"{value:.0f}" for name, value in logs.items() if name.startswith("perplexity_")]
        self.training_bar.set_postfix_str(f"perplexity {'/'.join(levels)}, unique {logs['unique_share']:.2f}")


def utilization_records(log_history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of `codebook_utilization` in a Trainer log, oldest first."""
    return [dict(record) for record in log_history if "perplexity_1" in record]


def set_codebooks(model: CostModel, latents: Tensor, *, seed: int) -> None:
    """Set every codebook by residual k-means over latents `[N, D]`."""
    shared = model.config.share_codebooks
    codebooks = residual_kmeans(latents, model.level_sizes, seed=seed, share_codebooks=shared)
    for level, codebook in enumerate(codebooks):
        model.quantizer.replace_codes(level, torch.arange(len(codebook)), codebook)
        _copy_from_first_process(model, level)


def _copy_from_first_process(model: CostModel, level: int) -> None:
    """Make a codebook equal on different machines; DDP keeps only those parameters equal that began equal."""
    codebook = model.level_vectors(level).detach()
    model.quantizer.replace_codes(level, torch.arange(len(codebook)), broadcast(codebook.clone()))


def _reset_moments(optimizer: torch.optim.Optimizer, codebook: Tensor, rows: Tensor) -> None:
    """Set AdamW's moments of replaced code vectors to zero: they describe the codes before."""
    state = optimizer.state.get(codebook, {})
    for name in ("exp_avg", "exp_avg_sq"):
        if name in state:
            state[name][rows.to(state[name].device)] = 0
