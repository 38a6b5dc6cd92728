"""Recipe section `codes` of kind `prism`; readable without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cost_hf.options import ItemFacts
from cost_hf.quantizers.base import CodesOptions, check_choice, check_minimum
from cost_hf.quantizers.residual import MAX_WIDTH, TrainedOptions
from cost_hf.semantic_ids.options import whole_number

if TYPE_CHECKING:
    from torch import Tensor

    from cost_hf.quantizers.fit import CodesResult, FitInputs
    from cost_hf.quantizers.prism.configuration_prism import PrismConfig
    from cost_hf.quantizers.prism.modeling_prism import PrismModel

# those of `configuration_prism`, whose import takes seconds; a test compares them
CODEBOOK_UPDATES = ("gradient", "ema")
CODEBOOK_TERMS = ("codebook_weight", "anchor_weight", "balance_weight")
COLLABORATIVE_TERMS = ("collaborative_weight", "gate_weight")
MAX_TAG_LEVELS = 64


@CodesOptions.register("prism")
@dataclass
class PrismOptions(TrainedOptions):
    """PRISM: content and gated collaborative vectors, supervised by popularity and tags.

    Weights are the paper's. The terms of tags act where `tag_column` is set.
    """

    auto_models: ClassVar[str | None] = "cost_hf.quantizers.prism.auto_prism"
    collaborative_dim_field: ClassVar[str] = "collaborative_width"

    # with the paper's three layers, few items and few steps end in few codes
    latent_dim: int = field(default=32, metadata={"help": "width of latents and code vectors", "is_own": True})
    hidden_sizes: list[int] = field(
        default_factory=lambda: [128],
        metadata={"help": "encoder widths, mirrored in the decoder; published: 512, 256, 128", "is_own": True},
    )
    batch_size: int = field(default=512, metadata={"help": "items per step over all processes", "is_own": True})
    # the encoder's layer normalisation makes latents long: as sums, squared errors would outweigh reconstruction and
    # shrink all latents to a few codes
    reduction: str = field(
        default="mean", metadata={"help": "sum or mean over the dimensions of squared errors", "is_own": True}
    )
    dropout: float = field(default=0.1, metadata={"help": "in encoder and decoder"})
    content_weight: float = field(default=1.0, metadata={"help": "of reconstructing the item vector", "is_own": True})
    collaborative_width: int = field(
        default=64, metadata={"help": "of collaborative vectors; 0 quantizes item vectors alone", "is_own": True}
    )
    collaborative_method: str = field(
        default="lightgcn", metadata={"help": "method that gives collaborative vectors", "is_own": True}
    )
    collaborative_weight: float = field(
        default=1.0, metadata={"help": "of reconstructing the gated collaborative vector", "is_own": True}
    )
    gate_weight: float = field(default=0.8, metadata={"help": "of the gate as a measure of popularity", "is_own": True})
    gate_spread_weight: float = field(
        default=2.0, metadata={"help": "within it, of the variance over items that the gate lacks", "is_own": True}
    )
    gate_spread: float = field(
        default=0.2, metadata={"help": "root of the variance of the gate that is wanted", "is_own": True}
    )
    tag_column: str | None = field(
        default=None,
        metadata={"help": "column of tags from broad to narrow (lists, or commas between); null: no tag terms"},
    )
    tag_levels: int = field(
        default=3, metadata={"help": "levels of tags; leading ones that divide no items are skipped"}
    )
    tag_weight: float = field(
        default=0.25, metadata={"help": "of predicting tags from codes, with tag_column", "is_own": True}
    )
    anchor_weight: float = field(
        default=0.3, metadata={"help": "of code vectors near tags, with tag_column", "is_own": True}
    )
    balance_weight: float = field(
        default=0.1, metadata={"help": "of unlike code vectors that are used equally", "is_own": True}
    )
    codebook_update: str = field(
        default="gradient", metadata={"help": "gradient, or ema: a moving average of residuals, as in published code"}
    )
    ema_decay: float = field(default=0.99, metadata={"help": "of the moving average"})
    curriculum: bool = field(default=True, metadata={"help": "begin the terms of tags and balance one after another"})

    @property
    def objective_weights(self) -> dict[str, float]:
        """Return the weights of both reconstruction terms."""
        return {"content_weight": self.content_weight, "collaborative_weight": self.collaborative_weight}

    @property
    def tag_weights(self) -> dict[str, float]:
        """Return the weights of the terms of tags; 0 without a column of tags."""
        is_on = self.tag_column is not None
        return {"tag_weight": is_on * self.tag_weight, "anchor_weight": is_on * self.anchor_weight}

    @property
    def uses_tags(self) -> bool:
        """Whether a term of tags acts."""
        return any(self.tag_weights.values())

    @property
    def needs_collaborative_vectors(self) -> bool:
        """Whether collaborative vectors are quantized too."""
        return self.collaborative_width > 0

    @property
    def collaborative_dim(self) -> int:
        """Return the width of collaborative vectors."""
        return self.collaborative_width

    @property
    def needs_popularity(self) -> bool:
        """Whether the gate is supervised."""
        return self.gate_weight > 0

    @property
    def item_columns(self) -> list[str]:
        """Return the column of tags, if its terms act."""
        return [str(self.tag_column)] if self.uses_tags else []

    def check_items(self, items: ItemFacts) -> None:
        """Raise ValueError for a column without tags, beside what other trained kinds refuse."""
        super().check_items(items)
        if self.uses_tags:
            from cost_hf.data.category_tags import CategoryTags

            CategoryTags.of(items.table, str(self.tag_column), levels=self.tag_levels, field="codes.tag_column")

    @property
    def has_codebook_gradient(self) -> bool:
        """Whether a loss term moves the code vectors."""
        return super().has_codebook_gradient or self.balance_weight > 0 or self.tag_weights["anchor_weight"] > 0

    def config(self, item_dim: int, tag_sizes: Sequence[int] = ()) -> PrismConfig:
        """Return the configuration of the model for item vectors `[N, item_dim]` and numbers of tags."""
        from cost_hf.quantizers.prism.configuration_prism import PrismConfig

        tag_weights = self.tag_weights if tag_sizes else dict.fromkeys(self.tag_weights, 0.0)
        return PrismConfig(
            item_dim=item_dim,
            level_sizes=self.level_sizes,
            share_codebooks=self.share_codebooks,
            input_norm=self.input_norm,
            **self.config_fields(item_dim),
            **tag_weights,
            tag_sizes=tuple(tag_sizes),
        )

    def config_fields(self, item_dim: int) -> dict[str, Any]:
        """Return layers and loss terms, without those of tags."""
        names = ["dropout", "content_weight", "collaborative_weight", "gate_weight", "gate_spread_weight"]
        names += ["gate_spread", "balance_weight", "codebook_update", "ema_decay"]
        own = {name: getattr(self, name) for name in names}
        return super().config_fields(item_dim) | own | {"collaborative_dim": self.collaborative_width}

    def build_model(self, item_dim: int, tag_sizes: Sequence[int] = ()) -> PrismModel:
        """Return a model with random weights, by default one without tags."""
        from cost_hf.quantizers.prism.modeling_prism import PrismModel

        return PrismModel(self.config(item_dim, tag_sizes))

    def encoded_vectors(self, vectors: Tensor, collaborative: Tensor | None) -> Tensor:
        """Return item vectors and collaborative vectors side by side, `[N, E + C]`."""
        import torch

        return vectors if collaborative is None else torch.cat([vectors, collaborative], 1)

    def fit(self, inputs: FitInputs, *, folder: Path, digest: str, seed: int) -> CodesResult:
        """Train a `PrismModel` on item vectors, collaborative vectors, training clicks and tags."""
        from cost_hf.quantizers.prism.training import fit_prism

        return fit_prism(self, inputs, folder=folder, digest=digest, seed=seed)

    def collapse_advice(self) -> list[str]:
        """Return what to change after a collapse: settings that are not at their safe value first."""
        advice = [line for line in super().collapse_advice() if "codes.reduction" not in line]
        if self.codebook_update == "ema":
            advice.insert(0, "set codes.codebook_update to gradient")
        return advice if self.reduction == "mean" else ["set codes.reduction to mean", *advice]

    def validate(self) -> None:
        """Raise ValueError for values that no run can have, and for terms that would do nothing."""
        super().validate()
        check_choice("codebook_update", self.codebook_update, CODEBOOK_UPDATES)
        for name in ("gate_weight", "gate_spread_weight", "gate_spread", "tag_weight", "anchor_weight"):
            check_minimum(name, getattr(self, name), 0)
        check_minimum("balance_weight", self.balance_weight, 0)
        check_minimum("collaborative_width", self.collaborative_width, 0)
        if self.collaborative_width:
            whole_number(self.collaborative_width, "codes.collaborative_width", most=MAX_WIDTH)
        whole_number(self.tag_levels, "codes.tag_levels", most=MAX_TAG_LEVELS)
        if not self.hidden_sizes:
            raise ValueError(f"codes.hidden_sizes must hold one or more widths, got {self.hidden_sizes!r}")
        for name in ("dropout", "ema_decay"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"codes.{name} is a share in [0, 1), got {value!r}")
        if not self.collaborative_width:
            self._refuse(COLLABORATIVE_TERMS, "codes.collaborative_width is 0: there are no collaborative vectors")
        if self.codebook_update == "ema":
            self._refuse(CODEBOOK_TERMS, "codes.codebook_update is ema: no gradient moves the code vectors")
            if self.share_codebooks:
                raise ValueError("codes.share_codebooks must be false with codes.codebook_update ema, got true")

    def _refuse(self, names: Sequence[str], reason: str) -> None:
        """Raise ValueError where a term acts that has no effect."""
        weights = {name: getattr(self, name) for name in names} | {
            name: weight for name, weight in self.tag_weights.items() if name in names
        }
        found = [name for name, weight in weights.items() if weight]
        if found:
            fields = ", ".join(f"codes.{name}" for name in found)
            raise ValueError(f"{fields} must be 0, since {reason}; got {', '.join(repr(weights[n]) for n in found)}")
