"""Residual quantizers as recipe sections: CoST, RQ-VAE, both objectives together, and what all of them share.

All are a `CostModel`; kinds differ in their loss terms and in how the model is fitted.

* `cost`: in-batch contrastive loss (arXiv 2404.14774, equation of the contrastive task; alpha is `contrastive_weight`).
* `rqvae`: squared reconstruction error, the RQ-VAE of TIGER (arXiv 2305.05065, section 3.1).
* `cost_rqvae`: the sum of both.

The codebook and commitment terms are those of both papers: `sum_m |sg(r_m) - e_m|^2 + beta |r_m - sg(e_m)|^2`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cost_hf.options import ItemFacts
from cost_hf.quantizers.base import (
    CodebookCollapse,
    CodesOptions,
    check_choice,
    check_fitted_items,
    check_minimum,
    check_share,
)
from cost_hf.semantic_ids.options import whole_number

if TYPE_CHECKING:
    from cost_hf.quantizers.cost import CostConfig, CostModel
    from cost_hf.quantizers.fit import CodesResult, FitInputs

# those of `configuration_cost`, whose import takes seconds; a test compares them
INPUT_NORMS = ("none", "l2", "standardize")
REDUCTIONS = ("sum", "mean")
POSITIVES = ("self", "coclick")
COCLICK_SHARE = 0.5
RESIDUAL_UPDATES = ("detached", "straight_through")
MAX_WIDTH = 1 << 20
MAX_LAYERS = 256
INITIALIZATIONS = ("full", "first_batch", "none")
MAX_BATCH = 1 << 20  # items


@dataclass
class ResidualOptions(CodesOptions):
    """What every residual quantizer has, however it is fitted."""

    share_codebooks: bool = field(default=False, metadata={"help": "one codebook for all levels"})
    input_norm: str = field(default="l2", metadata={"help": "none, l2 or standardize"})
    min_perplexity_share: float = field(
        default=0.1, metadata={"help": "perplexity, as a share of the codes, below which fitting stops as collapsed"}
    )

    def config(self, item_dim: int) -> CostConfig:
        """Return the configuration of the model for item vectors `[N, item_dim]`."""
        from cost_hf.quantizers.cost import CostConfig

        return CostConfig(
            item_dim=item_dim,
            level_sizes=self.level_sizes,
            share_codebooks=self.share_codebooks,
            input_norm=self.input_norm,
            **self.config_fields(item_dim),
        )

    def config_fields(self, item_dim: int) -> dict[str, Any]:
        """Return the fields of `CostConfig` that depend on the kind: layers, loss terms and their weights."""
        raise NotImplementedError

    def build_model(self, item_dim: int) -> CostModel:
        """Return a model with random weights."""
        from cost_hf.quantizers.cost import CostModel

        return CostModel(self.config(item_dim))

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        super().validate()
        check_choice("input_norm", self.input_norm, INPUT_NORMS)
        check_share("min_perplexity_share", self.min_perplexity_share)

    def check_collapse(self, records: Sequence[Mapping[str, Any]], *, num_items: int) -> None:
        """Raise CodebookCollapse, with what was measured and what to change, where all `records` show a collapse.

        A record shows one where the first level, or the mean of all, has too little perplexity. Perplexity counts from
        1 (one code for all) to what the codes and items allow; `min_perplexity_share` is of that range.

        Args:
            records: of `codebook_utilization`; with `epoch` where they are of a training.
            num_items: items that were measured.
        """
        if not all(self._is_collapsed(record, num_items) for record in records):
            return
        last = records[-1]
        found = ", ".join(
            f"{last[f'perplexity_{level}']:.1f} of {size}" for level, size in enumerate(self.level_sizes, start=1)
        )
        when = f"after epoch {round(last['epoch'])} " if "epoch" in last else ""
        raise CodebookCollapse(
            f"the codebooks collapsed: {when}the perplexities are {found} codes, expected more than "
            f"{self.min_perplexity_share!r} of the codes (codes.min_perplexity_share); "
            f"{'; '.join(self.collapse_advice())}"
        )

    def collapse_advice(self) -> list[str]:
        """Return what to change after a collapse: settings that are not at their safe value first."""
        advice = {
            "none": ["set codes.input_norm to l2"],
            "l2": ["set codes.input_norm to standardize if the vectors share a large mean"],
        }
        return advice.get(self.input_norm, [])

    def _is_collapsed(self, record: Mapping[str, Any], num_items: int) -> bool:
        shares = [
            (record[f"perplexity_{level}"] - 1) / max(min(size, num_items) - 1, 1)
            for level, size in enumerate(self.level_sizes, start=1)
        ]
        return min(shares[0], sum(shares) / len(shares)) < self.min_perplexity_share


@dataclass
class TrainedOptions(ResidualOptions):
    """What every residual quantizer has that gradient steps train."""

    is_trained: ClassVar[bool] = True

    latent_dim: int = field(default=96, metadata={"help": "width of latents and code vectors"})
    hidden_sizes: list[int] = field(
        default_factory=lambda: [512, 256, 128], metadata={"help": "encoder widths, mirrored in the decoder"}
    )
    codebook_weight: float = field(default=1.0, metadata={"help": "of the term that moves codes to residuals"})
    commitment_weight: float = field(default=0.25, metadata={"help": "beta, of the term that moves residuals to codes"})
    reduction: str = field(default="sum", metadata={"help": "sum or mean over the dimensions of squared errors"})
    residual_update: str = field(
        default="detached", metadata={"help": "detached, or straight_through as in published code"}
    )
    epochs: int = field(default=100, metadata={"help": "passes over the items"})
    batch_size: int = field(
        default=1024, metadata={"help": "items per step over all processes; the others of a batch are negatives"}
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "of AdamW, constant"})
    weight_decay: float = field(default=0.0, metadata={"help": "of AdamW"})
    initialization: str = field(
        default="full", metadata={"help": "k-means++ on all items (full), on one batch (first_batch), or none"}
    )
    reset_dead_codes: bool = field(
        default=True, metadata={"help": "move codes that no item has to residuals at the end of an epoch"}
    )
    dead_code_reset_share: float = field(default=0.7, metadata={"help": "share of the epochs with dead-code reset"})
    save_epochs: int = field(default=10, metadata={"help": "epochs between checkpoints"})
    report_to: list[str] = field(
        default_factory=list,
        metadata={"help": "experiment trackers, such as trackio, tensorboard or wandb", "changes_nothing": True},
    )

    @property
    def objective_weights(self) -> dict[str, float]:
        """Weights, by their field name, of the terms that tie codes to items; one of them must be above 0."""
        raise NotImplementedError

    @property
    def has_codebook_gradient(self) -> bool:
        """Whether a loss term moves the code vectors."""
        return self.codebook_weight > 0

    def config_fields(self, item_dim: int) -> dict[str, Any]:
        """Return layers and loss terms; a term that the kind does not have gets the weight 0."""
        weights = {"contrastive_weight": 0.0, "reconstruction_weight": 0.0} | self.objective_weights
        return {
            "hidden_sizes": self.hidden_sizes,
            "latent_dim": self.latent_dim,
            "reduction": self.reduction,
            "residual_update": self.residual_update,
            "codebook_weight": self.codebook_weight,
            "commitment_weight": self.commitment_weight,
            **weights,
        }

    def fit(self, inputs: FitInputs, *, folder: Path, digest: str, seed: int) -> CodesResult:
        """Train a `CostModel` on the item vectors."""
        from cost_hf.quantizers.fit import CodesResult
        from cost_hf.quantizers.training.trainer import train_quantizer

        vectors = inputs.for_fitting(inputs.vectors)
        model, history = train_quantizer(vectors, self, folder=folder, digest=digest, seed=seed)
        return CodesResult.of_model(model, inputs, history)

    def timed_step(self, *, num_items: int, item_dim: int) -> tuple[Callable[[], object], float]:
        """Return a training step on random vectors; the number of steps is that of all epochs, not rounded."""
        from cost_hf.quantizers.training.trainer import training_step

        batch = min(self.batch_size, num_items)
        return training_step(self.build_model(item_dim), batch), self.epochs * num_items / batch

    def collapse_advice(self) -> list[str]:
        """Return what to change after a collapse: settings that are not at their safe value first."""
        advice = super().collapse_advice()
        if self.initialization == "none":
            advice.append("set codes.initialization to full")
        if not self.reset_dead_codes or self.dead_code_reset_share == 0:
            advice.append("set codes.reset_dead_codes to true")
        if self.reduction != "sum":
            advice.append("set codes.reduction to sum")
        advice.append(f"lower codes.learning_rate (now {self.learning_rate!r})")
        return [*advice, "use codes.kind rkmeans, which needs no training"]

    def check_items(self, items: ItemFacts) -> None:
        """Raise ValueError for a level with more codes than there are items, where k-means on them comes first."""
        super().check_items(items)
        if self.initialization == "full":
            check_fitted_items(self.level_sizes, items.num_fitted)

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        super().validate()
        self._check_weights()
        check_choice("reduction", self.reduction, REDUCTIONS)
        check_choice("residual_update", self.residual_update, RESIDUAL_UPDATES)
        check_choice("initialization", self.initialization, INITIALIZATIONS)
        for name in ("latent_dim", "epochs", "save_epochs"):
            check_minimum(name, getattr(self, name), 1)
        check_minimum("batch_size", self.batch_size, 2)
        check_share("dead_code_reset_share", self.dead_code_reset_share)
        self._check_widths()
        whole_number(self.batch_size, "codes.batch_size", most=MAX_BATCH)
        if self.initialization == "first_batch" and self.batch_size < max(self.level_sizes):
            raise ValueError(
                f"codes.initialization='first_batch' needs a batch of at least {max(self.level_sizes)} items, one per "
                f"code, got codes.batch_size={self.batch_size!r}; raise it or set codes.initialization to full"
            )

    def _check_weights(self) -> None:
        objective = self.objective_weights
        for name, weight in objective.items():
            check_minimum(name, weight, 0)
        for name in ("codebook_weight", "commitment_weight"):
            check_minimum(name, getattr(self, name), 0)
        if not any(objective.values()):
            names = " or ".join(f"codes.{name}" for name in objective)
            raise ValueError(
                f"codes of kind {self.kind!r} need {names} above 0, got "
                f"{' and '.join(repr(weight) for weight in objective.values())}; nothing else ties codes to items"
            )

    def _check_widths(self) -> None:
        if len(self.hidden_sizes) > MAX_LAYERS:
            raise ValueError(f"codes.hidden_sizes must hold at most {MAX_LAYERS} widths, got {len(self.hidden_sizes)}")
        widths = {"latent_dim": self.latent_dim}
        widths |= {f"hidden_sizes[{layer}]": width for layer, width in enumerate(self.hidden_sizes)}
        for name, width in widths.items():
            whole_number(width, f"codes.{name}", most=MAX_WIDTH)


@CodesOptions.register("cost")
@dataclass
class CostOptions(TrainedOptions):
    """CoST: codes from the contrastive loss."""

    contrastive_weight: float = field(default=0.1, metadata={"help": "alpha", "is_own": True})
    temperature: float = field(default=0.1, metadata={"help": "of the contrastive softmax"})
    positives: str = field(
        default="self",
        metadata={"help": "of an item in the contrastive softmax: self, or coclick for items clicked with it, too"},
    )
    coclick_share: float = field(
        default=COCLICK_SHARE, metadata={"help": "of the target, for the items that were clicked together with it"}
    )

    @property
    def needs_coclicks(self) -> bool:
        """Whether items that were clicked together are positives."""
        return self.positives == "coclick"

    @property
    def objective_weights(self) -> dict[str, float]:
        """Return the weight of the contrastive term."""
        return {"contrastive_weight": self.contrastive_weight}

    def config_fields(self, item_dim: int) -> dict[str, Any]:
        """Return layers, loss terms and the temperature."""
        return super().config_fields(item_dim) | {"temperature": self.temperature}

    def fit(self, inputs: FitInputs, *, folder: Path, digest: str, seed: int) -> CodesResult:
        """Train a `CostModel` on the item vectors and, for positives, the co-clicks."""
        if not self.needs_coclicks:
            return super().fit(inputs, folder=folder, digest=digest, seed=seed)
        from functools import partial

        import torch

        from cost_hf.quantizers.fit import CodesResult
        from cost_hf.quantizers.training.coclicks import ROWS, CoclickTrainer
        from cost_hf.quantizers.training.trainer import train_quantizer

        vectors = inputs.for_fitting(inputs.vectors)
        model, history = train_quantizer(
            vectors,
            self,
            folder=folder,
            digest=digest,
            seed=seed,
            columns={ROWS: torch.arange(len(vectors))[:, None]},
            make_trainer=partial(CoclickTrainer, coclicks=inputs.fit_coclicks, share=self.coclick_share),
        )
        return CodesResult.of_model(model, inputs, history)

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        super().validate()
        if self.temperature <= 0:
            raise ValueError(f"codes.temperature must be above 0, got {self.temperature!r}")
        check_choice("positives", self.positives, POSITIVES)
        if not 0 < self.coclick_share < 1:
            raise ValueError(f"codes.coclick_share must be between 0 and 1, got {self.coclick_share!r}")
        if not self.needs_coclicks and self.coclick_share != COCLICK_SHARE:
            raise ValueError(
                f"codes.coclick_share={self.coclick_share!r} is for codes.positives coclick, got {self.positives!r}; "
                "set positives, or leave the share out"
            )
        if self.needs_coclicks and not self.contrastive_weight:
            raise ValueError(
                "codes.positives='coclick' is of the contrastive term, got codes.contrastive_weight=0; give it a weight"
            )


@CodesOptions.register("rqvae")
@dataclass
class RqvaeOptions(TrainedOptions):
    """RQ-VAE: codes from the reconstruction error."""

    reconstruction_weight: float = field(default=1.0, metadata={"help": "of the squared error", "is_own": True})

    @property
    def objective_weights(self) -> dict[str, float]:
        """Return the weight of the reconstruction term."""
        return {"reconstruction_weight": self.reconstruction_weight}


@CodesOptions.register("cost_rqvae")
@dataclass
class CostRqvaeOptions(CostOptions):
    """CoST and RQ-VAE: codes from the contrastive loss and the reconstruction error."""

    reconstruction_weight: float = field(default=1.0, metadata={"help": "of the squared error", "is_own": True})

    @property
    def objective_weights(self) -> dict[str, float]:
        """Return the weights of both terms."""
        return {
            "contrastive_weight": self.contrastive_weight,
            "reconstruction_weight": self.reconstruction_weight,
        }
