"""Sizes of a T5 whose encoder reads items merged to latents."""

from huggingface_hub.dataclasses import strict
from transformers import T5Config

MERGERS = ("attention", "mean")


@strict
class MergedT5Config(T5Config):
    """Configuration of `MergedT5ForConditionalGeneration`: that of T5, and how items are merged.

    Args:
        level_sizes: codes of every level of an item, an appended one included; L numbers.
        first_code_id: token id of the first code of the first level.
        num_latents: k, latents that the encoder reads of an item in place of its L tokens; it divides L.
        merger: how tokens become latents: `attention`, or the `mean` of each of k equal runs of tokens.
        merger_heads: attention heads of the merger; they divide `d_model`.

    Raises:
        ValueError: for sizes that no model can have.
    """

    model_type = "merged_t5"

    level_sizes: list[int] | tuple[int, ...] = (256,) * 8
    first_code_id: int = 3
    num_latents: int = 4
    merger: str = "attention"
    merger_heads: int = 4

    @property
    def num_levels(self) -> int:
        """L, tokens of an item."""
        return len(self.level_sizes)

    def validate_merger(self) -> None:
        """Check the layout of an item and its latents."""
        if not self.level_sizes or min(self.level_sizes) < 1 or self.first_code_id < 0:
            raise ValueError(
                f"level_sizes must hold one positive number per level, and first_code_id 0 or more, got "
                f"{list(self.level_sizes)!r:.80} and {self.first_code_id!r}"
            )
        if self.num_latents < 1 or self.num_levels % self.num_latents:
            raise ValueError(
                f"num_latents must divide the {self.num_levels} tokens of an item, got {self.num_latents!r}"
            )
        if self.merger not in MERGERS:
            raise ValueError(f"merger must be one of {', '.join(MERGERS)}, got {self.merger!r}")
        if self.merger_heads < 1 or self.d_model % self.merger_heads:
            raise ValueError(f"d_model={self.d_model!r} must be a multiple of merger_heads, got {self.merger_heads!r}")
