"""Training PRISM's quantizer: what its loss reads beside vectors, when terms begin, and averaged codebooks.

The terms of tags and of balance begin one after another, in shares of the epochs (published: of 500). Popularity comes
from training clicks alone: `log(1 + clicks)`, scaled to [0, 1] over the items that fitting may see.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import reduce
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn import functional
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from cost_hf.data.category_tags import CategoryTags
from cost_hf.quantizers.fit import CodesResult, FitInputs
from cost_hf.quantizers.prism.layers_prism import AveragedQuantizer
from cost_hf.quantizers.training.trainer import QuantizerTrainer, train_quantizer

if TYPE_CHECKING:
    from cost_hf.quantizers.prism.options import PrismOptions

WARM_UP = 0.01  # share of the epochs before any of these terms
TAG_RAMP = 0.04
ANCHOR_RAMP = 0.1
BALANCE_START = 0.21
BALANCE_RAMP = 0.12
LATE_ANCHOR = 0.1  # factor of the anchor term once balance has begun


class PrismTrainer(QuantizerTrainer):
    """Trains a `PrismModel`; batches may hold `popularity` `[B, 1]` and `tags` `[B, T]`.

    Args:
        tag_vectors: content vectors of the tags of every level, `[tags, E]` each; None without anchor term.
        has_curriculum: whether terms begin one after another.
        arguments: of `Trainer`.
    """

    def __init__(self, *, tag_vectors: Sequence[Tensor] | None, has_curriculum: bool, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.term_factors: dict[str, float] = {}
        self.latents: Tensor | None = None  # of the last batch
        self._tag_vectors = None if tag_vectors is None else [part.to(self.args.device) for part in tag_vectors]
        if has_curriculum:
            self.add_callback(CurriculumCallback(self))
        if isinstance(self.accelerator.unwrap_model(self.model).quantizer, AveragedQuantizer):
            self.add_callback(AverageCallback(self))

    def model_inputs(self, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return item vectors, popularity and tags of a batch, tag vectors and the factors of the epoch."""
        found: dict[str, Any] = {"item_embeddings": inputs["item_embeddings"], "term_factors": self.term_factors}
        if "popularity" in inputs:
            found["popularity"] = inputs["popularity"].squeeze(1)
        if "tags" in inputs:
            found["tags"] = inputs["tags"]
        return found | {"tag_vectors": self._tag_vectors}

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of a batch, with the model's output where that is asked for; keep the latents."""
        loss, output = super().compute_loss(model, inputs, return_outputs=True)
        self.latents = output.latents.detach()
        return (loss, output) if return_outputs else loss


class CurriculumCallback(TrainerCallback):
    """Sets the factors of the terms at the start of each epoch, a function of the share of epochs that are done."""

    def __init__(self, trainer: PrismTrainer) -> None:
        self._trainer = trainer

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set them."""
        self._trainer.term_factors = curriculum_factors(round(state.epoch or 0) / args.num_train_epochs)


class AverageCallback(TrainerCallback):
    """Moves averaged codebooks after each step, by the latents of the batches of all processes."""

    def __init__(self, trainer: PrismTrainer) -> None:
        self._trainer = trainer

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Update counts, sums and code vectors."""
        quantizer = kwargs["model"].quantizer
        counts, sums = quantizer.statistics(self._trainer.latents)
        quantizer.update(reduce(counts, "sum"), reduce(sums, "sum"))


def curriculum_factors(progress: float) -> dict[str, float]:
    """Return the factors of the terms of tags, anchors and balance where a share of the epochs is done."""
    anchor = LATE_ANCHOR if progress >= BALANCE_START else _ramp(progress, WARM_UP, ANCHOR_RAMP)
    return {
        "tag": _ramp(progress, WARM_UP, TAG_RAMP),
        "anchor": anchor,
        "balance": _ramp(progress, BALANCE_START, BALANCE_RAMP),
    }


def popularity_targets(clicks: Tensor) -> Tensor:
    """Return `log(1 + clicks)` scaled to [0, 1], fp32 `[N, 1]`; zeros where all items have equally many."""
    logs = clicks.double().log1p()
    return ((logs - logs.min()) / (logs.max() - logs.min()).clamp_min(1e-12)).float()[:, None]


def tag_vectors(tags: Tensor, sizes: Sequence[int], items: Tensor) -> list[Tensor]:
    """Return the unit mean of the vectors of the items of every tag, `[tags, E]` for each level.

    Args:
        tags: of the items, int64 `[N, T]`, -1 for none.
        sizes: numbers of tags of the levels.
        items: item vectors, `[N, E]`.
    """
    means = []
    for level, size in enumerate(sizes):
        own = tags[:, level]
        rows = np.flatnonzero(own >= 0)
        ones = np.ones(len(rows), dtype=np.float32)
        members = csr_matrix((ones, (own[rows].numpy(), rows)), shape=(size, len(own)))  # dense, it may be gigabytes
        means.append(functional.normalize(torch.from_numpy(members @ items.numpy()), dim=1))
    return means


def fit_prism(options: "PrismOptions", inputs: FitInputs, *, folder: Path, digest: str, seed: int) -> CodesResult:
    """Train a `PrismModel` on what fitting may see, and encode all items; arguments are those of `CodesOptions.fit`."""
    encoded = options.encoded_vectors(inputs.vectors, inputs.collaborative)
    columns: dict[str, Tensor] = {}
    tag_sizes: tuple[int, ...] = ()
    tag_means = None
    if inputs.popularity is not None:
        columns["popularity"] = popularity_targets(inputs.for_fitting(inputs.popularity))
    if options.uses_tags:
        items = inputs.items if inputs.fit_rows is None else inputs.items[inputs.fit_rows.numpy()]
        found = CategoryTags.of(items, str(options.tag_column), levels=options.tag_levels, field="codes.tag_column")
        tag_sizes = found.sizes
        columns["tags"] = torch.from_numpy(found.tags)
        if options.anchor_weight:
            tag_means = tag_vectors(columns["tags"], tag_sizes, inputs.for_fitting(inputs.vectors))
    item_dim = inputs.vectors.shape[1]
    model, history = train_quantizer(
        inputs.for_fitting(encoded),
        options,
        folder=folder,
        digest=digest,
        seed=seed,
        columns=columns,
        make_model=partial(options.build_model, item_dim, tag_sizes),
        make_trainer=partial(PrismTrainer, tag_vectors=tag_means, has_curriculum=options.curriculum),
    )
    return CodesResult.of_model(model, inputs, history, encoded=encoded)


def _ramp(progress: float, start: float, length: float) -> float:
    return min(max((progress - start) / length, 0.0), 1.0)
