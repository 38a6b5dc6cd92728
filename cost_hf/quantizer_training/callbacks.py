"""What happens between epochs of a quantizer: measure health, revive dead codes, stop on collapse, save.

Loss does not show collapse, and use alone does not either: perplexity and unique SIDs do (one giant centre and outliers are
100 % use at a perplexity of 12 of 64). Everything is a function of weights, seed and epoch, so a killed run repeats it.
"""

import logging
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from cost_hf.quantizer.modeling_cost import CostModel
from cost_hf.quantizer_training.kmeans import kmeans, residual_kmeans
from cost_hf.quantizer_training.options import CodesOptions

logger = logging.getLogger(__name__)
HEALTH_SAMPLE = 16384
GRACE_SHARE = 0.1  # collapse is judged after this share of the epochs: the first ones may still sort themselves


class CodebookCollapse(RuntimeError):
    """The quantizer gives (nearly) all items the same code; the message says what to change."""


def initialize_codebooks(model: CostModel, vectors: Tensor, options: CodesOptions, *, seed: int) -> None:
    """Set the input statistics, and the codebooks to k-means++ centers of what the untrained encoder leaves per level.

    Args:
        vectors: all item vectors, `[N, E]`.
        options: `initialization` is `full`, `first_batch` (one batch of items, as published) or `none`.
    """
    model.normalizer.set_statistics(vectors)
    if options.initialization == "none":
        return
    generator = torch.Generator().manual_seed(seed)
    if options.initialization == "first_batch":
        vectors = vectors[torch.randperm(len(vectors), generator=generator)[: options.batch_size]]
    with torch.no_grad():
        latents = torch.cat([model.embed(part) for part in vectors.split(options.batch_size)])
        if model.config.share_codebooks:
            centers = [kmeans(latents, model.level_sizes[0], generator=generator)]
        else:
            centers = residual_kmeans(latents, model.level_sizes, generator=generator)
        for codebook, values in zip(model.quantizer.codebooks, centers, strict=True):
            codebook.copy_(values)


class CodebookCare(TrainerCallback):
    """Health of every epoch in the Trainer's log, revival of dead codes, the stop on collapse, and checkpoints.

    Args:
        vectors: item vectors `[N, E]`; health is measured on a seeded sample of at most 16,384.
        options: the codes section.
        seed: of sample and revival.
    """

    def __init__(self, vectors: Tensor, options: CodesOptions, *, seed: int):
        order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(seed))
        self.sample = vectors[order[:HEALTH_SAMPLE].sort().values]
        self.options, self.seed = options, seed

    def on_epoch_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        optimizer: Any = None,
        **_kwargs: Any,
    ) -> None:
        """Measure, judge, revive and save behind every epoch."""
        model = getattr(model, "module", model)
        epoch = round(state.epoch or 0)
        health = measure_health(model, self.sample, batch_size=self.options.batch_size)
        if epoch > GRACE_SHARE * self.options.epochs:
            check_collapse(health, model, self.options, epoch=epoch)
        if self.options.revival and epoch <= self.options.revival_share * self.options.epochs:
            health["revived"] = revive_dead_codes(model, self.sample, seed=self.seed, epoch=epoch, optimizer=optimizer)
        state.log_history.append({"epoch": epoch, **health})
        control.should_save = epoch % self.options.save_epochs == 0 and epoch < self.options.epochs


@torch.no_grad()
def measure_health(model: CostModel, vectors: Tensor, *, batch_size: int) -> dict[str, Any]:
    """Return use and perplexity per level, unique-SID share, largest group and the loss terms, in eval mode."""
    was_training = model.training
    model.eval()
    outputs = [model(part) for part in vectors.to(model.device).split(batch_size)]
    model.train(was_training)
    codes = torch.cat([output.codes for output in outputs]).cpu()
    counts = np.unique(codes.numpy(), axis=0, return_counts=True)[1]
    counted = [torch.bincount(column, minlength=size) for column, size in zip(codes.T, model.level_sizes, strict=True)]
    sizes = torch.tensor([len(output.codes) for output in outputs], dtype=torch.float64)
    losses = {}
    for name in ("loss", "contrastive_loss", "reconstruction_loss", "codebook_loss", "commitment_loss"):
        if outputs[0].get(name) is not None:
            values = torch.stack([output[name].double().cpu() for output in outputs])
            losses[name] = float((values * sizes).sum() / sizes.sum())
    return {
        "use": [float((count > 0).double().mean()) for count in counted],
        "perplexity": [_perplexity(count) for count in counted],
        "unique_share": len(counts) / len(codes),
        "largest_group": int(counts.max()),
        **losses,
    }


def check_collapse(health: dict[str, Any], model: CostModel, options: CodesOptions, *, epoch: int) -> None:
    """Raise `CodebookCollapse` where a level's perplexity is below `min_perplexity_share` of its codes."""
    for level, (perplexity, size) in enumerate(zip(health["perplexity"], model.level_sizes, strict=True)):
        # one code is a perplexity of 1: small codebooks need an absolute floor as well
        if perplexity >= max(options.min_perplexity_share * size, 1.5):
            continue
        raise CodebookCollapse(
            f"level {level} uses its {size} codes with a perplexity of {perplexity:.1f} after epoch {epoch} (stop below "
            f"{options.min_perplexity_share:g} of them), largest group {health['largest_group']} items; "
            + _advice(options)
        )


def _advice(options: CodesOptions) -> str:
    changes = []
    if options.initialization == "none":
        changes.append("codes.initialization: full")
    if not options.revival:
        changes.append("codes.revival: true")
    if options.input_norm != "l2":
        changes.append("codes.input_norm: l2")
    if options.reduction != "sum":
        changes.append("codes.reduction: sum")
    changes.append("fewer codes.level_sizes, a lower codes.learning_rate, or item texts that differ more")
    return "try " + "; ".join(changes)


@torch.no_grad()
def revive_dead_codes(model: CostModel, vectors: Tensor, *, seed: int, epoch: int, optimizer: Any = None) -> list[int]:
    """Move codes that no item uses to residuals of random items; return how many per level.

    The rows' optimizer moments are cleared: they belong to the place that the code has left.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    latents = model.embed(vectors)
    quantized = model.quantizer(latents)
    revived, used_by_any = [], torch.zeros(0)
    for level, size in enumerate(model.level_sizes):
        counts = torch.bincount(quantized.codes[:, level], minlength=size)
        if model.config.share_codebooks:  # a shared code is dead where no level uses it
            used_by_any = counts if level == 0 else used_by_any + counts
            if level + 1 < len(model.level_sizes):
                revived.append(0)
                continue
            counts = used_by_any
        dead = (counts == 0).nonzero()[:, 0]
        donors = torch.randint(len(vectors), (len(dead),), generator=generator)
        codebook = model.quantizer.codebook(level)
        codebook[dead] = quantized.residuals[level][donors.to(latents.device)]
        _clear_moments(optimizer, codebook, dead)
        _same_everywhere(codebook)
        revived.append(len(dead))
    return revived


def _clear_moments(optimizer: Any, parameter: Tensor, rows: Tensor) -> None:
    states = {} if optimizer is None else getattr(optimizer, "optimizer", optimizer).state
    for name in ("exp_avg", "exp_avg_sq"):
        if name in states.get(parameter, {}):
            states[parameter][name][rows] = 0


def _same_everywhere(parameter: Tensor) -> None:
    # processes compute the same revival, but accelerators may round differently
    if dist.is_available() and dist.is_initialized():
        dist.broadcast(parameter.data, src=0)


def _perplexity(counts: Tensor) -> float:
    shares = counts[counts > 0].double() / counts.sum()
    return float(torch.exp(-(shares * shares.log()).sum()))
