"""Sizes and objective of PRISM's recommender: what its models have besides those of the generators that they extend.

arXiv 2601.16556. With the default values nothing is added, and a model is the generator of semantic IDs that its base
class is.
"""

import math
from dataclasses import dataclass

from huggingface_hub.dataclasses import strict
from transformers import LlamaConfig, T5Config

# bounds of what a file may ask for, checked before anything of that size is made
MAX_WIDTH = 1 << 20
MAX_LAYERS = 64
MAX_ITEMS = 100_000
MAX_EXPERTS = 256
MAX_CODES = 1 << 24
MAX_TAGS = 1 << 20


@dataclass
class PrismIsrFields:
    """Fields that both configurations have.

    Args:
        level_sizes: codes of every level of an item, an appended one included; L numbers.
        first_code_id: token id of the first code of the first level.
        use_fusion: add to the embedding of a history's tokens what vectors of their items say.
        content_dim: E, width of the frozen text vectors; 0 where none are read.
        collaborative_dim: C, width of the frozen collaborative vectors; 0 where there are none.
        code_dim: D, width of the code vectors; 0 where the codes have none.
        code_levels: first levels that have code vectors; an appended one has none.
        content_size: width that text vectors are projected to.
        collaborative_size: width that collaborative vectors are projected to.
        num_experts: networks that the router chooses from.
        active_experts: networks that are mixed at a token.
        expert_sizes: layers of each.
        initial_gate: logit of the gate at the start; `sigmoid` of it is the share of the fused embedding.
        use_positions: add embeddings of item, level and recency to the tokens of items.
        position_scale: factor on them.
        max_items: items of the longest history, for these embeddings.
        codebook_loss_weight: of the loss of the codebook head, one minus the cosine with the next item's code vector;
            0 leaves the head out.
        tag_loss_weight: of the cross-entropy of the next item's tags; 0 leaves the head out.
        tag_sizes: tags of every level, broad to narrow; empty without the head.
        density_temperatures: lowest and highest temperature of the cross-entropy of tokens, by the number of codes
            that may follow; None divides no logits.
    """

    level_sizes: list[int] | tuple[int, ...] = (256, 256, 256)
    first_code_id: int = 3
    use_fusion: bool = False
    content_dim: int = 0
    collaborative_dim: int = 0
    code_dim: int = 0
    code_levels: int = 0
    content_size: int = 256
    collaborative_size: int = 64
    num_experts: int = 3
    active_experts: int = 2
    expert_sizes: list[int] | tuple[int, ...] = (256, 128, 64)
    initial_gate: float | int = -2.0
    use_positions: bool = False
    position_scale: float | int = 0.1
    max_items: int = 20
    codebook_loss_weight: float | int = 0.0
    tag_loss_weight: float | int = 0.0
    tag_sizes: list[int] | tuple[int, ...] = ()
    density_temperatures: list[float] | tuple[float, ...] | None = None

    @property
    def num_levels(self) -> int:
        """L, tokens of an item."""
        return len(self.level_sizes)

    @property
    def reads_text(self) -> bool:
        """True where vectors of items are read."""
        return self.use_fusion

    @property
    def use_text_input(self) -> bool:
        """True where prompts hold more than the embeddings of their tokens."""
        return self.use_fusion or self.use_positions

    @property
    def text_dim(self) -> int | None:
        """Width of the vectors that the catalog holds, E + C; None where none are read."""
        return self.content_dim + self.collaborative_dim if self.use_fusion else None

    @property
    def has_codebook_head(self) -> bool:
        """True where code vectors of the next item are predicted."""
        return self.codebook_loss_weight > 0

    @property
    def has_tag_head(self) -> bool:
        """True where tags of the next item are predicted."""
        return self.tag_loss_weight > 0

    @property
    def changes_loss(self) -> bool:
        """True where the loss is another than the cross-entropy of the base class."""
        return self.has_codebook_head or self.has_tag_head or self.density_temperatures is not None

    def validate_levels(self) -> None:
        """Check the layout of an item."""
        sizes = self.level_sizes
        if not 1 <= len(sizes) <= MAX_LAYERS or any(not 1 <= size <= MAX_CODES for size in sizes):
            raise ValueError(f"level_sizes must be 1 to {MAX_LAYERS} sizes from 1 to {MAX_CODES}, got {sizes!r:.80}")
        if self.first_code_id < 0:
            raise ValueError(f"first_code_id must not be negative, got {self.first_code_id!r}")

    def validate_features(self) -> None:
        """Check that vectors have a width exactly where they are read."""
        for name in ("content_dim", "collaborative_dim", "code_dim"):
            if not 0 <= getattr(self, name) <= MAX_WIDTH:
                raise ValueError(f"{name} must be 0 to {MAX_WIDTH}, got {getattr(self, name)!r}")
        if self.use_fusion != (self.content_dim > 0) or (self.collaborative_dim and not self.use_fusion):
            raise ValueError(
                "content_dim must be the width of the text vectors with use_fusion, and 0 without it, as must "
                f"collaborative_dim, got {self.content_dim!r} and {self.collaborative_dim!r} with use_fusion="
                f"{self.use_fusion!r}"
            )
        if not 0 <= self.code_levels <= self.num_levels or (self.code_levels > 0) != (self.code_dim > 0):
            raise ValueError(
                f"code_levels must be 1 to {self.num_levels} where code_dim is above 0, and 0 elsewhere, got "
                f"{self.code_levels!r} with code_dim={self.code_dim!r}"
            )
        if self.code_dim and not (self.use_fusion or self.has_codebook_head):
            raise ValueError(
                f"code_dim must be 0 where neither fusion nor codebook head reads code vectors, got {self.code_dim!r}"
            )

    def validate_experts(self) -> None:
        """Check the sizes of projections and experts."""
        for name in ("content_size", "collaborative_size"):
            if not 1 <= getattr(self, name) <= MAX_WIDTH:
                raise ValueError(f"{name} must be 1 to {MAX_WIDTH}, got {getattr(self, name)!r}")
        sizes = self.expert_sizes
        if not 1 <= len(sizes) <= MAX_LAYERS or any(not 1 <= size <= MAX_WIDTH for size in sizes):
            raise ValueError(f"expert_sizes must be 1 to {MAX_LAYERS} widths from 1 to {MAX_WIDTH}, got {sizes!r:.80}")
        if not 1 <= self.active_experts <= self.num_experts <= MAX_EXPERTS:
            raise ValueError(
                f"active_experts must be 1 to num_experts, and that at most {MAX_EXPERTS}, got "
                f"{self.active_experts!r} of {self.num_experts!r}"
            )

    def validate_positions(self) -> None:
        """Check the number of positions and their factor."""
        if not 1 <= self.max_items <= MAX_ITEMS:
            raise ValueError(f"max_items must be 1 to {MAX_ITEMS}, got {self.max_items!r}")
        if not math.isfinite(self.position_scale):
            raise ValueError(f"position_scale must be finite, got {self.position_scale!r}")

    def validate_losses(self) -> None:
        """Check the weights, and that each has something to predict."""
        for name in ("codebook_loss_weight", "tag_loss_weight"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"{name} must be 0 or above and finite, got {getattr(self, name)!r}")
        if self.has_codebook_head and not self.code_dim:
            raise ValueError(
                f"codebook_loss_weight={self.codebook_loss_weight!r} needs code vectors, got code_dim=0; set it to 0"
            )
        sizes = self.tag_sizes
        if len(sizes) > len(self.level_sizes) or any(not 1 <= size <= MAX_TAGS for size in sizes):
            raise ValueError(
                f"tag_sizes must be at most one size from 1 to {MAX_TAGS} for each of the {len(self.level_sizes)} "
                f"levels, got {sizes!r:.80}"
            )
        if self.has_tag_head != (len(sizes) > 0):
            raise ValueError(
                f"tag_sizes must name the tags exactly where tag_loss_weight is above 0, got {sizes!r:.80} with weight "
                f"{self.tag_loss_weight!r}"
            )

    def validate_density(self) -> None:
        """Check the two temperatures."""
        bounds = self.density_temperatures
        if bounds is not None and not (len(bounds) == 2 and 0 < bounds[0] <= bounds[1] < math.inf):
            raise ValueError(
                f"density_temperatures must be the lowest and the highest temperature above 0, or None, got {bounds!r}"
            )


@strict
class PrismIsrConfig(T5Config, PrismIsrFields):
    """Configuration of `PrismForConditionalGeneration`: that of T5 and `PrismIsrFields`."""

    model_type = "prism_isr"


@strict
class PrismIsrCausalConfig(LlamaConfig, PrismIsrFields):
    """Configuration of `PrismForCausalLM`, which is not in the paper: that of Llama and `PrismIsrFields`."""

    model_type = "prism_isr_causal"

    def validate_causal(self) -> None:
        """Check that no positions are added: the model has rotary ones."""
        if self.use_positions:
            raise ValueError("use_positions must be false for a causal model, which has rotary positions, got true")
