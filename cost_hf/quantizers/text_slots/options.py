"""Recipe section `codes` of kind `text_slots`; readable without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cost_hf.options import ItemFacts
from cost_hf.quantizers.base import CodesOptions, check_choice, check_fitted_items, check_minimum
from cost_hf.semantic_ids.options import MAX_LEVELS, whole_number

if TYPE_CHECKING:
    from cost_hf.quantizers.fit import CodesResult, FitInputs

# those of `configuration_text_slots`, whose import takes seconds; a test compares them
CLUSTERINGS = ("parallel", "residual")
TERMS = ("reconstruction_weight", "contrastive_weight", "alignment_weight")
PRECISIONS = ("auto", "fp32", "bf16")
MAX_COUNT = 1 << 20


@CodesOptions.register("text_slots")
@dataclass
class TextSlotsOptions(CodesOptions):
    """Slots that a language model reads in the text of an item, clustered to codes (STORE-style)."""

    uses_vectors: ClassVar[bool] = False
    reads_texts: ClassVar[bool] = True
    is_trained: ClassVar[bool] = True
    auto_models: ClassVar[str | None] = "cost_hf.quantizers.text_slots.auto_text_slots"

    backbone: str = field(
        default="HuggingFaceTB/SmolLM2-135M-Instruct",
        metadata={"help": "pretrained causal model that reads and rebuilds texts, Hub id or directory"},
    )
    revision: str | None = field(default=None, metadata={"help": "branch, tag or commit of a backbone on the Hub"})
    clustering: str = field(
        default="parallel",
        metadata={"help": "parallel (a level for every slot) or residual (levels over all slots side by side)"},
    )
    num_slots: int | None = field(
        default=None, metadata={"help": "slot tokens behind a text; null is the number of levels"}
    )
    slot_dim: int = field(default=32, metadata={"help": "width of the bottleneck of a slot"})
    max_tokens: int = field(default=64, metadata={"help": "tokens of a text that are read and rebuilt"})
    adapter_rank: int = field(default=8, metadata={"help": "rank of LoRA on the backbone"})
    adapter_modules: list[str] | str | None = field(
        default=None,
        metadata={"help": "names of layers with LoRA, all-linear, or null for peft's choice by model type"},
    )
    reconstruction_weight: float = field(
        default=1.0, metadata={"help": "of the cross-entropy of the text, given its slots"}
    )
    contrastive_weight: float = field(
        default=0.0, metadata={"help": "of the contrastive loss of two views of a text; 0 leaves it out"}
    )
    temperature: float = field(default=0.1, metadata={"help": "divides the cosines of the contrastive loss"})
    view_dropout: float = field(default=0.2, metadata={"help": "share of its tokens that the second view lacks"})
    alignment_weight: float = field(
        default=0.0,
        metadata={"help": "of the cosine of slots and the mean word embedding of the text; 0 leaves it out"},
    )
    epochs: int = field(default=10, metadata={"help": "passes over the items"})
    batch_size: int = field(
        default=32, metadata={"help": "items per step over all processes; the others on a device are negatives"}
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "of AdamW, constant"})
    weight_decay: float = field(default=0.0, metadata={"help": "of AdamW"})
    precision: str = field(default="auto", metadata={"help": "of training: auto (bf16 on a GPU), fp32 or bf16"})
    save_epochs: int = field(default=1, metadata={"help": "epochs between checkpoints"})
    report_to: list[str] = field(
        default_factory=list,
        metadata={"help": "experiment trackers, such as trackio, tensorboard or wandb", "changes_nothing": True},
    )

    @property
    def has_parallel_levels(self) -> bool:  # type: ignore[override]
        """Whether levels do not depend on each other."""
        return self.clustering == "parallel"

    @property
    def slots(self) -> int:
        """Number of slot tokens."""
        return len(self.level_sizes) if self.num_slots is None else self.num_slots

    def fit(self, inputs: FitInputs, *, folder: Path, digest: str, seed: int) -> CodesResult:
        """Train slots and adapter on the texts that fitting may see, and cluster what the slots keep."""
        from cost_hf.quantizers.fit import CodesResult
        from cost_hf.quantizers.text_slots.training import fit_text_slots

        texts = inputs.texts
        if inputs.fit_rows is not None:
            texts = [text for text, is_seen in zip(texts, inputs.fit_rows.tolist(), strict=True) if is_seen]
        model, slots, history = fit_text_slots(texts, self, folder=folder, digest=digest, seed=seed)
        encoded = slots if inputs.fit_rows is None else model.embed_texts(inputs.texts)
        result = CodesResult.of_model(model, inputs, history, encoded=encoded)
        model.release_base()
        return result

    def timed_step(self, *, num_items: int, item_dim: int) -> tuple[Callable[[], object], float] | str:
        """Return why a step can't be timed."""
        return f"the language model {self.backbone!r} of codes.backbone is not loaded for a check"

    @property
    def input_parts(self) -> list[Any]:
        """What the name of the language model stands for now."""
        from cost_hf.data.encoders import model_identity

        return model_identity(self.backbone, self.revision)

    def content(self) -> dict[str, Any]:
        """Return the kind and all fields that codes depend on; the path of the language model is none of them."""
        return super().content() | {"backbone": self.input_parts}

    def check_items(self, items: ItemFacts) -> None:
        """Raise ValueError for more codes than there are items."""
        super().check_items(items)
        check_fitted_items(self.level_sizes, items.num_fitted)

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        super().validate()
        check_choice("clustering", self.clustering, CLUSTERINGS)
        check_choice("precision", self.precision, PRECISIONS)
        for name in ("slot_dim", "max_tokens", "adapter_rank", "epochs", "batch_size", "save_epochs"):
            whole_number(getattr(self, name), f"codes.{name}", most=MAX_COUNT)
        whole_number(self.slots, "codes.num_slots", most=MAX_LEVELS)
        if self.has_parallel_levels and self.slots != len(self.level_sizes):
            raise ValueError(
                f"codes.clustering parallel has a level for every slot, got codes.num_slots={self.num_slots!r} and "
                f"{len(self.level_sizes)} levels; set codes.num_slots to null, or codes.clustering to residual"
            )
        for name in (*TERMS, "weight_decay"):
            check_minimum(name, getattr(self, name), 0)
        if not any(getattr(self, name) for name in TERMS):
            raise ValueError(
                f"one of {', '.join(f'codes.{name}' for name in TERMS)} must be above 0, got 0 for all; nothing would "
                "be learned"
            )
        for name in ("temperature", "learning_rate"):
            value = getattr(self, name)
            if not (value > 0 and isfinite(value)):
                raise ValueError(f"codes.{name} must be above 0 and finite, got {value!r}")
        if not 0 < self.view_dropout < 1:
            raise ValueError(f"codes.view_dropout is a share between 0 and 1, got {self.view_dropout!r}")
        if not self.backbone:
            raise ValueError(f"codes.backbone must be a Hub id or a directory, got {self.backbone!r}")
